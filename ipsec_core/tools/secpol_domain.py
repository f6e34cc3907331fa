"""The policies of a domain as a place for secpol. Apart, since a local store needs none of what this imports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import click

from ipsec_core.errors import PolicyError
from ipsec_core.live.ldap import LdapStore
from ipsec_core.live.ldap_connection import DirectoryServer, Protection
from ipsec_core.policy.directory import DEFAULT_DOMAIN_GPO
from ipsec_core.policy.objects import PolicyStore, parse_guid
from ipsec_core.tools.secpol_store import MemoryStore, Place
from ipsec_core.tools.secpol_words import ask


@dataclass(frozen=True, slots=True)
class DomainPlace(Place):
    """The policies of a domain, and the assignment to one of its GPOs."""

    is_domain: ClassVar[bool] = True

    store: LdapStore

    @contextmanager
    def reading(self) -> Iterator[PolicyStore]:
        reading = self.store.read()
        yield MemoryStore(reading.objects, reading.assigned)

    @contextmanager
    def writing(self) -> Iterator[PolicyStore]:
        yield self.store

    def after_change(self) -> str | None:
        return "the computers of the domain take the change when they check for policy changes"


def domain_place(
    url: str,
    gpo: str | None,
    *,
    user: str | None,
    password_file: Path | None,
    kerberos: bool,
    keytab: Path | None,
    ca_file: Path | None,
    protection: str,
) -> DomainPlace:
    """From the options of the command line; a password that is in no file is asked for."""
    guid = DEFAULT_DOMAIN_GPO if gpo is None else parse_guid(gpo)
    password = ""
    if password_file is not None:
        if user is None:
            raise click.UsageError("--password-file goes with --user")
        try:
            password = password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise PolicyError(f"{password_file}: not UTF-8 text; accepted: a file with the password") from None
    elif user is not None and not kerberos:
        password = ask("Password", "--password-file FILE")
    server = DirectoryServer(
        url, user or "", password, kerberos, keytab, ca_file=ca_file, protection=Protection(protection)
    )
    return DomainPlace(LdapStore(server, (guid,)))
