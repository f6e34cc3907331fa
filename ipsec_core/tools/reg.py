"""`ipsec-core reg`: the registry of a computer, in the words of reg.exe (KB 257225, "Reviewing the ... settings")."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ipsec_core.computer import reg_file
from ipsec_core.computer.registry import (
    KNOWN_VALUES,
    POLICY_REFERENCE_KEYS,
    SYSTEM_TYPES,
    KnownValue,
    Registry,
    RegistryType,
    Value,
    full_path,
    known_at,
    value_text,
)
from ipsec_core.computer.state import STATE_FILE, State
from ipsec_core.errors import RegistryError
from ipsec_core.tools.common import PATIENCE, json_option, print_json

SEPARATOR = r"\0"
"""Between the texts of a REG_MULTI_SZ on the command line, as reg.exe has it: a backslash and a zero."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_STATE = click.option(
    "--state", "directory", required=True, metavar="DIR", type=click.Path(path_type=Path), help="State directory."
)
_CREATE = click.option("--create", metavar="NAME", help="Where DIR is missing, make it, for a computer called NAME.")
_FORCE = click.option("/f", "-f", "force", is_flag=True, help="For scripts of Windows: nothing is ever asked.")
_SWITCHES = {"token_normalize_func": str.lower}
_HIDDEN = "ipsecData"


def _name_options(function: _Function) -> _Function:
    named = click.option("/v", "-v", "--value", "name", metavar="NAME", help="This value.")
    default = click.option("/ve", "--default-value", "default", is_flag=True, help="The key's default value.")
    return named(default(function))


def _name(name: str | None, default: bool) -> str | None:
    if default and name is not None:
        raise click.UsageError("/v and /ve do not go together")
    return "" if default else name


class _Commands(click.Group):
    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name.lower() not in self.commands:
            raise click.UsageError(f"{name!r} is not a command; accepted: {', '.join(self.commands)}", context)
        return super().get_command(context, name.lower())


@click.group("reg", cls=_Commands, invoke_without_command=True, context_settings=_SWITCHES)
@click.pass_context
def command(context: click.Context) -> None:
    """The registry of a computer, and files of the Registry Editor.

    KEY begins with HKLM, HKCU or HKU, or their long names. Switches are those of reg.exe, also with - as below. Without
    KEY, query lists what the IPsec subsystem knows; query --json is for programs.
    """
    if context.invoked_subcommand is None:
        raise click.UsageError(f"a command is missing; accepted: {', '.join(command.commands)}")


@command.command("query", context_settings=_SWITCHES)
@click.argument("key", required=False)
@_STATE
@_name_options
@click.option("/s", "-s", "--subkeys", "below", is_flag=True, help="All keys below it, too.")
@json_option
def query(key: str | None, directory: Path, name: str | None, default: bool, below: bool, as_json: bool) -> None:
    """Show the values of KEY, or those of IPsec.

    Without KEY all values that the IPsec subsystem knows, with their defaults and ranges.
    """
    name = _name(name, default)
    if key is None and (name is not None or below):
        raise click.UsageError("KEY is missing; accepted: HKLM\\...")
    with State.open(directory, patience=PATIENCE) as state:
        if key is None:
            document = _known_document(state)
            lines = _known_lines(state.registry)
        else:
            found = _found(state.registry, key, name, below)
            document = {"computer": state.name, "keys": [_key_table(*item, name) for item in found]}
            lines = (line for path, values, subkeys in found for line in _key_lines(path, values, subkeys, name))
        if as_json:
            print_json(document)
        else:
            click.echo("\n".join(lines).lstrip("\n"))


@command.command("add", context_settings=_SWITCHES)
@click.argument("key")
@_STATE
@_name_options
@click.option(
    "/t",
    "-t",
    "--type",
    "kind",
    metavar="TYPE",
    type=click.Choice([kind.name for kind in RegistryType if kind not in SYSTEM_TYPES], case_sensitive=False),
    help="REG_DWORD, ... [default: that of the subsystem's value of this name, else REG_SZ]",
)
@click.option(
    "/d",
    "-d",
    "--data",
    "data",
    multiple=True,
    metavar="DATA",
    help="Text, a number (dec or 0x hex), hex digits; for REG_MULTI_SZ several, or separated.",
)
@click.option("/s", "-s", "--separator", default=SEPARATOR, show_default=True, help="Separates texts of REG_MULTI_SZ.")
@_FORCE
@_CREATE
def add(
    key: str,
    directory: Path,
    name: str | None,
    default: bool,
    kind: str | None,
    data: tuple[str, ...],
    separator: str,
    force: bool,
    create: str | None,
) -> None:
    """Make KEY, or write a value of it.

    A value that is there already is replaced.
    """
    name = _name(name, default)
    path = full_path(key)
    if name is None:
        if data or kind:
            raise click.UsageError("a name is missing; accepted: /v NAME or /ve")
        with _writing(directory, create) as registry:
            click.echo(f"{registry.create_key(path)}: there")
        return
    item = known_at(path, name)
    wanted = RegistryType[kind] if kind else item.type if item else RegistryType.REG_SZ
    value = _parsed(wanted, data, separator, item)
    with _writing(directory, create) as registry:
        registry.set(path, name, value, wanted)
    click.echo(f"{path}: {_shown_name(name)} is written{_restart(item)}")


