"""Algorithms, security methods (Quick Mode) and key exchange methods (Main Mode).

Text forms follow the grammar of netsh: ``ESP[3DES,SHA1]:100000k/3600s``, ``AH[SHA1]+ESP[DES,MD5]``, ``3DES-SHA1-2``.
Lifetimes are in seconds and in the kilobytes that IKE carries (the default of 100000 is the "100 MB" of KB 2790970).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TypeVar

from ipsec_core.errors import PolicyError
from ipsec_core.policy.ranges import DWORD, check_range

DEFAULT_QUICK_MODE_SECONDS = 3600
DEFAULT_QUICK_MODE_KILOBYTES = 100_000
MAXIMUM_QUICK_MODE_SECONDS = 172_799
MAXIMUM_QUICK_MODE_KILOBYTES = 2_147_483_647

_Algorithm = TypeVar("_Algorithm", bound=Enum)


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
        check_range("lifetime_seconds", self.lifetime_seconds, 1, MAXIMUM_QUICK_MODE_SECONDS)
        check_range("lifetime_kilobytes", self.lifetime_kilobytes, 1, MAXIMUM_QUICK_MODE_KILOBYTES)
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
                if second is None and not confidentiality.combined:
                    # Encryption that nothing authenticates is weak: whoever wants it says so.
                    name = confidentiality.text
                    without = "" if confidentiality is Confidentiality.NULL else f", ESP[{name},NONE]"
                    raise PolicyError(f"ESP[{name}] lacks its integrity; accepted: ESP[{name},SHA1]{without}")
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


# Of the default response rules of a real domain.
DEFAULT_RESPONSE_METHODS = tuple(
    SecurityMethod.parse(text)
    for text in ("ESP[3DES,SHA1]", "ESP[3DES,MD5]", "ESP[DES,SHA1]", "ESP[DES,MD5]", "AH[SHA1]", "AH[MD5]")
)


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
        check_range("lifetime_seconds", self.lifetime_seconds, 0, DWORD)

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
