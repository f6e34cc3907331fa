"""What a computer proves its identity with: preshared keys of the policy, its certificates, its Kerberos account."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ipsec_core.errors import PolicyError
from ipsec_core.ike import AuthMethod, Certificates, Kerberos
from ipsec_core.policy.model import AuthenticationKind, AuthenticationMethod, Rule


class CertificateStore(Protocol):
    """The computer's certificates."""

    def for_root(self, root_name: str) -> Certificates:
        """What leads to the root CA of that name; PolicyError when nothing does."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a computer has besides its policy; None: nothing of the kind."""

    certificates: CertificateStore | None = None
    kerberos: Kerberos | None = None


@dataclass(slots=True)
class MainModeMethods:
    """The ways to authenticate that a rule names and the computer has the credentials for, in the rule's order."""

    methods: tuple[AuthMethod, ...] = ()
    preshared_key: bytes = field(default=b"", repr=False)
    certificates: Certificates | None = None
    kerberos: Kerberos | None = None

    def take(self, method: AuthenticationMethod, credentials: Credentials) -> None:
        """Adds a method; PolicyError when the computer cannot carry it out. Of one kind the first counts."""
        if method.kind is AuthenticationKind.PRESHARED_KEY:
            if not self.preshared_key:
                # The low byte of each character, as Windows 2000 takes the key from its Unicode text.
                self.preshared_key = bytes(ord(character) & 0xFF for character in method.value)
                self.methods += (AuthMethod.PRESHARED_KEY,)
        elif method.kind is AuthenticationKind.CERTIFICATE:
            if credentials.certificates is None:
                raise PolicyError("the computer has no certificates")
            if self.certificates is None:
                self.certificates = credentials.certificates.for_root(method.value)
                self.methods += (AuthMethod.RSA_SIGNATURES,)
        else:
            if credentials.kerberos is None:
                raise PolicyError("the computer has no Kerberos credentials")
            if self.kerberos is None:
                self.kerberos = credentials.kerberos
                self.methods += (AuthMethod.KERBEROS,)


def main_mode_methods(rule: Rule, credentials: Credentials, where: str) -> MainModeMethods:
    """How to authenticate under a rule: with the methods that the computer has credentials for; PolicyError if none."""
    found = MainModeMethods()
    lacking: list[str] = []
    for method in rule.authentication_methods:
        try:
            found.take(method, credentials)
        except PolicyError as error:
            lacking.append(f"{method.kind.name.lower()}: {error}")
    if not found.methods:
        raise PolicyError(f"{where}: no authentication method can be carried out ({'; '.join(lacking)})")
    return found


def lacks_kerberos(rules: tuple[Rule, ...], credentials: Credentials) -> bool:
    """Whether an active rule wants Kerberos and the computer has no credentials for it."""
    return credentials.kerberos is None and any(
        method.kind is AuthenticationKind.KERBEROS
        for rule in rules
        if rule.active
        for method in rule.authentication_methods
    )
