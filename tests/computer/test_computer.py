"""Two computers and a wire in memory: acquire, IKE, SAs in both drivers, audits, rekeying, idle and hard ends."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from computer_kit import STEP, A, B, Pair, policy
from scapy.layers.inet import IP, UDP

from ipsec_core.computer.associations import OVERLAP_SECONDS, SWITCH_SECONDS, soft_seconds
from ipsec_core.computer.computer import Computer
from ipsec_core.computer.state import State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS
from ipsec_core.driver import Burst, SecurityAssociation, Status
from ipsec_core.errors import PolicyError
from ipsec_core.policy.toml import policy_from_table


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


@pytest.mark.parametrize("mac", ["MD5", "SHA1", "SHA256", "SHA384", "SHA512"])
@pytest.mark.parametrize("cipher", ["NULL", "DES", "3DES", "AES-128-CBC", "AES-192-CTR", "AES-256-CBC"])
def test_suites_of_two(cipher: str, mac: str) -> None:
    check_suite(f"ESP[{cipher},{mac}]")


@pytest.mark.parametrize("bits", [128, 192, 256])
@pytest.mark.parametrize("icv", ["", "-12", "-8"])
def test_combined_suites(bits: int, icv: str) -> None:
    check_suite(f"ESP[AES-{bits}-GCM{icv}]")


def check_suite(method: str) -> None:
    pair = Pair(policy(method), policy(method))
    packets = [pair.send(100, number=1), pair.send(1000, pair.b, number=2)]
    assert pair.delivered == packets
    assert [sa.security for sa in pair.a.associations()] == [method] * 2


def test_listed_sas_are_those_of_the_driver() -> None:
    """Soft and AH SAs, that no negotiation made here, are listed as well; "None" is the security of a soft one."""
    pair = Pair(policy(), policy())
    pair.send(10)
    driver = pair.a.driver
    driver.add_sa(SecurityAssociation("out", protocol="none", filter=0))
    driver.add_sa(
        SecurityAssociation(
            "in",
            protocol="none",
            filter=1,
            inner_source=IPv4Network("10.0.0.9"),
            inner_destination=IPv4Network(A),
            inner_protocol=6,
            source_port=80,
        )
    )
    driver.add_sa(
        SecurityAssociation(
            "in", 4096, "192.0.2.1", A, integrity="HMAC-MD5-96", integrity_key=bytes(16), protocol="ah", mode="tunnel"
        )
    )
    esp_out, soft_out, esp_in, soft_in, ah = pair.a.associations()
    assert (esp_out.security, esp_in.security, esp_out.soft, esp_in.soft) == ("ESP[AES-128-GCM]",) * 2 + (False,) * 2
    assert (soft_out.security, soft_out.soft, soft_out.spi, soft_out.established) == ("None", True, 0, None)
    assert (soft_out.source_address, soft_out.destination_address, soft_out.peer) == ("Any", "Any", "Any")
    assert (soft_out.filter_name, soft_out.tunnel_endpoint) == (esp_out.filter_name, None)
    assert (soft_in.security, soft_in.peer, soft_in.destination_address) == ("None", "10.0.0.9", A)
    assert (soft_in.protocol, soft_in.source_port) == (6, 80)
    assert (ah.security, ah.spi, ah.peer, ah.tunnel_endpoint, ah.soft) == ("AH[MD5]", 4096, "192.0.2.1", A, False)
    state = pair.a.snapshot(pair.now)
    assert list(state.associations()) == pair.a.associations()


@pytest.mark.parametrize(("value", "kerberos", "multicast"), [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1)])
def test_no_default_exempt(value: int, kerberos: int, multicast: int) -> None:
    """KB 811832: 1 ends the exemption of Kerberos and RSVP, 2 that of multicast and broadcast, 3 both; IKE stays."""
    table = {"name": "Block", "rules": [{"filters": [{"source": "me", "destination": "any"}], "action": "block"}]}
    made = Computer(
        "A", IPv4Address(A), policy_from_table(table, "test"), seed=b"x", registry={"NoDefaultExempt": value}
    )
    made.start(0.0)
    packets = [
        bytes(IP(src=A, dst=B) / UDP(sport=88, dport=1024)),
        bytes(IP(src=A, dst="224.0.0.5") / UDP(sport=1, dport=1)),
        bytes(IP(src=A, dst=B) / UDP(sport=500, dport=500)),
        bytes(IP(src=A, dst=B) / UDP(sport=1, dport=1)),
    ]
    burst = Burst(4).load(packets)
    made.driver.outbound(burst)
    assert [status == Status.BLOCKED for status in burst.status] == [kerberos, multicast, 0, 1]


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


def established(pair: Pair) -> float:
    """When ALICE's newest pair came to be."""
    times = [sa.established for sa in pair.a.associations()]
    return max(time for time in times if time is not None)


