"""Shards: several drivers are as one, every SA is in one of them, and every packet meets the right one."""

from __future__ import annotations

import doctest
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from ipaddress import IPv4Network
from typing import Any

import pytest
from driver_kit import A6, B6, GATEWAY_A, GATEWAY_B, SPI, A, B, add, ip, ip6, make, names, run, soft, tcp, udp
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core import Action, Burst, Driver, Filter, Shards, Status
from ipsec_core.driver import NO_SA, UpcallKind, shard_of_spi, sharding, steer
from ipsec_core.errors import DriverError

FILTERS = [
    Filter(1, "out", Action.BLOCK, protocol=17, destination_port=9),
    Filter(2, "out", Action.PERMIT, protocol=17, destination_port=7),
    Filter(3, "out", Action.NEGOTIATE, None, None),
    Filter(4, "in", Action.BLOCK, protocol=17, destination_port=9),
    Filter(5, "in", Action.NEGOTIATE, IPv4Network("10.1.0.0/16"), IPv4Network("10.1.0.0/16")),
]
# What one driver does and several cannot: know flows from all of the traffic.
OF_ONE = {"cache_hits", "cache_misses", "cache_overwrites", "cache_stale"}


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def inbound_spis(count: int) -> list[int]:
    return [SPI - SPI % count + shard for shard in range(count)]


def sending(count: int, mode: Any = "transport", **options: Any) -> Shards:
    """One SA for each shard, whose SPI is of the receiver's shard of the same number."""
    shards = Shards(count, seed=1, **options)
    shards.set_filters(FILTERS)
    for shard, spi in enumerate(inbound_spis(count)):
        shards.add_sa(make("out", "gcm", mode, spi=spi, filter=3), shard)
    return shards


def receiving(count: int, mode: Any = "transport", **options: Any) -> tuple[Shards, Driver]:
    """Shards and the single driver that they are to be like."""
    fields = {"fragments": 3, **options}
    alone = {name: value for name, value in fields.items() if name not in ("pool", "max_packet")}
    shards, single = Shards(count, seed=1, **fields), Driver(seed=1, **alone)
    for driver in (shards, single):
        driver.set_filters(FILTERS)
        for spi in inbound_spis(count):
            driver.add_sa(make("in", "gcm", mode, spi=spi))
    return shards, single


def same_counters(shards: Shards, single: Driver) -> None:
    ours, theirs = shards.counters(), single.counters()
    assert {k: v for k, v in ours.items() if k not in OF_ONE} == {k: v for k, v in theirs.items() if k not in OF_ONE}
    for direction in ("out", "in"):
        assert shards.status_counters(direction) == single.status_counters(direction)  # type: ignore[arg-type]


def test_the_example_runs() -> None:
    assert doctest.testmod(sharding).attempted > 5
    assert doctest.testmod(sharding).failed == 0


# --- like one driver ---

ports = st.sampled_from([7, 9, 53, 4500])
flows = st.one_of(
    st.builds(lambda p, q, n: udp(p, q, bytes(n)), ports, ports, st.integers(0, 600)),
    st.builds(lambda p, q, n: tcp(p, q, bytes(n)), ports, ports, st.integers(0, 600)),
    st.builds(lambda n, k: ip(bytes(n), protocol=k), st.integers(0, 1400), st.sampled_from([1, 253])),
    st.builds(lambda n, f: ip(bytes(n), protocol=17, fragment=f), st.integers(8, 80), st.sampled_from([0x2000, 5])),
    st.sampled_from([b"", b"E", b"\x00" * 40, ip(b"x")[:-1], ip6(b"x", source=A6, destination=B6)]),
)
numbers = st.integers(0, 2**32 - 1)
counts = st.integers(1, 4)


