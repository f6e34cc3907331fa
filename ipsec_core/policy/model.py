"""The objects of an IPsec policy, as KB 257225 and [MS-GPIPSEC] 2.2.1 name them.

    Policy 1 -- 1 KeyExchangeSettings      (the ISAKMP object: Main Mode offers)
           1 -- n Rule                     (filter list, filter action, authentication methods, tunnel endpoint)

All objects are immutable, hold tuples, and are valid once built: a constructor raises `PolicyError` with one line.
Lifetimes are in seconds and in the kilobytes that IKE carries (the default of 100000 is the "100 MB" of KB 2790970).
Text forms follow the grammar of netsh: ``ESP[3DES,SHA1]:100000k/3600s``, ``AH[SHA1]+ESP[DES,MD5]``, ``3DES-SHA1-2``.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from ipsec_core.errors import PolicyError

DEFAULT_QUICK_MODE_SECONDS = 3600
DEFAULT_QUICK_MODE_KILOBYTES = 100_000
DEFAULT_MAIN_MODE_SECONDS = 28_800
DEFAULT_POLLING_SECONDS = 10_800
MAXIMUM_QUICK_MODE_SECONDS = 172_799
MAXIMUM_QUICK_MODE_KILOBYTES = 2_147_483_647
# KB 257225, "bad SPI" messages: acceptable are "more than 50 megabytes and more than five minutes".
ADVISED_SECONDS_ABOVE = 300
ADVISED_KILOBYTES_ABOVE = 50_000
# Whoever answers a Main Mode in the peer's name can try keys on what it got (CVE-2018-5389): 20 bytes are a hash value.
ADVISED_KEY_LENGTH = 20

_DWORD = 0xFFFF_FFFF
_Algorithm = TypeVar("_Algorithm", bound=Enum)
_NAMESPACE = uuid.UUID("6d7b1a52-3c0e-5a2b-9d5c-1f0b2f1f7225")


def _check_range(what: str, value: int, low: int, high: int, unit: str = "") -> None:
    if not low <= value <= high:
        raise PolicyError(f"{what}: {value} is out of range; accepted: {low} to {high}{unit}")


# ---- selectors ------------------------------------------------------------------------------------------------------

PROTOCOLS = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17}
_PROTOCOLS_WITH_PORTS = (PROTOCOLS["tcp"], PROTOCOLS["udp"])
_ADDRESS_FORMS = "any, me, a.b.c.d, a.b.c.d/len, a.b.c.d/mask"


def parse_protocol(text: str | int) -> int:
    """An IP protocol number from "any", "icmp", "tcp", "udp" or a number 0 to 255 (0 is any)."""
    number = PROTOCOLS.get(text.lower()) if isinstance(text, str) else text
    if number is None and isinstance(text, str) and re.fullmatch("[0-9]{1,3}", text):
        number = int(text)
    if number is None or not 0 <= number <= 255:
        raise PolicyError(f"{text!r} is not a protocol; accepted: any, icmp, tcp, udp, 0 to 255")
    return number


def protocol_text(protocol: int) -> str:
    """The name of a protocol number where it has one here, else the number as text."""
    return next((name for name, number in PROTOCOLS.items() if number == protocol), str(protocol))


@dataclass(frozen=True, slots=True)
class Address:
    """One side of a filter: any address, my addresses, a host or a subnet.

    Held as stored in a policy ([MS-GPIPSEC] 2.2.1.5.1 and the default policies of a domain): *Any* is 0.0.0.0 mask
    0.0.0.0, *My IP address* is 0.0.0.0 mask 255.255.255.255.
    """

    network: IPv4Network

    @property
    def is_any(self) -> bool:
        return self == ANY

    @property
    def is_my(self) -> bool:
        return self == MY

    @classmethod
    def parse(cls, text: str) -> Address:
        """From "any", "me", "10.0.0.1", "10.0.0.0/24" or "10.0.0.0/255.255.255.0"; PolicyError otherwise."""
        word = text.strip().lower()
        if word in ("any", "me"):
            return ANY if word == "any" else MY
        base, slash, mask = word.partition("/")
        try:
            address = IPv4Address(base)
            length = _mask_length(mask) if slash else 32
        except ValueError:
            raise PolicyError(f"{text!r} is not an address; accepted: {_ADDRESS_FORMS}") from None
        network = IPv4Network((address, length), strict=False)
        if network.network_address != address:
            raise PolicyError(f"{text!r} has bits set beyond its mask; the subnet is {network}")
        if network == MY.network:
            raise PolicyError(f"{text!r} is not an address of a host; accepted: {_ADDRESS_FORMS}")
        return cls(network)

    def __str__(self) -> str:
        if self.is_any or self.is_my:
            return "any" if self.is_any else "me"
        return str(self.network.network_address if self.network.prefixlen == 32 else self.network)


ANY = Address(IPv4Network("0.0.0.0/0"))
MY = Address(IPv4Network("0.0.0.0/32"))


def _mask_length(text: str) -> int:
    """The prefix length of "24" or "255.255.255.0"; ValueError. A mask with holes cannot be a route or a subnet."""
    if text.isascii() and text.isdigit() and int(text) <= 32:
        return int(text)
    mask = int(IPv4Address(text))
    length = mask.bit_count()
    if mask != (_DWORD << (32 - length)) & _DWORD:
        raise ValueError(text)
    return length


@dataclass(frozen=True, slots=True)
class Filter:
    """Selectors of one traffic description ([MS-GPIPSEC] 2.2.1.5.1); protocol 0 and port 0 mean any.

    `mirrored` adds the same filter with addresses and ports swapped; it means nothing in a rule with a tunnel endpoint.
    """

    name: str
    source: Address
    destination: Address
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    mirrored: bool = True

    def __post_init__(self) -> None:
        _check_range("protocol", self.protocol, 0, 255)
        _check_range("source_port", self.source_port, 0, 65535)
        _check_range("destination_port", self.destination_port, 0, 65535)
        if (self.source_port or self.destination_port) and self.protocol not in _PROTOCOLS_WITH_PORTS:
            raise PolicyError(f"a port needs protocol tcp or udp, not {protocol_text(self.protocol)}")
        if self.source.is_my and self.destination.is_my:
            raise PolicyError("source and destination cannot both be me")


@dataclass(frozen=True, slots=True)
class FilterList:
    """Named collection of filters; the rule applies to what any of them matches."""

    name: str
    description: str
    filters: tuple[Filter, ...]


# ---- algorithms and methods -----------------------------------------------------------------------------------------


class Confidentiality(Enum):
    """ESP encryption. `windows_2000`: that system knows it; `combined`: it authenticates by itself (RFC 4106).

    AES-GCM has an ICV of 16 bytes, or of those that its name ends with.
    """

    NULL = ("NULL", True, False)
    DES = ("DES", True, False)
    TRIPLE_DES = ("3DES", True, False)
    AES_128_CBC = ("AES-128-CBC", False, False)
    AES_192_CBC = ("AES-192-CBC", False, False)
    AES_256_CBC = ("AES-256-CBC", False, False)
    AES_128_CTR = ("AES-128-CTR", False, False)
    AES_192_CTR = ("AES-192-CTR", False, False)
    AES_256_CTR = ("AES-256-CTR", False, False)
    AES_128_GCM = ("AES-128-GCM", False, True)
    AES_192_GCM = ("AES-192-GCM", False, True)
    AES_256_GCM = ("AES-256-GCM", False, True)
    AES_128_GCM_12 = ("AES-128-GCM-12", False, True)
    AES_192_GCM_12 = ("AES-192-GCM-12", False, True)
    AES_256_GCM_12 = ("AES-256-GCM-12", False, True)
    AES_128_GCM_8 = ("AES-128-GCM-8", False, True)
    AES_192_GCM_8 = ("AES-192-GCM-8", False, True)
    AES_256_GCM_8 = ("AES-256-GCM-8", False, True)

    def __init__(self, text: str, windows_2000: bool, combined: bool) -> None:
        self.text = text
        self.windows_2000 = windows_2000
        self.combined = combined


class Integrity(Enum):
    """HMAC of AH and ESP, and hash of Main Mode."""

    MD5 = ("MD5", True)
    SHA1 = ("SHA1", True)
    SHA256 = ("SHA256", False)
    SHA384 = ("SHA384", False)
    SHA512 = ("SHA512", False)

    def __init__(self, text: str, windows_2000: bool) -> None:
        self.text = text
        self.windows_2000 = windows_2000


class DiffieHellmanGroup(IntEnum):
    """Oakley groups by their IANA number: RFC 2409 6.1, 6.2, RFC 3526 and RFC 5903."""

    MODP_768 = 1
    MODP_1024 = 2
    MODP_1536 = 5
    MODP_2048 = 14
    MODP_3072 = 15
    MODP_4096 = 16
    MODP_6144 = 17
    MODP_8192 = 18
    ECP_256 = 19
    ECP_384 = 20
    ECP_521 = 21

    @property
    def windows_2000(self) -> bool:
        return self <= DiffieHellmanGroup.MODP_1024


def parse_group(number: int) -> DiffieHellmanGroup:
    """The group of that number."""
    if number not in tuple(DiffieHellmanGroup):
        accepted = ", ".join(str(int(item)) for item in DiffieHellmanGroup)
        raise PolicyError(f"{number} is not a Diffie-Hellman group here; accepted: {accepted}")
    return DiffieHellmanGroup(number)


_CONFIDENTIALITY = {item.text: item for item in Confidentiality} | {"NONE": Confidentiality.NULL}
_INTEGRITY = {item.text: item for item in Integrity} | {"SHA": Integrity.SHA1}
# Main Mode has AES in CBC alone (RFC 3602 5.3), and does not say so.
_MAIN_MODE_ENCRYPTION = {
    "DES": Confidentiality.DES,
    "3DES": Confidentiality.TRIPLE_DES,
    "AES-128": Confidentiality.AES_128_CBC,
    "AES-192": Confidentiality.AES_192_CBC,
    "AES-256": Confidentiality.AES_256_CBC,
}
_LIFETIME = re.compile(r"(?:([0-9]{1,10})K)?/?(?:([0-9]{1,10})S)?")
_METHOD_FORMS = "ESP[3DES,SHA1]:100000k/3600s, ESP[AES-128-GCM], AH[SHA1], AH[MD5]+ESP[DES,NONE]"


@dataclass(frozen=True, slots=True)
class SecurityMethod:
    """One Quick Mode offer: ESP (`confidentiality`, `integrity`), AH (`ah`) or both, and the lifetimes of its keys.

    `confidentiality` None means no ESP; `integrity` None means ESP without an HMAC.
    """

    confidentiality: Confidentiality | None
    integrity: Integrity | None
    ah: Integrity | None = None
    lifetime_seconds: int = DEFAULT_QUICK_MODE_SECONDS
    lifetime_kilobytes: int = DEFAULT_QUICK_MODE_KILOBYTES

    def __post_init__(self) -> None:
        _check_range("lifetime_seconds", self.lifetime_seconds, 1, MAXIMUM_QUICK_MODE_SECONDS)
        _check_range("lifetime_kilobytes", self.lifetime_kilobytes, 1, MAXIMUM_QUICK_MODE_KILOBYTES)
        if self.confidentiality is None:
            if self.ah is None:
                raise PolicyError("a security method needs ESP or AH")
            if self.integrity is not None:
                raise PolicyError("a security method without ESP has no ESP integrity; AH has its own")
        elif self.confidentiality.combined and self.integrity is not None:
            name = self.confidentiality.text
            raise PolicyError(f"{name} authenticates by itself; write ESP[{name}]")
        elif self.confidentiality is Confidentiality.NULL and self.integrity is None:
            raise PolicyError("ESP needs encryption or integrity (RFC 2406 5)")

    @property
    def windows_2000(self) -> bool:
        """Whether that system knows all that it takes."""
        parts = (self.confidentiality, self.integrity, self.ah)
        return all(part.windows_2000 for part in parts if part is not None)

    @classmethod
    def parse(cls, text: str) -> SecurityMethod:
        """From the text form, upper or lower case; a lifetime left out or 0 is the default (KB 2790970)."""
        algorithms, _, lifetime = text.strip().upper().partition(":")
        wrong = PolicyError(f"{text!r} is not a security method; accepted: {_METHOD_FORMS}")
        confidentiality: Confidentiality | None = None
        integrity: Integrity | None = None
        ah: Integrity | None = None
        for part in algorithms.split("+"):
            found = re.fullmatch(r"(ESP|AH)\[([^\[\],]+)(?:,([^\[\],]+))?\]", part.strip())
            if found is None:
                raise wrong
            protocol, first, second = found.groups()
            if protocol == "AH" and ah is None and second is None:
                ah = _look_up(_INTEGRITY, first)
            elif protocol == "ESP" and confidentiality is None:
                confidentiality = _look_up(_CONFIDENTIALITY, first)
                integrity = None if second in (None, "NONE") else _look_up(_INTEGRITY, second)
            else:
                raise wrong
        times = _LIFETIME.fullmatch(lifetime)
        if times is None:
            raise wrong
        kilobytes, seconds = (int(value or 0) for value in times.groups())
        return cls(
            confidentiality,
            integrity,
            ah,
            seconds or DEFAULT_QUICK_MODE_SECONDS,
            kilobytes or DEFAULT_QUICK_MODE_KILOBYTES,
        )

    @property
    def algorithms(self) -> str:
        """The text form without the lifetimes: what the monitor shows as Security."""
        parts = [f"AH[{self.ah.text}]"] if self.ah else []
        if self.confidentiality is not None:
            hmac = "" if self.confidentiality.combined else "," + (self.integrity.text if self.integrity else "NONE")
            parts.append(f"ESP[{self.confidentiality.text}{hmac}]")
        return "+".join(parts)

    def __str__(self) -> str:
        return f"{self.algorithms}:{self.lifetime_kilobytes}k/{self.lifetime_seconds}s"


def _look_up(names: dict[str, _Algorithm], text: str) -> _Algorithm:
    found = names.get(text.strip())
    if found is None:
        raise PolicyError(f"{text.strip()!r} is not an algorithm here; accepted: {', '.join(names)}")
    return found


# ---- filter action --------------------------------------------------------------------------------------------------


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

    def __post_init__(self) -> None:
        if self.pfs_group is not None and not self.pfs:
            raise PolicyError("a group for PFS without PFS; set pfs to true, or leave the group out")
        if self.action is FilterActionKind.NEGOTIATE:
            if not self.methods:
                raise PolicyError("negotiate needs at least one security method")
        elif self.methods or self.inbound_passthrough or self.allow_unsecured or self.pfs:
            raise PolicyError(f"{self.action.text} takes no security methods and no options of negotiate")

    @property
    def guid(self) -> uuid.UUID:
        return INBOUND_PASSTHROUGH_GUID if self.inbound_passthrough else self.action.guid


# ---- authentication and key exchange --------------------------------------------------------------------------------


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
class KeyExchangeMethod:
    """One Main Mode offer; `lifetime_seconds` 0 means that of the settings."""

    encryption: Confidentiality
    integrity: Integrity
    group: DiffieHellmanGroup
    lifetime_seconds: int = 0

    def __post_init__(self) -> None:
        if self.encryption not in _MAIN_MODE_ENCRYPTION.values():
            accepted = ", ".join(_MAIN_MODE_ENCRYPTION)
            raise PolicyError(f"{self.encryption.text} is not for Main Mode; accepted: {accepted}")
        _check_range("lifetime_seconds", self.lifetime_seconds, 0, _DWORD)

    @property
    def windows_2000(self) -> bool:
        """Whether that system knows all that it takes."""
        return self.encryption.windows_2000 and self.integrity.windows_2000 and self.group.windows_2000

    @property
    def encryption_text(self) -> str:
        """The encryption as a key exchange method writes it: "3DES", "AES-128"."""
        return self.encryption.text.removesuffix("-CBC")

    @classmethod
    def parse(cls, text: str) -> KeyExchangeMethod:
        """From "3DES-SHA1-2" (encryption, integrity, group), optionally with a lifetime: "AES-128-SHA256-14:3600s"."""
        found = re.fullmatch(r"([^:]+)-([^-:]+)-([0-9]{1,3})(?::([0-9]{1,10})S)?", text.strip().upper())
        if found is None:
            raise PolicyError(f"{text!r} is not a key exchange method; accepted: 3DES-SHA1-2, AES-128-SHA256-14:3600s")
        encryption, integrity, group, lifetime = found.groups()
        return cls(
            _look_up(_MAIN_MODE_ENCRYPTION, encryption),
            _look_up(_INTEGRITY, integrity),
            parse_group(int(group)),
            int(lifetime or 0),
        )

    def __str__(self) -> str:
        own = f":{self.lifetime_seconds}s" if self.lifetime_seconds else ""
        return f"{self.encryption_text}-{self.integrity.text}-{int(self.group)}{own}"


DEFAULT_KEY_EXCHANGE_METHODS = tuple(
    KeyExchangeMethod.parse(text) for text in ("3DES-SHA1-2", "3DES-MD5-2", "DES-SHA1-1", "DES-MD5-1")
)


@dataclass(frozen=True, slots=True)
class KeyExchangeSettings:
    """Main Mode settings of a policy ([MS-GPIPSEC] 2.2.1.2.1); `quick_mode_limit` 0 means no limit.

    `soft_lifetime_seconds` is netsh's softsaexpirationtime. At 0, as in Windows 2000, a soft SA remains as long as
    traffic is regularly sent (KB 257225).
    """

    methods: tuple[KeyExchangeMethod, ...] = DEFAULT_KEY_EXCHANGE_METHODS
    lifetime_seconds: int = DEFAULT_MAIN_MODE_SECONDS
    master_key_pfs: bool = False
    quick_mode_limit: int = 0
    soft_lifetime_seconds: int = 0

    def __post_init__(self) -> None:
        if not self.methods:
            raise PolicyError("key exchange needs at least one method")
        _check_range("lifetime_seconds", self.lifetime_seconds, 1, _DWORD)
        _check_range("quick_mode_limit", self.quick_mode_limit, 0, _DWORD)
        _check_range("soft_lifetime_seconds", self.soft_lifetime_seconds, 0, _DWORD)

    def lifetime_of(self, method: KeyExchangeMethod) -> int:
        """Seconds that a Main Mode SA agreed by `method` may live."""
        return method.lifetime_seconds or self.lifetime_seconds

    @property
    def quick_modes_per_main_mode(self) -> int:
        """How many Quick Modes one Main Mode SA may serve; 0 is unlimited. Master key PFS means one only."""
        return 1 if self.master_key_pfs else self.quick_mode_limit


# ---- rule and policy ------------------------------------------------------------------------------------------------


class ConnectionType(Enum):
    """The interfaces a rule is for."""

    ALL = "all"
    LAN = "lan"
    REMOTE_ACCESS = "remote_access"


@dataclass(frozen=True, slots=True)
class Rule:
    """Traffic (filter list), what to do with it (filter action) and how to know the peer (authentication methods).

    A tunnel needs two rules: one with the outbound filter and the remote gateway as endpoint, one with the inbound
    filter and the own address as endpoint.
    """

    name: str
    filter_list: FilterList
    filter_action: FilterAction
    authentication_methods: tuple[AuthenticationMethod, ...] = (AuthenticationMethod(AuthenticationKind.KERBEROS),)
    tunnel_endpoint: IPv4Address | None = None
    connection_type: ConnectionType = ConnectionType.ALL
    active: bool = True

    def __post_init__(self) -> None:
        if self.filter_action.action is FilterActionKind.NEGOTIATE:
            if not self.authentication_methods:
                raise PolicyError("a rule that negotiates needs at least one authentication method")
        elif self.tunnel_endpoint is not None:
            raise PolicyError(f"a tunnel needs the action negotiate, not {self.filter_action.action.text}")
        if self.tunnel_endpoint is not None and not _is_host(self.tunnel_endpoint):
            raise PolicyError(f"{self.tunnel_endpoint} is not a tunnel endpoint; accepted: the address of a host")


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole IPsec policy."""

    name: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    key_exchange: KeyExchangeSettings = KeyExchangeSettings()
    polling_interval_seconds: int = DEFAULT_POLLING_SECONDS

    def __post_init__(self) -> None:
        if not self.name:
            raise PolicyError("a policy needs a name")
        _check_range("polling_interval_seconds", self.polling_interval_seconds, 1, _DWORD)

    @property
    def policy_id(self) -> uuid.UUID:
        """An identifier that depends on the name alone, so that runs repeat."""
        return uuid.uuid5(_NAMESPACE, self.name)

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
            for item in other.filter_list.filters
        }
        lines: list[str] = []
        for item in rule.filter_list.filters:
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
