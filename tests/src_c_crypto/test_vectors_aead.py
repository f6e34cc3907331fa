"""Published vectors of AES-GCM and ChaCha20-Poly1305, and of GCM cut to 96 and 64 bits.

With 8 bytes of associated data a vector is ESP, with 12 it is ESP with ESN. Of the others the ciphertext is used, which
does not depend on the associated data; and of the wrong ones what was done to the tag, put on our own tag.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crypto_oracle import Packet, suite_named
from crypto_vectors import acvp, records, unhex, wycheproof
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

Vector = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bool]  # key, nonce, AAD, plaintext, ciphertext, tag, valid


def gcm_vectors(captures: Path) -> Iterator[Vector]:
    for name in ("wycheproof/aes_gcm_test.json", "intel-ipsec-mb/gcm_test.json"):
        for group, test in wycheproof(captures / name):
            if (group["ivSize"], group["tagSize"]) == (96, 128):
                yield *unhex(test, "key", "iv", "aad", "msg", "ct", "tag"), test["result"] == "valid"  # type: ignore[misc]
    for group, test in acvp(captures, "ACVP-AES-GCM-1.0"):
        if (group["ivLen"], group["tagLen"]) == (96, 128):
            yield *unhex(test, "key", "iv", "aad", "pt", "ct", "tag"), test["testPassed"]  # type: ignore[misc]
    for case in json.loads((captures / "rfc-vectors/draft-mcgrew-gcm-test-01.shared.json").read_text())["cases"]:
        parts = unhex({**case, "nonce": case["salt"] + case["iv"]}, "key", "nonce", "aad", "plaintext", "ciphertext")
        yield *parts, bytes.fromhex(case["icv"]), True  # type: ignore[misc]


def chacha_vectors(captures: Path) -> Iterator[Vector]:
    for _, test in wycheproof(captures / "intel-ipsec-mb/chacha20_poly1305_test.json"):
        yield *unhex(test, "key", "iv", "aad", "msg", "ct", "tag"), True  # type: ignore[misc]
    for _, f in records(captures / "cryptography-vectors/ciphers__ChaCha20Poly1305__openssl.txt"):
        yield *unhex(f, "KEY", "IV", "AAD", "PLAINTEXT", "CIPHERTEXT", "TAG"), "RESULT" not in f  # type: ignore[misc]


def check(backend: Any, suite_name: str, icv: int, aead: Any, vector: Vector) -> str | None:
    """How the vector was used: whole, text or tag; None where its text does not fit ESP."""
    key, nonce, aad, plain, ciphertext, tag, valid = vector
    if len(plain) % 4:  # RFC 2406 2.4
        return None
    whole = len(aad) in (8, 12)
    header, high = (aad[:4] + aad[-4:], int.from_bytes(aad[4:-4], "big")) if whole else (bytes(8), 0)
    suite = suite_named(suite_name, esn=int(len(aad) == 12))
    handle = [backend.key(suite, key + nonce[:4])]
    given = Packet(header, nonce[4:], plain, bytes(icv), high)
    (sealed,) = backend.run("encrypt", suite, handle, [given])
    right = aead.encrypt(nonce, plain, aad)
    if len(ciphertext) == len(plain) and (valid or right[:-16] == ciphertext):
        assert sealed.text == ciphertext
    difference = bytes(a ^ b for a, b in zip(right[-16:], tag, strict=True))[:icv]
    assert not (valid and any(difference))
    if whole and valid:
        assert sealed.icv == tag[:icv]
    arriving = Packet(
        header, nonce[4:], ciphertext, bytes(a ^ b for a, b in zip(sealed.icv, difference, strict=True)), high
    )
    (opened,) = backend.run("decrypt", suite, handle, [arriving])
    assert opened.ok == (not any(difference) and ciphertext == sealed.text)
    if valid:
        assert opened.ok
        assert opened.text == plain
    return "whole" if whole and valid else "text" if valid else "tag"


def test_gcm(backend: Any, captures: Path) -> None:
    for icv in (16, 12, 8):
        used: Counter[tuple[int, str | None]] = Counter()
        for vector in gcm_vectors(captures):
            bits = 8 * len(vector[0])
            name = f"AES-{bits}-GCM{'' if icv == 16 else f'-{icv}'}"
            used[bits, check(backend, name, icv, AESGCM(vector[0]), vector)] += 1
        assert all(used[bits, "text"] >= 20 for bits in (128, 192, 256)), used
        assert all(used[bits, "tag"] >= 20 for bits in (128, 192, 256)), used
        assert used[128, "whole"] >= 3, used
        assert used[256, "whole"] >= 2, used


def test_chacha20_poly1305(whole_backend: Any, captures: Path) -> None:
    used: Counter[str | None] = Counter()
    for vector in chacha_vectors(captures):
        used[check(whole_backend, "ChaCha20-Poly1305", 16, ChaCha20Poly1305(vector[0]), vector)] += 1
    assert used["whole"] >= 2, used
