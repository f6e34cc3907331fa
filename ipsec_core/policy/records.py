"""What the records of `blobs` mean: records <-> the objects of the model.

Algorithms have the numbers of Windows 2000 where it has one (those of the objects of a real domain, which differ from
the table of [MS-GPIPSEC] 2.2.1.4.1), else those of IKE (RFC 2409 appendix A; RFC 2407 4.4.4 and 4.5 with RFC 3602,
3686, 4106 and 4868), AES with its key length in `key_bits`. What no system stored, soft lifetime and PFS group, is a
section of our own behind the padding, where older systems do not look.

Readers raise PolicyError of one line; the caller puts the object's name in front. Writers take the record that is to
change, None for a new one, and keep of it what the change leaves alone, reserved bytes and what lies in them included.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.errors import PolicyError
from ipsec_core.policy.blobs import (
    AH,
    ALL_INTERFACES,
    DIAL_UP_INTERFACES,
    ESP,
    LAN_INTERFACES,
    NO_TEXT,
    AlgorithmData,
    AuthenticationData,
    FilterData,
    FilterRecord,
    IsakmpData,
    MainModeMethod,
    NegotiationData,
    NfaData,
    PolicyData,
    QuickModeOfferData,
    bytes_of,
    text_of,
)
from ipsec_core.policy.methods import (
    DEFAULT_QUICK_MODE_KILOBYTES,
    DEFAULT_QUICK_MODE_SECONDS,
    Confidentiality,
    DiffieHellmanGroup,
    Integrity,
    KeyExchangeMethod,
    SecurityMethod,
    parse_group,
)
from ipsec_core.policy.model import (
    DEFAULT_MAIN_MODE_SECONDS,
    DEFAULT_POLLING_SECONDS,
    INBOUND_PASSTHROUGH_GUID,
    AuthenticationKind,
    AuthenticationMethod,
    ConnectionType,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Rule,
)
from ipsec_core.policy.objects import guid_text
from ipsec_core.policy.ranges import DWORD
from ipsec_core.policy.selectors import Address, Filter

SECTION_GUID = uuid.UUID("1CEC9B6A-6E0D-4F67-9A49-5B7D0C2572A5")
_SECTION = struct.Struct("<16sII")  # GUID, length of what follows, the number
_NO_ADDRESS = IPv4Address(0)

# Key bits and rounds of what has one length alone are 64 and 8 in the objects of a real domain.
_OLD_BITS, _OLD_ROUNDS = 64, 8
_ESP = {Confidentiality.NULL: 0, Confidentiality.DES: 1, Confidentiality.TRIPLE_DES: 3}
_ESP_READ = {number: item for item, number in _ESP.items()} | {2: Confidentiality.NULL}
_AES = {
    12: {bits: Confidentiality[f"AES_{bits}_CBC"] for bits in (128, 192, 256)},
    13: {bits: Confidentiality[f"AES_{bits}_CTR"] for bits in (128, 192, 256)},
    18: {bits: Confidentiality[f"AES_{bits}_GCM_8"] for bits in (128, 192, 256)},
    19: {bits: Confidentiality[f"AES_{bits}_GCM_12"] for bits in (128, 192, 256)},
    20: {bits: Confidentiality[f"AES_{bits}_GCM"] for bits in (128, 192, 256)},
}
_INTEGRITY = {1: Integrity.MD5, 2: Integrity.SHA1, 5: Integrity.SHA256, 6: Integrity.SHA384, 7: Integrity.SHA512}
_HASH = {1: Integrity.MD5, 2: Integrity.SHA1, 4: Integrity.SHA256, 5: Integrity.SHA384, 6: Integrity.SHA512}
_MAIN_MODE = {1: Confidentiality.DES, 2: Confidentiality.TRIPLE_DES, 3: Confidentiality.TRIPLE_DES}
_MAIN_MODE_AES = 7
_GROUP_14 = 0x1000_0001
_INTERFACES = {
    ALL_INTERFACES: ConnectionType.ALL,
    LAN_INTERFACES: ConnectionType.LAN,
    DIAL_UP_INTERFACES: ConnectionType.REMOTE_ACCESS,
}


def _accepted(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


# -- the section of our own --


def _section(tail: bytes) -> int:
    """The number of our section, 0 without one."""
    at = tail.rfind(SECTION_GUID.bytes_le)
    if at < 0:
        return 0
    if len(tail) - at < _SECTION.size or tail[at + 16 : at + 20] != b"\4\0\0\0":
        raise PolicyError(f"the section {guid_text(SECTION_GUID)} is not {_SECTION.size} bytes long")
    number: int = _SECTION.unpack_from(tail, at)[2]
    return number


def _with_section(tail: bytes, number: int) -> bytes:
    """The tail with that number in our section; 0 needs none. The sections of others remain before it."""
    at = tail.rfind(SECTION_GUID.bytes_le)
    before, after = (tail, b"") if at < 0 else (tail[:at], tail[at + _SECTION.size :])
    own = _SECTION.pack(SECTION_GUID.bytes_le, 4, number) if number else b""
    return before + own + after


# -- ipsecPolicy --


def polling_of(data: PolicyData) -> int:
    return data.polling_seconds or DEFAULT_POLLING_SECONDS


def policy_data(polling_seconds: int, old: PolicyData | None) -> PolicyData:
    if old is not None and polling_of(old) == polling_seconds:
        return old
    return replace(old or PolicyData(0), polling_seconds=polling_seconds)


# -- ipsecISAKMPPolicy --


def key_exchange_of(data: IsakmpData, guid: uuid.UUID) -> KeyExchangeSettings:
    """Windows 2000 has lifetime and limit in each method, and zeros in the settings: the first method's count then."""
    first = data.methods[0] if data.methods else None
    seconds = data.lifetime_seconds or (first.lifetime_seconds if first else 0) or DEFAULT_MAIN_MODE_SECONDS
    return KeyExchangeSettings(
        tuple(
            KeyExchangeMethod(
                *_main_mode_of(method), 0 if method.lifetime_seconds == seconds else method.lifetime_seconds
            )
            for method in data.methods
        ),
        seconds,
        bool(data.master_pfs),
        data.quick_mode_limit or (first.quick_mode_limit if first else 0),
        _section(data.tail),
        guid,
    )


