"""What worlds do: the same result however it is computed, and the article's outcomes for each pair of policies."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from sim_kit import (
    HOST_A,
    HOST_B,
    LABS,
    SECRET,
    STRANGER,
    Lab,
    Stamped,
    dialogue,
    ethernet,
    ip,
    policy,
    read_pcapng,
    simple,
    sized,
    write_pcap,
)

from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.errors import PolicyError, TrafficError
from ipsec_core.policy.model import Policy
from ipsec_core.sim._world import Trace
from ipsec_core.sim.run import build_world
from ipsec_core.sim.scenario import load_scenario
from ipsec_core.sim.world import World

Make = Callable[..., Lab]
MS = 10**6
AUDIT = {"audit": AuditPolicy.from_table({"logon_events": ["success", "failure"]}, "test")}


def run_lab(name: str, path: Path, burst: int, **traffic: Any) -> tuple[bytes, World]:
    plan = load_scenario(LABS / name)
    plan = replace(plan, traffic=replace(plan.traffic, repeat=min(plan.traffic.repeat, 3), **traffic))
    world = build_world(plan, Trace(plan.traffic.file), key_log=True, burst=burst)
    world.capture(0, path)
    world.run()
    return path.read_bytes(), world


def figures(world: World) -> Any:
    """All that a world counts and holds."""
    return (
        world.now,
        [world.time.node_counters(i) for i in range(2)],
        [world.time.link_counters(0, i) for i in range(2)],
        [(made.counters(), made.driver.tables(), made.driver.sas()) for made in world.computers],
        [(made.keys, made.log.events()) for made in world.computers],
    )


@pytest.mark.parametrize("pace", ["recorded", "link"])
@pytest.mark.parametrize("name", ["first-link.toml", "first-link-gcm.toml", "first-link-tunnel.toml"])
def test_bursts_do_not_matter(tmp_path: Path, name: str, pace: str) -> None:
    reference, world = run_lab(name, tmp_path / "1.pcapng", 1, pace=pace)
    # As fast as the link takes them, most packets come before there is an SA.
    assert len(read_pcapng(tmp_path / "1.pcapng")) > (1700 if pace == "recorded" else 100)
    for burst in (7, 64, 256):
        other, same = run_lab(name, tmp_path / f"{burst}.pcapng", burst, pace=pace)
        assert other == reference
        assert figures(same) == figures(world)


@pytest.mark.parametrize("queue", [1000, 5000])
def test_bursts_do_not_matter_with_a_short_queue(lab: Make, queue: int) -> None:
    options: dict[str, Any] = {
        "reaction": "100us",
        "link": {"queue": queue},
        "replay": {"as_fast_as_possible": True, "repeat": 2},
    }
    frames = [(n, ethernet(sized(40 + n % 300))) for n in range(2000)]
    made = [lab(frames, policy(), policy(), burst=burst, **options) for burst in (1, 7, 64, 256)]
    captures = [each.run() for each in made]
    assert captures[1:] == captures[:1] * 3
    assert {each.everything for each in made} == {made[0].everything}
    assert made[0].node(1)["packets_delivered"] > 1000


def test_bursts_do_not_matter_to_lifetimes(lab: Make) -> None:
    """Pairs that are replaced in time, fall idle, and come back; many packets at the moments when that happens."""
    at = [n * 700 * MS for n in range(400)] + [(280 + 301) * 10**9 + n * 700 * MS for n in range(300)]
    at = [moment + n * 1000 for moment in at for n in range(5)]
    frames = [(moment, ethernet(sized(200, back=n % 3 == 0), back=n % 3 == 0)) for n, moment in enumerate(at)]
    made = [
        lab(frames, *[policy(methods=["ESP[3DES,SHA1]:100000k/100s"])] * 2, burst=burst, computer=AUDIT)
        for burst in (1, 7, 256)
    ]
    captures = [each.run() for each in made]
    assert captures[1:] == captures[:1] * 2
    assert {each.everything for each in made} == {made[0].everything}
    assert [each.log.events("Security") for each in made[2].world.computers] == [
        each.log.events("Security") for each in made[0].world.computers
    ]
    assert clear(captures[0]) == 0
    assert [made[0].node(i)["packets_delivered"] for i in range(2)] == [len(at) // 3 + 1, len(at) - len(at) // 3 - 1]
    for each in made[0].world.computers:
        counters = each.counters()
        assert counters["oakley_quick_modes"] >= 8
        assert counters["bad_spi_packets"] == counters.get("in_should_be_secured", 0) == 0


def test_an_idle_pair_ends_in_virtual_time(lab: Make) -> None:
    """KB 257225, SAIdleTime: 300 s after the last packet, on both sides, with an audit each."""
    frames = [(n * 10**9, ethernet(sized(80))) for n in (0, 1, 500)]
    method = "ESP[3DES,SHA1]:100000k/3600s"
    made = lab(frames, policy(methods=[method]), policy(methods=[method]), computer=AUDIT)
    made.world.run(302)
    assert [each.associations() for each in made.world.computers] == [[], []]
    for each in made.world.computers:
        (ended,) = each.log.events("Security", event_id=542)
        assert ended.time == pytest.approx(301, abs=0.01)
    made.world.run()
    assert made.node(1)["packets_delivered"] == 3
    assert made.alice.counters()["oakley_quick_modes"] == 2


def test_processes_agree(tmp_path: Path) -> None:
    """No order of sets, no address of memory and no clock gets into a result."""
    program = (
        "import sys; from pathlib import Path; from ipsec_core.sim.run import simulate; "
        "simulate(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    digests = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        command = [sys.executable, "-c", program, str(LABS / "first-link.toml"), str(out)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)})
        files = [f for f in sorted(out.rglob("*")) if f.is_file() and f.name not in ("timing.json", "state.sqlite")]
        digests.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])
    assert digests[0] == digests[1]
    assert [name for name, _ in digests[0]] == ["esp_sa", "ikev1_decryption_table", "link.pcapng", "result.json"]


def test_running_in_steps(lab: Make) -> None:
    whole, steps = (lab(dialogue(200), policy(), policy()) for _ in range(2))
    whole.run(capture=False)
    times = [0.0, 0.0005, 0.001, 0.1, 0.99, 1.0, 1.000001, 1.0123, 1.03]
    for until in times:
        assert steps.world.run(until) == until
    steps.world.run()
    assert [made.counters() for made in steps.world.computers] == [made.counters() for made in whole.world.computers]
    assert [steps.node(i) for i in range(2)] == [whole.node(i) for i in range(2)]
    assert [steps.direction(i) for i in range(2)] == [whole.direction(i) for i in range(2)]


def test_seeds_differ_in_keys_only(lab: Make) -> None:
    one, two, other = (lab(dialogue(20), policy(), policy(), seed=seed) for seed in (7, 7, 8))
    captured = [made.run() for made in (one, two, other)]
    assert captured[0] == captured[1]
    assert captured[0] != captured[2]
    assert [len(frame) for _, frame in captured[0]] == [len(frame) for _, frame in captured[2]]


def test_progress(lab: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipsec_core.sim.world.PROGRESS_PACKETS", 10)
    made = lab(dialogue(200))
    seen: list[int] = []
    made.world.run(progress=lambda: seen.append(made.world.time.progress()[0]))
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert made.world.time.progress() == (201, 201)


# ---- policies -------------------------------------------------------------------------------------------------------


def clear(stamped: list[Stamped]) -> int:
    """Test packets that anyone can read."""
    return sum(frame[12:14] == b"\x08\x00" and frame[23] == 253 for _, frame in stamped)


def esp(stamped: list[Stamped]) -> int:
    return sum(frame[12:14] == b"\x08\x00" and frame[23] == 50 for _, frame in stamped)


def test_no_policies_no_ipsec(lab: Make) -> None:
    made = lab(dialogue(50))
    got = made.run()
    assert (clear(got), esp(got), len(got)) == (51, 0, 51)
    assert [made.node(i)["packets_delivered"] for i in range(2)] == [25, 26]
    assert made.alice.counters()["key_additions"] == 0


@pytest.mark.parametrize("method", ["ESP[3DES,SHA1]", "ESP[AES-128-GCM]"])
def test_two_policies_no_clear_text(lab: Make, method: str) -> None:
    made = lab(dialogue(50), policy(methods=[method]), policy(methods=[method]))
    got = made.run()
    assert (clear(got), esp(got)) == (0, 51)
    assert [made.node(i)["packets_delivered"] for i in range(2)] == [25, 26]
    # The first packet waited for its negotiation and left well before the next came.
    first = min(at for at, frame in got if frame[23] == 50)
    assert 5 * MS < first < 20 * MS


def test_permit_lets_pass(lab: Make) -> None:
    made = lab(dialogue(50), simple("permit"), simple("permit"))
    assert clear(made.run()) == 51
    assert made.alice.counters()["out_permitted"] == 26
    assert made.alice.counters()["in_permitted"] == 25


@pytest.mark.parametrize("where", ["alice", "bob"])
def test_block_drops(lab: Make, where: str) -> None:
    made = lab(dialogue(50), **{where: simple("block")})
    got = made.run()
    blocker = made.alice if where == "alice" else made.bob
    sends, receives = (26, 25) if where == "alice" else (25, 26)
    assert clear(got) == 51 - sends
    assert blocker.counters()["out_blocked"] == sends
    assert blocker.counters()["in_blocked"] == receives
    assert [made.node(i)["packets_delivered"] for i in range(2)] == [0, 0]


def test_rules_by_protocol(lab: Make) -> None:
    """The most specific filter wins: protocol 254 is blocked, all else permitted."""
    table = simple("permit").rules + simple("block", protocol=254).rules
    frames = [(n, ethernet(ip(HOST_A, HOST_B, b"x" * 40, protocol=253 + n % 2))) for n in range(10)]
    made = lab(frames, Policy(name="two", rules=table))
    made.run()
    assert made.node(1)["packets_delivered"] == 5
    assert made.alice.counters()["out_blocked"] == 5


def one_sided(lab: Make, alice: Policy | None, bob: Policy | None) -> Lab:
    frames = [(n * 100 * MS, ethernet(sized(80, back=n % 2 == 1), back=n % 2 == 1)) for n in range(10)]
    return lab(frames, alice, bob, computer=AUDIT)


def test_policy_on_one_side(lab: Make) -> None:
    """KB 257225's commonest mistake: a peer with another policy refuses, and its clear text is not taken."""
    made = one_sided(lab, policy(), simple("permit"))
    got = made.run()
    assert clear(got) == 5  # BOB's, which ALICE drops
    assert esp(got) == 0
    assert [made.node(i)["packets_delivered"] for i in range(2)] == [0, 0]
    counters = made.alice.counters()
    assert counters["in_should_be_secured"] == 5
    assert counters["out_held"] == counters["acquires"] == 5
    assert counters["out_negotiation_failed"] == 5
    assert [each.counters()["key_additions"] for each in made.world.computers] == [0, 0]
    for each, point, reason in (
        (made.alice, "Peer", "IKE security attributes are unacceptable"),
        (made.bob, "Me", "No policy is configured"),
    ):
        events = each.log.events("Security")
        # Not one for each packet: after a failure it is quiet for a second.
        assert [(event.event_id, event.type) for event in events] == [(547, "Failure Audit")]
        assert {event.strings[0] for event in events} == {"Key Exchange Mode (Main Mode)"}
        assert {event.strings[2:] for event in events} == {(point, reason)}


