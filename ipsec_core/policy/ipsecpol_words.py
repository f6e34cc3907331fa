"""The values of ipsecpol's options: filters, security methods, authentication, rekeying."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import product

from ipsec_core.errors import PolicyError
from ipsec_core.policy import words
from ipsec_core.policy.methods import DiffieHellmanGroup, SecurityMethod, parse_group
from ipsec_core.policy.model import AuthenticationKind, AuthenticationMethod, FilterAction, FilterActionKind
from ipsec_core.policy.ranges import DWORD
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, parse_protocol
from ipsec_core.policy.words import Resolve, whole_number

FILTER_FORMS = "A.B.C.D/mask:port=A.B.C.D/mask:port:protocol, + for mirrored, 0 for me, *, (permit), [block], DEFAULT"
METHOD_FORMS = "BLOCK, PASS, INPASS, ESP[3DES,SHA]3600S/100000KPFS2, AH[MD5], AH[SHA]+ESP[DES,NONE]"
AUTHENTICATION_FORMS = 'KERBEROS, PRESHARE:"key", CERT:"root CA"'
REKEY_FORMS = "10Q, 3600S, 10Q/3600S"

_STARS = re.compile(r"((?:[0-9]{1,3}\.){1,3})\*(?:\.\*){0,2}")
_PARENTHESES = {"()": FilterActionKind.PERMIT, "[]": FilterActionKind.BLOCK}
_PART = r"(?:AH|ESP)\[[^\[\]]*\]"
_METHOD = re.compile(
    rf"({_PART}(?:\+{_PART})*)(?:([0-9]{{1,10}})([KS])(?:/([0-9]{{1,10}})([KS]))?)?(?:(PFS|P)([0-9]{{0,2}}))?",
    re.IGNORECASE,
)
_REKEY = re.compile("([0-9]{1,10})([QS])(?:/([0-9]{1,10})([QS]))?", re.IGNORECASE)
_REKEY_FIELDS = {"Q": ("quick_mode_limit", 0), "S": ("lifetime_seconds", 1)}


@dataclass(frozen=True, slots=True)
class FilterSpecification:
    """One value of -f: its filters and what parentheses or brackets around it say, None for what -n says.

    None instead of filters is DEFAULT: those of the default response rule.
    """

    filters: tuple[Filter, ...] | None
    kind: FilterActionKind | None = None


class Pass(Enum):
    """The words of -n that are no security methods."""

    BLOCK = "BLOCK"
    PASS = "PASS"
    INPASS = "INPASS"


@dataclass(frozen=True, slots=True)
class Offer:
    """One security method of -n and its PFS."""

    method: SecurityMethod
    pfs: bool = False
    group: DiffieHellmanGroup | None = None


def filter_specification(text: str, resolve: Resolve | None) -> FilterSpecification:
    kind = _PARENTHESES.get(text[:1] + text[-1:]) if len(text) > 1 else None
    inner = text[1:-1] if kind else text
    if inner.casefold() == "default":
        if kind:
            raise PolicyError(f"{text!r}: the default response rule negotiates; accepted: DEFAULT")
        return FilterSpecification(None)
    separator = next((char for char in inner if char in "=+"), "")
    source, _, destination = inner.partition(separator) if separator else (inner, "", "")
    one, *source_port = source.split(":")
    two, *more = destination.split(":")
    if not one or not two or len(source_port) > 1 or len(more) > 2:
        raise PolicyError(f"{text!r} is not a filter; accepted: {FILTER_FORMS}")
    destination_port, protocol = (*more, "", "")[:2]
    ports = _port(source_port[0] if source_port else ""), _port(destination_port)
    sides = (_addresses(side, resolve) for side in (one, two))
    mirrored = separator == "+"
    return FilterSpecification(
        tuple(Filter("", src, dst, _protocol(protocol), *ports, mirrored) for src, dst in product(*sides)), kind
    )


def _addresses(text: str, resolve: Resolve | None) -> tuple[Address, ...]:
    if text in ("0", "*"):
        return (MY if text == "0" else ANY,)
    stars = _STARS.fullmatch(text)
    if stars:
        octets = stars[1].count(".")
        return (Address.parse(f"{stars[1]}{'.'.join('0' * (4 - octets))}/{8 * octets}"),)
    return words.addresses(text, resolve)


def _port(text: str) -> int:
    return whole_number(text, 0, 65535) if text not in ("", "*") else 0


def _protocol(text: str) -> int:
    if text in ("", "*"):
        return 0
    return 255 if text.casefold() == "raw" else parse_protocol(text)


def offers(text: str) -> list[Offer | Pass]:
    """What one argument of -n says: one word or, in quotes, several."""
    return [_offer(word) for word in words.list_words(text)]


def _offer(word: str) -> Offer | Pass:
    if word.upper() in Pass.__members__:
        return Pass[word.upper()]
    found = _METHOD.fullmatch(word)
    if found is None:
        raise PolicyError(f"{word!r} is not a security method; accepted: {METHOD_FORMS}")
    algorithms, first, unit, second, other, pfs, group = found.groups()
    limits = {(unit or "").upper(): first, (other or "").upper(): second}
    if second and len(limits) == 1:
        raise PolicyError(f"{word!r} has two limits of one kind; accepted: 3600S/100000K")
    method = SecurityMethod.parse(f"{algorithms}:{limits.get('K') or 0}K/{limits.get('S') or 0}S")
    return Offer(method, bool(pfs), parse_group(int(words.group_number(group))) if group else None)


def filter_action(given: Iterable[Offer | Pass], soft: bool) -> FilterAction:
    """The filter action that -n and -soft ask for; BLOCK and PASS go before all else, as in the original."""
    given = list(given)
    for word, kind in ((Pass.BLOCK, FilterActionKind.BLOCK), (Pass.PASS, FilterActionKind.PERMIT)):
        if word in given:
            return FilterAction("", kind)
    methods = [one for one in given if isinstance(one, Offer)]
    if len({(one.pfs, one.group) for one in methods}) > 1:
        raise PolicyError("-n: methods with different PFS; accepted: the same PFS behind each method")
    return FilterAction(
        "",
        FilterActionKind.NEGOTIATE,
        tuple(one.method for one in methods) or words.DEFAULT_METHODS,
        inbound_passthrough=Pass.INPASS in given,
        allow_unsecured=soft,
        pfs=bool(methods) and methods[0].pfs,
        pfs_group=methods[0].group if methods else None,
    )


def authentication_method(text: str) -> AuthenticationMethod:
    """From "KERBEROS", "PRESHARE:key", "CERT:name"; one letter of each is enough. The value is in no error."""
    word, colon, value = text.partition(":")
    word = word.casefold()
    if word and "kerberos".startswith(word) and not colon:
        return AuthenticationMethod(AuthenticationKind.KERBEROS)
    if colon and word and "preshare".startswith(word):
        return AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, value)
    if colon and word and "cert".startswith(word):
        return AuthenticationMethod(AuthenticationKind.CERTIFICATE, value)
    raise PolicyError(f"not an authentication method; accepted: {AUTHENTICATION_FORMS}")


def main_mode_rekey(text: str) -> tuple[tuple[str, int], ...]:
    """The fields of the key exchange settings from "10Q/3600S"."""
    found = _REKEY.fullmatch(text)
    if found is None or (found[3] and found[2].upper() == found[4].upper()):
        raise PolicyError(f"{text!r} is not a limit of Main Mode; accepted: {REKEY_FORMS}")
    pairs = ((found[1], found[2]), (found[3], found[4]))
    fields = ((*_REKEY_FIELDS[unit.upper()], value) for value, unit in pairs if value)
    return tuple((field, whole_number(value, low, DWORD)) for field, low, value in fields)
