"""The lab of a directory as a reader does it: labs/directory.sh in one place, simulate and secpol in another."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import slapd
from interop_kit import need
from namespaces import Program, wait_until

from ipsec_core.computer.state import State
from ipsec_core.tools.main import TOOLS, Tools

pytestmark = pytest.mark.interop

LABS = Path(__file__).resolve().parents[2] / "labs"
SCRIPT = LABS / "directory.sh"
SECURE = "Secure Server (Require Security)"


@dataclass
class Directory:
    """The script as a program, and the port it listens on."""

    program: Program
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    need(slapd.SLAPD.exists(), "slapd")
    port = slapd.free_port()
    folder = tmp_path / "server"
    folder.mkdir()
    program = Program(["setsid", str(SCRIPT), str(port)], tmp_path / "script.log", os.environ | {"TMPDIR": str(folder)})
    wait_until(lambda: program.ended or "until Ctrl-C" in program.output, "directory.sh")
    assert not program.ended, program.output
    yield Directory(program, port, folder)
    program.stop()


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        Tools("ipsec-core").main([str(word) for word in words])
    return int(ended.value.code or 0)


def simulated(tmp_path: Path, directory: Directory) -> tuple[int, Path]:
    scenario = tmp_path / "directory.toml"
    text = (LABS / "directory.toml").read_text()
    assert text.count(":3890/") == 2
    scenario.write_text(text.replace(":3890/", f":{directory.port}/"))
    out = tmp_path / "out"
    return run("simulate", scenario, "--out", out, "--traffic", LABS / "office.pcap", "--quiet"), out


def test_the_policy_of_the_directory_and_another_one(tmp_path: Path, directory: Directory) -> None:
    assert set(TOOLS) > {"simulate", "secpol"}
    for name in ("Domain members", SECURE):
        status, out = simulated(tmp_path, directory)
        assert status == 0
        for computer in ("ALICE", "BOB"):
            with State.open(out / computer) as state:
                policy = state.policy()
                assert policy is not None
                assert policy.name == name
                text = state.event_log().events(source="PolicyAgent")[-1].text
                assert "Group Policy from Active Directory" in text
                assert [item.security for item in state.associations()] == ["ESP[3DES,SHA1]"] * 2
        password = tmp_path / "password"
        password.write_text("office\n")
        account = ("--user", "cn=admin,DC=example,DC=com", "--password-file", password, "--protection", "none")
        assert run("secpol", "--ldap", directory.url, *account, "assign", SECURE) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left(tmp_path: Path, directory: Directory, number: signal.Signals) -> None:
    assert any(directory.folder.iterdir())
    # As a terminal does it: to all of the group, which `setsid` made.
    os.killpg(directory.program.process.pid, number)
    wait_until(lambda: directory.program.ended, "the end of directory.sh")
    assert directory.program.process.returncode == 0
    assert list(directory.folder.iterdir()) == []
    assert simulated(tmp_path, directory)[0] == 2


def test_what_the_script_refuses(directory: Directory) -> None:
    for words, text in (
        ([str(directory.port)], f"directory.sh: 127.0.0.1:{directory.port} is in use; accepted: "),
        (["0"], "directory.sh: usage: directory.sh [PORT]"),
        (["65536"], "directory.sh: usage: "),
        (["1", "2"], "directory.sh: usage: "),
    ):
        done = subprocess.run([SCRIPT, *words], capture_output=True, text=True, timeout=10)
        assert done.returncode == 2
        assert done.stderr.startswith(text)
        assert done.stderr.count("\n") == 1


def test_the_schema_is_that_of_active_directory(captures: Path) -> None:
    source = captures.parent / "reference" / "data" / "ad-ipsec-schema.ldif"
    if not source.exists():
        pytest.skip("no schema of a real domain beside the captures")

    def definitions(text: str) -> set[str]:
        lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\n   ", "")
        return {line for line in lines.splitlines() if line}

    assert definitions((LABS / "ipsec.schema").read_text()) == definitions(slapd.schema(source))
