"""The objects of an IPsec policy, as KB 257225 and [MS-GPIPSEC] 2.2.1 name them.

    Policy 1 -- 1 KeyExchangeSettings      (the ISAKMP object: Main Mode offers)
           1 -- n Rule                     (filter list, filter action, authentication methods, tunnel endpoint)

All objects are immutable, hold tuples, and are valid once built: a constructor raises `PolicyError` with one line.
`guid` is that of the stored object, None for one that is in no store yet; it does not count when objects are compared.
Filter lists and filter actions with the same GUID are one object that several rules share.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address

from ipsec_core.errors import PolicyError
from ipsec_core.policy.methods import (
    DEFAULT_KEY_EXCHANGE_METHODS,
    DiffieHellmanGroup,
    KeyExchangeMethod,
    SecurityMethod,
)
from ipsec_core.policy.ranges import DWORD, check_range
from ipsec_core.policy.selectors import Filter, FilterList

DEFAULT_MAIN_MODE_SECONDS = 28_800
DEFAULT_POLLING_SECONDS = 10_800
# KB 257225, "bad SPI" messages: acceptable are "more than 50 megabytes and more than five minutes".
ADVISED_SECONDS_ABOVE = 300
ADVISED_KILOBYTES_ABOVE = 50_000
# Whoever answers a Main Mode in the peer's name can try keys on what it got (CVE-2018-5389): 20 bytes are a hash value.
ADVISED_KEY_LENGTH = 20

_NAMESPACE = uuid.UUID("6d7b1a52-3c0e-5a2b-9d5c-1f0b2f1f7225")


class FilterActionKind(Enum):
    """The three actions; `guid` is the stored one ([MS-GPIPSEC] 2.2.1.4.1)."""

    PERMIT = ("permit", uuid.UUID("8A171DD2-77E3-11D1-8659-A04F00000000"))
    BLOCK = ("block", uuid.UUID("3F91A819-7647-11D1-864D-D46A00000000"))
    NEGOTIATE = ("negotiate", uuid.UUID("8A171DD3-77E3-11D1-8659-A04F00000000"))

    def __init__(self, text: str, guid: uuid.UUID) -> None:
        self.text = text
        self.guid = guid


INBOUND_PASSTHROUGH_GUID = uuid.UUID("3F91A81A-7647-11D1-864D-D46A00000000")


@dataclass(frozen=True, slots=True)
class FilterAction:
    """What to do with matching traffic; security methods in order of preference, only for `NEGOTIATE`.

    `inbound_passthrough`: accept unsecured communication, but always respond using IPsec. `allow_unsecured`: fall back
    to a soft SA when the peer does not speak IKE. `pfs`: a new Diffie-Hellman exchange in each Quick Mode, in
    `pfs_group`, or without one in the group that Main Mode prefers.
    """

    name: str
    action: FilterActionKind
    methods: tuple[SecurityMethod, ...] = ()
    inbound_passthrough: bool = False
    allow_unsecured: bool = False
    pfs: bool = False
    pfs_group: DiffieHellmanGroup | None = None
    description: str = ""
    guid: uuid.UUID | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.pfs_group is not None and not self.pfs:
            raise PolicyError("a group for PFS without PFS; set pfs to true, or leave the group out")
        if self.action is FilterActionKind.NEGOTIATE:
            if not self.methods:
                raise PolicyError("negotiate needs at least one security method")
        elif self.methods or self.inbound_passthrough or self.allow_unsecured or self.pfs:
            raise PolicyError(f"{self.action.text} takes no security methods and no options of negotiate")

    @property
    def action_guid(self) -> uuid.UUID:
        return INBOUND_PASSTHROUGH_GUID if self.inbound_passthrough else self.action.guid


class AuthenticationKind(Enum):
    """Main Mode authentication; the numbers are those of the stored rule ([MS-GPIPSEC] 2.2.1.3.1)."""

    PRESHARED_KEY = 1
    CERTIFICATE = 3
    KERBEROS = 5


@dataclass(frozen=True, slots=True, repr=False)
class AuthenticationMethod:
    """A preshared key (`value` is the key), a certificate (`value` names the root CA) or Kerberos V5 (no value)."""

    kind: AuthenticationKind
    value: str = ""

    def __post_init__(self) -> None:
        if self.kind is AuthenticationKind.KERBEROS:
            if self.value:
                raise PolicyError("Kerberos authentication takes no value")
        elif not self.value:
            what = "a preshared key" if self.kind is AuthenticationKind.PRESHARED_KEY else "the name of a root CA"
            raise PolicyError(f"{what} must not be empty")

    def __repr__(self) -> str:
        shown = "***" if self.kind is AuthenticationKind.PRESHARED_KEY else self.value
        return f"AuthenticationMethod({self.kind.name}, {shown!r})"


@dataclass(frozen=True, slots=True)
class KeyExchangeSettings:
    """Main Mode settings of a policy ([MS-GPIPSEC] 2.2.1.2.1); `quick_mode_limit` 0 means no limit.

    A method whose own lifetime is `lifetime_seconds` has none of its own: stored methods always say theirs.
    `soft_lifetime_seconds` is netsh's softsaexpirationtime. At 0, as in Windows 2000, a soft SA remains as long as
    traffic is regularly sent (KB 257225).
    """

    methods: tuple[KeyExchangeMethod, ...] = DEFAULT_KEY_EXCHANGE_METHODS
    lifetime_seconds: int = DEFAULT_MAIN_MODE_SECONDS
    master_key_pfs: bool = False
    quick_mode_limit: int = 0
    soft_lifetime_seconds: int = 0
    guid: uuid.UUID | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.methods:
            raise PolicyError("key exchange needs at least one method")
        check_range("lifetime_seconds", self.lifetime_seconds, 1, DWORD)
        check_range("quick_mode_limit", self.quick_mode_limit, 0, DWORD)
        check_range("soft_lifetime_seconds", self.soft_lifetime_seconds, 0, DWORD)
        if any(method.lifetime_seconds == self.lifetime_seconds for method in self.methods):
            methods = tuple(
                replace(one, lifetime_seconds=0) if one.lifetime_seconds == self.lifetime_seconds else one
                for one in self.methods
            )
            object.__setattr__(self, "methods", methods)

    def lifetime_of(self, method: KeyExchangeMethod) -> int:
        """Seconds that a Main Mode SA agreed by `method` may live."""
        return method.lifetime_seconds or self.lifetime_seconds

    @property
    def quick_modes_per_main_mode(self) -> int:
        """How many Quick Modes one Main Mode SA may serve; 0 is unlimited. Master key PFS means one only."""
        return 1 if self.master_key_pfs else self.quick_mode_limit


class ConnectionType(Enum):
    """The interfaces a rule is for."""

    ALL = "all"
    LAN = "lan"
    REMOTE_ACCESS = "remote_access"


@dataclass(frozen=True, slots=True)
class Rule:
    """Traffic (filter list), what to do with it (filter action) and how to know the peer (authentication methods).

    A tunnel needs two rules: one with the outbound filter and the remote gateway as endpoint, one with the inbound
    filter and the own address as endpoint. Without a filter list it is the default response rule: it answers peers that
    ask for security where no other rule says anything, for the traffic that they ask for.
    """

    name: str
    filter_list: FilterList | None
    filter_action: FilterAction
    authentication_methods: tuple[AuthenticationMethod, ...] = (AuthenticationMethod(AuthenticationKind.KERBEROS),)
    tunnel_endpoint: IPv4Address | None = None
    connection_type: ConnectionType = ConnectionType.ALL
    active: bool = True
    description: str = ""
    guid: uuid.UUID | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.filter_list is None and (
            self.filter_action.action is not FilterActionKind.NEGOTIATE or self.tunnel_endpoint is not None
        ):
            raise PolicyError("the default response rule negotiates, without a tunnel; give it a filter list or do so")
        if self.filter_action.action is FilterActionKind.NEGOTIATE:
            if not self.authentication_methods:
                raise PolicyError("a rule that negotiates needs at least one authentication method")
        elif self.tunnel_endpoint is not None:
            raise PolicyError(f"a tunnel needs the action negotiate, not {self.filter_action.action.text}")
        if self.tunnel_endpoint is not None and not _is_host(self.tunnel_endpoint):
            raise PolicyError(f"{self.tunnel_endpoint} is not a tunnel endpoint; accepted: the address of a host")

    @property
    def filters(self) -> tuple[Filter, ...]:
        """The filters of its list; none of the default response rule, which makes its own."""
        return self.filter_list.filters if self.filter_list is not None else ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole IPsec policy."""

    name: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    key_exchange: KeyExchangeSettings = KeyExchangeSettings()
    polling_interval_seconds: int = DEFAULT_POLLING_SECONDS
    guid: uuid.UUID | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise PolicyError("a policy needs a name")
        if sum(rule.filter_list is None for rule in self.rules) > 1:
            raise PolicyError("a policy has one default response rule at most")
        check_range("polling_interval_seconds", self.polling_interval_seconds, 1, DWORD)

    @property
    def policy_id(self) -> uuid.UUID:
        """The GUID, or an identifier that depends on the name alone, so that runs repeat."""
        return self.guid or uuid.uuid5(_NAMESPACE, self.name)

    @property
    def default_response(self) -> Rule | None:
        """The default response rule, if there is an active one."""
        return next((rule for rule in self.rules if rule.filter_list is None and rule.active), None)

    def warnings(self) -> tuple[str, ...]:
        """What is allowed but against the article's advice, one line each."""
        lines: list[str] = []
        for index, rule in enumerate(self.rules):
            place = f"rule {rule.name!r}" if rule.name else f"rule {index}"
            for method in rule.filter_action.methods:
                lines += (f"{place}: {method}: {text}" for text in _lifetime_warnings(method))
            if rule.tunnel_endpoint is not None:
                lines += (f"{place}: {text}" for text in self._tunnel_warnings(rule))
            lines += (f"{place}: {text}" for method in rule.authentication_methods for text in _key_warnings(method))
        return tuple(lines)

    def _tunnel_warnings(self, rule: Rule) -> list[str]:
        tunnelled = {
            (item.source, item.destination)
            for other in self.rules
            if other.tunnel_endpoint not in (None, rule.tunnel_endpoint)
            for item in other.filters
        }
        lines: list[str] = []
        for item in rule.filters:
            way = f"{item.source} to {item.destination}"
            if item.mirrored:
                lines.append(f"the filter {way} is mirrored; tunnel filters work one way only")
            if (item.destination, item.source) not in tunnelled:
                lines.append(f"no tunnel rule for the way back of {way}; a tunnel needs two rules")
        return lines


def _is_host(address: IPv4Address) -> bool:
    return not (address.is_unspecified or address.is_multicast or address.is_reserved)


def _key_warnings(method: AuthenticationMethod) -> list[str]:
    length = len(method.value)
    if method.kind is not AuthenticationKind.PRESHARED_KEY or length >= ADVISED_KEY_LENGTH:
        return []
    return [f"preshared key of {length} characters; advised against guessing: at least {ADVISED_KEY_LENGTH}"]


def _lifetime_warnings(method: SecurityMethod) -> list[str]:
    lines: list[str] = []
    if method.lifetime_seconds <= ADVISED_SECONDS_ABOVE:
        lines.append(f"keys live {method.lifetime_seconds} s; advised for high traffic: more than five minutes")
    if method.lifetime_kilobytes <= ADVISED_KILOBYTES_ABOVE:
        lines.append(f"keys live {method.lifetime_kilobytes} KB; advised for high traffic: more than 50 MB")
    return lines
