"""The compiled matcher as a shared library under ctypes, lists of filters drawn from few bits, and a Python oracle."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src_c"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
# The hash as it is; the same for all; every home the last slot of its table, two tags, all hints.
HASHES = {"full": "(h)", "one": "((h)&0)", "last": "(((h)&0xe000000000000001ull)|0x1fffffff00000000ull)"}
NONE = 0xFFFFFFFF
ALL = (1 << 128) - 1
MAPPED = 0xFFFF << 32


class Address(ctypes.Structure):
    _fields_ = [("high", ctypes.c_uint64), ("low", ctypes.c_uint64)]


class CFilter(ctypes.Structure):
    _fields_ = [
        *((name, Address) for name in ("source", "source_mask", "destination", "destination_mask", "tunnel")),
        ("reference", ctypes.c_uint32),
        ("source_port", ctypes.c_uint16),
        ("destination_port", ctypes.c_uint16),
        *((name, ctypes.c_uint8) for name in ("protocol", "family", "direction", "action")),
    ]


class CPacket(ctypes.Structure):
    _fields_ = [
        ("source", Address),
        ("destination", Address),
        ("source_port", ctypes.c_uint16),
        ("destination_port", ctypes.c_uint16),
        ("protocol", ctypes.c_uint8),
        ("family", ctypes.c_uint8),
        ("direction", ctypes.c_uint32),
    ]


def address(value: int) -> Address:
    return Address(value >> 64, value & (1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class Packet:
    """What filters look at; addresses are 128-bit numbers, of IPv4 the mapped ones."""

    source: int
    destination: int
    source_port: int = 0
    destination_port: int = 0
    protocol: int = 0
    family: int = 4
    direction: int = 0

    def c(self) -> CPacket:
        ports = self.source_port, self.destination_port, self.protocol, self.family, self.direction
        return CPacket(address(self.source), address(self.destination), *ports)


@dataclass(frozen=True, slots=True)
class Filter:
    source: int = 0
    source_mask: int = 0
    destination: int = 0
    destination_mask: int = 0
    source_port: int = 0
    destination_port: int = 0
    protocol: int = 0
    family: int = 0
    direction: int = 0

    def c(self, reference: int) -> CFilter:
        ends = self.source & self.source_mask, self.source_mask, self.destination & self.destination_mask
        addresses = [address(x) for x in (*ends, self.destination_mask, 0)]
        rest = self.source_port, self.destination_port, self.protocol, self.family, self.direction, reference % 4
        return CFilter(*addresses, reference, *rest)

    def matches(self, p: Packet) -> bool:
        given = [
            (wanted, has)
            for wanted, has in (
                (self.source_port, p.source_port),
                (self.destination_port, p.destination_port),
                (self.protocol, p.protocol),
                (self.family, p.family),
            )
            if wanted
        ]
        return (
            self.direction == p.direction
            and p.source & self.source_mask == self.source & self.source_mask
            and p.destination & self.destination_mask == self.destination & self.destination_mask
            and all(wanted == has for wanted, has in given)
        )


def first(filters: Sequence[Filter], packet: Packet) -> int:
    """The walk, in Python."""
    return next((i for i, f in enumerate(filters) if f.matches(packet)), NONE)


class Library:
    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.test_sizes.restype = ctypes.c_size_t
        self.c.test_bytes.restype = ctypes.c_uint64
        self.c.ipc_matcher_destroy.argtypes = [ctypes.c_void_p]
        self.c.test_find.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p]
        assert [self.c.test_sizes(i) for i in (0, 1)] == [ctypes.sizeof(CFilter), ctypes.sizeof(CPacket)]

    def create(self, filters: Sequence[Filter], seed: tuple[int, int] = (1, 2)) -> tuple[int, int | None]:
        """The return code and the matcher, to be destroyed."""
        array = (CFilter * len(filters))(*(f.c(i) for i, f in enumerate(filters)))
        matcher = ctypes.c_void_p()
        rc: int = self.c.ipc_matcher_create(
            array, ctypes.c_uint32(len(filters)), (ctypes.c_uint64 * 2)(*seed), ctypes.byref(matcher)
        )
        ctypes.memset(array, 0xA5, ctypes.sizeof(array))
        return rc, matcher.value

    @contextmanager
    def matcher(self, filters: Sequence[Filter], seed: tuple[int, int] = (1, 2)) -> Iterator[int]:
        rc, matcher = self.create(filters, seed)
        assert rc == 0
        assert matcher
        yield matcher
        self.c.ipc_matcher_destroy(matcher)

    def find(self, filters: Sequence[Filter], packets: Sequence[Packet], seed: tuple[int, int] = (1, 2)) -> list[int]:
        """What the matcher answers."""
        with self.matcher(filters, seed) as matcher:
            found = (ctypes.c_uint32 * len(packets))()
            self.c.test_find(matcher, (CPacket * len(packets))(*(p.c() for p in packets)), len(packets), found)
        return list(found)

    def walk(self, filters: Sequence[Filter], packets: Sequence[Packet]) -> list[int]:
        """What the walk of ipc_filter_matches answers."""
        array = (CFilter * len(filters))(*(f.c(i) for i, f in enumerate(filters)))
        found = (ctypes.c_uint32 * len(packets))()
        self.c.test_walk(array, len(filters), (CPacket * len(packets))(*(p.c() for p in packets)), len(packets), found)
        return list(found)


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """compile_c(name, flags): matcher and walk as one binary."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")

    def build(name: str, flags: Sequence[str]) -> Path:
        output = tmp_path_factory.mktemp("build") / name
        wrap = [f"-Wl,--wrap={f}" for f in ("malloc", "calloc", "free")]
        include = [f"-I{SOURCES}", f"-I{SOURCES / 'include'}"]
        warnings = ["-Wall", "-Wextra", "-Wshadow", "-Werror"]
        files = [SOURCES / "matcher.c", Path(__file__).with_name("walk.c")]
        command = ["gcc", "-std=c11", "-O1", *warnings, *include, *wrap, *flags, "-o", output, *files]
        subprocess.run([*map(str, command)], check=True)
        return output

    return build


