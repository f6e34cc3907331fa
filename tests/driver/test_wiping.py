"""Keys are gone from memory when their SA is: another process looks for what no Python object ever held."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipsec_core import algorithms

SUITES = (("AES-128-GCM", "none", 20), ("AES-128-CBC", "HMAC-SHA1-96", 16))
CASES = [(name, suite) for suite in SUITES for one in algorithms() if one.name == suite[0] for name in one.backends]
CHILD = """
import sys
from ipsec_core import Driver, SecurityAssociation

driver = Driver(seed=1, backend=sys.argv[1])
for line in sys.stdin:
    command, _, rest = line.strip().partition(" ")
    if command == "add":
        handle = driver.add_sa(SecurityAssociation(
            "in", 4096, "10.0.0.1", "10.0.0.2", encryption=sys.argv[2], encryption_key=bytes.fromhex(rest),
            integrity=sys.argv[3], integrity_key=bytes(20 if sys.argv[3] != "none" else 0)))
    elif command == "delete":
        driver.delete_sa(handle)
    elif command == "destroy":
        del driver
    print("done", flush=True)
"""


def last_round_key(key: bytes) -> bytes:
    """Of AES-128 (FIPS 197 5.2)."""
    words = [key[i : i + 4] for i in range(0, 16, 4)]
    rcon = 1
    for i in range(4, 44):
        word = words[i - 1]
        if i % 4 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ rcon]) + word[1:]
            rcon = rcon << 1 ^ (0x11B if rcon & 0x80 else 0)
        words.append(bytes(a ^ b for a, b in zip(words[i - 4], word, strict=True)))
    return b"".join(words[40:])


def sbox() -> bytes:
    """FIPS 197 5.1.1: the inverse in GF(2^8), then the affine transformation."""

    def times(a: int, b: int) -> int:
        product = 0
        while b:
            product ^= a * (b & 1)
            a = a << 1 ^ (0x11B if a & 0x80 else 0)
            b >>= 1
        return product

    table = []
    for x in range(256):
        inverse = next((y for y in range(256) if times(x, y) == 1), 0)
        turned = inverse
        for n in range(1, 5):
            turned ^= (inverse << n | inverse >> (8 - n)) & 0xFF
        table.append(turned ^ 0x63)
    return bytes(table)


SBOX = sbox()


def copies(pid: int, needle: bytes) -> int:
    """How often the bytes are in the writable memory of a process."""
    count = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            if not rights.startswith("rw"):
                continue
            try:
                memory.seek(start)
                count += memory.read(end - start).count(needle)
            except OSError:
                continue  # a page that cannot be read
    return count


def test_the_key_schedule_is_the_published_one() -> None:
    """FIPS 197 appendix A.1."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert last_round_key(key).hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"
    assert SBOX[0] == 0x63


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
@pytest.mark.skipif(os.environ.get("IPSEC_CORE_SANITIZE") == "1", reason="a sanitizer's shadow memory is terabytes")
@pytest.mark.parametrize("end", ["delete", "destroy"])
@pytest.mark.parametrize(("backend", "suite"), CASES, ids=lambda one: one if isinstance(one, str) else one[0])
def test_round_keys_are_wiped(backend: str, suite: tuple[str, str, int], end: str) -> None:
    encryption, integrity, length = suite
    key = os.urandom(length)
    needle = last_round_key(key[:16])
    command = [sys.executable, "-c", CHILD, backend, encryption, integrity]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout

        def tell(line: str) -> None:
            print(line, file=child.stdin, flush=True)
            assert child.stdout.readline() == "done\n"  # type: ignore[union-attr]

        try:
            tell("ready")
            try:
                before = copies(child.pid, needle)
            except PermissionError:
                pytest.skip("another process's memory may not be read here")
            tell(f"add {key.hex()}")
            alive = copies(child.pid, needle)
            tell(end)
            after = copies(child.pid, needle)
        finally:
            child.stdin.close()
    assert before == 0
    assert alive >= 1, "the test looks at the right place"
    assert after == 0
