"""The crypto back ends as a shared library under ctypes, and the Python `cryptography` package as their oracle."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SOURCES = Path(__file__).resolve().parents[2] / "src_c"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
GUARD = 0xA5


class EncryptionInfo(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char_p)] + [
        (name, ctypes.c_uint8)
        for name in ("key_length", "salt_length", "iv_length", "block_length", "icv_length", "windows_2000")
    ]


class IntegrityInfo(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char_p)] + [
        (name, ctypes.c_uint8) for name in ("key_length", "icv_length", "windows_2000")
    ]


class Op(ctypes.Structure):
    _fields_ = [
        ("key", ctypes.c_void_p),
        ("aad", ctypes.c_void_p),
        ("iv", ctypes.c_void_p),
        ("text", ctypes.c_void_p),
        ("icv", ctypes.c_void_p),
        ("text_length", ctypes.c_uint32),
        ("ok", ctypes.c_uint8),
    ]


CRYPT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.POINTER(Op), ctypes.c_uint)


class Table(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("version", ctypes.CFUNCTYPE(ctypes.c_char_p)),
        ("rank", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)),
        ("engine_create", ctypes.CFUNCTYPE(ctypes.c_void_p)),
        ("engine_destroy", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        (
            "key_create",
            ctypes.CFUNCTYPE(
                ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p
            ),
        ),
        ("key_destroy", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("encrypt", CRYPT),
        ("decrypt", CRYPT),
    ]


@dataclass(frozen=True, slots=True)
class Suite:
    """A combination of algorithms by their numbers, with its lengths in bytes and its oracle."""

    name: str
    encryption: int
    integrity: int
    encryption_key: int
    integrity_key: int
    iv: int
    block: int
    icv: int
    seal: Callable[[bytes, bytes, Packet], Packet]


@dataclass(frozen=True, slots=True)
class Packet:
    """An ESP packet in its parts. `ok` is what the back end said of the ICV."""

    aad: bytes
    iv: bytes
    text: bytes
    icv: bytes
    ok: int = 1

    def flip(self, bit: int) -> Packet:
        """The packet with one bit of the wire format turned over."""
        wire = bytearray(self.aad + self.iv + self.text + self.icv)
        wire[bit // 8] ^= 1 << bit % 8
        iv, text = len(self.aad), len(self.aad + self.iv)
        icv = text + len(self.text)
        return Packet(bytes(wire[:iv]), bytes(wire[iv:text]), bytes(wire[text:icv]), bytes(wire[icv:]))

    @property
    def bits(self) -> int:
        return 8 * len(self.aad + self.iv + self.text + self.icv)


def des3(key: bytes, iv: bytes, text: bytes, *, decrypt: bool = False) -> bytes:
    cipher = Cipher(TripleDES(key), modes.CBC(iv))
    context = cipher.decryptor() if decrypt else cipher.encryptor()
    return context.update(text) + context.finalize()


def seal_gcm(key: bytes, _: bytes, packet: Packet) -> Packet:
    sealed = AESGCM(key[:-4]).encrypt(key[-4:] + packet.iv, packet.text, packet.aad)
    return replace(packet, text=sealed[:-16], icv=sealed[-16:])


def seal_3des(key: bytes, _: bytes, packet: Packet) -> Packet:
    wire = des3(key, bytes(8), packet.iv + packet.text)
    return replace(packet, iv=wire[:8], text=wire[8:])


def seal_3des_sha1(key: bytes, integrity_key: bytes, packet: Packet) -> Packet:
    sealed = seal_3des(key, b"", packet)
    digest = hmac.new(integrity_key, sealed.aad + sealed.iv + sealed.text, hashlib.sha1).digest()
    return replace(sealed, icv=digest[:12])


SUITES = [
    Suite("AES-128-GCM", 1, 0, 20, 0, 8, 4, 16, seal_gcm),
    Suite("3DES-CBC/HMAC-SHA1-96", 0, 1, 24, 20, 8, 8, 12, seal_3des_sha1),
    Suite("3DES-CBC/none", 0, 0, 24, 0, 8, 8, 0, seal_3des),
]


class Backend:
    """One back end with an engine of its own. Keys live until close()."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.name = table.name.decode()
        self.engine = table.engine_create()
        assert self.engine
        self.keys: dict[tuple[Suite, bytes, bytes], int] = {}

    def key(self, suite: Suite, encryption_key: bytes, integrity_key: bytes = b"") -> int:
        wanted = suite, encryption_key, integrity_key
        if wanted not in self.keys:
            assert (len(encryption_key), len(integrity_key)) == (suite.encryption_key, suite.integrity_key)
            key = self.table.key_create(self.engine, suite.encryption, suite.integrity, encryption_key, integrity_key)
            assert key
            self.keys[wanted] = key
        return self.keys[wanted]

    def run(self, call: str, suite: Suite, keys: Sequence[int], packets: Sequence[Packet]) -> list[Packet]:
        """One burst, at addresses of every alignment, with guard bytes between the packets."""
        starts, at = [], 64
        for i, packet in enumerate(packets):
            starts.append(at + i % 67)
            at = starts[-1] + packet.bits // 8 + 64
        arena = bytearray([GUARD]) * at
        expected = bytearray(arena)
        base = ctypes.addressof((ctypes.c_uint8 * at).from_buffer(arena))
        ops = (Op * len(packets))()
        for op, key, packet, start in zip(ops, keys, packets, starts, strict=True):
            wire = packet.aad + packet.iv + packet.text + packet.icv
            arena[start : start + len(wire)] = wire
            op.key, op.aad, op.iv = key, base + start, base + start + 8
            op.text = op.iv + suite.iv
            op.text_length = len(packet.text)
            op.icv = op.text + op.text_length
            op.ok = 77
        getattr(self.table, call)(self.engine, suite.encryption, suite.integrity, ops, len(packets))
        results = []
        for op, packet, start in zip(ops, packets, starts, strict=True):
            end = start + packet.bits // 8
            wire = bytes(arena[start:end])
            text = 8 + suite.iv
            icv = text + len(packet.text)
            results.append(Packet(wire[:8], wire[8:text], wire[text:icv], wire[icv:], op.ok))
            expected[start:end] = wire
        assert arena == expected, "bytes outside of the packets were written"
        return results

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
        self.c.ipc_equal.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
        self.c.ipc_wipe.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def tables(self) -> list[Table]:
        found: list[Table] = []
        while pointer := self.c.ipc_crypto_backend(len(found)):
            found.append(pointer.contents)
        return found

    def choose(self, encryption: int, integrity: int, name: bytes | None = None) -> str | None:
        pointer = self.c.ipc_crypto_choose(encryption, integrity, name)
        return pointer.contents.name.decode() if pointer else None


