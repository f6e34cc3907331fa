"""Soft SAs (KB 257225): for whom, for how long, and what the monitor and the Security log say."""

from __future__ import annotations

from typing import Any

import pytest
from computer_kit import A, B, Pair, policy

METHOD = "ESP[3DES,SHA1]"
LENIENT: dict[str, Any] = {"allow_unsecured": True, "inbound_passthrough": True}


def lenient(**more: Any) -> Any:
    return policy(METHOD, **LENIENT, **more)


def silent(**options: Any) -> Pair:
    """BOB has no policy, so no IKE either: he never answers."""
    return Pair(lenient(**options.pop("rule", {})), None, **options)


def connected(**options: Any) -> Pair:
    pair = silent(**options)
    pair.send(10, number=1)
    assert pair.soft == []
    pair.until(4.0)
    return pair


def test_a_peer_that_says_nothing_is_spoken_to_in_clear() -> None:
    pair = connected()
    assert len(pair.soft) == 1
    assert pair.send(20, number=2) == pair.soft[1]
    pair.send(30, pair.b, number=3)
    assert len(pair.clear) == 1, "BOB protects nothing and knows nothing"
    out, back = pair.a.associations()
    assert (out.security, out.soft, out.spi, out.direction, out.peer) == ("None", True, 0, "outbound", B)
    assert (back.security, back.soft, back.direction, back.source_address) == ("None", True, "inbound", B)
    assert (out.filter_name, out.policy_name, out.packets) == ("All", "Lab", 2)
    assert out.established == pytest.approx(3.0, abs=0.1)
    counters = pair.a.counters()
    assert (counters["soft_associations"], counters["active_soft_associations"]) == (1, 2)
    assert (counters["oakley_main_modes"], counters["active_associations"]) == (0, 0)
    assert pair.audits(pair.a) == [], "soft associations are not audited"


def test_without_leave_the_silence_is_a_failure() -> None:
    pair = Pair(policy(METHOD), None)
    pair.send(10)
    pair.until(70.0)
    assert pair.soft == pair.clear == []
    assert pair.a.counters()["soft_associations"] == 0
    assert pair.audits(pair.a) == [547]


@pytest.mark.parametrize(
    "bob", [policy(METHOD, key="another"), policy("ESP[DES,MD5]"), policy(METHOD, exchange=["DES-MD5-1"])]
)
def test_a_failure_never_falls_back(bob: Any) -> None:
    pair = Pair(lenient(), bob)
    pair.send(10)
    pair.until(200.0)
    assert pair.soft == pair.clear == pair.delivered == []
    assert pair.a.associations() == []
    assert pair.a.counters()["soft_associations"] == 0


def test_while_it_exists_nothing_is_negotiated() -> None:
    pair = connected()
    for number in range(1, 20):
        pair.until(4.0 + 200.0 * number)
        pair.send(10)
    assert len(pair.soft) == 20
    assert pair.a.counters()["acquires"] == 1


@pytest.mark.parametrize("seconds", [300, 1000])
def test_it_ends_when_nobody_speaks(seconds: int) -> None:
    """SAIdleTime, of both directions together; audit 542 without SPIs."""
    pair = connected(registry={"SAIdleTime": seconds})
    pair.until(200.0)
    pair.send(10)
    pair.until(200.0 + seconds - 0.001)
    assert len(pair.a.associations()) == 2
    pair.until(200.0 + seconds + 0.01)
    assert pair.a.associations() == []
    (audit,) = pair.a.log.events(log="Security")
    assert audit.event_id == 542
    assert "Inbound SPI:\n0\nOutbound SPI:\n0" in audit.text
    assert f"Destination IP Address {B}" in audit.text
    pair.send(10)
    assert pair.a.counters()["acquires"] == 2


def test_a_lifetime_of_its_own() -> None:
    """netsh's softsaexpirationtime; the traffic does not prolong it."""
    pair = connected(rule={"key_exchange": {"soft_lifetime_seconds": 60}})
    for second in range(10, 70, 10):
        pair.until(float(second))
        pair.send(10)
    pair.until(65.0)
    assert pair.a.associations() == []
    assert pair.audits(pair.a) == [542]
    assert len(pair.soft) >= 6


def test_a_peer_that_speaks_ike_after_all() -> None:
    """It negotiates, and the soft SA gives way."""
    pair = connected()
    pair.b.update_policy(pair.now, policy(METHOD))
    packet = pair.send(40, pair.b, number=9)
    assert pair.delivered == [packet]
    assert [sa.security for sa in pair.a.associations()] == [METHOD] * 2
    assert pair.audits(pair.a) == [541, 542, 541]
    assert pair.send(50, number=10) == pair.delivered[-1]
    assert pair.a.counters()["active_soft_associations"] == 0


def test_a_change_of_policy_ends_it() -> None:
    pair = connected()
    pair.a.update_policy(pair.now, policy("ESP[DES,MD5]", **LENIENT))
    assert pair.a.associations() == []
    assert pair.audits(pair.a) == [542]
    pair.send(10)
    pair.until(pair.now + 4.0)
    assert len(pair.a.associations()) == 2
    pair.a.update_policy(pair.now, policy("ESP[DES,MD5]", **LENIENT))
    assert len(pair.a.associations()) == 2, "nothing has changed"


def test_a_restart_of_the_agent_ends_it() -> None:
    pair = connected()
    pair.a.restart_agent(pair.now)
    assert pair.a.associations() == []
    assert pair.audits(pair.a) == [542]
    assert pair.a.counters()["soft_associations"] == pair.a.counters()["acquires"] == 0
    pair.send(10)
    pair.until(pair.now + 4.0)
    assert len(pair.a.associations()) == 2


def test_only_the_traffic_of_the_filter() -> None:
    pair = connected(rule={"protocol": "udp"})
    assert [sa.protocol for sa in pair.a.associations()] == [17, 17]
    assert [sa.source_address for sa in pair.a.associations()] == [A, B]
