"""Routing and Remote Access, as far as IPsec is concerned: L2TP with its automatic policy (KB 248750)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from ipsec_core.computer.credentials import Credentials
from ipsec_core.computer.service import PolicyService
from ipsec_core.computer.state import State
from ipsec_core.errors import PolicyError
from ipsec_core.policy import l2tp
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.model import AuthenticationKind, AuthenticationMethod


class RemoteAccess:
    """The part of a `Computer` that is a server of L2TP, or dials one.

    The rules live in its Policy Agent. When that stops or restarts they are gone, and RRAS has to be restarted, a
    connection to be dialled again. With `ProhibitIpSec` 1 there are none: a policy of the administrator may do instead.

    `authentication` is by default by certificate, under any root that a certificate of the computer leads to.
    PolicyError, and no change, when the Policy Agent does not run, or cannot authenticate like that.
    """

    service: PolicyService
    state: State
    _credentials: Credentials

    def start_rras(self, now: float, authentication: Sequence[AuthenticationMethod] = ()) -> None:
        """RRAS starts, or starts again: L2TP of all clients is protected."""
        if not self._prohibited():
            rules = l2tp.server_rules(authentication or self._certificates())
            self.service.push(now, l2tp.SERVER, DynamicRules(rules, delete=True))

    def stop_rras(self, now: float) -> None:
        """RRAS stops; no error if it does not run."""
        self.service.withdraw(now, l2tp.SERVER)

    def dial(self, now: float, server: IPv4Address, authentication: Sequence[AuthenticationMethod] = ()) -> None:
        """A connection to a server begins: L2TP with it is protected."""
        if not self._prohibited():
            rules = l2tp.client_rules(server, authentication or self._certificates())
            self.service.push(now, _connection(server), DynamicRules(rules, delete=True))

    def hang_up(self, now: float, server: IPv4Address) -> None:
        """A connection ends; no error if there is none."""
        self.service.withdraw(now, _connection(server))

    def _prohibited(self) -> bool:
        return self.state.registry.known_number("ProhibitIpSec") == 1

    def _certificates(self) -> tuple[AuthenticationMethod, ...]:
        store = self._credentials.certificates
        roots = store.usable_roots() if store else ()
        if not roots:
            raise PolicyError("L2TP: the computer has no certificate; accepted: one under a trusted root")
        return tuple(AuthenticationMethod(AuthenticationKind.CERTIFICATE, root) for root in roots)


def _connection(server: IPv4Address) -> str:
    return f"{l2tp.CLIENT} {server}"
