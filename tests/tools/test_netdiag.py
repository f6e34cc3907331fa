"""netdiag /test:ipsec: the layout of KB 813878 and its switches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.computer.state import State

FIRST_FILTER = """\
    to BOB
        Filter Id: {FILTER}
        Policy Id: {POLICY}
        Src Addr : 10.0.0.1         Src Mask : 255.255.255.255
        Dest Addr : 10.0.0.2         Dest Mask : 255.255.255.255
        Tunnel Addr : 0.0.0.0  Src Port : 0  Dest Port : 0
        Protocol : 0  TunnelFilter: No
        Flags : Outbound Negotiate
        Packets : 0
"""
BASIC = """\
IP Security test . . . . . . . . . : Passed
    Local IPSec Policy Active: 'Lab [policy]'
    IP Security Policy Path: SOFTWARE\\Policies\\Microsoft\\Windows\\IPSec\\Policy\\Local\\ipsecPolicy{POLICY}

    There are 4 filters
"""


def _filled(text: str, directory: Path) -> str:
    with State.open(directory) as state:
        item, _ = state.filters()[0]
    identifiers = {"FILTER": item.filter_id, "POLICY": item.policy_id}
    for word, value in identifiers.items():
        text = text.replace(f"{{{word}}}", f"{{{str(value).upper()}}}")
    return text


@pytest.mark.parametrize("switch", ["/test:ipsec", "-test:ipsec", "/TEST:IPSec"])
def test_the_short_report(call: Any, alice: Path, switch: str) -> None:
    expected = _filled(BASIC, alice)
    assert call("netdiag", alice, switch).stdout == expected
    assert call("netdiag", switch, alice).stdout == expected


def test_debug_adds_filters_and_associations(call: Any, alice: Path) -> None:
    text = call("netdiag", alice, "/test:ipsec", "/debug").stdout
    assert text.startswith(_filled(BASIC + FIRST_FILTER, alice))
    flags = [line.split(" : ")[1] for line in text.splitlines() if "Flags : " in line]
    assert flags == ["Outbound Negotiate", "Inbound Negotiate", "Inbound Block", "Outbound Block"]
    assert "Src Addr : 0.0.0.0          Src Mask : 0.0.0.0" in text
    assert "Tunnel Addr : 0.0.0.0  Src Port : 0  Dest Port : 1434" in text
    assert "No Name" in text
    assert "There are 3 security associations" in text
    assert "SPI : 305419896 (0x12345678)  Peer : 10.0.0.2" in text
    assert "Oakley main modes" not in text
    hard, soft = (text.index(f"    {name}\n        Outbound") for name in ("to BOB", "soft one"))
    assert "Bytes : 123456  Packets : 99  Established : 1.500000 s\n" in text[hard:soft]
    assert text[soft:].splitlines()[1:] == [
        "        Outbound 10.0.0.1 to 10.0.0.9",
        "        SPI : 0 (0x00000000)  Peer : 10.0.0.2",
        "        Security : None  Protocol : any",
        "        Bytes : 123456  Packets : 99",
    ]


def test_verbose_adds_the_policy_and_the_statistics_of_ike(call: Any, alice: Path) -> None:
    text = call("netdiag", alice, "/test:ipsec", "/V").stdout
    assert "Filter Id" not in text
    for line in (
        "Policy settings of 'Lab [policy]'",
        "Key Exchange Methods : 3DES-SHA1-2, 3DES-MD5-2, DES-SHA1-1, DES-MD5-1",
        "Rule 0 : to BOB",
        "ESP[3DES,SHA1]:100000k/3600s",
        "Allow Unsecured : Yes",
        "Authentication Methods : Preshared key",
        "Rule 1 : No Name",
        "Filter Action : Block",
        "Oakley main modes : 110",
        "Authentication failures : 113",
    ):
        assert line in text
    assert "s3cret" not in text


def test_without_a_policy(call: Any, bob: Path) -> None:
    assert call("netdiag", bob, "/test:ipsec", "/debug", "/v").stdout == (
        "IP Security test . . . . . . . . . : Passed\n    IPSec policy service is active, but no policy is assigned.\n"
    )


def test_json(call: Any, alice: Path, bob: Path) -> None:
    result = call("netdiag", alice, "/test:ipsec", "--json")
    document = json.loads(result.stdout)
    assert list(document) == [
        "computer",
        "test",
        "result",
        "active_policy",
        "source",
        "path",
        "policy",
        "filters",
        "associations",
        "oakley_statistics",
    ]
    assert document["active_policy"] == "Lab [policy]"
    assert document["policy"]["rules"][0]["authentication"] == [{"preshared_key": "***"}]
    assert [item["packets"] for item in document["filters"]] == [0, 7, 14, 21]
    assert len(document["associations"]) == 3
    assert "s3cret" not in result.stdout
    empty = json.loads(call("netdiag", "--json", bob, "/test:ipsec").stdout)
    assert (empty["active_policy"], empty["path"], empty["policy"], empty["filters"]) == (None, None, None, [])


@pytest.mark.parametrize(("source", "kind", "store"), [("domain", "Domain", "Cache"), ("local", "Local", "Local")])
def test_where_the_policy_comes_from(call: Any, alice: Path, source: str, kind: str, store: str) -> None:
    with State.open(alice, readonly=False) as state:
        state.set_meta("policy_source", source)
    lines = call("netdiag", alice, "/test:ipsec").stdout.splitlines()
    assert lines[1] == f"    {kind} IPSec Policy Active: 'Lab [policy]'"
    assert rf"\Policy\{store}\ipsecPolicy{{" in lines[2]
    with State.open(alice, readonly=False) as state:
        state.set_meta("policy_source", "cache")
    assert "its cached policy is used" in call("netdiag", alice, "/test:ipsec").stdout.splitlines()[3]


def test_wrong_words(refused: Callable[..., str], alice: Path) -> None:
    accepted = "accepted: /test:ipsec, /debug, /v"
    for switch in ("/x", "-x", "--debugging", "/test:dns", "/fix", "again"):
        assert refused("netdiag", alice, "/test:ipsec", switch) == (
            f"ipsec-core netdiag: unknown switch {switch!r}; {accepted}"
        )
    assert refused("netdiag", alice) == f"ipsec-core netdiag: a test is missing; {accepted}"
    assert refused("netdiag", alice, "/debug") == f"ipsec-core netdiag: a test is missing; {accepted}"
    assert refused("netdiag", "/test:ipsec").startswith("ipsec-core netdiag: DIR is missing")
    assert refused("netdiag", "").startswith("ipsec-core netdiag:")
