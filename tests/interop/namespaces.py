"""Two network namespaces joined by a veth pair, and the programs that run in them. Needs root."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

OUR_ADDRESS, PEER_ADDRESS = "10.99.0.1", "10.99.0.2"
# Hosts behind the two gateways of a tunnel.
OUR_HOST, PEER_HOST = "10.1.0.1", "10.2.0.1"

CLONE_NEWNET = 0x4000_0000
STOP_SECONDS = 5.0
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = count(1)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Real time: other programs have to get somewhere. TimeoutError tells what did not happen."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


class Namespace:
    """One of them: `name` for `ip netns`, `interface` its end of the veth pair."""

    def __init__(self, name: str, interface: str) -> None:
        self.name = name
        self.interface = interface

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread makes inside belong to the namespace for good."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(there)
            os.close(home)

    def command(self, *words: str | Path) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, words)]


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Program:
    """A program in a namespace; what it prints goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.output) is not None

    def stop(self) -> None:
        if self.ended:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Namespaces:
    """`ours` with our computer and `peers` with the foreign one, 10.99.0.0/24 between them.

    `close` ends every program that was started here and takes both away, in whatever state they are.
    """

    def __init__(self, folder: Path) -> None:
        stem = f"ike{os.getpid()}n{next(_numbers)}"
        self.folder = folder
        self.ours = Namespace(f"{stem}a", "veth-ours")
        self.peers = Namespace(f"{stem}b", "veth-peer")
        self._programs: list[Program] = []
        self._capture: Program | None = None
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        for space in (self.ours, self.peers):
            _ip("netns", "add", space.name)
        pair = ("type", "veth", "peer", "name", self.peers.interface, "netns", self.peers.name)
        _ip("link", "add", self.ours.interface, "netns", self.ours.name, *pair)
        for space, address in ((self.ours, OUR_ADDRESS), (self.peers, PEER_ADDRESS)):
            _ip("-n", space.name, "addr", "add", f"{address}/24", "dev", space.interface)
            _ip("-n", space.name, "link", "set", "lo", "up")
            _ip("-n", space.name, "link", "set", space.interface, "up")
            # What a tunnel brings comes from an address that no route over the veth pair leads to.
            lines = (f"echo 0 >/proc/sys/net/ipv4/conf/{scope}/rp_filter" for scope in ("all", space.interface))
            subprocess.run(space.command("sh", "-ec", "\n".join(lines)), check=True)

    def give(self, space: Namespace, address: str) -> None:
        """A host behind the gateway, on the gateway itself."""
        _ip("-n", space.name, "addr", "add", f"{address}/32", "dev", "lo")

    def start(self, space: Namespace, command: Sequence[str | Path], name: str, **env: str) -> Program:
        program = Program(space.command(*command), self.folder / f"{name}.log", {**os.environ, **env} if env else None)
        self._programs.append(program)
        return program

    def run(self, space: Namespace, *command: str | Path, seconds: float = 20.0) -> str:
        """What a command prints, whatever its exit status."""
        done = subprocess.run(
            space.command(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds
        )
        return done.stdout

    @property
    def capture(self) -> Path:
        return self.folder / "link.pcap"

    def record(self) -> None:
        """Begin to capture everything on the link but what IPv6 and ARP say."""
        words = ("tcpdump", "--immediate-mode", "-U", "-n", "-i", self.ours.interface, "-w", self.capture, "ip")
        self._capture = self.start(self.ours, words, "tcpdump")
        wait_until(lambda: self._capture is not None and self._capture.said("listening on"), "tcpdump")

    def recorded(self) -> Path:
        """The capture, complete up to now."""
        assert self._capture is not None
        self._capture.stop()
        return self.capture

    def close(self) -> None:
        for program in reversed(self._programs):
            program.stop()
        for space in (self.ours, self.peers):
            subprocess.run(["ip", "netns", "del", space.name], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
