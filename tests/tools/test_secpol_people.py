"""secpol check, and several people, processes and an agent on one store."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from secpol_kit import catalogue_of, objects_of, run

from ipsec_core.computer.state import STATE_FILE, State
from ipsec_core.live import control
from ipsec_core.live.ldap import LdapStore
from ipsec_core.live.ldap_connection import Protection
from ipsec_core.policy.agent import Reading
from ipsec_core.policy.builtin import builtin_objects
from ipsec_core.policy.model import Rule
from ipsec_core.policy.objects import Changes
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_catalogue, save
from ipsec_core.tools import secpol, secpol_store
from ipsec_core.tools.secpol_store import MemoryStore

SERVER, SECURE = "Server (Request Security)", "Secure Server (Require Security)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    assert run("--state", tmp_path / "ALICE", "create", "policy", "Lab").exit_code == 0
    return tmp_path / "ALICE"


@contextmanager
def store_of(home: Path) -> Iterator[RegistryStore]:
    with State.open(home, readonly=False) as state:
        yield RegistryStore(state.registry)


def two_people(home: Path) -> None:
    """Both have read the store; one deletes a policy while the other gives it one more rule, and saves last."""
    with store_of(home) as store:
        first, second = read_catalogue(store), read_catalogue(store)
        action, filters = second.filter_action("Permit"), second.filter_list("All ICMP Traffic")
        second.add_rule("Lab", Rule("late", filters, action))
        first.delete_policy("Lab")
        save(first, store, 1)
        save(second, store, 2)


# ---- check ----------------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_new_store(home: Path) -> None:
    result = run("--state", home, "check")
    assert (result.exit_code, result.stdout) == (0, f"{len(objects_of(home))} objects, no problems\n")
    document = json.loads(run("--state", home, "check", "--json").stdout)
    assert document == {"objects": len(objects_of(home)), "problems": [], "repaired": []}


def test_two_people_break_links_and_the_check_finds_them(home: Path) -> None:
    two_people(home)
    result = run("--state", home, "check")
    assert result.exit_code == 1
    *problems, last = result.stdout.splitlines()
    assert problems
    assert last == f"{len(objects_of(home))} objects, {len(problems)} problem{'s' if len(problems) > 1 else ''}"
    document = json.loads(run("--state", home, "check", "--json").stdout)
    assert len(document["problems"]) == len(problems)
    for line, problem in zip(problems, document["problems"], strict=True):
        mark = " (--repair mends it)" if problem["repairable"] else ""
        assert line == f"{problem['object']}: {problem['problem']}{mark}"


def test_what_is_broken_is_said_by_the_other_commands(home: Path) -> None:
    two_people(home)
    before = objects_of(home)
    for words in (["list"], ["assign", "Lab"], ["delete", "policy", "Lab"]):
        result = run("--state", home, *words)
        assert result.exit_code == 2
        assert result.stderr.endswith("secpol check lists all that is broken\n")
        assert result.stderr.count("\n") == 1
    assert objects_of(home) == before


def test_repairing_what_has_one_right_answer(home: Path) -> None:
    with store_of(home) as store:
        (policy,) = (one for one in store.objects() if one.display_name == "Lab")
        isakmp = next(one for one in store.objects() if one.name == policy.isakmp)
        store.apply(Changes((replace(isakmp, owners=()),)), 5)
    assert run("--state", home, "check").exit_code == 1
    result = run("--state", home, "check", "--repair")
    assert result.exit_code == 0
    repaired, last = result.stdout.splitlines()
    assert repaired.startswith(f"repaired: {isakmp.name}: ")
    assert last.endswith("no problems")
    again = json.loads(run("--state", home, "check", "--repair", "--json").stdout)
    assert (again["problems"], again["repaired"]) == ([], [])
    assert isakmp in [replace(one, when_changed=isakmp.when_changed) for one in objects_of(home)]


def test_people_decide_about_the_rest(home: Path) -> None:
    """A rule has lost its filter list: it goes, or the whole policy."""
    run("--state", home, "create", "filterlist", "L")
    run("--state", home, "create", "rule", "Lab", "R", "--filterlist", "L", "--filteraction", "Permit")
    catalogue = catalogue_of(home)
    rule, lost = catalogue.rule("Lab", "R"), catalogue.filter_list("L")
    with store_of(home) as store:
        (name,) = (one.name for one in store.objects() if one.guid == lost.guid)
        store.apply(Changes(delete=(name,)), 5)
    result = run("--state", home, "check", "--repair")
    assert result.exit_code == 1
    (nfa,) = (one.name for one in objects_of(home) if one.guid == rule.guid)
    assert str(nfa) in result.stdout
    result = run("--state", home, "delete", "object", str(nfa).upper())
    assert result.stdout == f"{nfa} is deleted; no problems in the store.\n"
    assert [one.filter_list for one in catalogue_of(home).policy("Lab").rules] == [None]
    run("--state", home, "assign", "Lab")
    (policy,) = (one.name for one in objects_of(home) if one.display_name == "Lab")
    assert "is assigned; un-assign it first" in run("--state", home, "delete", "object", policy).stderr


def test_an_assignment_to_nothing(home: Path) -> None:
    with store_of(home) as store:
        store.apply(Changes(assign=builtin_objects()[-1].guid), 5)
    assert "is assigned, and does not exist" in run("--state", home, "check").stdout
    assert run("--state", home, "unassign").stdout == "No policy is assigned any more.\n"
    assert run("--state", home, "check").exit_code == 0


# ---- at the same time -----------------------------------------------------------------------------------------------


def test_processes_that_edit_one_store_wait_for_each_other(home: Path, program: list[str]) -> None:
    """What each has read is still true when it writes: no rule is lost, no link broken."""
    run("--state", home, "create", "filterlist", "L")
    words = [*program, "secpol", "--state", str(home), "create", "filter", "L", "--from", "me", "--to"]
    started = [subprocess.Popen([*words, f"10.0.0.{number}"], stdout=subprocess.DEVNULL) for number in range(1, 3)]
    assert [process.wait(60) for process in started] == [0, 0]
    found = {str(one.destination) for one in catalogue_of(home).filter_list("L").filters}
    assert found == {f"10.0.0.{number}" for number in range(1, 3)}
    assert run("--state", home, "check").exit_code == 0


def test_a_writer_that_does_not_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secpol_store, "PATIENCE", 0.05)
    before = objects_of(home)
    with State.open(home, readonly=False) as agent:
        agent.set_meta("clock", "unix")  # and does not commit
        result = run("--state", home, "assign", "Lab")
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "locked" in result.stderr
    assert objects_of(home) == before
    assert catalogue_of(home).assigned is None


def test_an_agent_that_writes_is_waited_for(home: Path) -> None:
    holding, written = threading.Event(), threading.Event()

    def agent() -> None:
        with State.open(home, readonly=False) as state:
            state.set_meta("clock", "unix")
            holding.set()
            written.wait(5)
            state.commit()

    thread = threading.Thread(target=agent)
    thread.start()
    holding.wait(5)
    threading.Timer(0.2, written.set).start()
    result = run("--state", home, "assign", "Lab")
    thread.join()
    assert result.exit_code == 0
    assert catalogue_of(home).assigned is not None


def test_how_a_running_agent_takes_a_change(home: Path) -> None:
    assert run("--state", home, "assign", "Lab").stderr == ""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / control.FILE))
        result = run("--state", home, "assign", SECURE)
    assert result.stderr == f"a running agent takes the change on: ipsec-core net update --state {home}\n"


def test_a_change_is_seen_while_the_agent_has_the_store_open(home: Path) -> None:
    with State.open(home, readonly=False) as agent:
        assert RegistryStore(agent.registry).assigned() is None
        assert run("--state", home, "assign", "Lab").exit_code == 0
        assert RegistryStore(agent.registry).assigned() is not None


def test_what_fails_on_the_way_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of a save."""
    before = objects_of(home)
    put, calls = RegistryStore._put, iter(range(3))

    def fail(self: RegistryStore, *rest: object) -> None:
        put(self, *rest)  # type: ignore[arg-type]
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(RegistryStore, "_put", fail)
    result = run("--state", home, "create", "policy", "x")
    monkeypatch.undo()
    assert (result.exit_code, result.stderr) == (2, "ipsec-core: [Errno 28] No space left on device\n")
    assert objects_of(home) == before
    assert sqlite3.connect(home / STATE_FILE).execute("PRAGMA integrity_check").fetchone() == ("ok",)


