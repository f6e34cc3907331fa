"""Published vectors of the ciphers without an ICV: CBC and CTR."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from crypto_oracle import Packet, cbc, suite_named
from crypto_vectors import acvp, records, unhex, wycheproof

Vector = tuple[str, bytes, bytes, bytes, bytes]  # cipher, key, IV, plaintext, ciphertext


def cbc_vectors(captures: Path) -> Iterator[Vector]:
    for path in sorted((captures / "cryptography-vectors").glob("ciphers__*__CBC__*.rsp")):
        for _, f in records(path):
            if "CIPHERTEXT" in f:
                key = f["KEYS"] * 3 if "KEYS" in f else f.get("KEY") or f["KEY1"] + f["KEY2"] + f["KEY3"]
                name = "3DES" if "3DES" in path.name else f"AES-{4 * len(key)}"
                yield f"{name}-CBC", *unhex({**f, "KEY": key}, "KEY", "IV", "PLAINTEXT", "CIPHERTEXT")  # type: ignore[misc]
    for group, test in wycheproof(captures / "intel-ipsec-mb/cbc_test.json"):
        yield f"AES-{group['keySize']}-CBC", *unhex(test, "key", "iv", "msg", "ct")  # type: ignore[misc]
    for group, test in wycheproof(captures / "wycheproof/aes_cbc_pkcs5_test.json"):
        if test["result"] == "valid":  # the others are about padding, which a back end does not see
            key, iv, message, ciphertext = unhex(test, "key", "iv", "msg", "ct")
            pad = 16 - len(message) % 16
            yield f"AES-{group['keySize']}-CBC", key, iv, message + bytes([pad]) * pad, ciphertext
    for _, test in wycheproof(captures / "intel-ipsec-mb/des_test.json"):
        # The last, short block of DOCSIS is not CBC.
        key, iv, message, ciphertext = unhex(test, "key", "iv", "msg", "ct")
        whole = len(message) // 8 * 8
        yield "DES-CBC", key, iv, message[:whole], ciphertext[:whole]
    for case in json.loads((captures / "rfc-vectors/rfc3602.shared.json").read_text())["cases"]:
        if case["type"] == "aes-cbc":
            yield "AES-128-CBC", *unhex(case, "key", "iv", "plaintext", "ciphertext")  # type: ignore[misc]
    for group, test in acvp(captures, "ACVP-AES-CBC-1.0"):
        yield f"AES-{group['keyLen']}-CBC", *unhex(test, "key", "iv", "pt", "ct")  # type: ignore[misc]


def test_cbc(whole_backend: Any, captures: Path) -> None:
    """To send the IV of a vector, its decryption is handed in."""
    bursts: dict[str, list[tuple[bytes, Packet, Packet]]] = {}
    for name, key, iv, plain, ciphertext in cbc_vectors(captures):
        before = Packet(bytes(8), cbc(key, bytes(len(iv)), iv, decrypt=True), plain, b"")
        bursts.setdefault(name, []).append((key, before, Packet(bytes(8), iv, ciphertext, b"")))
    for name, burst in bursts.items():
        suite = suite_named(name)
        keys = [whole_backend.key(suite, key) for key, _, _ in burst]
        given, sealed = [b for _, b, _ in burst], [s for _, _, s in burst]
        assert whole_backend.run("encrypt", suite, keys, given) == sealed
        opened = [replace(s, text=g.text) for s, g in zip(sealed, given, strict=True)]
        assert whole_backend.run("decrypt", suite, keys, sealed) == opened
    least = {"DES-CBC": 2, "3DES-CBC": 400, "AES-128-CBC": 300, "AES-192-CBC": 300, "AES-256-CBC": 300}
    assert {n: len(b) >= least[n] for n, b in bursts.items()} == dict.fromkeys(least, True)


def ctr_vectors(captures: Path) -> Iterable[Vector]:
    for case in json.loads((captures / "rfc-vectors/rfc3686.json").read_text())["cases"]:
        key, nonce, iv, plain, ciphertext = unhex(case, "key", "nonce", "iv", "plaintext", "ciphertext")
        yield f"AES-{8 * len(key)}-CTR", key, nonce + iv, plain, ciphertext
    for group, test in wycheproof(captures / "intel-ipsec-mb/ctr_test.json"):
        if group["ivSize"] == 96:
            yield f"AES-{group['keySize']}-CTR", *unhex(test, "key", "iv", "msg", "ct")  # type: ignore[misc]
    for path in sorted((captures / "cryptography-vectors").glob("ciphers__AES__CTR__*.txt")):
        for _, f in records(path):
            key, block, plain, ciphertext = unhex(f, "KEY", "IV", "PLAINTEXT", "CIPHERTEXT")
            assert block[12:] == b"\0\0\0\1"
            yield f"AES-{8 * len(key)}-CTR", key, block[:12], plain, ciphertext
    for group, test in acvp(captures, "ACVP-AES-CTR-1.0"):
        key, block, plain, ciphertext = unhex(test, "key", "iv", "pt", "ct")
        if test["payloadLen"] % 32 == 0 and block[12:] == b"\0\0\0\1":  # ESP is aligned to 4 bytes (RFC 2406 2.4)
            yield f"AES-{group['keyLen']}-CTR", key, block[:12], plain, ciphertext


def test_ctr(whole_backend: Any, captures: Path) -> None:
    seen: Counter[str] = Counter()
    for name, key, nonce, plain, ciphertext in ctr_vectors(captures):
        if len(plain) % 4:
            continue
        suite = suite_named(name)
        handle = [whole_backend.key(suite, key + nonce[:4])]
        opened, sealed = (Packet(bytes(8), nonce[4:], text, b"") for text in (plain, ciphertext))
        assert whole_backend.run("encrypt", suite, handle, [opened]) == [sealed]
        assert whole_backend.run("decrypt", suite, handle, [sealed]) == [opened]
        seen[name] += 1
    assert {n: c >= 30 for n, c in seen.items()} == {f"AES-{k}-CTR": True for k in (128, 192, 256)}


def test_null(whole_backend: Any, captures: Path) -> None:
    for case in json.loads((captures / "rfc-vectors/rfc2410.json").read_text())["cases"]:
        data, null = unhex(case, "data", "null_data")
        suite = suite_named("NULL")
        packet = Packet(bytes(8), b"", data[: len(data) // 4 * 4], b"")
        for call in ("encrypt", "decrypt"):
            (out,) = whole_backend.run(call, suite, [whole_backend.key(suite, b"")], [packet])
            assert out.text == null[: len(out.text)]
            assert out.ok == 1
