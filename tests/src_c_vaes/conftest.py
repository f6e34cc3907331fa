"""The AES-GCM back end on VAES as a shared library under ctypes, and the package `cryptography` as its oracle."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path.insert(0, str(Path(__file__).parents[1] / "src_c_crypto"))  # the tests are no package

from crypto_table import CSuite, Op, Table

SOURCES = Path(__file__).resolve().parents[2] / "src_c"
SANITIZERS = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
GUARD = 0xA5
HEADER = 16  # SPI, sequence number, IV


@dataclass(frozen=True, slots=True)
class Suite:
    """AES-GCM with lengths in bytes; `key` is without the salt. Numbers as in algorithm.h."""

    key: int
    icv: int
    esn: bool = False

    @property
    def c(self) -> CSuite:
        return CSuite(9 + (16, 24, 32).index(self.key) + 3 * (16, 12, 8).index(self.icv), 0, self.esn, 0)

    def __str__(self) -> str:
        return f"AES-{8 * self.key}-GCM-{self.icv}{'-ESN' * self.esn}"


@dataclass(frozen=True, slots=True)
class Packet:
    """An ESP packet in its parts, with its key and salt. `ok` is what the back end said of the ICV."""

    key: bytes
    header: bytes
    iv: bytes
    text: bytes
    icv: bytes = b""
    high: int = 0
    ok: int = 1

    @property
    def wire(self) -> bytes:
        return self.header + self.iv + self.text + self.icv

    def flip(self, bit: int) -> Packet:
        """The packet with one bit of the wire format turned over."""
        wire = bytearray(self.wire)
        wire[bit // 8] ^= 1 << bit % 8
        return self.of_wire(bytes(wire))

    def of_wire(self, wire: bytes) -> Packet:
        end = HEADER + len(self.text)
        return replace(self, header=wire[:8], iv=wire[8:HEADER], text=wire[HEADER:end], icv=wire[end:])


def seal(suite: Suite, packet: Packet) -> Packet:
    """What RFC 4106 makes of the packet."""
    spi, low = packet.header[:4], packet.header[4:]
    aad = spi + packet.high.to_bytes(4, "big") + low if suite.esn else spi + low
    sealed = AESGCM(packet.key[:-4]).encrypt(packet.key[-4:] + packet.iv, packet.text, aad)
    return replace(packet, text=sealed[:-16], icv=sealed[-16:][: suite.icv])


def make(suite: Suite, length: int, rng: random.Random, key: bytes | None = None) -> Packet:
    return Packet(
        key or rng.randbytes(suite.key + 4),
        rng.randbytes(8),
        rng.randbytes(8),
        rng.randbytes(length),
        high=rng.getrandbits(32) if suite.esn else 0,
    )


class Guarded:
    """Memory between two pages that nobody may touch."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = -(-size // page) * page
        self.map = mmap.mmap(-1, self.size + 2 * page)
        self.base = ctypes.addressof((ctypes.c_uint8 * len(self.map)).from_buffer(self.map)) + page
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for at in (self.base - page, self.base + self.size):
            assert protect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0) == 0