def build_flags() -> tuple[list[str], list[str]]:
    """Defines and libraries for what this machine has, as the package's own build finds them."""
    defines, libraries = [], []
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
        own = [SOURCES / f for f in ("crypto.c", "crypto_openssl.c", "crypto_ipsecmb.c", "peer_ipsecmb.c")]
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


@pytest.fixture(scope="session", params=["ipsec-mb", "openssl"])
def backend(request: pytest.FixtureRequest, library: Library) -> Iterator[Backend]:
    table = next((t for t in library.tables() if t.name.decode() == request.param), None)
    if table is None:
        pytest.skip(f"{request.param} is not built in")
    backend = Backend(table)
    yield backend
    backend.close()


@pytest.fixture(scope="session", params=SUITES, ids=lambda s: s.name)
def suite(request: pytest.FixtureRequest) -> Suite:
    chosen: Suite = request.param
    return chosen


@pytest.fixture(scope="session", params=[s for s in SUITES if s.icv], ids=lambda s: s.name)
def suite_with_icv(request: pytest.FixtureRequest) -> Suite:
    chosen: Suite = request.param
    return chosen


@pytest.fixture(scope="session")
def gcm() -> Suite:
    return SUITES[0]


@pytest.fixture(scope="session")
def des3_sha1() -> Suite:
    return SUITES[1]


@pytest.fixture(scope="session")
def make_packet() -> type[Packet]:
    return Packet


@pytest.fixture(scope="session")
def oracle_des3() -> Callable[..., bytes]:
    return des3
