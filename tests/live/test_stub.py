"""The stub of the Cython packet loop says what the module has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from ipsec_core.live import _io

BODY = ast.parse(Path(_io.__file__).with_name("_io.pyi").read_text()).body
CLASSES = [node for node in BODY if isinstance(node, ast.ClassDef)]


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def test_names() -> None:
    declared = {
        node.target.id for node in BODY if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    imported = {"IPv4Address"}
    functions = {node.name for node in BODY if isinstance(node, ast.FunctionDef)}
    assert declared | functions | {node.name for node in CLASSES} == public(dir(_io)) - imported


def test_members() -> None:
    for node in CLASSES:
        declared = [member.name for member in node.body if isinstance(member, ast.FunctionDef)]
        assert public(declared) == public(dir(getattr(_io, node.name))), node.name


def test_parameters() -> None:
    """Cython puts the signature into the first line of the docstring."""
    checked = 0
    for owner in CLASSES:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef) or node.decorator_list or node.name.startswith("__"):
                continue
            line = str(getattr(getattr(_io, owner.name), node.name).__doc__).splitlines()[0]
            given = re.fullmatch(rf"{owner.name}\.{node.name}\((.*)\)", line)
            assert given, line
            names = [part.split("=")[0].split(" ")[-1] for part in given[1].split(", ")]
            assert names == [argument.arg for argument in node.args.args], line
            assert given[1].count("=") == len(node.args.defaults), line
            checked += 1
    assert checked == 3
