"""`simulate`: progress, the report at the end, JSON, and errors; the run itself is a stand-in here but for one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.errors import ScenarioError
from ipsec_core.sim.run import Progress, Result
from ipsec_core.tools import simulate

LABS = Path(__file__).parents[2] / "labs"
DATA = {"traffic": {"packets": 1234567}, "link": {"bytes_on_wire": 987654321}, "simulated_seconds": 12.5}
TIMING = {"wall_seconds": 2.0, "packets_per_wall_second": 617283.5}
NOTE = "3 frames of the capture [x] were left out"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, alice: Path, bob: Path) -> Callable[..., dict[str, Any]]:
    """A stand-in for the run that reports twice and leaves two computers; gives what it was called with."""
    called: dict[str, Any] = {}

    def run(
        scenario: Path, out: Path, *, traffic: Path | None = None, directory: Any = None, progress: Any = None
    ) -> Result:
        called.update(scenario=scenario, out=out, traffic=traffic, progress=progress)
        if progress is not None:
            progress(Progress(1.25, 100, 400, 0.0))
            progress(Progress(12.5, 400, 400, 0.001))
        for one in (alice, bob):
            shutil.copytree(one, out / one.name)
        return Result(out, ("ALICE", "BOB"), DATA, TIMING, (NOTE,))

    monkeypatch.setattr(simulate, "run_scenario", run)
    return lambda: called


def test_the_report(call: Any, world: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("simulate", "x.toml", "--out", out, "--traffic", "y.pcap")
    assert result.exit_code == 0, result.output
    assert {key: world()[key] for key in ("scenario", "out", "traffic")} == {
        "scenario": Path("x.toml"),
        "out": out,
        "traffic": Path("y.pcap"),
    }
    for name in ("ALICE", "BOB"):
        assert call("ipsecmon", out / name, "--once").stdout in result.stdout
    assert result.stdout.splitlines()[-7:] == [
        f"Note: {NOTE}",
        "1,234,567 packets, 987,654,321 bytes on the wire, 12.500000 s simulated in 2.000 s: "
        "617,284 packets per wall second",
        f"Results: {out}",
        "Next:",
        f"  ipsec-core ipsecmon {out}/ALICE --once",
        f"  ipsec-core events {out}/ALICE",
        f"  ipsec-core netdiag {out}/ALICE /test:ipsec /debug",
    ]
    assert result.stderr == "100 %  12.500 s simulated  400 packets  0.400 Mpkt/s\n"


def test_lines_of_progress_come_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    now = [0.0]
    monkeypatch.setattr(simulate.time, "monotonic", lambda: now[0])
    lines = simulate._Lines()
    for tenth in range(1, 36):
        now[0] = tenth / 10
        lines.report(Progress(tenth, tenth * 1000, 0, tenth / 10))
    lines.finish()
    lines.finish()
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == [
        "10.000",
        "20.000",
        "30.000",
        "35.000",
    ]


def test_quiet(call: Any, world: Any, tmp_path: Path) -> None:
    result = call("simulate", "x.toml", "--out", tmp_path / "out", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"note: {NOTE}\n")
    assert world()["progress"] is None


def test_json(call: Any, world: Any, tmp_path: Path) -> None:
    result = call("simulate", "x.toml", "--out", tmp_path / "out", "--json", "--quiet")
    assert json.loads(result.stdout) == {
        "out": str(tmp_path / "out"),
        "computers": ["ALICE", "BOB"],
        "result": DATA,
        "timing": TIMING,
        "notes": [NOTE],
    }


def test_errors_of_the_run(monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str], tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> Result:
        raise ScenarioError("x.toml: link.rate: 'fast' is not a rate")

    monkeypatch.setattr(simulate, "run_scenario", fail)
    assert (
        refused("simulate", "x.toml", "--out", tmp_path / "o") == "ipsec-core: x.toml: link.rate: 'fast' is not a rate"
    )


def test_wrong_words(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused("simulate").startswith("ipsec-core simulate: Missing argument 'SCENARIO'")
    assert refused("simulate", "x.toml").startswith("ipsec-core simulate: Missing option '--out'")
    line = refused("simulate", tmp_path / "missing.toml", "--out", tmp_path / "out")
    assert str(tmp_path / "missing.toml") in line
    assert not (tmp_path / "out").exists()


def test_a_real_run_and_the_tools_on_it(run: Any, tmp_path: Path) -> None:
    done = run("simulate", LABS / "first-link.toml", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "IP Security Monitor: ALICE at " in done.stdout
    assert done.stderr.startswith("100 %  ")
    data = json.loads((tmp_path / "out" / "result.json").read_text())
    for name in ("ALICE", "BOB"):
        monitor = json.loads(run("ipsecmon", tmp_path / "out" / name, "--json").stdout)
        for box in ("ipsec_statistics", "oakley_statistics"):
            assert monitor[box] == data["computers"][name][box]
        assert len(monitor["associations"]) == monitor["ipsec_statistics"]["active_associations"] > 0
        events = json.loads(run("events", tmp_path / "out" / name, "--json").stdout)["events"]
        assert any(event["event_id"] == 279 for event in events)
        report = run("netdiag", tmp_path / "out" / name, "/test:ipsec", "/debug").stdout
        assert f"Local IPSec Policy Active: '{monitor['associations'][0]['policy_name']}'" in report
        assert "Flags : Outbound Negotiate" in report
