"""ESP against scapy's IPsec layer, both ways: every payload size of an Ethernet packet, both modes, all suites."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from driver_kit import (
    ENCRYPTIONS,
    GATEWAY_A,
    GATEWAY_B,
    KEYS,
    MODES,
    SHA1_KEY,
    SPI,
    ip,
    receiver,
    run,
    sa,
    sender,
    twin,
)

from ipsec_core import Driver, Status, algorithms, overhead

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import IP
    from scapy.layers.ipsec import ESP, SecurityAssociation

SIZES = range(1501)
FAST: str | None = None  # the best one for each SA
OTHERS = [name for one in algorithms() if one.name == "3DES-CBC" for name in one.backends]
pytestmark = pytest.mark.parametrize(
    ("encryption", "mode"), [(e, m) for e in ENCRYPTIONS for m in MODES], ids=lambda value: str(value)
)


def packets() -> list[bytes]:
    data = bytes(range(256)) * 6
    return [ip(data[size % 7 : size % 7 + size], identification=size, tos=size % 256) for size in SIZES]


def integrity(encryption: str) -> str:
    return "HMAC-SHA1-96" if encryption == "3DES-CBC" else "none"


@pytest.fixture
def scapy_sa(encryption: str, mode: str) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield SecurityAssociation(
            ESP,
            spi=SPI,
            crypt_algo="3DES" if encryption == "3DES-CBC" else "AES-GCM",
            crypt_key=KEYS[encryption],
            auth_algo="HMAC-SHA1-96" if encryption == "3DES-CBC" else None,
            auth_key=SHA1_KEY if encryption == "3DES-CBC" else None,
            tunnel_header=IP(src=GATEWAY_A, dst=GATEWAY_B) if mode == "tunnel" else None,
        )


def protect(driver: Driver) -> list[bytes]:
    results = run(driver, "out", packets())
    assert {status for status, _ in results} == {Status.PROTECTED}
    return [packet for _, packet in results]


def test_scapy_opens_what_the_driver_seals(encryption: str, mode: Any, scapy_sa: Any) -> None:
    sealed = protect(sender(encryption, mode, driver={"backend": FAST}))
    for clear, protected in zip(packets(), sealed, strict=True):
        assert bytes(scapy_sa.decrypt(IP(protected))) == clear
        assert len(protected) - len(clear) == overhead(sa("out", encryption, mode), len(clear))


def test_the_driver_opens_what_scapy_seals(encryption: str, mode: Any, scapy_sa: Any) -> None:
    sealed = [bytes(scapy_sa.encrypt(IP(packet))) for packet in packets()]
    for backend in (FAST, *OTHERS):
        driver = receiver(encryption, mode, driver={"backend": backend}, replay_window=64)
        assert run(driver, "in", sealed) == [(Status.PROTECTED, packet) for packet in packets()]
        assert backend is None or driver.sas()[0].backend == backend


def test_every_back_end_equals_the_oracle_byte_for_byte(encryption: str, mode: Any) -> None:
    oracle = twin(encryption, mode)
    by_backend = [protect(sender(encryption, mode, driver={"backend": name})) for name in (FAST, *OTHERS)]
    for number, (clear, protected) in enumerate(zip(packets(), by_backend[0], strict=True), 1):
        start = 20 + 8
        assert protected == oracle.seal(clear, number, protected[start : start + 8], number)
        assert oracle.open(protected) == clear
    assert all(other == by_backend[0] for other in by_backend[1:])
    ivs = {protected[28:36] for protected in by_backend[0]}
    assert len(ivs) == len(SIZES), "an IV came twice"