def test_no_policy_on_the_other_side(lab: Make) -> None:
    """A computer without a policy does not answer at all, which ends the wait after a minute."""
    made = one_sided(lab, policy(), None)
    got = made.run()
    assert clear(got) == 5
    assert esp(got) == 0
    counters = made.alice.counters()
    assert (counters["acquires"], counters["out_held"], counters["out_negotiation_failed"]) == (1, 5, 5)
    (event,) = made.alice.log.events("Security")
    assert event.strings[2:] == ("Me", "No response from the peer")
    assert made.bob.log.events("Security") == ()


def test_policy_on_the_other_side(lab: Make) -> None:
    made = one_sided(lab, None, policy())
    assert clear(made.run()) == 5
    assert made.bob.counters()["in_should_be_secured"] == 5
    assert [made.node(i)["packets_delivered"] for i in range(2)] == [0, 0]


def test_peer_that_does_not_answer(lab: Make) -> None:
    """The last of seven copies goes out after 63 s, the failure is reported a second later; what waited is dropped."""
    rule = {
        "filters": [{"source": HOST_A, "destination": HOST_B}],
        "action": {"negotiate": ["ESP[3DES,SHA1]"]},
        "authentication": [{"preshared_key": SECRET}],
        "tunnel_endpoint": "10.0.0.77",
    }
    frames = [(n * 100 * MS, ethernet(sized(80))) for n in range(5)]
    made = lab(frames, policy(rule), None, replay={"gateways": True}, computer=AUDIT)
    got = made.run()
    copies = [at for at, frame in got if frame[23] == 17]
    assert [round((at - copies[0]) / 1e9, 3) for at in copies] == [0, 1, 3, 7, 15, 31, 63]
    assert len(got) == 7
    (event,) = made.alice.log.events("Security")
    assert event.event_id == 547
    assert event.strings[2:] == ("Me", "No response from the peer")
    assert event.time == pytest.approx(64.001, abs=1e-6)
    counters = made.alice.counters()
    assert (counters["out_held"], counters["out_negotiation_failed"], counters["acquires"]) == (5, 5, 1)
    assert made.world.now == pytest.approx(64.001, abs=1e-3)


