"""Published vectors, through the same calls that the driver makes.

An operation always has 8 bytes of ESP header as AAD and 96 bits of HMAC, so vectors are used as far as they fit:
- GCM with 8 bytes of AAD: all of it; with another AAD: the ciphertext, which does not depend on the AAD.
- 3DES-CBC: decryption as it is. For encryption the value handed in is the vector's IV decrypted, so it is sent.
- HMAC-SHA1: the message is taken for an ESP packet; the plaintext handed in is the message decrypted.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def gcm_vectors(captures: Path) -> Iterator[tuple[bytes, bytes, bytes, bytes, bytes, bytes, bool]]:
    """Key, nonce, AAD, plaintext, ciphertext, tag, valid: AES-128 with a 96-bit nonce and a 128-bit tag."""
    for name in ("wycheproof/aes_gcm_test.json", "intel-ipsec-mb/gcm_test.json"):
        for group in json.loads((captures / name).read_text())["testGroups"]:
            if (group["keySize"], group["ivSize"], group["tagSize"]) == (128, 96, 128):
                for t in group["tests"]:
                    fields = [bytes.fromhex(t[k]) for k in ("key", "iv", "aad", "msg", "ct", "tag")]
                    yield *fields, t["result"] == "valid"
    for t in json.loads((captures / "rfc-vectors/draft-mcgrew-gcm-test-01.shared.json").read_text())["cases"]:
        if len(t["key"]) == 32:
            names = ("key", "aad", "plaintext", "ciphertext", "icv")
            key, aad, plain, cipher, tag = (bytes.fromhex(t[k]) for k in names)
            yield key, bytes.fromhex(t["salt"] + t["iv"]), aad, plain, cipher, tag, True


def test_gcm(backend: Any, gcm: Any, captures: Path, make_packet: Any) -> None:
    whole = texts = 0
    for key, nonce, aad, plain, cipher, tag, valid in gcm_vectors(captures):
        if len(plain) % gcm.block or not valid:
            continue
        handle = [backend.key(gcm, key + nonce[:4])]
        header = aad if len(aad) == 8 else bytes(8)
        (sealed,) = backend.run("encrypt", gcm, handle, [make_packet(header, nonce[4:], plain, bytes(16))])
        assert sealed.text == cipher
        if header == aad:
            assert sealed.icv == tag
            whole += 1
        (opened,) = backend.run("decrypt", gcm, handle, [sealed])
        assert opened == make_packet(header, nonce[4:], plain, sealed.icv)
        texts += 1
    assert whole >= 3
    assert texts >= 40


def test_gcm_modified_tags_of_wycheproof(backend: Any, gcm: Any, captures: Path, make_packet: Any) -> None:
    """Their AAD does not fit, but what was done to the tag does: the same difference put on our own tag."""
    seen = 0
    for key, nonce, aad, plain, cipher, tag, valid in gcm_vectors(captures):
        if valid:
            continue
        right = AESGCM(key).encrypt(nonce, plain, aad)[-16:]
        handle = [backend.key(gcm, key + nonce[:4])]
        (sealed,) = backend.run("encrypt", gcm, handle, [make_packet(bytes(8), nonce[4:], plain, bytes(16))])
        assert sealed.text == cipher
        icv = bytes(a ^ b ^ c for a, b, c in zip(sealed.icv, right, tag, strict=True))
        assert icv != sealed.icv
        (opened,) = backend.run("decrypt", gcm, handle, [make_packet(bytes(8), nonce[4:], cipher, icv)])
        assert opened.ok == 0
        seen += 1
    assert seen >= 20


def des3_vectors(captures: Path) -> Iterator[tuple[str, bytes, bytes, bytes, bytes]]:
    """Direction, key, IV, plaintext, ciphertext of the NIST CAVS files."""
    for path in sorted((captures / "cryptography-vectors").glob("ciphers__3DES__CBC__*.rsp")):
        direction, fields = "", {}
        for line in [*path.read_text().splitlines(), ""]:
            if line in ("[ENCRYPT]", "[DECRYPT]"):
                direction = line[1:-1].lower()
            elif " = " in line and not line.startswith("#"):
                name, value = line.split(" = ")
                fields[name] = value
            elif not line and "CIPHERTEXT" in fields:
                key = fields["KEYs"] * 3 if "KEYs" in fields else fields["KEY1"] + fields["KEY2"] + fields["KEY3"]
                parts = (key, fields["IV"], fields["PLAINTEXT"], fields["CIPHERTEXT"])
                yield direction, *(bytes.fromhex(part) for part in parts)  # type: ignore[misc]
                fields = {}


def test_3des_cbc(backend: Any, des3_sha1: Any, captures: Path, make_packet: Any, oracle_des3: Any) -> None:
    mac = bytes(range(20))
    bursts: dict[str, list[Any]] = {"encrypt": [], "decrypt": []}
    for direction, key, iv, plain, cipher in des3_vectors(captures):
        icv = hmac.new(mac, bytes(8) + iv + cipher, hashlib.sha1).digest()[:12]
        sealed = make_packet(bytes(8), iv, cipher, icv)
        before_iv = oracle_des3(key, bytes(8), iv, decrypt=True) if direction == "encrypt" else iv
        opened = make_packet(bytes(8), before_iv, plain, icv)
        pair = (opened, sealed) if direction == "encrypt" else (sealed, opened)
        bursts[direction].append((backend.key(des3_sha1, key, mac), *pair))
    for direction, rows in bursts.items():
        assert len(rows) > 200
        keys, given, wanted = zip(*rows, strict=True)
        assert backend.run(direction, des3_sha1, keys, given) == list(wanted)


def hmac_vectors(captures: Path) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Key of 20 bytes, message, tag of 12 bytes, valid. A shorter key is one that ends in zeros (RFC 2104 2)."""
    for group in json.loads((captures / "wycheproof/hmac_sha1_test.json").read_text())["testGroups"]:
        for t in group["tests"]:
            if group["keySize"] <= 160 and group["tagSize"] >= 96:
                key, message, tag = (bytes.fromhex(t[k]) for k in ("key", "msg", "tag"))
                yield key.ljust(20, b"\0"), message, tag[:12], t["result"] == "valid"
    packed = captures / "nist-acvp/HMAC-SHA-1-2.0__internalProjection.json.gz"
    for group in json.loads(gzip.decompress(packed.read_bytes()))["testGroups"]:
        for t in group["tests"]:
            if t["keyLen"] <= 160 and t["macLen"] >= 96:
                key, message, tag = (bytes.fromhex(t[k]) for k in ("key", "msg", "mac"))
                yield key.ljust(20, b"\0"), message, tag[:12], True