def _main_mode_of(method: MainModeMethod) -> tuple[Confidentiality, Integrity, DiffieHellmanGroup]:
    encryption = _MAIN_MODE.get(method.cipher) if method.cipher != _MAIN_MODE_AES else _AES[12].get(method.key_bits)
    if encryption is None:
        raise PolicyError(
            f"encryption {method.cipher} with {method.key_bits} bits in a Main Mode method; accepted: 1 (DES), "
            f"3 (3DES), {_MAIN_MODE_AES} (AES) with 128, 192, 256 bits"
        )
    integrity = _HASH.get(method.hash)
    if integrity is None:
        raise PolicyError(f"hash {method.hash} in a Main Mode method; accepted: {_accepted(_HASH)}")
    return encryption, integrity, parse_group(14 if method.group == _GROUP_14 else method.group)


def isakmp_data(settings: KeyExchangeSettings, old: IsakmpData | None) -> IsakmpData:
    base = old or IsakmpData(())
    kept = {_main_mode_of(method): method for method in reversed(base.methods)}
    follows = settings.methods[0].lifetime_seconds == 0
    return replace(
        base,
        methods=tuple(_main_mode(method, settings, kept) for method in settings.methods),
        master_pfs=int(settings.master_key_pfs),
        quick_mode_limit=settings.quick_mode_limit,
        lifetime_seconds=0 if follows else settings.lifetime_seconds,
        tail=_with_section(base.tail, settings.soft_lifetime_seconds),
    )


def _main_mode(
    method: KeyExchangeMethod,
    settings: KeyExchangeSettings,
    kept: dict[tuple[Confidentiality, Integrity, DiffieHellmanGroup], MainModeMethod],
) -> MainModeMethod:
    record = kept.get((method.encryption, method.integrity, method.group))
    if record is None:
        bits = next((bits for bits, item in _AES[12].items() if item is method.encryption), None)
        cipher = next((number for number, item in reversed(_MAIN_MODE.items()) if item is method.encryption), 0)
        record = MainModeMethod(
            cipher if bits is None else _MAIN_MODE_AES,
            next(number for number, item in _HASH.items() if item is method.integrity),
            _GROUP_14 if method.group is DiffieHellmanGroup.MODP_2048 else int(method.group),
            0,
            key_bits=_OLD_BITS if bits is None else bits,
            rounds=_OLD_ROUNDS,
        )
    return replace(record, lifetime_seconds=settings.lifetime_of(method), quick_mode_limit=settings.quick_mode_limit)


# -- ipsecNFA --


def authentication_of(data: NfaData) -> tuple[AuthenticationMethod, ...]:
    methods: list[AuthenticationMethod] = []
    for one in data.authentication:
        if one.kind not in (kind.value for kind in AuthenticationKind):
            accepted = ", ".join(f"{kind.value} ({kind.name})" for kind in AuthenticationKind)
            raise PolicyError(f"{one.kind} is not a kind of authentication; accepted: {accepted}")
        kind = AuthenticationKind(one.kind)
        methods.append(AuthenticationMethod(kind, "" if kind is AuthenticationKind.KERBEROS else text_of(one.value)))
    return tuple(methods)