class Backend:
    """The back end with an engine of its own. Keys live until close()."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.table = Table.in_dll(library, "ipc_crypto_vaes")
        self.wiped = ctypes.c_size_t.in_dll(library, "wiped")
        self.engine = self.table.engine_create()
        assert self.engine
        self.keys: dict[tuple[int, bytes], int] = {}

    def rank(self, suite: CSuite) -> int:
        return int(self.table.rank(suite))

    def key(self, suite: Suite, key: bytes) -> int:
        wanted = suite.c.encryption, key
        if wanted not in self.keys:
            assert len(key) == suite.key + 4
            self.keys[wanted] = self.table.key_create(self.engine, suite.c, key, None)
            assert self.keys[wanted]
        return self.keys[wanted]

    def run(self, call: str, suite: Suite, packets: Sequence[Packet], at: Sequence[int] | None = None) -> list[Packet]:
        """One burst: at the addresses given, or in an arena at every alignment with guard bytes between."""
        images = [p.wire if call == "decrypt" else p.wire + bytes([GUARD]) * suite.icv for p in packets]
        arena = bytearray()
        if at is None:
            starts = []
            for i, image in enumerate(images):
                starts.append(len(arena) + 64 + i % 67)
                arena += bytes([GUARD]) * (64 + i % 67) + image
            arena += bytes([GUARD]) * 64
            base = ctypes.addressof((ctypes.c_uint8 * len(arena)).from_buffer(arena))
            at = [base + start for start in starts]
        else:
            for address, image in zip(at, images, strict=True):
                ctypes.memmove(address, image, len(image))
        ops = (Op * len(packets))()
        for op, packet, address in zip(ops, packets, at, strict=True):
            op.key, op.aad, op.iv, op.text = self.key(suite, packet.key), address, address + 8, address + HEADER
            op.text_length, op.sequence_high, op.ok = len(packet.text), packet.high, 77
            op.icv = op.received = op.text + op.text_length
        getattr(self.table, call)(self.engine, suite.c, ops, len(packets))
        results = []
        for op, packet, address, image in zip(ops, packets, at, images, strict=True):
            results.append(replace(packet.of_wire(ctypes.string_at(address, len(image))), ok=op.ok))
        if arena:
            expected = b"".join(bytes([GUARD]) * (64 + i % 67) + p.wire for i, p in enumerate(results))
            assert arena == expected + bytes([GUARD]) * 64, "bytes outside of the packets were written"
        return results

    def check(self, suite: Suite, packets: Sequence[Packet]) -> None:
        """A burst there and back, against the oracle."""
        sealed = [seal(suite, p) for p in packets]
        assert self.run("encrypt", suite, packets) == sealed
        assert self.run("decrypt", suite, sealed) == [
            replace(p, icv=s.icv) for p, s in zip(packets, sealed, strict=True)
        ]

    def close(self) -> None:
        for key in self.keys.values():
            self.table.key_destroy(key)
        self.table.engine_destroy(self.engine)


NEEDED = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "vaes", "vpclmulqdq", "aes"}


def cpu_flags() -> set[str]:
    """As the kernel sees them, not as the code under test does."""
    file = Path("/proc/cpuinfo")
    return set(file.read_text().split()) if file.exists() else set()


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    missing = NEEDED - cpu_flags()
    if platform.machine() != "x86_64" or missing:
        pytest.skip(f"this CPU lacks what the back end needs: {', '.join(sorted(missing)) or 'x86-64'}")
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    flags = ["-O3"]
    if os.environ.get("IPSEC_CORE_SANITIZE") == "1":
        flags = SANITIZERS
        if "libasan" not in Path("/proc/self/maps").read_text():
            pytest.fail("IPSEC_CORE_SANITIZE=1 needs LD_PRELOAD of libasan (gcc -print-file-name=libasan.so)")
    output = tmp_path_factory.mktemp("build") / "vaes.so"
    sources = [*sorted(SOURCES.glob("crypto_vaes*.c")), Path(__file__).with_name("support.c")]
    command = ["gcc", "-std=c11", "-g", "-Wall", "-Wextra", "-Wshadow", "-Werror", *flags, "-fPIC", "-shared"]
    subprocess.run([*command, f"-I{SOURCES}", f"-I{SOURCES / 'include'}", "-o", output, *sources], check=True)
    backend = Backend(ctypes.CDLL(str(output)))
    yield backend
    backend.close()


SUITES = [Suite(key, icv, esn) for key in (16, 24, 32) for icv in (16, 12, 8) for esn in (False, True)]


@pytest.fixture(scope="session", params=SUITES, ids=str)
def suite(request: pytest.FixtureRequest) -> Suite:
    chosen: Suite = request.param
    return chosen


@pytest.fixture(scope="session", params=[Suite(16, 16), Suite(24, 12, True), Suite(32, 8)], ids=str)
def some_suite(request: pytest.FixtureRequest) -> Suite:
    """One of each key size, for what does not depend on the rest."""
    chosen: Suite = request.param
    return chosen
