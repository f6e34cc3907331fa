"""The default response rule: a computer that answers whoever asks for security, and protects what it answers with."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lan_kit import Lan, datagram, echo, segment
from scapy.utils import PcapWriter

from ipsec_core.computer import dynamic
from ipsec_core.driver import Status
from ipsec_core.ike import (
    AuthAlgorithm,
    ChildSa,
    Encapsulation,
    EspTransform,
    QuickModeEstablished,
    QuickModeOffer,
    TrafficSelector,
)
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table
from ipsec_core.sim.wireshark import write_esp_sa

CLIENT, OTHER, SERVER = "10.0.0.1", "10.0.0.3", "10.0.0.2"
KEY = [{"preshared_key": "a key of the lab in place of Kerberos"}]
RESPONSE: dict[str, Any] = {"name": "", "default_response": True, "authentication": KEY}
ICMP_RULE = {"name": "All ICMP Traffic", "filters": [{"source": "me", "destination": "any", "protocol": "icmp"}]}
SECURED = (Status.PROTECTED, Status.PROTECTED)
PERMIT_UDP = {"filters": [{"source": "me", "destination": "any", "protocol": "udp"}], "action": "permit"}


def policy(*rules: dict[str, Any], name: str = "Lab") -> Policy:
    return policy_from_table({"name": name, "rules": list(rules)}, "test")


def response(methods: list[str] | None = None, **changed: Any) -> dict[str, Any]:
    return RESPONSE | ({"action": {"negotiate": methods}} if methods else {}) | changed


def client(*rules: dict[str, Any], **changed: Any) -> Policy:
    """Client (Respond Only), with rules that are added to it."""
    return policy(*rules, response(**changed), name="Client (Respond Only)")


def server(*methods: str, soft: bool = False, **filters: Any) -> Policy:
    """Secure Server (Require Security), or with `soft` Server (Request Security)."""
    action = {
        "negotiate": list(methods or ("ESP[3DES,SHA1]:100000K/900S", "ESP[3DES,MD5]:100000K/900S")),
        "inbound_passthrough": True,
        "allow_unsecured": soft,
    }
    traffic = {"name": "All IP Traffic", "source": "me", "destination": "any"} | filters
    rules = [ICMP_RULE | {"action": "permit"}, RESPONSE, {"filters": [traffic], "action": action}]
    return policy(*({"authentication": KEY} | rule for rule in rules), name="Secure Server (Require Security)")


def blocked(**filters: Any) -> dict[str, Any]:
    return {"filters": [{"source": "me", "destination": "any"} | filters], "action": "block"}


def dynamic_filters(lan: Lan, address: str = CLIENT) -> list[str]:
    """As netdiag has them, of a computer."""
    found = [item for item, _ in lan[address].snapshot(lan.now).filters() if item.name == "<Dynamic>"]
    return [f"{item.flags} {item.source} {item.destination} {item.protocol}" for item in found]


BOTH = [f"Outbound Negotiate {CLIENT}/32 {SERVER}/32 0", f"Inbound Passthrough {SERVER}/32 {CLIENT}/32 0"]


def talk(lan: Lan, here: str = CLIENT) -> None:
    """The client speaks in clear, and the answer of the server is what asks for security."""
    assert lan.send(segment(here, SERVER)) == (Status.NO_FILTER, Status.PASSED_THROUGH)
    held, _ = lan.send(segment(SERVER, here, (80, 1025)))
    assert held is Status.HELD
    assert lan.sent == [Status.HELD, Status.PROTECTED], "what waited has left"
    assert [status for _, status in lan.arrived] == [Status.PROTECTED]


def spis(lan: Lan, address: str) -> set[int]:
    return {item.spi for item in lan[address].associations()}


def events(lan: Lan, address: str = CLIENT) -> list[int]:
    return [event.event_id for event in lan[address].log.events(log="Security")]


@pytest.mark.parametrize("soft", [False, True], ids=["secure server", "server"])
def test_traffic_goes_protected_both_ways_once_the_server_asks(soft: bool) -> None:
    lan = Lan({CLIENT: client(), SERVER: server(soft=soft)})
    talk(lan)
    assert dynamic_filters(lan) == BOTH
    assert dynamic_filters(lan, SERVER) == [], "the server has a filter of its policy"
    for there, back in ((CLIENT, SERVER), (SERVER, CLIENT)):
        for packet in (segment(there, back), datagram(there, back)):
            assert lan.send(packet) == SECURED
            assert lan.arrived[0][0] == bytes(packet)
    assert [item.filter_name for item in lan[CLIENT].associations()] == ["<Dynamic>"] * 2
    assert {item.security for item in lan[CLIENT].associations()} == {"ESP[3DES,SHA1]"}
    assert events(lan) == [541, 541]
    hits = {item.flags: count for item, count in lan[CLIENT].snapshot(lan.now).filters()}
    assert hits == {"Outbound Negotiate": 2, "Inbound Passthrough": 0}, "what SAs let in is not matched"


def test_what_is_in_clear_does_not_begin_a_negotiation() -> None:
    """Between two that only respond, and between one and a computer without a policy, all stays in clear."""
    lan = Lan({CLIENT: client(), OTHER: client(), SERVER: None})
    for here, there in ((CLIENT, OTHER), (OTHER, CLIENT), (CLIENT, SERVER), (SERVER, CLIENT)):
        assert lan.send(segment(here, there)) == (Status.NO_FILTER, Status.NO_FILTER)
    lan.until(600.0)
    assert lan.ike() == 0
    assert dynamic_filters(lan) == []


def test_clear_packets_come_in_as_before() -> None:
    """The rule asks nothing of a peer; that one may have lost its SAs, or permit what the client has to protect."""
    lan = Lan({CLIENT: client(), SERVER: server()})
    talk(lan)
    lan[SERVER].update_policy(lan.now, None)
    lan[SERVER].take_packets()  # its DELETE is lost
    assert lan.send(segment(SERVER, CLIENT)) == (Status.NO_FILTER, Status.PASSED_THROUGH)
    assert lan.send(segment(CLIENT, SERVER)) == (Status.PROTECTED, Status.BAD_SPI), "but what it says is protected"


def test_only_the_traffic_that_was_asked_for() -> None:
    lan = Lan({CLIENT: client(), SERVER: server(protocol="tcp", source_port=80)})
    talk(lan)
    assert dynamic_filters(lan) == [way[:-1] + "6" for way in BOTH]
    assert lan.send(segment(CLIENT, SERVER)) == SECURED
    assert lan.send(segment(CLIENT, SERVER, (80, 1025))) == (Status.NO_FILTER, Status.NO_FILTER)
    assert lan.send(datagram(CLIENT, SERVER)) == (Status.NO_FILTER, Status.NO_FILTER)
    assert lan.send(datagram(SERVER, CLIENT)) == (Status.NO_FILTER, Status.NO_FILTER)
    hosts = [(item.source_port, item.destination_port) for item, _ in lan[CLIENT].snapshot(0.0).filters()]
    assert hosts == [(0, 80), (80, 0)], "mirrored"


def test_icmp_is_permitted_by_the_server() -> None:
    """Nobody negotiates for it. What a client has been asked to protect is all; its pings are answered all the same."""
    lan = Lan({CLIENT: client(), SERVER: server()})
    assert lan.send(echo(CLIENT, SERVER)) == (Status.NO_FILTER, Status.PERMITTED)
    assert lan.send(echo(SERVER, CLIENT)) == (Status.PERMITTED, Status.NO_FILTER)
    assert lan.ike() == 0
    talk(lan)
    assert lan.send(echo(CLIENT, SERVER)) == SECURED
    assert lan.send(echo(SERVER, CLIENT)) == (Status.PERMITTED, Status.PASSED_THROUGH)


def test_icmp_is_permitted_at_both_ends() -> None:
    lan = Lan({CLIENT: client(ICMP_RULE | {"action": "permit"}), SERVER: server()})
    talk(lan)
    for here, there in ((CLIENT, SERVER), (SERVER, CLIENT)):
        assert lan.send(echo(here, there)) == (Status.PERMITTED, Status.PERMITTED), "no dynamic filter comes before it"
    assert lan.send(segment(CLIENT, SERVER)) == SECURED


def test_two_clients() -> None:
    lan = Lan({CLIENT: client(), OTHER: client(), SERVER: server()})
    talk(lan)
    before = spis(lan, CLIENT)
    talk(lan, OTHER)
    assert dynamic_filters(lan) == BOTH
    assert dynamic_filters(lan, OTHER) == [way.replace(CLIENT, OTHER) for way in BOTH]
    assert lan.send(segment(OTHER, CLIENT)) == (Status.NO_FILTER, Status.NO_FILTER), "between the two nobody has asked"
    lan[OTHER].stop(lan.now)
    lan.settle()
    assert (dynamic_filters(lan, OTHER), dynamic_filters(lan)) == ([], BOTH)
    assert spis(lan, CLIENT) == before
    assert lan.send(segment(CLIENT, SERVER)) == SECURED


def test_two_servers_of_one_client() -> None:
    lan = Lan({CLIENT: client(), OTHER: server(), SERVER: server()})
    talk(lan)
    assert lan.send(segment(OTHER, CLIENT))[0] is Status.HELD
    assert len(dynamic_filters(lan)) == 4
    assert len(spis(lan, CLIENT)) == 4
    lan[SERVER].stop(lan.now)
    lan.settle()
    assert dynamic_filters(lan) == [way.replace(SERVER, OTHER) for way in BOTH]
    assert lan.send(segment(CLIENT, OTHER)) == SECURED
    assert lan.send(segment(CLIENT, SERVER)) == (Status.NO_FILTER, Status.NO_FILTER)


@pytest.mark.parametrize("who", [SERVER, CLIENT])
def test_a_rekey_keeps_the_filters(who: str) -> None:
    """Whichever end speaks: the SAs are others, the filters the same, and no packet goes in clear."""
    lan = Lan({CLIENT: client(), SERVER: server()})
    talk(lan)
    before, numbers = spis(lan, CLIENT), [number for number, _ in lan[CLIENT].driver.filter_packets()]
    there = CLIENT if who == SERVER else SERVER
    while lan.now < 2000.0:
        assert lan.send(segment(who, there)) == SECURED
        lan.until(lan.now + 20.0)
    assert lan[CLIENT].counters()["ike_rekeys"] == 2
    assert not spis(lan, CLIENT) & before
    assert dynamic_filters(lan) == BOTH
    assert [number for number, _ in lan[CLIENT].driver.filter_packets()] == numbers


def test_the_client_may_be_the_one_that_rekeys() -> None:
    """With a Main Mode if need be: a filter that a peer asked for is no clear traffic any more."""
    lan = Lan({CLIENT: client(), SERVER: server()})
    for address in (CLIENT, SERVER):
        made = lan[address].service.policy
        assert made is not None
        lan[address].update_policy(0.0, replace(made, key_exchange=replace(made.key_exchange, lifetime_seconds=300)))
    talk(lan)
    lan[SERVER].next_timer = lambda: None  # type: ignore[method-assign]
    while lan.now < 900.0:
        assert lan.send(segment(CLIENT, SERVER)) == SECURED
        lan.until(lan.now + 20.0)
    assert [lan[CLIENT].counters()[f"oakley_{mode}_modes"] for mode in ("main", "quick")] == [2, 2]
    assert dynamic_filters(lan) == BOTH


def test_silence_ends_the_sa_and_its_filters() -> None:
    lan = Lan({CLIENT: client(), SERVER: server()})
    talk(lan)
    lan.until(lan.now + 290.0)
    assert dynamic_filters(lan) == BOTH
    lan.until(lan.now + 20.0)
    assert (lan[CLIENT].driver.sas(), dynamic_filters(lan)) == ([], [])
    assert lan[CLIENT].driver.filter_packets() == []
    wire = len(lan.wire)
    assert lan.send(segment(CLIENT, SERVER)) == (Status.NO_FILTER, Status.PASSED_THROUGH)
    assert len(lan.wire) == wire + 1
    assert lan.send(segment(SERVER, CLIENT))[0] is Status.HELD, "and the server asks anew"
    assert dynamic_filters(lan) == BOTH


def test_the_end_of_a_lifetime_without_a_successor_ends_the_filters() -> None:
    lan = Lan({CLIENT: client(), SERVER: server()})
    talk(lan)
    lan.lost = True
    while lan.now < 1000.0:
        lan.send(segment(CLIENT, SERVER))
        lan.until(lan.now + 20.0)
    assert (lan[CLIENT].driver.sas(), dynamic_filters(lan)) == ([], [])
    assert lan.send(segment(CLIENT, SERVER))[0] is Status.NO_FILTER


@pytest.mark.parametrize("end", ["delete", "policy", "none", "restart", "stop"])
def test_what_ends_the_sas_ends_the_filters(end: str) -> None:
    lan = Lan({CLIENT: client(), SERVER: server()})
    talk(lan)
    computer = lan[CLIENT]
    if end == "delete":
        lan[SERVER].stop(lan.now)
    elif end == "policy":
        computer.update_policy(lan.now, client(PERMIT_UDP))
    elif end == "none":
        computer.update_policy(lan.now, None)
    elif end == "restart":
        computer.restart_agent(lan.now)
    else:
        computer.stop(lan.now)
    lan.settle()
    assert (computer.driver.sas(), dynamic_filters(lan)) == ([], [])
    assert lan[SERVER].associations() == [], "the server has been told"
    assert len(computer.driver.filter_packets()) == (2 if end == "policy" else 0)
    if end in ("policy", "restart"):
        talk(lan)
        assert dynamic_filters(lan) == BOTH


def test_a_pair_that_comes_after_the_policy_has_changed_gets_no_filter() -> None:
    """The number that it was given under the former policy means nothing any more, whatever is held now."""
    lan = Lan({CLIENT: client(), SERVER: server()})
    computer = lan[CLIENT]
    receive = computer.datagram
    left: list[list[object]] = []

    def change(now: float, packet: bytes) -> None:
        if len(left) == 4:  # Main Mode 1, 3, 5 and Quick Mode 1 were there; this is Quick Mode 3
            computer.update_policy(now, client(methods=["ESP[3DES,SHA1]"]))
        receive(now, packet)
        left.append([*computer.driver.sas(), *computer.driver.filter_packets()])

    computer.datagram = change  # type: ignore[method-assign]
    lan.send(segment(SERVER, CLIENT))
    assert [len(each) for each in left[:5]] == [0, 0, 0, 1, 0]
    assert events(lan, SERVER).count(542) == 1, "the server has been told"


# What wins over it, and what it refuses


@pytest.mark.parametrize("action", ["permit", "block"])
def test_a_filter_of_the_policy_is_never_overruled(action: str) -> None:
    """Traffic that a filter speaks of is not for the default response rule; the peer hears that there is no policy."""
    rule = {"filters": [{"source": "me", "destination": SERVER}], "action": action}
    lan = Lan({CLIENT: client(rule), SERVER: server()})
    lan.send(segment(SERVER, CLIENT))
    lan.until(70.0)
    assert dynamic_filters(lan) == []
    assert lan[SERVER].associations() == []
    assert 547 in events(lan, SERVER)
    assert lan.send(segment(CLIENT, SERVER))[0] is (Status.PERMITTED if action == "permit" else Status.BLOCKED)


def test_a_filter_that_blocks_a_part_of_what_would_come_in() -> None:
    """The driver takes what an SA lets in, whatever the filters say of it; so there must not be such an SA."""
    telnet = blocked(protocol="tcp", source_port=23)
    lan = Lan({CLIENT: client(telnet), SERVER: server()})
    lan.send(segment(SERVER, CLIENT))
    assert (dynamic_filters(lan), spis(lan, CLIENT)) == ([], set())
    other = Lan({CLIENT: client(telnet), SERVER: server(protocol="udp")})
    assert other.send(datagram(SERVER, CLIENT))[0] is Status.HELD
    assert len(dynamic_filters(other)) == 2, "UDP has nothing to do with it"


def test_a_permit_filter_for_a_part_wins() -> None:
    lan = Lan({CLIENT: client(PERMIT_UDP), SERVER: server()})
    talk(lan)
    assert lan.send(datagram(CLIENT, SERVER)) == (Status.PERMITTED, Status.PASSED_THROUGH)
    assert lan.send(segment(CLIENT, SERVER)) == SECURED
    flags = [item.flags for item, _ in lan[CLIENT].snapshot(0.0).filters()]
    assert flags == ["Outbound Permit", "Inbound Permit", "Outbound Negotiate", "Inbound Passthrough"]


def test_a_rule_that_negotiates_with_the_peer_goes_before() -> None:
    rule = {
        "name": "UDP",
        "filters": [{"source": "me", "destination": SERVER, "protocol": "udp"}],
        "action": {"negotiate": ["ESP[DES,MD5]"]},
        "authentication": KEY,
    }
    lan = Lan({CLIENT: client(rule), SERVER: server("ESP[3DES,SHA1]", "ESP[DES,MD5]")})
    assert lan.send(datagram(CLIENT, SERVER))[0] is Status.HELD
    assert dynamic_filters(lan) == []
    assert {item.security for item in lan[CLIENT].associations()} == {"ESP[DES,MD5]"}
    lan.until(lan.now + 5.0)
    assert lan.send(segment(SERVER, CLIENT))[0] is Status.HELD
    assert dynamic_filters(lan) == BOTH
    assert sorted({item.filter_name for item in lan[CLIENT].associations()}) == ["<Dynamic>", "UDP"]
    assert lan.send(segment(CLIENT, SERVER)) == SECURED
    names = {item.name: hits for item, hits in lan[CLIENT].snapshot(0.0).filters() if item.direction == "outbound"}
    lan.send(datagram(CLIENT, SERVER))
    after = {item.name: hits for item, hits in lan[CLIENT].snapshot(0.0).filters() if item.direction == "outbound"}
    assert (after["UDP"], after["<Dynamic>"]) == (names["UDP"] + 1, names["<Dynamic>"])


def test_a_peer_that_another_rule_has_authenticated() -> None:
    """Main Mode was done with that rule's key; the default response rule wants its own."""
    rule = {
        "filters": [{"source": "me", "destination": SERVER, "protocol": "udp"}],
        "action": {"negotiate": ["ESP[3DES,SHA1]"]},
        "authentication": KEY,
    }
    lan = Lan({CLIENT: client(rule, authentication=[{"preshared_key": "another"}]), SERVER: server()})
    assert lan.send(segment(SERVER, CLIENT))[0] is Status.HELD
    assert lan[CLIENT].counters()["oakley_main_modes"] == 1
    assert (dynamic_filters(lan), spis(lan, CLIENT)) == ([], set())


