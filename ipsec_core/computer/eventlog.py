"""The event logs of one computer: Security, System and Application, with the events of KB 257225.

A record keeps the insertion strings and the text made of them. For audits 541 to 547 the labels, their order and the
layout (each label on its own line, its value on the lines below) are those of Windows 2000; the sentences are our own.
The functions at the end build the insertion strings from plain values; `EventLog.report` files them and leaves out what
the audit policy does not ask for.

Two numbers differ from the article, as the shipped message tables have them: its "event 4268" for bad SPIs is 4283, and
the PolicyAgent source writes to the System log. Searching for 4268 finds 4283.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Literal

from ipsec_core.computer.audit import AuditPolicy

Log = Literal["Security", "System", "Application"]
EventType = Literal["Information", "Warning", "Error", "Success Audit", "Failure Audit"]
Strings = tuple[str, ...]

MAXIMUM_EVENTS = 20_000
"""So many a computer keeps, the newest: a log of Windows 2000 has a maximum size, too, and loses its oldest."""

EVENT_ALIASES = {4268: 4283}
"""Event numbers of KB 257225 that the shipped system logs under another one."""

SCHEMA = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    log TEXT NOT NULL,
    source TEXT NOT NULL,
    event_id INTEGER NOT NULL,
    type TEXT NOT NULL,
    category TEXT NOT NULL,
    user TEXT,
    computer TEXT NOT NULL,
    strings TEXT NOT NULL,
    text TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One record; `time` in seconds, `user` None is shown as N/A."""

    time: float
    log: Log
    source: str
    event_id: int
    type: EventType
    category: str
    user: str | None
    computer: str
    strings: Strings
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """How an event is logged. `labels` take one string each; without them the strings fill `text`, or follow it."""

    log: Log
    type: EventType
    text: str
    labels: tuple[str, ...] = ()

    @property
    def category(self) -> str:
        return "Logon/Logoff" if self.log == "Security" else "None"

    def render(self, strings: Strings) -> str:
        if not self.labels:
            return self.text.format(*strings, all="\n".join(strings))
        if len(strings) != len(self.labels):
            raise ValueError(f"{len(strings)} strings for {len(self.labels)} labels")
        lines = [f"{label}:\n{string}" for label, string in zip(self.labels, strings, strict=True)]
        return "\n".join((self.text, *lines))


def _success(text: str, *labels: str) -> Message:
    return Message("Security", "Success Audit", text, labels)


def _failure(text: str, *labels: str) -> Message:
    return Message("Security", "Failure Audit", text, labels)


def _driver(text: str) -> Message:
    return Message("System", "Error", text)


MESSAGES: Mapping[tuple[str, int], Message] = {
    ("Security", 541): _success(
        "IKE established a security association.", "Mode", "Peer Identity", "Filter", "Parameters"
    ),
    ("Security", 542): _success(
        "An IPsec security association has ended (Data Protection).", "Filter", "Inbound SPI", "Outbound SPI"
    ),
    ("Security", 543): _success("An IKE security association has ended (Key Exchange).", "Filter"),
    ("Security", 544): _failure(
        "IKE gave up: no trust could be established in the certificate of the peer.", "Peer Identity", "Filter"
    ),
    ("Security", 545): _failure("IKE gave up: the peer could not be authenticated.", "Peer Identity", "Filter"),
    ("Security", 546): _failure(
        "IKE gave up: the peer sent a proposal that the policy does not allow.",
        "Mode",
        "Filter",
        "Attribute",
        "Expected value",
        "Received value",
    ),
    ("Security", 547): _failure(
        "IKE could not negotiate a security association.", "Mode", "Filter", "Failure Point", "Failure Reason"
    ),
    ("PolicyAgent", 279): Message("System", "Information", "{all}"),
    ("PolicyAgent", 284): Message(
        "System", "Error", "The Policy Agent cannot contact Active Directory for the domain {0}: {1}"
    ),
    ("PolicyAgent", 308): Message("System", "Error", "{all}"),
    ("Oakley", 507): Message(
        "Application",
        "Information",
        "IKE found no Kerberos credentials of this computer. It goes on without Kerberos authentication.",
    ),
    ("Oakley", 541): Message(
        "Application",
        "Warning",
        "This export version cannot generate key material of domestic strength; export strength is used.",
    ),
    ("Oakley", 542): Message(
        "Application",
        "Warning",
        "This export version cannot encrypt stronger than DES. DES is offered instead of 3DES.",
    ),
    ("IPSEC", 4281): _driver("The IPsec driver could not start: resources are not available."),
    ("IPSEC", 4282): _driver("The IPsec driver could not create the device {0}."),
    ("IPSEC", 4283): _driver("{0} received {1} packet(s) with a bad Security Parameters Index (SPI) from {2}."),
    ("IPSEC", 4284): _driver("{0} received {1} packet(s) in the clear from {2} that should have been secured."),
    ("IPSEC", 4285): _driver("{0} could not verify the hash of {1} packet(s) from {2}."),
    ("IPSEC", 4286): _driver("{0} received {1} packet(s) with an invalid packet syntax from {2}."),
    ("IPSEC", 4287): _driver("{0} received {1} packet(s) with a wrong protocol identifier from {2}."),
    ("IPSEC", 4288): _driver("{0} failed to process {1} packet(s) from {2} for an unknown reason."),
    ("IPSEC", 4289): _driver("{0} could not ask for security with {1}: no filter protects packets to it."),
}
"""All events by (source, event id)."""

