"""The group: its list, its errors, its exit statuses, and what it does not import."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_core.errors import IpsecError
from ipsec_core.tools.main import TOOLS

PROBE = """
import sys
before = set(sys.modules)
from ipsec_core.tools.main import main
try:
    main({words!r})
except SystemExit as end:
    assert end.code == {status}, end.code
print(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}} & {{"numpy", "cryptography", "rich"}}))
"""


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), ([], 0), (["--version"], 0), (["nonsense"], 2)])
def test_nothing_heavy_is_imported_before_a_tool_is_named(program: list[str], words: list[str], status: int) -> None:
    code = PROBE.format(words=words, status=status)
    done = subprocess.run([*program[:2], code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_list_names_every_tool(call: Any) -> None:
    result = call("--help")
    assert result.exit_code == 0
    for name, line in TOOLS.items():
        assert any(name in shown and line in shown for shown in result.stdout.splitlines())
    assert call().stdout == result.stdout


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_has_help(call: Any, name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: ipsec-core {name} ")
    assert ("--json" in result.stdout) == (name != "agent")  # which prints no result


def test_wrong_words(refused: Callable[..., str]) -> None:
    assert refused("ipsecmom") == f"ipsec-core: 'ipsecmom' is not a tool; accepted: {', '.join(TOOLS)}"
    assert refused("--zzz") == "ipsec-core: No such option '--zzz'."
    assert refused("ipsecmon").startswith("ipsec-core ipsecmon: Missing argument 'DIR'")


@pytest.mark.parametrize("tool", [["ipsecmon"], ["ipsecmon", "--json"], ["events"], ["netdiag", "/test:ipsec"]])
def test_what_is_no_state_directory(refused: Callable[..., str], tmp_path: Path, tool: list[str]) -> None:
    assert refused(*tool, tmp_path / "missing") == f"ipsec-core: {tmp_path}/missing: there is no such directory"
    assert refused(*tool, tmp_path) == f"ipsec-core: {tmp_path}: not a state directory (no state.sqlite in it)"
    (tmp_path / "state.sqlite").write_text("this is not a database" * 100)
    assert "not a state of ipsec_core" in refused(*tool, tmp_path) or "damaged" in refused(*tool, tmp_path)


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Every tool's module raises this when it runs."""
    import click

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(command=command))


def test_errors_of_the_package_are_one_line(monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]) -> None:
    _failing(monkeypatch, IpsecError("what: where\naccepted: this"))
    assert refused("events") == "ipsec-core: what: where accepted: this"


def test_errors_of_the_system_are_one_line(monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]) -> None:
    _failing(monkeypatch, PermissionError(13, "Permission denied", "/some/file"))
    assert refused("events") == "ipsec-core: /some/file: Permission denied"


def test_our_own_faults_are_not_hidden(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    _failing(monkeypatch, ZeroDivisionError("ours"))
    result = call("events")
    assert isinstance(result.exception, ZeroDivisionError)


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    result = call("events")
    assert (result.exit_code, result.stdout) == (130, "")


def test_exit_statuses_of_a_process(run: Any, alice: Path, tmp_path: Path) -> None:
    good = run("events", alice)
    assert (good.returncode, good.stderr) == (0, "")
    bad = run("events", tmp_path / "nothing")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == f"ipsec-core: {tmp_path}/nothing: there is no such directory\n"
    wrong = run("events", alice, "--log", "Setup")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


def test_a_reader_that_leaves_is_no_error(program: list[str], alice: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*program, "events", str(alice)], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (1, 128 + signal.SIGPIPE)


def test_no_colour_without_a_terminal(run: Any, alice: Path) -> None:
    for words in (("ipsecmon", alice), ("events", alice), ("netdiag", alice, "/test:ipsec")):
        assert "\x1b" not in run(*words, TERM="xterm-256color").stdout