@given(packets=st.lists(flows, max_size=40), count=counts, mode=st.sampled_from(["transport", "tunnel"]))
@settings(deadline=None, max_examples=60)
def test_outbound_verdicts_are_those_of_one_driver(
    pool: ThreadPoolExecutor, packets: list[bytes], count: int, mode: Any
) -> None:
    """And a single receiver gets the same packets."""
    shards = sending(count, mode, pool=pool)
    single = Driver(seed=1)
    single.set_filters(FILTERS)
    add(single, make("out", "gcm", mode, filter=3))
    ours, theirs = shards.run("out", packets), run(single, "out", packets)
    assert [outcome.status for outcome in ours] == [status for status, _ in theirs]
    assert [o.packet for o in ours if o.status != Status.PROTECTED] == [
        packet for status, packet in theirs if status != Status.PROTECTED
    ]
    _, receiver = receiving(count, mode)
    one = Driver()
    add(one, make("in", "gcm", mode))
    inside = [run(receiver, "in", [o.packet])[0] for o in ours if o.status == Status.PROTECTED]
    assert inside == run(one, "in", [packet for status, packet in theirs if status == Status.PROTECTED])
    used = shards.counters()
    assert used["packets_outbound"] == len(packets)
    assert used["confidential_bytes_sent"] == single.counters()["confidential_bytes_sent"]


@given(data=st.data(), count=counts, nat_traversal=st.booleans())
@settings(deadline=None, max_examples=80)
def test_inbound_is_as_in_one_driver(pool: ThreadPoolExecutor, data: Any, count: int, nat_traversal: bool) -> None:
    """Good packets, replays, forgeries, foreign SPIs, fragments in any order, clear ones: verdicts, bytes, counters."""
    mode = data.draw(st.sampled_from(["transport", "tunnel"]))
    sender = sending(count, mode, pool=pool)
    clear = [tcp(1000 + n, 80, bytes(data.draw(st.integers(0, 900)))) for n in range(data.draw(st.integers(1, 12)))]
    wires = [outcome.packet for outcome in sender.run("out", clear)]
    kinds = st.sampled_from(["good", "twice", "forged", "spi", "short", "fragments", "nat", "clear"])
    traffic: list[bytes] = []
    for wire in wires:
        kind = data.draw(kinds)
        if kind == "forged":
            wire = wire[:-1] + bytes([wire[-1] ^ 1])
        elif kind == "spi":
            wire = wire[:20] + struct.pack("!I", data.draw(numbers)) + wire[24:]
        elif kind == "short":
            wire = ip(wire[20 : data.draw(st.integers(20, 40))], protocol=50)
        elif kind == "nat":
            wire = udp(4500, 4500, wire[20:])
        elif kind == "clear":
            wire = data.draw(flows)
        pieces = [wire]
        if kind == "fragments" or (kind == "nat" and data.draw(st.booleans())):
            split = Burst(64)
            Burst(1).load([wire]).fragment(split, data.draw(st.sampled_from([68, 300])))
            pieces = [split.packet(i) for i in range(len(split))]
        traffic += pieces * (2 if kind == "twice" else 1)
    # The order of an SA's packets counts, that of others does not.
    traffic = data.draw(st.permutations(traffic))
    shards, single = receiving(count, mode, nat_traversal=nat_traversal, pool=pool)
    assert [tuple(outcome) for outcome in shards.run("in", traffic)] == run(single, "in", traffic)
    same_counters(shards, single)
    # A fragment and its rest may come in different runs, an hour apart.
    for now, packet in enumerate(traffic):
        given_now = now * 30.0
        assert [tuple(o) for o in shards.run("in", [packet], given_now)] == run(single, "in", [packet], given_now)
    same_counters(shards, single)


@pytest.mark.parametrize("max_packet", [2048, 2049, 2175])
def test_datagrams_put_together_may_be_as_long_as_with_one_driver(max_packet: int) -> None:
    """Slots are whole cache lines, so that more than `max_packet` bytes may have room."""
    with sending(2, max_packet=4096) as out, receiving(2, max_packet=max_packet)[0] as shards:
        single = Driver(seed=1)
        for spi in inbound_spis(2):
            single.add_sa(make("in", spi=spi))
        for size in range(max_packet - 100, max_packet + 150):
            wire = out.run("out", [ip(bytes(size))])[0].packet
            split = Burst(8)
            Burst(1, 4096).load([wire]).fragment(split, 1500)
            pieces = [split.packet(i) for i in range(len(split))]
            if len(pieces[0]) <= max_packet:
                wanted = run(single, "in", pieces, max_packet=max_packet)
                assert [tuple(outcome) for outcome in shards.run("in", pieces)] == wanted


