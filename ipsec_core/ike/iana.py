"""Assigned numbers of ISAKMP, IKEv1 and the IPsec DOI (RFC 2407, 2408, 2409; IANA isakmp-registry, ipsec-registry)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

UDP_PORT = 500
# RFC 3948 section 2: IKE (behind four zero bytes) and ESP share it.
NAT_T_PORT = 4500
# RFC 2408 section 3.14.1: notify types below are errors, from here on they are status.
FIRST_STATUS_NOTIFY = 16384
DOI_IPSEC = 1
SITUATION_IDENTITY_ONLY = 1
TRANSFORM_KEY_IKE = 1
# MD5("MS NT5 ISAKMPOAKLEY") and the version of Windows 2000, [MS-IKEE] 1.7 and ike-scan's list of vendor ids.
MICROSOFT_VENDOR_ID = bytes.fromhex("1e2b516905991c7d7c96fcbfb587e461")
WINDOWS_2000_VENDOR_ID = MICROSOFT_VENDOR_ID + bytes.fromhex("00000002")


class PayloadType(IntEnum):
    """Next Payload values, RFC 2408 section 3.1."""

    NONE = 0
    SA = 1
    PROPOSAL = 2
    TRANSFORM = 3
    KEY_EXCHANGE = 4
    IDENTIFICATION = 5
    CERTIFICATE = 6
    CERTIFICATE_REQUEST = 7
    HASH = 8
    SIGNATURE = 9
    NONCE = 10
    NOTIFICATION = 11
    DELETE = 12
    VENDOR_ID = 13
    # RFC 3947 section 3, and the numbers of draft-ietf-ipsec-nat-t-ike-02 and of Microsoft ([MS-IKEE] 2.2).
    NAT_D = 20
    NAT_OA = 21
    GSS_TOKEN = 129
    NAT_D_DRAFT = 130
    NAT_OA_DRAFT = 131
    FRAGMENT = 132


class ExchangeType(IntEnum):
    """Exchange Type values, RFC 2408 section 3.1 and RFC 2409 appendix A."""

    MAIN_MODE = 2
    AGGRESSIVE = 4
    INFORMATIONAL = 5
    QUICK_MODE = 32
    NEW_GROUP = 33


class Flags(IntFlag):
    """Header flags, RFC 2408 section 3.1."""

    NONE = 0
    ENCRYPTION = 1
    COMMIT = 2
    AUTHENTICATION_ONLY = 4


class Notify(IntEnum):
    """Notify message types, RFC 2408 section 3.14.1 and RFC 2407 section 4.6.3."""

    INVALID_PAYLOAD_TYPE = 1
    DOI_NOT_SUPPORTED = 2
    SITUATION_NOT_SUPPORTED = 3
    INVALID_COOKIE = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_MINOR_VERSION = 6
    INVALID_EXCHANGE_TYPE = 7
    INVALID_FLAGS = 8
    INVALID_MESSAGE_ID = 9
    INVALID_PROTOCOL_ID = 10
    INVALID_SPI = 11
    INVALID_TRANSFORM_ID = 12
    ATTRIBUTES_NOT_SUPPORTED = 13
    NO_PROPOSAL_CHOSEN = 14
    BAD_PROPOSAL_SYNTAX = 15
    PAYLOAD_MALFORMED = 16
    INVALID_KEY_INFORMATION = 17
    INVALID_ID_INFORMATION = 18
    INVALID_CERT_ENCODING = 19
    INVALID_CERTIFICATE = 20
    CERT_TYPE_UNSUPPORTED = 21
    INVALID_CERT_AUTHORITY = 22
    INVALID_HASH_INFORMATION = 23
    AUTHENTICATION_FAILED = 24
    INVALID_SIGNATURE = 25
    ADDRESS_NOTIFICATION = 26
    NOTIFY_SA_LIFETIME = 27
    CERTIFICATE_UNAVAILABLE = 28
    UNSUPPORTED_EXCHANGE_TYPE = 29
    UNEQUAL_PAYLOAD_LENGTHS = 30
    CONNECTED = 16384
    RESPONDER_LIFETIME = 24576
    REPLAY_STATUS = 24577
    INITIAL_CONTACT = 24578
    # Microsoft's own, [MS-IKEE] 2.2.6: a Windows error code; a cookie against floods.
    MICROSOFT_STATUS = 40003
    MICROSOFT_COOKIE = 40004


class Protocol(IntEnum):
    """Security protocol identifiers, RFC 2407 section 4.4.1."""

    ISAKMP = 1
    AH = 2
    ESP = 3


class IdType(IntEnum):
    """Identification types, RFC 2407 section 4.6.2.1."""

    IPV4_ADDR = 1
    FQDN = 2
    USER_FQDN = 3
    IPV4_ADDR_SUBNET = 4
    IPV6_ADDR = 5
    IPV6_ADDR_SUBNET = 6
    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11


class LifeType(IntEnum):
    """Life types, the same numbers in RFC 2409 appendix A and RFC 2407 section 4.5."""

    SECONDS = 1
    KILOBYTES = 2


class MainModeAttribute(IntEnum):
    """Phase 1 attribute classes, RFC 2409 appendix A."""

    ENCRYPTION = 1
    HASH = 2
    AUTHENTICATION = 3
    GROUP = 4
    LIFE_TYPE = 11
    LIFE_DURATION = 12
    KEY_LENGTH = 14
    # The GSS endpoint name in UTF-16LE, draft-ietf-ipsec-isakmp-gss-auth-07.
    GSS_NAME = 16384


class QuickModeAttribute(IntEnum):
    """IPsec SA attributes, RFC 2407 section 4.5."""

    LIFE_TYPE = 1
    LIFE_DURATION = 2
    GROUP = 3
    ENCAPSULATION = 4
    AUTHENTICATION = 5
    KEY_LENGTH = 6


class Encryption(IntEnum):
    """Phase 1 ciphers, RFC 2409 appendix A and RFC 3602 section 5.3."""

    DES_CBC = 1
    TRIPLE_DES_CBC = 5
    AES_CBC = 7


class Hash(IntEnum):
    """Phase 1 hashes; the prf is their HMAC. RFC 2409 appendix A."""

    MD5 = 1
    SHA1 = 2
    SHA256 = 4
    SHA384 = 5
    SHA512 = 6


class Group(IntEnum):
    """Diffie-Hellman groups, RFC 2409 section 6, RFC 3526, RFC 5903."""

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


class AuthMethod(IntEnum):
    """Phase 1 authentication, RFC 2409 appendix A."""

    PRESHARED_KEY = 1
    RSA_SIGNATURES = 3
    # Kerberos V5 through GSS-API, draft-ietf-ipsec-isakmp-gss-auth-07.
    KERBEROS = 65001


class CertificateEncoding(IntEnum):
    """What a CERT or CERTREQ payload holds, RFC 2408 section 3.9."""

    PKCS7 = 1
    X509_SIGNATURE = 4
    CRL = 7


class EspTransform(IntEnum):
    """ESP transforms, RFC 2407 section 4.4.4, RFC 3602 section 5.3, RFC 3686 section 5, RFC 4106 section 8.4.

    ChaCha20-Poly1305 (RFC 7634) has a number for IKEv2 only.
    """

    DES = 2
    TRIPLE_DES = 3
    NULL = 11
    AES_CBC = 12
    AES_CTR = 13
    AES_GCM_8 = 18
    AES_GCM_12 = 19
    AES_GCM_16 = 20

    @property
    def combined(self) -> bool:
        """Whether it authenticates by itself (RFC 4106)."""
        return self in _COMBINED

    @property
    def salted(self) -> bool:
        """Whether four bytes of KEYMAT are its nonce (RFC 3686 section 5.1) or salt (RFC 4106 section 8.1)."""
        return self in _SALTED

    @property
    def variable(self) -> bool:
        """Whether the Key Length attribute says how long its key is."""
        return self in _VARIABLE


_COMBINED = frozenset({EspTransform.AES_GCM_8, EspTransform.AES_GCM_12, EspTransform.AES_GCM_16})
_SALTED = _COMBINED | {EspTransform.AES_CTR}
_VARIABLE = _SALTED | {EspTransform.AES_CBC}


class AhTransform(IntEnum):
    """AH transforms, RFC 2407 section 4.4.3 and RFC 4868 section 4."""

    MD5 = 2
    SHA1 = 3
    SHA256 = 5
    SHA384 = 6
    SHA512 = 7


class AuthAlgorithm(IntEnum):
    """Integrity algorithms, RFC 2407 section 4.5 and RFC 4868 section 4."""

    HMAC_MD5 = 1
    HMAC_SHA1 = 2
    HMAC_SHA256 = 5
    HMAC_SHA384 = 6
    HMAC_SHA512 = 7


class Encapsulation(IntEnum):
    """Encapsulation modes, RFC 2407 section 4.5; in UDP, RFC 3947 section 5.1.

    The DRAFT numbers are those of draft-ietf-ipsec-nat-t-ike-02, which the NAT-T update of Windows 2000 speaks; the
    packets of the driver (`SecurityAssociation.encapsulation`) are the same.
    """

    TUNNEL = 1
    TRANSPORT = 2
    UDP_TUNNEL = 3
    UDP_TRANSPORT = 4
    UDP_TUNNEL_DRAFT = 61443
    UDP_TRANSPORT_DRAFT = 61444