@pytest.fixture(scope="session")
def libraries(compile_c: Callable[..., Path]) -> dict[str, Library]:
    """By the hash."""
    sanitize = os.environ.get("IPSEC_CORE_SANITIZE") == "1"
    if sanitize and "libasan" not in Path("/proc/self/maps").read_text():
        pytest.fail("IPSEC_CORE_SANITIZE=1 needs LD_PRELOAD of libasan (gcc -print-file-name=libasan.so)")
    flags = ["-fPIC", "-shared", *(SANITIZERS if sanitize else [])]
    return {
        name: Library(compile_c(f"{name}.so", [*flags, f"-DIPC_MATCHER_HASH(h)={hash_}"]))
        for name, hash_ in HASHES.items()
    }


@pytest.fixture(scope="session", params=HASHES)
def library(request: pytest.FixtureRequest, libraries: dict[str, Library]) -> Library:
    return libraries[request.param]


@pytest.fixture(scope="session")
def full(libraries: dict[str, Library]) -> Library:
    return libraries["full"]


@pytest.fixture(scope="session")
def sanitized(compile_c: Callable[..., Path]) -> list[Path]:
    """Programs that compare matcher and walk under the sanitizers, with and without collisions."""
    return [
        compile_c(f"sanitized-{name}", [*SANITIZERS, f"-DIPC_MATCHER_HASH(h)={HASHES[name]}"])
        for name in ("full", "last")
    ]