def connection_of(data: NfaData) -> ConnectionType:
    if data.interface_type not in _INTERFACES:
        accepted = ", ".join(f"{number:#x} ({item.value})" for number, item in _INTERFACES.items())
        raise PolicyError(f"{data.interface_type:#x} is not an interface type; accepted: {accepted}")
    return _INTERFACES[data.interface_type]


def tunnel_of(data: NfaData) -> IPv4Address | None:
    return data.tunnel_endpoint if data.is_tunnel else None


def nfa_data(rule: Rule, old: NfaData | None) -> NfaData:
    record = old or NfaData(())
    if authentication_of(record) != rule.authentication_methods:
        stored = tuple(_authentication(method) for method in rule.authentication_methods)
        record = replace(record, authentication=stored)
    if connection_of(record) is not rule.connection_type:
        number = next(number for number, item in _INTERFACES.items() if item is rule.connection_type)
        record = replace(record, interface_type=number)
    if tunnel_of(record) != rule.tunnel_endpoint:
        endpoint = rule.tunnel_endpoint
        record = replace(
            record,
            tunnel_endpoint=endpoint or _NO_ADDRESS,
            is_tunnel=int(endpoint is not None),
            endpoint_name=NO_TEXT,
        )
    if bool(record.active) != rule.active:
        record = replace(record, active=int(rule.active))
    return record


def _authentication(method: AuthenticationMethod) -> AuthenticationData:
    return AuthenticationData(method.kind.value, bytes_of(method.value))


# -- ipsecNegotiationPolicy --


def action_kind_of(guid: uuid.UUID | None) -> tuple[FilterActionKind, bool]:
    """The action, and whether inbound traffic passes in the clear."""
    if guid == INBOUND_PASSTHROUGH_GUID:
        return FilterActionKind.NEGOTIATE, True
    for kind in FilterActionKind:
        if kind.guid == guid:
            return kind, False
    accepted = ", ".join(f"{guid_text(kind.guid)} ({kind.text})" for kind in FilterActionKind)
    shown = guid_text(guid) if guid else "none"
    raise PolicyError(
        f"ipsecNegotiationPolicyAction: {shown}; accepted: {accepted}, "
        f"{guid_text(INBOUND_PASSTHROUGH_GUID)} (inbound pass-through)"
    )


def action_of(
    data: NegotiationData, guid: uuid.UUID, action: uuid.UUID | None, name: str = "", description: str = ""
) -> FilterAction:
    """Offers of an action that does not negotiate mean nothing; one without algorithms is the fall back to clear."""
    kind, passthrough = action_kind_of(action)
    if kind is not FilterActionKind.NEGOTIATE:
        return FilterAction(name, kind, description=description, guid=guid)
    offers = [offer for offer in data.offers if offer.count]
    # [MS-GPIPSEC] has it the other way round; actions without PFS hold 0.
    pfs = any(offer.pfs == 1 for offer in offers)
    group = _section(data.tail) if pfs else 0
    return FilterAction(
        name,
        kind,
        tuple(_method_of(offer) for offer in offers),
        passthrough,
        len(offers) < len(data.offers),
        pfs,
        parse_group(group) if group else None,
        description,
        guid,
    )


def _method_of(offer: QuickModeOfferData) -> SecurityMethod:
    confidentiality: Confidentiality | None = None
    integrity: Integrity | None = None
    ah: Integrity | None = None
    for one in offer.algorithms[: offer.count]:
        if one.kind == AH and ah is None:
            ah = _integrity_of(one.algorithm, "AH")
        elif one.kind == ESP and confidentiality is None:
            confidentiality = _confidentiality_of(one)
            integrity = _integrity_of(one.integrity, "ESP integrity") if one.integrity else None
        else:
            raise PolicyError(
                f"protocol {one.kind} in a Quick Mode offer; accepted: {AH} (AH) and {ESP} (ESP), each once"
            )
    return SecurityMethod(
        confidentiality,
        integrity,
        ah,
        offer.lifetime_seconds or DEFAULT_QUICK_MODE_SECONDS,
        offer.lifetime_kilobytes or DEFAULT_QUICK_MODE_KILOBYTES,
    )


def _confidentiality_of(one: AlgorithmData) -> Confidentiality:
    found = _ESP_READ.get(one.algorithm) or _AES.get(one.algorithm, {}).get(one.key_bits)
    if found is None:
        raise PolicyError(
            f"ESP algorithm {one.algorithm} with {one.key_bits} bits; accepted: {_accepted(_ESP_READ)}, "
            f"with 128, 192, 256 bits {_accepted(_AES)}"
        )
    return found


def _integrity_of(number: int, what: str) -> Integrity:
    if number not in _INTEGRITY:
        raise PolicyError(f"{what} algorithm {number}; accepted: {_accepted(_INTEGRITY)}")
    return _INTEGRITY[number]


