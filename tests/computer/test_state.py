"""State directories: everything saved comes back, one file suffices, and bad directories give one clear line."""

from __future__ import annotations

import shutil
import sqlite3
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.state import SCHEMA_VERSION, STATE_FILE, Association, State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS
from ipsec_core.errors import StateError
from ipsec_core.policy.builtin import builtin_policy
from ipsec_core.policy.compile import compile_policy
from ipsec_core.policy.toml import policy_from_table

MINE = (IPv4Address("10.0.0.1"),)
POLICY = policy_from_table(
    {
        "name": "Lab",
        "rules": [
            {
                "name": "tunnel",
                "filters": [{"source": "10.1.0.0/16", "destination": "10.2.0.0/16", "protocol": "tcp"}],
                "action": {"negotiate": ["ESP[3DES,SHA1]"]},
                "authentication": [{"preshared_key": "s3cret"}],
                "tunnel_endpoint": "192.0.2.2",
            },
            {"name": "ping", "filters": [{"source": "me", "destination": "any", "protocol": 1}], "action": "permit"},
        ],
    },
    "x",
)
HARD = Association(
    "Lab", "ESP[3DES,SHA1]", "tunnel", "10.1.0.0/16", "10.2.0.0/16", 6, 0, 80, "192.0.2.2", "outbound", 0xFFFFFFFF,
    "192.0.2.2", 123456, 99, False, 1.5,
)  # fmt: skip
SOFT = Association("Lab", "None", "x", "10.0.0.1", "10.0.0.9", 0, 0, 0, None, "inbound", 0, "10.0.0.9", 0, 0, True, 2.0)
COUNTERS = {"zulu": 1, "alpha": 2**40, "mike": 0}


def _fill(state: State) -> None:
    state.registry.set_known("CacheSize", 128)
    audit = AuditPolicy.from_table({"logon_events": ["success"]}, "x")
    state.set_meta("audit", audit.to_table())
    state.event_log(audit).report(1.0, "Security", 543, ("filter",))
    state.save_associations([HARD, SOFT])
    state.save_counters(COUNTERS)
    state.save_filters((item, index) for index, item in enumerate(compile_policy(POLICY, MINE)))
    state.save_policy(POLICY)


def _check(state: State) -> None:
    assert state.name == "ALICE"
    assert state.registry.known("CacheSize") == 128
    assert state.meta("audit") == {"logon_events": ["success"]}
    (event,) = state.event_log().events()
    assert (event.event_id, event.computer, event.strings) == (543, "ALICE", ("filter",))
    assert state.associations() == (HARD, SOFT)
    assert list(state.counters().items()) == list(COUNTERS.items())
    assert [item for item, _ in state.filters()] == list(compile_policy(POLICY, MINE))
    assert [hits for _, hits in state.filters()] == [0, 1, 2]
    policy = state.policy()
    assert policy is not None
    assert policy.rules[1] == POLICY.rules[1]
    assert policy.rules[0].filter_action == POLICY.rules[0].filter_action
    assert policy.rules[0].authentication_methods[0].value == "***"


def test_written_on_disk(tmp_path: Path) -> None:
    with State.create(tmp_path / "ALICE", "ALICE") as state:
        _fill(state)
        _check(state)
    with State.open(tmp_path / "ALICE") as state:
        _check(state)


def test_written_from_memory(tmp_path: Path) -> None:
    with State.memory("ALICE") as state:
        _fill(state)
        state.save_as(tmp_path / "ALICE")
        _check(state)
    with State.open(tmp_path / "ALICE") as state:
        _check(state)


def test_one_file_suffices_after_closing(tmp_path: Path) -> None:
    with State.create(tmp_path / "a", "ALICE") as state:
        _fill(state)
        assert (tmp_path / "a" / f"{STATE_FILE}-wal").exists()
    assert [file.name for file in (tmp_path / "a").iterdir()] == [STATE_FILE]
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / STATE_FILE, tmp_path / "b")
    with State.open(tmp_path / "b") as state:
        _check(state)


def test_a_reader_beside_the_writer(tmp_path: Path) -> None:
    with State.create(tmp_path / "a", "ALICE") as writer, State.open(tmp_path / "a") as reader:
        writer.set_meta("x", 1)
        assert reader.meta("x") is None
        writer.commit()
        assert reader.meta("x") == 1


def test_closing_the_writer_first_loses_nothing(tmp_path: Path) -> None:
    writer = State.create(tmp_path / "a", "ALICE")
    reader = State.open(tmp_path / "a")
    writer.set_meta("x", 1)
    writer.close()
    assert reader.meta("x") == 1
    reader.close()
    reader.close()
    with State.open(tmp_path / "a") as state:
        assert state.meta("x") == 1


