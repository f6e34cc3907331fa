"""What others build on: a Cython module that cimports the driver, a C program that links the library."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import ipsec_core

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(ipsec_core.__file__).parent
# The driver alone: neither libpcap nor the simulator is needed.
OTHERS = ("bench", "eventq", "link", "peer", "trace", "world", "pcapng")
DRIVER = sorted(p.stem for p in (ROOT / "src_c").glob("*.c") if not p.stem.startswith(OTHERS))

MODULE = """
# cython: language_level=3
from ipsec_core.driver cimport _c
from ipsec_core.driver._core cimport Burst, Driver

def twice(Driver driver, Burst burst):
    cdef unsigned passed
    driver.enter()
    try:
        with nogil:
            passed = _c.ipc_outbound(driver.c, burst.c)
            passed += _c.ipc_inbound(driver.c, burst.c)
    finally:
        driver.leave()
    return passed, burst.c.count
"""

# A malformed packet and one that no filter matches, out and in.
USE = """
import below
from ipsec_core import Burst, Driver

packets = [b"E" + bytes(30), bytes.fromhex("4500001400000000400100000a0000010a000002")]
print(below.twice(Driver(), Burst(4).load(packets)))
"""

PROGRAM = """
#include <ipsec_core/driver.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    struct ipc_driver_config config = {0};
    ipc_driver *driver;
    if (ipc_driver_create(&config, &driver) < 0)
        return 1;
    struct ipc_filter filter = {.reference = 1, .direction = IPC_OUTBOUND, .action = IPC_NEGOTIATE};
    uint8_t key[20] = "0123456789abcdef1234";
    struct ipc_sa_config sa = {.direction = IPC_OUTBOUND, .mode = IPC_TRANSPORT, .spi = 4096,
                               .source = ipc_address_of_ipv4(0x0a010001),
                               .destination = ipc_address_of_ipv4(0x0a010002),
                               .encryption = IPC_ENCRYPTION_AES128_GCM16,
                               .filter = 1, .encryption_key = key, .encryption_key_length = 20};
    ipc_sa handle;
    struct ipc_burst *burst;
    if (ipc_driver_set_filters(driver, &filter, 1) < 0 || ipc_sa_add(driver, &sa, &handle) < 0)
        return 2;
    sa.direction = IPC_INBOUND;
    sa.replay_window = 64;
    if (ipc_sa_add(driver, &sa, &handle) < 0 || ipc_burst_create(8, 1500, &burst) < 0)
        return 3;
    uint8_t packet[24] = {0x45, 0, 0, 24, 0, 1, 0, 0, 64, 253, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2, 'd', 'a', 't', 'a'};
    for (int i = 0; i < 8; i++)
        if (ipc_burst_add(burst, packet, sizeof packet, 0) < 0)
            return 4;
    uint32_t sent = ipc_outbound(driver, burst);
    int hidden = memcmp(ipc_burst_packet(burst, 0) + 20, "data", 4) != 0;
    uint32_t received = ipc_inbound(driver, burst);
    int same = memcmp(ipc_burst_packet(burst, 7) + 20, "data", 4) == 0;
    printf("%s %u %u %d %d %s\\n", IPC_VERSION, sent, received, hidden, same, ipc_status_name(burst->status[0]));
    ipc_burst_destroy(burst);
    ipc_driver_destroy(driver);
    return 0;
}
"""


def output_of(*command: str | Path, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compiler(*flags: str) -> list[str]:
    return [*shlex.split(os.environ.get("CC", "cc")), *flags]


def have(library: str, tmp_path: Path) -> bool:
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    command = compiler("empty.c", f"-l{library}", "-o", "empty")
    return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that link the driver's sources, compiled without warnings, and the crypto libraries of this machine."""
    folder = tmp_path_factory.mktemp("library")
    macros, libraries = [], []
    for macro, name in (("IPC_HAVE_IPSECMB", "IPSec_MB"), ("IPC_HAVE_OPENSSL", "crypto")):
        if have(name, folder):
            macros.append(f"-D{macro}")
            libraries.append(f"-l{name}")
    sources = [ROOT / "src_c" / f"{name}.c" for name in DRIVER]
    includes = [f"-I{ROOT / 'src_c'}", f"-I{ipsec_core.get_include()}"]
    flags = ["-std=c11", "-O1", "-fPIC", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-D_GNU_SOURCE", *macros, *includes]
    output_of(*compiler(*flags, "-c"), *sources, cwd=folder)
    return [*(str(folder / f"{name}.o") for name in DRIVER), *libraries]


def test_a_cython_module_cimports_the_driver(tmp_path: Path, library: list[str]) -> None:
    pytest.importorskip("Cython")
    (tmp_path / "below.pyx").write_text(MODULE)
    # The parent of the package is where `cimport ipsec_core...` is looked up.
    output_of(sys.executable, "-m", "cython", "-I", PACKAGE.parent, "below.pyx", cwd=tmp_path)
    output = f"below{sysconfig.get_config_var('EXT_SUFFIX')}"
    flags = ["-shared", "-fPIC", "-O1", f"-I{sysconfig.get_path('include')}", f"-I{ipsec_core.get_include()}"]
    output_of(*compiler(*flags), "below.c", *library, "-o", output, cwd=tmp_path)
    (tmp_path / "use.py").write_text(USE)
    assert (
        output_of(sys.executable, "use.py", cwd=tmp_path, PYTHONPATH=f"{PACKAGE.parent}{os.pathsep}{tmp_path}")
        == "(2, 2)\n"
    )


def test_a_c_program_links_the_library(tmp_path: Path, library: list[str]) -> None:
    (tmp_path / "program.c").write_text(PROGRAM)
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Wpedantic", "-Werror", f"-I{ipsec_core.get_include()}"]
    output_of(*compiler(*strict), "program.c", *library, "-o", "program", cwd=tmp_path)
    assert output_of(tmp_path / "program", cwd=tmp_path) == f"{ipsec_core.__version__} 8 8 1 1 PROTECTED\n"


def test_the_headers_are_c_plus_plus_too(tmp_path: Path) -> None:
    headers = sorted(Path(ipsec_core.get_include(), "ipsec_core").glob("*.h"))
    assert len(headers) >= 8
    (tmp_path / "all.cc").write_text("".join(f"#include <ipsec_core/{h.name}>\n" for h in headers))
    output_of(
        "c++",
        "-std=c++17",
        "-Wall",
        "-Werror",
        "-fsyntax-only",
        f"-I{ipsec_core.get_include()}",
        "all.cc",
        cwd=tmp_path,
    )


@pytest.mark.parametrize("header", sorted(p.name for p in Path(ipsec_core.get_include(), "ipsec_core").glob("*.h")))
def test_each_header_stands_alone(header: str, tmp_path: Path) -> None:
    (tmp_path / "one.c").write_text(f"#include <ipsec_core/{header}>\nint none;\n")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ipsec_core.get_include()}"]
    output_of(*compiler(*flags), "one.c", cwd=tmp_path)