def negotiation_data(action: FilterAction, old: NegotiationData | None) -> NegotiationData:
    base = old or NegotiationData()
    kept = {_method_of(offer): offer for offer in reversed(base.offers) if offer.count}
    offers = [replace(_offer(method, kept), pfs=int(action.pfs)) for method in action.methods]
    if action.allow_unsecured:
        offers.append(next((offer for offer in base.offers if not offer.count), QuickModeOfferData()))
    return replace(base, offers=tuple(offers), tail=_with_section(base.tail, int(action.pfs_group or 0)))


def _offer(method: SecurityMethod, kept: dict[SecurityMethod, QuickModeOfferData]) -> QuickModeOfferData:
    if method in kept:
        return kept[method]
    algorithms: list[AlgorithmData] = []
    if method.ah is not None:
        algorithms.append(AlgorithmData(_number_of(method.ah), 0, AH, _OLD_BITS, _OLD_ROUNDS))
    if method.confidentiality is not None:
        number, bits = _ESP.get(method.confidentiality), _OLD_BITS
        if number is None:
            number, bits = next(
                (number, bits)
                for number, lengths in _AES.items()
                for bits, item in lengths.items()
                if item is method.confidentiality
            )
        integrity = _number_of(method.integrity) if method.integrity else 0
        algorithms.append(AlgorithmData(number, integrity, ESP, bits, _OLD_ROUNDS))
    seconds, kilobytes = method.lifetime_seconds, method.lifetime_kilobytes
    if (seconds, kilobytes) == (DEFAULT_QUICK_MODE_SECONDS, DEFAULT_QUICK_MODE_KILOBYTES):
        seconds = kilobytes = 0
    first, second, third = (*algorithms, *(AlgorithmData(),) * (3 - len(algorithms)))
    return QuickModeOfferData(seconds, kilobytes, count=len(algorithms), algorithms=(first, second, third))


def _number_of(integrity: Integrity) -> int:
    return next(number for number, item in _INTEGRITY.items() if item is integrity)


# -- ipsecFilter --


def filters_of(data: FilterData) -> tuple[Filter, ...]:
    filters: list[Filter] = []
    for index, record in enumerate(data.records, 1):
        try:
            filters.append(_filter_of(record))
        except PolicyError as error:
            raise PolicyError(f"filter {index}: {error}") from None
    return tuple(filters)


def _filter_of(record: FilterRecord) -> Filter:
    if record.special:
        raise PolicyError(
            f"special address {record.special} (of a DNS, WINS or DHCP server or the default gateway), which "
            "Windows 2000 does not have; accepted: 0"
        )
    return Filter(
        text_of(record.description),
        _address_of(record.source, record.source_mask, record.source_name),
        _address_of(record.destination, record.destination_mask, record.destination_name),
        record.protocol,
        record.source_port,
        record.destination_port,
        bool(record.mirrored),
        record.filter_id,
    )


def _address_of(address: IPv4Address, mask: IPv4Address, name: bytes) -> Address:
    holes = ~int(mask) & DWORD
    if holes & (holes + 1):
        raise PolicyError(f"the mask {mask} of {address} has holes; accepted: 0.0.0.0 to 255.255.255.255 without")
    network = IPv4Network((int(address), 32 - holes.bit_length()), strict=False)
    return Address(network, "" if name == NO_TEXT else text_of(name))


def filter_data(filters: Iterable[Filter], old: FilterData | None) -> FilterData:
    """The filters need GUIDs: by those records of `old` are found again."""
    base = old or FilterData(())
    same = {_everything(_filter_of(record)): record for record in base.records}
    by_id = {record.filter_id: record for record in base.records}
    records = tuple(
        same.get(_everything(one)) or _record(one, by_id.get(one.guid) if one.guid else None) for one in filters
    )
    return replace(base, records=records)


def _everything(one: Filter) -> tuple[Filter, uuid.UUID | None, str, str]:
    """Also what does not count when filters are compared."""
    return one, one.guid, one.source.dns_name, one.destination.dns_name


def same_filters(one: Iterable[Filter], other: Iterable[Filter]) -> bool:
    return [_everything(item) for item in one] == [_everything(item) for item in other]


def _record(one: Filter, old: FilterRecord | None) -> FilterRecord:
    assert one.guid is not None
    base = old or FilterRecord(one.guid, _NO_ADDRESS, _NO_ADDRESS, _NO_ADDRESS, _NO_ADDRESS)
    return replace(
        base,
        source=one.source.network.network_address,
        source_mask=one.source.network.netmask,
        destination=one.destination.network.network_address,
        destination_mask=one.destination.network.netmask,
        protocol=one.protocol,
        source_port=one.source_port,
        destination_port=one.destination_port,
        mirrored=int(one.mirrored),
        description=bytes_of(one.name),
        source_name=bytes_of(one.source.dns_name),
        destination_name=bytes_of(one.destination.dns_name),
    )