def test_without_audit_policy_no_event(lab: Make) -> None:
    made = lab(dialogue(3), policy(), None)
    made.run()
    assert made.alice.log.events("Security") == ()
    assert made.alice.counters()["ike_negotiation_failures"] == 1


def test_more_than_hold_packets(lab: Make) -> None:
    frames = [(n * 1000, ethernet(sized(80))) for n in range(20)]
    made = lab(frames, policy(), policy(), computer={"hold_packets": 6})
    got = made.run()
    assert esp(got) == made.node(1)["packets_delivered"] == 6
    assert made.alice.counters()["out_held"] == 6
    assert made.alice.counters()["out_not_held"] == 14


def test_keys_that_differ(lab: Make) -> None:
    """A wrong preshared key: BOB cannot read message 5, and nothing gets through, not even in the clear."""
    made = one_sided(lab, policy(key="one"), policy(key="two"))
    got = made.run()
    assert (clear(got), esp(got)) == (0, 0)
    assert [made.node(i)["packets_delivered"] for i in range(2)] == [0, 0]
    events = [event for made in made.world.computers for event in made.log.events("Security")]
    assert events
    assert {event.event_id for event in events} <= {545, 547}


def test_no_common_proposal(lab: Make) -> None:
    made = one_sided(lab, policy(methods=["ESP[3DES,SHA1]"]), policy(methods=["ESP[AES-128-GCM]"]))
    got = made.run()
    assert (clear(got), esp(got)) == (0, 0)
    assert 546 in [event.event_id for event in made.bob.log.events("Security")]


