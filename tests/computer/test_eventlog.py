"""Event logs: layout of the audits, gating by the audit policy, the events of KB 257225."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest

from ipsec_core.computer import eventlog
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.eventlog import MESSAGES, SCHEMA, EventLog
from ipsec_core.ike.failures import FailureReason
from ipsec_core.policy.methods import Confidentiality, Integrity

BOTH = AuditPolicy.from_table({"logon_events": ["success", "failure"]}, "x")
FILTER = eventlog.filter_lines(IPv4Network("10.0.0.1/32"), IPv4Network("10.0.2.0/24"), 6, 0, 80)
PEER = eventlog.preshared_key_identity("10.0.0.2")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    yield connection
    connection.close()


def test_quick_mode_541(connection: sqlite3.Connection) -> None:
    parameters = eventlog.quick_mode_parameters("3DES", "SHA1", "", False, 0x1001, 0x2002, 3600, 100_000)
    event = EventLog(connection, "ALICE", BOTH).report(
        1.25, "Security", 541, eventlog.quick_mode_established(PEER, FILTER, parameters)
    )
    assert event is not None
    assert (event.log, event.type, event.category, event.computer) == (
        "Security",
        "Success Audit",
        "Logon/Logoff",
        "ALICE",
    )
    assert event.text.splitlines()[1:] == [
        "Mode:",
        "Data Protection Mode (Quick Mode)",
        "Peer Identity:",
        "Preshared key ID.",
        "Peer IP Address: 10.0.0.2",
        "Filter:",
        "Source IP Address 10.0.0.1",
        "Source IP Address Mask 255.255.255.255",
        "Destination IP Address 10.0.2.0",
        "Destination IP Address Mask 255.255.255.0",
        "Protocol 6",
        "Source Port 0",
        "Destination Port 80",
        "Parameters:",
        "ESP Algorithm Triple DES CBC",
        "HMAC Algorithm SHA",
        "AH Algorithm None",
        "Encapsulation Transport Mode",
        "InboundSpi 4097",
        "OutBoundSpi 8194",
        "Lifetime (sec) 3600",
        "Lifetime (kb) 100000",
    ]


def test_main_mode_541(connection: sqlite3.Connection) -> None:
    parameters = eventlog.main_mode_parameters("DES", "MD5", 28800)
    event = EventLog(connection, "ALICE", BOTH).report(
        0.0, "Security", 541, eventlog.main_mode_established(PEER, FILTER, parameters)
    )
    assert event is not None
    assert event.strings[0] == "Key Exchange Mode (Main Mode)"
    assert event.strings[3] == "ESP Algorithm DES CBC\nHMAC Algorithm MD5\nLifetime (sec) 28800"


@pytest.mark.parametrize(
    ("event_id", "strings", "labels"),
    [
        (542, eventlog.quick_mode_ended(FILTER, 0, 0), ["Filter:", "Inbound SPI:", "Outbound SPI:"]),
        (543, eventlog.main_mode_ended(FILTER), ["Filter:"]),
        (544, eventlog.authentication_failed(PEER, FILTER), ["Peer Identity:", "Filter:"]),
        (545, eventlog.authentication_failed(PEER, FILTER), ["Peer Identity:", "Filter:"]),
        (
            546,
            eventlog.invalid_proposal(eventlog.MAIN_MODE, FILTER, "Phase I Hash Algorithm", "SHA", "MD5"),
            ["Mode:", "Filter:", "Attribute:", "Expected value:", "Received value:"],
        ),
        (
            547,
            eventlog.negotiation_failed(eventlog.MAIN_MODE, FILTER, True, 0x32D),
            ["Mode:", "Filter:", "Failure Point:", "Failure Reason:"],
        ),
    ],
)
def test_labels_and_outcome(
    connection: sqlite3.Connection, event_id: int, strings: tuple[str, ...], labels: list[str]
) -> None:
    event = EventLog(connection, "ALICE", BOTH).report(0.0, "Security", event_id, strings)
    assert event is not None
    lines = event.text.splitlines()
    assert [line for line in lines if line.endswith(":")] == labels
    for label, string in zip(labels, strings, strict=True):
        assert f"{label}\n{string}" in event.text
    assert event.type == ("Failure Audit" if event_id >= 544 else "Success Audit")


def test_547_says_where_and_why() -> None:
    assert eventlog.negotiation_failed(eventlog.QUICK_MODE, FILTER, False, 0x322)[2:] == (
        "Peer",
        "IKE security attributes are unacceptable",
    )
    assert eventlog.negotiation_failed(eventlog.QUICK_MODE, FILTER, True, 0x999)[3] == "0x999"


def test_failure_reasons_are_those_of_ike() -> None:
    assert set(eventlog.FAILURE_REASONS) == {int(reason) for reason in FailureReason}


def test_other_identities() -> None:
    assert eventlog.kerberos_identity("bob$@LAB", "10.0.0.2").splitlines()[-1] == "Peer IP Address: 10.0.0.2"
    assert len(eventlog.certificate_identity("CN=b", "CN=i", "CN=r", "10.0.0.2").splitlines()) == 5


def test_algorithm_words() -> None:
    for item in (*Confidentiality, *Integrity):
        assert (item.text in eventlog.ALGORITHM_LABELS) is item.windows_2000
    assert "ESP Algorithm AES-128-GCM" in eventlog.quick_mode_parameters("AES-128-GCM", "", "", True, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("outcomes", "seen"),
    [([], []), (["success"], [541, 542, 543]), (["failure"], [544, 545, 546, 547]), (["success", "failure"], None)],
)
def test_only_audited_outcomes_are_logged(
    connection: sqlite3.Connection, outcomes: list[str], seen: list[int] | None
) -> None:
    log = EventLog(
        connection, "A", AuditPolicy.from_table({"logon_events": outcomes, "object_access": ["success"]}, "")
    )
    audits = [event_id for source, event_id in MESSAGES if source == "Security"]
    for event_id in audits:
        strings = ("x",) * len(MESSAGES["Security", event_id].labels)
        filed = log.report(0.0, "Security", event_id, strings)
        assert (filed is not None) is (event_id in (audits if seen is None else seen))
    assert [event.event_id for event in log.events()] == (audits if seen is None else seen)


def test_other_logs_need_no_audit_policy(connection: sqlite3.Connection) -> None:
    log = EventLog(connection, "BOB")
    log.report(0.0, "PolicyAgent", 279, ("Updating IPsec Policy.", "No IPsec {policy} is in effect."))
    log.report(1.0, "PolicyAgent", 284, ("lab.example", "no answer"))
    log.report(2.0, "Oakley", 542)
    log.report(3.0, "IPSEC", 4283, eventlog.dropped_packets(7, "10.0.0.1"), user="SYSTEM")
    log.report(4.0, "IPSEC", 4289, eventlog.no_filter("10.0.0.9"))
    found = log.events()
    assert [(event.time, event.log, event.type) for event in found] == [
        (0.0, "System", "Information"),
        (1.0, "System", "Error"),
        (2.0, "Application", "Warning"),
        (3.0, "System", "Error"),
        (4.0, "System", "Error"),
    ]
    assert {event.category for event in found} == {"None"}
    assert found[0].text == "Updating IPsec Policy.\nNo IPsec {policy} is in effect."
    assert "lab.example" in found[1].text
    assert found[3].text.startswith("\\Device\\IPSEC received 7 packet(s) with a bad Security Parameters Index")
    assert found[3].text.endswith("from 10.0.0.1.")
    assert (found[3].user, found[4].user) == ("SYSTEM", None)
    assert "10.0.0.9" in found[4].text


def test_search(connection: sqlite3.Connection) -> None:
    log = EventLog(connection, "BOB", BOTH)
    log.report(0.0, "Oakley", 541)
    log.report(0.0, "Security", 541, ("a", "b", "c", "d"))
    log.report(0.0, "IPSEC", 4283, eventlog.dropped_packets(1, "10.0.0.1"))
    assert [event.source for event in log.events(event_id=541)] == ["Oakley", "Security"]
    assert [event.source for event in log.events("Security", event_id=541)] == ["Security"]
    assert [event.event_id for event in log.events(event_id=4268)] == [4283]
    assert [event.event_id for event in log.events(source="Oakley")] == [541]


@pytest.mark.parametrize("key", sorted(MESSAGES))
def test_every_message_renders_and_wrong_strings_are_refused(key: tuple[str, int]) -> None:
    message = MESSAGES[key]
    count = len(message.labels) or 3
    text = message.render(("one", "two", "three", "four", "five")[:count])
    assert text
    assert "{" not in text
    if message.labels:
        with pytest.raises(ValueError, match="strings for"):
            message.render(())


def test_the_oldest_give_way(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog, "MAXIMUM_EVENTS", 5)
    log = eventlog.EventLog(connection, "ALICE")
    for number in range(12):
        log.report(float(number), "PolicyAgent", 279, ("In effect.",))
    assert [event.time for event in log.events()] == [7.0, 8.0, 9.0, 10.0, 11.0]
