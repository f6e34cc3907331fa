"""The messages of Kerberos V5 that a GSS-API context is made of (RFC 4120 5.3, 5.5, appendix A), for `realm`."""

from __future__ import annotations

from typing import Any, TypeVar

from pyasn1.codec.der import decoder, encoder
from pyasn1.error import PyAsn1Error
from pyasn1.type import char, namedtype, tag, univ, useful

T = TypeVar("T", bound=univ.Sequence)

AP_REQUEST, AP_REPLY = 14, 15
VERSION = 5


def _fields(*kinds: tuple[str, Any] | None) -> namedtype.NamedTypes:
    """The fields of a SEQUENCE by their context tags, from 0 on; a name that ends with "?" is optional."""
    found = []
    for number, item in enumerate(kinds):
        if item is None:
            continue
        name, kind = item
        tagged = kind.subtype(explicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatSimple, number))
        make = namedtype.OptionalNamedType if name.endswith("?") else namedtype.NamedType
        found.append(make(name.removesuffix("?"), tagged))
    return namedtype.NamedTypes(*found)


def _application(number: int) -> Any:
    tags: Any = univ.Sequence.tagSet
    return tags.tagExplicitly(tag.Tag(tag.tagClassApplication, tag.tagFormatConstructed, number))


class _Strings(univ.SequenceOf):
    componentType = char.GeneralString()


class PrincipalName(univ.Sequence):
    componentType = _fields(("name-type", univ.Integer()), ("name-string", _Strings()))


class EncryptedData(univ.Sequence):
    componentType = _fields(("etype", univ.Integer()), ("kvno?", univ.Integer()), ("cipher", univ.OctetString()))


class EncryptionKey(univ.Sequence):
    componentType = _fields(("keytype", univ.Integer()), ("keyvalue", univ.OctetString()))


class Checksum(univ.Sequence):
    componentType = _fields(("cksumtype", univ.Integer()), ("checksum", univ.OctetString()))


class _Transited(univ.Sequence):
    componentType = _fields(("tr-type", univ.Integer()), ("contents", univ.OctetString()))


class _Tagged(univ.Sequence):
    """An element of HostAddresses or AuthorizationData: a number and bytes."""

    componentType = _fields(("type", univ.Integer()), ("data", univ.OctetString()))


class _TaggedList(univ.SequenceOf):
    componentType = _Tagged()


class Ticket(univ.Sequence):
    tagSet = _application(1)
    componentType = _fields(
        ("tkt-vno", univ.Integer()),
        ("realm", char.GeneralString()),
        ("sname", PrincipalName()),
        ("enc-part", EncryptedData()),
    )


class EncTicketPart(univ.Sequence):
    tagSet = _application(3)
    componentType = _fields(
        ("flags", univ.BitString()),
        ("key", EncryptionKey()),
        ("crealm", char.GeneralString()),
        ("cname", PrincipalName()),
        ("transited", _Transited()),
        ("authtime", useful.GeneralizedTime()),
        ("starttime?", useful.GeneralizedTime()),
        ("endtime", useful.GeneralizedTime()),
        ("renew-till?", useful.GeneralizedTime()),
        ("caddr?", _TaggedList()),
        ("authorization-data?", _TaggedList()),
    )


class Authenticator(univ.Sequence):
    tagSet = _application(2)
    componentType = _fields(
        ("authenticator-vno", univ.Integer()),
        ("crealm", char.GeneralString()),
        ("cname", PrincipalName()),
        ("cksum?", Checksum()),
        ("cusec", univ.Integer()),
        ("ctime", useful.GeneralizedTime()),
        ("subkey?", EncryptionKey()),
        ("seq-number?", univ.Integer()),
        ("authorization-data?", _TaggedList()),
    )


class ApRequest(univ.Sequence):
    tagSet = _application(AP_REQUEST)
    componentType = _fields(
        ("pvno", univ.Integer()),
        ("msg-type", univ.Integer()),
        ("ap-options", univ.BitString()),
        ("ticket", Ticket()),
        ("authenticator", EncryptedData()),
    )


class ApReply(univ.Sequence):
    tagSet = _application(AP_REPLY)
    componentType = _fields(("pvno", univ.Integer()), ("msg-type", univ.Integer()), ("enc-part", EncryptedData()))


class EncApReplyPart(univ.Sequence):
    tagSet = _application(27)
    componentType = _fields(
        ("ctime", useful.GeneralizedTime()),
        ("cusec", univ.Integer()),
        ("subkey?", EncryptionKey()),
        ("seq-number?", univ.Integer()),
    )


def fill(message: T, values: dict[str, Any]) -> T:
    """The message with its fields set, tables within tables."""
    for name, value in values.items():
        if isinstance(value, dict):
            fill(message[name], value)
        elif isinstance(value, list):
            message[name].extend(value)
        else:
            message[name] = value
    return message


def encode(message: univ.Sequence) -> bytes:
    return bytes(encoder.encode(message))


def decode(kind: type[T], data: bytes) -> T:
    """The message of that kind; ValueError when the bytes are none."""
    message: T
    try:
        message, rest = decoder.decode(data, asn1Spec=kind())
    except (PyAsn1Error, ValueError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"not a Kerberos message ({kind.__name__})") from error
    if rest:
        raise ValueError(f"bytes behind a Kerberos message ({kind.__name__})")
    return message
