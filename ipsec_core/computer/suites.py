"""ESP algorithms in the words of policy, IKE, driver and Wireshark, and which of them a computer takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ipsec_core.driver import SaInfo, algorithms
from ipsec_core.errors import PolicyError
from ipsec_core.ike import AhTransform, AuthAlgorithm, EspTransform, QuickModeOffer
from ipsec_core.policy.model import Confidentiality, Integrity, Policy, SecurityMethod

Profile = Literal["windows-2000", "modern"]
"""Which algorithms a computer offers and accepts: those of Windows 2000, or all that the driver's back ends can."""

PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True, slots=True)
class Cipher:
    """An encryption: its transform and Key Length attribute in IKE, its names in driver and Wireshark's SA table."""

    confidentiality: Confidentiality
    transform: EspTransform
    key_bits: int
    driver: str
    wireshark: str


@dataclass(frozen=True, slots=True)
class Mac:
    """An HMAC: the attribute of ESP proposals and the transform of AH proposals in IKE, its names as for ciphers."""

    integrity: Integrity
    esp: AuthAlgorithm
    ah: AhTransform
    driver: str
    wireshark: str


@dataclass(frozen=True, slots=True)
class Suite:
    """What one ESP SA does; `mac` is None for ciphers that authenticate by themselves."""

    cipher: Cipher
    mac: Mac | None

    @property
    def driver_integrity(self) -> str:
        return self.mac.driver if self.mac else "none"

    @property
    def wireshark_integrity(self) -> str:
        return self.mac.wireshark if self.mac else "NULL"

    @property
    def integrity_text(self) -> str:
        """The policy's word for the HMAC, empty for none."""
        return self.mac.integrity.text if self.mac else ""


def _aes(mode: str, transform: EspTransform, wireshark: str) -> tuple[Cipher, ...]:
    ciphers = ((bits, Confidentiality[f"AES_{bits}_{mode}"]) for bits in (128, 192, 256))
    return tuple(Cipher(item, transform, bits, item.text, wireshark) for bits, item in ciphers)


CIPHERS = (
    Cipher(Confidentiality.NULL, EspTransform.NULL, 0, "NULL", "NULL"),
    Cipher(Confidentiality.DES, EspTransform.DES, 0, "DES-CBC", "DES-CBC [RFC2405]"),
    Cipher(Confidentiality.TRIPLE_DES, EspTransform.TRIPLE_DES, 0, "3DES-CBC", "TripleDES-CBC [RFC2451]"),
    *_aes("CBC", EspTransform.AES_CBC, "AES-CBC [RFC3602]"),
    *_aes("CTR", EspTransform.AES_CTR, "AES-CTR [RFC3686]"),
    *_aes("GCM", EspTransform.AES_GCM_16, "AES-GCM with 16 octet ICV [RFC4106]"),
    *_aes("GCM_12", EspTransform.AES_GCM_12, "AES-GCM with 12 octet ICV [RFC4106]"),
    *_aes("GCM_8", EspTransform.AES_GCM_8, "AES-GCM with 8 octet ICV [RFC4106]"),
)
MACS = (
    Mac(Integrity.MD5, AuthAlgorithm.HMAC_MD5, AhTransform.MD5, "HMAC-MD5-96", "HMAC-MD5-96 [RFC2403]"),
    Mac(Integrity.SHA1, AuthAlgorithm.HMAC_SHA1, AhTransform.SHA1, "HMAC-SHA1-96", "HMAC-SHA-1-96 [RFC2404]"),
    Mac(
        Integrity.SHA256,
        AuthAlgorithm.HMAC_SHA256,
        AhTransform.SHA256,
        "HMAC-SHA2-256-128",
        "HMAC-SHA-256-128 [RFC4868]",
    ),
    Mac(
        Integrity.SHA384,
        AuthAlgorithm.HMAC_SHA384,
        AhTransform.SHA384,
        "HMAC-SHA2-384-192",
        "HMAC-SHA-384-192 [RFC4868]",
    ),
    Mac(
        Integrity.SHA512,
        AuthAlgorithm.HMAC_SHA512,
        AhTransform.SHA512,
        "HMAC-SHA2-512-256",
        "HMAC-SHA-512-256 [RFC4868]",
    ),
)

_CIPHER = {item.confidentiality: item for item in CIPHERS}
_MAC = {item.integrity: item for item in MACS}
_CIPHER_OF_OFFER = {(item.transform, item.key_bits): item for item in CIPHERS}
_MAC_OF_OFFER = {item.esp: item for item in MACS}
_WORDS = {item.driver: item.confidentiality.text for item in CIPHERS} | {
    item.driver: item.integrity.text for item in MACS
}


def suite_of(offer: QuickModeOffer) -> Suite:
    """The suite that a Quick Mode has chosen."""
    mac = None if offer.integrity is None else _MAC_OF_OFFER[offer.integrity]
    return Suite(_CIPHER_OF_OFFER[offer.transform, offer.key_bits], mac)


def suite_for(method: SecurityMethod) -> Suite | None:
    """The suite of a security method; None when it cannot be negotiated here (AH, ESP without integrity)."""
    if method.ah or method.confidentiality is None:
        return None
    if method.integrity is None and not method.confidentiality.combined:
        return None
    return Suite(_CIPHER[method.confidentiality], None if method.integrity is None else _MAC[method.integrity])


def available(suite: Suite) -> bool:
    """Whether the driver's back ends have the algorithms on this machine."""
    names = {item.name for item in algorithms() if item.backends}
    return {suite.cipher.driver, suite.driver_integrity} <= names


def accepted(profile: Profile) -> str:
    """The security methods that can be negotiated, for messages."""
    known = [item for item in Confidentiality if profile == "modern" or item.windows_2000]
    hmacs = [item.text for item in Integrity if profile == "modern" or item.windows_2000]
    text = f"ESP[{'|'.join(item.text for item in known if not item.combined)},{'|'.join(hmacs)}]"
    combined = [item.text for item in known if item.combined]
    return f"{text}, ESP[{'|'.join(combined)}]" if combined else text


def profile_of(name: str) -> Profile:
    """The profile of that name, or PolicyError."""
    for profile in PROFILES:
        if name == profile:
            return profile
    raise PolicyError(f"profile: {name!r} is not known; accepted: {', '.join(PROFILES)}")


def check_profile(policy: Policy, profile: Profile) -> None:
    """PolicyError when the policy offers what the profile does not have."""
    if profile == "modern":
        return
    refused = f"is not of the profile {profile}; accepted:"
    for exchange in policy.key_exchange.methods:
        if not exchange.windows_2000:
            raise PolicyError(
                f"policy {policy.name!r}: key exchange method {exchange} {refused} groups 1, 2, or profile modern"
            )
    for rule in policy.rules:
        for method in rule.filter_action.methods if rule.active else ():
            if not method.windows_2000:
                raise PolicyError(
                    f"policy {policy.name!r}, rule {rule.name!r}: security method {method} {refused} "
                    f"{accepted(profile)}, or profile modern"
                )


def security(sa: SaInfo) -> str:
    """An SA in the words of a policy, as IP Security Monitor shows it: "None" for a soft one (KB 257225)."""
    if sa.protocol == "none":
        return "None"
    integrity = _WORDS.get(sa.integrity, sa.integrity)
    if sa.protocol == "ah":
        return f"AH[{integrity}]"
    parts = [_WORDS.get(sa.encryption, sa.encryption)]
    return f"ESP[{','.join(parts if sa.integrity == 'none' else [*parts, integrity])}]"
