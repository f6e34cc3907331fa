"""The state directory of a running agent: one agent at a time, and what an earlier one has left goes on."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ipsec_core.computer.state import STATE_FILE, State
from ipsec_core.errors import StateError


class _TracedState(State):
    """Shows the lines of Oakley.log as they come."""

    show: Callable[[str], None]

    def add_line(self, file: str, text: str) -> None:
        super().add_line(file, text)
        self.show(text)


@contextmanager
def open_state(path: Path, name: str, show: Callable[[str], None] | None) -> Iterator[State]:
    """The state of the computer in a directory, which is made if need be; what is committed survives a crash.

    The computer is called `name`, or if that is empty as before, or as the host. `show` gets the lines of its text
    files. StateError: the directory is something else, damaged, or another agent's; a dead agent's lock is none.
    """
    if not (path / STATE_FILE).exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; accepted: a directory that can be made") from None
        State.create(path, name or socket.gethostname()).close()
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{path}: another agent keeps its state there; accepted: a directory of its own") from None
        with (_TracedState if show else State).open(path, readonly=False) as state:
            if isinstance(state, _TracedState) and show:
                state.show = show
            if name:
                state.set_meta("name", name)
            state.set_meta("clock", "unix")
            yield state
    finally:
        os.close(lock)
