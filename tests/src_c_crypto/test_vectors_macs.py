"""Published vectors of HMAC and GMAC, as AH operations over the message.

A shorter key is one that ends in zeros, one longer than a block is its hash (RFC 2104 2); keys in between do not fit.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crypto_oracle import INTEGRITIES, suite_named
from crypto_vectors import acvp, records, unhex, wycheproof

Vector = tuple[str, bytes, bytes, bytes, bool]  # hash, key, message, tag, valid


def hmac_vectors(captures: Path) -> Iterator[Vector]:
    sets = [(f"wycheproof/hmac_{h}_test.json", h) for h in ("sha1", "sha256", "sha512")]
    sets += [(f"intel-ipsec-mb/hmac_{h}_test.json", h) for h in ("md5", "sha256", "sha384", "sha512")]
    for name, hash_name in sets:
        for _, test in wycheproof(captures / name):
            yield hash_name, *unhex(test, "key", "msg", "tag"), test["result"] == "valid"  # type: ignore[misc]
    for name, hash_name in (("SHA-1", "sha1"), ("SHA2-384", "sha384"), ("SHA2-512", "sha512")):
        for _, test in acvp(captures, f"HMAC-{name}-2.0"):
            if test["msgLen"] % 8 == test["keyLen"] % 8 == test["macLen"] % 8 == 0:
                yield hash_name, *unhex(test, "key", "msg", "mac"), True  # type: ignore[misc]
    for case in json.loads((captures / "rfc-vectors/rfc2202.json").read_text())["cases"]:
        name = {"hmac-md5": "md5", "hmac-sha1": "sha1", "hmac-sha-1": "sha1"}[case["alg"].lower()]
        yield name, *unhex(case, "key", "data", "digest"), True  # type: ignore[misc]
    for file in ("rfc4231.json", "rfc4868.shared.json"):
        for case in json.loads((captures / "rfc-vectors" / file).read_text())["cases"]:
            for field, tag in case.items():
                name = field.rpartition("hmac-")[2]
                if name in ("sha256", "sha384", "sha512"):
                    yield name, *unhex(case, "key", "data"), bytes.fromhex(tag), True  # type: ignore[misc]
    for path in sorted((captures / "cryptography-vectors").glob("HMAC__rfc-*.txt")):
        name = path.stem.rpartition("-")[2]
        if name != "sha224":
            for _, f in records(path):
                key, message, tag = unhex(f, "KEY", "MSG", "MD")
                yield name, key, message[: int(f["LEN"]) // 8], tag, True


def test_hmac(whole_backend: Any, captures: Path) -> None:
    seen: Counter[tuple[str, bool]] = Counter()
    by_hash = {i.hash: i for i in INTEGRITIES}
    for name, key, message, tag, valid in hmac_vectors(captures):
        mac = by_hash[name]
        if len(key) > hashlib.new(name).block_size:
            key = hashlib.new(name, key).digest()
        if len(key) > mac.key or not message:
            continue
        suite = suite_named("NULL", mac.text, ah=1)
        handle = whole_backend.key(suite, b"", key.ljust(mac.key, b"\0"))
        computed, _ = whole_backend.mac("encrypt", suite, handle, message)
        common = min(len(tag), mac.icv)
        if valid:
            assert computed[:common] == tag[:common]
        elif computed == tag[: mac.icv] or len(tag) < mac.icv:
            continue  # modified behind the bits that are sent, or cut so that it cannot be sent
        if len(tag) >= mac.icv:
            assert whole_backend.mac("decrypt", suite, handle, message, tag[: mac.icv]) == (tag[: mac.icv], valid)
        seen[name, valid] += 1
    least = {"md5": 20, "sha1": 60, "sha256": 60, "sha384": 20, "sha512": 60}
    assert all(seen[name, True] >= count for name, count in least.items()), seen
    assert all(seen[name, False] >= 20 for name in ("sha1", "sha256", "sha512")), seen


def gmac_vectors(captures: Path) -> Iterator[tuple[bytes, bytes, bytes, bytes, bool]]:
    """Key, nonce, message, tag, valid."""
    for name in ("wycheproof/aes_gmac_test.json", "intel-ipsec-mb/gmac_test.json"):
        for group, test in wycheproof(captures / name):
            if group["ivSize"] == 96:
                yield *unhex(test, "key", "iv", "msg", "tag"), test["result"] == "valid"  # type: ignore[misc]
    for name in ("GCM", "GMAC"):
        for group, test in acvp(captures, f"ACVP-AES-{name}-1.0"):
            if group["ivLen"] == 96 and group["payloadLen"] == 0:
                yield *unhex(test, "key", "iv", "aad", "tag"), test["testPassed"]  # type: ignore[misc]
    for name in ("wycheproof/aes_gcm_test.json", "intel-ipsec-mb/gcm_test.json"):
        for group, test in wycheproof(captures / name):
            if group["ivSize"] == 96 and not test["msg"]:
                yield *unhex(test, "key", "iv", "aad", "tag"), test["result"] == "valid"  # type: ignore[misc]


def test_gmac(whole_backend: Any, captures: Path) -> None:
    seen: Counter[tuple[int, bool]] = Counter()
    for key, nonce, message, tag, valid in gmac_vectors(captures):
        if not message:
            continue
        suite = suite_named("NULL", f"AES-{8 * len(key)}-GMAC", ah=1)
        handle = whole_backend.key(suite, b"", key + nonce[:4])
        computed, _ = whole_backend.mac("encrypt", suite, handle, message, iv=nonce[4:])
        assert (computed[: len(tag)] == tag) == valid
        if len(tag) == 16:
            assert whole_backend.mac("decrypt", suite, handle, message, tag, iv=nonce[4:]) == (tag, valid)
        seen[8 * len(key), valid] += 1
    assert {k: c >= 14 for k, c in seen.items()} == {(k, v): True for k in (128, 192, 256) for v in (True, False)}, seen
