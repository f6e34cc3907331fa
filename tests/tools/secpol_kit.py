"""What the tests of secpol share: a state directory, commands on it, and what is in its store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from ipsec_core.computer.state import State
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.objects import StoredObject
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_catalogue
from ipsec_core.tools.main import main

KEY = "a preshared key that nobody ever may see"

Secpol = Callable[..., Result]


def run(*words: object, stdin: str | bytes | None = None, columns: int = 100) -> Result:
    """A command line in this process. Whatever it says, the key is not in it."""
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(main, ["secpol", *map(str, words)], input=stdin)
    assert KEY not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def catalogue_of(directory: Path) -> Catalogue:
    """What is in the local store of a state directory."""
    with State.open(directory) as state:
        return read_catalogue(RegistryStore(state.registry))


def objects_of(directory: Path) -> tuple[StoredObject, ...]:
    with State.open(directory) as state:
        return RegistryStore(state.registry).objects()
