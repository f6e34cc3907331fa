"""The crypto back ends as a shared library under ctypes."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package

from crypto_oracle import ROOM, SUITES, Packet, Suite
from crypto_table import SUITE, CSuite, Op, Table

SOURCES = Path(__file__).resolve().parents[2] / "src_c"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
HAS_VAES = (SOURCES / "crypto_vaes.c").exists() and platform.machine() == "x86_64"
BACKENDS = [*(["vaes"] if HAS_VAES else []), "ipsec-mb", "openssl"]
GUARD = 0xA5


def serves(backend: str, suite: Suite) -> bool:
    return backend != "vaes" or suite.cipher.mode == "gcm"


class EncryptionInfo(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char_p)] + [
        (name, ctypes.c_uint8)
        for name in ("key_length", "salt_length", "iv_length", "block_length", "icv_length", "windows_2000")
    ]


class IntegrityInfo(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char_p)] + [
        (name, ctypes.c_uint8) for name in ("key_length", "salt_length", "iv_length", "icv_length", "windows_2000")
    ]


def c_suite(suite: Suite) -> CSuite:
    return CSuite(suite.encryption, suite.integrity, suite.esn, suite.ah)


class Backend:
    """One back end with an engine of its own. Keys live until close()."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.name = table.name.decode()
        self.version = table.version().decode()
        self.engine = table.engine_create()
        assert self.engine
        self.keys: dict[tuple[str, bytes, bytes], int] = {}

    def serves(self, suite: Suite) -> bool:
        return serves(self.name, suite)

    def key(self, suite: Suite, encryption_key: bytes, integrity_key: bytes = b"") -> int:
        wanted = suite.name, encryption_key, integrity_key
        if wanted not in self.keys:
            assert (len(encryption_key), len(integrity_key)) == suite.key_lengths
            key = self.table.key_create(self.engine, c_suite(suite), encryption_key, integrity_key)
            assert key
            self.keys[wanted] = key
        return self.keys[wanted]

    def run(self, call: str, suite: Suite, keys: Sequence[int], packets: Sequence[Packet]) -> list[Packet]:
        """One call, at addresses of every alignment, with guard bytes between the packets."""
        wires, starts, at = [], [], 64
        for i, packet in enumerate(packets):
            wires.append(suite.wire(packet, received=call == "decrypt"))
            starts.append(at + i % 67)
            at = starts[-1] + len(wires[-1]) + ROOM + len(packet.icv) + 64
        arena = bytearray([GUARD]) * at
        base = ctypes.addressof((ctypes.c_uint8 * at).from_buffer(arena))
        ops = (Op * len(packets))()
        for op, key, packet, start, wire in zip(ops, keys, packets, starts, wires, strict=True):
            end = start + len(wire)
            arena[start:end] = wire
            op.key, op.aad, op.iv = key, base + start, base + start + len(packet.aad)
            op.text_length = len(packet.text)
            op.icv = op.received = base + end - len(packet.icv)
            op.text = op.icv - len(packet.text)
            if suite.ah:  # the ICV received is a copy, behind the room for the high half
                op.icv = op.iv + len(packet.iv)
                op.text = base + end - len(packet.text)
                op.received = base + end + ROOM
                arena[end + ROOM : end + ROOM + len(packet.icv)] = packet.icv
            op.sequence_high = packet.high
            op.ok = 77
        expected = bytearray(arena)
        getattr(self.table, call)(self.engine, c_suite(suite), ops, len(packets))
        results = []
        for op, packet, start, wire in zip(ops, packets, starts, wires, strict=True):
            end = start + len(wire)
            results.append(suite.unwire(packet, bytes(arena[start:end]), op.ok))
            writable = start + len(packet.aad)
            expected[writable : end + ROOM] = arena[writable : end + ROOM]
        assert arena == expected, "bytes were written that an operation has no business with"
        return results

    def mac(
        self, call: str, suite: Suite, key: int, message: bytes, received: bytes = b"", iv: bytes = b""
    ) -> tuple[bytes, bool]:
        """The ICV of an AH operation whose IV and ICV do not lie in the message, as vectors want it; and ok."""
        wire = ctypes.create_string_buffer(message, len(message) + ROOM)
        nonce, icv = ctypes.create_string_buffer(iv, 16), ctypes.create_string_buffer(received, suite.icv)
        at = ctypes.addressof(wire)
        op = Op(key, at, ctypes.addressof(nonce), at, *[ctypes.addressof(icv)] * 2, len(message), 0, 77)
        getattr(self.table, call)(self.engine, c_suite(suite), op, 1)
        return icv.raw, bool(op.ok)

    def close(self) -> None:
        for key in self.keys.values():
            self.table.key_destroy(key)
        self.table.engine_destroy(self.engine)


