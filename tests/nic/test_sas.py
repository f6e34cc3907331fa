"""Which SAs the NIC takes, and when it lets go of them."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from driver_kit import ip, negotiate, statuses
from nic_kit import AH, MODES, SUITES, TRIPLE_DES, Suite, add, association, computer, moved, offloaded, sent

from ipsec_core import Driver, SecurityAssociation, Status
from ipsec_core.driver import NIC_CAPABILITIES, Nic

HASHES = {"HMAC-MD5-96": "ah-md5", "HMAC-SHA1-96": "ah-sha-1"}
CIPHERS = {"NULL": "esp-null", "DES-CBC": "esp-des", "3DES-CBC": "esp-triple-des"}


def needed(suite: Suite, mode: str, direction: str) -> set[str]:
    way = "send" if direction == "out" else "receive"
    bits = {f"{suite.protocol}-{mode}", f"{suite.protocol}-{way}"}
    if suite.protocol == "esp":
        bits.add(CIPHERS[suite.encryption])
    if suite.authenticated:
        bits.add(HASHES[suite.integrity])
    return bits


def taken(record: SecurityAssociation, nic: Nic) -> bool:
    driver = Driver(seed=1)
    driver.attach_nic(nic)
    return driver.sa_info(add(driver, record)).offloaded


@pytest.mark.parametrize("direction", ["out", "in"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suite", SUITES, ids="-".join)
def test_each_bit_counts(suite: Suite, mode: Any, direction: Any) -> None:
    record, bits = association(direction, suite, mode), needed(suite, mode, direction)
    assert taken(record, Nic(bits))
    for bit in bits:
        nic = Nic(set(NIC_CAPABILITIES) - {bit})
        assert not taken(record, nic), bit
        assert moved(Nic().statistics(), nic.statistics()) == {"sa_offers": 1, "sa_refusals": 1}


V6 = {"source": "2001:db8::1", "destination": "2001:db8::2"}
GCM = {"encryption": "AES-128-GCM", "encryption_key": bytes(20), "integrity": "none", "integrity_key": b""}
SHA2 = {"integrity": "HMAC-SHA2-256-128", "integrity_key": bytes(32)}
CBC = {"encryption": "AES-128-CBC", "encryption_key": bytes(16)}


@pytest.mark.parametrize(
    "fields",
    [{"esn": True}, V6, {"encapsulation": (4500, 4500)}, GCM, SHA2, CBC],
    ids=["esn", "ipv6", "udp", "aes-gcm", "sha-2", "aes-cbc"],
)
@pytest.mark.parametrize("direction", ["out", "in"])
def test_beyond_ndis_5(direction: Any, fields: dict[str, Any]) -> None:
    assert not taken(association(direction, **fields), Nic())


def test_a_soft_sa_is_not_offered() -> None:
    nic = Nic()
    assert not taken(SecurityAssociation("out", protocol="none", filter=1), nic)
    assert nic.statistics()["sa_offers"] == 0


def test_no_room() -> None:
    nic, driver = Nic(sa_capacity=2), Driver(seed=1)
    driver.attach_nic(nic)
    handles = [add(driver, association("in", spi=0x2000 + i)) for i in range(4)]
    assert offloaded(driver) == [True, True, False, False]
    assert moved(Nic().statistics(), nic.statistics()) == {"sas": 2, "sa_offers": 4, "sa_no_room": 2}
    driver.delete_sa(handles[0])
    assert nic.statistics()["sas"] == nic.statistics()["sa_deletions"] == 1
    assert driver.sa_info(add(driver, association("in", spi=0x3000))).offloaded
    for handle in handles[1:]:
        driver.delete_sa(handle)
    assert nic.statistics()["sas"] == 1


def test_sas_from_before_stay_in_software() -> None:
    driver, nic = computer("A"), Nic()
    driver.attach_nic(nic)
    assert offloaded(driver) == [False, False]
    assert nic.statistics()["sa_offers"] == 0
    assert len(sent(driver, [ip(b"data")])) == 1
    assert moved(Nic().statistics(), nic.statistics()) == {}


def test_enable_offload_0() -> None:
    nic, driver = Nic(), Driver(seed=7)
    driver.attach_nic(nic, enable_offload=False)
    assert nic.attached
    assert nic.capabilities == frozenset()
    add(driver, association("out"))
    assert offloaded(driver) == [False]
    assert nic.statistics()["sa_offers"] == 0
    driver.enable_offload(True)
    assert nic.capabilities == frozenset(NIC_CAPABILITIES)
    add(driver, association("in"))
    assert offloaded(driver) == [False, True]


@pytest.mark.parametrize("how", ["enable_offload", "detach", "delete_sa"])
def test_what_leaves_the_nic_goes_on_in_software(how: Literal["enable_offload", "detach", "delete_sa"]) -> None:
    """Sequence number and replay window are the host's, so that the peer notices nothing."""
    near, far = Nic(), Nic()
    a, b = computer("A", nic=near), computer("B", nic=far)
    early = sent(a, [ip(b"one"), ip(b"two")])
    assert statuses(b, "in", early) == [Status.PROTECTED] * 2
    if how == "enable_offload":
        a.enable_offload(False)
        b.enable_offload(False)
    elif how == "detach":
        a.detach_nic()
        b.detach_nic()
        assert not near.attached
    else:
        a.delete_sa(a.sas()[1].handle)
        b.delete_sa(b.sas()[0].handle)
        assert offloaded(a) == offloaded(b) == [True]
        return
    assert offloaded(a) == offloaded(b) == [False, False]
    assert near.statistics()["sas"] == far.statistics()["sas"] == 0
    late = sent(a, [ip(b"three")])
    assert statuses(b, "in", [*early, *late]) == [Status.REPLAYED] * 2 + [Status.PROTECTED]
    assert near.statistics()["ipsec_sent"] == far.statistics()["ipsec_received"] == 2


