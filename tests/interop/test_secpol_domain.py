"""secpol on the policies of a domain, in a real OpenLDAP; and LDIF files that its own tools take."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import slapd
from click.testing import CliRunner
from tls_files import make_tls_files

from ipsec_core.policy.builtin import BUILTIN_NAMES
from ipsec_core.tools.main import main

pytestmark = pytest.mark.interop

Secpol = Callable[..., str]


def run(*words: object) -> str:
    result = CliRunner().invoke(main, ["secpol", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy of a computer, as LDIF of the server's domain."""
    ours = ("--state", tmp_path / "ALICE")
    run(*ours, "create", "policy", "Büro", "--description", " a blank in front, and one behind ")
    run(*ours, "create", "filterlist", "L")
    run(*ours, "create", "filter", "L", "--from", "me", "--to", "10.0.0.0/8", "--protocol", "tcp", "--to-port", 445)
    run(*ours, "create", "filteraction", "A", "--method", "ESP[3DES,SHA1]", "--method", "AH[SHA1]")
    run(*ours, "create", "rule", "Büro", "R", "--filterlist", "L", "--filteraction", "A")
    run(*ours, "export", tmp_path / "policy.ldif", "Büro", "--domain", slapd.DOMAIN)
    return tmp_path / "policy.ldif"


@pytest.fixture
def server(captures: Path, tmp_path: Path, file: Path) -> Iterator[slapd.Slapd]:
    """With the built-in policies of a real domain, and with those of `file`, which slapadd has read."""
    data = captures.parent / "reference" / "data"
    if not (data / "ad-ip-security.ldif").exists():
        pytest.skip("no objects of a real domain beside the captures")
    server = slapd.Slapd(tmp_path / "slapd", data, make_tls_files(tmp_path, "localhost", "127.0.0.1"))
    words = [str(slapd.SLAPADD), "-f", str(server.folder / "slapd.conf"), "-l", str(file)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    server.start()
    yield server
    server.stop()


@pytest.fixture
def secpol(server: slapd.Slapd, tmp_path: Path) -> Secpol:
    (tmp_path / "password").write_text(slapd.PASSWORD)
    account = ("--user", slapd.ADMINISTRATOR, "--password-file", tmp_path / "password", "--protection", "none")
    return lambda *words: run("--ldap", server.plain, *account, *words)


def test_the_life_of_a_policy_in_a_domain(secpol: Secpol, tmp_path: Path) -> None:
    listed = json.loads(secpol("list", "all", "--json"))
    assert [one["name"] for one in listed["policies"]] == sorted(["Büro", *BUILTIN_NAMES])
    expected = json.loads(run("--state", tmp_path / "ALICE", "show", "Büro", "--json"))
    assert json.loads(secpol("show", "büro", "--json")) == expected
    secpol("assign", "Büro")
    assert "Büro  assigned" in secpol("show")
    secpol("edit", "filter", "L", 1, "--to-port", 139)
    secpol("create", "policy", "Lab", "--no-default-response")
    secpol("create", "rule", "Lab", "all", "--filterlist", "All IP Traffic", "--filteraction", "A")
    secpol("assign", "Lab")
    assert secpol("check").endswith("no problems\n")
    secpol("delete", "policy", "Büro")
    secpol("builtin")
    assert secpol("check").endswith("no problems\n")
    secpol("unassign")
    secpol("delete", "policy", "Lab")
    assert sorted(BUILTIN_NAMES) == [one["name"] for one in json.loads(secpol("list", "--json"))["policies"]]


def test_from_a_domain_to_a_computer_and_back(secpol: Secpol, tmp_path: Path) -> None:
    secpol("assign", "Büro")
    secpol("export", tmp_path / "domain.reg")
    run("--state", tmp_path / "BOB", "import", tmp_path / "domain.reg")
    there, here = (json.loads(call("list", "all", "--json")) for call in (secpol, _on(tmp_path / "BOB")))
    assert there == here
    run("--state", tmp_path / "BOB", "edit", "policy", "Büro", "--poll", 7)
    run("--state", tmp_path / "BOB", "export", tmp_path / "back.reg", "Büro")
    secpol("import", tmp_path / "back.reg")
    assert json.loads(secpol("show", "--json"))["polling_interval_seconds"] == 420
    assert secpol("check").endswith("no problems\n")


def _on(directory: Path) -> Secpol:
    return lambda *words: run("--state", directory, *words)
