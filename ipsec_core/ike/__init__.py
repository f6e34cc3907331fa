"""Sans-IO ISAKMP/Oakley (IKEv1, RFC 2407-2409) as Windows 2000 does it: Main Mode, Quick Mode, Informational."""

from ipsec_core.ike.engine import IkeEngine
from ipsec_core.ike.events import (
    Acquire,
    ChildDeleted,
    ChildSa,
    Datagram,
    Event,
    IkePolicy,
    MainModeDeleted,
    MainModeEstablished,
    MainModePolicy,
    Mode,
    NegotiationFailed,
    QuickModeAnswered,
    QuickModeEstablished,
    QuickModePolicy,
    SoftAssociation,
)
from ipsec_core.ike.failures import FailurePoint, FailureReason, ProposalMismatch
from ipsec_core.ike.iana import AuthAlgorithm, AuthMethod, Encapsulation, Encryption, EspTransform, Group, Hash
from ipsec_core.ike.offers import MainModeOffer, QuickModeOffer, TrafficSelector

__all__ = [
    "Acquire",
    "AhTransform",
    "AuthAlgorithm",
    "AuthMethod",
    "ChildDeleted",
    "ChildSa",
    "Datagram",
    "Encapsulation",
    "Encryption",
    "EspTransform",
    "Event",
    "FailurePoint",
    "FailureReason",
    "Group",
    "Hash",
    "IkeEngine",
    "IkePolicy",
    "MainModeDeleted",
    "MainModeEstablished",
    "MainModeOffer",
    "MainModePolicy",
    "Mode",
    "NegotiationFailed",
    "ProposalMismatch",
    "QuickModeAnswered",
    "QuickModeEstablished",
    "QuickModeOffer",
    "QuickModePolicy",
    "SoftAssociation",
    "TrafficSelector",
]
