"""Namespaces and foreign peers for the tests of this folder. Makes its modules importable (importlib mode)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from agent import Agent  # noqa: E402
from charon import CHARON, Charon  # noqa: E402
from esp_peer import EspPeer  # noqa: E402
from interop_kit import LONGEST_GAP, need  # noqa: E402
from namespaces import OUR_ADDRESS, Namespaces, Program  # noqa: E402
from our_computer import OurComputer  # noqa: E402

from ipsec_core.policy.model import Policy  # noqa: E402

SCANNED = """
name = "Scanned"
key_exchange = { methods = ["3DES-SHA1-2"] }
[[rules]]
name = "Neighbours"
filters = [{ source = "me", destination = "10.99.0.0/24" }]
action = { negotiate = ["ESP[3DES,SHA1]"] }
authentication = [{ preshared_key = "nobody finds it out" }]
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Namespaces]:
    """A link, recorded from the start."""
    need(os.geteuid() == 0, "root, for network namespaces,")
    for program in ("ip", "tcpdump", "tshark"):
        need(shutil.which(program) is not None, program)
    made = Namespaces(tmp_path)
    try:
        made.record()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """xfrm_shim.c as a shared object."""
    library = tmp_path_factory.mktemp("shim") / "xfrm_shim.so"
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, HERE / "xfrm_shim.c", "-o", library, "-ldl"], check=True)
    return library


@pytest.fixture
def charon(lab: Namespaces, shim: Path) -> Charon:
    """In the peer's namespace, not started; its SAs go to the shim's log."""
    return _charon(lab, shim)


@pytest.fixture
def carrying_charon(lab: Namespaces) -> Charon:
    """As `charon`, but with kernel-libipsec."""
    return _charon(lab, None)


def _charon(lab: Namespaces, shim: Path | None) -> Charon:
    need(CHARON.exists() and shutil.which("swanctl") is not None, "strongSwan")
    folder = lab.folder / "charon"
    folder.mkdir()
    return Charon(lab, lab.peers, folder, shim)


@pytest.fixture
def esp_peer(lab: Namespaces, charon: Charon) -> Iterator[EspPeer]:
    made = EspPeer(lab.peers, charon.folder / "sas.jsonl")
    yield made
    made.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for `backoff` comes last."""
    items.sort(key=_takes_minutes)


def _takes_minutes(item: pytest.Item) -> bool:
    return "backoff" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def backoff(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program | None]:
    """ike-scan, which watches for two minutes how an agent sends its message 2 again.

    None if no test wants it or it cannot run.
    """
    wanted = any(map(_takes_minutes, request.session.items))
    if not wanted or os.geteuid() != 0 or shutil.which("ike-scan") is None:
        yield None
        return
    made = Namespaces(tmp_path_factory.mktemp("backoff"))
    try:
        Agent(made, made.ours, "OURS").start(SCANNED)
        words = ("ike-scan", "--sport=0", "--retry=1", f"--showbackoff={LONGEST_GAP}", "--trans=5,2,1,2", OUR_ADDRESS)
        yield made.start(made.peers, words, "ike-scan")
    finally:
        made.close()


@pytest.fixture
def our_computer(lab: Namespaces) -> Iterator[Callable[..., OurComputer]]:
    """Makes a computer in our namespace: (policy, profile=, ...)."""
    made: list[OurComputer] = []

    def make(policy: Policy, **options: Any) -> OurComputer:
        made.append(OurComputer(options.pop("space", lab.ours), policy, **options))
        return made[-1]

    yield make
    for computer in made:
        computer.close()
