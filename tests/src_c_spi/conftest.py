"""The SPI table as a shared library under ctypes, once with SSE2 and once as other processors have it."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src_c"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
NONE = 2**32 - 1
U32 = ctypes.c_uint32


class Slot(ctypes.Structure):
    _fields_ = [("spi", U32), ("word", U32), ("index", U32), ("tag", U32)]


class CTable(ctypes.Structure):
    _fields_ = [("slots", ctypes.POINTER(Slot)), ("size", U32), ("used", U32), ("seed", ctypes.c_uint64 * 2)]


POINTER = ctypes.POINTER(CTable)


class Table:
    """One table; size 0 is a table of zeros, as a driver's overflow table begins."""

    def __init__(self, c: ctypes.CDLL, size: int, seed: int) -> None:
        self.c = c
        self.t = CTable()
        if size:
            source = random.Random(seed)
            words = (ctypes.c_uint64 * 2)(source.getrandbits(64), source.getrandbits(64))
            assert c.ipc_spi_table_create(ctypes.byref(self.t), size, words) == 0

    @property
    def size(self) -> int:
        return int(self.t.size)

    @property
    def used(self) -> int:
        return int(self.t.used)

    def insert(self, spi: int, word: int, tag: int, index: int) -> int:
        return int(self.c.ipc_spi_table_insert(ctypes.byref(self.t), spi, word, tag, index))

    def delete(self, spi: int, word: int, tag: int, index: int) -> int:
        return int(self.c.ipc_spi_table_delete(ctypes.byref(self.t), spi, word, tag, index))

    def reserve(self) -> int:
        return int(self.c.ipc_spi_table_reserve(ctypes.byref(self.t)))

    def find(self, spi: int, word: int, tag: int) -> int:
        return int(self.c.shim_find(ctypes.byref(self.t), spi, word, tag))

    def all(self, spi: int, word: int, tag: int) -> list[int]:
        """What the cursor finds under a key; after the end it finds nothing more."""
        cursor, found = U32(0), []
        while (index := self.c.shim_next(ctypes.byref(self.t), ctypes.byref(cursor), spi, word, tag)) != NONE:
            found.append(index)
        assert self.c.shim_next(ctypes.byref(self.t), ctypes.byref(cursor), spi, word, tag) == NONE
        return found

    def word(self, address: int) -> int:
        return int(self.c.shim_word(ctypes.byref(self.t), address >> 64, address & 2**64 - 1))

    def close(self) -> None:
        self.c.ipc_spi_table_destroy(ctypes.byref(self.t))


class Library:
    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.none = NONE
        self.full, self.not_found, self.invalid = (
            ctypes.c_int.in_dll(self.c, f"shim_{name}").value for name in ("full", "not_found", "invalid")
        )
        self.tables: list[Table] = []
        key = [POINTER, U32, U32, U32]
        u64 = ctypes.c_uint64
        signatures = {
            "ipc_spi_table_create": ([POINTER, U32, ctypes.POINTER(u64)], ctypes.c_int),
            "ipc_spi_table_destroy": ([POINTER], None),
            "ipc_spi_table_insert": ([*key, U32], ctypes.c_int),
            "ipc_spi_table_delete": ([*key, U32], ctypes.c_int),
            "ipc_spi_table_reserve": ([POINTER], ctypes.c_int),
            "ipc_spi_find_burst": ([POINTER, POINTER, *[ctypes.POINTER(U32)] * 2, U32, U32, ctypes.POINTER(U32)], None),
            "ipc_bench_spi": ([U32, U32, U32, u64, ctypes.POINTER(ctypes.c_double)], ctypes.c_int),
            "shim_next": ([POINTER, ctypes.POINTER(U32), U32, U32, U32], U32),
            "shim_find": (key, U32),
            "shim_word": ([POINTER, u64, u64], U32),
            "shim_tag": ([ctypes.c_uint8, u64, u64], U32),
        }
        for name, (arguments, result) in signatures.items():
            function = getattr(self.c, name)
            function.argtypes, function.restype = arguments, result

    def table(self, size: int, seed: int = 1) -> Table:
        self.tables.append(Table(self.c, size, seed))
        return self.tables[-1]

    def create(self, size: int) -> int:
        """The code of a creation that is expected to fail."""
        return int(self.c.ipc_spi_table_create(ctypes.byref(CTable()), size, (ctypes.c_uint64 * 2)()))

    def burst(self, main: Table, overflow: Table | None, keys: Sequence[tuple[int, int]], tag: int) -> list[int]:
        """The indices of the keys; what lies behind their array is not written."""
        spi, word = ((U32 * len(keys))(*column) for column in zip(*keys, strict=True))
        index = (U32 * (len(keys) + 1))(*[0xA5A5A5A5] * (len(keys) + 1))
        other = ctypes.byref(overflow.t) if overflow else None
        self.c.ipc_spi_find_burst(ctypes.byref(main.t), other, spi, word, tag, len(keys), index)
        assert index[len(keys)] == 0xA5A5A5A5
        return list(index[: len(keys)])

    def tag(self, protocol: int, address: int) -> int:
        return int(self.c.shim_tag(protocol, address >> 64, address & 2**64 - 1))

    def bench(self, sas: int, slots: int, rounds: int) -> tuple[int, float]:
        seconds = ctypes.c_double(0)
        return int(self.c.ipc_bench_spi(sas, slots, rounds, 7, ctypes.byref(seconds))), seconds.value

    def clear(self) -> None:
        while self.tables:
            self.tables.pop().close()


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Sequence[str]], Path]:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    sanitize = os.environ.get("IPSEC_CORE_SANITIZE") == "1"
    if sanitize and "libasan" not in Path("/proc/self/maps").read_text():
        pytest.fail("IPSEC_CORE_SANITIZE=1 needs LD_PRELOAD of libasan (gcc -print-file-name=libasan.so)")

    def build(name: str, flags: Sequence[str]) -> Path:
        output = tmp_path_factory.mktemp("build") / f"{name}.so"
        sources = [SOURCES / "spi_table.c", SOURCES / "bench_spi.c", Path(__file__).with_name("shim.c")]
        warnings = ["-Wall", "-Wextra", "-Wshadow", "-Werror"]
        command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-fPIC", "-shared", *warnings, *flags]
        command += SANITIZERS if sanitize else []
        command += [f"-I{SOURCES}", f"-I{SOURCES / 'include'}", "-o", str(output), *map(str, sources)]
        subprocess.run(command, check=True)
        return output

    return build


@pytest.fixture(scope="session", params=["sse2", "portable"])
def built(request: pytest.FixtureRequest, compile_c: Callable[[str, Sequence[str]], Path]) -> Library:
    return Library(compile_c(request.param, ["-DIPC_SPI_PORTABLE"] if request.param == "portable" else []))


@pytest.fixture
def library(built: Library) -> Iterator[Library]:
    """Tables made with it end with the test."""
    yield built
    built.clear()
