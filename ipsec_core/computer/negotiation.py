"""Where policy and IKE meet: security methods become offers, filters become selectors, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.computer.suites import Profile, accepted, available, check_profile, suite_for
from ipsec_core.driver import Upcall
from ipsec_core.errors import PolicyError
from ipsec_core.ike import (
    Acquire,
    Encapsulation,
    Encryption,
    Group,
    Hash,
    MainModeOffer,
    MainModePolicy,
    QuickModeOffer,
    QuickModePolicy,
    TrafficSelector,
)
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.model import (
    AuthenticationKind,
    Confidentiality,
    FilterActionKind,
    Integrity,
    KeyExchangeMethod,
    Policy,
    Rule,
)

_ENCRYPTION = {Confidentiality.DES: Encryption.DES_CBC, Confidentiality.TRIPLE_DES: Encryption.TRIPLE_DES_CBC}
_HASH = {Integrity.MD5: Hash.MD5, Integrity.SHA1: Hash.SHA1}
ENCRYPTION_WORDS = {number: item.text for item, number in _ENCRYPTION.items()}
HASH_WORDS = {number: item.text for item, number in _HASH.items()}


def _quick_mode_offers(rule: Rule) -> tuple[QuickModeOffer, ...]:
    mode = Encapsulation.TRANSPORT if rule.tunnel_endpoint is None else Encapsulation.TUNNEL
    offers = []
    for method in rule.filter_action.methods:
        suite = suite_for(method)
        if suite is None or not available(suite):
            continue
        offers.append(
            QuickModeOffer(
                suite.cipher.transform,
                suite.mac.esp if suite.mac else None,
                mode,
                key_bits=suite.cipher.key_bits,
                lifetime_seconds=method.lifetime_seconds,
                lifetime_kilobytes=method.lifetime_kilobytes,
            )
        )
    return tuple(offers)


def _main_mode_offer(policy: Policy, method: KeyExchangeMethod) -> MainModeOffer:
    return MainModeOffer(
        _ENCRYPTION[method.encryption],
        _HASH[method.integrity],
        Group(int(method.group)),
        lifetime_seconds=policy.key_exchange.lifetime_of(method),
    )


class PolicyView:
    """A computer's active policy as its IKE engine sees it (the protocol `ike.IkePolicy`).

    `references` numbers the driver filters; the number names a filter towards the driver and the engine. Raises
    PolicyError when the policy offers what the computer's profile does not have, or a rule negotiates but none of its
    security methods or authentication methods can be carried out here.
    """

    def __init__(self, policy: Policy, filters: tuple[DriverFilter, ...], profile: Profile) -> None:
        check_profile(policy, profile)
        self.policy = policy
        self.filters = filters
        self._main_mode_offers = tuple(_main_mode_offer(policy, method) for method in policy.key_exchange.methods)
        self._offers: dict[int, tuple[QuickModeOffer, ...]] = {}
        self._keys: dict[int, bytes] = {}
        for number, rule in enumerate(policy.rules):
            if not rule.active or rule.filter_action.action is not FilterActionKind.NEGOTIATE:
                continue
            where = f"policy {policy.name!r}, rule {rule.name!r}"
            offers = _quick_mode_offers(rule)
            if not offers:
                methods = ", ".join(str(method) for method in rule.filter_action.methods)
                raise PolicyError(
                    f"{where}: no security method can be carried out ({methods}); accepted: {accepted(profile)}"
                )
            group = max((offer.group for offer in self._main_mode_offers), key=int)
            if rule.filter_action.pfs:
                offers = tuple(replace(offer, pfs_group=group) for offer in offers)
            self._offers[number] = offers
            keys = [m.value for m in rule.authentication_methods if m.kind is AuthenticationKind.PRESHARED_KEY]
            if not keys:
                kinds = ", ".join(m.kind.name.lower() for m in rule.authentication_methods)
                raise PolicyError(
                    f"{where}: no authentication method can be carried out ({kinds}); accepted: preshared_key"
                )
            # The low byte of each character, as Windows 2000 takes the key from its Unicode text.
            self._keys[number] = bytes(ord(character) & 0xFF for character in keys[0])

    def main_mode(self, local: str, remote: str) -> MainModePolicy | None:
        """Of the first rule that negotiates with the peer."""
        peer = IPv4Address(remote)
        for item in self._negotiating():
            if item.tunnel_endpoint == peer if item.tunnel_endpoint else peer in item.destination:
                return MainModePolicy(
                    self._main_mode_offers, self._keys[item.rule], self.policy.key_exchange.quick_modes_per_main_mode
                )
        return None

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy | None:
        """Of the most specific outbound filter that contains the selectors (as seen from here)."""
        peer = IPv4Address(remote)
        for reference, item in enumerate(self.filters):
            if item.action != "negotiate" or item.direction != "outbound" or not _contains(item, selectors):
                continue
            if item.tunnel_endpoint is None:
                # Transport mode protects packets between the two computers themselves (RFC 2401 4.1).
                host = IPv4Network((int(peer), 32))
                if selectors.destination != host or selectors.source != IPv4Network(local):
                    return None
            elif item.tunnel_endpoint != peer:
                continue
            return QuickModePolicy(self._offers[item.rule], reference)
        return None

    def acquire(self, upcall: Upcall) -> Acquire:
        """What to ask the engine for, given a packet that waits."""
        item = self.filters[upcall.filter]
        if item.tunnel_endpoint is None:
            source, destination = IPv4Network(upcall.source), IPv4Network(upcall.destination)
        else:
            source, destination = item.source, item.destination
        selectors = TrafficSelector(source, destination, item.protocol, item.source_port, item.destination_port)
        return Acquire(str(upcall.peer), selectors, self._offers[item.rule], upcall.filter)

    def rule_of(self, reference: int) -> Rule:
        return self.policy.rules[self.filters[reference].rule]

    def offers_of(self, reference: int) -> tuple[QuickModeOffer, ...]:
        return self._offers[self.filters[reference].rule]

    def _negotiating(self) -> Iterable[DriverFilter]:
        return (item for item in self.filters if item.action == "negotiate" and item.direction == "outbound")


def _contains(item: DriverFilter, selectors: TrafficSelector) -> bool:
    return (
        selectors.source.subnet_of(item.source)
        and selectors.destination.subnet_of(item.destination)
        and item.protocol in (0, selectors.protocol)
        and item.source_port in (0, selectors.source_port)
        and item.destination_port in (0, selectors.destination_port)
    )
