"""Published vectors in the shape of ESP.

With 8 bytes of AAD a vector is taken whole, with 12 bytes it is one of ESN (RFC 4106 5). With another AAD the text
still has to come out, since it does not depend on the AAD; and what an invalid vector did to the tag is done to ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .conftest import Backend, Packet, Suite


@dataclass(frozen=True, slots=True)
class Vector:
    key: bytes
    nonce: bytes
    aad: bytes
    plain: bytes
    cipher: bytes
    tag: bytes
    valid: bool


def vectors(captures: Path) -> Iterator[Vector]:
    """Those with a 96-bit nonce and a tag that ESP can have."""
    for name in ("wycheproof/aes_gcm_test.json", "intel-ipsec-mb/gcm_test.json"):
        for group in json.loads((captures / name).read_text())["testGroups"]:
            if group["ivSize"] == 96 and group["tagSize"] in (64, 96, 128):
                for t in group["tests"]:
                    key, nonce, aad, plain, cipher, tag = (
                        bytes.fromhex(t[k]) for k in ("key", "iv", "aad", "msg", "ct", "tag")
                    )
                    yield Vector(key, nonce, aad, plain, cipher, tag, t["result"] == "valid")
    for t in json.loads((captures / "rfc-vectors/draft-mcgrew-gcm-test-01.shared.json").read_text())["cases"]:
        names = ("key", "aad", "plaintext", "ciphertext", "icv")
        key, aad, plain, cipher, tag = (bytes.fromhex(t[k]) for k in names)
        yield Vector(key, bytes.fromhex(t["salt"] + t["iv"]), aad, plain, cipher, tag, True)


def packet_of(vector: Vector) -> tuple[Suite, Packet]:
    suite = Suite(len(vector.key), len(vector.tag), esn=len(vector.aad) == 12)
    aad = vector.aad if len(vector.aad) in (8, 12) else bytes(8)
    header, high = aad[:4] + aad[-4:], int.from_bytes(aad[4:8], "big") if suite.esn else 0
    return suite, Packet(vector.key + vector.nonce[:4], header, vector.nonce[4:], vector.plain, high=high)


def test_valid(backend: Backend, captures: Path) -> None:
    whole = {8: 0, 12: 0}
    texts = set()
    for vector in vectors(captures):
        if not vector.valid:
            continue
        suite, packet = packet_of(vector)
        (sealed,) = backend.run("encrypt", suite, [packet])
        assert sealed.text == vector.cipher
        if len(vector.aad) in whole:
            assert sealed.icv == vector.tag
            whole[len(vector.aad)] += 1
        (opened,) = backend.run("decrypt", suite, [sealed])
        assert (opened.ok, opened.text) == (1, vector.plain)
        texts.add((suite.key, vector.plain))
    assert whole[8] >= 7
    assert whole[12] >= 8
    assert len(texts) >= 60


def test_modified_tags(backend: Backend, captures: Path) -> None:
    seen = 0
    for vector in vectors(captures):
        if vector.valid:
            continue
        suite, packet = packet_of(vector)
        right = AESGCM(vector.key).encrypt(vector.nonce, vector.plain, vector.aad)[-16:]
        (sealed,) = backend.run("encrypt", suite, [packet])
        assert sealed.text == vector.cipher
        icv = bytes(a ^ b ^ c for a, b, c in zip(sealed.icv, right, vector.tag, strict=False))
        assert icv != sealed.icv
        forged = sealed.of_wire(sealed.wire[: -len(icv)] + icv)
        assert [p.ok for p in backend.run("decrypt", suite, [forged, sealed, forged, sealed, forged])] == [
            0,
            1,
            0,
            1,
            0,
        ]
        seen += 1
    assert seen >= 70