_COLUMNS = "time, log, source, event_id, type, category, user, computer, strings, text"


class EventLog:
    """One computer's logs on an SQLite connection, of a file or in memory, that has `SCHEMA`."""

    def __init__(self, connection: sqlite3.Connection, computer: str, audit: AuditPolicy | None = None) -> None:
        self.computer = computer
        self.audit = audit or AuditPolicy()
        self._connection = connection

    def report(
        self, time: float, source: str, event_id: int, strings: Strings = (), user: str | None = None
    ) -> Event | None:
        """File an event of `MESSAGES`; None when it is an audit that the audit policy leaves out."""
        message = MESSAGES[source, event_id]
        if message.log == "Security" and not self.audit.audits("logon_events", message.type == "Success Audit"):
            return None
        event = Event(
            time,
            message.log,
            source,
            event_id,
            message.type,
            message.category,
            user,
            self.computer,
            strings,
            message.render(strings),
        )
        added = self._connection.execute(
            f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.time,
                event.log,
                event.source,
                event.event_id,
                event.type,
                event.category,
                event.user,
                event.computer,
                json.dumps(event.strings),
                event.text,
            ),
        )
        last = added.lastrowid or 0
        self._connection.execute("DELETE FROM events WHERE number <= ?", (last - MAXIMUM_EVENTS,))
        return event

    def events(
        self, log: Log | None = None, source: str | None = None, event_id: int | None = None
    ) -> tuple[Event, ...]:
        """The records of one log, source and number, or of all, in the order in which they came."""
        wanted = {"log": log, "source": source, "event_id": EVENT_ALIASES.get(event_id or 0, event_id)}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1"
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY number", tuple(given.values())
        )
        return tuple(Event(*(*row[:8], tuple(json.loads(row[8])), row[9])) for row in rows)


# ---- blocks of the audits -------------------------------------------------------------------------------------------

MAIN_MODE = "Key Exchange Mode (Main Mode)"
QUICK_MODE = "Data Protection Mode (Quick Mode)"

ALGORITHM_LABELS = {
    "": "None",
    "NULL": "NULL",
    "DES": "DES CBC",
    "3DES": "Triple DES CBC",
    "MD5": "MD5",
    "SHA1": "SHA",
}
"""Windows 2000's words in audits for the algorithm names of a policy; an algorithm it does not know keeps its name."""

FAILURE_REASONS = {
    0x321: "IKE authentication credentials are unacceptable",
    0x322: "IKE security attributes are unacceptable",
    0x323: "IKE negotiation is in progress",
    0x324: "General processing error",
    0x325: "Negotiation timed out",
    0x326: "No valid machine certificate was found",
    0x327: "The peer deleted the IKE security association before it was complete",
    0x328: "The IKE security association was deleted before it was complete",
    0x329: "The request waited too long for Main Mode",
    0x32A: "The request waited too long for Quick Mode",
    0x32B: "The Main Mode message waited too long in the queue",
    0x32C: "The message waited too long in the queue",
    0x32D: "No response from the peer",
    0x32E: "Main Mode took too long",
    0x32F: "Quick Mode took too long",
    0x331: "The certificate revocation check failed",
    0x332: "The certificate has the wrong key usage",
    0x333: "The certificate is of the wrong type",
    0x334: "There is no private key for the machine certificate",
    0x336: "The Diffie-Hellman computation failed",
    0x338: "Invalid header",
    0x339: "No policy is configured",
    0x33A: "The signature could not be verified",
    0x33B: "Kerberos authentication failed",
    0x33C: "The certificate of the peer has no public key",
    0x33D: "Error in a payload",
    0x33E: "Error in the SA payload",
    0x33F: "Error in the proposal payload",
    0x340: "Error in the transform payload",
    0x341: "Error in the key exchange payload",
    0x342: "Error in the ID payload",
    0x343: "Error in the certificate payload",
    0x344: "Error in the certificate request payload",
    0x345: "Error in the hash payload",
    0x346: "Error in the signature payload",
    0x347: "Error in the nonce payload",
    0x348: "Error in the notify payload",
    0x349: "Error in the delete payload",
    0x34A: "Error in the vendor payload",
    0x34B: "Invalid payload received",
    0x34C: "A soft security association was loaded",
    0x34D: "A soft security association was torn down",
    0x34E: "Invalid cookie received",
    0x34F: "The peer sent no valid machine certificate",
    0x350: "The certificate revocation check of the peer failed",
    0x351: "A new policy invalidated the security associations",
}
"""Failure Reason of audit 547 by status code (the numbers of Oakley; Win32 13801 to 13849 in the same order)."""


