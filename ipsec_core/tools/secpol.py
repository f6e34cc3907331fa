"""`ipsec-core secpol`: the IPsec policies of a computer, a domain or a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType

from ipsec_core.computer.state import STATE_FILE
from ipsec_core.errors import PolicyError
from ipsec_core.policy import ipsecpol, netsh
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_objects, builtin_policy
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.integrity import Problem, check, repair
from ipsec_core.policy.netsh_writer import write
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, PolicyStore, by_name, guid_text
from ipsec_core.policy.storage import find_policy, read_catalogue, save
from ipsec_core.tools import secpol_show
from ipsec_core.tools.common import console, counted, json_option, print_json
from ipsec_core.tools.secpol_edit import create, delete, edit
from ipsec_core.tools.secpol_files import (
    OBJECT_SUFFIXES,
    SCRIPT_SUFFIXES,
    FilePlace,
    put_objects,
    put_tables,
    read_script,
    read_store,
    read_tables,
    suffix_of,
    write_store,
)
from ipsec_core.tools.secpol_store import MemoryStore, Nowhere, Place, StatePlace, editing, now, reading, tell
from ipsec_core.tools.secpol_words import Commands, resolve

PROTECTIONS = ("auto", "starttls", "none")
"""The values of live.ldap_connection.Protection."""

_FILE = click.Path(path_type=Path)
_KINDS = ("policy", "filterlist", "filteraction")
_LISTS: dict[str, tuple[str, Callable[[Catalogue], RenderableType]]] = {
    "policies": ("policies", secpol_show.list_policies),
    "filterlists": ("filter_lists", secpol_show.list_filter_lists),
    "filteractions": ("filter_actions", secpol_show.list_filter_actions),
}


@click.group("secpol", cls=Commands, invoke_without_command=True)
@click.option(
    "--state",
    metavar="DIR",
    type=_FILE,
    help="State directory; commands that write make it. [default: the current folder if it is one]",
)
@click.option("--ldap", metavar="URL", help="Directory of a domain: ldap://HOST[:PORT][/DN] or ldaps://...")
@click.option("--file", metavar="FILE", type=_FILE, help="A .reg or .json file; to look at also .ldif and .toml.")
@click.option("--user", metavar="NAME", help="With --ldap: who binds (DN, user@domain, DOMAIN\\user, principal).")
@click.option("--password-file", metavar="FILE", type=_FILE, help="The user's password; without, it is asked for.")
@click.option("--kerberos", is_flag=True, help="Bind with Kerberos: the tickets that there are, or --keytab.")
@click.option("--keytab", metavar="FILE", type=_FILE, help="The key of the user.")
@click.option("--ca-file", metavar="FILE", type=_FILE, help="Root certificates for TLS (PEM). [default: the system's]")
@click.option(
    "--protection",
    type=click.Choice(PROTECTIONS),
    default=PROTECTIONS[0],
    show_default=True,
    help="Of an ldap:// connection.",
)
@click.option("--gpo", metavar="GUID", help="GPO to assign to, in braces. [default: the Default Domain Policy]")
@click.pass_context
def command(
    context: click.Context,
    /,
    state: Path | None,
    ldap: str | None,
    file: Path | None,
    gpo: str | None,
    **account: Any,
) -> None:
    """IPsec policies: those of a computer (--state), of a domain (--ldap) or of a file (--file).

    list, show and check print one document for programs with --json. Names are found in any case; a GUID in braces
    does as well. Every command that writes does all that it is told or nothing.
    """
    if context.invoked_subcommand is None:
        raise click.UsageError(f"a command is missing; accepted: {', '.join(command.commands)}")
    if sum(place is not None for place in (state, ldap, file)) > 1:
        raise click.UsageError("--state, --ldap and --file exclude each other")
    if ldap is None:
        extra = [name for name, value in account.items() if value and name != "protection"] + (["gpo"] if gpo else [])
        if extra:
            raise click.UsageError(f"--{extra[0].replace('_', '-')} goes with --ldap")
    if state is not None:
        context.obj = StatePlace(state)
    elif file is not None:
        context.obj = FilePlace(file)
    elif ldap is None:
        context.obj = StatePlace(Path()) if Path(STATE_FILE).exists() else Nowhere()
    else:
        from ipsec_core.tools.secpol_domain import domain_place

        context.obj = domain_place(ldap, gpo, **account)


for group in (create, edit, delete):
    command.add_command(group)


# ---- looking --------------------------------------------------------------------------------------------------------


@command.command("list")
@click.argument(
    "what", nargs=-1, type=click.Choice([*_LISTS, "all"]), metavar="[policies|filterlists|filteractions|all]"
)
@click.option("--lists", is_flag=True, help="The filter lists, too.")
@click.option("--actions", is_flag=True, help="The filter actions, too.")
@json_option
@click.pass_obj
def list_(place: Place, what: tuple[str, ...], lists: bool, actions: bool, as_json: bool) -> None:
    """List policies, filter lists, filter actions. [default: policies]"""
    wanted = {*_LISTS} if "all" in what else {*(what or ("policies",))}
    wanted |= {name for name, asked in (("filterlists", lists), ("filteractions", actions)) if asked}
    with reading(place) as catalogue:
        if as_json:
            documents = _list_documents(catalogue)
            print_json({key: documents[key] for name, (key, _) in _LISTS.items() if name in wanted})
            return
        screen = console()
        for number, name in enumerate(name for name in _LISTS if name in wanted):
            if number:
                screen.print()
            screen.print(_LISTS[name][1](catalogue))


def _list_documents(catalogue: Catalogue) -> dict[str, list[dict[str, object]]]:
    policies = sorted(catalogue.policies, key=secpol_show.by_name)
    lists = sorted(catalogue.filter_lists, key=secpol_show.by_name)
    actions = sorted(catalogue.filter_actions, key=secpol_show.by_name)
    return {
        "policies": [secpol_show.policy_document(one, one is catalogue.assigned) for one in policies],
        "filter_lists": [secpol_show.filter_list_document(catalogue, one) for one in lists],
        "filter_actions": [secpol_show.filter_action_document(catalogue, one) for one in actions],
    }


@command.command("show")
@click.argument("words", nargs=-1, metavar="[policy|filterlist|filteraction] [NAME]")
@json_option
@click.pass_obj
def show(place: Place, words: tuple[str, ...], as_json: bool) -> None:
    """Show a policy, filter list or filter action.

    All of a policy as a tree, without NAME of the assigned one; or a filter list or a filter action, with the rules
    that use it. Preshared keys are hidden.
    """
    kind, name = _kind_and_name(words)
    with reading(place) as catalogue:
        document: dict[str, object]
        if kind == "filterlist":
            item = catalogue.filter_list(name)
            document = secpol_show.filter_list_document(catalogue, item)
            tree = secpol_show.filter_list_tree(item, catalogue.users(item))
        elif kind == "filteraction":
            action = catalogue.filter_action(name)
            document = secpol_show.filter_action_document(catalogue, action)
            tree = secpol_show.filter_action_tree(action, catalogue.users(action))
        else:
            policy = catalogue.policy(name) if name else catalogue.assigned
            if policy is None:
                known = ", ".join(repr(one.name) for one in catalogue.policies) or "there is none"
                raise PolicyError(f"no policy is assigned; accepted: the name of one: {known}")
            document = secpol_show.policy_document(policy, policy is catalogue.assigned)
            tree = secpol_show.policy_tree(policy, policy is catalogue.assigned)
    if as_json:
        print_json(document)
    else:
        console().print(tree)


def _kind_and_name(words: tuple[str, ...]) -> tuple[str, str]:
    if len(words) == 2 and words[0] in _KINDS:
        return words[0], words[1]
    if len(words) < 2:
        return "policy", "".join(words)
    raise click.UsageError(f"{' '.join(words)!r}; accepted: NAME, or {', '.join(_KINDS)} and a NAME (in quotes)")


# ---- assigning ------------------------------------------------------------------------------------------------------


@command.command("assign")
@click.argument("name")
@click.pass_obj
def assign(place: Place, name: str) -> None:
    """Assign the policy NAME, in place of the one that is."""
    # What is broken in other policies is no reason to keep one of them.
    with place.writing() as store:
        found = find_policy(store.objects(), name)
        store.apply(Changes(assign=found.guid), now())
    tell(place)
    click.echo(f"The policy {found.name!r} is assigned.")


@command.command("unassign")
@click.pass_obj
def unassign(place: Place) -> None:
    """Un-assign the policy that is assigned."""
    with place.writing() as store:
        guid = store.assigned()
        if guid is None:
            raise PolicyError("no policy is assigned")
        old = by_name(store.objects()).get(ObjectName.of(ObjectClass.POLICY, guid))
        store.apply(Changes(assign=None), now())
    tell(place)
    click.echo(
        f"The policy {old.display_name or str(old.name)!r} is not assigned any more."
        if old
        else "No policy is assigned any more."
    )


@command.command("builtin")
@click.pass_obj
def builtin(place: Place) -> None:
    """Restore the default policies.

    As they come with Windows 2000, whatever was changed in them.
    """
    with place.writing() as store:
        catalogue = _mended(store)
        for name in BUILTIN_NAMES:
            policy = builtin_policy(name)
            assert policy.guid is not None
            if any(one.guid == policy.guid for one in catalogue.policies):
                catalogue.replace_policy(guid_text(policy.guid), policy)
            else:
                catalogue.add_policy(policy)
        save(catalogue, store, now())
        # Now that no rule is left over: the real objects, byte for byte; others may use their filter lists.
        there = by_name(store.objects())
        put = (replace(one, owners=there[one.name].owners) if one.name in there else one for one in builtin_objects())
        store.apply(Changes(tuple(put)), now())
    tell(place)
    click.echo("The default policies are restored: " + ", ".join(BUILTIN_NAMES) + ".")


def _mended(store: PolicyStore) -> Catalogue:
    """The policies of a store; where a default policy is broken, its objects are put back first."""
    try:
        return read_catalogue(store)
    except PolicyError:
        there = by_name(store.objects())
        put = (
            replace(one, owners=tuple(dict.fromkeys((*one.owners, *there[one.name].owners))))
            if one.name in there
            else one
            for one in builtin_objects()
        )
        changes = Changes(tuple(put))
        tried = MemoryStore(there.values(), store.assigned())
        tried.apply(changes, now())
        read_catalogue(tried)  # a directory has no transactions: not before it is known to help
        store.apply(changes, now())
        return read_catalogue(store)


# ---- integrity ------------------------------------------------------------------------------------------------------


@command.command("check")
@click.option("--repair", "mend", is_flag=True, help="Repair what has one right answer.")
@json_option
@click.pass_obj
def check_(place: Place, mend: bool, as_json: bool) -> int:
    """Check every link between the stored objects.

    Both ways; a line for each that is broken.
    Exit status 1 when problems remain.
    """
    repaired: tuple[Problem, ...] = ()
    if mend:
        with place.writing() as store:
            objects = store.objects()
            before = check(objects, store.assigned())
            changes = repair(objects)
            if changes:
                store.apply(changes, now())
            remaining = check(store.objects(), store.assigned())
            repaired = tuple(problem for problem in before if problem not in remaining)
        if changes:
            tell(place)
    else:
        with place.reading() as store:
            objects = store.objects()
            remaining = check(objects, store.assigned())
    if as_json:
        print_json(
            {
                "objects": len(objects),
                "problems": [_problem_document(problem) for problem in remaining],
                "repaired": [_problem_document(problem) for problem in repaired],
            }
        )
    else:
        for problem in repaired:
            click.echo(f"repaired: {problem}")
        for problem in remaining:
            click.echo(f"{problem}{' (--repair mends it)' if problem.repairable else ''}")
        click.echo(f"{len(objects)} objects, {counted(len(remaining), 'problem')}")
    return 1 if remaining else 0


def _problem_document(problem: Problem) -> dict[str, object]:
    return {"object": str(problem.name), "problem": problem.text, "repairable": problem.repairable}


# ---- files ----------------------------------------------------------------------------------------------------------


@command.command("export")
@click.argument("file", type=_FILE)
@click.argument("name", required=False)
@click.option("--domain", metavar="DN", help="The domain that an LDIF file names: DC=example,DC=com.")
@click.option("-y", "--yes", is_flag=True, help="Write over a FILE that exists.")
@click.pass_obj
def export(place: Place, file: Path, name: str | None, domain: str | None, yes: bool) -> None:
    """Write all policies, or the policy NAME, to FILE.

    Its suffix says what it is: .reg, .ldif, .json, .netsh or .txt; .toml for one policy.
    Preshared keys are in it, so it is for its owner's eyes.
    """
    suffix_of(file)
    if file.exists() and not yes:
        raise click.UsageError(f"{file}: exists already; accepted: another file, or -y")
    with place.reading() as store:
        write_store(file, store, name, domain)
    click.echo(f"{file} is written.")


@command.command("import")
@click.argument("file", type=_FILE)
@click.option("--replace", "replacing", is_flag=True, help="Policies of .toml, .json: instead of those of their names.")
@click.pass_obj
def import_(place: Place, file: Path, replacing: bool) -> None:
    """Take policies from FILE, all or nothing.

    Its suffix says what it is: .reg, .ldif, .toml, .json, .netsh or .txt. Objects of .reg and .ldif
    take the place of those with the same GUID. An assignment in FILE counts.
    """
    suffix = suffix_of(file)
    if replacing and suffix in (*OBJECT_SUFFIXES, *SCRIPT_SUFFIXES):
        raise click.UsageError("--replace is for .toml and .json; accepted: without it")
    if suffix in SCRIPT_SUFFIXES:
        _run_netsh(place, read_script(file, "a script of netsh ipsec static"), str(file))
    elif suffix in OBJECT_SUFFIXES:
        found = read_store(file)
        with place.writing() as store:
            put_objects(store, found, str(file))
            problems = check(store.objects(), store.assigned())
        if problems:
            click.echo(
                f"warning: {counted(len(problems), 'problem')} in the store; secpol check lists them",
                err=True,
            )
        tell(place)
    else:
        tables = read_tables(file)
        with editing(place) as catalogue:
            put_tables(catalogue, tables, str(file), replacing=replacing)
    click.echo(f"{file} is imported.")


# ---- the languages of administrators --------------------------------------------------------------------------------


@command.command("netsh")
@click.argument("file", required=False)
@click.option("--write", "name", metavar="NAME", help="Print the script that makes the policy NAME, keys and all.")
@click.pass_obj
def netsh_(place: Place, file: str | None, name: str | None) -> None:
    """Carry out a `netsh ipsec static` script, or write one.

    FILE, or stdin (-), is carried out as a whole or not at all. A .cmd or .bat file
    is read as cmd does it.
    """
    if (file is None) == (name is None):
        raise click.UsageError("one of FILE and --write NAME is needed")
    if name is not None:
        with reading(place) as catalogue:
            click.echo(write(catalogue.policy(name)), nl=False)
        return
    assert file is not None
    script, where = _script(file, "a script of netsh ipsec static")
    _run_netsh(place, script, where)
    click.echo(f"{where} is carried out.")


def _run_netsh(place: Place, script: str, where: str) -> None:
    with editing(place) as catalogue:
        run = netsh.run_batch if where.lower().endswith((".cmd", ".bat")) else netsh.run
        notes = run(script, catalogue, where, resolve=resolve)
    _tell_notes(notes)


def _tell_notes(notes: Sequence[str]) -> None:
    for note in notes:
        click.echo(note, err=True)


@command.command("ipsecpol", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.option("--file", "-file", metavar="FILE", help="The command lines of a .cmd or .bat file; - is stdin.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="-w REG -p POLICY -r RULE -f FILTER...")
@click.pass_obj
def ipsecpol_(place: Place, file: str | None, arguments: tuple[str, ...]) -> None:
    """Carry out command lines of ipsecpol.exe.

    That of the arguments, or all those of FILE or nothing. Without -w they are for
    the agent that runs in the state directory: rules that it forgets when it stops.
    A preshared key in the arguments stands in the list of processes; one in FILE
    does not.
    """
    if (file is None) == (not arguments):
        raise click.UsageError("either the arguments of ipsecpol.exe or --file FILE is needed")
    store = ipsecpol.Store.DIRECTORY if place.is_domain else ipsecpol.Store.REGISTRY
    if file is None:
        where = "ipsecpol"
        lines = [ipsecpol.parse(arguments, where, resolve=resolve)]
    else:
        script, where = _script(file, "a file of ipsecpol command lines")
        lines = ipsecpol.read_file(script, where, resolve=resolve)
    dynamic = [line for line in lines if line.store is None]
    if not dynamic:
        with editing(place) as catalogue:
            ipsecpol.carry_out(lines, catalogue, store)
    elif len(dynamic) < len(lines):
        raise PolicyError(
            f"{dynamic[0].place}: without -w, and other lines have it; accepted: -w in all lines, or in none"
        )
    else:
        place.push(where, ipsecpol.carry_out(lines, Catalogue()))
    click.echo(f"{where} is carried out.")


def _script(file: str, what: str) -> tuple[str, str]:
    if file != "-":
        return read_script(Path(file), what), file
    return read_script(None, what), "stdin"
