"""AH and ESP algorithms in the words of policy, IKE, driver and Wireshark."""

from __future__ import annotations

from dataclasses import dataclass

from ipsec_core.driver import SaInfo, algorithms
from ipsec_core.ike import AhTransform, AuthAlgorithm, EspTransform, QuickModeOffer
from ipsec_core.policy.methods import Confidentiality, Integrity, SecurityMethod


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
    """What the SAs of one direction do: ESP with `cipher` and `mac` (None: no HMAC), `ah` around it, or one of both."""

    cipher: Cipher | None
    mac: Mac | None = None
    ah: Mac | None = None

    @property
    def driver_integrity(self) -> str:
        """That of ESP."""
        return self.mac.driver if self.mac else "none"

    @property
    def wireshark_integrity(self) -> str:
        return self.mac.wireshark if self.mac else "NULL"

    @property
    def texts(self) -> tuple[str, str, str]:
        """The policy's words for encryption, ESP's HMAC and AH's, empty for none."""
        return (
            self.cipher.confidentiality.text if self.cipher else "",
            self.mac.integrity.text if self.mac else "",
            self.ah.integrity.text if self.ah else "",
        )


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
_MAC_OF_ESP = {item.esp: item for item in MACS}
_MAC_OF_AH = {item.ah: item for item in MACS}
_COMBINED = {item.driver for item in CIPHERS if item.confidentiality.combined} | {"ChaCha20-Poly1305"}
_WORDS = {item.driver: item.confidentiality.text for item in CIPHERS} | {
    item.driver: item.integrity.text for item in MACS
}


def suite_of(offer: QuickModeOffer) -> Suite:
    """The suite that a Quick Mode has chosen."""
    return Suite(
        None if offer.transform is None else _CIPHER_OF_OFFER[offer.transform, offer.key_bits],
        None if offer.integrity is None else _MAC_OF_ESP[offer.integrity],
        None if offer.ah is None else _MAC_OF_AH[offer.ah],
    )


def suite_for(method: SecurityMethod) -> Suite | None:
    """The suite of a security method; None for ESP that nothing authenticates, which is not negotiated here."""
    confidentiality = method.confidentiality
    if confidentiality and method.integrity is None and not confidentiality.combined and method.ah is None:
        return None
    return Suite(
        None if confidentiality is None else _CIPHER[confidentiality],
        None if method.integrity is None else _MAC[method.integrity],
        None if method.ah is None else _MAC[method.ah],
    )


def available(suite: Suite) -> bool:
    """Whether the driver's back ends have the algorithms on this machine."""
    names = {item.name for item in algorithms() if item.backends}
    return {part.driver for part in (suite.cipher, suite.mac, suite.ah) if part} <= names


def security(sa: SaInfo, outer: SaInfo | None = None) -> str:
    """An SA (and the one around it) in the words of a policy: "None" for a soft one (KB 257225)."""
    if outer is not None:
        return f"{security(outer)}+{security(sa)}"
    if sa.protocol == "none":
        return "None"
    integrity = "NONE" if sa.integrity == "none" else _WORDS.get(sa.integrity, sa.integrity)
    if sa.protocol == "ah":
        return f"AH[{integrity}]"
    encryption = _WORDS.get(sa.encryption, sa.encryption)
    return f"ESP[{encryption}{'' if sa.encryption in _COMBINED else ',' + integrity}]"
