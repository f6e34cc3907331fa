"""tshark opens what the driver seals: one capture and one run for each shape, with every suite that it knows inside.

What tshark cannot do: ESP NULL with AES-GMAC (no name in its table; RFC 4543), ChaCha20-Poly1305 (RFC 7634), extended
sequence numbers (its table has no place for the high half), and the ICV of AH, which it shows but does not verify.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from matrix_kit import HEADER, PLAIN, SHAPES, SPI, SUITES, Shape, Suite, clear, passed, sender
from oracle import IN_IP, place

pytestmark = pytest.mark.filterwarnings("ignore::ipsec_core.errors.SecurityWarning")
RAW_IP = 101  # LINKTYPE_RAW
SIZES = (0, 1, 13, 14, 15, 16, 200, 1333)
PREFERENCES = (
    *("-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"),
    *("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"),
)
FIELDS = (
    *("esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "esp.protocol", "esp.contained_data", "esp.pad"),
    *("ip.checksum.status", "udp.checksum.status", "_ws.malformed"),
    *("ah.next_header", "ah.length", "ah.spi", "ah.sequence", "ah.icv", "ip.proto", "ipv6.nxt"),
)
Row = dict[str, list[str]]
GOOD, BAD = (["1"], ["0"]), (["0"], ["1"])
GOOD_IN_WORDS, BAD_IN_WORDS = (["True"], ["False"]), (["False"], ["True"])  # Wireshark 4.2 and later
CHECKSUM_STATES = {"1", "3"}  # good, not present

CIPHERS = {"NULL": "NULL", "DES-CBC": "DES-CBC [RFC2405]", "3DES-CBC": "TripleDES-CBC [RFC2451]"}
CIPHERS |= {
    f"AES-{bits}-{mode}": f"AES-{mode} [{rfc}]"
    for bits in (128, 192, 256)
    for mode, rfc in (("CBC", "RFC3602"), ("CTR", "RFC3686"))
}
CIPHERS |= {
    f"AES-{bits}-GCM{suffix}": f"AES-GCM with {icv} octet ICV [RFC4106]"
    for bits in (128, 192, 256)
    for suffix, icv in (("", 16), ("-12", 12), ("-8", 8))
}
HMACS = {
    "none": "NULL",
    "HMAC-MD5-96": "HMAC-MD5-96 [RFC2403]",
    "HMAC-SHA1-96": "HMAC-SHA-1-96 [RFC2404]",
    "HMAC-SHA2-256-128": "HMAC-SHA-256-128 [RFC4868]",
    "HMAC-SHA2-384-192": "HMAC-SHA-384-192 [RFC4868]",
    "HMAC-SHA2-512-256": "HMAC-SHA-512-256 [RFC4868]",
}
ESP_SUITES = [s for s in SUITES if s.protocol == "esp" and s.encryption in CIPHERS and s.integrity in HMACS]
AH_SUITES = [suite for suite in SUITES if suite.protocol == "ah"]


def spi(number: int) -> int:
    return SPI + number


def capture(path: Path, packets: Sequence[bytes]) -> None:
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP))
        for number, packet in enumerate(packets):
            out.write(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)


def suite_keys(suite: Suite) -> tuple[bytes, bytes]:
    return suite.key("encryption"), suite.key("integrity")


def table(path: Path, shape: Shape, spoilt: bytes = b"") -> None:
    source, destination = shape.ends
    with path.open("w") as out:
        for number, suite in enumerate(ESP_SUITES):
            keys = [f"0x{(spoilt + key[len(spoilt) :]).hex()}" if key else "" for key in suite_keys(suite)]
            fields = (f"IPv{shape.outer}", source, destination, f"0x{spi(number):08x}", CIPHERS[suite.encryption])
            out.write(",".join(f'"{field}"' for field in (*fields, keys[0], HMACS[suite.integrity], keys[1])) + "\n")


def tshark(path: Path, config: Path) -> list[Row]:
    """The packets of the capture as tshark sees them with the tables in `config`, and nothing else, in its folder."""
    if shutil.which("tshark") is None:
        if "CI" in os.environ:
            pytest.fail("tshark, the oracle, is missing")
        pytest.skip("no tshark")
    fields = [word for field in FIELDS for word in ("-e", field)]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    output = subprocess.run(
        ["tshark", "-r", str(path), *PREFERENCES, "-T", "fields", "-E", "separator=/t", *fields],
        check=True,
        capture_output=True,
        text=True,
        env=environment | {"WIRESHARK_CONFIG_DIR": str(config)},
    ).stdout
    values = [[text.split(",") if text else [] for text in line.split("\t")] for line in output.splitlines()]
    return [dict(zip(FIELDS, line, strict=True)) for line in values]


def configured(folder: Path, shape: Shape, spoilt: bytes = b"") -> Path:
    config = folder / "config"
    config.mkdir()
    table(config / "esp_sa", shape, spoilt)
    return config


def sealed_by(suites: Sequence[Suite], shape: Shape) -> list[tuple[Suite, int, bytes, bytes]]:
    """Suite, sequence number, clear and protected packet."""
    found = []
    for number, suite in enumerate(suites):
        packets = [clear(shape.inner, size) for size in SIZES]
        sealed = passed(sender(suite, shape, spi=spi(number)), "out", packets)
        found += [(suite, at, *pair) for at, pair in enumerate(zip(packets, sealed, strict=True), 1)]
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tshark_opens_esp(shape: Shape, tmp_path: Path) -> None:
    cells = sealed_by(ESP_SUITES, shape)
    capture(tmp_path / "esp.pcap", [sealed for *_, sealed in cells])
    rows = tshark(tmp_path / "esp.pcap", configured(tmp_path, shape))
    assert len(rows) == len(cells) == len(ESP_SUITES) * len(SIZES)
    for row, (suite, sequence, packet, _) in zip(rows, cells, strict=True):
        what = f"{suite} {sequence}"
        carried = packet if shape.mode == "tunnel" else packet[place(packet)[0] :]
        assert row["esp.spi"] == [f"0x{spi(ESP_SUITES.index(suite)):08x}"], what
        assert row["esp.sequence"] == [str(sequence)], what
        if suite.icv:
            assert (row["esp.icv_good"], row["esp.icv_bad"]) in (GOOD, GOOD_IN_WORDS), what
        assert bytes.fromhex("".join(row["esp.contained_data"])) == carried, what
        # tshark reads the trailer only when it dissects the protocol inside, not with that for experiments.
        if shape.mode == "tunnel":
            pad = -(len(carried) + 2) % suite.block
            assert bytes.fromhex("".join(row["esp.pad"])) == bytes(range(1, pad + 1)), what
            assert row["esp.protocol"] == [f"0x{IN_IP[shape.inner]:02x}"], what
        assert not row["_ws.malformed"], what
        assert set(row["ip.checksum.status"] + row["udp.checksum.status"]) <= CHECKSUM_STATES, what


def test_tshark_opens_nothing_with_other_keys(tmp_path: Path) -> None:
    """These tests can fail."""
    cells = sealed_by(ESP_SUITES, SHAPES[0])
    capture(tmp_path / "esp.pcap", [sealed for *_, sealed in cells])
    rows = tshark(tmp_path / "esp.pcap", configured(tmp_path, SHAPES[0], spoilt=b"spoilt"))
    for row, (suite, _, packet, _) in zip(rows, cells, strict=True):
        if suite.icv:
            assert (row["esp.icv_good"], row["esp.icv_bad"]) in (BAD, BAD_IN_WORDS), suite
        if suite.encryption != "NULL":
            assert bytes.fromhex("".join(row["esp.contained_data"])) != packet[20:] or packet[20:] == b"", suite


@pytest.mark.parametrize("shape", PLAIN, ids=str)
def test_tshark_reads_ah(shape: Shape, tmp_path: Path) -> None:
    """RFC 4302 2: every field of the header is where tshark looks for it, and what follows is read on."""
    cells = sealed_by(AH_SUITES, shape)
    capture(tmp_path / "ah.pcap", [sealed for *_, sealed in cells])
    rows = tshark(tmp_path / "ah.pcap", configured(tmp_path, shape))
    for row, (suite, sequence, packet, sealed) in zip(rows, cells, strict=True):
        what = f"{suite} {sequence}"
        size = len(sealed) - HEADER[shape.outer] - len(packet if shape.mode == "tunnel" else packet[place(packet)[0] :])
        icv = sealed[HEADER[shape.outer] + 12 : HEADER[shape.outer] + size]
        protocol = IN_IP[shape.inner] if shape.mode == "tunnel" else packet[place(packet)[1]]
        assert row["ah.next_header"] == [str(protocol)], what
        assert row["ah.length"] == [str(size // 4 - 2)], what
        assert row["ah.spi"] == [f"0x{spi(AH_SUITES.index(suite)):08x}"], what
        assert row["ah.sequence"] == [str(sequence)], what
        assert bytes.fromhex("".join(row["ah.icv"])) == icv, what
        assert not row["_ws.malformed"], what
        assert set(row["ip.checksum.status"]) <= CHECKSUM_STATES, what
        if shape.mode == "tunnel":
            assert row["ip.proto" if shape.inner == 4 else "ipv6.nxt"][-1] == "253", what
