"""Orders for a running agent: a Unix socket in its state directory, one JSON object a line each way.

    {"do": "stop"}                  {"text": "..."} or {"error": "..."}, and for "status" what the agent says of itself
    {"do": "push", "rules": {}}     the table is that of `policy.dynamic_rules`

The socket is for its owner alone (mode 0600). One that a dead agent has left is replaced: who has the state directory
(`live.directory`) is the only one.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ipsec_core.errors import AgentError

FILE = "control"
_LINE = 1 << 20  # more than the rules of ten thousand filters
_PATIENCE = 10.0

Answer = Mapping[str, object]


class Control:
    """The agent's end. `obey` carries out an order, a JSON object, and gives the answer."""

    def __init__(self, directory: Path, obey: Callable[[dict[str, Any]], Awaitable[Answer]]) -> None:
        self._directory = directory
        self._obey = obey
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[object]] = set()

    async def open(self) -> None:
        """AgentError when the directory takes no socket."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before there is a name that somebody could open.
            os.fchmod(listener.fileno(), 0o600)
            with _short(self._directory) as name:
                with suppress(FileNotFoundError):
                    os.unlink(name)
                listener.bind(name)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LINE)
        except OSError as error:
            listener.close()
            raise AgentError(f"{self._directory / FILE}: {error.strerror}; accepted: a directory for sockets") from None

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for client in self._clients:
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            with suppress(FileNotFoundError):
                (self._directory / FILE).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        self._clients.add(client)
        try:
            while line := await asyncio.wait_for(reader.readline(), _PATIENCE):
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), _PATIENCE)
        except (OSError, ValueError):
            pass  # who asks too slowly, or too much, or goes away
        finally:
            self._clients.discard(client)
            writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            order = json.loads(line)
        except (ValueError, RecursionError):
            order = None
        if not isinstance(order, dict):
            return {"error": 'not an order; accepted: one JSON object a line, such as {"do": "status"}'}
        return await self._obey(order)


def ask(directory: Path, do: str, patience: float = 60.0, **more: object) -> dict[str, Any]:
    """Has the agent of a state directory do something; its answer. AgentError when it refuses, or there is none."""
    order = json.dumps({"do": do, **more}).encode() + b"\n"
    if len(order) > _LINE:
        raise AgentError(f"{directory}: an order of {len(order)} bytes; accepted: up to {_LINE}")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(patience)
            with _short(directory) as name:
                agent.connect(name)
            agent.sendall(order)
            with agent.makefile("rb") as stream:
                line = stream.readline()
            answer = json.loads(line)
    except TimeoutError:
        raise AgentError(f"{directory}: the agent does not answer") from None
    except PermissionError as error:
        raise AgentError(f"{directory}: {error.strerror}; accepted: the user whom the agent runs as") from None
    except OSError:
        raise AgentError(
            f"{directory}: no agent runs there; accepted: the state directory of a running agent"
        ) from None
    except ValueError:
        raise AgentError(f"{directory}: the agent has gone") from None
    if "error" in answer:
        raise AgentError(str(answer["error"]))
    return dict(answer)


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A name of the socket that is short enough for a socket's address, wherever the directory is."""
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{FILE}"
    finally:
        os.close(folder)
