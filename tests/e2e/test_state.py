"""What the computers of the main job remember (audits, counters, SAs), against the link decrypted by tshark."""

from __future__ import annotations

import pytest
from link_oracles import ALICE, BOB, CLIENT, COMPUTERS, SERVER, Lab

from ipsec_core.computer.eventlog import Event
from ipsec_core.computer.state import State

BOTH = pytest.mark.parametrize(("name", "own", "peer"), [("ALICE", ALICE, BOB), ("BOB", BOB, ALICE)], ids=COMPUTERS)


def security_log(lab: Lab, name: str) -> tuple[Event, ...]:
    with State.open(lab.folder / name) as state:
        return state.event_log().events(log="Security")


def filter_block(source: str, destination: str) -> list[str]:
    return [
        f"Source IP Address {source}",
        "Source IP Address Mask 255.255.255.255",
        f"Destination IP Address {destination}",
        "Destination IP Address Mask 255.255.255.255",
        "Protocol 0",
        "Source Port 0",
        "Destination Port 0",
    ]


@BOTH
def test_audit_541_of_main_mode_and_quick_mode(lab: Lab, name: str, own: str, peer: str) -> None:
    """Labels and blocks: the message tables of Windows 2000 (msaudite, oakley)."""
    main, quick = security_log(lab, name)
    for event in (main, quick):
        assert (event.event_id, event.type, event.category) == (541, "Success Audit", "Logon/Logoff")
        assert (event.log, event.source, event.computer) == ("Security", "Security", name)
    assert 0 < main.time <= quick.time
    peer_identity = ["Peer Identity:", "Preshared key ID.", f"Peer IP Address: {peer}"]
    assert main.text.splitlines()[1:] == [
        *("Mode:", "Key Exchange Mode (Main Mode)"),
        *peer_identity,
        *("Filter:", *filter_block(own, peer)),
        *("Parameters:", "ESP Algorithm Triple DES CBC", "HMAC Algorithm SHA", "Lifetime (sec) 28800"),
    ]
    office = {ALICE: CLIENT, BOB: SERVER}
    ends = (office[own], office[peer]) if lab.tunnel else (own, peer)
    assert quick.text.splitlines()[1:-8] == [
        *("Mode:", "Data Protection Mode (Quick Mode)"),
        *peer_identity,
        *("Filter:", *filter_block(*ends)),
        "Parameters:",
    ]
    # Windows 2000 had no word for AES-GCM.
    esp, hmac = {"3DES": ("Triple DES CBC", "SHA"), "AES-GCM": ("AES-128-GCM", "None")}[lab.cipher]
    assert quick.text.splitlines()[-8:] == [
        f"ESP Algorithm {esp}",
        f"HMAC Algorithm {hmac}",
        "AH Algorithm None",
        f"Encapsulation {'Tunnel' if lab.tunnel else 'Transport'} Mode",
        f"InboundSpi {lab.sas[peer].spi}",
        f"OutBoundSpi {lab.sas[own].spi}",
        "Lifetime (sec) 3600",
        "Lifetime (kb) 100000",
    ]


def test_no_audit_without_the_audit_policy(unaudited: Lab) -> None:
    assert security_log(unaudited, "ALICE") == ()
    assert [event.event_id for event in security_log(unaudited, "BOB")] == [541, 541]
    assert unaudited.result["computers"]["ALICE"]["oakley_statistics"]["oakley_quick_modes"] == 1


@BOTH
def test_both_boxes_of_the_monitor(lab: Lab, name: str, own: str, peer: str) -> None:
    sent, received = (sum(map(len, lab.contained(sender))) for sender in (own, peer))
    assert min(sent, received) > 500_000
    computer = lab.result["computers"][name]
    assert computer["ipsec_statistics"] == {
        "active_associations": 2,
        "confidential_bytes_sent": sent,
        "confidential_bytes_received": received,
        "authenticated_bytes_sent": sent,
        "authenticated_bytes_received": received,
        "bad_spi_packets": 0,
        "packets_not_decrypted": 0,
        "packets_not_authenticated": 0,
        "key_additions": 2,
    }
    assert computer["oakley_statistics"] == {
        "oakley_main_modes": 1,
        "oakley_quick_modes": 1,
        "soft_associations": 0,
        "authentication_failures": 0,
    }


@BOTH
def test_counters_of_packets(lab: Lab, name: str, own: str, peer: str) -> None:
    counters = lab.result["computers"][name]["counters"]
    ike = [row["ip.src"][0] for row in lab.ike_rows]
    assert counters["out_protected"] == len(lab.contained(own))
    assert counters["in_protected"] == len(lab.contained(peer))
    assert (counters["ike_sent"], counters["ike_received"]) == (ike.count(own), ike.count(peer))
    assert counters["out_exempt"] == counters["ike_sent"]
    assert counters["in_exempt"] == counters["ike_received"]
    assert counters["packets_held"] == (1 if own == ALICE else 0)
    others = {key for key in counters if key.startswith(("out_", "in_"))} - {"out_held"}
    assert others == {"out_protected", "out_exempt", "in_protected", "in_exempt"}


@BOTH
def test_the_state_directory_says_the_same(lab: Lab, name: str, own: str, peer: str) -> None:
    computer = lab.result["computers"][name]
    with State.open(lab.folder / name) as state:
        kept, associations = state.counters(), state.associations()
    for box in ("ipsec_statistics", "oakley_statistics"):
        assert {key: kept[key] for key in computer[box]} == computer[box]
    assert {(item.direction, item.spi, item.packets, item.bytes) for item in associations} == {
        (direction, lab.sas[sender].spi, len(lab.contained(sender)), sum(map(len, lab.contained(sender))))
        for direction, sender in (("outbound", own), ("inbound", peer))
    }
    assert len(associations) == computer["ipsec_statistics"]["active_associations"]