class Pool:
    """Few values of everything, so that filters overlap, and often differ in one field only."""

    def __init__(self, random: Random, addresses: int = 8, masks: int = 6, ports: int = 6) -> None:
        self.random = random
        v4 = [MAPPED | 10 << 24 | random.getrandbits(24) for _ in range(addresses)]
        v6 = [0x20010DB8 << 96 | random.choice([0, 1]) << 64 | random.getrandbits(8) for _ in range(addresses)]
        self.addresses = {4: [*v4, v4[0] ^ 1, v4[0] ^ 1 << 16], 6: [*v6, v6[0] ^ 1 << 64, v6[0] ^ 1 << 127]}
        prefixes = {4: (0, 8, 16, 24, 32), 6: (0, 32, 64, 120, 128)}
        self.masks = {
            family: [ALL ^ ((1 << width - p) - 1) if p else 0 for p in prefixes[family]]
            + [random.getrandbits(128) & random.getrandbits(128) for _ in range(masks - 5)]
            for family, width in ((4, 32), (6, 128))
        }
        self.ports = range(1, ports)

    def filter(self, any_of: Sequence[str] = (), family: int | None = None) -> Filter:
        """`any_of`: fields that match everything; the others are given."""
        r = self.random
        chosen = family or r.choice((4, 6))
        fields = {
            "source": r.choice(self.addresses[chosen]),
            "destination": r.choice(self.addresses[chosen]),
            "source_mask": 0 if "source" in any_of else r.choice(self.masks[chosen][1:]),
            "destination_mask": 0 if "destination" in any_of else r.choice(self.masks[chosen][1:]),
            "source_port": r.choice(self.ports),
            "destination_port": r.choice(self.ports),
            "protocol": r.choice((6, 17)),
            "family": chosen,
            "direction": r.getrandbits(1),
        }
        return Filter(**{name: 0 if name in any_of else value for name, value in fields.items()})

    def packet(self, of: Filter | None = None) -> Packet:
        """A packet that `of` matches, or any; the latter mostly comes from addresses of no filter."""
        r = self.random
        family = of.family if of and of.family else r.choice((4, 6))
        strange = r.choice((0, r.getrandbits(32))) if of is None else 0
        fields = {
            "source": r.choice(self.addresses[family]) ^ strange,
            "destination": r.choice(self.addresses[family]),
            "source_port": r.choice((0, *self.ports)),
            "destination_port": r.choice((0, *self.ports)),
            "protocol": r.choice((1, 6, 17)),
            "direction": r.getrandbits(1),
        }
        if of:
            fields |= {
                "source": fields["source"] & ~of.source_mask | of.source & of.source_mask,
                "destination": fields["destination"] & ~of.destination_mask | of.destination & of.destination_mask,
                "source_port": of.source_port or fields["source_port"],
                "destination_port": of.destination_port or fields["destination_port"],
                "protocol": of.protocol or fields["protocol"],
                "direction": of.direction,
            }
        return Packet(**fields, family=family)


FIELDS = ("source", "destination", "source_port", "destination_port", "protocol", "family")


def few_shapes(random: Random, count: int) -> tuple[list[Filter], Pool]:
    """A policy as they are: a dozen shapes of many filters."""
    pool = Pool(random, addresses=20, ports=40)
    pool.masks = {family: [0, masks[4]] for family, masks in pool.masks.items()}
    kinds = [[f for f in FIELDS if random.random() < 0.4] for _ in range(12)]
    return [pool.filter(random.choice(kinds)) for _ in range(count)], pool


def many_shapes(random: Random, count: int) -> tuple[list[Filter], Pool]:
    """Hundreds of shapes, each of a few to a hundred filters, mixed."""
    pool = Pool(random, addresses=4, masks=7)
    return [pool.filter([f for f in FIELDS if random.random() < 0.2]) for _ in range(count)], pool


def own_shapes(random: Random, count: int) -> tuple[list[Filter], Pool]:
    """Nearly every filter has masks of its own."""
    pool = Pool(random, masks=count)
    return [pool.filter([f for f in FIELDS if random.random() < 0.1]) for _ in range(count)], pool


def duplicates(random: Random, count: int) -> tuple[list[Filter], Pool]:
    """A few filters over and over."""
    pool = Pool(random)
    some = [pool.filter([f for f in FIELDS if random.random() < 0.2]) for _ in range(30)]
    return [random.choice(some) for _ in range(count)], pool


LISTS = (few_shapes, many_shapes, own_shapes, duplicates)


@pytest.fixture(scope="session", params=LISTS, ids=lambda f: f.__name__)
def make_list(request: pytest.FixtureRequest) -> Callable[[Random, int], tuple[list[Filter], Pool]]:
    """make_list(random, count): filters and the pool that they are from."""
    chosen: Callable[[Random, int], tuple[list[Filter], Pool]] = request.param
    return chosen


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    return SimpleNamespace(Filter=Filter, Packet=Packet, Pool=Pool, first=first, lists=LISTS, fields=FIELDS)