class Library:
    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.ipc_encryption_info.restype = ctypes.POINTER(EncryptionInfo)
        self.c.ipc_integrity_info.restype = ctypes.POINTER(IntegrityInfo)
        self.c.ipc_crypto_backend.restype = ctypes.POINTER(Table)
        self.c.ipc_crypto_choose.restype = ctypes.POINTER(Table)
        self.c.ipc_crypto_choose.argtypes = [SUITE, ctypes.c_char_p]
        self.c.ipc_crypto_suite_valid.argtypes = [SUITE]
        self.c.ipc_equal.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
        self.c.ipc_wipe.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def tables(self) -> list[Table]:
        found: list[Table] = []
        while pointer := self.c.ipc_crypto_backend(len(found)):
            found.append(pointer.contents)
        return found

    def choose(
        self, encryption: int, integrity: int, esn: int = 0, ah: int = 0, name: bytes | None = None
    ) -> str | None:
        pointer = self.c.ipc_crypto_choose(CSuite(encryption, integrity, esn, ah), name)
        return pointer.contents.name.decode() if pointer else None


def build_flags() -> tuple[list[str], list[str]]:
    """Defines and libraries for what this machine has, as the package's own build finds them."""
    defines, libraries = ["-D_GNU_SOURCE"], []
    for define, header, library in (
        ("-DIPC_HAVE_IPSECMB", "intel-ipsec-mb.h", "-lIPSec_MB"),
        ("-DIPC_HAVE_OPENSSL", "openssl/evp.h", "-lcrypto"),
    ):
        probe = subprocess.run(["gcc", "-E", "-include", header, "-x", "c", "/dev/null"], capture_output=True)
        if probe.returncode == 0:
            defines.append(define)
            libraries.append(library)
    return defines, libraries


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """compile_c(name, extra sources, flags): the crypto sources and the extra ones as one binary."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")

    def build(name: str, sources: Sequence[Path] = (), flags: Sequence[str] = ()) -> Path:
        output = tmp_path_factory.mktemp("build") / name
        defines, libraries = build_flags()
        own = [*sorted(SOURCES.glob("crypto*.c")), SOURCES / "peer_ipsecmb.c"]
        warnings = ["-Wall", "-Wextra", "-Wshadow", "-Werror"]
        include = [f"-I{SOURCES}", f"-I{SOURCES / 'include'}"]
        command = ["gcc", "-std=c11", "-O2", "-g", *warnings, *include, *defines, *flags, "-o", output, *own, *sources]
        subprocess.run([*map(str, command), *libraries], check=True)
        return output

    return build


@pytest.fixture(scope="session")
def library(compile_c: Callable[..., Path]) -> Library:
    sanitize = os.environ.get("IPSEC_CORE_SANITIZE") == "1"
    if sanitize and "libasan" not in Path("/proc/self/maps").read_text():
        pytest.fail("IPSEC_CORE_SANITIZE=1 needs LD_PRELOAD of libasan (gcc -print-file-name=libasan.so)")
    return Library(compile_c("crypto.so", flags=["-fPIC", "-shared", *(SANITIZERS if sanitize else [])]))


@pytest.fixture(scope="session", name="c_suite")
def c_suite_fixture() -> type[CSuite]:
    return CSuite


@pytest.fixture(scope="session")
def backends(library: Library) -> Iterator[dict[str, Backend]]:
    """Every back end of the build by name."""
    made = {t.name.decode(): Backend(t) for t in library.tables()}
    yield made
    for backend in made.values():
        backend.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`backend` and `suite` together mean every pair that must work."""
    names = metafunc.fixturenames
    if "backend" in names and "suite" in names:
        pairs = [(b, s) for b in BACKENDS for s in SUITES if serves(b, s)]
        ids = [f"{b}-{s.name}" for b, s in pairs]
        metafunc.parametrize("backend,suite", pairs, ids=ids, indirect=["backend"], scope="session")
    elif "backend" in names:
        metafunc.parametrize("backend", BACKENDS, indirect=True, scope="session")
    elif "whole_backend" in names:
        whole = [b for b in BACKENDS if b != "vaes"]
        metafunc.parametrize("whole_backend", whole, indirect=True, scope="session")
    elif "suite" in names:
        metafunc.parametrize("suite", SUITES, ids=lambda s: s.name, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest, backends: dict[str, Backend]) -> Backend:
    if request.param not in backends:
        pytest.skip(f"{request.param} is not built in")
    if backends[request.param].version.startswith("no AVX512"):
        pytest.skip(f"this CPU cannot run {request.param}")
    return backends[request.param]


@pytest.fixture(scope="session")
def whole_backend(request: pytest.FixtureRequest, backends: dict[str, Backend]) -> Backend:
    """One that serves every suite."""
    if request.param not in backends:
        pytest.skip(f"{request.param} is not built in")
    return backends[request.param]
