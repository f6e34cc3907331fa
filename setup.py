"""Builds the C library of src_c and the Cython modules over it. Metadata is in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SANITIZE = os.environ.get("IPSEC_CORE_SANITIZE") == "1"
COMPILE = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-fvisibility=hidden"]
COMPILE += ["-O1", "-g", "-fno-omit-frame-pointer"] if SANITIZE else ["-O3"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"] if SANITIZE else []


def links(header: str, library: str) -> bool:
    """Whether a program that includes the header and links the library can be built."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(f"#include <{header}>\nint main(void) {{ return 0; }}\n")
        command = [
            *shlex.split(os.environ.get("CC", "cc")),
            str(source),
            "-o",
            str(Path(folder, "probe")),
            f"-l{library}",
        ]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            sys.exit("ipsec_core: no C compiler found (install: gcc)")


macros: list[tuple[str, str | None]] = [("_GNU_SOURCE", "1")]
# The static library first: it needs the others.
libraries = ["ipsec_core", "pcap"]
if links("intel-ipsec-mb.h", "IPSec_MB"):
    macros.append(("IPC_HAVE_IPSECMB", "1"))
    libraries.append("IPSec_MB")
OPENSSL = links("openssl/evp.h", "crypto")
if OPENSSL:
    macros.append(("IPC_HAVE_OPENSSL", "1"))
    libraries.append("crypto")
if len(macros) == 1:
    sys.exit("ipsec_core: no crypto library found (install one of: libipsec-mb-dev, libssl-dev)")
if not links("pcap/pcap.h", "pcap"):
    sys.exit("ipsec_core: libpcap not found (install: libpcap-dev)")

SOURCES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "src_c").glob("*.c"))
HEADERS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "src_c").rglob("*.h"))
CYTHON = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "ipsec_core").rglob("*.pxd"))


def extension(name: str, *, libraries: list[str] = libraries) -> Extension:
    source = name.replace(".", "/") + ".pyx"
    return Extension(
        name,
        [source],
        include_dirs=["src_c/include", "src_c"],
        define_macros=macros,
        libraries=libraries,
        extra_compile_args=["-O2", "-Wno-unused-parameter", *SANITIZERS],
        extra_link_args=SANITIZERS,
        depends=[*SOURCES, *HEADERS, *CYTHON],
    )


class BuildWithHeaders(build_py):
    """Takes the public C headers along: `ipsec_core.get_include()` finds them in an installed package, too."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for header in (ROOT / "src_c" / "include" / "ipsec_core").glob("*.h"):
                target = Path(self.build_lib, "ipsec_core", "include", "ipsec_core", header.name)
                self.mkpath(str(target.parent))
                self.copy_file(str(header), str(target))


setup(
    cmdclass={"build_py": BuildWithHeaders},
    options={"build_ext": {"parallel": os.cpu_count()}},
    libraries=[
        (
            "ipsec_core",
            {
                "sources": SOURCES,
                "obj_deps": {"": HEADERS},
                "include_dirs": ["src_c/include", "src_c"],
                "macros": macros,
                "cflags": [*COMPILE, *SANITIZERS],
            },
        )
    ],
    ext_modules=cythonize(
        [
            extension("ipsec_core.driver._core"),
            extension("ipsec_core.driver._nic"),
            extension("ipsec_core.driver._path"),
            extension("ipsec_core.driver._peer"),
            extension("ipsec_core.sim._world"),
            # Without it ike/groups.py takes Python's pow.
            *([extension("ipsec_core.ike._modexp", libraries=["crypto"])] if OPENSSL else []),
            extension("ipsec_core.live._io"),
        ],
        compiler_directives={"language_level": "3", "embedsignature": True, "boundscheck": False, "wraparound": False},
        build_dir="build/cython",
    ),
)