# ---- a domain -------------------------------------------------------------------------------------------------------


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A directory with the built-in policies: what LdapStore says of it, without a server."""
    kept = MemoryStore(builtin_objects())
    monkeypatch.setattr(LdapStore, "read", lambda self: Reading("", kept.assigned(), kept.objects()))
    for name in ("objects", "assigned", "apply"):
        monkeypatch.setattr(LdapStore, name, lambda self, *rest, name=name: getattr(kept, name)(*rest))
    return kept


def test_the_policies_of_a_domain(domain: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    ours = ("--ldap", "ldap://dc.example.com", "--user", "a@example.com", "--password-file", tmp_path / "password")
    assert SECURE in run(*ours, "list").stdout
    result = run(*ours, "create", "policy", "Lab", "--assign")
    assert result.exit_code == 0
    assert result.stderr == "the computers of the domain take the change when they check for policy changes\n"
    assert domain.assigned() in [one.guid for one in domain.objects() if one.display_name == "Lab"]
    names = [(str(path.name)) for path in tmp_path.iterdir()]
    words = 'ipsecpol -w DS -p Block -r R -f "*=0:1434:UDP" -n BLOCK\n'
    assert run(*ours, "ipsecpol", "--file", "-", stdin=words).exit_code == 0
    assert run(*ours, "check").exit_code == 0
    assert [str(path.name) for path in tmp_path.iterdir()] == names
    run(*ours, "unassign")
    assert domain.assigned() is None


def test_an_administrator_of_a_domain_is_asked_for_the_password(
    domain: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    make = LdapStore.__init__

    def look(self: LdapStore, server: object, gpos: object) -> None:
        seen.append(server.password)  # type: ignore[attr-defined]
        make(self, server, gpos)  # type: ignore[arg-type]

    monkeypatch.setattr(LdapStore, "__init__", look)
    assert run("--ldap", "ldap://dc.example.com", "--user", "admin", "list", stdin="secret\n").exit_code == 0
    assert seen == ["secret"]


def test_the_ways_to_protect_a_connection() -> None:
    assert tuple(item.value for item in Protection) == secpol.PROTECTIONS
