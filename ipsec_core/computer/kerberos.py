"""Kerberos V5 for Main Mode through GSS-API (draft-ietf-ipsec-isakmp-gss-auth-07), with the `gssapi` package.

The library underneath reads the real clock and asks the key distribution centre over the network, and waits for it,
whenever a context towards a new peer begins: there is no Kerberos in virtual time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ipsec_core.errors import NegotiationError
from ipsec_core.ike.credentials import CredentialRefused, GssContext
from ipsec_core.ike.failures import FailureReason


class MachineKerberos:
    """The computer's Kerberos account (`ike.Kerberos`).

    `name` is its principal, "host/alice.example.com@EXAMPLE.COM" or, as Windows has it, "alice$@EXAMPLE.COM"; IKE sends
    it as it is. Its key is in `keytab`; tickets stay in memory. Realms and their centres are those of the system's
    krb5.conf (KRB5_CONFIG). NegotiationError without the package, or when the key tab has no key for the name.
    """

    def __init__(self, name: str, keytab: Path) -> None:
        try:
            self._gssapi: Any = import_module("gssapi")
        except ImportError as error:
            raise NegotiationError(
                f"Kerberos: the package gssapi is missing ({error}); install ipsec_core[kerberos] (needs libkrb5-dev)"
            ) from error
        self._name = name
        self._keytab = f"FILE:{keytab}"
        try:
            # Neither asks the centre.
            self._principal = self._gssapi.Name(name, self._gssapi.NameType.kerberos_principal)
            self._acceptor = self._credentials("accept", {"keytab": self._keytab})
        except (self._gssapi.exceptions.GSSError, ValueError) as error:
            raise NegotiationError(f"Kerberos account {name!r}, key tab {keytab}: {_line(error)}") from error

    @property
    def name(self) -> str:
        return self._name

    def initiate(self, peer: str) -> GssContext:
        flag = self._gssapi.RequirementFlag
        with self._refusing():
            store = {"client_keytab": self._keytab, "ccache": "MEMORY:" + self._name}
            context = self._gssapi.SecurityContext(
                usage="initiate",
                name=self._gssapi.Name(peer, self._gssapi.NameType.kerberos_principal),
                mech=self._gssapi.MechType.kerberos,
                creds=self._credentials("initiate", store),
                flags=flag.mutual_authentication
                | flag.out_of_sequence_detection
                | flag.confidentiality
                | flag.integrity,
            )
        return _Context(self, context, "target_name")

    def accept(self) -> GssContext:
        with self._refusing():
            context = self._gssapi.SecurityContext(usage="accept", creds=self._acceptor)
        return _Context(self, context, "initiator_name")

    def _credentials(self, usage: str, store: dict[str, str]) -> Any:
        return self._gssapi.Credentials(
            name=self._principal, usage=usage, mechs=[self._gssapi.MechType.kerberos], store=store
        )

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (self._gssapi.exceptions.GSSError, ValueError) as error:
            raise CredentialRefused(FailureReason.KERBEROS, _line(error)) from error


class _Context:
    """`ike.GssContext`; the peer's name is the attribute `peer_name` of the library's context."""

    def __init__(self, account: MachineKerberos, context: Any, peer_name: str) -> None:
        self._account = account
        self._context = context
        # An error that has a token for the peer is raised at once, and not by the next call.
        context.__DEFER_STEP_ERRORS__ = False
        self._peer_name = peer_name

    @property
    def complete(self) -> bool:
        return bool(self._context.complete)

    @property
    def peer(self) -> str:
        with self._account._refusing():
            return str(getattr(self._context, self._peer_name))

    def step(self, token: bytes | None) -> bytes | None:
        with self._account._refusing():
            answer: bytes | None = self._context.step(token)
            return answer or None

    def wrap(self, data: bytes) -> bytes:
        with self._account._refusing():
            return bytes(self._context.wrap(data, True).message)

    def unwrap(self, data: bytes) -> bytes:
        with self._account._refusing():
            return bytes(self._context.unwrap(data).message)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
