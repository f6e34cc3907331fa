"""Published packets: the oracle makes them again bit for bit, the driver opens every one of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matrix_kit import BACKENDS, MAX_PACKET, run
from oracle import place
from published import Published, digest, dpdk, gcm_draft, linux, rfc3602, tcpdump, wireshark

from ipsec_core import Driver, SecurityAssociation, Status

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.utils import RawPcapReader

pytestmark = pytest.mark.filterwarnings("ignore::ipsec_core.errors.SecurityWarning")
LINK_HEADER = {1: 14, 12: 0, 101: 0}  # Ethernet, raw IP
WIKI, SIX = "wireshark-wiki-esp/capture_1", "zeek/traffic/ip6_esp"


def frames(path: Path) -> list[bytes]:
    """The packets of a capture without their link headers."""
    with RawPcapReader(str(path)) as reader:
        return [data[LINK_HEADER[reader.linktype] :] for data, _ in reader]


def association(published: Published) -> SecurityAssociation:
    sa = published.sa
    source, destination = published.ends
    return SecurityAssociation(
        "in",
        sa.spi,
        source,
        destination,
        sa.encryption,
        sa.encryption_key,
        sa.integrity,
        sa.integrity_key,
        mode="tunnel" if sa.tunnel else "transport",
        protocol="ah" if sa.protocol == "ah" else "esp",
        esn=sa.esn,
        allow_unauthenticated=not published.icv_length,
        sequence=published.sequence - 1,
    )


def carried(published: Published, inner: bytes) -> bytes:
    return inner if published.sa.tunnel else inner[place(inner)[0] :]


WHOLE = {"dpdk": dpdk, "rfc3602": rfc3602, "gcm-draft": gcm_draft, "linux": linux}
COUNTS = {"dpdk": 18, "rfc3602": 3, "gcm-draft": 8, "linux": 5, "tcpdump-3des": 8, "tcpdump-aes": 8}
COUNTS |= {"wireshark": 200, "zeek": 100}


@pytest.mark.parametrize("name", WHOLE)
def test_the_oracle_seals_them_again(name: str, captures: Path) -> None:
    """With the published IV; the oracle that the driver is held against is held against others here."""
    found = list(WHOLE[name](captures))
    assert len(found) >= COUNTS[name]
    for each in found:
        assert each.sealed_by(each.sa) == each.packet[each.at :], each.name


def captured(captures: Path) -> dict[str, Callable[[], Iterator[Published]]]:
    return {
        "wireshark": lambda: wireshark(captures, frames(captures / WIKI / "capture.pcap"), f"{WIKI}/expected.json"),
        "zeek": lambda: wireshark(captures, frames(captures / f"{SIX}.pcap"), f"{SIX}.expected.json"),
        "tcpdump-3des": lambda: tcpdump(captures, frames(captures / "tcpdump" / f"{OF_2}.pcap"), OF_2),
        "tcpdump-aes": lambda: tcpdump(captures, frames(captures / "tcpdump" / f"{OF_8}.pcap"), OF_8),
        **{name: lambda make=make: make(captures) for name, make in WHOLE.items()},
    }


OF_2, OF_8 = "02-sunrise-sunset-esp", "08-sunrise-sunset-aes"


@pytest.mark.parametrize("name", COUNTS)
def test_the_driver_opens_them(name: str, captures: Path) -> None:
    """One driver a packet and back end; the SA is where the sender's was just before."""
    found = list(captured(captures)[name]())
    assert len(found) >= COUNTS[name]
    for each in (published.allowed() for published in found):
        assert len(each.packet) <= MAX_PACKET
        for backend in BACKENDS:
            driver = Driver(seed=1, backend=backend)
            driver.add_sa(association(each))
            ((status, inner),) = run(driver, "in", [each.packet])
            assert status is Status.PROTECTED, f"{each.name}: {status.name}"
            if each.inner is not None:
                assert inner == each.inner, each.name
            else:
                assert digest(carried(each, inner)) == each.digest, each.name
            assert run(driver, "in", [each.packet])[0][0] is Status.REPLAYED, each.name
