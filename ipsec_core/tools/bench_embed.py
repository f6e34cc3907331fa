"""What a program that embeds the engine sees: the Python face against scapy, two threads against one, memory.

Method
    `embed python`: `Burst.load(list of bytes)`, `Driver.outbound`, `Burst.packets()` for bursts of 64 packets, all of
    it in Python's time; the peer is scapy's `SecurityAssociation.encrypt` for the same packets, tunnel and keys.
    `embed threads`: two threads with a driver and a burst each against one thread with one, over the same time.
    `embed memory`: growth of the process while SAs are added to one driver, less what their expanded keys take.
"""

from __future__ import annotations

import importlib.util
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from ipsec_core.driver import Action, Burst, Driver, Filter, SecurityAssociation, key_bytes
from ipsec_core.tools.bench_esp import GCM, PACKETS, EspLoop, packet
from ipsec_core.tools.bench_rows import Pair, Row, figure_row, rate_row

MEMORY_SAS = 1_000_000
SIZE = 1408

_ENDS = ("192.0.2.1", "192.0.2.2")


def association(key: bytes) -> SecurityAssociation:
    """The outbound tunnel SA that all of them measure with."""
    return SecurityAssociation(
        "out",
        0x1001,
        *_ENDS,
        encryption=GCM.encryption,
        encryption_key=key,
        mode="tunnel",
        inner_source=IPv4Network("10.1.0.0/16"),
        inner_destination=IPv4Network("10.2.0.0/16"),
        filter=1,
    )


def _rate(call: Callable[[], int], seconds: float) -> float:
    """Things a second; `call` does some and says how many."""
    done, start = call(), time.perf_counter()
    done = 0
    while (now := time.perf_counter()) - start < seconds:
        done += call()
    return done / (now - start) if done else 0.0


def _scapy(key: bytes, packets: list[bytes]) -> Callable[[], int]:
    from scapy.layers.inet import IP
    from scapy.layers.ipsec import ESP
    from scapy.layers.ipsec import SecurityAssociation as Scapy

    make: Any = Scapy
    association = make(
        ESP, spi=0x1001, crypt_algo="AES-GCM", crypt_key=key, tunnel_header=IP(src=_ENDS[0], dst=_ENDS[1])
    )
    parsed = [IP(one) for one in packets[:8]]

    def encrypt() -> int:
        for one in parsed:
            bytes(association.encrypt(one))
        return len(parsed)

    return encrypt


def _python_row(seconds: float, pairs: int, size: int) -> Row:
    source = random.Random(size)
    key = source.randbytes(GCM.key_length)
    packets = [packet(size, flow, source) for flow in range(PACKETS)]
    driver, burst = Driver(seed=1), Burst(PACKETS, max(size, 2048))
    driver.set_filters([Filter(1, "out", Action.NEGOTIATE, tunnel=IPv4Address(_ENDS[1]))])
    driver.add_sa(association(key))

    def protect() -> int:
        burst.load(packets)
        driver.outbound(burst)
        return len(burst.packets())

    installed = importlib.util.find_spec("scapy") is not None
    encrypt = _scapy(key, packets) if installed else None
    measured = [Pair(_rate(protect, seconds), _rate(encrypt, seconds * 3) if encrypt else None) for _ in range(pairs)]
    params: dict[str, int | str] = {"suite": GCM.name, "mode": "tunnel", "size": size, "burst": PACKETS}
    return rate_row(
        "embed python", params, "packets/s", measured, "scapy, SecurityAssociation.encrypt", "scapy (pip install scapy)"
    )


def together(loops: list[EspLoop], rounds: int) -> float:
    """Packets a second of all loops, each in a thread of its own."""
    threads = [threading.Thread(target=loop.ours, args=(rounds,)) for loop in loops]
    start = time.perf_counter()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return len(loops) * rounds * PACKETS / (time.perf_counter() - start)


def _threads_row(seconds: float, pairs: int, size: int) -> Row:
    loops = [EspLoop(GCM, size) for _ in range(2)]
    rounds = max(1, round(seconds * 1e9 / (PACKETS * sum(loops[0].ours(64)))))
    measured = [Pair(together(loops, rounds), together(loops[:1], rounds)) for _ in range(pairs)]
    params: dict[str, int | str] = {"suite": GCM.name, "mode": "tunnel", "size": size, "threads": 2}
    return rate_row("embed threads", params, "packets/s", measured, "one thread, one driver")


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _memory_row(sas: int) -> Row:
    """Inbound SAs of AES-128-CBC and HMAC-SHA1-96, whose keys are the smaller ones."""
    one = replace(
        association(bytes(16)),
        direction="in",
        encryption="AES-128-CBC",
        integrity="HMAC-SHA1-96",
        integrity_key=bytes(20),
    )
    driver = Driver(sa_hash_size=1024, seed=1)
    before = _resident()
    for spi in range(0x1000, 0x1000 + sas):
        driver.add_sa(replace(one, spi=spi))
    grown = _resident() - before
    params: dict[str, int | str] = {"sas": sas, "suite": "AES-128-CBC+HMAC-SHA1-96", "key_bytes": key_bytes(one)}
    return figure_row("embed memory", params, grown / sas - key_bytes(one), "bytes/SA beside its keys")


def embed_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None, sas: int = MEMORY_SAS) -> Iterator[Row]:
    """The rows of `ipsec-core bench embed`."""
    yield _python_row(seconds, pairs, size or SIZE)
    yield _threads_row(seconds, pairs, size or SIZE)
    yield _memory_row(sas)
