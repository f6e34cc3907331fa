"""reg: the commands of reg.exe on a state directory; wrong words change nothing."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.computer.reg_file import HEADER, encode
from ipsec_core.computer.registry import IPSEC_KEY, KNOWN_VALUES, RegistryType
from ipsec_core.computer.state import STATE_FILE, State
from ipsec_core.tools import reg

IPSEC = r"HKLM\SYSTEM\CurrentControlSet\Services\IPSEC"
POLICY = r"HKLM\SOFTWARE\Policies\Microsoft\Windows\IPSec\Policy\Local"
LONG = POLICY.replace("HKLM", "HKEY_LOCAL_MACHINE")

Refused = Callable[..., str]


def values(directory: Path, key: str) -> dict[str, Any]:
    with State.open(directory) as state:
        return dict(state.registry.values(key)) if state.registry.exists(key) else {}


def content(directory: Path) -> list[str]:
    """All that is in the database."""
    with closing(sqlite3.connect(directory / STATE_FILE)) as connection:
        return list(connection.iterdump())


def write(file: Path, *lines: str) -> Path:
    file.write_bytes(encode("\r\n".join((HEADER, "", *lines, ""))))
    return file


# -- query --


def test_all_known_values_with_defaults_and_ranges(call: Any, alice: Path) -> None:
    call("reg", "add", IPSEC, "/v", "SAIdleTime", "/d", "600", "--state", alice)
    result = call("reg", "query", "--state", alice)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == IPSEC_KEY
    assert "    SAIdleTime        600           300           computer start  300 to 3600 (seconds)" in lines
    assert "    CacheSize         64            64            computer start  64 to 1024 (KB)" in lines
    assert "    Debug             0             0             service start   0 to 1" in lines
    for item in KNOWN_VALUES:
        assert sum(line.startswith(f"    {item.name} ") for line in lines) == 1


def test_all_known_values_as_json(call: Any, alice: Path) -> None:
    call("reg", "add", IPSEC, "/v", "SAIdleTime", "/d", "600", "--state", alice)
    document = json.loads(call("reg", "query", "--json", "--state", alice).stdout)
    assert document["computer"] == "ALICE"
    assert len(document["values"]) == len(KNOWN_VALUES)
    assert document["values"][0] == {
        "key": IPSEC_KEY,
        "name": "SAIdleTime",
        "type": "REG_DWORD",
        "value": 600,
        "set": True,
        "default": 300,
        "minimum": 300,
        "maximum": 3600,
        "unit": "seconds",
        "restart": "computer",
        "source": "KB 257225",
    }
    assert not any(row["set"] for row in document["values"][1:])


def test_references_to_a_domain_policy_are_listed(call: Any, alice: Path) -> None:
    here = r"HKLM\SOFTWARE\Policies\Microsoft\Windows\IPsec\GPTIPSECPolicy"
    there = (
        r"HKCU\SOFTWARE\Microsoft\GroupPolicyObjects\{31B2F340-016D-11D2-945F-00C04FB984F9}Machine"
        r"\Software\Policies\Microsoft\Windows\IPsec\GPTIPSECPolicy"
    )
    for key in (here, there):
        call("reg", "add", key, "/v", "DSIPSECPolicyName", "/d", "of the domain", "--state", alice)
    text = call("reg", "query", "--state", alice).stdout
    assert text.count("    DSIPSECPolicyName    REG_SZ    of the domain") == 2
    document = json.loads(call("reg", "query", "--json", "--state", alice).stdout)
    assert [row["values"][0]["data"] for row in document["policy_references"]] == ["of the domain"] * 2


@pytest.fixture
def policy(call: Any, alice: Path) -> Path:
    """ALICE with values of every type, two of them as a policy object has them."""
    with State.open(alice, readonly=False) as state:
        registry = state.registry
        registry.set(POLICY, "ActivePolicy", r"SOFTWARE\Policies")
        registry.set(POLICY, "", "default")
        registry.set(POLICY, "number", 300)
        registry.set(POLICY, "texts", ("a", "b"))
        registry.set(POLICY, "ESC\x9b", "one\n\x1b[31mtwo")
        registry.set(POLICY, "path", "%x%", RegistryType.REG_EXPAND_SZ)
        registry.set(POLICY + r"\ipsecNFA{1}", "ipsecData", b"s3cret")
        registry.set(POLICY + r"\ipsecNFA{1}", "blob", b"\x0a\xff")
    return alice


def test_a_key(call: Any, policy: Path) -> None:
    assert call("reg", "query", POLICY.upper(), "--state", policy).stdout == (
        f"{LONG}\n"
        "    (Default)    REG_SZ    default\n"
        "    ActivePolicy    REG_SZ    SOFTWARE\\Policies\n"
        "    ESC\\x9b    REG_SZ    one\\x0a\\x1b[31mtwo\n"
        "    number    REG_DWORD    0x12c\n"
        "    path    REG_EXPAND_SZ    %x%\n"
        "    texts    REG_MULTI_SZ    a\\0b\n"
        "\n"
        f"{LONG}\\ipsecNFA{{1}}\n"
    )


def test_one_value(call: Any, policy: Path, refused: Refused) -> None:
    wanted = f"{LONG}\n    number    REG_DWORD    0x12c\n"
    for words in (("/v", "NUMBER"), ("/V", "number"), ("--value", "number"), ("-v", "number"), ("/v", "number", "/s")):
        assert call("reg", "QUERY", POLICY, *words, "--state", policy).stdout == wanted
    default = call("reg", "query", POLICY, "/ve", "--state", policy).stdout
    assert default == f"{LONG}\n    (Default)    REG_SZ    default\n"
    assert refused("reg", "query", POLICY, "/v", "x", "--state", policy).endswith("there is no value 'x'")
    assert refused("reg", "query", POLICY, "/v", "x", "/s", "--state", policy).endswith("no value 'x', nor below")
    assert refused("reg", "query", POLICY + r"\x", "--state", policy) == f"ipsec-core: there is no key {LONG}\\x"


def test_a_preshared_key_is_shown_only_by_name(call: Any, policy: Path) -> None:
    below = call("reg", "query", "HKLM", "/s", "--state", policy).stdout
    assert "    ipsecData    REG_BINARY    (6 bytes, shown by /v ipsecData)" in below
    assert "    blob    REG_BINARY    0AFF" in below
    assert b"s3cret".hex() not in below.lower()
    as_json = call("reg", "query", "HKLM", "/s", "--json", "--state", policy).stdout
    assert b"s3cret".hex() not in as_json
    named = call("reg", "query", "HKLM", "/s", "/v", "ipsecdata", "--state", policy).stdout
    assert named == f"{LONG}\\ipsecNFA{{1}}\n    ipsecData    REG_BINARY    {b's3cret'.hex().upper()}\n"


def test_a_key_as_json(call: Any, policy: Path) -> None:
    document = json.loads(call("reg", "query", POLICY, "--json", "--state", policy).stdout)
    (key,) = document["keys"]
    assert (key["key"], key["subkeys"]) == (LONG, ["ipsecNFA{1}"])
    assert {row["name"]: row["data"] for row in key["values"]}["texts"] == ["a", "b"]
    whole = json.loads(call("reg", "query", "HKLM", "/s", "--json", "--state", policy).stdout)
    rows = {row["name"]: row for row in whole["keys"][-1]["values"]}
    assert rows["blob"] == {"name": "blob", "type": "REG_BINARY", "data": "0aff"}
    assert rows["ipsecData"]["data"] is None


# -- add and delete --


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ((), ""),
        (("/d", "text"), "text"),
        (("/t", "reg_sz", "/d", "-1"), "-1"),
        (("/T", "REG_EXPAND_SZ", "/d", "/x/%y%"), "/x/%y%"),
        (("/t", "REG_DWORD", "/d", "300"), 300),
        (("/t", "REG_DWORD", "/d", "0X12c"), 300),
        (("/t", "REG_QWORD", "/d", "0xffffffffffffffff"), (1 << 64) - 1),
        (("--type", "REG_BINARY", "--data", "0aFF"), b"\x0a\xff"),
        (("-t", "REG_BINARY", "-d", "0a,ff 01"), b"\x0a\xff\x01"),
        (("/t", "REG_BINARY"), b""),
        (("/t", "REG_NONE", "/d", "01"), b"\x01"),
        (("/t", "REG_MULTI_SZ", "/d", r"a\0b"), ("a", "b")),
        (("/t", "REG_MULTI_SZ", "/d", "a", "/d", r"b\0c"), ("a", "b", "c")),
        (("/t", "REG_MULTI_SZ", "/s", ";", "/d", r"a;b\0"), ("a", r"b\0")),
        (("/t", "REG_MULTI_SZ"), ()),
    ],
)
def test_add(call: Any, alice: Path, words: tuple[str, ...], value: object) -> None:
    result = call("reg", "add", r"HKCU\x", "/v", "name", *words, "/f", "--state", alice)
    assert (result.exit_code, result.stdout) == (0, "HKEY_CURRENT_USER\\x: name is written\n")
    assert values(alice, r"HKCU\x") == {"name": value}


def test_add_a_key_and_its_default_value(call: Any, alice: Path) -> None:
    assert call("reg", "add", r"HKCU\x\y", "--state", alice).stdout == "HKEY_CURRENT_USER\\x\\y: there\n"
    assert call("reg", "add", r"HKCU\x", "/ve", "/d", "text", "--state", alice).exit_code == 0
    assert values(alice, r"HKCU\x") == {"": "text"}


def test_a_known_value_has_its_type_and_says_what_has_to_restart(call: Any, alice: Path) -> None:
    result = call("reg", "add", IPSEC, "/v", "cachesize", "/d", "0x80", "--state", alice)
    assert result.stdout.endswith("cachesize is written; it counts when the computer starts anew\n")
    assert values(alice, IPSEC) == {"cachesize": 128}
    result = call("reg", "delete", IPSEC, "/v", "CacheSize", "--state", alice)
    assert result.stdout.endswith("CacheSize is deleted; it counts when the computer starts anew\n")
    assert values(alice, IPSEC) == {}


def test_delete(call: Any, policy: Path) -> None:
    assert call("reg", "delete", POLICY, "/v", "NUMBER", "/f", "--state", policy).exit_code == 0
    assert call("reg", "delete", POLICY, "/ve", "--state", policy).exit_code == 0
    assert set(values(policy, POLICY)) == {"ActivePolicy", "ESC\x9b", "path", "texts"}
    assert call("reg", "delete", POLICY, "/va", "--state", policy).stdout == f"{LONG}: 4 values deleted\n"
    with State.open(policy) as state:
        assert state.registry.keys(POLICY) == ("ipsecNFA{1}",)
    assert call("reg", "delete", r"hklm\software", "/f", "--state", policy).exit_code == 0
    with State.open(policy) as state:
        assert not state.registry.exists(r"HKLM\SOFTWARE")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("query", "/v", "x"), r"ipsec-core reg query: KEY is missing; accepted: HKLM\..."),
        (("query", "HKCR"), r"ipsec-core: 'HKCR' is not a registry key; accepted: HKLM\... or"),
        (("add", r"HKLM\x", "/d", "1"), "reg add: a name is missing; accepted: /v NAME or /ve"),
        (("add", r"HKLM\x", "/v", "a", "/ve"), "/v and /ve do not go together"),
        (("add", r"HKLM\x", "/v", "a", "/d", "1", "/d", "2"), "/d is given 2 times; accepted: once"),
        (("add", r"HKLM\x", "/v", "a", "/t", "REG_LINK"), "'REG_LINK' is not one of"),
        (("add", r"HKLM\x", "/v", "a", "/t", "REG_DWORD", "/d", "-1"), "/d: not a REG_DWORD; accepted:"),
        (("add", r"HKLM\x", "/v", "a", "/t", "REG_DWORD"), "/d: not a REG_DWORD; accepted:"),
        (("add", r"HKLM\x", "/v", "a", "/t", "REG_DWORD", "/d", "4294967296"), "a: 4294967296 is out of"),
        (("add", r"HKLM\x", "/v", "a", "/t", "REG_BINARY", "/d", "abc"), "/d: not a REG_BINARY; accepted:"),
        (("add", r"HKLM\x", "/v", "a", "/t", "REG_MULTI_SZ", "/d", r"a\0\0b"), "/d: an empty text; accepted: "),
        (("add", r"HKLM\x", "/v", "a", "/t", "REG_MULTI_SZ", "/s", ""), "/s: nothing cannot separate"),
        (("add", IPSEC, "/v", "SAIdleTime", "/d", "long"), "not a REG_DWORD; accepted: 300 to 3600 (seconds)"),
        (("add", IPSEC, "/v", "SAIdleTime", "/d", "299"), "SAIdleTime: 299 is out of range; accepted: 300"),
        (("add", IPSEC, "/v", "SAIdleTime", "/t", "REG_SZ", "/d", "x"), "is of the wrong type; accepted: REG_DWORD"),
        (("delete", r"HKLM\x", "/v", "a", "/va"), "/va and /v or /ve do not go together"),
        (("delete", r"HKLM\x", "/v", "a"), r"HKEY_LOCAL_MACHINE\x: there is no value 'a'"),
        (("delete", r"HKLM\x", "/ve"), r"HKEY_LOCAL_MACHINE\x: there is no default value"),
        (("delete", r"HKLM\x", "/va"), r"there is no key HKEY_LOCAL_MACHINE\x"),
        (("delete", "HKLM"), "HKEY_LOCAL_MACHINE: a hive cannot be deleted"),
        (("export", r"HKLM\x", "DIR/x.reg"), r"there is no key HKEY_LOCAL_MACHINE\x"),
        (("export", "HKLM", "DIR/state.sqlite"), "exists already; accepted: another file, or -y"),
        (("export", "HKLM", "DIR/missing/x.reg"), "reg export: DIR/missing: there is no such directory; accepted: "),
        (("import", "DIR/x.reg"), "DIR/x.reg: No such file or directory"),
        (("import", "DIR"), "DIR: Is a directory"),
        (("import", "DIR/state.sqlite"), "DIR/state.sqlite:1: not "),
    ],
)
def test_wrong_words_change_nothing(alice: Path, refused: Refused, words: tuple[str, ...], text: str) -> None:
    before = content(alice), sorted(path.name for path in alice.parent.rglob("*"))
    command, *others = (word.replace("DIR", str(alice)) for word in words)
    assert text.replace("DIR", str(alice)) in refused("reg", command, "--state", alice, *others)
    assert (content(alice), sorted(path.name for path in alice.parent.rglob("*"))) == before


def test_without_the_words_that_must_be(refused: Refused) -> None:
    accepted = "accepted: query, add, delete, export, import"
    assert refused("reg") == f"ipsec-core reg: a command is missing; {accepted}"
    assert refused("reg", "values") == f"ipsec-core reg: 'values' is not a command; {accepted}"
    assert refused("reg", "query", "HKLM") == "ipsec-core reg query: Missing option '--state'."


# -- files --


def test_export_and_import(call: Any, policy: Path, bob: Path, tmp_path: Path) -> None:
    for switch, start in ((), b"\xff\xfe"), (("--utf-8",), b"\xef\xbb\xbf"):
        file = tmp_path / f"policy{len(switch)}.reg"
        result = call("reg", "export", r"HKLM\SOFTWARE", file, *switch, "--state", policy)
        assert (result.exit_code, result.stdout) == (0, f"{file}: 8 keys\n")
        assert file.read_bytes().startswith(start)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert call("reg", "delete", r"HKLM\SOFTWARE", "--state", bob).exit_code == (2 if not switch else 0)
        result = call("reg", "import", file, "--state", bob)
        assert (result.exit_code, result.stdout) == (0, f"{file}: 8 values written\n")
        with State.open(policy) as ours, State.open(bob) as theirs:
            assert list(theirs.registry.walk(r"HKLM\SOFTWARE")) == list(ours.registry.walk(r"HKLM\SOFTWARE"))


def test_export_over_a_file(call: Any, policy: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.reg"
    file.write_text("before")
    file.chmod(0o644)
    assert call("reg", "export", r"HKLM\SOFTWARE", file, "-y", "--state", policy).exit_code == 0
    assert file.read_bytes().startswith(b"\xff\xfe")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"x.reg", "ALICE"}


def test_import_says_what_it_did(call: Any, policy: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "x.reg", f"[{LONG}]", '"number"=-', '"new"=dword:1', f"[-{LONG}\\ipsecNFA{{1}}]")
    assert call("reg", "import", file, "--state", policy).stdout == f"{file}: 1 value written, 2 removed\n"


def test_one_mistake_changes_nothing(policy: Path, refused: Refused, tmp_path: Path) -> None:
    before = values(policy, POLICY)
    file = write(tmp_path / "x.reg", f"[{LONG}]", '"number"=-', f"[{IPSEC_KEY}]", '"SAIdleTime"=dword:1')
    assert refused("reg", "import", file, "--state", policy) == (
        f"ipsec-core: {file}:6: {IPSEC_KEY}: SAIdleTime: 1 is out of range; accepted: 300 to 3600 (seconds)"
    )
    assert values(policy, POLICY) == before


def test_a_new_computer(call: Any, refused: Refused, tmp_path: Path) -> None:
    bad, good = write(tmp_path / "bad.reg", "x"), write(tmp_path / "good.reg", f"[{LONG}]", '"a"="b"')
    assert refused("reg", "import", good, "--state", tmp_path / "NEW").endswith("NEW: there is no such directory")
    assert f"{bad}:3: " in refused("reg", "import", bad, "--state", tmp_path / "NEW", "--create", "CAROL")
    assert not (tmp_path / "NEW").exists()
    assert call("reg", "import", good, "--state", tmp_path / "NEW", "--create", "CAROL").exit_code == 0
    assert call("reg", "add", POLICY, "/v", "c", "--state", tmp_path / "NEW", "--create", "DAVE").exit_code == 0
    assert values(tmp_path / "NEW", POLICY) == {"a": "b", "c": ""}
    with State.open(tmp_path / "NEW") as state:
        assert state.name == "CAROL"


# -- beside others --


def test_one_line_when_another_process_writes(alice: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reg, "PATIENCE", 0.01)
    with State.open(alice, readonly=False) as agent:
        agent.set_meta("time", 3.0)
        text = refused("reg", "add", IPSEC, "/v", "CacheSize", "/d", "128", "--state", alice)
        assert text == "ipsec-core: the registry is locked: another process writes to it; try again"
    assert values(alice, IPSEC) == {}


def test_beside_a_running_computer(call: Any, alice: Path) -> None:
    with State.open(alice, readonly=False) as agent:
        assert call("reg", "add", IPSEC, "/v", "CacheSize", "/d", "128", "--state", alice).exit_code == 0
        assert agent.registry.known("CacheSize") == 128
        agent.set_meta("time", 3.0)
        assert "0x80" in call("reg", "query", IPSEC, "--state", alice).stdout
