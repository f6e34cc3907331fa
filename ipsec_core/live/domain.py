"""The domain of a live computer: asked in a thread, so that a directory that is slow never stops the packet loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from ipsec_core.computer.service import PolicyService
from ipsec_core.policy.agent import Directory, Reading

# A directory has limits of its own; who keeps none of them is not waited for longer.
PATIENCE = 120.0


class DomainWatch:
    """Asks `directory` whenever `service` wants to know; `clock` gives the computer's time.

    One question at a time. What the directory raises, whatever it is, and an answer that has not come after `patience`
    seconds, are failures; an answer that comes later still counts. `settled` is called after each of them, `report`
    gets a line when the domain cannot be asked, and when it can again.
    """

    def __init__(
        self,
        directory: Directory,
        service: PolicyService,
        clock: Callable[[], float],
        settled: Callable[[], None],
        report: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        self._directory = directory
        self._service = service
        self._clock = clock
        self._settled = settled
        self._report = report
        self._patience = patience
        self._wanted: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._waiting = False  # for the thread
        self.failure = ""

    def schedule(self) -> None:
        """To be called after everything that the computer does."""
        wanted = self._service.next_poll
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wanted is not None:
            self._timer = asyncio.get_running_loop().call_later(max(wanted - self._clock(), 0.0), self._ask)

    def close(self) -> None:
        for timer in (self._timer, self._late):
            if timer is not None:
                timer.cancel()

    def _ask(self) -> None:
        self._timer = self._wanted = None
        since = self._service.poll(self._clock())
        if self._waiting:
            if self._late is None:
                self._failed("an earlier question has no answer yet")
            return
        self._waiting = True
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(self._patience, self._overdue)
        # No thread of a pool: the end of the program would wait for it.
        threading.Thread(target=self._read, args=(loop, since), name="directory", daemon=True).start()

    def _read(self, loop: asyncio.AbstractEventLoop, since: Reading | None) -> None:
        try:
            answer: Reading | str = self._directory.read(since)
        except Exception as error:  # also a library's: no fault of a directory may end the polling
            answer = " ".join(str(error).split()) or type(error).__name__
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._take, answer)

    def _take(self, answer: Reading | str) -> None:
        self._waiting = False
        overdue = self._late is None
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if isinstance(answer, str):
            if not overdue:
                self._failed(answer)
            return
        if self.failure:
            self._report("the domain answers again")
            self.failure = ""
        self._service.directory_answered(self._clock(), answer)
        self._settled()

    def _overdue(self) -> None:
        self._late = None
        self._failed(f"no answer within {self._patience:g} s")

    def _failed(self, reason: str) -> None:
        if not self.failure:
            self._report(f"the domain cannot be asked, what is in effect stays: {reason}")
        self.failure = reason
        self._service.directory_failed(self._clock(), reason)
        self._settled()
