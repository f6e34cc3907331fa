"""ESP packets that others published. Each test states how many of them fit the driver's suites and ran."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

from driver_kit import SHA1_KEY, SPI, ip, run, sa, statuses
from esp_oracle import Esp

from ipsec_core import Driver, Status

ETHERNET = 14


def read_pcap(path: Path) -> Iterator[tuple[int, bytes]]:
    """(link type, frame) of a classic pcap file in little or big endian."""
    data = path.read_bytes()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    link = struct.unpack_from(order + "I", data, 20)[0]
    at = 24
    while at < len(data):
        length = struct.unpack_from(order + "I", data, at + 8)[0]
        yield link, data[at + 16 : at + 16 + length]
        at += 16 + length


def readdress(packet: bytes, oracle: Esp) -> bytes:
    """The packet with the SPI and the HMAC-SHA1-96 of the oracle's SA around the IV and text that it has."""
    total = int.from_bytes(packet[2:4], "big")
    authenticated = struct.pack("!I", oracle.spi) + packet[24 : total - 12]
    return packet[:20] + authenticated + oracle.mac(authenticated)


def address(packet: bytes, at: int) -> str:
    return ".".join(map(str, packet[at : at + 4]))


def test_dpdk_aes_128_gcm(captures: Path, backend: str) -> None:
    vectors = json.loads((captures / "dpdk-vectors" / "dpdk_ipsec_vectors.shared.json").read_text())
    ran = 0
    for v in vectors["vectors"]:
        if v["aead"] != "AES_GCM" or len(v["key"]) != 32 or v["tunnel"] != "IPV4" or v["direction"] != "EGRESS":
            continue
        clear, protected = bytes.fromhex(v["input"]), bytes.fromhex(v["output"])
        key, spi = bytes.fromhex(v["key"] + v["salt"]), int(v["spi"], 0)
        ends = address(protected, 12), address(protected, 16)
        driver = Driver(backend=backend)
        # The driver takes no reserved SPI (below 256, RFC 2406 2.1): such a packet is sealed anew.
        if spi < 256:
            assert Esp(spi, "AES-128-GCM", key, b"", ends).body(1, bytes.fromhex(v["iv"]), clear, 4) == protected[20:]
            spi = SPI
            protected = Esp(spi, "AES-128-GCM", key, b"", ends).seal(clear, 1, bytes.fromhex(v["iv"]))
        driver.add_sa(
            sa("in", "AES-128-GCM", "tunnel", spi=spi, source=ends[0], destination=ends[1], encryption_key=key)
        )
        assert run(driver, "in", [protected]) == [(Status.PROTECTED, clear)], v["name"]
        ran += 1
    assert ran == 2


def test_draft_mcgrew_gcm_text(captures: Path, backend: str) -> None:
    """The draft's cases with a 128-bit key all use extended sequence numbers, which the driver has not (RFC 2406).

    The text does not depend on them, so all but the ICV is the draft's; the ICV is made anew for an 8-byte header.
    """
    cases = json.loads((captures / "rfc-vectors" / "draft-mcgrew-gcm-test-01.shared.json").read_text())["cases"]
    ran = 0
    for case in cases:
        text = bytes.fromhex(case["plaintext"])
        if len(case["key"]) != 32:
            continue
        payload, next_header = text[: -2 - text[-2]], text[-1]
        key, iv, spi = bytes.fromhex(case["key"] + case["salt"]), bytes.fromhex(case["iv"]), int(case["spi"], 16)
        driver = Driver(backend=backend)
        spi = max(spi, 256)  # case 6 has SPI 1, which is reserved
        driver.add_sa(sa("in", "AES-128-GCM", spi=spi, encryption_key=key))
        body = Esp(spi, "AES-128-GCM", key).body(1, iv, payload, next_header)
        assert body[16:-16] == bytes.fromhex(case["ciphertext"]), case["id"]
        opened = run(driver, "in", [ip(body, protocol=50)])
        assert opened == [(Status.PROTECTED, ip(payload, protocol=next_header))], case["id"]
        ran += 1
    assert ran == 6


