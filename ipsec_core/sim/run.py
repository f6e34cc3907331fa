"""The main job: runs a scenario and leaves a folder of results.

What the folder holds is complete or it is not there.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.state import State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS
from ipsec_core.driver import PASSES, STATUS_TEXT, Status
from ipsec_core.errors import ScenarioError
from ipsec_core.sim._world import Trace
from ipsec_core.sim.policies import ReadDirectory, Unchanging
from ipsec_core.sim.scenario import STEPS, ComputerScenario, Scenario, load_scenario
from ipsec_core.sim.wireshark import write_esp_sa, write_ikev1_table
from ipsec_core.sim.world import World

RESULT = "result.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Packets are those taken from the traffic; wall seconds since the run began."""

    simulated_seconds: float
    packets: int
    total_packets: int
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave: `data` as in result.json, `timing` as in timing.json, `notes`: lines that people must know."""

    out: Path
    computers: tuple[str, ...]
    data: dict[str, Any]
    timing: dict[str, float]
    notes: tuple[str, ...]


def simulate(
    scenario: Path,
    out: Path,
    *,
    traffic: Path | None = None,
    directory: ReadDirectory | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Runs the scenario and writes its folder of results.

    That is link.pcapng, esp_sa, ikev1_decryption_table, result.json, timing.json and a state directory per computer.
    `out` may be new, empty, or an earlier output, which is replaced at the end. Raises ScenarioError, TrafficError or
    PolicyError, with nothing written.
    """
    plan = load_scenario(scenario, traffic, directory)
    trace = Trace(plan.traffic.file)
    world = build_world(plan, trace, key_log=True)
    with _folder(out) as folder:
        world.capture(0, folder / "link.pcapng")
        began = perf_counter()

        def report() -> None:
            if progress:
                sent, total = world.time.progress()
                progress(Progress(world.now, sent, total, perf_counter() - began))

        world.run(progress=report)
        wall = perf_counter() - began
        report()
        data = _data(plan, world, trace)
        sent = data["traffic"]["packets"]
        timing = {"wall_seconds": wall, "packets_per_wall_second": sent / wall}
        with _disk(out):
            write_esp_sa(folder / "esp_sa", (record for made in world.computers for record in made.keys))
            write_ikev1_table(
                folder / "ikev1_decryption_table", (pair for made in world.computers for pair in made.ike_keys)
            )
            for made in world.computers:
                made.snapshot(world.now).save_as(folder / made.name)
                made.state.close()
            _write_json(folder / "timing.json", timing)
            _write_json(folder / RESULT, data)
    return Result(out, tuple(made.name for made in world.computers), data, timing, tuple(data["notes"]))


def build_world(plan: Scenario, trace: Trace, *, key_log: bool = False, burst: int = 64) -> World:
    """The scenario's world with its traffic, ready to run."""
    world = World(seed=plan.seed, reaction=plan.reaction, burst=burst)
    realm = world.realm(plan.realm, plan.epoch) if plan.realm else None
    made = {
        computer.name: world.computer(
            computer.name,
            computer.address,
            computer.policy.given,
            directory=Unchanging(computer.policy.reading) if computer.policy.reading else None,
            domain=computer.policy.domain,
            state=_state(computer),
            profile=computer.profile,
            high_encryption=computer.high_encryption,
            certificates=computer.certificates,
            kerberos=realm.join(computer.name) if realm else None,
            audit=computer.audit,
            registry=computer.registry,
            hold_packets=computer.hold_packets,
            key_log=key_log,
        )
        for computer in plan.computers
    }
    for computer in plan.computers:
        if computer.rras:
            world.at(0.0, made[computer.name], made[computer.name].start_rras)
        if computer.dial:
            world.at(0.0, made[computer.name], _dial(made[computer.name], made[computer.dial]))
    for step in plan.steps:
        world.at(step.at, made[step.computer], STEPS[step.do](made[step.computer]))
    a, b = (made[name] for name in plan.link.between)
    world.link(a, b, rate=plan.link.rate, delay=plan.link.delay, mtu=plan.link.mtu, queue=plan.link.queue)
    world.replay(
        trace,
        *made.values(),
        hosts=[(network, made[name]) for network, name in plan.traffic.hosts],
        gateways=plan.traffic.gateways,
        repeat=plan.traffic.repeat,
        pause=plan.traffic.pause,
        as_fast_as_possible=plan.traffic.pace == "link",
    )
    return world


def _dial(client: Computer, server: Computer) -> Callable[[float], None]:
    return lambda now: client.dial(now, server.address)