def test_the_key_is_not_on_disk(tmp_path: Path) -> None:
    with State.create(tmp_path / "a", "ALICE") as state:
        state.save_policy(POLICY)
    assert b"s3cret" not in (tmp_path / "a" / STATE_FILE).read_bytes()


def test_snapshots_are_replaced(tmp_path: Path) -> None:
    with State.memory("ALICE") as state:
        _fill(state)
        state.save_associations([SOFT])
        state.save_counters({"one": 1})
        state.save_filters([])
        state.save_policy(None)
        assert state.associations() == (SOFT,)
        assert state.counters() == {"one": 1}
        assert state.filters() == ()
        assert state.policy() is None


def test_reading_does_not_write(tmp_path: Path) -> None:
    State.create(tmp_path / "a", "ALICE").close()
    with State.open(tmp_path / "a") as state, pytest.raises(sqlite3.OperationalError, match="readonly"):
        state.set_meta("x", 1)


def test_writing_goes_on_after_opening_again(tmp_path: Path) -> None:
    State.create(tmp_path / "a", "ALICE").close()
    with State.open(tmp_path / "a", readonly=False) as state:
        _fill(state)
    with State.open(tmp_path / "a") as state:
        _check(state)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(StateError) as raised:
        State.open(tmp_path / "x")
    assert str(raised.value) == f"{tmp_path / 'x'}: there is no such directory"


def test_not_a_state_directory(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(StateError, match=r"not a state directory \(no state.sqlite in it\)"):
            State.open(path)


def test_a_database_of_somebody_else(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / STATE_FILE)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StateError, match="not a state of ipsec_core"):
        State.open(tmp_path)


def test_wrong_version(tmp_path: Path) -> None:
    State.create(tmp_path / "a", "ALICE").close()
    connection = sqlite3.connect(tmp_path / "a" / STATE_FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match=f"schema version 99; accepted: {SCHEMA_VERSION}$"):
        State.open(tmp_path / "a")


@pytest.mark.parametrize("damage", ["text", "truncated", "overwritten", "empty"])
def test_damaged_file(tmp_path: Path, damage: str) -> None:
    with State.create(tmp_path / "a", "ALICE") as state:
        _fill(state)
    file = tmp_path / "a" / STATE_FILE
    data = file.read_bytes()
    middle = len(data) // 2
    file.write_bytes(
        {
            "text": b"this is not a database at all, but it is long enough" * 20,
            "truncated": data[:middle],
            "overwritten": data[:1024] + bytes(range(256)) * ((len(data) - 1024) // 256),
            "empty": b"",
        }[damage]
    )
    with pytest.raises(StateError, match=r"not a state of ipsec_core|damaged or unreadable") as raised:
        State.open(tmp_path / "a")
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(StateError, match="exists already and is not an empty directory"):
            State.create(tmp_path / name, "ALICE")
    with pytest.raises(StateError, match="cannot be written"):
        State.create(tmp_path / "missing" / "ALICE", "ALICE")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "x"]
    (tmp_path / "empty").mkdir()
    State.create(tmp_path / "empty", "ALICE").close()
    assert (tmp_path / "empty" / STATE_FILE).is_file()


def test_failing_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "rename", fail)
    with State.memory("ALICE") as state, pytest.raises(StateError, match=r"ALICE: cannot be written \(no space left\)"):
        state.save_as(tmp_path / "ALICE")
    assert list(tmp_path.iterdir()) == []


def test_statistics_are_those_of_the_article() -> None:
    assert [item.label for item in IPSEC_STATISTICS] == [
        "Active Associations",
        "Confidential Bytes Sent",
        "Confidential Bytes Received",
        "Authenticated Bytes Sent",
        "Authenticated Bytes Received",
        "Bad SPI Packets",
        "Packets Not Decrypted",
        "Packets Not Authenticated",
        "Key Additions",
    ]
    assert [item.label for item in OAKLEY_STATISTICS] == [
        "Oakley main modes",
        "Oakley quick mode",
        "Soft Associations",
        "Authentication failures",
    ]
    keys = [item.key for item in IPSEC_STATISTICS + OAKLEY_STATISTICS]
    assert len(set(keys)) == 13


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    State.create(tmp_path / "ALICE", "ALICE").close()
    assert (tmp_path / "ALICE" / STATE_FILE).stat().st_mode & 0o777 == 0o600
    with State.open(tmp_path / "ALICE", readonly=False) as state:
        state.registry.set_known("CacheSize", 128)
        modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "ALICE").iterdir()}
    assert set(modes.values()) == {0}, modes


def test_the_policy_keeps_its_identifier() -> None:
    for policy in (builtin_policy("Client (Respond Only)"), policy_from_table({"name": "Mine"}, "")):
        with State.memory("ALICE") as state:
            state.save_policy(policy)
            read = state.policy()
            assert read is not None
            assert read.policy_id == policy.policy_id
            state.save_policy(None)
            assert state.policy() is None