@pytest.mark.parametrize(
    "wrong",
    [
        {"authentication": [{"preshared_key": "another"}]},
        {"methods": ["ESP[DES,MD5]", "AH[SHA1]"]},
        {"active": False},
        {"connection_type": "remote_access"},
    ],
    ids=["key", "methods", "not active", "other interfaces"],
)
def test_what_it_does_not_answer(wrong: dict[str, Any]) -> None:
    lan = Lan({CLIENT: client(**wrong), SERVER: server()})
    lan.send(segment(SERVER, CLIENT))
    lan.until(80.0)
    assert (dynamic_filters(lan), lan[CLIENT].driver.sas(), spis(lan, SERVER)) == ([], [], set())


@pytest.mark.parametrize(
    "rule",
    [
        {"filters": [{"source": SERVER, "destination": "10.0.0.0/24"}], "tunnel_endpoint": CLIENT},
        {"filters": [{"source": "10.9.0.0/16", "destination": "any"}], "tunnel_endpoint": CLIENT},
    ],
    ids=["from the host", "for other hosts"],
)
def test_no_tunnels(rule: dict[str, Any]) -> None:
    asking = policy(rule | {"action": {"negotiate": ["ESP[3DES,SHA1]"]}, "authentication": KEY})
    lan = Lan({CLIENT: client(), SERVER: asking})
    source = SERVER if rule["filters"][0]["source"] == SERVER else "10.9.0.1"
    packet = segment(source, CLIENT)
    lan.computers[source] = lan[SERVER]
    assert lan.send(packet)[0] is Status.HELD
    lan.computers.pop("10.9.0.1", None)
    lan.settle()
    assert lan[CLIENT].counters()["oakley_main_modes"] == 1
    assert (dynamic_filters(lan), spis(lan, SERVER)) == ([], set())


