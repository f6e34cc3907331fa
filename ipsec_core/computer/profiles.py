"""What kind of system a computer is: its algorithms, and what its IKE does beyond RFC 2409."""

from __future__ import annotations

from dataclasses import dataclass

from ipsec_core.errors import PolicyError
from ipsec_core.ike import IkeOptions, NatTraversal
from ipsec_core.policy.methods import Confidentiality, DiffieHellmanGroup, Integrity
from ipsec_core.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Profile:
    """`every_algorithm`: all that driver and IKE can, else those of Windows 2000."""

    name: str
    every_algorithm: bool
    options: IkeOptions

    def accepted(self) -> str:
        """The security methods that can be negotiated, for messages."""
        known = [item for item in Confidentiality if self.every_algorithm or item.windows_2000]
        hmacs = "|".join(item.text for item in Integrity if self.every_algorithm or item.windows_2000)
        combined = "|".join(item.text for item in known if item.combined)
        methods = [f"ESP[{'|'.join(item.text for item in known if not item.combined)},{hmacs}]"]
        methods += [f"ESP[{combined}]"] * bool(combined)
        return ", ".join((*methods, f"AH[{hmacs}]", "AH+ESP"))


WINDOWS_2000 = Profile("windows-2000", every_algorithm=False, options=IkeOptions(commit_bit=True))
# KB 818043 and the rollup after service pack 4 ([MS-IKEE] 1.7).
WINDOWS_2000_UPDATE = Profile(
    "windows-2000-update",
    every_algorithm=False,
    options=IkeOptions(commit_bit=True, nat_traversal=(NatTraversal.DRAFT_02,), fragmentation=True),
)
MODERN = Profile(
    "modern",
    every_algorithm=True,
    options=IkeOptions(nat_traversal=(NatTraversal.RFC_3947, NatTraversal.DRAFT_02), fragmentation=True),
)
PROFILES = {item.name: item for item in (WINDOWS_2000, WINDOWS_2000_UPDATE, MODERN)}


def profile_of(name: str) -> Profile:
    """The profile of that name, or PolicyError."""
    if name not in PROFILES:
        raise PolicyError(f"profile: {name!r} is not known; accepted: {', '.join(PROFILES)}")
    return PROFILES[name]


def check_profile(policy: Policy, profile: Profile) -> None:
    """PolicyError when the policy offers what the profile does not have."""
    if profile.every_algorithm:
        return
    refused = f"is not of the profile {profile.name}; accepted:"
    for exchange in policy.key_exchange.methods:
        if not exchange.windows_2000:
            raise PolicyError(
                f"policy {policy.name!r}: key exchange method {exchange} {refused} DES, 3DES with MD5, SHA1 and groups "
                "1, 2, or profile modern"
            )
    for rule in policy.rules:
        where = f"policy {policy.name!r}, rule {rule.name!r}"
        for method in rule.filter_action.methods if rule.active else ():
            if not method.windows_2000:
                raise PolicyError(
                    f"{where}: security method {method} {refused} {profile.accepted()}, or profile modern"
                )
        group = rule.filter_action.pfs_group if rule.active else None
        if group is not None and not group.windows_2000:
            groups = ", ".join(str(int(item)) for item in DiffieHellmanGroup if item.windows_2000)
            raise PolicyError(f"{where}: PFS group {int(group)} {refused} {groups}, or profile modern")