@pytest.mark.parametrize(("lifetime", "soft"), [(600, 600 - 45), (300, 300 - 45), (200, 170), (20, 17)])
def test_rekey_by_time_and_the_old_pair_lives_on_for_a_while(lifetime: int, soft: int) -> None:
    """No more than 45 s and no more than 15 % of the time are left when the initiator asks for the next pair.

    The hard lifetime ends the old pair, since that is sooner than the overlap would.
    """
    method = f"ESP[AES-128-GCM]:100000k/{lifetime}s"
    pair = Pair(policy(method), policy(method))
    pair.send(10)
    first = established(pair)
    for share in range(1, 5):
        pair.until(first + soft * share / 5)
        pair.send(10)
    pair.until(first + soft - 0.001)
    assert len(pair.a.associations()) == len(pair.b.associations()) == 2
    pair.until(first + soft)
    assert pair.a.counters()["oakley_quick_modes"] == pair.b.counters()["oakley_quick_modes"] == 2
    assert len(pair.b.associations()) == 4
    second = established(pair)
    assert first + soft < second < first + soft + 10 * STEP
    packet = pair.send(30)
    assert pair.delivered[-1] == packet
    assert next(sa.packets for sa in pair.a.associations()) == 6, "message 3 may still be on its way"
    pair.until(second + SWITCH_SECONDS + STEP)
    assert len(pair.a.associations()) == 4
    packet = pair.send(30)
    assert pair.delivered[-1] == packet
    assert [sa.packets for sa in pair.a.associations()][:2] == [6, 1], "the new SA is used"
    pair.until(first + lifetime - 10 * STEP)
    assert len(pair.a.associations()) == len(pair.b.associations()) == 4
    pair.until(first + lifetime + 10 * STEP)
    for computer in (pair.a, pair.b):
        assert len(computer.associations()) == 2
        assert pair.audits(computer).count(542) == 1
    assert pair.a.counters()["oakley_quick_modes"] == 2, "a retired pair asks for no successor"


def test_after_a_rekey_by_bytes_the_old_pair_is_retired_in_60_seconds() -> None:
    pair = Pair(policy("ESP[3DES,SHA1]:100k/3600s"), policy("ESP[3DES,SHA1]:100k/3600s"))
    packets = [pair.send(1000, number=number) for number in range(1, 90)]
    assert pair.delivered == packets
    assert pair.a.counters()["oakley_quick_modes"] == 2
    second = established(pair)
    pair.until(second + OVERLAP_SECONDS - 0.001)
    assert len(pair.a.associations()) == len(pair.b.associations()) == 4
    pair.until(second + OVERLAP_SECONDS + 10 * STEP)
    assert len(pair.a.associations()) == len(pair.b.associations()) == 2
    assert pair.audits(pair.a).count(542) == pair.audits(pair.b).count(542) == 1
    assert pair.send(10) == pair.delivered[-1]
    for computer in (pair.a, pair.b):
        counters = computer.counters()
        assert (counters["oakley_quick_modes"], counters["key_deletions"], counters["bad_spi_packets"]) == (2, 2, 0)


def test_the_thresholds() -> None:
    """The other end asks later, and only where a pair is still without a successor."""
    assert (soft_seconds(3600, initiator=True), soft_seconds(3600, initiator=False)) == (3555, 3576)
    assert soft_seconds(200, initiator=True) == pytest.approx(170)
    assert soft_seconds(200, initiator=False) == pytest.approx(184)
    for lifetime in (1, 5, 300, 172_799):
        assert 0 < soft_seconds(lifetime, initiator=True) < soft_seconds(lifetime, initiator=False) < lifetime


def test_a_pair_that_nobody_used_gets_no_successor() -> None:
    """With a lifetime shorter than SAIdleTime idle pairs would otherwise be replaced for ever."""
    pair = Pair(policy("ESP[3DES,SHA1]:100000k/200s"), policy("ESP[3DES,SHA1]:100000k/200s"))
    pair.send(10)
    pair.until(201)
    assert pair.a.counters()["oakley_quick_modes"] == 2, "the first pair was used"
    assert len(pair.a.associations()) == 2
    pair.until(1000)
    assert pair.a.counters()["oakley_quick_modes"] == 2
    assert pair.a.associations() == pair.b.associations() == []


