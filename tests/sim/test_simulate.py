"""The main job leaves all of its results or none, the same for the same seed, and no secret among them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sim_kit import LABS, SCENARIO, SECRET, dialogue, ethernet, read_pcapng, sized, write_pcap, write_scenario

from ipsec_core.computer.state import State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS
from ipsec_core.errors import IpsecError, ScenarioError, TrafficError
from ipsec_core.sim.run import Progress, simulate

KEY = '[{ preshared_key = "a preshared key that must not be seen" }]'
FILES = ["ALICE", "BOB", "esp_sa", "ikev1_decryption_table", "link.pcapng", "result.json", "timing.json"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tables(state: Path) -> dict[str, list[Any]]:
    connection = sqlite3.connect(state / "state.sqlite")
    found = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {name: connection.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in found}
    connection.close()
    return rows


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a good run; not to be changed."""
    folder = tmp_path_factory.mktemp("good")
    simulate(write_scenario(folder / "lab"), folder / "out")
    return folder / "out"


def test_what_is_there(first: Path) -> None:
    assert names(first) == FILES
    assert names(first.parent) == ["lab", "out"]
    assert first.stat().st_mode & 0o777 == 0o755
    assert [names(first / name) for name in ("ALICE", "BOB")] == [["state.sqlite"]] * 2
    assert len(read_pcapng(first / "link.pcapng")) == 61 + 10
    assert len((first / "esp_sa").read_text().splitlines()) == 2
    assert len((first / "ikev1_decryption_table").read_text().splitlines()) == 1


def test_result(first: Path) -> None:
    data = json.loads((first / "result.json").read_text())
    keys = ["format", "name", "seed", "scenario", "simulated_seconds", "traffic", "link", "computers", "notes"]
    assert list(data) == keys
    assert (data["format"], data["name"], data["seed"]) == (1, "Test", 1)
    assert (data["traffic"]["packets"], data["traffic"]["delivered"]) == (61, 61)
    assert data["link"]["frames"] == 71
    assert list(data["link"]["directions"]) == ["ALICE to BOB", "BOB to ALICE"]
    for computer in data["computers"].values():
        assert list(computer["ipsec_statistics"]) == [key for _, key in IPSEC_STATISTICS]
        assert list(computer["oakley_statistics"]) == [key for _, key in OAKLEY_STATISTICS]
        assert computer["ipsec_statistics"]["active_associations"] == 2
        assert computer["oakley_statistics"] == {
            "oakley_main_modes": 1,
            "oakley_quick_modes": 1,
            "soft_associations": 0,
            "authentication_failures": 0,
        }
    alice, bob = (data["computers"][name]["ipsec_statistics"] for name in ("ALICE", "BOB"))
    assert alice["confidential_bytes_sent"] == bob["confidential_bytes_received"] > 0
    assert bob["confidential_bytes_sent"] == alice["confidential_bytes_received"] > 0
    assert data["notes"] == []


def test_returned_as_written(tmp_path: Path) -> None:
    result = simulate(write_scenario(tmp_path), tmp_path / "out")
    assert result.out == tmp_path / "out"
    assert result.computers == ("ALICE", "BOB")
    assert result.data == json.loads((result.out / "result.json").read_text())
    assert result.timing == json.loads((result.out / "timing.json").read_text())
    assert set(result.timing) == {"wall_seconds", "packets_per_wall_second"}


def test_states_agree_with_the_result(first: Path) -> None:
    data = json.loads((first / "result.json").read_text())
    for name, computer in data["computers"].items():
        with State.open(first / name) as state:
            counters = state.counters()
            assert state.meta("time") == data["simulated_seconds"]
            assert len(state.associations()) == 2
        statistics = {**computer["ipsec_statistics"], **computer["oakley_statistics"]}
        assert dict(list(counters.items())[:13]) == statistics
        assert dict(list(counters.items())[13:]) == computer["counters"]


def test_same_seed_same_bytes(first: Path, tmp_path: Path) -> None:
    simulate(write_scenario(tmp_path / "lab"), tmp_path / "out")
    for name in ("link.pcapng", "result.json", "esp_sa", "ikev1_decryption_table"):
        assert (tmp_path / "out" / name).read_bytes() == (first / name).read_bytes(), name
    for name in ("ALICE", "BOB"):
        assert tables(tmp_path / "out" / name) == tables(first / name)