def filter_lines(
    source: IPv4Network, destination: IPv4Network, protocol: int, source_port: int, destination_port: int
) -> str:
    """The seven lines of a Filter block."""
    return "\n".join(
        (
            f"Source IP Address {source.network_address}",
            f"Source IP Address Mask {source.netmask}",
            f"Destination IP Address {destination.network_address}",
            f"Destination IP Address Mask {destination.netmask}",
            f"Protocol {protocol}",
            f"Source Port {source_port}",
            f"Destination Port {destination_port}",
        )
    )


def preshared_key_identity(address: str) -> str:
    """Peer Identity of a peer that authenticates by preshared key."""
    return f"Preshared key ID.\nPeer IP Address: {address}"


def kerberos_identity(name: str, address: str) -> str:
    return f"Kerberos based Identity: {name}\nPeer IP Address: {address}"


def certificate_identity(subject: str, issuing_ca: str, root_ca: str, address: str) -> str:
    return "\n".join(
        (
            "Certificate based Identity.",
            f"Peer Subject {subject}",
            f"Peer Issuing Certificate Authority {issuing_ca}",
            f"Peer Root Certificate Authority {root_ca}",
            f"Peer IP Address: {address}",
        )
    )


def main_mode_parameters(esp: str, hmac: str, lifetime_seconds: int) -> str:
    """Parameters of a Main Mode SA; algorithms by their policy names ("3DES", "SHA1")."""
    return "\n".join(
        (
            f"ESP Algorithm {_label(esp)}",
            f"HMAC Algorithm {_label(hmac)}",
            f"Lifetime (sec) {lifetime_seconds}",
        )
    )


def quick_mode_parameters(
    esp: str,
    hmac: str,
    ah: str,
    tunnel: bool,
    inbound_spi: int,
    outbound_spi: int,
    lifetime_seconds: int,
    lifetime_kilobytes: int,
) -> str:
    """Parameters of a Quick Mode SA; algorithms by their policy names, "" for none."""
    return "\n".join(
        (
            f"ESP Algorithm {_label(esp)}",
            f"HMAC Algorithm {_label(hmac)}",
            f"AH Algorithm {_label(ah)}",
            f"Encapsulation {'Tunnel Mode' if tunnel else 'Transport Mode'}",
            f"InboundSpi {inbound_spi}",
            f"OutBoundSpi {outbound_spi}",
            f"Lifetime (sec) {lifetime_seconds}",
            f"Lifetime (kb) {lifetime_kilobytes}",
        )
    )


def _label(algorithm: str) -> str:
    return ALGORITHM_LABELS.get(algorithm, algorithm)


# ---- insertion strings by event -------------------------------------------------------------------------------------


def main_mode_established(peer_identity: str, filter_block: str, parameters: str) -> Strings:
    """Security 541 for an IKE SA."""
    return (MAIN_MODE, peer_identity, filter_block, parameters)


def quick_mode_established(peer_identity: str, filter_block: str, parameters: str) -> Strings:
    """Security 541 for a hard IPsec SA; soft ones are not audited (KB 257225)."""
    return (QUICK_MODE, peer_identity, filter_block, parameters)


def quick_mode_ended(filter_block: str, inbound_spi: int, outbound_spi: int) -> Strings:
    """Security 542, for a hard SA or a soft one (SPIs 0)."""
    return (filter_block, str(inbound_spi), str(outbound_spi))


def main_mode_ended(filter_block: str) -> Strings:
    """Security 543."""
    return (filter_block,)


def authentication_failed(peer_identity: str, filter_block: str) -> Strings:
    """Security 545, and 544 where the certificate is not trusted."""
    return (peer_identity, filter_block)


def invalid_proposal(mode: str, filter_block: str, attribute: str, expected: str, received: str) -> Strings:
    """Security 546."""
    return (mode, filter_block, attribute, expected, received)


def negotiation_failed(mode: str, filter_block: str, failed_at_me: bool, reason: int) -> Strings:
    """Security 547; `reason` is a code of `FAILURE_REASONS`."""
    return (mode, filter_block, "Me" if failed_at_me else "Peer", FAILURE_REASONS.get(reason, f"{reason:#x}"))


def dropped_packets(count: int, peer: str, device: str = "\\Device\\IPSEC") -> Strings:
    """IPSEC 4283 to 4288: one event for `count` packets of one peer."""
    return (device, str(count), peer)


def no_filter(peer: str, device: str = "\\Device\\IPSEC") -> Strings:
    """IPSEC 4289."""
    return (device, peer)