def test_a_datagram_put_together_stands_where_it_was_completed() -> None:
    """A copy that comes whole and later is the replay."""
    with sending(2) as out, receiving(2)[0] as shards:
        wire = out.run("out", [ip(bytes(900))])[0].packet
        split = Burst(8)
        Burst(1).load([wire]).fragment(split, 500)
        traffic = [*(split.packet(i) for i in range(len(split))), wire]
        verdicts = names([outcome.status for outcome in shards.run("in", traffic)])
        assert verdicts == ["REASSEMBLING"] * (len(split) - 1) + ["PROTECTED", "REPLAYED"]


def test_packets_of_many_bursts_keep_their_order() -> None:
    packets = [tcp(1000 + n % 50, 80, struct.pack("!I", n)) for n in range(2000)]
    with sending(3) as shards, receiving(3, "transport")[0] as receiver:
        wires = [outcome.packet for outcome in shards.run("out", packets)]
        for part in shards.split("out", packets)[:-1]:
            sequence = [int.from_bytes(wires[i][24:28], "big") for i in part]
            assert sequence == list(range(1, len(part) + 1))
        assert [outcome.packet for outcome in receiver.run("in", wires)] == packets


def test_counters_begin_anew() -> None:
    shards, single = receiving(2)
    piece = ip(bytes(16), protocol=50, fragment=0x2000)
    for driver in (shards, single):
        driver.run("in", [piece]) if isinstance(driver, Shards) else run(driver, "in", [piece])
    assert shards.status_counters("in")["REASSEMBLING"] == shards.counters()["packets_inbound"] == 1
    for driver in (shards, single):
        driver.reset_counters()
    same_counters(shards, single)
    assert shards.counters()["packets_inbound"] == 0
    assert shards.counters()["active_associations"] == 2
    shards.close()


# --- which driver ---


def test_each_sa_is_in_one_shard() -> None:
    shards = Shards(5, seed=1)
    handles = []
    for n in range(200):
        spi = shards.allocate_spi(B, n % 5)
        assert shards.shard_of_spi(spi) == shard_of_spi(spi, 5) == n % 5
        handles.append(shards.add_sa(make("in", spi=spi)))
        found = [driver.spi_lookup(spi, B) != NO_SA for driver in shards.drivers]
        assert found == [shard == n % 5 for shard in range(5)]
    handles += [shards.add_sa(make("out", spi=SPI + n), n % 5) for n in range(20)]
    assert len(set(handles)) == 220
    for shard, driver in enumerate(shards.drivers):
        assert Counter(info.direction for info in driver.sas()) == {"in": 40, "out": 4}
        assert {shards.locate(handle)[1] for handle in handles if shards.locate(handle)[0] is driver} == {
            info.handle for info in shards.drivers[shard].sas()
        }
    assert shards.counters()["active_associations"] == 220
    for handle in handles:
        shards.delete_sa(handle)
    assert [driver.sas() for driver in shards.drivers] == [[]] * 5
    with pytest.raises(DriverError, match="no such object"):
        shards.delete_sa(handles[0])


addresses = st.integers(1, 2**32 - 2).map(lambda n: ".".join(map(str, n.to_bytes(4, "big"))))


@given(a=addresses, b=addresses, p=st.integers(0, 65535), q=st.integers(0, 65535), count=st.integers(1, 256))
def test_a_flow_meets_one_driver_in_both_directions(a: str, b: str, p: int, q: int, count: int) -> None:
    there, back = (udp(x, y, source=s, destination=d) for x, y, s, d in ((p, q, a, b), (q, p, b, a)))
    (shard,) = {int(n) for way in ("out", "in") for n in steer([there, back], way, count)}  # type: ignore[arg-type]
    assert 0 <= shard < count
    first, later = (udp(p, q, bytes(64), source=a, destination=b, fragment=f) for f in (0x2000, 9))
    assert len(set(steer([first, later], "out", count).tolist())) == 1


def test_flows_spread_evenly() -> None:
    packets = [tcp(1000 + n, 80) for n in range(4000)]
    by_ports = Counter(steer(packets, "out", 4).tolist())
    by_hosts = Counter(steer([ip(b"x", source=f"10.1.{n >> 8}.{n & 255}") for n in range(4000)], "out", 4).tolist())
    for spread in (by_ports, by_hosts):
        assert set(spread) == set(range(4))
        assert max(spread.values()) < 1.15 * 1000


