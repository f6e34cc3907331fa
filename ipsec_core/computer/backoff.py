"""After a failed negotiation: how soon the next packet may cause another one.

Without a pause every packet that comes to wait would begin anew: with a peer whose policy does not fit, hundreds of
negotiations and audits in a second. Windows 2000's own pause is not documented; this one is ours.
"""

from __future__ import annotations

from ipsec_core.ike import TrafficSelector

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 32.0
_MOST = 4096

Flow = tuple[str, TrafficSelector]


class Backoff:
    """By peer and traffic: 1 s after the first failure, then twice as long each time, up to 32 s."""

    def __init__(self) -> None:
        self._pauses: dict[Flow, tuple[float, float]] = {}  # end of the pause, its length

    def waits(self, now: float, flow: Flow) -> bool:
        return now < self._pauses.get(flow, (now, 0.0))[0]

    def failed(self, now: float, flow: Flow) -> None:
        length = min(2 * self._pauses.pop(flow, (0.0, FIRST_SECONDS / 2))[1], LONGEST_SECONDS)
        if len(self._pauses) >= _MOST:
            del self._pauses[next(iter(self._pauses))]
        self._pauses[flow] = (now + length, length)

    def succeeded(self, remote: str) -> None:
        """The peer has agreed on something: whatever failed before may work now."""
        for flow in [flow for flow in self._pauses if flow[0] == remote]:
            del self._pauses[flow]

    def clear(self) -> None:
        """Another policy, another chance."""
        self._pauses.clear()
