"""The stubs of the Cython modules say what the modules have."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from ipsec_core.ike import _modexp
from ipsec_core.live import _io
from ipsec_core.sim import _world


@dataclass(frozen=True)
class Stub:
    """`imported`: names in the module that come from elsewhere; `checked`: methods and functions with a docstring."""

    module: ModuleType
    imported: frozenset[str]
    checked: int

    @property
    def body(self) -> list[ast.stmt]:
        file = Path(str(self.module.__file__))
        return ast.parse(file.with_name(f"{self.module.__name__.rpartition('.')[2]}.pyi").read_text()).body

    @property
    def classes(self) -> list[ast.ClassDef]:
        return [node for node in self.body if isinstance(node, ast.ClassDef)]


STUBS = (
    Stub(_world, frozenset({"os", "IPv4Address", "ScenarioError", "TrafficError"}), 20),
    Stub(_io, frozenset({"IPv4Address"}), 3),
    Stub(_modexp, frozenset(), 1),
)


@pytest.fixture(params=STUBS, ids=lambda stub: stub.module.__name__)
def stub(request: pytest.FixtureRequest) -> Stub:
    found: Stub = request.param
    return found


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def test_names(stub: Stub) -> None:
    declared = {
        node.target.id for node in stub.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert declared | functions | {node.name for node in stub.classes} == public(dir(stub.module)) - stub.imported


def test_members(stub: Stub) -> None:
    for node in stub.classes:
        declared = [member.name for member in node.body if isinstance(member, ast.FunctionDef)]
        declared += [
            member.target.id
            for member in node.body
            if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
        ]
        assert public(declared) == public(dir(getattr(stub.module, node.name))), node.name


def test_parameters(stub: Stub) -> None:
    """Cython puts the signature into the first line of the docstring."""
    checked = 0
    for owner in stub.classes:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef) or node.decorator_list or node.name.startswith("__"):
                continue
            line = str(getattr(getattr(stub.module, owner.name), node.name).__doc__).splitlines()[0]
            given = re.fullmatch(rf"{owner.name}\.{node.name}\((.*)\)", line)
            assert given, line
            names = [part.split("=")[0].split(" ")[-1] for part in given[1].split(", ")]
            assert names == [argument.arg for argument in node.args.args], line
            assert given[1].count("=") == len(node.args.defaults), line
            checked += 1
    assert checked == stub.checked