def _state(computer: ComputerScenario) -> State:
    state = State.memory(computer.name)
    computer.policy.prepare(state)
    return state


def _data(plan: Scenario, world: World, trace: Trace) -> dict[str, Any]:
    sent, _ = world.time.progress()
    nodes = {made.name: world.time.node_counters(i) for i, made in enumerate(world.computers)}
    ends = [world.computers[world.links[0].a].name, world.computers[world.links[0].b].name]
    directions = {f"{ends[i]} to {ends[1 - i]}": world.time.link_counters(0, i) for i in range(2)}
    data = {
        "format": FORMAT,
        "name": plan.name,
        "seed": plan.seed,
        "scenario": _without_keys(plan.table),
        "simulated_seconds": world.now,
        "traffic": {
            "file": plan.traffic.file.name,
            "packets": sent,
            "delivered": sum(node["packets_delivered"] for node in nodes.values()),
            "capture": trace.stats(),
        },
        "link": {
            "frames": sum(d["frames"] for d in directions.values()),
            "bytes_on_wire": sum(d["wire_bytes"] for d in directions.values()),
            "directions": directions,
        },
        "computers": {made.name: _computer(made, nodes[made.name]) for made in world.computers},
    }
    data["notes"] = list(_notes(data, plan))
    return data


def _computer(made: Computer, node: Mapping[str, int]) -> dict[str, Any]:
    counters = made.counters()
    statistics = {key: counters.pop(key) for _, key in (*IPSEC_STATISTICS, *OAKLEY_STATISTICS)}
    return {
        "address": str(made.address),
        "ipsec_statistics": {key: statistics[key] for _, key in IPSEC_STATISTICS},
        "oakley_statistics": {key: statistics[key] for _, key in OAKLEY_STATISTICS},
        "counters": counters,
        "tables": made.driver.tables(),
        "traffic": dict(node),
    }


def _without_keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: "***" if key == "preshared_key" else _without_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_keys(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _notes(data: Mapping[str, Any], plan: Scenario) -> Iterator[str]:
    for policy in dict.fromkeys(item.policy.policy for item in plan.computers if item.policy.policy is not None):
        yield from (f"policy {policy.name!r}, {line}" for line in policy.warnings())
    capture = data["traffic"]["capture"]
    if capture["unmapped"]:
        yield (
            f"{capture['unmapped']} frames of the capture are between other hosts and were left out "
            "(traffic.hosts maps them)"
        )
    if capture["unsendable"]:
        yield (
            f"{capture['unsendable']} frames of the capture cannot be sent as they are "
            "(segmentation offload, malformed) and were left out"
        )
    if capture["padded"]:
        yield f"{capture['padded']} frames were cut by the capture's snapshot length and were filled with zero bytes"
    for name, computer in data["computers"].items():
        if computer["traffic"]["packets_too_big"]:
            yield (
                f"{computer['traffic']['packets_too_big']} packets of {name} did not fit the link's MTU of "
                f"{plan.link.mtu} with their protection and must not be fragmented "
                "(raise link.mtu, or record at a lower MTU)"
            )
        for key, count in computer["counters"].items():
            if key.startswith(("out_", "in_")) and key.split("_", 1)[1].upper() in _DROPS:
                yield f"{count} packets dropped by the driver of {name}: {_DROPS[key.split('_', 1)[1].upper()]}"


_DROPS = {status.name: STATUS_TEXT[status] for status in Status if status not in PASSES and status is not Status.HELD}


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """What the disk refuses is told of `out`."""
    try:
        yield
    except OSError as error:
        raise ScenarioError(f"{out}: {error.strerror}") from None


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and disappears when it does not."""
    if out.exists() and not (out / RESULT).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ScenarioError(
            f"{out}: exists and is no earlier result; accepted: a new or empty folder, or an earlier output"
        )
    if Path.cwd().is_relative_to(out.resolve()):
        raise ScenarioError(f"{out}: the working directory cannot be replaced; accepted: a folder elsewhere or in it")
    missing = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    partial = None
    try:
        with _disk(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
            partial.chmod(0o755)
        yield partial
        with _disk(out):
            _replace(out, partial)
    except BaseException:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def _replace(out: Path, partial: Path) -> None:
    """Puts `partial` into the place of `out`, which comes back when that fails."""
    if not out.exists():
        partial.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    moved = old / out.name
    try:
        out.rename(moved)
        partial.rename(out)
    except BaseException:
        if moved.exists() and not out.exists():
            moved.rename(out)
        raise
    finally:
        shutil.rmtree(old)
