"""The list of events: header line, labels, filters, and why a Security log may be empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LISTING = r"""0.000000 s  Information  PolicyAgent  None  279  ALICE
    An IPsec policy is in effect.

0.250000 s  Success Audit  Security  Logon/Logoff  541  ALICE
    IKE established a security association.
    Mode:
    Key Exchange Mode (Main Mode)
    Peer Identity:
    Preshared key ID.
    Peer IP Address: 10.0.0.2
    Filter:
    Source IP Address x
    Parameters:
    ESP Algorithm Triple DES CBC
    HMAC Algorithm SHA
    Lifetime (sec) 28800

1.500000 s  Error  IPSEC  None  4283  ALICE
    \Device\IPSEC received 7 packet(s) with a bad Security Parameters Index (SPI) from 10.0.0.2.

"""
EMPTY = (
    "The Security log of BOB is empty: nothing was audited "
    "(the audit policy decides what is: Audit logon events, Success and Failure).\n"
)


def test_all_events(call: Any, alice: Path) -> None:
    assert call("events", alice).stdout == LISTING


def test_one_log_or_number(call: Any, alice: Path) -> None:
    for words, number in (
        (("--log", "Security"), "541"),
        (("--log", "security"), "541"),
        (("--id", "279"), "279"),
        (("--id", "4268"), "4283"),
        (("--log", "System", "--id", "4283"), "4283"),
    ):
        headers = [line for line in call("events", alice, *words).stdout.splitlines() if " s  " in line]
        assert [header.split("  ")[4] for header in headers] == [number]


def test_nothing_found_is_said(call: Any, alice: Path) -> None:
    assert call("events", alice, "--log", "Application").stdout == (
        "There is no event in the Application log of ALICE.\n"
    )
    assert call("events", alice, "--id", "547").stdout == "There is no event 547 in the logs of ALICE.\n"


def test_an_empty_security_log_is_explained(call: Any, bob: Path) -> None:
    assert call("events", bob).stdout == EMPTY
    assert call("events", bob, "--log", "Security").stdout == EMPTY
    assert call("events", bob, "--id", "541").stdout == EMPTY
    assert call("events", bob, "--log", "System").stdout == "There is no event in the System log of BOB.\n"


def test_json(call: Any, alice: Path, bob: Path) -> None:
    document = json.loads(call("events", alice, "--json").stdout)
    assert document["computer"] == "ALICE"
    assert [event["event_id"] for event in document["events"]] == [279, 541, 4283]
    event = document["events"][1]
    assert list(event) == [
        "time", "log", "source", "event_id", "type", "category", "user", "computer", "strings", "text",
    ]  # fmt: skip
    assert (event["time"], event["log"], event["user"]) == (0.25, "Security", None)
    assert json.loads(call("events", bob, "--json").stdout) == {"computer": "BOB", "events": []}


def test_wrong_words(refused: Callable[..., str], alice: Path) -> None:
    line = refused("events", alice, "--log", "Setup")
    assert all(word in line.lower() for word in ("'setup'", "security", "system", "application"))
    assert "'--id'" in refused("events", alice, "--id", "x")
