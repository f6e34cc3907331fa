"""The socket for orders: who may use it, what it refuses, what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.errors import AgentError
from ipsec_core.live.control import FILE, Control, ask


class Obedient:
    """Takes orders while `client` runs in a thread, and notes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.orders: list[dict[str, Any]] = []

    async def obey(self, order: dict[str, Any]) -> dict[str, object]:
        self.orders.append(order)
        return {"error": "not today"} if order.get("do") == "stop" else {"text": f"did {order.get('do')}"}

    def serve(self, client: Callable[[], object]) -> Any:
        async def run() -> object:
            control = Control(self.folder, self.obey)
            await control.open()
            try:
                return await asyncio.to_thread(client)
            finally:
                await control.close()

        return asyncio.run(run())


def raw(folder: Path, *parts: bytes) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(20)
        agent.connect(str(folder / FILE))
        for part in parts:
            agent.sendall(part)
        agent.shutdown(socket.SHUT_WR)
        with agent.makefile() as stream:
            return [json.loads(line) for line in stream]


def test_an_order(tmp_path: Path) -> None:
    agent = Obedient(tmp_path)
    assert agent.serve(lambda: ask(tmp_path, "update")) == {"text": "did update"}
    assert agent.orders == [{"do": "update"}]
    with pytest.raises(AgentError, match=r"^not today$"):
        agent.serve(lambda: ask(tmp_path, "stop"))


def test_for_its_owner_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        mode = Obedient(tmp_path).serve(lambda: (tmp_path / FILE).stat().st_mode)
    finally:
        os.umask(former)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_a_dead_agents_socket_is_replaced(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / FILE))
    dead.close()
    with pytest.raises(AgentError, match="no agent runs there"):
        ask(tmp_path, "status")
    assert Obedient(tmp_path).serve(lambda: ask(tmp_path, "status")) == {"text": "did status"}


def test_a_directory_with_a_long_name(tmp_path: Path) -> None:
    """Longer than the address of a socket may be."""
    folder = tmp_path / ("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    assert Obedient(folder).serve(lambda: ask(folder, "status")) == {"text": "did status"}


@pytest.mark.parametrize("what", ["nothing", "file", "empty folder"])
def test_nothing_runs(tmp_path: Path, what: str) -> None:
    place = tmp_path / "state"
    if what == "file":
        place.write_text("")
    elif what == "empty folder":
        place.mkdir()
    with pytest.raises(AgentError) as raised:
        ask(place, "stop")
    assert str(raised.value) == f"{place}: no agent runs there; accepted: the state directory of a running agent"


@pytest.mark.parametrize(
    "line", [b"stop", b"[1]", b"{", b'"stop"', b"\xff\xfe", b"[" * 4000, b'{"do": "stop"', b"1e999"]
)
def test_what_is_no_order(tmp_path: Path, line: bytes) -> None:
    agent = Obedient(tmp_path)
    [answer] = agent.serve(lambda: raw(tmp_path, line, b"\n"))
    assert answer["error"].startswith("not an order; accepted: one JSON object a line")
    assert agent.orders == []


def test_several_orders_in_pieces(tmp_path: Path) -> None:
    agent = Obedient(tmp_path)
    answers = agent.serve(lambda: raw(tmp_path, b'{"do": "a"}\n{"d', b'o": "b"}\nx\n{"do": "stop"}\n'))
    assert [next(iter(one.values()))[:6] for one in answers] == ["did a", "did b", "not an", "not to"]


def test_too_long_a_line_ends_the_connection(tmp_path: Path) -> None:
    agent = Obedient(tmp_path)

    def client() -> object:
        try:
            answers: object = raw(tmp_path, b" " * 2_000_000, b"\n")
        except OSError:  # it may be closed while we still send
            answers = []
        return answers, ask(tmp_path, "status")

    assert agent.serve(client) == ([], {"text": "did status"})
    with pytest.raises(AgentError, match=r"an order of 2000\d\d\d bytes; accepted: up to 1048576$"):
        ask(tmp_path, "push", rules=" " * 2_000_000)


def test_an_agent_that_goes_away_in_between(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / FILE))
        agent.listen()

        async def run() -> None:
            asked = asyncio.create_task(asyncio.to_thread(ask, tmp_path, "stop"))
            connection, _ = await asyncio.to_thread(agent.accept)
            connection.recv(100)
            connection.close()
            with pytest.raises(AgentError, match="the agent has gone"):
                await asked

        asyncio.run(run())


def test_an_agent_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / FILE))
        agent.listen()
        with pytest.raises(AgentError, match="does not answer"):
            ask(tmp_path, "stop", patience=0.05)
