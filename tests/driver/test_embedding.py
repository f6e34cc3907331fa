"""docs/embedding.md: every block runs, in the order of the page, and prints what stands behind its lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import ipsec_core

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "embedding.md").read_text()


class Block(NamedTuple):
    language: str
    name: str
    text: str

    def prints(self) -> list[str]:
        """What stands behind the lines that print: `print(...)  # this`, `./program  # this`."""
        return re.findall(r"^\s*(?:print\(|\./|python -c).*\S  # (.*)$", self.text, re.M)


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.S | re.M)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def output_of(*command: str | Path, cwd: Path, **variables: str) -> list[str]:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def package_path(*more: Path) -> str:
    """The package under test, wherever it is, for a Python that is started elsewhere."""
    return os.pathsep.join(map(str, (Path(ipsec_core.__file__).parents[1], *more)))


def test_the_page_has_its_blocks() -> None:
    assert [(block.language, block.name) for block in BLOCKS] == [
        *[("python", "")] * 3,
        ("c", "program.c"),
        ("sh", ""),
        ("cython", "forward.pyx"),
        ("sh", ""),
    ]
    assert all(block.prints() for block in BLOCKS if not block.name)


@pytest.mark.parametrize("block", PYTHON, ids=["tunnel", "path MTU", "threads"])
def test_python(block: Block, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(block.text)
    printed = output_of(sys.executable, "-W", "error", "example.py", cwd=tmp_path, PYTHONPATH=package_path())
    assert printed == block.prints()


def test_c_and_cython(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    (tmp_path / "empty.c").write_text("#include <openssl/evp.h>\nint main(void) { return 0; }\n")
    if subprocess.run(["cc", "empty.c", "-lcrypto"], cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("the page links OpenSSL (install: libssl-dev)")
    # `python` is this one.
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": package_path(tmp_path),
        "SRC": str(ROOT / "src_c"),
        "PYTHONSAFEPATH": "",  # the page imports what it has just built beside it
    }
    folder = tmp_path / "program"
    folder.mkdir()
    for block in BLOCKS:
        if block.name:
            (folder / block.name).write_text(block.text)
        elif block.language == "sh":
            assert output_of("sh", "-e", "-c", block.text, cwd=folder, **variables) == block.prints()


def test_the_program_has_no_warnings(tmp_path: Path) -> None:
    (program,) = [block for block in BLOCKS if block.name == "program.c"]
    (tmp_path / program.name).write_text(program.text)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Wpedantic", "-Werror", "-fsyntax-only"]
    output_of("cc", *flags, f"-I{ipsec_core.get_include()}", program.name, cwd=tmp_path)