def test_nothing_wider_than_the_two_hosts() -> None:
    lan = Lan({CLIENT: client(), SERVER: server()})
    view = lan[CLIENT]._view
    assert view is not None

    def asked(source: str, destination: str, remote: str = SERVER) -> bool:
        selectors = TrafficSelector(IPv4Network(source), IPv4Network(destination))
        return view.quick_mode(CLIENT, remote, selectors) is not None

    assert asked(CLIENT, SERVER)
    assert not asked("10.0.0.0/24", SERVER)
    assert not asked(CLIENT, "10.0.0.0/30")
    assert not asked(CLIENT, OTHER)
    assert not asked(OTHER, SERVER)
    assert asked(CLIENT, OTHER, OTHER)
    assert dynamic_filters(lan) == [], "to ask changes nothing"


def test_an_unauthenticated_peer_changes_nothing() -> None:
    """Filters are those of before after every message but the last one."""
    lan = Lan({CLIENT: client(), SERVER: server()})
    computer = lan[CLIENT]
    receive, held = computer.datagram, []

    def watch(now: float, packet: bytes) -> None:
        receive(now, packet)
        held.append(len(computer.driver.filter_packets()))

    computer.datagram = watch  # type: ignore[method-assign]
    lan.send(segment(SERVER, CLIENT))
    assert held == [0, 0, 0, 0, 2]


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes beyond the limit of a peer, or of all, is refused until something ends."""
    monkeypatch.setattr(dynamic, "MAX_FLOWS_OF_PEER", 2)
    monkeypatch.setattr(dynamic, "MAX_FLOWS", 3)
    asking = [
        {
            "filters": [{"source": "me", "destination": "any", "protocol": "tcp", "source_port": port}],
            "action": {"negotiate": ["ESP[3DES,SHA1]"], "inbound_passthrough": True},
            "authentication": KEY,
        }
        for port in (80, 81, 82)
    ]
    lan = Lan({CLIENT: client(), SERVER: policy(*asking), OTHER: policy(*asking)})

    def ask(here: str, port: int) -> int:
        lan.send(segment(here, CLIENT, (port, 1025)))
        return len(dynamic_filters(lan))

    assert [ask(SERVER, port) for port in (80, 81, 82)] == [2, 4, 4]
    assert [ask(OTHER, port) for port in (80, 81)] == [6, 6]
    lan[SERVER].stop(lan.now)
    lan.settle()
    assert len(dynamic_filters(lan)) == 2
    lan.until(lan.now + 2.0)
    assert ask(OTHER, 81) == 4


def test_the_most_specific_goes_first() -> None:
    """Also when it came last: the server wants its web traffic protected in another way than the rest."""
    web = {
        "filters": [{"source": "me", "destination": "any", "protocol": "tcp", "source_port": 80}],
        "action": {"negotiate": ["ESP[DES,MD5]"], "inbound_passthrough": True},
        "authentication": KEY,
    }
    all_else = server().rules[-1]
    both = Policy("Both", rules=(*policy(web).rules, all_else))
    lan = Lan({CLIENT: client(), SERVER: both})
    assert lan.send(datagram(SERVER, CLIENT))[0] is Status.HELD
    assert lan.send(segment(SERVER, CLIENT, (80, 1025)))[0] is Status.HELD
    assert len(dynamic_filters(lan)) == 4
    lan.send(segment(CLIENT, SERVER, (1025, 80)))
    used = {item.security: item.packets for item in lan[CLIENT].associations() if item.direction == "outbound"}
    assert used == {"ESP[3DES,SHA1]": 0, "ESP[DES,MD5]": 1}


asked = st.tuples(st.sampled_from(["hold", "release"]), st.integers(0, 4), st.sampled_from([0, 6, 17]), st.booleans())


@given(st.lists(asked, max_size=30))
@settings(max_examples=50)
def test_the_driver_has_what_is_held(steps: list[tuple[str, int, int, bool]]) -> None:
    """In order and behind the policy's own filters, however they come and go between two looks."""
    lan = Lan({CLIENT: client(PERMIT_UDP)})
    view, driver = lan[CLIENT]._view, lan[CLIENT].driver
    assert view is not None
    held: dict[tuple[int, int], QuickModeEstablished] = {}
    for step, host, protocol, look in steps:
        remote = f"10.0.1.{host}"
        selectors = TrafficSelector(IPv4Network(CLIENT), IPv4Network(remote), protocol)
        if step == "hold":
            number = view.dynamic.number(remote, selectors)
            assert number is not None
            held[host, protocol] = replace(pair_of(number), remote=remote, selectors=selectors)
            assert view.takes(held[host, protocol])
        elif (host, protocol) in held:
            view.dynamic.release(held.pop((host, protocol)))
        if look:
            view.change_filters(driver)
            assert [number for number, _ in driver.filter_packets()] == list(view.all_filters())
    view.change_filters(driver)
    assert [number for number, _ in driver.filter_packets()] == list(view.all_filters())
    found = list(view.all_filters().values())
    assert [item.name for item in found[2:]] == ["<Dynamic>"] * 2 * len(held)
    assert [item.protocol == 0 for item in found[2:]] == sorted(item.protocol == 0 for item in found[2:])


