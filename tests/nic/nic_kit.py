"""Computers with and without a NIC: one outbound and one inbound SA each, of any suite of Windows 2000."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from driver_kit import GATEWAY_A, GATEWAY_B, A, B, negotiate, run

from ipsec_core import Driver, SecurityAssociation, Status
from ipsec_core.driver import Nic

Results = list[tuple[Status, bytes]]
MODES: tuple[Literal["transport", "tunnel"], ...] = ("transport", "tunnel")
KEY_LENGTHS = {"NULL": 0, "DES-CBC": 8, "3DES-CBC": 24, "none": 0, "HMAC-MD5-96": 16, "HMAC-SHA1-96": 20}
SPI_AB, SPI_BA = 0x1001, 0x1002


class Suite(NamedTuple):
    protocol: Literal["esp", "ah"]
    encryption: str
    integrity: str

    @property
    def confidential(self) -> bool:
        return self.encryption != "NULL"

    @property
    def authenticated(self) -> bool:
        return self.integrity != "none"


SUITES = [
    Suite("esp", encryption, integrity)
    for encryption in ("NULL", "DES-CBC", "3DES-CBC")
    for integrity in ("none", "HMAC-MD5-96", "HMAC-SHA1-96")
]
SUITES += [Suite("ah", "NULL", integrity) for integrity in ("HMAC-MD5-96", "HMAC-SHA1-96")]
TRIPLE_DES = Suite("esp", "3DES-CBC", "HMAC-SHA1-96")
AH = Suite("ah", "NULL", "HMAC-SHA1-96")


def association(
    direction: Literal["out", "in"],
    suite: Suite = TRIPLE_DES,
    mode: Literal["transport", "tunnel"] = "transport",
    *,
    backwards: bool = False,
    **fields: Any,
) -> SecurityAssociation:
    """An SA for packets from A to B, `backwards` from B to A."""
    ends = (A, B) if mode == "transport" else (GATEWAY_A, GATEWAY_B)
    values: dict[str, Any] = {
        "spi": SPI_BA if backwards else SPI_AB,
        "source": ends[backwards],
        "destination": ends[not backwards],
        "protocol": suite.protocol,
        "encryption": suite.encryption,
        "encryption_key": bytes(range(1, 1 + KEY_LENGTHS[suite.encryption])),
        "integrity": suite.integrity,
        "integrity_key": bytes(range(51, 51 + KEY_LENGTHS[suite.integrity])),
        "allow_unauthenticated": True,
        "filter": 1,
        **fields,
    }
    return SecurityAssociation(direction=direction, mode=mode, **values)


def add(driver: Driver, record: SecurityAssociation) -> int:
    """Adds an SA without the word about ESP without integrity, which some suites are here for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return driver.add_sa(record)


def computer(
    name: Literal["A", "B"],
    suite: Suite = TRIPLE_DES,
    mode: Literal["transport", "tunnel"] = "transport",
    nic: Nic | None = None,
    **fields: Any,
) -> Driver:
    """Computer A or B: the outbound SA, then the inbound one."""
    driver = Driver(seed=7)
    if nic is not None:
        driver.attach_nic(nic)
    driver.set_filters([negotiate(mode=mode)])
    add(driver, association("out", suite, mode, backwards=name == "B", **fields))
    add(driver, association("in", suite, mode, backwards=name == "A", **fields))
    return driver


def state(driver: Driver) -> dict[str, Any]:
    """All that a driver says of itself but that it has a NIC."""
    return {
        "counters": driver.counters(),
        "out": driver.status_counters("out"),
        "in": driver.status_counters("in"),
        "sas": [dataclasses.replace(info, offloaded=False) for info in driver.sas()],
        "upcalls": driver.upcalls(),
    }


def sent(driver: Driver, packets: Iterable[bytes]) -> list[bytes]:
    return [packet for status, packet in run(driver, "out", packets) if status == Status.PROTECTED]


def offloaded(driver: Driver) -> list[bool]:
    return [info.offloaded for info in driver.sas()]


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}