def test_gateways_leave_addresses_alone(lab: Make) -> None:
    frames = dialogue(20)
    got = lab(frames, replay={"gateways": True}).run()
    assert [frame[14:] for _, frame in got] == [frame[14:] for _, frame in frames]
    assert {frame[:12] for _, frame in got} != {frame[:12] for _, frame in frames}


def test_hosts_get_the_addresses_of_the_computers(lab: Make) -> None:
    frames = dialogue(20)
    got = lab(frames).run()
    assert {(frame[26:30], frame[30:34]) for _, frame in got} == {
        (b"\x0a\0\0\x01", b"\x0a\0\0\x02"),
        (b"\x0a\0\0\x02", b"\x0a\0\0\x01"),
    }
    assert [frame[34:] for _, frame in got] == [frame[34:] for _, frame in frames]


def test_named_networks(tmp_path: Path) -> None:
    """`hosts` takes others than the two with most packets."""
    frames = dialogue(20) + [(5 * 10**9 + n, ethernet(ip(STRANGER, HOST_B, bytes(60)))) for n in range(3)]
    path = write_pcap(tmp_path / "t.pcap", frames)
    world = World()
    a, b = world.computer("A", "10.0.0.1"), world.computer("B", "10.0.0.2")
    world.link(a, b)
    world.replay(path, hosts=[(IPv4Network(f"{STRANGER}/32"), b), (IPv4Network("192.168.1.16/28"), a)])
    world.run()
    assert world.time.node_counters(0)["packets_delivered"] == 3
    assert world.time.node_counters(1)["packets_delivered"] == 0


def test_nothing_to_replay(tmp_path: Path) -> None:
    world = World()
    a, b = world.computer("A", "10.0.0.1"), world.computer("B", "10.0.0.2")
    world.link(a, b)
    empty = write_pcap(tmp_path / "empty.pcap", [])
    with pytest.raises(TrafficError) as raised:
        world.replay(empty, a, b)
    assert str(raised.value) == f"{empty}: no packets between two hosts; nothing to replay"
    full = write_pcap(tmp_path / "full.pcap", dialogue(3))
    with pytest.raises(TrafficError) as raised:
        world.replay(full, hosts=[(IPv4Network("172.16.0.0/12"), a), (IPv4Network("172.0.0.0/12"), b)])
    assert str(raised.value) == f"{full}: no packets between the hosts given; nothing to replay"


def test_policy_that_cannot_be_carried_out(lab: Make) -> None:
    with pytest.raises(PolicyError) as raised:
        lab(dialogue(3), policy(methods=["ESP[DES,NONE]"])).run()
    assert str(raised.value).isprintable()


def test_three_computers(tmp_path: Path) -> None:
    """Two links, and traffic on one of them."""
    world = World(seed=3)
    made = [world.computer(name, f"10.0.0.{n}") for n, name in enumerate("ABCD", 1)]
    world.link(made[0], made[1])
    second = world.link(made[2], made[3], rate="10Mbit/s")
    world.replay(write_pcap(tmp_path / "t.pcap", dialogue(11)), made[2], made[3])
    world.capture(second, tmp_path / "link.pcapng")
    world.run()
    assert len(read_pcapng(tmp_path / "link.pcapng")) == 12
    assert world.time.link_counters(0, 0)["frames"] == 0
    assert world.time.link_counters(1, 0)["frames"] + world.time.link_counters(1, 1)["frames"] == 12