def test_other_seed_other_bytes(first: Path, tmp_path: Path) -> None:
    simulate(write_scenario(tmp_path / "lab", SCENARIO.replace("seed = 1", "seed = 2")), tmp_path / "out")
    for name in ("link.pcapng", "result.json", "esp_sa", "ikev1_decryption_table"):
        assert (tmp_path / "out" / name).read_bytes() != (first / name).read_bytes(), name
    ours, theirs = (json.loads((out / "result.json").read_text()) for out in (tmp_path / "out", first))
    del ours["seed"], theirs["seed"], ours["scenario"]["seed"], theirs["scenario"]["seed"]
    assert ours == theirs


def test_no_wall_clock_in_the_result(first: Path) -> None:
    assert "wall" not in (first / "result.json").read_text()


def test_preshared_key_is_nowhere(first: Path) -> None:
    for path in sorted(first.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET.encode() not in data, path
            assert SECRET.encode("utf-16-le") not in data, path
    assert '"preshared_key": "***"' in (first / "result.json").read_text()


# ---- nothing half-written -------------------------------------------------------------------------------------------


def refused(scenario: Path, out: Path, kind: type[BaseException], **options: Any) -> str:
    before = names(out.parent)
    with pytest.raises(kind) as raised:
        simulate(scenario, out, **options)
    assert names(out.parent) == before
    if issubclass(kind, IpsecError):
        assert str(raised.value).isprintable()
    return str(raised.value)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2 + 5]


BAD: list[tuple[Callable[[bytes], bytes], str]] = [
    (cut, "truncated"),
    (lambda data: data[:20] + b"\x93\x00\x00\x00" + data[24:], "link type"),
    (lambda data: b"", "empty"),
    (lambda data: b"This is not a capture but a letter.\n" * 9, "not a pcap or pcapng capture"),
    (lambda data: data[:24], "no packets between two hosts; nothing to replay"),
]


