"""Steps of a scenario: what is done to a computer at a time of the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sim_kit import SCENARIO, Lab, dialogue, ethernet, policy, sized, write_scenario

from ipsec_core.computer.state import State
from ipsec_core.errors import ScenarioError
from ipsec_core.sim.run import simulate
from ipsec_core.sim.scenario import StepScenario, load_scenario

SECOND = 10**9


def steps(*items: tuple[object, str, str]) -> str:
    return SCENARIO + "".join(f'[[steps]]\nat = {at}\ncomputer = "{who}"\ndo = "{do}"\n' for at, who, do in items)


def test_in_order_of_time(tmp_path: Path) -> None:
    text = steps(
        (2.5, "ALICE", "start policyagent"), (1, "ALICE", "stop policyagent"), (2, "BOB", "restart policyagent")
    )
    assert load_scenario(write_scenario(tmp_path, text)).steps == (
        StepScenario(1.0, "ALICE", "stop policyagent"),
        StepScenario(2.0, "BOB", "restart policyagent"),
        StepScenario(2.5, "ALICE", "start policyagent"),
    )


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(-1, "ALICE", "stop policyagent")], "steps[0].at: -1 is no such time; accepted: 0 to 1e+06 seconds"),
        ([("nan", "ALICE", "stop policyagent")], "steps[0].at: nan is no such time; accepted: 0 to 1e+06 seconds"),
        ([('"1s"', "ALICE", "stop policyagent")], "steps[0].at: '1s' is no such time; accepted: 0 to 1e+06 seconds"),
        ([("true", "ALICE", "stop policyagent")], "steps[0].at: True is no such time; accepted: 0 to 1e+06 seconds"),
        ([(1, "CAROL", "stop policyagent")], "steps[0].computer: 'CAROL' is not known; accepted: ALICE, BOB"),
        (
            [(1, "ALICE", "stop")],
            "steps[0].do: 'stop' is not known; accepted: stop policyagent, start policyagent, restart policyagent, "
            "restart remoteaccess",
        ),
        (
            [(1, "ALICE", "restart remoteaccess")],
            "steps[0].do: 'restart remoteaccess', but ALICE is no server; accepted: with rras = true",
        ),
        (
            [(1, "ALICE", "start policyagent")],
            "steps[0].do: 'start policyagent', but at 1 s the service of ALICE is running",
        ),
        (
            [(2, "ALICE", "restart policyagent"), (1, "ALICE", "stop policyagent")],
            "steps[0].do: 'restart policyagent', but at 2 s the service of ALICE is stopped",
        ),
    ],
)
def test_wrong_steps(tmp_path: Path, items: list[Any], message: str) -> None:
    path = write_scenario(tmp_path, steps(*items))
    with pytest.raises(ScenarioError) as raised:
        load_scenario(path)
    assert str(raised.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("steps = 1\n", "steps: 1 is not a list"),
        ("steps = [1]\n", "steps[0]: 1 is not a table"),
        ('steps = [{ computer = "ALICE", do = "stop policyagent" }]\n', "steps[0].at: missing"),
        ('steps = [{ at = 1, computer = "ALICE", do = "stop policyagent", x = 1 }]\n', "steps[0].x: unknown key"),
    ],
)
def test_no_steps(tmp_path: Path, tail: str, message: str) -> None:
    path = write_scenario(tmp_path, tail + SCENARIO)
    with pytest.raises(ScenarioError) as raised:
        load_scenario(path)
    assert str(raised.value).startswith(f"{path}: {message}")


def test_a_restart_in_a_run(tmp_path: Path) -> None:
    """At the end of the traffic: the SAs go on both sides, the statistics begin at 0, the event log tells the time."""
    path = write_scenario(tmp_path, steps((1.5, "ALICE", "restart policyagent")))
    result = simulate(path, tmp_path / "out")
    assert result.data["simulated_seconds"] >= 1.5
    assert result.data["computers"]["ALICE"]["ipsec_statistics"]["key_additions"] == 0
    assert result.data["computers"]["BOB"]["ipsec_statistics"]["active_associations"] == 0
    with State.open(tmp_path / "out" / "ALICE") as state:
        told = [event.time for event in state.event_log().events(source="PolicyAgent")]
        assert told == [0.0, 1.5, 1.5]


def test_a_stop_opens_what_was_protected(tmp_path: Path) -> None:
    """Without the service traffic goes out in clear; the peer, whose policy wants security, refuses it."""
    frames = [(0, ethernet(sized(60)))]
    frames += [(at * SECOND, ethernet(sized(100))) for at in (1, 2, 3, 4, 5)]
    made = policy()
    lab = Lab(tmp_path, frames, made, made)
    lab.world.at(1.5, lab.alice, lab.alice.stop)
    lab.world.at(3.5, lab.alice, lab.alice.start)
    lab.run()
    assert lab.bob.driver.status_counters("in")["SHOULD_BE_SECURED"] == 2
    assert lab.node(1)["packets_delivered"] == len(frames) - 2
    assert [made.counters()["oakley_main_modes"] for made in (lab.alice, lab.bob)] == [1, 2]


@pytest.mark.parametrize("burst", [1, 7, 64, 256])
def test_the_burst_size_changes_nothing(tmp_path: Path, burst: int) -> None:
    """A step is a control event: the data plane runs up to it, and not beyond."""

    def run(folder: Path, size: int) -> str:
        folder.mkdir()
        lab = Lab(folder, dialogue(4000, 50_000), policy(), policy(), burst=size)
        for number in range(5):
            lab.world.at(1.02 + number * 0.03, lab.alice, lab.alice.restart_agent)
            lab.world.at(1.02 + number * 0.03, lab.bob, lab.bob.restart_agent)
        lab.run(capture=False)
        return lab.everything

    assert run(tmp_path / "a", burst) == run(tmp_path / "b", 32)


def test_the_world_goes_on_to_the_last_step(tmp_path: Path) -> None:
    """Over timers that would not keep it running; steps of one time in the order in which they were given."""
    done: list[tuple[str, float]] = []
    lab = Lab(tmp_path, dialogue(4), policy(), policy())
    lab.world.at(700.0, lab.bob, lambda now: done.append(("b", now)))
    lab.world.at(700.0, lab.alice, lambda now: done.append(("a", now)))
    lab.world.run(2.0)
    lab.world.at(800.0, lab.alice, lambda now: done.append(("late", now)))
    assert done == []
    lab.world.run()
    assert done == [("b", 700.0), ("a", 700.0), ("late", 800.0)]
    assert lab.alice.associations() == [], "idle for long"
