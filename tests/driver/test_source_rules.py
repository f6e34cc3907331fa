"""Rules of the house that the C compiler does not check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src_c"
FILES = sorted([*SOURCES.glob("*.[ch]"), *(SOURCES / "include" / "ipsec_core").glob("*.h")])
LOOPS = ["outbound.c", "inbound.c", "decapsulate.h", "decapsulate.c", "crypt.c", "ah.c", "lifetime.c", "packet.c"]
LOOPS += ["replay.h", "packet.h", "internal.h"]
# Control calls of these files may allocate; the functions named are what packets run through.
PACKET_FUNCTIONS = {
    "filter.c": [
        "ipc_sa_covers",
        "exempt",
        "find",
        "alive",
        "serving",
        "resolve",
        "same_words",
        "remember_miss",
        "decide_ipv4",
        "fold_address",
        "decide_ipv6",
        "ipc_decide",
        "ipc_cache_invalidate",
    ],
    "sa.c": ["ipc_spi_lookup", "ipc_sa_valid"],
    "hold.c": ["ipc_upcall_post", "ipc_upcall_sa", "find_pending", "pending_for", "post_acquire", "ipc_hold"],
    "burst.c": ["ipc_burst_add"],
}
# A profile brings its clock along (ipc_driver_profile): calls through a pointer are the caller's.
FORBIDDEN = re.compile(
    r"(?<!->)\b(malloc|calloc|realloc|aligned_alloc|free|\w*printf|puts|abort|exit|time|clock\w*|rand)\s*\("
)
# What compares recorded frames and fragments meets no keys and no ICVs: it does not include the headers that know them.
PUBLIC = ("trace", "frag", "pcapng", "reassembly", "matcher")
SECRETS = re.compile(r'#\s*include "(internal|crypto_backends|ipsec_core/crypto)\.h"')


def code(path: Path) -> str:
    """The text without comments and strings."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', "", path.read_text(), flags=re.S)


def body(text: str, function: str) -> str:
    """A function from its opening brace at the end of a line to the closing one at the start of a line."""
    found = re.search(rf"^[a-z][^;{{}}]*\b{function}\([^;{{}}]*\) \{{\n(.*?)^\}}", text, re.S | re.M)
    assert found, f"no function {function}"
    return found[1]


@pytest.mark.parametrize("name", LOOPS)
def test_loops_neither_allocate_nor_print_nor_read_clocks(name: str) -> None:
    assert not FORBIDDEN.findall(code(SOURCES / name))


@pytest.mark.parametrize(("name", "function"), [(n, f) for n, functions in PACKET_FUNCTIONS.items() for f in functions])
def test_packet_functions_neither_allocate_nor_print(name: str, function: str) -> None:
    assert not FORBIDDEN.findall(body(code(SOURCES / name), function))


def test_the_rule_finds_what_it_forbids() -> None:
    assert FORBIDDEN.findall(code(SOURCES / "driver.c"))
    assert FORBIDDEN.findall(body(code(SOURCES / "filter.c"), "ipc_driver_set_filters"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_memcmp_that_could_meet_an_icv(path: Path) -> None:
    uses = re.findall(r"\b(?:memcmp|bcmp|strncmp)\s*\(", code(path))
    if path.name.startswith(PUBLIC):
        assert not SECRETS.search(path.read_text())
    else:
        assert not uses, "secrets are compared with ipc_equal (constant time)"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_size(path: Path) -> None:
    assert path.stat().st_size <= 25 * 1024


@pytest.mark.parametrize(
    "path", [one for one in FILES if not one.name.startswith("bench_")], ids=lambda path: path.name
)
def test_knows_no_python_and_no_clock(path: Path) -> None:
    """And no socket: but for the packet loop of the live computer, which is given some."""
    text = path.read_text()
    sockets = "" if path.name == "tun_io.c" else r"|sys/socket\.h|netinet/"
    assert not re.search(rf"#\s*include\s*[<\"](Python\.h|time\.h|sys/time\.h{sockets})", text)
