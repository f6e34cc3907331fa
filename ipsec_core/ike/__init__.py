"""Sans-IO ISAKMP/Oakley (IKEv1, RFC 2407-2409) as Windows 2000 does it: Main Mode, Quick Mode, Informational."""

from ipsec_core.ike.conversations import MainModeRecord
from ipsec_core.ike.credentials import Certificates, Claim, CredentialRefused, GssContext, Kerberos, PeerIdentity
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
    PathChanged,
    QuickModeAnswered,
    QuickModeEstablished,
    QuickModePolicy,
    SoftAssociation,
)
from ipsec_core.ike.failures import FailurePoint, FailureReason, ProposalMismatch
from ipsec_core.ike.iana import (
    AhTransform,
    AuthAlgorithm,
    AuthMethod,
    Encapsulation,
    Encryption,
    EspTransform,
    Group,
    Hash,
)
from ipsec_core.ike.nat import UdpEncapsulation
from ipsec_core.ike.offers import MainModeOffer, QuickModeOffer, TrafficSelector
from ipsec_core.ike.options import IkeOptions, NatTraversal

__all__ = [
    "Acquire",
    "AhTransform",
    "AuthAlgorithm",
    "AuthMethod",
    "Certificates",
    "ChildDeleted",
    "ChildSa",
    "Claim",
    "CredentialRefused",
    "Datagram",
    "Encapsulation",
    "Encryption",
    "EspTransform",
    "Event",
    "FailurePoint",
    "FailureReason",
    "Group",
    "GssContext",
    "Hash",
    "IkeEngine",
    "IkeOptions",
    "IkePolicy",
    "Kerberos",
    "MainModeDeleted",
    "MainModeEstablished",
    "MainModeOffer",
    "MainModePolicy",
    "MainModeRecord",
    "Mode",
    "NatTraversal",
    "NegotiationFailed",
    "PathChanged",
    "PeerIdentity",
    "ProposalMismatch",
    "QuickModeAnswered",
    "QuickModeEstablished",
    "QuickModeOffer",
    "QuickModePolicy",
    "SoftAssociation",
    "TrafficSelector",
    "UdpEncapsulation",
]
