"""The ESP benchmark: what its rows hold, and that its loops do the work that they time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from ipsec_core.driver import Action, Burst, Driver, Filter, Status, algorithms
from ipsec_core.driver._peer import PEERS, peer_seconds, round_trips
from ipsec_core.errors import DriverError
from ipsec_core.tools import bench_cipher, bench_embed, bench_esp, bench_filter
from ipsec_core.tools.bench_esp import CBC, GCM, PACKETS, TRIPLE_DES, EspLoop, Sample

KEYS = ["name", "params", "value", "unit", "peer", "peer_value", "ratio", "min", "max", "install"]
QUICK = ("--seconds", "0.001", "--pairs", "3")


def test_json_rows(call: Any) -> None:
    rows = json.loads(call("bench", "esp", "--json", *QUICK).stdout)
    names = [(row["name"], row["params"]["suite"], row["params"].get("size"), row["unit"]) for row in rows]
    phases = [
        (f"esp {way} {phase}", "AES-128-GCM", 1408, "% of the time")
        for way in ("outbound", "inbound")
        for phase in ("classify", "crypt", "commit")
    ]
    assert names == [
        ("esp outbound", "AES-128-GCM", 1408, "packets/s"),
        ("esp inbound", "AES-128-GCM", 1408, "packets/s"),
        ("esp outbound", "AES-128-GCM", 64, "packets/s"),
        ("esp inbound", "AES-128-GCM", 64, "packets/s"),
        ("esp outbound", "AES-128-CBC+HMAC-SHA1-96", 1408, "packets/s"),
        ("esp outbound", "3DES-CBC+HMAC-SHA1-96", 1408, "packets/s"),
        ("esp framing outbound", "NULL, no integrity", 64, "ns/packet"),
        ("esp framing inbound", "NULL, no integrity", 64, "ns/packet"),
        *phases,
        ("esp outbound slope", "AES-128-GCM", None, "ns/byte"),
        ("esp outbound intercept", "AES-128-GCM", None, "ns/packet"),
        ("esp inbound slope", "AES-128-GCM", None, "ns/byte"),
        ("esp inbound intercept", "AES-128-GCM", None, "ns/packet"),
    ]
    for row in rows:
        assert list(row) == KEYS
        if row["unit"] == "packets/s":
            assert row["value"] > 0
            if row["peer_value"] is not None:
                assert math.isclose(row["ratio"], row["value"] / row["peer_value"])
                assert row["min"] <= row["ratio"] <= row["max"]


def test_one_size_and_the_table(call: Any) -> None:
    rows = json.loads(call("bench", "esp", "--json", "--size", "300", *QUICK).stdout)
    assert [row["params"]["size"] for row in rows] == [300] * 12
    result = call("bench", "esp", "--size", "300", *QUICK, columns=120)
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("esp outbound", "esp inbound", "Ratio", "packets/s"))


def test_a_peer_that_is_not_built_in(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_esp, "peer_seconds", lambda *_: None)
    rows = json.loads(call("bench", "esp", "--json", *QUICK).stdout)
    for row in rows:
        assert [row[key] for key in ("peer_value", "ratio", "min", "max")] == [None] * 4
        assert row["value"] != 0
    assert {row["install"] for row in rows} == {None, "libipsec-mb-dev", "libssl-dev"}
    assert "A peer is missing. Install libipsec-mb-dev;" in call("bench", "esp", *QUICK).stdout


def test_wrong_words(refused: Callable[..., str]) -> None:
    accepted = "accepted: esp, ah, cipher, spi, filter, ike, embed, all"
    assert refused("bench", "sim") == f"ipsec-core bench: 'sim' is not a benchmark; {accepted}"
    for words in (("--size", "27"), ("--size", "9001"), ("--pairs", "0"), ("--seconds", "0")):
        assert words[0] in refused("bench", "esp", *words)


def test_the_median_pair_is_reported() -> None:
    samples = [Sample(10.0, 30.0), Sample(10.0, 10.0), Sample(30.0, 60.0)]
    row = bench_esp._rate(GCM, "outbound", 100, samples)
    assert (row.value, row.ratio, row.min, row.max) == (1e9 / 30, 2.0, 1.0, 3.0)
    assert row.peer_value is not None
    assert math.isclose(row.peer_value, 1e9 / 60)


def test_the_line_is_the_one_through_the_points() -> None:
    line = {size: Sample(50 + 0.25 * size, 20 + 0.5 * size) for size in (64, 256, 1024)}
    slope, intercept = bench_esp._line("inbound", line)
    assert [round(value, 9) for value in (slope.value, slope.peer_value or 0, slope.ratio or 0)] == [0.25, 0.5, 2.0]
    assert [round(value, 6) for value in (intercept.value, intercept.peer_value or 0)] == [50.0, 20.0]


@pytest.mark.parametrize("suite", [GCM, CBC, TRIPLE_DES])
@pytest.mark.parametrize("size", [28, 63, 64, 1408, 9000])
def test_texts_have_the_length_that_the_driver_encrypts(suite: Any, size: int) -> None:
    """ESP's text ends on a multiple of 4 (RFC 4106), 8 or 16 bytes after padding and the two bytes of the trailer."""
    block = {GCM: 4, CBC: 16, TRIPLE_DES: 8}[suite]
    assert EspLoop(suite, size)._text_length == -(-(size + 2) // block) * block


@pytest.mark.parametrize("suite", [GCM, TRIPLE_DES])
def test_a_round_trip_is_the_whole_path(suite: Any) -> None:
    loop = EspLoop(suite, 100)
    loop._burst.load(loop._packets)
    out, into = round_trips(loop._sender, loop._receiver, loop._burst, 5)
    assert out > 0
    assert into > 0
    assert [loop._burst.packet(i) for i in range(PACKETS)] == loop._packets
    assert len(set(loop._packets)) == PACKETS
    (sender,), (receiver,) = loop._sender.sas(), loop._receiver.sas()
    assert (sender.packets, receiver.packets, sender.sequence, receiver.sequence) == (5 * PACKETS,) * 4
    assert loop._sender.counters()["cache_hits"] == 4 * PACKETS
    assert set(loop._burst.status) == {Status.PROTECTED}


def test_a_packet_that_does_not_come_through_fails_the_run() -> None:
    loop = EspLoop(GCM, 100)
    stranger = EspLoop(TRIPLE_DES, 100)
    loop._burst.load(loop._packets)
    with pytest.raises(DriverError, match="of 64 packets 64 were sent and 0 came through"):
        round_trips(loop._sender, stranger._receiver, loop._burst, 3)
    blocked = Driver(seed=1)
    blocked.set_filters([Filter(1, "out", Action.BLOCK)])
    loop._burst.load(loop._packets)
    with pytest.raises(DriverError, match="of 64 packets 0 were sent"):
        round_trips(blocked, loop._receiver, loop._burst, 3)
    with pytest.raises(DriverError, match="one driver"):
        round_trips(blocked, blocked, loop._burst, 3)


def test_the_gcm_peer_computes_what_the_driver_sends() -> None:
    """Under the same IV the same text comes out: the peer works on the buffers as the driver does."""
    loop = EspLoop(GCM, 102)
    if loop.peer("gcm_encrypt", 1) is None:
        pytest.skip("no ipsec-mb in this build")
    burst = Burst(PACKETS).load(loop._packets)
    loop._sender.outbound(burst)
    sent = burst.packets()
    # The receiver clears the text where it lies; header, IV, padding and trailer stay around it.
    loop._receiver.inbound(burst)
    assert burst.packets() == loop._packets
    peer_seconds("gcm_encrypt", loop._key, burst, loop._text_length, 1)
    assert burst.packets() == [packet[20 + 8 + 8 :][:102] for packet in sent]
    peer_seconds("gcm_decrypt", loop._key, burst, loop._text_length, 1)
    assert burst.packets() == loop._packets


def test_what_the_peers_refuse() -> None:
    burst = Burst(1, 64).load([bytes(64)])
    for name, key, length, text in (
        ("des", b"", 64, "accepted: gcm_encrypt, gcm_decrypt, cbc_sha1_jobs, evp_3des_sha1"),
        ("gcm_encrypt", bytes(16), 64, "a key of 16 bytes; accepted: 20"),
        ("gcm_encrypt", bytes(20), 4000, "a text of 4000 bytes"),
        ("evp_3des_sha1", bytes(44), 63, "a text of 63 bytes"),
    ):
        with pytest.raises(DriverError, match=text):
            peer_seconds(name, key, burst, length, 1)  # type: ignore[arg-type]
    assert set(PEERS) == {"gcm_encrypt", "gcm_decrypt", "cbc_sha1_jobs", "evp_3des_sha1"}


def test_sizes_out_of_range() -> None:
    for size in (27, 9001):
        with pytest.raises(DriverError, match="accepted: 28 to 9000"):
            EspLoop(GCM, size)


def test_the_cbc_peer_computes_what_the_driver_sends() -> None:
    """From the IV that the driver made, the same text and ICV come out."""
    loop = EspLoop(CBC, 102)
    if loop.peer("cbc_sha1_jobs", 1) is None:
        pytest.skip("no ipsec-mb in this build")
    burst = Burst(PACKETS).load(loop._packets)
    loop._sender.outbound(burst)
    sent = burst.packets()
    loop._receiver.inbound(burst)
    peer_seconds("cbc_sha1_jobs", loop._key + loop._integrity_key, burst, loop._text_length, 1)
    assert burst.packets() == [packet[20 + 8 + 16 :][:102] for packet in sent]


def test_phases_are_parts_of_the_whole() -> None:
    for parts in EspLoop(GCM, 1408).phases(20):
        assert set(parts) == {"classify", "crypt", "commit"}
        assert all(taken > 0 for taken in parts.values())


def test_filter_rows_of_both_ways() -> None:
    rows = list(bench_filter.filter_rows(0.0005, 3))
    assert [(row.name, row.params["filters"]) for row in rows] == [
        (name, filters)
        for filters in (1000, 5000)
        for name in (
            "policy, compiled and loaded",
            "filter decision, header cache hit",
            "filter decision, header cache miss",
        )
    ]


@pytest.mark.parametrize(("miss", "least", "most"), [(False, 0.9, 1.0), (True, 0.0, 0.1)])
def test_filter_loops_hit_and_miss(miss: bool, least: float, most: float) -> None:
    loop = bench_filter.FilterLoop(5000, miss=miss)
    assert loop.rate(0.002) > 0
    assert least < loop.hits <= most or (miss and loop.hits < most)


def test_embed_rows() -> None:
    rows = {row.name: row for row in bench_embed.embed_rows(0.002, 3, sas=20000)}
    assert set(rows) == {"embed python", "embed threads", "embed memory"}
    assert rows["embed python"].value > 0
    assert rows["embed threads"].value > 0
    # How the process grows depends on what ran before in it, and on its allocator; alone it is measured in a bench run.
    assert math.isfinite(rows["embed memory"].value)


def test_every_algorithm_is_measured() -> None:
    ciphers = {row.params["suite"] for row in bench_cipher.cipher_rows(0.0005, 1, 64)}
    for one in algorithms():
        assert any(one.name in str(suite).split("+") for suite in ciphers) or one.key_length == 0
    assert len(list(bench_cipher.ah_rows(0.0005, 1, 64))) == 2 * sum(
        one.kind == "integrity" and one.key_length > 0 for one in algorithms()
    )
