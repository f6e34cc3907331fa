"""AH, and AH around ESP (RFC 2401 4.3), from the policy to the wire; a bundle lives and ends as one."""

from __future__ import annotations

import pytest
from computer_kit import A, B, Pair, policy
from scapy.layers.inet import IP

from ipsec_core.driver import Burst

AH, ESP, UDP = 51, 50, 17
BUNDLE = "AH[SHA1]+ESP[3DES,MD5]"
METHODS = ["AH[SHA1]", "AH[MD5]", "AH[SHA256]", BUNDLE, "AH[MD5]+ESP[DES,NONE]", "AH[SHA512]+ESP[AES-128-GCM]"]


def on_the_wire(pair: Pair) -> bytes:
    packet = bytes(IP(src=A, dst=B) / bytes(60))
    burst = Burst(1).load([packet])
    pair.a.driver.outbound(burst, pair.now)
    return burst.packet(0)


def negotiated(method: str, **options: object) -> Pair:
    pair = Pair(policy(method, **options), policy(method, **options), key_log=True)
    packets = [pair.send(100, number=1), pair.send(1000, pair.b, number=2), pair.send(1, number=3)]
    assert pair.delivered == packets
    assert pair.clear == pair.soft == []
    return pair


@pytest.mark.parametrize("method", METHODS)
def test_both_ways(method: str) -> None:
    pair = negotiated(method)
    size = 2 if "+" in method else 1
    for computer in (pair.a, pair.b):
        assert [sa.security for sa in computer.associations()] == [method] * 2
        assert computer.counters()["active_associations"] == 2 * size
        assert pair.audits(computer) == [541, 541]
    assert on_the_wire(pair)[9] == AH
    out, back = pair.a.associations()
    assert (out.packets, back.packets) == (3, 1)
    assert {out.spi, back.spi} == {sa.spi for sa in pair.b.associations()}
    assert len(pair.a.keys) == (2 if "ESP" in method else 0), "Wireshark needs no key to read AH"
    assert {key.spi for key in pair.a.keys} == {key.spi for key in pair.b.keys}


def test_ah_comes_first_and_the_monitor_names_it() -> None:
    pair = negotiated(BUNDLE)
    wire = on_the_wire(pair)
    out, back = pair.a.associations()
    assert int.from_bytes(wire[24:28]) == out.spi
    assert wire[20] == ESP
    inner = next(key for key in pair.a.keys if str(key.destination) == B)
    assert int.from_bytes(wire[44:48]) == inner.spi
    assert (out.source_address, out.filter_name, back.peer) == (A, "All", B)


def test_audit_names_all_three_algorithms() -> None:
    pair = negotiated(BUNDLE)
    text = pair.a.log.events(log="Security")[1].text
    for line in ("ESP Algorithm Triple DES CBC", "HMAC Algorithm MD5", "AH Algorithm SHA"):
        assert line in text


@pytest.mark.parametrize("method", ["AH[SHA1]", BUNDLE])
def test_in_a_tunnel_there_is_one_more_header_and_no_more(method: str) -> None:
    pair = Pair(policy(method, tunnel=(A, B)), policy(method, tunnel=(B, A)))
    packets = [pair.send(100, number=1), pair.send(1000, pair.b, number=2)]
    assert pair.delivered == packets
    wire = on_the_wire(pair)
    assert wire[9] == AH
    if method == BUNDLE:
        assert wire[20] == ESP
    else:
        assert wire[20] == 4
    assert {sa.tunnel_endpoint for sa in pair.a.associations()} == {A, B}


@pytest.mark.parametrize("method", ["AH[SHA1]", BUNDLE])
def test_the_end_takes_all_of_it(method: str) -> None:
    pair = negotiated(method)
    pair.until(400.0)
    for computer in (pair.a, pair.b):
        assert computer.driver.sas() == computer.associations() == []
        assert pair.audits(computer) == [541, 541, 542]


@pytest.mark.parametrize("method", ["AH[SHA1]", BUNDLE])
def test_rekey_by_bytes(method: str) -> None:
    limited = f"{method}:100k/3600s"
    pair = Pair(policy(limited), policy(limited))
    packets = [pair.send(1000, number=number) for number in range(1, 301)]
    assert pair.delivered == packets
    counters = pair.a.counters()
    assert counters["oakley_quick_modes"] >= 3
    assert counters["expirations"] == counters["bad_spi_packets"] == 0


@pytest.mark.parametrize("method", ["AH[SHA1]", BUNDLE])
def test_rekey_by_time(method: str) -> None:
    limited = f"{method}:100000k/200s"
    pair = Pair(policy(limited), policy(limited))
    packets = []
    for second in range(0, 900, 5):
        pair.until(float(second))
        packets.append(pair.send(100, number=second))
    assert pair.delivered == packets
    assert pair.a.counters()["oakley_quick_modes"] >= 4
    assert len(pair.a.associations()) in (2, 4)


def test_the_offer_that_both_have() -> None:
    """AH alone is not a bundle with AH in it."""
    pair = Pair(policy(BUNDLE, "AH[SHA1]", "ESP[DES,MD5]"), policy("ESP[3DES,MD5]", "AH[SHA1]"))
    pair.send(10)
    assert [sa.security for sa in pair.b.associations()] == ["AH[SHA1]"] * 2