def test_a_nic_goes_from_one_driver_to_the_next() -> None:
    nic, first, second = Nic(), computer("A"), computer("B")
    first.attach_nic(nic)
    first.detach_nic()
    first.detach_nic()
    second.attach_nic(nic)
    assert nic.attached
    add(second, association("in", spi=0x5000))
    assert offloaded(second) == [False, False, True]


def test_either_may_be_forgotten_first() -> None:
    driver = computer("A", nic=Nic())
    assert len(sent(driver, [ip(b"data")])) == 1
    nic = Nic()
    computer("B", nic=nic)
    assert nic.statistics()["sas"] == 2


def test_rekeyed_sas_and_other_sas_side_by_side() -> None:
    """Runs of operations are cut where the NIC's SAs and the host's meet."""
    near, far = Nic(sa_capacity=3), Nic(sa_capacity=3)
    suites = [TRIPLE_DES, AH, Suite("esp", "NULL", "HMAC-MD5-96"), TRIPLE_DES, AH, TRIPLE_DES]
    packets = [ip(bytes([n]), destination=f"10.1.0.{2 + n % 6}") for n in range(60)]
    wires = []
    for nics in ((None, None), (near, far)):
        a, b = Driver(seed=1), Driver(seed=2)
        for driver, nic in zip((a, b), nics, strict=True):
            if nic is not None:
                driver.attach_nic(nic)
        a.set_filters([negotiate()])
        for i, suite in enumerate(suites):
            end: dict[str, Any] = {"destination": f"10.1.0.{2 + i}", "spi": 0x2000 + i}
            add(a, association("out", suite, **end))
            add(b, association("in", suite, **end))
        wires.append(sent(a, packets))
        assert statuses(b, "in", wires[-1]) == [Status.PROTECTED] * 60
    assert wires[0] == wires[1]
    assert near.statistics()["ipsec_sent"] == far.statistics()["ipsec_received"] == 30
