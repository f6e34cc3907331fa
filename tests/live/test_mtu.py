"""The MTU of the device: every packet of that size fits the link once the driver has protected it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from live_kit import HOSTS, tcp

from ipsec_core.driver import Burst, Driver, Filter, Status
from ipsec_core.driver.types import Action, SecurityAssociation
from ipsec_core.live import mtu
from ipsec_core.live.mtu import clear_mtu
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table

LINK = 1500


def policy(*methods: str, tunnel: bool) -> Policy:
    rule: dict[str, Any] = {
        "name": "r",
        "filters": [{"source": HOSTS[0], "destination": HOSTS[1]}],
        "action": {"negotiate": list(methods)},
        "authentication": [{"preshared_key": "k"}],
    }
    if tunnel:
        rule["tunnel_endpoint"] = "192.0.2.1"
    return policy_from_table({"name": "p", "rules": [rule]}, "test")


def protected(sas: list[SecurityAssociation], length: int) -> int:
    """What the driver makes of a packet of the host."""
    driver, outer = Driver(), 0
    driver.set_filters([Filter(1, "out", Action.NEGOTIATE)])
    for sa in sas:
        outer = driver.add_sa(dataclasses.replace(sa, filter=1, outer=outer, inner_source=None, inner_destination=None))
    burst = Burst(1, 2048).load([tcp(bytes(length - 40))])
    driver.outbound(burst)
    assert Status(burst.status[0]) is Status.PROTECTED
    return int(burst.length[0])


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("method", ["ESP[3DES,SHA1]", "ESP[DES,MD5]", "ESP[AES-128-GCM]", "ESP[AES-256-CBC,SHA256]"])
def test_esp_fits_and_one_more_byte_does_not(method: str, udp: bool, tunnel: bool, monkeypatch: Any) -> None:
    made = []
    monkeypatch.setattr(mtu, "overhead", lambda sa, n, real=mtu.overhead: made.append(sa) or real(sa, n))
    most = clear_mtu(policy(method, tunnel=tunnel), LINK, udp=udp)
    assert made[-1].mode == ("tunnel" if tunnel else "transport")
    assert (made[-1].encapsulation is not None) == udp
    ends = {"source": HOSTS[0], "destination": HOSTS[1]}
    assert protected([dataclasses.replace(made[-1], **ends)], most) <= LINK
    assert protected([dataclasses.replace(made[-1], **ends)], most + 1) > LINK


def test_the_longest_of_the_methods_counts() -> None:
    both = policy("ESP[DES,MD5]", "ESP[AES-256-CBC,SHA256]", tunnel=True)
    alone = clear_mtu(policy("ESP[AES-256-CBC,SHA256]", tunnel=True), LINK, udp=False)
    assert clear_mtu(both, LINK, udp=False) == alone < clear_mtu(policy("ESP[DES,MD5]", tunnel=True), LINK, udp=False)


def test_ah() -> None:
    """RFC 2402 2: 12 bytes and an ICV of 12, in a tunnel 20 bytes of header more; around ESP, once for both."""
    assert clear_mtu(policy("AH[SHA1]", tunnel=False), LINK, udp=True) == LINK - 24
    assert clear_mtu(policy("AH[SHA1]", tunnel=True), LINK, udp=False) == LINK - 44
    inner = clear_mtu(policy("ESP[3DES,SHA1]", tunnel=True), LINK - 24, udp=False)
    assert clear_mtu(policy("AH[SHA1]+ESP[3DES,SHA1]", tunnel=True), LINK, udp=False) == inner


def test_without_a_rule_that_negotiates_it_is_that_of_the_link() -> None:
    assert clear_mtu(policy_from_table({"name": "p", "rules": []}, "test"), LINK, udp=True) == LINK
