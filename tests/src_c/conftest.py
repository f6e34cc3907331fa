"""The C sources of fragments, traces and pcapng files, compiled alone into a library and called through ctypes."""

from __future__ import annotations

import ctypes
import os
import subprocess
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    *("burst.c", "frag.c", "frag_burst.c", "icmp.c", "names.c", "reassembly.c"),
    *("trace.c", "trace_map.c", "pcapng.c"),
)
# Ordinals of IPC_ERROR_LIST in types.h.
NO_MEMORY, INVALID, UNSUPPORTED, KEY_LENGTH, DUPLICATE, NOT_FOUND, FULL, IO, FORMAT = range(-1, -10, -1)
TRACE_COUNTS = ("frames", "mapped", "unmapped", "reassembled", "padded", "unsendable", "bytes", "duration")
REASSEMBLER_COUNTS = ("fragments", "datagrams", "overlaps", "timeouts", "overflows", "malformed")
EMIT = CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint32)


class Record(ctypes.Structure):
    """A C structure that becomes a namespace."""

    def named(self) -> SimpleNamespace:
        return SimpleNamespace(**{field[0]: getattr(self, field[0]) for field in self._fields_})


class Frame(Record):
    _fields_ = [
        ("time", c_uint64),
        ("offset", c_uint64),
        ("l3_length", c_uint32),
        ("ethertype", ctypes.c_uint16),
        ("l2_length", c_uint8),
        ("sender", c_uint8),
        ("receiver", c_uint8),
        ("number", c_uint32),
    ]


class TraceStats(Record):
    _fields_ = [
        *((name, c_uint64) for name in TRACE_COUNTS),
        ("max_l3", c_uint32),
    ]


class Conversation(Record):
    _fields_ = [("a", c_uint32), ("b", c_uint32), ("packets", c_uint64), ("bytes", c_uint64)]


class HostMap(Record):
    _fields_ = [
        ("network", c_uint32),
        ("mask", c_uint32),
        ("address", c_uint32),
        ("computer", c_uint8),
        ("rewrite", c_uint8),
    ]


class ReassemblerStats(Record):
    _fields_ = [(name, c_uint64) for name in REASSEMBLER_COUNTS]


def address(text: str) -> int:
    return int.from_bytes(bytes(map(int, text.split("."))), "big")


def host(old: str, computer: int, new: str | None = None, prefix: int = 32) -> HostMap:
    mask = 0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF
    return HostMap(address(old), mask, address(new or "0.0.0.0"), computer, new is not None)


class Reassembler:
    def __init__(self, c: ctypes.CDLL, datagrams: int, timeout: int) -> None:
        self.c = c
        self.handle = c_void_p()
        assert c.ipc_reassembler_create(datagrams, c_uint64(timeout), byref(self.handle)) == 0

    def input(self, fragment: bytes, now: int = 0) -> bytes | int:
        """The datagram that is complete now, or the code."""
        out, length = c_void_p(), c_uint32()
        code: int = self.c.ipc_reassembler_input(
            self.handle, fragment, len(fragment), c_uint64(now), byref(out), byref(length)
        )
        return ctypes.string_at(out, length.value) if code == 1 else code

    @property
    def last(self) -> int:
        return int(self.c.ipc_reassembler_last(self.handle))

    @property
    def stats(self) -> dict[str, int]:
        stats = ReassemblerStats()
        self.c.ipc_reassembler_stats(self.handle, byref(stats))
        return vars(stats.named())

    def __del__(self) -> None:
        self.c.ipc_reassembler_destroy(self.handle)


