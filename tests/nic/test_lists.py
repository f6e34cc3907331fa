"""What nic.h declares once is the same in Python; rules of the house for the files that packets run through."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ipsec_core.driver import NIC_CAPABILITIES, NIC_FAULTS, NIC_STATISTICS, Nic, NicCheck, NicTask, _nic

SOURCES = Path(__file__).resolve().parents[2] / "src_c"
HEADER = (SOURCES / "include" / "ipsec_core" / "nic.h").read_text()


def listed(macro: str) -> dict[str, str]:
    """Names and texts of an X-macro list."""
    found = re.search(rf"#define {macro}\(X\)(.*?[^\\])\n", HEADER, re.S)
    assert found
    entries = re.findall(r'X\((\w+)(?:, ((?:"[^"]*"[\s\\]*)+))?\)', found[1])
    return {name: "".join(re.findall(r'"([^"]*)"', text)) for name, text in entries}


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def test_capabilities() -> None:
    entries = listed("IPC_NIC_CAPABILITY_LIST")
    assert len(entries) == 25
    assert {plain(name): text for name, text in entries.items()} == NIC_CAPABILITIES
    assert Nic().capabilities == set(NIC_CAPABILITIES)
    assert all(Nic([name]).capabilities == {name} for name in NIC_CAPABILITIES)
    assert Nic("large-send").capabilities == {"large-send"}


def test_faults() -> None:
    entries = listed("IPC_NIC_FAULT_LIST")
    assert {plain(name): text for name, text in entries.items()} == NIC_FAULTS
    table = HEADER[: HEADER.index("#ifndef")]
    assert all(re.search(rf"^ \*   {name}$", table, re.M) for name in entries if name != "NONE")


def test_statistics() -> None:
    assert listed("IPC_NIC_STATISTIC_LIST") == NIC_STATISTICS
    assert list(Nic().statistics()) == list(NIC_STATISTICS)


@pytest.mark.parametrize(("flags", "macro"), [(NicTask, "IPC_NIC_TASK_LIST"), (NicCheck, "IPC_NIC_CHECK_LIST")])
def test_flags(flags: type[NicTask] | type[NicCheck], macro: str) -> None:
    assert [flag.name for flag in flags] == list(listed(macro))
    assert [flag.value for flag in flags] == [1 << i for i in range(len(flags))]


def test_the_stub() -> None:
    body = ast.parse(Path(_nic.__file__).with_name("_nic.pyi").read_text()).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    constants = {n.target.id for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    foreign = {"IntFlag", "DriverError", "np"}
    assert set(classes) | constants == {name for name in dir(_nic) if not name.startswith("_")} - foreign
    for flags in (NicTask, NicCheck):
        assigned = [node for node in classes[flags.__name__].body if isinstance(node, ast.Assign)]
        assert {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assigned} == {
            str(flag.name): flag.value for flag in flags
        }
    members = {node.name for node in classes["Nic"].body if isinstance(node, ast.FunctionDef)}
    members |= {ast.unparse(node.target) for node in classes["Nic"].body if isinstance(node, ast.AnnAssign)}
    assert members - {"__init__"} == {name for name in dir(Nic) if not name.startswith("_")}


@pytest.mark.parametrize("name", ["nic_ipsec.c", "nic_checksum.c", "nic_segment.c"])
def test_what_packets_run_through_neither_allocates_nor_prints(name: str) -> None:
    assert not re.findall(r"\b(malloc|calloc|realloc|free|\w*printf|time|rand)\s*\(", (SOURCES / name).read_text())


def test_settings_read_back() -> None:
    nic = Nic(sa_capacity=3, mtu=576, large_send_max=5000, large_send_min_segments=4)
    assert (nic.sa_capacity, nic.mtu, nic.large_send_max, nic.large_send_min_segments) == (3, 576, 5000, 4)
    assert (nic.fault, nic.fault_every, nic.fault_status, nic.attached) == ("none", 1, 0, False)
    nic.fault_every = 5
    nic.fault = "lost-sa"
    nic.fault_status = 7
    assert (nic.fault, nic.fault_every, nic.fault_status) == ("lost-sa", 5, 7)