def test_hmac_sha1_96(backend: Any, des3_sha1: Any, captures: Path, make_packet: Any, oracle_des3: Any) -> None:
    cipher_key = bytes(range(24))
    keys, sealed, opened, valid = [], [], [], []
    for key, message, tag, good in hmac_vectors(captures):
        if len(message) < 16 or len(message) % 8:
            continue
        if not good and hmac.new(key, message, hashlib.sha1).digest()[:12] == tag:
            continue  # modified behind the 96 bits that are sent
        before = oracle_des3(cipher_key, bytes(8), message[8:], decrypt=True)
        keys.append(backend.key(des3_sha1, cipher_key, key))
        sealed.append(make_packet(message[:8], message[8:16], message[16:], tag))
        opened.append(make_packet(message[:8], before[:8], before[8:], bytes(12)))
        valid.append(int(good))
    assert sum(valid) >= 6
    assert valid.count(0) >= 20
    assert [p.ok for p in backend.run("decrypt", des3_sha1, keys, sealed)] == valid
    made = backend.run("encrypt", des3_sha1, keys, opened)
    assert [m.text for m in made] == [s.text for s in sealed]
    assert [m.icv == s.icv for m, s in zip(made, sealed, strict=True)] == [bool(v) for v in valid]


def test_dpdk_esp_packet(backend: Any, gcm: Any, captures: Path, make_packet: Any) -> None:
    vectors = json.loads((captures / "dpdk-vectors/dpdk_ipsec_vectors.shared.json").read_text())["vectors"]
    (vector,) = (v for v in vectors if v["name"] == "pkt_aes_128_gcm")
    esp = bytes.fromhex(vector["output"])[20:]
    key = [backend.key(gcm, bytes.fromhex(vector["key"] + vector["salt"]))]
    (opened,) = backend.run("decrypt", gcm, key, [make_packet(esp[:8], esp[8:16], esp[16:-16], esp[-16:])])
    assert opened.ok == 1
    assert opened.text.startswith(bytes.fromhex(vector["input"]))
    (sealed,) = backend.run("encrypt", gcm, key, [opened])
    assert sealed.aad + sealed.iv + sealed.text + sealed.icv == esp