class Trace:
    """`code` and `error` of the load; the rest when it went well."""

    def __init__(self, c: ctypes.CDLL, path: Path | str) -> None:
        self.c = c
        self.handle = c_void_p()
        text = ctypes.create_string_buffer(256)
        self.code = int(c.ipc_trace_load(os.fsencode(path), byref(self.handle), text))
        self.error = text.value.decode()

    def map(self, *maps: HostMap, reassemble: bool = False) -> int:
        return int(self.c.ipc_trace_map(self.handle, (HostMap * len(maps))(*maps), c_size_t(len(maps)), reassemble))

    def frames(self) -> list[SimpleNamespace]:
        """With `l2` and `l3`, the frame's bytes."""
        count = c_size_t()
        frames = self.c.ipc_trace_frames(self.handle, byref(count))
        base = self.c.ipc_trace_bytes(self.handle) or 0
        result = [frames[i].named() for i in range(count.value)]
        for frame in result:
            frame.l2 = ctypes.string_at(base + frame.offset, frame.l2_length)
            frame.l3 = ctypes.string_at(base + frame.offset + frame.l2_length, frame.l3_length)
        return result

    def conversations(self, most: int | None = None) -> list[tuple[int, int, int, int]]:
        count = self.c.ipc_trace_conversations(self.handle, None, c_size_t(0)) if most is None else most
        out = (Conversation * count)()
        self.c.ipc_trace_conversations(self.handle, out, c_size_t(count))
        return [(x.a, x.b, x.packets, x.bytes) for x in out]

    @property
    def stats(self) -> SimpleNamespace:
        stats = TraceStats()
        self.c.ipc_trace_stats(self.handle, byref(stats))
        return stats.named()

    def __del__(self) -> None:
        self.c.ipc_trace_destroy(self.handle)


class Library:
    def __init__(self, path: Path) -> None:
        self.c = c = ctypes.CDLL(str(path), use_errno=True)
        c.ipc_trace_frames.restype = POINTER(Frame)
        c.ipc_trace_bytes.restype = c_void_p
        c.ipc_trace_conversations.restype = c_size_t
        c.ipc_reassembler_last.restype = c_uint64
        c.ipc_trace_destroy.argtypes = c.ipc_reassembler_destroy.argtypes = [c_void_p]
        c.ipc_pcapng_create.argtypes = [c_char_p, c_char_p, POINTER(c_void_p)]
        c.ipc_pcapng_interface.argtypes = [c_void_p, c_char_p, c_uint64]
        c.ipc_pcapng_frame.argtypes = [
            *(c_void_p, c_uint32, c_uint64, c_uint32),
            *(c_char_p, c_uint32, c_char_p, c_uint32),
        ]
        c.ipc_pcapng_close.argtypes = [c_void_p]

    def trace(self, path: Path | str) -> Trace:
        return Trace(self.c, path)

    def reassembler(self, datagrams: int = 16, timeout: int = 10**9) -> Reassembler:
        return Reassembler(self.c, datagrams, timeout)

    def fragment(
        self, packet: bytes, mtu: int, stop_after: int = 1 << 30, identification: int | None = None
    ) -> tuple[int, list[bytes]]:
        """The code and the fragments (IPv6 with an identification); the callback refuses (-77) after `stop_after`."""
        out: list[bytes] = []

        def emit(_context: int | None, pointer: int, length: int) -> int:
            if len(out) == stop_after:
                return -77
            out.append(ctypes.string_at(pointer, length))
            return 0

        if identification is None:
            return int(self.c.ipc_fragment(packet, len(packet), mtu, EMIT(emit), None)), out
        code = self.c.ipc_fragment6(packet, len(packet), mtu, c_uint32(identification), EMIT(emit), None)
        return int(code), out


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    path = tmp_path_factory.mktemp("src_c") / "library.so"
    flags = ["-std=c11", "-O1", "-g", "-shared", "-fPIC", f"-I{ROOT / 'src_c/include'}"]
    if os.environ.get("IPSEC_CORE_SANITIZE") == "1":
        flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", *flags, *(str(ROOT / "src_c" / name) for name in SOURCES)]
    command += ["-lpcap", "-o", str(path)]
    subprocess.run(command, check=True)
    return Library(path)


@pytest.fixture(scope="session")
def names() -> SimpleNamespace:
    """Error codes and helpers that tests need by name."""
    return SimpleNamespace(
        INVALID=INVALID, FULL=FULL, IO=IO, FORMAT=FORMAT, NO_MEMORY=NO_MEMORY, host=host, address=address
    )
