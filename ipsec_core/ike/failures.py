"""Why a negotiation fails: codes for the event log, and exceptions that carry a peer's fault inside this package."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from ipsec_core.ike.iana import Notify


class FailureReason(IntEnum):
    """Oakley status codes 0x321-0x351 (Win32 errors 13801-13849 in the same order), the Failure Reason of audit 547."""

    CREDENTIALS_UNACCEPTABLE = 0x321
    ATTRIBUTES_UNACCEPTABLE = 0x322
    IN_PROGRESS = 0x323
    GENERAL_ERROR = 0x324
    TIMED_OUT = 0x325
    NO_MACHINE_CERTIFICATE = 0x326
    DELETED_BY_PEER = 0x327
    DELETED_BEFORE_COMPLETION = 0x328
    MAIN_MODE_ACQUIRE_DROPPED = 0x329
    QUICK_MODE_ACQUIRE_DROPPED = 0x32A
    MAIN_MODE_QUEUE_DROPPED = 0x32B
    QUEUE_DROPPED = 0x32C
    NO_RESPONSE = 0x32D
    MAIN_MODE_TOO_SLOW = 0x32E
    QUICK_MODE_TOO_SLOW = 0x32F
    CRL_FAILED = 0x331
    BAD_KEY_USAGE = 0x332
    BAD_CERTIFICATE_TYPE = 0x333
    NO_PRIVATE_KEY = 0x334
    DIFFIE_HELLMAN = 0x336
    INVALID_HEADER = 0x338
    NO_POLICY = 0x339
    INVALID_SIGNATURE = 0x33A
    KERBEROS = 0x33B
    NO_PUBLIC_KEY = 0x33C
    PAYLOAD_ERROR = 0x33D
    SA_PAYLOAD = 0x33E
    PROPOSAL_PAYLOAD = 0x33F
    TRANSFORM_PAYLOAD = 0x340
    KEY_EXCHANGE_PAYLOAD = 0x341
    ID_PAYLOAD = 0x342
    CERTIFICATE_PAYLOAD = 0x343
    CERTIFICATE_REQUEST_PAYLOAD = 0x344
    HASH_PAYLOAD = 0x345
    SIGNATURE_PAYLOAD = 0x346
    NONCE_PAYLOAD = 0x347
    NOTIFY_PAYLOAD = 0x348
    DELETE_PAYLOAD = 0x349
    VENDOR_PAYLOAD = 0x34A
    INVALID_PAYLOAD = 0x34B
    SOFT_SA_LOADED = 0x34C
    SOFT_SA_TORN_DOWN = 0x34D
    INVALID_COOKIE = 0x34E
    PEER_CERTIFICATE = 0x34F
    PEER_CRL_FAILED = 0x350
    POLICY_CHANGED = 0x351


class FailurePoint(Enum):
    """Which end refused, the Failure Point of audit 547."""

    ME = "Me"
    PEER = "Peer"


@dataclass(frozen=True, slots=True)
class ProposalMismatch:
    """What audit 546 reports: the attribute that no pair of offers agrees on, our value and the peer's."""

    attribute: str
    expected: str
    received: str


# What the monitor counts as "Authentication failures", and audit 544 or 545 reports.
AUTHENTICATION_FAILURES = frozenset(
    {
        FailureReason.CREDENTIALS_UNACCEPTABLE,
        FailureReason.NO_MACHINE_CERTIFICATE,
        FailureReason.CRL_FAILED,
        FailureReason.BAD_KEY_USAGE,
        FailureReason.BAD_CERTIFICATE_TYPE,
        FailureReason.NO_PRIVATE_KEY,
        FailureReason.INVALID_SIGNATURE,
        FailureReason.KERBEROS,
        FailureReason.NO_PUBLIC_KEY,
        FailureReason.HASH_PAYLOAD,
        FailureReason.SIGNATURE_PAYLOAD,
        FailureReason.PEER_CERTIFICATE,
        FailureReason.PEER_CRL_FAILED,
    }
)

