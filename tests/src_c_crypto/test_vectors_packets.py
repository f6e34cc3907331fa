"""ESP and AH packets that other implementations made: DPDK, the Linux kernel, the authors of the RFCs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from crypto_oracle import Packet, Suite, suite_named

HASHES = {"NULL": "none", "MD5": "HMAC-MD5-96", "SHA256": "HMAC-SHA2-256-128"}
HASHES |= {"SHA384": "HMAC-SHA2-384-192", "SHA512": "HMAC-SHA2-512-256"}


def dpdk(captures: Path) -> dict[str, dict[str, Any]]:
    vectors = json.loads((captures / "dpdk-vectors/dpdk_ipsec_vectors.shared.json").read_text())["vectors"]
    return {v["name"]: v for v in vectors}


def open_esp(backend: Any, suite: Suite, keys: tuple[bytes, bytes], esp: bytes) -> bytes:
    """The text of an ESP packet, which a back end opened; and sealed again to the same bytes."""
    iv, icv = 8 + suite.iv, len(esp) - suite.icv
    sealed = Packet(esp[:8], esp[8:iv], esp[iv:icv], esp[icv:])
    key = [backend.key(suite, *keys)]
    (opened,) = backend.run("decrypt", suite, key, [sealed])
    assert opened.ok == 1
    if suite.cipher.mode not in ("cbc", "des"):  # there the IV on the wire is not the one handed in
        assert backend.run("encrypt", suite, key, [opened]) == [sealed]
    return bytes(opened.text)


def test_esp_of_dpdk(whole_backend: Any, captures: Path) -> None:
    seen = 0
    for name, vector in dpdk(captures).items():
        if vector["proto"] != "ESP" or vector["aead"] == "AES_CCM":
            continue
        key = bytes.fromhex(vector["key"] + vector["salt"])
        if vector["aead"]:
            suite = suite_named(f"AES-{4 * len(vector['key'])}-GCM")
        else:
            cipher = vector["cipher"].replace("_", "-")
            cipher = cipher.replace("AES", f"AES-{4 * len(vector['key'])}")
            suite = suite_named(cipher, HASHES[vector["auth"].removesuffix("_HMAC")])
        wire, inner = bytes.fromhex(vector["output"]), bytes.fromhex(vector["input"])
        if vector["direction"] == "INGRESS":
            wire, inner = inner, wire
        header = 40 if vector["tunnel"] == "IPV6" else 20
        text = open_esp(whole_backend, suite, (key, bytes.fromhex(vector["auth_key"])), wire[header:])
        assert text.startswith(inner), name
        seen += 1
    assert seen == 16


@pytest.mark.parametrize(("name", "mac"), [("sha256", "HMAC-SHA2-256-128"), ("gmac_128", "AES-128-GMAC")])
def test_ah_of_dpdk(whole_backend: Any, captures: Path, name: str, mac: str) -> None:
    """The ICV covers the IP packet with its mutable fields zeroed (RFC 2402 3.3.3.1.1.1)."""
    (vector,) = (v for n, v in dpdk(captures).items() if v["proto"] == "AH" and n.endswith(name))
    packet = bytearray(bytes.fromhex(vector["output"]))
    for mutable in (1, 6, 7, 8, 10, 11):  # TOS, flags and offset, TTL, checksum
        packet[mutable] = 0
    suite = suite_named("NULL", mac, ah=1)
    icv = 32 + suite.iv
    end = icv + suite.icv
    arriving = Packet(bytes(packet[:32]), bytes(packet[32:icv]), bytes(packet[end:]), bytes(packet[icv:end]))
    key = [whole_backend.key(suite, b"", bytes.fromhex(vector["auth_key"] + vector["salt"]))]
    burst = [arriving, arriving.flip(3)]
    assert [p.ok for p in whole_backend.run("decrypt", suite, key * 2, burst)] == [1, 0]
    (made,) = whole_backend.run("encrypt", suite, key, [arriving])
    assert made.icv == arriving.icv


def test_esp_of_linux(whole_backend: Any, captures: Path) -> None:
    suites = {
        "cbc(des)": suite_named("DES-CBC"),
        "cbc(aes)": suite_named("AES-128-CBC"),
        "rfc3686(ctr(aes))": suite_named("AES-128-CTR"),
        "rfc4106(gcm(aes))": suite_named("AES-128-GCM"),
        "rfc4543(gcm(aes))": suite_named("NULL", "AES-128-GMAC"),
    }
    seen = set()
    for vector in json.loads((captures / "scapy/linux_kernel_esp_vectors.shared.json").read_text())["vectors"]:
        suite = suites.get(vector["algorithm"])
        if suite is None:
            continue  # Blowfish, CAST
        key = bytes.fromhex(vector["key"])
        spi = int(vector["spi"], 16).to_bytes(4, "big")
        esp = spi + vector["seq"].to_bytes(4, "big") + bytes.fromhex(vector["esp_after_seq"])
        text = open_esp(whole_backend, suite, (b"", key) if suite.integrity else (key, b""), esp)
        assert text.startswith(bytes.fromhex(vector["plaintext"]))
        seen.add(vector["algorithm"])
    assert seen == set(suites)


def test_esp_of_rfc_3602(whole_backend: Any, captures: Path) -> None:
    cases = json.loads((captures / "rfc-vectors/rfc3602.shared.json").read_text())["cases"]
    packets = [c for c in cases if c["type"] == "esp-packet"]
    assert len(packets) >= 3
    for case in packets:
        esp = bytes.fromhex(case["spi_seq"] + case["iv"] + case["encrypted"])
        assert bytes.fromhex(case["packet"]).endswith(esp)
        text = open_esp(whole_backend, suite_named("AES-128-CBC"), (bytes.fromhex(case["key"]), b""), esp)
        assert text == bytes.fromhex(case["pre_encryption"])