@command.command("delete", context_settings=_SWITCHES)
@click.argument("key")
@_STATE
@_name_options
@click.option("/va", "--all-values", "every", is_flag=True, help="All values of the key, but not the key.")
@_FORCE
def delete(key: str, directory: Path, name: str | None, default: bool, every: bool, force: bool) -> None:
    """Remove KEY with all below it, or values of it."""
    name = _name(name, default)
    if every and name is not None:
        raise click.UsageError("/va and /v or /ve do not go together")
    path = full_path(key)
    with _writing(directory, None) as registry, registry.transaction():
        names = tuple(registry.values(path)) if every else (name,)
        for one in names:
            registry.delete(path, one)
    if every:
        click.echo(f"{path}: {_count(len(names), 'value')} deleted")
    elif name is None:
        click.echo(f"{path}: deleted")
    else:
        click.echo(f"{path}: {_shown_name(name)} is deleted{_restart(known_at(path, name))}")


@command.command("export", context_settings=_SWITCHES)
@click.argument("key")
@click.argument("file", type=click.Path(path_type=Path))
@_STATE
@click.option("--utf-8", "utf8", is_flag=True, help="UTF-8 instead of UTF-16.")
@click.option("-y", "--overwrite", is_flag=True, help="Replace FILE where there is one.")
def export(key: str, file: Path, directory: Path, utf8: bool, overwrite: bool) -> None:
    """Write KEY and all below it to FILE.

    Only its owner can read it: policies may hold preshared keys.
    """
    if file.exists() and not overwrite:
        raise click.UsageError(f"{file}: exists already; accepted: another file, or -y")
    if not file.parent.is_dir():
        raise click.UsageError(f"{file.parent}: there is no such directory; accepted: one that is there")
    with State.open(directory, patience=PATIENCE) as state:
        text = reg_file.export(state.registry, key)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as out:
        partial = Path(out.name)
        try:
            out.write(reg_file.encode(text, utf8))
            out.flush()
            partial.replace(file)
        except BaseException:
            partial.unlink()
            raise
    keys = text.count("\r\n[")
    click.echo(f"{file}: {_count(keys, 'key')}")


@command.command("import", context_settings=_SWITCHES)
@click.argument("file", type=click.Path(path_type=Path))
@_STATE
@_CREATE
def import_(file: Path, directory: Path, create: str | None) -> None:
    """Do what FILE says.

    All of it, or nothing when a line of it is wrong. FILE is one of the Registry Editor: version 5 or REGEDIT4.
    """
    operations = reg_file.parse(file.read_bytes(), str(file))
    with _writing(directory, create) as registry:
        reg_file.apply(registry, operations)
    values = sum(isinstance(operation, reg_file.SetValue) for operation in operations)
    removed = sum(isinstance(operation, reg_file.DeleteKey | reg_file.DeleteValue) for operation in operations)
    click.echo(f"{file}: {_count(values, 'value')} written" + (f", {removed} removed" if removed else ""))


@contextmanager
def _writing(directory: Path, create: str | None) -> Iterator[Registry]:
    if create is not None and not (directory / STATE_FILE).exists():
        with State.memory(create) as state:
            yield state.registry
            state.save_as(directory)
    else:
        with State.open(directory, readonly=False, patience=PATIENCE) as state:
            yield state.registry


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _restart(item: KnownValue | None) -> str:
    if item is None:
        return ""
    what = "the computer starts anew" if item.restart == "computer" else "the service policyagent starts anew"
    return f"; it counts when {what}"


# -- data on the command line --


def _parsed(kind: RegistryType, data: tuple[str, ...], separator: str, item: KnownValue | None) -> object:
    """The data of a value; click.UsageError when the words do not fit its type. Says nothing of what they are."""
    if kind is RegistryType.REG_MULTI_SZ:
        if not separator:
            raise click.UsageError("/s: nothing cannot separate; accepted: a text")
        texts = tuple(text for part in data if part for text in part.split(separator))
        if "" in texts:
            raise click.UsageError("/d: an empty text; accepted: texts with one separator between")
        return texts
    if len(data) > 1:
        raise click.UsageError(f"/d is given {len(data)} times; accepted: once for {kind.name}")
    text = data[0] if data else ""
    if kind in (RegistryType.REG_SZ, RegistryType.REG_EXPAND_SZ):
        return text
    if kind in (RegistryType.REG_DWORD, RegistryType.REG_QWORD):
        if not re.fullmatch(r"0x[0-9a-f]{1,16}|[0-9]{1,20}", text, re.IGNORECASE | re.ASCII):
            accepted = item.accepted if item and item.type is kind else "a number, decimal or 0x and hexadecimal"
            raise click.UsageError(f"/d: not a {kind.name}; accepted: {accepted}")
        return int(text, 16 if text[:2].lower() == "0x" else 10)
    try:
        return bytes.fromhex(text.replace(",", " "))
    except ValueError:
        raise click.UsageError(f"/d: not a {kind.name}; accepted: bytes of two hexadecimal digits") from None


