"""Ports, NATs and what they do to a conversation (RFC 3947, RFC 3948)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ipsec_core.ike import (
    ChildDeleted,
    Encapsulation,
    FailurePoint,
    IkeOptions,
    MainModeDeleted,
    MainModeEstablished,
    NatTraversal,
    PathChanged,
    QuickModeEstablished,
    QuickModePolicy,
    wire,
)

MARKER = bytes(4)
OUTSIDE = "192.0.2.1"
BOTH = (NatTraversal.RFC_3947, NatTraversal.DRAFT_02)


class Nat:
    """Alice is behind it: Bob sees `address` and ports that begin at `first`."""

    def __init__(self, kit: Any, address: str = OUTSIDE, first: int = 40_000) -> None:
        self.inside = kit.ALICE
        self.address = address
        self.first = first

    def __call__(self, source: tuple[str, int], destination: tuple[str, int]) -> Any:
        if source[0] == self.inside:
            return (self.address, self.first + source[1]), destination
        if destination[0] != self.address or not self.first < destination[1] <= self.first + 4500:
            return None
        return source, (self.inside, destination[1] - self.first)


def tunnel(kit: Any) -> Any:
    return replace(kit.ESP_OFFER, encapsulation=Encapsulation.TUNNEL)


def wish(kit: Any, reference: int = 1) -> Any:
    return kit.wish(offers=(tunnel(kit),), reference=reference)


def behind_a_nat(kit: Any, dialects: Any = BOTH, **options: Any) -> tuple[Any, Nat]:
    rules = [kit.Rules(quick=QuickModePolicy((tunnel(kit),), 7)) for _ in range(2)]
    net = kit.pair(alice=rules[0], bob=rules[1], options=IkeOptions(nat_traversal=dialects, **options))
    nat = net.nat = Nat(kit)
    net.engines[kit.ALICE].acquire(0.0, wish(kit))
    return net, nat


def ports(net: Any) -> list[tuple[str, int, int]]:
    """(who, own port, destination port) of everything on the wire, by listening at the NAT."""
    seen: list[tuple[str, int, int]] = []
    inner = net.nat

    def listen(source: Any, destination: Any) -> Any:
        seen.append((source[0], source[1], destination[1]))
        return inner(source, destination)

    net.nat = listen
    return seen


@pytest.mark.parametrize("dialect", NatTraversal)
def test_from_message_5_on_everything_goes_to_port_4500(kit: Any, dialect: NatTraversal) -> None:
    net, _ = behind_a_nat(kit, (dialect,), keep_alive=1000.0)
    seen = ports(net)
    net.run(1.0)
    alice = [entry[1:] for entry in seen if entry[0] == kit.ALICE]
    bob = [entry[1:] for entry in seen if entry[0] == kit.BOB]
    assert alice == [(500, 500)] * 2 + [(4500, 4500)] * 3
    assert bob == [(500, 40_500)] * 2 + [(4500, 44_500)] * 2
    assert [data[:4] == MARKER for _, _, data in net.wire] == [False] * 4 + [True] * 5
    (at_bob,) = net.engines[kit.BOB].main_modes()
    assert (at_bob.remote, at_bob.port, at_bob.local_port) == (OUTSIDE, 44_500, 4500)
    assert at_bob.nat is not None
    assert (at_bob.nat.local_behind, at_bob.nat.remote_behind) == (False, True)


def test_without_a_nat_nothing_moves(kit: Any) -> None:
    net = kit.pair(options=IkeOptions(nat_traversal=BOTH))
    seen = ports(net)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(100.0)
    assert {entry[1:] for entry in seen} == {(500, 500)}
    assert not net.of(kit.BOB, PathChanged)


def test_a_peer_that_begins_on_port_4500_is_answered_there(kit: Any) -> None:
    net = kit.pair()
    alice, bob = net.engines[kit.ALICE], net.engines[kit.BOB]
    alice.acquire(0.0, kit.wish())
    (first,) = alice.datagrams()
    bob.receive_datagram(0.0, MARKER + first.data, (kit.ALICE, 4500), 4500)
    (answer,) = bob.datagrams()
    assert (answer.destination, answer.source_port, answer.data[:4]) == ((kit.ALICE, 4500), 4500, MARKER)
    bob.receive_datagram(0.0, first.data, (kit.ALICE, 4500), 4500)
    bob.receive_datagram(0.0, MARKER[:3], (kit.ALICE, 4500), 4500)
    assert bob.datagrams() == []
    assert bob.statistics()["Discarded messages"] == 2


# Keep-alives


def test_keep_alives_while_there_is_an_sa(kit: Any) -> None:
    net, _ = behind_a_nat(kit)
    net.run(110.0)
    alice, bob = net.engines[kit.ALICE], net.engines[kit.BOB]
    beats = [(time, who) for time, who, data in net.wire if data == b"\xff"]
    assert [round(time) for time, _ in beats] == [20, 40, 60, 80, 100]
    assert {who for _, who in beats} == {kit.ALICE}, "only who is behind the NAT has something to keep alive"
    assert alice.statistics()["Keep-alives sent"] == bob.statistics()["Keep-alives received"] == 5
    assert bob.statistics()["Discarded messages"] == 0
    alice.close(net.now)
    net.run(300.0)
    assert alice.statistics()["Keep-alives sent"] == 5
    assert alice.next_timer() is None


def test_keep_alives_go_on_for_the_sa_pairs_without_a_main_mode(kit: Any) -> None:
    net, _ = behind_a_nat(kit)
    net.run(1.0)
    alice = net.engines[kit.ALICE]
    alice._main_modes.end(net.now, alice._mains.all()[0], FailurePoint.ME)
    net.run(50.0)
    assert alice.statistics()["Active main modes"] == 0
    assert alice.statistics()["Keep-alives sent"] == 2


# A mapping changes


def test_a_new_port_or_address_of_the_nat_is_followed(kit: Any) -> None:
    net, nat = behind_a_nat(kit)
    net.run(1.0)
    nat.address, nat.first = "192.0.2.77", 50_000
    net.engines[kit.ALICE].acquire(net.now, wish(kit, 2))
    net.run(2.0)
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == 2
    assert len(net.of(kit.BOB, MainModeEstablished)) == 1
    (event,) = net.of(kit.BOB, PathChanged)
    assert (event.remote, event.former) == (OUTSIDE, (OUTSIDE, 44_500))
    assert (event.address, event.port, event.local_port) == ("192.0.2.77", 54_500, 4500)
    # What is agreed on since then goes there, too.
    first, second = net.of(kit.BOB, QuickModeEstablished)
    assert first.udp is not None
    assert second.udp == replace(first.udp, remote_address="192.0.2.77", remote_port=54_500)
    # And the other way round: what Bob says reaches Alice.
    net.engines[kit.BOB].delete_child(net.now, net.of(kit.BOB, QuickModeEstablished)[0].inbound_spi)
    net.run(4.0)
    assert len(net.of(kit.ALICE, ChildDeleted)) == 1


@pytest.mark.parametrize("main_mode", ["alive", "gone"])
def test_traffic_tells_of_a_new_path_too(kit: Any, main_mode: str) -> None:
    """With or without a Main Mode: ESP goes to where it came from, and so does IKE. A second time is no news."""
    net, _ = behind_a_nat(kit)
    net.run(1.0)
    bob = net.engines[kit.BOB]
    (child,) = net.of(kit.BOB, QuickModeEstablished)
    if main_mode == "gone":
        bob._main_modes.end(net.now, bob._mains.all()[0], FailurePoint.ME)
    bob.traffic_from(net.now, child.inbound_spi, (OUTSIDE, 44_500), ("192.0.2.77", 54_500))
    (event,) = [event for event in bob.events() if isinstance(event, PathChanged)]
    assert (event.remote, event.former, event.address, event.port) == (OUTSIDE, (OUTSIDE, 44_500), "192.0.2.77", 54_500)
    assert [(main.address, main.port) for main in bob.main_modes()] == [("192.0.2.77", 54_500)] * (main_mode == "alive")


def test_who_is_not_behind_a_nat_does_not_move(kit: Any) -> None:
    """RFC 3947 section 7: the end behind the NAT sends where it always did. Nor is there news of an SA that is gone."""
    net, _ = behind_a_nat(kit)
    net.run(1.0)
    alice, bob = net.engines[kit.ALICE], net.engines[kit.BOB]
    (child,) = net.of(kit.ALICE, QuickModeEstablished)
    before = alice.main_modes()
    alice.traffic_from(net.now, child.inbound_spi, (kit.BOB, 4500), ("192.0.2.77", 4500))
    bob.traffic_from(net.now, child.inbound_spi, (OUTSIDE, 44_500), ("192.0.2.77", 4500))
    assert alice.main_modes() == before
    assert not any(isinstance(event, PathChanged) for engine in (alice, bob) for event in engine.events())


def test_only_what_verifies_moves_a_peer(kit: Any) -> None:
    """Damaged and repeated messages from elsewhere leave the path as it is, and are not answered there."""
    net, _ = behind_a_nat(kit)
    net.run(1.0)
    bob = net.engines[kit.BOB]
    (before,) = bob.main_modes()
    for _, who, data in list(net.wire):
        if who == kit.ALICE:
            damaged = data[:-1] + bytes((data[-1] ^ 1,))
            for copy in (data, damaged):
                bob.receive_datagram(net.now, copy, ("192.0.2.99", 4500), 4500 if data[:4] == MARKER else 500)
    assert bob.main_modes()[0] == before
    assert not any(isinstance(event, PathChanged) for event in bob.events())
    # An old first message from a new address may open a negotiation of its own; nothing else goes there.
    stray = [item for item in bob.datagrams() if item.destination[0] == "192.0.2.99"]
    assert all(wire.parse_header(item.data).exchange == 2 for item in stray)


def test_a_peer_that_is_not_behind_a_nat_keeps_its_address(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    net.nat = lambda source, destination: (("10.0.0.9", source[1]) if source[0] == kit.ALICE else source, destination)
    net.engines[kit.ALICE].close(net.now)
    net.run(2.0)
    assert not net.of(kit.BOB, MainModeDeleted)
    assert net.engines[kit.BOB].statistics()["Discarded messages"] > 0


def test_initial_contact_spares_other_computers_behind_the_same_nat(kit: Any) -> None:
    """Two computers share an address; the first contact of the second ends nothing of the first."""
    net, _ = behind_a_nat(kit)
    net.run(1.0)
    other = kit.Net(99)
    other.add(kit.ALICE, kit.Rules(), options=IkeOptions(nat_traversal=BOTH))
    net.engines[kit.ALICE], net.events[kit.ALICE] = other.engines[kit.ALICE], []
    net.nat = Nat(kit, first=20_000)
    net.engines[kit.ALICE].acquire(net.now, wish(kit, 2))
    net.run(2.0)
    assert len(net.of(kit.BOB, QuickModeEstablished)) == 2
    assert not net.of(kit.BOB, ChildDeleted)
    assert not net.of(kit.BOB, MainModeDeleted)
