"""What is declared once is the same everywhere: verdicts, counters, versions, the stub."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from types import ModuleType

import ipsec_core
from ipsec_core import Driver, Status
from ipsec_core.driver import COUNTER_RULES, COUNTERS, PASSES, STATUS_TEXT, _core, _path

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ROOT / "src_c" / "include" / "ipsec_core"


def entries(header: str, macro: str) -> list[tuple[str, ...]]:
    """The arguments of X(...) in an X-macro list, without quotes."""
    text = (HEADERS / header).read_text()
    body = re.search(rf"#define {macro}\(X\)(.*?[^\\])\n", text, re.S)
    assert body
    # A macro goes on behind a backslash, a string behind the end of another.
    found = re.findall(r'X\(((?:\w+|"[^"]*"|[\s,])+)\)', body[1].replace("\\\n", "\n"))
    parts = [re.findall(r'"[^"]*"(?:\s+"[^"]*")*|\w+', entry) for entry in found]
    return [tuple(re.sub(r'^"|"$|"\s+"', "", part) for part in entry) for entry in parts]


def stub(module: ModuleType = _core) -> ast.Module:
    name = module.__name__.rpartition(".")[2]
    return ast.parse(Path(str(module.__file__)).with_name(f"{name}.pyi").read_text())


def declared_names(module: ModuleType) -> set[str]:
    names = set()
    for node in stub(module).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def public(names: object) -> set[str]:
    return {name for name in map(str, names) if not name.startswith("_")}  # type: ignore[call-overload]


def test_verdicts() -> None:
    listed = entries("status.h", "IPC_STATUS_LIST")
    assert len(listed) == 28
    assert [name for name, _, _ in listed] == [status.name for status in Status]
    assert [status.value for status in Status] == list(range(len(listed)))
    assert {Status[name]: text for name, _, text in listed} == STATUS_TEXT
    assert {Status[name] for name, verdict, _ in listed if verdict == "PASS"} == PASSES


def test_verdicts_of_the_stub() -> None:
    (enum,) = [node for node in stub().body if isinstance(node, ast.ClassDef) and node.name == "Status"]
    declared = {
        node.targets[0].id: node.value.value  # type: ignore[attr-defined]
        for node in enum.body
        if isinstance(node, ast.Assign)
    }
    assert declared == {status.name: status.value for status in Status}


def test_counters() -> None:
    listed = entries("driver.h", "IPC_COUNTER_LIST")
    assert len(listed) == 24
    assert tuple((name, text) for name, text, _ in listed) == COUNTERS
    assert {name: rule for name, _, rule in listed} == COUNTER_RULES
    driver = Driver()
    assert list(driver.counters()) == [name for name, _, _ in listed]
    for direction in ("out", "in"):
        assert list(driver.status_counters(direction)) == [status.name for status in Status]


def test_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert _core.C_VERSION == ipsec_core.__version__ == project["version"]


def test_stub_has_the_names_of_the_module() -> None:
    modules = {"hashlib", "os", "warnings", "np", "IntEnum", "IPv4Address", "IPv4Network", "IPv6Address", "IPv6Network"}
    modules |= {"ip_address", "DriverError", "SecurityWarning"}
    modules |= {"Action", "Algorithm", "SaInfo", "Upcall", "UpcallKind"}
    assert declared_names(_core) == public(dir(_core)) - modules
    assert declared_names(_path) == public(dir(_path)) - {"np", "PathMtu"}


def test_stub_has_the_members_of_the_classes() -> None:
    for node in stub().body:
        if isinstance(node, ast.ClassDef) and node.name != "Status":
            declared = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
            assert public(declared) == public(dir(getattr(_core, node.name))), node.name
            assert ("__len__" in declared) == hasattr(getattr(_core, node.name), "__len__")


def test_stub_has_the_parameters_of_the_functions() -> None:
    """Cython embeds the signature in the first line of the docstring."""
    for owner in [_core, _path, _core.Burst, _core.Driver]:
        body = stub(_path if owner is _path else _core).body
        if owner not in (_core, _path):
            (body,) = [n.body for n in body if isinstance(n, ast.ClassDef) and n.name == owner.__name__]
        for node in body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("__") or node.decorator_list:
                continue
            line = str(getattr(owner, node.name).__doc__).splitlines()[0]
            signature = ast.parse(f"def {_untyped(line)}: ...").body[0]
            assert isinstance(signature, ast.FunctionDef)
            names = [a.arg for a in [*signature.args.args, *signature.args.kwonlyargs]]
            assert names == [a.arg for a in [*node.args.args, *node.args.kwonlyargs]], node.name
            assert len(signature.args.defaults) == len(node.args.defaults), node.name


def _untyped(line: str) -> str:
    """`Driver.release(self, Burst burst, double now=0.0)` -> `release(self, burst, now=0.0)`."""
    name, arguments = line.rstrip(")").split("(", 1)
    plain = [re.sub(r"^[\w. ]* (?=\w+(=.*)?$)", "", a.strip()) for a in arguments.split(",")]
    return f"{name.split('.')[-1]}({', '.join(plain)})"
