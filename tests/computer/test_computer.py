"""Two computers and a wire in memory: acquire, IKE, SAs in both drivers, audits, rekeying, idle and hard ends."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from ipsec_core.computer.associations import OVERLAP_SECONDS
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.computer import Computer
from ipsec_core.computer.state import State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS
from ipsec_core.driver import Burst, Status
from ipsec_core.errors import PolicyError
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table

A, B = "10.0.0.1", "10.0.0.2"
AUDITED = {"logon_events": ["success", "failure"]}
STEP = 0.001


def policy(method: str = "ESP[AES-128-GCM]", key: str = "lab") -> Policy:
    rule = {
        "name": "All",
        "filters": [{"source": "me", "destination": "10.0.0.0/24"}],
        "action": {"negotiate": [method]},
        "authentication": [{"preshared_key": key}],
    }
    table = {"name": "Lab", "key_exchange": {"methods": ["3DES-SHA1-2"]}, "rules": [rule]}
    return policy_from_table(table, "test")


class Pair:
    """Two computers; `settle` carries packets until nobody has any, a millisecond a packet."""

    def __init__(
        self, a: Policy | None, b: Policy | None, *, audit: dict[str, object] | None = None, key_log: bool = False
    ) -> None:
        self.now = 0.0
        table = AUDITED if audit is None else audit
        self.a, self.b = (
            Computer(
                name,
                IPv4Address(address),
                given,
                seed=name.encode(),
                audit=AuditPolicy.from_table(table, "audit"),
                key_log=key_log,
            )
            for name, address, given in (("ALICE", A, a), ("BOB", B, b))
        )
        self.clear: list[bytes] = []
        self.delivered: list[bytes] = []
        for computer in (self.a, self.b):
            computer.start(0.0)

    def send(self, size: int, sender: Computer | None = None, *, number: int = 0) -> bytes:
        """One packet of a user from ALICE (or `sender`); it travels at once if it may."""
        sender = sender or self.a
        source, destination = (A, B) if sender is self.a else (B, A)
        packet = bytes(IP(src=source, dst=destination, id=number) / UDP(sport=40001, dport=40002) / Raw(bytes(size)))
        self._out(sender, Burst(1).load([packet]))
        self.settle()
        return packet

    def settle(self) -> None:
        moved = True
        while moved:
            moved = False
            for computer, peer in ((self.a, self.b), (self.b, self.a)):
                for upcall in computer.driver.upcalls():
                    self.now += STEP
                    computer.upcall(self.now, upcall)
                    moved = True
                for packet in computer.take_packets():
                    self.now += STEP
                    peer.datagram(self.now, packet)
                    moved = True
                burst = Burst(8)
                if computer.driver.release(burst, self.now):
                    self._out(computer, burst)
                    moved = True

    def until(self, time: float) -> None:
        """Fires every timer up to `time`."""
        while True:
            due = [(t, c) for c in (self.a, self.b) if (t := c.next_timer()) is not None and t <= time]
            if not due:
                break
            at, computer = min(due, key=lambda item: item[0])
            self.now = max(self.now, at)
            computer.timer(self.now)
            self.settle()
        self.now = max(self.now, time)

    def _out(self, sender: Computer, burst: Burst) -> None:
        sender.driver.outbound(burst, self.now)
        receiver = self.b if sender is self.a else self.a
        for i in range(len(burst)):
            if burst.status[i] == Status.PROTECTED:
                arrived = Burst(1).load([burst.packet(i)])
                receiver.driver.inbound(arrived, self.now)
                self.delivered += arrived.packets()
            elif burst.status[i] == Status.NO_FILTER:
                self.clear.append(burst.packet(i))

    def audits(self, computer: Computer) -> list[int]:
        return [event.event_id for event in computer.log.events(log="Security")]


@pytest.mark.parametrize("method", ["ESP[AES-128-GCM]", "ESP[3DES,SHA1]"])
def test_the_first_packet_arrives_after_the_negotiation(method: str) -> None:
    pair = Pair(policy(method), policy(method), key_log=True)
    packets = [pair.send(100, number=1), pair.send(200, number=2), pair.send(50, pair.b, number=3)]
    assert pair.delivered == packets
    for computer in (pair.a, pair.b):
        counters = computer.counters()
        assert list(counters)[:13] == [key for _, key in (*IPSEC_STATISTICS, *OAKLEY_STATISTICS)]
        assert (counters["active_associations"], counters["key_additions"]) == (2, 2)
        assert (counters["oakley_main_modes"], counters["oakley_quick_modes"]) == (1, 1)
        assert pair.audits(computer) == [541, 541]
    assert {record.spi for record in pair.a.keys} == {record.spi for record in pair.b.keys}
    assert pair.a.ike_keys == pair.b.ike_keys


def test_audit_has_the_labels_and_the_spis() -> None:
    pair = Pair(policy(), policy(), key_log=True)
    pair.send(10)
    main, quick = pair.a.log.events(log="Security")
    assert "Key Exchange Mode (Main Mode)" in main.text
    assert "Data Protection Mode (Quick Mode)" in quick.text
    inbound = next(record.spi for record in pair.a.keys if str(record.destination) == A)
    assert f"InboundSpi {inbound}" in quick.text
    for label in ("Mode:", "Peer Identity:", "Filter:", "Parameters:"):
        assert label in main.text
        assert label in quick.text


def test_without_audit_policy_nothing_is_logged() -> None:
    pair = Pair(policy(), policy(), audit={})
    pair.send(10)
    assert pair.audits(pair.a) == pair.audits(pair.b) == []


def test_keys_are_kept_only_on_request() -> None:
    pair = Pair(policy(), policy())
    pair.send(10)
    assert pair.a.keys == pair.b.keys == []
    assert pair.a.ike_keys == []


def test_wrong_preshared_key() -> None:
    pair = Pair(policy(key="one"), policy(key="two"))
    pair.send(10)
    pair.until(120.0)
    assert pair.delivered == []
    assert pair.b.counters()["authentication_failures"] == 1
    assert 545 in pair.audits(pair.b)
    assert 547 in pair.audits(pair.a)
    assert pair.a.driver.status_counters("out")["NEGOTIATION_FAILED"] == 1


def test_no_common_proposal() -> None:
    pair = Pair(policy("ESP[AES-128-GCM]"), policy("ESP[3DES,SHA1]"))
    pair.send(10)
    pair.until(120.0)
    assert pair.delivered == []
    assert 546 in pair.audits(pair.b)
    assert pair.a.counters()["oakley_quick_modes"] == 0


def test_a_silent_peer_ends_the_wait_after_64_seconds() -> None:
    pair = Pair(policy(), None)
    pair.b.datagram = lambda now, packet: None  # type: ignore[method-assign]
    pair.send(10)
    pair.until(60.0)
    assert pair.audits(pair.a) == []
    pair.until(70.0)
    assert pair.audits(pair.a) == [547]
    assert pair.a.driver.status_counters("out")["NEGOTIATION_FAILED"] == 1
    assert pair.clear == []


def test_rekey_by_bytes_loses_nothing_and_sends_nothing_in_clear() -> None:
    """100 KB a key: about 85 packets of 1 KB before the initiator asks for the next pair."""
    pair = Pair(policy("ESP[AES-128-GCM]:100k/3600s"), policy("ESP[AES-128-GCM]:100k/3600s"))
    packets = [pair.send(1000, number=number) for number in range(1, 501)]
    assert pair.delivered == packets
    assert pair.clear == []
    counters = pair.a.counters()
    assert counters["oakley_main_modes"] == 1
    assert counters["oakley_quick_modes"] >= 5
    assert counters["key_additions"] == 2 * counters["oakley_quick_modes"]
    assert counters["expirations"] == 0


def test_rekey_by_time_and_the_old_pair_lives_on_for_a_while() -> None:
    pair = Pair(policy("ESP[AES-128-GCM]:100000k/600s"), policy("ESP[AES-128-GCM]:100000k/600s"))
    pair.send(10)
    for minute in range(1, 9):
        pair.until(60.0 * minute)
        pair.send(10)
    assert len(pair.a.associations()) == 2
    pair.until(0.85 * 600 + 1)
    assert pair.a.counters()["oakley_quick_modes"] == 2
    assert len(pair.a.associations()) == 4
    pair.until(0.85 * 600 + OVERLAP_SECONDS + 2)
    assert len(pair.a.associations()) == len(pair.b.associations()) == 2
    assert pair.audits(pair.a).count(542) == 1


def test_a_pair_without_traffic_ends_after_saidletime_on_both_sides() -> None:
    pair = Pair(policy(), policy())
    pair.send(10)
    pair.until(299.0)
    assert len(pair.a.associations()) == 2
    pair.until(610.0)
    assert pair.a.associations() == pair.b.associations() == []
    assert 542 in pair.audits(pair.a)
    assert 542 in pair.audits(pair.b)
    packet = pair.send(20, number=9)
    assert pair.delivered[-1] == packet


def test_a_responder_decrypts_before_message_3_was_processed() -> None:
    """The article's slower responder: the first protected packet overtakes the end of the negotiation."""
    pair = Pair(policy(), policy())
    waits: list[bytes] = []
    receive = pair.b.datagram
    seen = 0

    def slow(now: float, packet: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:  # Main Mode 1, 3, 5, Quick Mode 1, then 3
            waits.append(packet)
        else:
            receive(now, packet)

    pair.b.datagram = slow  # type: ignore[method-assign]
    packet = pair.send(30)
    assert waits
    assert pair.delivered == [packet]
    assert pair.b.counters()["bad_spi_packets"] == 0
    receive(pair.now, waits[0])
    assert pair.b.counters()["oakley_quick_modes"] == 1
    assert pair.b.counters()["key_additions"] == 2


def test_snapshot_is_what_the_tools_read(tmp_path: Path) -> None:
    pair = Pair(policy(), policy())
    pair.send(10)
    pair.a.snapshot(pair.now).save_as(tmp_path / "ALICE")
    with State.open(tmp_path / "ALICE") as state:
        assert state.name == "ALICE"
        assert list(state.associations()) == pair.a.associations()
        assert state.counters() == pair.a.counters()
        assert [hits for _, hits in state.filters()] == [2, 0]
    assert b"lab-secret" not in (tmp_path / "ALICE" / "state.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"action": {"negotiate": ["AH[SHA1]"]}}, "no security method can be carried out"),
        ({"authentication": ["kerberos"]}, "no authentication method can be carried out"),
    ],
)
def test_a_policy_that_cannot_be_carried_out_is_refused(rule: dict[str, object], message: str) -> None:
    base = {
        "name": "All",
        "filters": [{"source": "me", "destination": "any"}],
        "action": {"negotiate": ["ESP[AES-128-GCM]"]},
        "authentication": [{"preshared_key": "lab"}],
    }
    table = {"name": "Lab", "rules": [base | rule]}
    computer = Computer("ALICE", IPv4Address(A), policy_from_table(table, "test"), seed=b"x")
    with pytest.raises(PolicyError, match=message):
        computer.start(0.0)