# All error types of RFC 2408 section 3.14.1. The last two are no complaints about anything in a negotiation of ours.
_REASON_OF_NOTIFY: dict[int, FailureReason] = {
    Notify.INVALID_PAYLOAD_TYPE: FailureReason.INVALID_PAYLOAD,
    Notify.DOI_NOT_SUPPORTED: FailureReason.SA_PAYLOAD,
    Notify.SITUATION_NOT_SUPPORTED: FailureReason.SA_PAYLOAD,
    Notify.INVALID_COOKIE: FailureReason.INVALID_COOKIE,
    Notify.INVALID_MAJOR_VERSION: FailureReason.INVALID_HEADER,
    Notify.INVALID_MINOR_VERSION: FailureReason.INVALID_HEADER,
    Notify.INVALID_EXCHANGE_TYPE: FailureReason.INVALID_HEADER,
    Notify.INVALID_FLAGS: FailureReason.INVALID_HEADER,
    Notify.INVALID_MESSAGE_ID: FailureReason.INVALID_HEADER,
    Notify.INVALID_PROTOCOL_ID: FailureReason.PROPOSAL_PAYLOAD,
    Notify.INVALID_SPI: FailureReason.PROPOSAL_PAYLOAD,
    Notify.INVALID_TRANSFORM_ID: FailureReason.TRANSFORM_PAYLOAD,
    Notify.ATTRIBUTES_NOT_SUPPORTED: FailureReason.ATTRIBUTES_UNACCEPTABLE,
    Notify.NO_PROPOSAL_CHOSEN: FailureReason.ATTRIBUTES_UNACCEPTABLE,
    Notify.BAD_PROPOSAL_SYNTAX: FailureReason.PROPOSAL_PAYLOAD,
    Notify.PAYLOAD_MALFORMED: FailureReason.INVALID_PAYLOAD,
    Notify.INVALID_KEY_INFORMATION: FailureReason.KEY_EXCHANGE_PAYLOAD,
    Notify.INVALID_ID_INFORMATION: FailureReason.ID_PAYLOAD,
    Notify.INVALID_CERT_ENCODING: FailureReason.CERTIFICATE_PAYLOAD,
    Notify.INVALID_CERTIFICATE: FailureReason.CREDENTIALS_UNACCEPTABLE,
    Notify.CERT_TYPE_UNSUPPORTED: FailureReason.BAD_CERTIFICATE_TYPE,
    Notify.INVALID_CERT_AUTHORITY: FailureReason.CREDENTIALS_UNACCEPTABLE,
    Notify.INVALID_HASH_INFORMATION: FailureReason.HASH_PAYLOAD,
    Notify.AUTHENTICATION_FAILED: FailureReason.CREDENTIALS_UNACCEPTABLE,
    Notify.INVALID_SIGNATURE: FailureReason.INVALID_SIGNATURE,
    Notify.CERTIFICATE_UNAVAILABLE: FailureReason.PEER_CERTIFICATE,
    Notify.UNSUPPORTED_EXCHANGE_TYPE: FailureReason.INVALID_HEADER,
    Notify.UNEQUAL_PAYLOAD_LENGTHS: FailureReason.INVALID_PAYLOAD,
    Notify.ADDRESS_NOTIFICATION: FailureReason.GENERAL_ERROR,
    Notify.NOTIFY_SA_LIFETIME: FailureReason.GENERAL_ERROR,
}


def reason_of_notify(notify: int) -> FailureReason:
    """The status code for an error notify that the peer sent."""
    return _REASON_OF_NOTIFY.get(notify, FailureReason.GENERAL_ERROR)


class MalformedMessage(Exception):
    """A message that is discarded without any change of state; `notify` is its RFC 2408 section 3.14.1 number."""

    def __init__(self, notify: Notify, text: str) -> None:
        super().__init__(text)
        self.notify = notify


class Unverified(MalformedMessage):
    """An encrypted message that does not decrypt to a payload chain with the right HASH."""

    def __init__(self, text: str) -> None:
        super().__init__(Notify.INVALID_HASH_INFORMATION, text)


class Refused(Exception):
    """A well-formed request that policy does not allow; it ends the exchange and is told to the peer."""

    def __init__(self, notify: Notify, reason: FailureReason, details: ProposalMismatch | None = None) -> None:
        super().__init__(reason.name)
        self.notify = notify
        self.reason = reason
        self.details = details
