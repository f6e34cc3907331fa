"""What a computer proves its identity with: preshared keys of the policy, its certificates, its Kerberos account."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ipsec_core.errors import PolicyError
from ipsec_core.ike import AuthMethod, Certificates, Kerberos
from ipsec_core.policy.model import AuthenticationKind, Rule

_METHODS = {
    AuthenticationKind.PRESHARED_KEY: AuthMethod.PRESHARED_KEY,
    AuthenticationKind.CERTIFICATE: AuthMethod.RSA_SIGNATURES,
    AuthenticationKind.KERBEROS: AuthMethod.KERBEROS,
}


class CertificateStore(Protocol):
    """The computer's certificates. `crl_level` is the registry's StrongCrlCheck, set when the service starts."""

    crl_level: int

    def for_root(self, *root_names: str) -> Certificates:
        """What leads to one of these root CAs, in order of preference; PolicyError when nothing does."""

    def usable_roots(self) -> tuple[str, ...]:
        """The names of the trusted root CAs that certificates of the computer lead to, for `for_root`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a computer has besides its policy; None: nothing of the kind."""

    certificates: CertificateStore | None = None
    kerberos: Kerberos | None = None


@dataclass(frozen=True, slots=True)
class MainModeMethods:
    """The ways to authenticate that a rule names and the computer has the credentials for, in the rule's order."""

    methods: tuple[AuthMethod, ...]
    preshared_key: bytes = field(repr=False)
    certificates: Certificates | None
    kerberos: Kerberos | None


def main_mode_methods(rule: Rule, credentials: Credentials, where: str) -> MainModeMethods:
    """How to authenticate under a rule: with the methods that the computer has credentials for; PolicyError if none.

    Of several preshared keys the first counts; the names of several root CAs are one method, which accepts them all.
    """
    values: dict[AuthenticationKind, list[str]] = {}
    for method in rule.authentication_methods:
        values.setdefault(method.kind, []).append(method.value)
    certificates: Certificates | None = None
    lacking: list[str] = []
    for kind in list(values):
        fault = ""
        if kind is AuthenticationKind.CERTIFICATE:
            try:
                certificates = _certificates(credentials, values[kind])
            except PolicyError as error:
                fault = str(error)
        elif kind is AuthenticationKind.KERBEROS and credentials.kerberos is None:
            fault = "the computer has no Kerberos credentials"
        if fault:
            lacking.append(fault)
            del values[kind]
    if not values:
        raise PolicyError(
            f"{where}: no authentication method can be carried out ({'; '.join(lacking)}); accepted: "
            "a preshared key, or credentials that the computer has"
        )
    key = values.get(AuthenticationKind.PRESHARED_KEY, [""])[0]
    return MainModeMethods(
        tuple(_METHODS[kind] for kind in values),
        # The low byte of each character, as Windows 2000 takes the key from its Unicode text.
        bytes(ord(character) & 0xFF for character in key),
        certificates,
        credentials.kerberos if AuthenticationKind.KERBEROS in values else None,
    )


def _certificates(credentials: Credentials, roots: list[str]) -> Certificates:
    if credentials.certificates is None:
        raise PolicyError("the computer has no certificates")
    return credentials.certificates.for_root(*roots)


def lacks_kerberos(rules: tuple[Rule, ...], credentials: Credentials) -> bool:
    """Whether an active rule wants Kerberos and the computer has no credentials for it."""
    return credentials.kerberos is None and any(
        method.kind is AuthenticationKind.KERBEROS
        for rule in rules
        if rule.active
        for method in rule.authentication_methods
    )
