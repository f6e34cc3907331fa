"""The state directory of a running agent: one agent at a time, and always a whole state in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ipsec_core.computer.state import STATE_FILE
from ipsec_core.errors import StateError

LOCK_FILE = "agent.lock"


class StateDirectory:
    """Holds the directory's lock as long as it is open; the kernel lets go of it when the process dies."""

    def __init__(self, path: Path) -> None:
        """Makes the directory if need be. StateError: another agent has it, or it is none."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; accepted: a directory for the agent's state") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise StateError(f"{path}: another agent (process {owner}) keeps its state there") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)

    def write(self, image: bytes) -> None:
        """Replaces the state at once: who reads sees the old one or the new one, also after a crash."""
        partial = self.path / f".{STATE_FILE}.partial"
        with open(partial, "wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path / STATE_FILE)

    def close(self) -> None:
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