def test_ipsec_packets_go_by_their_spi() -> None:
    spi = struct.pack("!I", 1003)
    destination_options = bytes([50, 0, 1, 4, 0, 0, 0, 0])
    packets = [
        ip(spi + bytes(8), protocol=50),
        ip(bytes(4) + spi + bytes(8), protocol=51),
        ip(spi + bytes(8), protocol=50, options=bytes(8)),
        ip6(spi + bytes(8), protocol=50),
        ip6(spi + bytes(8), protocol=50, first=60, extensions=destination_options),
        udp(7, 4500, spi + bytes(8)),
    ]
    found = [steer(packets, "in", count, True).tolist() for count in (1, 4, 7, 256, 1000)]
    assert found == [[1003 % count] * 6 for count in (1, 4, 7, 256, 1000)]
    assert steer(packets[-1:], "in", 1000).tolist() == steer(packets[-1:], "out", 1000).tolist() != [1003 % 1000]
    kinds: list[Callable[[Any], Any]] = [bytearray, memoryview]
    for kind in kinds:
        assert steer([kind(packet) for packet in packets], "in", 7, True).tolist() == [1003 % 7] * 6
    assert steer(Burst(8).load(packets), "in", 7, True).tolist() == [1003 % 7] * 6
    fragment = ip(spi + bytes(8), protocol=50, fragment=0x2000)
    natted = udp(7, 4500, bytes(16), fragment=0x2000)
    assert steer([fragment, natted], "in", 7, True).tolist() == [7, 7]
    assert steer([fragment, natted], "in", 7)[1] < 7
    assert max(steer([fragment, natted], "out", 7).tolist()) < 7


@given(st.lists(st.binary(max_size=80), max_size=20), counts, st.booleans())
def test_anything_has_a_driver(packets: list[bytes], count: int, nat_traversal: bool) -> None:
    packets = [*packets, *(b"\x45" + packet for packet in packets), *(b"\x60" + packet for packet in packets)]
    assert all(0 <= n < count for n in steer(packets, "out", count).tolist())
    assert all(0 <= n <= count for n in steer(packets, "in", count, nat_traversal).tolist())


def test_split_keeps_the_order() -> None:
    packets = [tcp(1000 + n, 80) for n in range(100)] + [ip(bytes(16), protocol=50, fragment=0x2000)]
    with Shards(3) as shards:
        parts = shards.split("in", packets)
        assert [sorted(part) for part in parts] == parts
        assert sorted(i for part in parts for i in part) == list(range(101))
        assert parts[3] == [100]
        assert shards.split("out", packets)[3] == []
        assert shards.split("out", Burst(256).load(packets)) == shards.split("out", packets)


# --- control ---


def test_each_shard_asks_for_its_own_sas() -> None:
    packets = [tcp(1000 + n, 80, source=A, destination=B) for n in range(64)]
    with Shards(2, seed=1) as shards, receiving(2)[0] as receiver:
        shards.set_filters([Filter(3, "out", Action.NEGOTIATE)])
        assert {outcome.status for outcome in shards.run("out", packets)} == {Status.HELD}
        upcalls = shards.upcalls()
        assert [(shard, upcall.kind, upcall.filter, upcall.sa) for shard, upcall in upcalls] == [
            (0, UpcallKind.ACQUIRE, 3, 0),
            (1, UpcallKind.ACQUIRE, 3, 0),
        ]
        assert shards.upcalls() == []
        shards.add_sa(make("out", spi=inbound_spis(2)[1], filter=3, soft_bytes=1, idle_seconds=300.0), 1)
        waiting = shards.split("out", packets)
        released = shards.release(1.0)
        assert [o.packet for o in receiver.run("in", [o.packet for o in released])] == [packets[i] for i in waiting[1]]
        assert shards.acquire_failed(0, 3, A, B) == len(waiting[0])
        assert shards.release(1.0) == []
        ((shard, upcall),) = shards.upcalls()
        driver, own = shards.locate(upcall.sa)
        assert (shard, upcall.kind, driver, own) == (1, UpcallKind.REKEY, shards.drivers[1], driver.sas()[0].handle)
        assert shards.tick(2.0) in (300.0, 301.0)  # not later than the SA's idle time
        assert shards.counters()["acquires"] == 2
    assert Shards(2).tick(0.0) is None


