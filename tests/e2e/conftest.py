"""The labs, run once each. Makes link_oracles.py importable (the tests run in importlib mode)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from link_oracles import LABS, OFFICE, Lab

from ipsec_core.sim.run import simulate


def edited(scenario: str, old: str, new: str, folder: Path) -> Path:
    """A copy of a scenario with one text in it, at its first place, exchanged."""
    text = (LABS / scenario).read_text()
    assert old in text
    path = folder / scenario
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labs")


@pytest.fixture(scope="session")
def transport(folder: Path) -> Lab:
    simulate(LABS / "first-link.toml", folder / "transport")
    return Lab(folder / "transport")


@pytest.fixture(scope="session")
def gcm(folder: Path) -> Lab:
    simulate(edited("first-link-gcm.toml", "repeat = 20", "repeat = 1", folder), folder / "gcm", traffic=OFFICE)
    return Lab(folder / "gcm", cipher="AES-GCM")


@pytest.fixture(scope="session")
def tunnel(folder: Path) -> Lab:
    simulate(LABS / "first-link-tunnel.toml", folder / "tunnel")
    return Lab(folder / "tunnel", tunnel=True)


@pytest.fixture(scope="session")
def twice(folder: Path) -> Lab:
    """The AES-GCM lab with the capture two times instead of twenty."""
    simulate(edited("first-link-gcm.toml", "repeat = 20", "repeat = 2", folder), folder / "twice", traffic=OFFICE)
    return Lab(folder / "twice", cipher="AES-GCM")


@pytest.fixture(scope="session")
def unaudited(folder: Path) -> Lab:
    """The transport lab without the audit policy of ALICE; BOB keeps his."""
    audit = 'audit = { logon_events = ["success", "failure"] }\n'
    simulate(edited("first-link.toml", audit, "", folder), folder / "unaudited", traffic=OFFICE)
    return Lab(folder / "unaudited")


@pytest.fixture(scope="session", params=["transport", "gcm", "tunnel"])
def lab(request: pytest.FixtureRequest) -> Lab:
    """Each of the labs."""
    return request.getfixturevalue(request.param)