@pytest.mark.parametrize("sender", ["a", "b"])
def test_the_other_end_asks_if_the_initiator_does_not(sender: str) -> None:
    pair = Pair(policy("ESP[3DES,SHA1]:100000k/250s"), policy("ESP[3DES,SHA1]:100000k/250s"))
    pair.send(10, getattr(pair, sender))
    initiator, responder = (pair.a, pair.b) if sender == "a" else (pair.b, pair.a)
    first = established(pair)
    # The initiator does nothing when its own soft limit passes.
    initiator._rekey = lambda now, pair: None  # type: ignore[method-assign]
    pair.until(first + 229)
    assert initiator.counters()["rekeys"] == 2
    assert initiator.counters()["oakley_quick_modes"] == 1
    pair.until(first + 250 * 0.92 + 1)
    assert responder.counters()["rekeys"] == 1, "the negotiation is over before the other SA asks"
    assert initiator.counters()["oakley_quick_modes"] == responder.counters()["oakley_quick_modes"] == 2
    assert pair.clear == []


def test_the_hard_lifetime_ends_a_pair_without_successor() -> None:
    pair = Pair(policy("ESP[3DES,SHA1]:100000k/250s"), policy("ESP[3DES,SHA1]:100000k/250s"))
    pair.send(10)
    first = established(pair)
    silent = [pair.a.datagram, pair.b.datagram]
    pair.a.datagram = pair.b.datagram = lambda now, packet: None  # type: ignore[method-assign]
    pair.until(first + 249.9)
    assert len(pair.a.associations()) == len(pair.b.associations()) == 2
    pair.until(first + 250.1)
    assert pair.a.associations() == pair.b.associations() == []
    for computer in (pair.a, pair.b):
        assert computer.driver.sas() == []
        assert pair.audits(computer).count(542) == 1
        assert computer.counters()["expirations"] > 0
    pair.until(400)
    assert 547 in pair.audits(pair.a)
    pair.a.datagram, pair.b.datagram = silent  # type: ignore[method-assign]
    packet = pair.send(20)
    assert pair.delivered[-1] == packet


@pytest.mark.parametrize("seconds", [300, 450, 3000])
def test_a_pair_without_traffic_ends_after_saidletime_on_both_sides(seconds: int) -> None:
    pair = Pair(policy(), policy(), registry={"SAIdleTime": seconds})
    pair.send(10)
    pair.until(100.0)
    last = pair.send(10)
    at = pair.now
    assert pair.delivered[-1] == last
    pair.until(at + seconds - 0.001)
    assert len(pair.a.associations()) == len(pair.b.associations()) == 2
    pair.until(at + seconds + 2 * STEP)
    assert pair.a.associations() == pair.b.associations() == []
    assert pair.audits(pair.a).count(542) == pair.audits(pair.b).count(542) == 1
    assert pair.a.counters()["expirations"] == pair.b.counters()["expirations"] == 0
    packet = pair.send(20, number=9)
    assert pair.delivered[-1] == packet


def test_traffic_one_way_keeps_both_sas() -> None:
    """An SA that is idle is not the end of a pair whose other SA is used; it is when that one falls silent as well."""
    pair = Pair(policy(), policy())
    for number in range(1, 11):
        pair.until(200.0 * number)
        pair.send(10)
        assert len(pair.a.associations()) == len(pair.b.associations()) == 2
    assert [sa.packets for sa in pair.a.associations()] == [10, 0]
    assert pair.a.counters()["idle_expirations"] == pair.b.counters()["idle_expirations"] == 1
    pair.until(2000.0 + 300.0 + 2 * STEP + 0.1)
    assert pair.a.associations() == pair.b.associations() == []
    assert pair.audits(pair.a).count(542) == pair.audits(pair.b).count(542) == 1


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
        ({"action": {"negotiate": ["ESP[DES,NONE]"]}}, "no security method can be carried out"),
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
    computer = Computer("ALICE", IPv4Address(A), policy_from_table(table, "test"), seed=b"x", profile="modern")
    with pytest.raises(PolicyError, match=message):
        computer.start(0.0)