def test_soft_sas_cover_both_directions_of_a_flow() -> None:
    there = [tcp(1000 + n, 80, source=A, destination=B) for n in range(50)]
    back = [tcp(80, 1000 + n, source=B, destination=A) for n in range(50)]
    with Shards(3, seed=1) as shards:
        shards.set_filters(FILTERS)
        for way, reference in (("out", 3), ("in", 5)):
            shards.add_sa(soft(way, filter=reference), 1)  # type: ignore[arg-type]
        mine = shards.split("out", there)[1]
        assert shards.split("in", back)[1] == mine
        assert len(mine) > 5
        for way, packets, otherwise in (("out", there, "HELD"), ("in", back, "SHOULD_BE_SECURED")):
            verdicts = names([outcome.status for outcome in shards.run(way, packets)])  # type: ignore[arg-type]
            assert verdicts == ["SOFT" if i in mine else otherwise for i in range(50)]


def test_bundles_live_in_one_shard() -> None:
    with Shards(2, seed=1) as out, Shards(2, seed=1) as into:
        out.set_filters([Filter(1, "out", Action.NEGOTIATE, None, None)])
        for shard in range(2):
            spis = into.allocate_spi(B, shard), into.allocate_spi(B, shard)
            for shards, way in ((out, "out"), (into, "in")):
                own = shard if way == "out" else None
                around = shards.add_sa(make(way, "ah-sha1", spi=spis[0], filter=9), own)  # type: ignore[arg-type]
                shards.add_sa(make(way, spi=spis[1], outer=around), own)  # type: ignore[arg-type]
        packets = [tcp(1000 + n, 80, bytes(n)) for n in range(100)]
        wires = out.run("out", packets)
        assert {outcome.packet[9] for outcome in wires} == {51}
        assert [o.packet for o in into.run("in", [o.packet for o in wires])] == packets
        with pytest.raises(DriverError, match=r"^outer: an SA of shard 1; accepted: one of shard 0$"):
            into.add_sa(make("in", spi=4096, outer=around))


def test_seeds() -> None:
    """One seed makes a run repeatable; shards do not share it."""
    spis = []
    for _ in range(2):
        shards = Shards(2, seed=7)
        spis.append([driver.allocate_spi(B) for driver in shards.drivers])
    assert spis[0] == spis[1]
    assert len(set(spis[0])) == 2


# --- threads ---


def test_threads_hammer_and_nothing_breaks() -> None:
    """A pipeline of two Shards in two threads, each with threads of its own."""
    packets = [tcp(1000 + n % 97, 80, n.to_bytes(2, "big") * (1 + n % 300)) for n in range(700)]
    sender, (receiver, _) = sending(4, "tunnel"), receiving(4, "tunnel")
    wires: list[list[bytes]] = []
    ready = threading.Semaphore(0)

    def send() -> None:
        for _ in range(25):
            wires.append([outcome.packet for outcome in sender.run("out", packets)])
            ready.release()

    thread = threading.Thread(target=send)
    thread.start()
    for i in range(25):
        assert ready.acquire(timeout=60)
        outcomes = receiver.run("in", wires[i])
        assert {outcome.status for outcome in outcomes} == {Status.PROTECTED}
        assert [outcome.packet for outcome in outcomes] == packets
    thread.join()
    assert sender.counters()["packets_outbound"] == receiver.counters()["packets_inbound"] == 25 * len(packets)
    assert [driver.counters()["packets_outbound"] > 0 for driver in sender.drivers] == [True] * 4
    sender.close()
    receiver.close()


class Inline(Executor):
    """Runs in the caller's thread, and something else before."""

    def __init__(self, before: Callable[[], object]) -> None:
        self.before = before

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.before()
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except DriverError as error:
            future.set_exception(error)
        return future


def test_one_run_at_a_time() -> None:
    refused = []

    def again() -> None:
        with pytest.raises(DriverError) as caught:
            shards.run("out", [])
        refused.append(str(caught.value))

    shards = sending(2, pool=Inline(again))
    assert [o.status for o in shards.run("out", [ip(b"x")])] == [Status.PROTECTED]
    assert refused == ["Shards: in use by another thread; accepted: one run at a time"]