def pair_of(number: int) -> QuickModeEstablished:
    """A pair with that reference; of the rest only what a test puts in means anything."""
    offer = QuickModeOffer(EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_SHA1, Encapsulation.TRANSPORT)
    selectors = TrafficSelector(IPv4Network(CLIENT), IPv4Network(SERVER))
    sa = (ChildSa(number, b"", b"", b""),)
    fields = (0.0, CLIENT, SERVER, False, selectors, number, (), offer, sa, sa, 900, 100_000)
    return QuickModeEstablished(*fields, offer.encapsulation, None, None)


def test_negotiations_that_end_together_are_bounded_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "MAX_FLOWS_OF_PEER", 2)
    view = Lan({CLIENT: client()})[CLIENT]._view
    assert view is not None
    pairs = []
    for protocol in (6, 17, 47):
        selectors = TrafficSelector(IPv4Network(CLIENT), IPv4Network(SERVER), protocol)
        pairs.append(replace(pair_of(view.dynamic.number(SERVER, selectors) or 0), selectors=selectors))
    assert [view.takes(pair) for pair in pairs] == [True, True, False]
    assert not view.takes(pair_of(dynamic.FIRST_NUMBER - 2)), "no number of its own"
    assert len(view.all_filters()) == 4


def test_tshark_reads_what_both_ends_sent(tmp_path: Path) -> None:
    lan = Lan({CLIENT: client(), SERVER: server()})
    talk(lan)
    lan.wire.clear()
    text = b"what nobody is to read"
    for here, there in ((CLIENT, SERVER), (SERVER, CLIENT)):
        assert lan.send(datagram(here, there, (1025, 9999), text)) == SECURED
    assert not any(text in packet for packet in lan.wire)
    with PcapWriter(str(tmp_path / "wire.pcap"), linktype=101) as out:
        for packet in lan.wire:
            out.write(packet)
    write_esp_sa(tmp_path / "esp_sa", (record for made in lan.computers.values() for record in made.keys))
    wanted = ("esp.icv_good", "ip.src", "udp.dstport", "udp.payload")
    command = ["tshark", "-r", "wire.pcap", "-T", "fields", *(word for field in wanted for word in ("-e", field))]
    switches = ("esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE")
    command += [word for switch in switches for word in ("-o", switch)]
    environment = os.environ | {"WIRESHARK_CONFIG_DIR": str(tmp_path)}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in shown.splitlines()]
    assert [(row[0] in ("1", "True"), *row[1:]) for row in rows] == [
        (True, here, "9999", text.hex()) for here in (CLIENT, SERVER)
    ]
