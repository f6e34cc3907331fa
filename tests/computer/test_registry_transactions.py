"""Registry: all or nothing, alone and inside of other work; locks; processes that write at once or are killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ipsec_core.computer.registry import IPSEC_KEY, Registry
from ipsec_core.computer.state import STATE_FILE, State
from ipsec_core.errors import RegistryError, StateError

KEY = r"HKEY_LOCAL_MACHINE\SOFTWARE\x"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with State.create(tmp_path / "ALICE", "ALICE") as state:
        state.registry.set(KEY, "old", 1)
    return tmp_path / "ALICE"


def seen(directory: Path) -> dict[str, object]:
    """What another reader of the directory sees."""
    with State.open(directory) as state:
        return dict(state.registry.values(KEY))


def fail_half_way(registry: Registry) -> None:
    with registry.transaction():
        registry.set(KEY, "new", 1)
        registry.delete(KEY, "old")
        registry.create_key(KEY + r"\new")
        registry.set(IPSEC_KEY, "CacheSize", 1)


def test_what_is_written_is_there_at_once(directory: Path) -> None:
    with State.open(directory, readonly=False) as state:
        state.registry.set(KEY, "new", 1)
        assert seen(directory) == {"new": 1, "old": 1}
        with state.registry.transaction():
            state.registry.set(KEY, "newer", 1)
            assert seen(directory) == {"new": 1, "old": 1}
        assert seen(directory) == {"new": 1, "newer": 1, "old": 1}


def test_nothing_stays_of_what_fails(directory: Path) -> None:
    with State.open(directory, readonly=False) as state:
        with pytest.raises(RegistryError, match="CacheSize: 1 is out of range"):
            fail_half_way(state.registry)
        assert list(state.registry.walk(KEY)) == [(KEY, {"old": (4, 1)})]
        assert not state.registry.exists(IPSEC_KEY)
    assert seen(directory) == {"old": 1}


def test_other_work_of_the_connection_stays_and_is_not_committed(directory: Path) -> None:
    with State.open(directory, readonly=False) as state:
        state.set_meta("other", 1)
        with pytest.raises(RegistryError):
            fail_half_way(state.registry)
        with state.registry.transaction():
            state.registry.set(KEY, "new", 2)
        assert seen(directory) == {"old": 1}
        assert state.meta("other") == 1
        state.commit()
        assert seen(directory) == {"new": 2, "old": 1}
    with State.open(directory) as state:
        assert state.meta("other") == 1


def test_an_inner_transaction_ends_with_the_outer_one(directory: Path) -> None:
    def work(registry: Registry) -> None:
        with registry.transaction():
            with registry.transaction():
                registry.set(KEY, "inner", 1)
            with pytest.raises(RegistryError):
                fail_half_way(registry)
            assert registry.values(KEY) == {"inner": 1, "old": 1}
            assert seen(directory) == {"old": 1}
            raise ZeroDivisionError

    with State.open(directory, readonly=False) as state, pytest.raises(ZeroDivisionError):
        work(state.registry)
    assert seen(directory) == {"old": 1}


def test_one_line_when_locked(directory: Path) -> None:
    with State.open(directory, readonly=False) as other, State.open(directory, readonly=False, patience=0.01) as state:
        other.set_meta("uncommitted", 1)
        with pytest.raises(RegistryError) as raised:
            state.registry.set(KEY, "new", 1)
        assert str(raised.value) == "the registry is locked: another process writes to it; try again"
        assert state.registry.values(KEY) == {"old": 1}
        other.commit()
        state.registry.set(KEY, "new", 1)
    assert seen(directory) == {"new": 1, "old": 1}


def test_a_state_opened_for_reading_refuses(directory: Path) -> None:
    with State.open(directory) as state, pytest.raises(RegistryError, match="the registry cannot be used"):
        state.registry.set(KEY, "new", 1)


def test_a_writer_in_the_other_journal_mode_is_waited_for(directory: Path) -> None:
    connection = sqlite3.connect(directory / STATE_FILE, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match="locked by another process that writes to it; try again"):
        State.open(directory, readonly=False, patience=0.01)
    timer = threading.Timer(0.05, connection.rollback)
    timer.start()
    with State.open(directory, readonly=False, patience=30) as state:
        state.registry.set(KEY, "new", 1)
    timer.join()
    connection.close()
    assert seen(directory) == {"new": 1, "old": 1}


def test_a_second_writer_does_not_end_the_write_ahead_log(directory: Path) -> None:
    with State.open(directory, readonly=False) as state:
        State.open(directory, readonly=False).close()
        state.registry.set(KEY, "new", 1)
        assert (directory / f"{STATE_FILE}-wal").exists()


# -- processes --

COUNT = """
import sys
from pathlib import Path
from ipsec_core.computer.state import State
for number in range(15):
    with State.open(Path(sys.argv[1]), readonly=False, patience=60) as state:
        with state.registry.transaction():
            count = state.registry.get(sys.argv[2], "old")
            state.registry.set(sys.argv[2], "old", count + 1)
            state.registry.set(sys.argv[2], f"{sys.argv[3]}{number}", number)
"""

IMPORT = """
import os, signal, sys
from pathlib import Path
from ipsec_core.computer import reg_file
from ipsec_core.computer.registry import Registry
from ipsec_core.computer.state import State
directory, step, file = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
written, original = 0, Registry.set
def killed(*words):
    global written
    original(*words)
    written += 1
    if written == step:
        os.kill(os.getpid(), signal.SIGKILL)
Registry.set = killed
with State.open(directory, readonly=False) as state:
    state._connection.execute("PRAGMA cache_size = 10")  # so that much is on disk before the end
    reg_file.apply(state.registry, reg_file.parse(file.read_bytes(), str(file)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_two_processes_lose_nothing(directory: Path) -> None:
    words = [sys.executable, "-c", COUNT, str(directory), KEY]
    processes = [subprocess.Popen([*words, name], stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    values = seen(directory)
    assert values.pop("old") == 31
    assert values == {f"{name}{number}": number for name in "ab" for number in range(15)}


@pytest.mark.parametrize("step", [1, 400, 800])
def test_killed_within_an_import(directory: Path, tmp_path: Path, step: int) -> None:
    lines = "\n".join(f'"{number}"=hex:{"ab," * 200}ab' for number in range(800))
    (tmp_path / "x.reg").write_text(f'Windows Registry Editor Version 5.00\n\n[{KEY}]\n"old"=-\n{lines}\n')
    words = [sys.executable, "-c", IMPORT, str(directory), str(step), str(tmp_path / "x.reg")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert seen(directory) == {"old": 1}
    with State.open(directory, readonly=False) as state:
        state.registry.set(KEY, "new", 1)
    assert seen(directory) == {"new": 1, "old": 1}


def test_killed_after_an_import(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "x.reg").write_text(f'Windows Registry Editor Version 5.00\n\n[{KEY}]\n"old"=dword:2\n')
    words = [sys.executable, "-c", IMPORT, str(directory), "2", str(tmp_path / "x.reg")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert seen(directory) == {"old": 2}