def test_a_busy_shard_says_so_and_the_others_are_done() -> None:
    packets = [tcp(1000 + n, 80) for n in range(64)]
    shards = sending(2, pool=Inline(lambda: None))
    burst = shards._bursts[0]

    def packets_of_a_load() -> Iterator[bytes]:
        yield b"x"
        with pytest.raises(DriverError, match=r"^Burst: in use by a driver in another thread$"):
            shards.run("out", packets)

    burst.load(packets_of_a_load())
    assert [driver.counters()["packets_outbound"] > 0 for driver in shards.drivers] == [False, True]
    assert {o.status for o in shards.run("out", packets)} == {Status.PROTECTED}


def test_pools() -> None:
    with ThreadPoolExecutor(1) as pool:
        with sending(2, pool=pool) as shards:
            assert shards.run("out", [ip(b"x")])[0].status == Status.PROTECTED
        assert pool.submit(lambda: 1).result() == 1
    shards = sending(2)
    for _ in range(2):
        assert shards.run("out", [ip(b"x")])[0].status == Status.PROTECTED
        before = threading.active_count()
        shards.close()
        assert threading.active_count() < before
    assert shards.run("out", []) == []
    shards.close()
    shards.close()


# --- bad arguments ---


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: Shards(0), "count: 0 is out of range; accepted: 1 to 256"),
        (lambda s: Shards(257), "count: 257 is out of range; accepted: 1 to 256"),
        (lambda s: Shards(1, cache_size=1), "CacheSize: 1 is out of range; accepted: 64 to 1024 (KB)"),
        (lambda s: s.allocate_spi(B, 2), "shard: 2 is out of range; accepted: 0 to 1"),
        (lambda s: s.allocate_spi(B, -1), "shard: -1 is out of range; accepted: 0 to 1"),
        (lambda s: s.add_sa(make("out"), 2), "shard: 2 is out of range; accepted: 0 to 1"),
        (
            lambda s: s.add_sa(make("out")),
            "shard: None does not say whose flows the SA serves; accepted: 0 to 1",
        ),
        (
            lambda s: s.add_sa(make("in", spi=4097), 0),
            "shard: 0 is not that of SPI 0x00001001; accepted: 1, or None",
        ),
        (lambda s: s.add_sa(make("in", spi=-1)), "spi: -1 is out of range; accepted: 0 to 4294967295"),
        (lambda s: s.acquire_failed(2, 1, A, B), "shard: 2 is out of range; accepted: 0 to 1"),
        (lambda s: s.run("up", []), "direction: 'up' is unknown; accepted: out, in"),
        (lambda s: s.run("out", [bytes(2049)]), "packet 0: 2049 bytes; accepted: up to 2048 (max_packet)"),
        (lambda s: s.run("out", [b""], -1.0), "now: -1.0 is not a time; accepted: seconds from 0 on"),
        (lambda s: steer([], "out", 0), "count: 0 is out of range; accepted: 1 to 2147483647"),
        (lambda s: shard_of_spi(2**32, 2), "spi: 4294967296 is out of range; accepted: 0 to 4294967295"),
        (
            lambda s: Shards(1, max_packet=19),
            "Burst: capacity 256, max_packet 19 out of range; accepted: capacity 1..256, max_packet 20..65535",
        ),
    ],
)
def test_bad_arguments(call: Callable[[Shards], object], words: str) -> None:
    with Shards(2) as shards:
        with pytest.raises(DriverError) as caught:
            call(shards)
        assert str(caught.value) == words
        assert shards.run("out", [ip(b"x")])[0].status == Status.NO_FILTER


def test_bad_filters_change_nothing() -> None:
    with Shards(2) as shards:
        shards.set_filters([Filter(1, "out", Action.BLOCK)])
        with pytest.raises(DriverError, match="filter 1, reference: 7 is taken by filter 0"):
            shards.set_filters(Filter(7, "out", Action.PERMIT) for _ in range(2))
        packets = [tcp(1000 + n, 80, source=GATEWAY_A, destination=GATEWAY_B) for n in range(20)]
        assert {outcome.status for outcome in shards.run("out", packets)} == {Status.BLOCKED}