@pytest.mark.parametrize(("damage", "words"), BAD)
def test_bad_capture(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    scenario = write_scenario(tmp_path)
    traffic = tmp_path / "traffic.pcap"
    traffic.write_bytes(damage(traffic.read_bytes()))
    message = refused(scenario, tmp_path / "out", TrafficError)
    assert message.startswith(f"{traffic}: ")
    assert words in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"ESP[3DES,SHA1]"', '"ESP[3DES,NONE]"', "no security method can be carried out (ESP[3DES,NONE]"),
        (KEY, '["kerberos"]', "no authentication method can"),
        (KEY, '[{ certificate = "CN=x" }]', "the computer has no certificates"),
    ],
)
def test_policy_that_cannot_be_carried_out(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SCENARIO
    message = refused(write_scenario(tmp_path, SCENARIO.replace(old, new)), tmp_path / "out", ScenarioError)
    assert "computers.ALICE.policy: policy " in message
    assert words in message


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    monkeypatch.setattr("ipsec_core.sim.world.PROGRESS_PACKETS", 10)

    def stop(progress: Progress) -> None:
        # The folder is there, under another name.
        assert len(names(tmp_path)) == 3
        raise kind

    refused(write_scenario(tmp_path), tmp_path / "out", kind, progress=stop)


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ipsec_core.sim.run.write_esp_sa", fail)
    message = refused(write_scenario(tmp_path), tmp_path / "out", ScenarioError)
    assert message == f"{tmp_path / 'out'}: No space left on device"


@pytest.mark.parametrize("kind", ["folder", "file", "empty file", "link"])
def test_what_is_not_ours_stays(tmp_path: Path, kind: str) -> None:
    scenario = write_scenario(tmp_path / "lab")
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "diary.txt").write_text("dear diary")
    elif kind == "link":
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "diary.txt").write_text("dear diary")
        out.symlink_to(tmp_path / "home")
    else:
        out.write_text("dear diary" if kind == "file" else "")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    message = refused(scenario, out, ScenarioError)
    assert message == f"{out}: exists and is no earlier result; accepted: a new or empty folder, or an earlier output"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_earlier_output_is_replaced(first: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(first, out)
    (out / "link.pcapng").write_bytes(b"old")
    (out / "CAROL").mkdir()
    simulate(write_scenario(tmp_path / "lab"), out)
    assert names(out) == FILES
    assert (out / "link.pcapng").read_bytes() == (first / "link.pcapng").read_bytes()
    assert names(tmp_path) == ["lab", "out"]


def test_an_earlier_output_survives_a_failure(first: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(first, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    scenario = write_scenario(tmp_path, frames=[])
    refused(scenario, out, TrafficError)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("out", ["out", "a/b/c", "a/../b", "./out"])
def test_folders_are_made(tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = write_scenario(tmp_path / "lab")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir(exist_ok=True)
    simulate(scenario, Path(out))
    assert names(Path(out)) == FILES
    assert names(Path(out).parent / ".") == sorted({"a", "lab", Path(out).name} if "c" not in out else {"c"})


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    simulate(write_scenario(tmp_path), tmp_path / "out")
    assert names(tmp_path / "out") == FILES
    assert names(tmp_path) == ["out", "scenario.toml", "traffic.pcap"]


def test_the_parent_is_a_file(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path)
    with pytest.raises(ScenarioError) as raised:
        simulate(scenario, tmp_path / "traffic.pcap" / "out")
    assert str(raised.value) == f"{tmp_path / 'traffic.pcap' / 'out'}: File exists"


@pytest.mark.parametrize("out", [".", "../empty", "../out"])
def test_the_working_directory_stays(first: Path, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory cannot be replaced, even when it is empty."""
    scenario = write_scenario(tmp_path / "lab")
    (tmp_path / "empty").mkdir()
    shutil.copytree(first, tmp_path / "out")
    monkeypatch.chdir(tmp_path / ("out" if out == "../out" else "empty"))
    with pytest.raises(ScenarioError) as raised:
        simulate(scenario, Path(out))
    assert str(raised.value) == (
        f"{out}: the working directory cannot be replaced; accepted: a folder elsewhere or in it"
    )
    assert names(tmp_path) == ["empty", "lab", "out"]


@pytest.mark.parametrize("fails", [1, 2])
def test_renaming_fails(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    """The earlier output comes back, whichever of the two renames it is."""
    out, scenario = tmp_path / "out", write_scenario(tmp_path / "lab")
    shutil.copytree(first, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rename, calls = Path.rename, 0

    def renamed(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += out in (self, target)  # state directories are renamed too, inside the new folder
        if calls == fails and out in (self, target):
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)
    assert refused(scenario, out, ScenarioError) == f"{out}: Device or resource busy"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_made_parents_go_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipsec_core.sim.world.PROGRESS_PACKETS", 10)

    def stop(progress: Progress) -> None:
        assert names(tmp_path / "a") == ["b"]
        raise KeyboardInterrupt

    scenario = write_scenario(tmp_path / "lab")
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt):
        simulate(scenario, tmp_path / "a" / "b" / "c" / "out", progress=stop)
    assert names(tmp_path) == ["a", "lab"]
    assert names(tmp_path / "a") == []


# ---- notes ----------------------------------------------------------------------------------------------------------


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipsec_core.sim.world.PROGRESS_PACKETS", 10)
    seen: list[Progress] = []
    result = simulate(write_scenario(tmp_path), tmp_path / "out", progress=seen.append)
    assert len(seen) >= 3
    assert [p.packets for p in seen] == sorted(p.packets for p in seen)
    last = seen[-1]
    assert (last.packets, last.total_packets, last.simulated_seconds) == (61, 61, result.data["simulated_seconds"])


def test_notes(tmp_path: Path) -> None:
    """What was left out or did not arrive is said."""
    frames = [
        *dialogue(6),
        (2 * 10**9, ethernet(sized(1490, flags=0x4000))),
        (3 * 10**9, b"\xff" * 6 + ethernet(b"", ethertype=0x88CC)[6:] + bytes(50)),
    ]
    result = simulate(write_scenario(tmp_path, frames=frames), tmp_path / "out")
    too_big = (
        "1 packets of ALICE did not fit the link's MTU of 1500 with their protection and must not be fragmented "
        "(raise link.mtu, or record at a lower MTU)"
    )
    assert too_big in result.notes
    assert list(result.notes) == result.data["notes"]


def test_notes_of_drops(tmp_path: Path) -> None:
    one_sided = SCENARIO.replace('policy = "Lab"\naudit', "audit", 1)
    result = simulate(write_scenario(tmp_path, one_sided), tmp_path / "out")
    assert any("packets dropped by the driver of BOB" in note for note in result.notes)


def test_other_traffic(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path)
    other = write_pcap(tmp_path / "other.pcap", dialogue(4))
    result = simulate(scenario, tmp_path / "out", traffic=other)
    assert result.data["traffic"]["file"] == "other.pcap"
    assert result.data["traffic"]["packets"] == 5


@pytest.mark.parametrize("name", ["first-link.toml", "first-link-tunnel.toml"])
def test_labs(tmp_path: Path, name: str) -> None:
    result = simulate(LABS / name, tmp_path / "out")
    capture = result.data["traffic"]["capture"]
    assert result.data["traffic"]["delivered"] == result.data["traffic"]["packets"] == capture["mapped"]
    assert result.notes == ()