def test_wireshark_wiki_3des_sha1(captures: Path, backend: str) -> None:
    """SPI 111 is reserved (RFC 2406 2.1) and refused by the driver: header and ICV are made anew, IV and text stay."""
    folder = captures / "wireshark-wiki-esp" / "capture_1"
    expected = json.loads((folder / "expected.json").read_text())["packets"]
    wanted = {e["frame"]: e for e in expected if (e["src"], e["dst"]) == ("190.0.0.1", "190.0.0.3")}
    frames = dict(enumerate(read_pcap(folder / "capture.pcap"), 1))
    key, mac = b"3descbcencryptiontesting", b"hmacsha1authenticati"
    driver = Driver(backend=backend)
    ends = {"source": "190.0.0.1", "destination": "190.0.0.3"}
    driver.add_sa(sa("in", "3DES-CBC", spi=SPI, encryption_key=key, integrity_key=mac, **ends))
    for number, facts in wanted.items():
        protected = frames[number][1][ETHERNET:]
        clear = Esp(111, "3DES-CBC", key, mac).open(protected)
        assert clear is not None, "the recorded ICV is right"
        ((status, opened),) = run(driver, "in", [readdress(protected, Esp(SPI, "3DES-CBC", key, mac))])
        assert (status, opened) == (Status.PROTECTED, clear)
        assert opened[9] == facts["next_header"]
        assert hashlib.sha256(opened[20:]).hexdigest() == facts["plaintext_sha256"]
    assert len(wanted) == driver.sas()[0].packets == 10


def test_tcpdump_3des_tunnel(captures: Path, backend: str) -> None:
    """The key of the ICV was not published: it is made anew, all before it is what was recorded."""
    folder = captures / "tcpdump"
    expected = json.loads((folder / "02-sunrise-sunset-esp.expected.json").read_text())["packets"]
    key = bytes.fromhex("4043434545464649494a4a4c4c4f4f515152525454575758")  # tests/TESTLIST of tcpdump
    spi, ends = 0x12345678, {"source": "192.1.2.23", "destination": "192.1.2.45"}
    driver = Driver(backend=backend)
    driver.add_sa(sa("in", "3DES-CBC", "tunnel", spi=spi, encryption_key=key, **ends))
    packets = [
        frame[frame.index(b"\x08\x00\x45") + 2 :] for _, frame in read_pcap(folder / "02-sunrise-sunset-esp.pcap")
    ]
    assert statuses(driver, "in", packets) == [Status.NOT_AUTHENTICATED] * 8
    results = run(driver, "in", [readdress(packet, Esp(spi, "3DES-CBC", key, SHA1_KEY)) for packet in packets])
    assert len(results) == len(expected) == 8
    for (status, clear), facts in zip(results, expected, strict=True):
        assert status == Status.PROTECTED
        assert hashlib.sha256(clear).hexdigest() == facts["plaintext_sha256"]


def test_linux_kernel_gcm(captures: Path, backend: str) -> None:
    vectors = json.loads((captures / "scapy" / "linux_kernel_esp_vectors.shared.json").read_text())["vectors"]
    ran = 0
    for v in vectors:
        if v["algorithm"] != "rfc4106(gcm(aes))":
            continue
        spi, key = int(v["spi"], 0), bytes.fromhex(v["key"])
        body = struct.pack("!II", spi, v["seq"]) + bytes.fromhex(v["esp_after_seq"])
        text = bytes.fromhex(v["plaintext"])
        inner = text[: int.from_bytes(text[2:4], "big")]
        ends = {"source": "10.125.0.2", "destination": "10.125.0.1"}
        driver = Driver(backend=backend)
        driver.add_sa(sa("in", "AES-128-GCM", "tunnel", spi=spi, encryption_key=key, **ends))
        assert run(driver, "in", [ip(body, protocol=50, **ends)]) == [(Status.PROTECTED, inner)]
        ran += 1
    assert ran == 1
