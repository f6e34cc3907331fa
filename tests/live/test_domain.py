"""A live computer's domain: whatever it does, the loop goes on and the last policy stays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.state import State
from ipsec_core.errors import DirectoryError
from ipsec_core.live.domain import DomainWatch
from ipsec_core.policy.agent import Reading
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.model import Policy
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import save
from ipsec_core.policy.toml import policy_from_table

Play = Callable[["Stage"], Awaitable[None]]


def policy(name: str) -> Policy:
    rule = {"filters": [{"source": "me", "destination": "any"}], "action": "block"}
    return policy_from_table({"name": name, "rules": [rule]}, "test")


def answer(name: str | None) -> Reading:
    if name is None:
        return Reading("none", None, ())
    with State.memory("domain") as state:
        catalogue, store = Catalogue([policy(name)]), RegistryStore(state.registry)
        catalogue.assign(name)
        save(catalogue, store, 0)
        return Reading(name, store.assigned(), store.objects())


class Directory:
    """Says what the test has put into `says`: a reading, an error to raise, or an event to wait for before the next."""

    def __init__(self, *says: object) -> None:
        self.says = list(says)
        self.asked: list[Reading | None] = []

    def read(self, since: Reading | None = None) -> Reading:
        self.asked.append(since)
        word = self.says.pop(0)
        if isinstance(word, threading.Event):
            assert word.wait(20)
            word = self.says.pop(0)
        if isinstance(word, BaseException):
            raise word
        if word == "same":
            assert since is not None
            return since
        return word  # type: ignore[return-value]


class Stage:
    """A computer with a domain and a clock that only the test moves."""

    def __init__(self, directory: Directory, state: State | None = None, patience: float = 60.0) -> None:
        self.now = 1000.0
        self.directory = directory
        self.lines: list[str] = []
        self.heard = asyncio.Event()
        self.computer = Computer(
            "A", IPv4Address("10.0.0.1"), policy("Local"), seed=b"a", state=state or State.memory("A"), domain="lab"
        )
        self.computer.start(self.now)
        self.watch = DomainWatch(
            directory, self.computer.service, lambda: self.now, self._settled, self.lines.append, patience
        )

    def _settled(self) -> None:
        self.watch.schedule()
        self.heard.set()

    async def hear(self) -> None:
        """The next answer or failure."""
        self.watch.schedule()
        await asyncio.wait_for(self.heard.wait(), 20)
        self.heard.clear()

    async def next(self) -> None:
        """The time of the next question comes, and its answer."""
        assert self.computer.service.next_poll is not None
        # As the loop sees it when the time has come; its timer would take as long as the clock says.
        self.now = self.computer.service.next_poll
        self.watch._wanted = None
        await self.hear()

    @property
    def in_effect(self) -> tuple[str, str | None]:
        active = self.computer.agent.active
        assert active is not None
        return active.source, active.policy.name if active.policy else None

    def events(self) -> list[int]:
        return [event.event_id for event in self.computer.log.events(source="PolicyAgent")]


def play(stage: Callable[[], Stage], scene: Play) -> None:
    async def run() -> None:
        made = stage()
        try:
            await scene(made)
        finally:
            made.watch.close()

    asyncio.run(run())


def test_answers() -> None:
    async def scene(stage: Stage) -> None:
        await stage.hear()
        assert stage.in_effect == ("domain", "Group")
        for _ in range(2):
            await stage.next()
        assert stage.in_effect == ("domain", "Other")
        assert [one and one.stamp for one in stage.directory.asked] == [None, "Group", "Group"]
        await stage.next()
        assert stage.in_effect == ("local", "Local")
        assert stage.now == 1000.0 + 3 * 10800
        assert stage.lines == []

    directory = Directory(answer("Group"), "same", answer("Other"), answer(None))
    play(lambda: Stage(directory), scene)


@pytest.mark.parametrize(
    "error",
    [
        DirectoryError("ldap://dc:389: no answer within 30 s"),
        OSError("strange"),
        ValueError("a library's\nown error"),
        RecursionError(),
    ],
)
def test_failures(error: Exception) -> None:
    """Of whatever kind: back-off, one event, one line; and another line when it is over."""

    async def scene(stage: Stage) -> None:
        waits = []
        for _ in range(3):
            await stage.next()
            assert stage.in_effect == ("domain", "Group")
            if stage.computer.service.next_poll is not None:
                waits.append(stage.computer.service.next_poll - stage.now)
        assert waits == [10800, 60, 240]
        assert stage.events() == [279, 279, 284]
        assert stage.watch.failure == (" ".join(str(error).split()) or "RecursionError")
        await stage.next()
        assert stage.watch.failure == ""
        assert stage.in_effect == ("domain", "Other")
        assert len(stage.lines) == 2
        assert "the domain cannot be asked, what is in effect stays" in stage.lines[0]
        assert "\n" not in stage.lines[0]
        assert stage.lines[1] == "the domain answers again"

    play(lambda: Stage(Directory(answer("Group"), error, error, answer("Other"))), scene)


def test_a_directory_that_hangs() -> None:
    """The loop turns on, the failure is told, no second question goes out; what comes after all counts."""
    gate = threading.Event()

    async def scene(stage: Stage) -> None:
        await stage.hear()
        assert "no answer within 0.05 s" in stage.watch.failure
        assert stage.in_effect == ("local", "Local")
        await stage.next()
        assert stage.watch.failure == "an earlier question has no answer yet"
        assert len(stage.directory.asked) == 1
        gate.set()
        await stage.hear()
        assert stage.in_effect == ("domain", "Group")
        assert stage.events().count(284) == 1

    try:
        play(lambda: Stage(Directory(gate, answer("Group")), patience=0.05), scene)
    finally:
        gate.set()


def test_a_failure_after_the_patience_is_told_once() -> None:
    gate = threading.Event()

    async def scene(stage: Stage) -> None:
        await stage.hear()
        wanted = stage.computer.service.next_poll
        gate.set()
        while stage.watch._waiting:
            await asyncio.sleep(0.005)
        assert stage.computer.service.next_poll == wanted
        await stage.next()
        assert stage.in_effect == ("domain", "Group")

    play(lambda: Stage(Directory(gate, OSError("late"), answer("Group")), patience=0.05), scene)


def test_a_restart_while_the_domain_is_asked() -> None:
    """The answer to the question of the former life serves the new one; a stopped service takes none."""
    gate = threading.Event()

    async def scene(stage: Stage) -> None:
        stage.watch.schedule()
        while not stage.directory.asked:
            await asyncio.sleep(0.005)
        stage.computer.restart_agent(stage.now)
        stage.watch.schedule()
        await asyncio.sleep(0.02)
        assert len(stage.directory.asked) == 1
        gate.set()
        await stage.hear()
        assert stage.in_effect == ("domain", "Group")
        stage.computer.stop(stage.now)
        stage.watch.schedule()
        stage.computer.start(stage.now)
        assert stage.in_effect == ("cache", "Group")
        await stage.hear()
        assert stage.in_effect == ("domain", "Other")

    play(lambda: Stage(Directory(gate, answer("Group"), answer("Other"))), scene)


def test_only_the_cache_is_left(tmp_path: Path) -> None:
    async def first(stage: Stage) -> None:
        await stage.hear()
        stage.computer.snapshot(stage.now)

    async def second(stage: Stage) -> None:
        assert stage.in_effect == ("cache", "Group")
        await stage.hear()
        await stage.next()
        assert stage.in_effect == ("cache", "Group")

    for scene, says in ((first, [answer("Group")]), (second, [DirectoryError("down"), answer_of_a_liar()])):
        state = State.open(tmp_path / "A", readonly=False) if (tmp_path / "A").exists() else None
        with state or State.create(tmp_path / "A", "A") as opened:
            play(lambda says=says, opened=opened: Stage(Directory(*says), opened), scene)  # type: ignore[misc]


def answer_of_a_liar() -> Reading:
    whole = answer("Lie")
    return Reading("lie", whole.assigned, whole.objects[:1])


def test_the_end_does_not_wait_for_the_domain() -> None:
    """The loop ends while a question is out; its answer finds nobody, and nothing is raised in the thread."""
    gate = threading.Event()
    raised: list[Any] = []
    former, threading.excepthook = threading.excepthook, raised.append

    async def scene(stage: Stage) -> None:
        stage.watch.schedule()
        while not stage.directory.asked:
            await asyncio.sleep(0.005)

    try:
        play(lambda: Stage(Directory(gate, answer("Group"))), scene)
        [thread] = [one for one in threading.enumerate() if one.name == "directory"]
        gate.set()
        thread.join(20)
        assert not thread.is_alive()
    finally:
        threading.excepthook = former
    assert raised == []