# -- what query prints --

_Found = tuple[str, dict[str, Value], tuple[str, ...]]


def _found(registry: Registry, key: str, name: str | None, below: bool) -> list[_Found]:
    """The key with its values, or the one that is asked for, and its subkeys; with `below` all below it."""
    if not below:
        path, values = next(registry.walk(key))
        if name is not None:
            registry.get(path, name)
        items = [(path, values, registry.keys(path) if name is None else ())]
    else:
        items = [(path, values, ()) for path, values in registry.walk(key)]
    if name is None:
        return items
    asked = [
        (path, {one: value for one, value in values.items() if one.lower() == name.lower()}, subkeys)
        for path, values, subkeys in items
    ]
    found = [item for item in asked if item[1]]
    if not found:
        raise RegistryError(f"{full_path(key)}: there is no {value_text(name)}, nor below")
    return found


def _key_lines(path: str, values: dict[str, Value], subkeys: tuple[str, ...], asked: str | None) -> Iterator[str]:
    yield ""
    yield _plain(path)
    for name, value in values.items():
        yield f"    {_plain(_shown_name(name))}    {value.type.name}    {_data_text(name, value, asked)}"
    if subkeys:
        yield ""
        for subkey in subkeys:
            yield _plain(f"{path}\\{subkey}")


def _key_table(path: str, values: dict[str, Value], subkeys: tuple[str, ...], asked: str | None) -> dict[str, object]:
    rows = [
        {"name": name, "type": value.type.name, "data": _data_json(name, value, asked)}
        for name, value in values.items()
    ]
    return {"key": path, "values": rows, "subkeys": list(subkeys)}


def _hidden(name: str, asked: str | None) -> bool:
    """Data of policy objects may hold a preshared key: shown only to who asks for it by name."""
    return asked is None and name.lower() == _HIDDEN.lower()


def _data_text(name: str, value: Value, asked: str | None) -> str:
    match value.data:
        case bytes() as data if _hidden(name, asked):
            return f"({_count(len(data), 'byte')}, shown by /v {_HIDDEN})"
        case bytes() as data:
            return data.hex().upper()
        case int() as data:
            return f"{data:#x}"
        case str() as data:
            return _plain(data)
        case texts:
            return _plain(SEPARATOR.join(texts))


def _data_json(name: str, value: Value, asked: str | None) -> object:
    if isinstance(value.data, bytes):
        return None if _hidden(name, asked) else value.data.hex()
    return value.data


def _shown_name(name: str) -> str:
    return name or "(Default)"


def _plain(text: str) -> str:
    """Nothing that a terminal obeys, and one line."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: f"\\x{ord(found[0]):02x}", text)


def _known_document(state: State) -> dict[str, object]:
    rows = [
        {
            "key": item.key,
            "name": item.name,
            "type": item.type.name,
            "value": state.registry.known(item.name),
            "set": state.registry.exists(item.key, item.name),
            "default": item.default,
            "minimum": item.minimum if item.type is RegistryType.REG_DWORD else None,
            "maximum": item.maximum if item.type is RegistryType.REG_DWORD else None,
            "unit": item.unit,
            "restart": item.restart,
            "source": item.source,
        }
        for item in KNOWN_VALUES
    ]
    references = [_key_table(path, values, (), None) for path, values in _references(state.registry)]
    return {"computer": state.name, "values": rows, "policy_references": references}


def _known_lines(registry: Registry) -> Iterator[str]:
    key = ""
    for item in KNOWN_VALUES:
        if item.key != key:
            key = item.key
            yield ""
            yield key
            yield f"    {'Name':<16}  {'Value':<12}  {'Default':<12}  {'Counts from':<14}  Accepted"
        value = _plain(str(registry.known(item.name)))
        yield f"    {item.name:<16}  {value:<12}  {item.default:<12}  {f'{item.restart} start':<14}  {item.accepted}"
    for path, values in _references(registry):
        yield from _key_lines(path, values, (), None)


def _references(registry: Registry) -> Iterator[tuple[str, dict[str, Value]]]:
    """The keys with references to a domain's policy that are there, of all Group Policy objects."""
    for key in POLICY_REFERENCE_KEYS:
        above, objects, rest = key.partition(r"\{GUID}Machine")
        paths = [key]
        if objects:
            paths = [f"{above}\\{name}{rest}" for name in (registry.keys(above) if registry.exists(above) else ())]
        for path in paths:
            if registry.exists(path):
                yield next(registry.walk(path))
