"""The three built-in policies as objects, those of a real domain (and of every Windows 2000) byte for byte.

Client (Respond Only), Server (Request Security), Secure Server (Require Security), and what they share: the filter
lists All IP Traffic and All ICMP Traffic, the filter actions Permit, Request Security (Optional) and Require Security.
None is assigned. One more object, which no policy refers to, says who wrote the store.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import replace
from ipaddress import IPv4Address

from ipsec_core.errors import PolicyError
from ipsec_core.policy.blobs import (
    AH,
    ESP,
    AlgorithmData,
    AuthenticationData,
    BlobData,
    FilterData,
    FilterRecord,
    IsakmpData,
    MainModeMethod,
    NegotiationData,
    NfaData,
    PolicyData,
    QuickModeOfferData,
    VersionData,
    bytes_of,
    encode,
)
from ipsec_core.policy.model import (
    DEFAULT_MAIN_MODE_SECONDS,
    DEFAULT_POLLING_SECONDS,
    INBOUND_PASSTHROUGH_GUID,
    AuthenticationKind,
    FilterActionKind,
    Policy,
)
from ipsec_core.policy.objects import (
    DEFAULT_RESPONSE_TYPE,
    STANDARD_TYPE,
    ObjectClass,
    ObjectName,
    StoredObject,
)
from ipsec_core.policy.storage import read_policy

BUILTIN_NAMES = ("Client (Respond Only)", "Server (Request Security)", "Secure Server (Require Security)")

_REQUEST = (
    "For all IP traffic, always request security using Kerberos trust. Allow unsecured communication with clients that "
    "do not respond to request."
)
_REQUIRE = (
    "For all IP traffic, always require security using Kerberos trust. Do NOT allow unsecured communication with "
    "untrusted clients."
)
_RESPOND = (
    "Communicate normally (unsecured). Use the default response rule to negotiate with servers that request security. "
    "Only the requested protocol and port traffic with that server is secured."
)
_REQUEST_ACTION = (
    "Accepts unsecured communication, but requests clients to establish trust and security methods.  Will communicate "
    "insecurely to untrusted clients if they do not respond to request."
)
_REQUIRE_ACTION = (
    "Accepts unsecured communication, but always requires clients to establish trust and security methods.  Will NOT "
    "communicate with untrusted clients."
)
_ICMP_RULE = "Permit unsecure ICMP packets to pass through."
_ALL_IP = (
    "Matches all IP packets from this computer to any other computer, except broadcast, multicast, Kerberos, RSVP and "
    "ISAKMP (IKE)."
)
_ALL_ICMP = "Matches all ICMP packets between this computer and any other computer."


def _name(kind: ObjectClass, first: str) -> ObjectName:
    """By the first part of the GUID, which tells the family of the others."""
    rest = {"723852": "70FA-11D1-864C-14A300000000", "59319": "5EE3-11D2-ACE8-0060B0ECCA17"}
    family = next((tail for head, tail in rest.items() if first.startswith(head)), "071D-11D3-AD22-0060B0ECCA17")
    return ObjectName.of(kind, uuid.UUID(f"{first}-{family}"))


_POLICIES = {
    name: _name(ObjectClass.POLICY, first)
    for name, first in zip(BUILTIN_NAMES, ("72385236", "72385230", "7238523C"), strict=True)
}
_PERMIT = _name(ObjectClass.NEGOTIATION, "7238523B")
_REQUEST_SECURITY = _name(ObjectClass.NEGOTIATION, "72385233")
_REQUIRE_SECURITY = _name(ObjectClass.NEGOTIATION, "7238523F")
_IP_TRAFFIC = _name(ObjectClass.FILTER, "7238523A")
_ICMP_TRAFFIC = _name(ObjectClass.FILTER, "72385235")
_VERSION = ObjectName.of(ObjectClass.NFA, uuid.UUID("6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17"))

# 0xCD is what a compiler fills memory with that nobody has written to.
_UNWRITTEN = b"\xcd"
_DES, _3DES, _MD5, _SHA1 = 1, 3, 1, 2


def _isakmp(instance: str) -> IsakmpData:
    methods = tuple(
        MainModeMethod(
            cipher,
            hash_,
            group,
            DEFAULT_MAIN_MODE_SECONDS,
            version=bytes(2) + 2 * _UNWRITTEN,
            reserved=b"\x40" + bytes(20) + 3 * _UNWRITTEN,
            pfs=4 * _UNWRITTEN,
        )
        for cipher, hash_, group in ((_3DES, _SHA1, 2), (_3DES, _MD5, 2), (_DES, _SHA1, 1), (_DES, _MD5, 1))
    )
    return IsakmpData(methods, _name(ObjectClass.ISAKMP, instance).guid.bytes_le)


def _esp(cipher: int, integrity: int) -> AlgorithmData:
    return AlgorithmData(cipher, integrity, ESP, 64, 8)


def _ah(integrity: int) -> AlgorithmData:
    return AlgorithmData(integrity, 0, AH, 64, 8)


def _left(memory: str | bytes) -> tuple[AlgorithmData, ...]:
    """What lay in the memory of algorithms that an offer does not have: mostly text that another had written there."""
    stored = memory.encode("utf-16-le") if isinstance(memory, str) else memory
    return tuple(AlgorithmData(*numbers) for numbers in struct.iter_unpack("<5I", stored))


def _offer(algorithm: AlgorithmData, seconds: int, kilobytes: int, memory: str | bytes) -> QuickModeOfferData:
    second, third = _left(memory)
    return QuickModeOfferData(seconds, kilobytes, count=1, algorithms=(algorithm, second, third))


_NOTHING = bytes(40)
_RESPONSE_DATA = NegotiationData(
    tuple(
        _offer(algorithm, 0, 0, _NOTHING)
        for algorithm in (
            _esp(_3DES, _SHA1),
            _esp(_3DES, _MD5),
            _esp(_DES, _SHA1),
            _esp(_DES, _MD5),
            _ah(_SHA1),
            _ah(_MD5),
        )
    )
)
_CLEAR, _CLEAR_SECOND, _CLEAR_THIRD = _left(
    struct.pack("<5I", _MD5, _MD5, ESP, 64, 8) + "6C-3B97-4552-8E45-99".encode("utf-16-le")
)
_REQUEST_DATA = NegotiationData(
    (
        _offer(_esp(_3DES, _SHA1), 900, 100_000, "\\Services\\PolicyAgen"),
        _offer(
            _esp(_DES, _SHA1),
            900,
            100_000,
            bytes.fromhex("0000000055f4b2375c004c006f00630015000f0001000800200265002002650058c47605f8ce7805"),
        ),
        _offer(_ah(_SHA1), 300, 100_000, "-9AC1-4D6D-A1B0-1587"),
        _offer(_ah(_MD5), 300, 100_000, "et\\Services\\PolicyAg"),
        QuickModeOfferData(algorithms=(_CLEAR, _CLEAR_SECOND, _CLEAR_THIRD)),  # the fall back to clear
    )
)
_REQUIRE_DATA = NegotiationData(
    (
        _offer(_esp(_3DES, _SHA1), 900, 100_000, "urrentControlSet\\Ser"),
        _offer(_esp(_3DES, _MD5), 900, 100_000, "psecNFA{7238523E-70F"),
        _offer(_esp(_DES, _SHA1), 900, 100_000, "licy\\Local\\ipsecNFA{"),
        _offer(_esp(_DES, _MD5), 900, 100_000, "ecNFA{BFC7C35A-B592-"),
    )
)
_KERBEROS_RULE = NfaData((AuthenticationData(AuthenticationKind.KERBEROS.value),))
_VERSION_DATA = VersionData(
    0x0001_0000,
    916_874_918,  # 20 January 1999
    (bytes_of("Windows 2000"), bytes_of("Administrator"), bytes_of("\r\n")),
    tail=encode(_KERBEROS_RULE),
)


def _filter(first: str, protocol: int, description: str) -> FilterData:
    """My address to any."""
    none, host = IPv4Address("0.0.0.0"), IPv4Address("255.255.255.255")
    guid = _name(ObjectClass.FILTER, first).guid
    return FilterData((FilterRecord(guid, none, host, none, none, protocol, description=bytes_of(description)),))


def _policy(
    name: str, description: str, isakmp: str, instance: str, response: tuple[str, str], *others: StoredObject
) -> tuple[StoredObject, ...]:
    """The objects of one policy: itself, Main Mode, rules. The default response is the rule before the last of them."""
    policy, main_mode = _POLICIES[name], _name(ObjectClass.ISAKMP, isakmp)
    rule, action = _name(ObjectClass.NFA, response[0]), _name(ObjectClass.NEGOTIATION, response[1])
    respond = StoredObject(rule, encode(_KERBEROS_RULE), negotiation=action)
    rules = tuple(replace(one, owners=(policy,)) for one in (*others[:1], respond, *others[1:]))
    return (
        StoredObject(
            policy,
            encode(PolicyData(DEFAULT_POLLING_SECONDS)),
            display_name=name,
            description=description,
            isakmp=main_mode,
            nfas=tuple(one.name for one in rules),
        ),
        StoredObject(main_mode, encode(_isakmp(instance)), owners=(policy,)),
        *rules,
        StoredObject(
            action,
            encode(_RESPONSE_DATA),
            owners=(rule,),
            action=FilterActionKind.NEGOTIATE.guid,
            kind=DEFAULT_RESPONSE_TYPE,
        ),
    )


def _rule(first: str, action: ObjectName, filters: ObjectName, name: str, description: str) -> StoredObject:
    return StoredObject(
        _name(ObjectClass.NFA, first),
        encode(_KERBEROS_RULE),
        display_name=name,
        description=description,
        negotiation=action,
        filters=(filters,),
    )


def _action(
    name: ObjectName, data: NegotiationData, display_name: str, description: str, action: uuid.UUID
) -> StoredObject:
    return StoredObject(
        name, encode(data), display_name=display_name, description=description, action=action, kind=STANDARD_TYPE
    )


def _plain(name: ObjectName, data: BlobData, display_name: str, description: str) -> StoredObject:
    return StoredObject(name, encode(data), display_name=display_name, description=description)


def builtin_objects(when_changed: int = 0) -> tuple[StoredObject, ...]:
    """All 22, linked both ways; `when_changed` in seconds since 1970."""
    client, server, secure = BUILTIN_NAMES
    objects = (
        *_policy(client, _RESPOND, "72385237", "5F41EC73", ("59319C04", "59319C01")),
        *_policy(
            server,
            _REQUEST,
            "72385231",
            "5119D268",
            ("59319BE2", "59319BDF"),
            _rule("594272E2", _PERMIT, _ICMP_TRAFFIC, _ICMP_RULE, _ICMP_RULE),
            _rule("72385232", _REQUEST_SECURITY, _IP_TRAFFIC, "Request Security (Optional) Rule", _REQUEST),
        ),
        *_policy(
            secure,
            _REQUIRE,
            "7238523D",
            "594272F9",
            ("59319BF3", "59319BF0"),
            _rule("594272FD", _PERMIT, _ICMP_TRAFFIC, _ICMP_RULE, _ICMP_RULE),
            _rule("7238523E", _REQUIRE_SECURITY, _IP_TRAFFIC, "Require Security", _REQUIRE_ACTION),
        ),
        _action(
            _PERMIT,
            NegotiationData(),
            "Permit",
            "Permit unsecured IP packets to pass through.",
            FilterActionKind.PERMIT.guid,
        ),
        _action(
            _REQUEST_SECURITY, _REQUEST_DATA, "Request Security (Optional)", _REQUEST_ACTION, INBOUND_PASSTHROUGH_GUID
        ),
        _action(_REQUIRE_SECURITY, _REQUIRE_DATA, "Require Security", _REQUIRE_ACTION, INBOUND_PASSTHROUGH_GUID),
        _plain(_IP_TRAFFIC, _filter("59319BDD", 0, ""), "All IP Traffic", _ALL_IP),
        _plain(_ICMP_TRAFFIC, _filter("5119D263", 1, "ICMP"), "All ICMP Traffic", _ALL_ICMP),
        _plain(_VERSION, _VERSION_DATA, "Version Information Object", "Version Information Object"),
    )
    return tuple(
        replace(
            item,
            when_changed=when_changed,
            owners=item.owners or tuple(one.name for one in objects if item.name in one.references),
        )
        for item in objects
    )


def builtin_policy(name: str) -> Policy:
    """One of `BUILTIN_NAMES`, any case."""
    found = next((known for known in BUILTIN_NAMES if known.casefold() == name.casefold()), None)
    if found is None:
        raise PolicyError(f"{name!r} is not a built-in policy; accepted: {', '.join(BUILTIN_NAMES)}")
    return read_policy(builtin_objects(), _POLICIES[found].guid)
