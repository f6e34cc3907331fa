"""Where policy and IKE meet: security methods become offers, filters become selectors, and back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.computer.credentials import Credentials, main_mode_methods
from ipsec_core.computer.dynamic import FIRST_NUMBER, DynamicFilters
from ipsec_core.computer.profiles import Profile, check_profile
from ipsec_core.computer.strength import exported_exchanges, exported_methods
from ipsec_core.computer.suites import available, suite_for
from ipsec_core.driver import Action, Driver, Filter, Upcall
from ipsec_core.errors import PolicyError
from ipsec_core.ike import (
    Acquire,
    AuthMethod,
    Encapsulation,
    Encryption,
    Group,
    Hash,
    MainModeOffer,
    MainModePolicy,
    QuickModeEstablished,
    QuickModeOffer,
    QuickModePolicy,
    TrafficSelector,
)
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.methods import Confidentiality, Integrity, KeyExchangeMethod, SecurityMethod
from ipsec_core.policy.model import FilterActionKind, Policy, Rule
from ipsec_core.policy.selectors import FilterList

_ENCRYPTION = {
    Confidentiality.DES: (Encryption.DES_CBC, 0),
    Confidentiality.TRIPLE_DES: (Encryption.TRIPLE_DES_CBC, 0),
    Confidentiality.AES_128_CBC: (Encryption.AES_CBC, 128),
    Confidentiality.AES_192_CBC: (Encryption.AES_CBC, 192),
    Confidentiality.AES_256_CBC: (Encryption.AES_CBC, 256),
}
_HASH = {
    Integrity.MD5: Hash.MD5,
    Integrity.SHA1: Hash.SHA1,
    Integrity.SHA256: Hash.SHA256,
    Integrity.SHA384: Hash.SHA384,
    Integrity.SHA512: Hash.SHA512,
}
_ENCRYPTION_WORDS = {number: item.text.removesuffix("-CBC") for item, number in _ENCRYPTION.items()}
_HASH_WORDS = {number: item.text for item, number in _HASH.items()}
_NO_ID = uuid.UUID(int=0)
_NO_LIST = FilterList("", "", ())
_ACTIONS = {
    "permit": Action.PERMIT,
    "block": Action.BLOCK,
    "negotiate": Action.NEGOTIATE,
    "passthrough": Action.PASSTHROUGH,
}


def main_mode_words(offer: MainModeOffer) -> tuple[str, str]:
    """Encryption and hash of a Main Mode SA in the policy's words."""
    return _ENCRYPTION_WORDS[offer.encryption, offer.key_bits], _HASH_WORDS[offer.hash]


def _quick_mode_offers(
    rule: Rule, methods: Iterable[SecurityMethod], pfs_group: Group | None
) -> Iterator[QuickModeOffer]:
    for method in methods:
        suite = suite_for(method)
        if suite is not None and available(suite):
            yield QuickModeOffer(
                suite.cipher.transform if suite.cipher else None,
                suite.mac.esp if suite.mac else None,
                Encapsulation.TRANSPORT if rule.tunnel_endpoint is None else Encapsulation.TUNNEL,
                key_bits=suite.cipher.key_bits if suite.cipher else 0,
                lifetime_seconds=method.lifetime_seconds,
                lifetime_kilobytes=method.lifetime_kilobytes,
                pfs_group=pfs_group,
                ah=suite.ah.ah if suite.ah else None,
            )


def _main_mode_offers(
    policy: Policy, methods: Iterable[KeyExchangeMethod], authentication: Iterable[AuthMethod]
) -> tuple[MainModeOffer, ...]:
    """A transform for each way to authenticate under each method, as the Windows family sends them."""
    return tuple(
        MainModeOffer(
            _ENCRYPTION[method.encryption][0],
            _HASH[method.integrity],
            Group(int(method.group)),
            auth,
            lifetime_seconds=policy.key_exchange.lifetime_of(method),
            key_bits=_ENCRYPTION[method.encryption][1],
        )
        for method in methods
        for auth in authentication
    )


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes a filter the one that it was, when the policy changes: SAs under it may live on."""

    filter: DriverFilter
    rule: Rule


class PolicyView:
    """A computer's active policy as its IKE engine sees it (the protocol `ike.IkePolicy`).

    `filters` are the policy's own by number, in order; the number names a filter towards the driver and the engine. A
    filter that was the same in the view `before`, with the same filter action and authentication, keeps its number.
    `dynamic` are those of the default response rule, which begin anew.
    With `high_encryption` False 3DES becomes DES. Raises PolicyError when the policy offers what the computer's profile
    does not have, or a rule negotiates but none of its security or authentication methods can be carried out here.
    """

    def __init__(
        self,
        policy: Policy,
        filters: tuple[DriverFilter, ...],
        profile: Profile,
        credentials: Credentials,
        *,
        high_encryption: bool = True,
        before: PolicyView | None = None,
    ) -> None:
        check_profile(policy, profile)
        self.policy = policy
        self._numbers: dict[_Key, int] = {}
        self._next: int = before._next if before else 0
        self.filters = {self._number(item, before): item for item in filters}
        self.dynamic: DynamicFilters = DynamicFilters(policy, before.dynamic if before else None)
        exchanges = policy.key_exchange.methods
        allowed = exchanges if high_encryption else exported_exchanges(exchanges)
        self._offers: dict[int, tuple[QuickModeOffer, ...]] = {}
        self._main_modes: dict[int, MainModePolicy] = {}
        self._weakened: dict[int, bool] = {}
        self.weak_key_exchange = allowed != exchanges
        for number, rule in enumerate(policy.rules):
            if not rule.active or rule.filter_action.action is not FilterActionKind.NEGOTIATE:
                continue
            where = f"policy {policy.name!r}, rule {rule.name!r}"
            methods = rule.filter_action.methods
            usable = methods if high_encryption else exported_methods(methods)
            self._weakened[number] = usable != methods
            # RFC 2409 5.5 has one KE payload in a Quick Mode, so one group for all of its offers.
            chosen = (rule.filter_action.pfs_group or exchanges[0].group) if rule.filter_action.pfs else None
            group = None if chosen is None else Group(int(chosen))
            self._offers[number] = tuple(_quick_mode_offers(rule, usable, group))
            if not self._offers[number]:
                given = ", ".join(str(method) for method in methods)
                raise PolicyError(
                    f"{where}: no security method can be carried out ({given}); accepted: {profile.accepted()}"
                )
            found = main_mode_methods(rule, credentials, where)
            self._main_modes[number] = MainModePolicy(
                _main_mode_offers(policy, allowed, found.methods),
                found.preshared_key,
                policy.key_exchange.quick_modes_per_main_mode,
                found.certificates,
                found.kerberos,
            )

    def _number(self, item: DriverFilter, before: PolicyView | None) -> int:
        rule = self.policy.rules[item.rule]
        # Names, order and weight are nothing to an SA.
        key = _Key(
            replace(item, filter_id=_NO_ID, policy_id=_NO_ID, name="", weight=0, rule=0),
            replace(rule, name="", filter_list=_NO_LIST, filter_action=replace(rule.filter_action, name="")),
        )
        number = before._numbers.get(key) if before else None
        if number is None:
            number, self._next = self._next, self._next + 1
        self._numbers[key] = number
        return number

    # What the driver is given

    def all_filters(self) -> dict[int, DriverFilter]:
        """Those of the driver by number, in order: no dynamic one comes before one of the policy's own."""
        return self.filters | self.dynamic.in_order()

    def driver_filters(self) -> Iterator[Filter]:
        """The policy's own; `change_filters` adds to them."""
        return _records(self.filters)

    def change_filters(self, driver: Driver) -> None:
        """Gives the driver what has changed in the dynamic ones."""
        removed, added = self.dynamic.changes()
        if removed:
            driver.remove_filters(removed)
        for place, filters in added:
            driver.insert_filters(len(self.filters) + place, _records(filters))

    # What the engine asks

    def main_mode(self, local: str, remote: str) -> MainModePolicy | None:
        """Of the first rule that negotiates with the peer, else of the default response rule."""
        rule = self._main_mode_rule(remote)
        return None if rule is None else self._main_modes[rule]

    def _main_mode_rule(self, remote: str) -> int | None:
        peer = IPv4Address(remote)
        for item in self._negotiating():
            if item.tunnel_endpoint == peer if item.tunnel_endpoint else peer in item.destination:
                return item.rule
        return self.dynamic.rule

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy | None:
        """Of the most specific outbound filter that contains the selectors (as seen from here).

        Where no filter says anything to them: of the default response rule.
        """
        peer = IPv4Address(remote)
        # Transport mode protects packets between the two computers themselves (RFC 2401 4.1).
        between = (IPv4Network(local), IPv4Network((int(peer), 32))) == (selectors.source, selectors.destination)
        for reference, item in self.filters.items():
            if item.action != "negotiate" or item.direction != "outbound" or not _contains(item, selectors):
                continue
            if item.tunnel_endpoint is None:
                return QuickModePolicy(self._offers[item.rule], reference) if between else None
            if item.tunnel_endpoint == peer:
                return QuickModePolicy(self._offers[item.rule], reference)
        if self.dynamic.rule is None or not between or not self._may_respond(self.dynamic.rule, remote, selectors):
            return None
        number = self.dynamic.number(remote, selectors)
        return None if number is None else QuickModePolicy(self._offers[self.dynamic.rule], number)

    def _may_respond(self, response: int, remote: str, selectors: TrafficSelector) -> bool:
        """Whether the default response rule is for these selectors.

        It is not if a filter has them, or blocks a part of what would come in: the driver does not ask filters about
        packets that an SA has let in. Nor if Main Mode with the peer is done by a rule that authenticates otherwise.
        """
        back = selectors.mirrored()
        for item in self.filters.values():
            way = selectors if item.direction == "outbound" else back
            if _contains(item, way) or (item.direction == "inbound" and item.action == "block" and _meets(item, way)):
                return False
        rule = self._main_mode_rule(remote)
        assert rule is not None
        rules = self.policy.rules
        return rules[rule].authentication_methods == rules[response].authentication_methods

    # What the computer asks

    def acquire(self, upcall: Upcall) -> Acquire:
        """What to ask the engine for, given a packet that waits."""
        item = self.filters.get(upcall.filter) or self.dynamic.filters[upcall.filter]
        if item.tunnel_endpoint is None:
            source, destination = IPv4Network(upcall.source), IPv4Network(upcall.destination)
        else:
            source, destination = item.source, item.destination
        selectors = TrafficSelector(source, destination, item.protocol, item.source_port, item.destination_port)
        # Where a peer has asked for security, its silence is no reason to do without.
        soft = upcall.filter in self.filters and self.policy.rules[item.rule].filter_action.allow_unsecured
        return Acquire(str(upcall.peer), selectors, self._offers[item.rule], upcall.filter, soft)

    def has(self, reference: int) -> bool:
        return reference in self.filters or reference in self.dynamic.filters

    def takes(self, pair: QuickModeEstablished) -> bool:
        """Whether a new pair has a filter to serve, or gets one from the default response rule."""
        return pair.reference in self.filters or self.dynamic.hold(pair)

    def offers_of(self, reference: int) -> tuple[QuickModeOffer, ...]:
        return self._offers[self._rule_of(reference)]

    def weak_methods(self, reference: int) -> bool:
        """Whether the security methods of a filter's rule were weakened to export strength."""
        return self._weakened[self._rule_of(reference)]

    def _rule_of(self, reference: int) -> int:
        if reference < FIRST_NUMBER:
            return self.filters[reference].rule
        assert self.dynamic.rule is not None
        return self.dynamic.rule

    def inbound_filter(self, selectors: TrafficSelector) -> int | None:
        """The first inbound filter for packets with these selectors that lets no clear text in, or any."""
        for reference, item in self.filters.items():
            if item.direction == "inbound" and _contains(item, selectors):
                return reference if item.action in ("negotiate", "passthrough") else None
        return None

    def same_key_exchange(self, other: PolicyView, remote: str) -> bool:
        """Whether Main Mode with the peer would be done, and in the same way as under the other policy."""
        mine, others = self._main_mode_rule(remote), other._main_mode_rule(remote)
        return (
            mine is not None
            and others is not None
            and self.policy.key_exchange == other.policy.key_exchange
            and self.policy.rules[mine].authentication_methods == other.policy.rules[others].authentication_methods
        )

    def _negotiating(self) -> Iterable[DriverFilter]:
        return (item for item in self.filters.values() if item.action == "negotiate" and item.direction == "outbound")


def _records(filters: Mapping[int, DriverFilter]) -> Iterator[Filter]:
    for reference, item in filters.items():
        outbound = item.direction == "outbound"
        yield Filter(
            reference,
            "out" if outbound else "in",
            _ACTIONS[item.action],
            item.source,
            item.destination,
            item.protocol,
            item.source_port,
            item.destination_port,
            item.tunnel_endpoint if outbound else None,
        )


def _contains(item: DriverFilter, selectors: TrafficSelector) -> bool:
    return (
        selectors.source.subnet_of(item.source)
        and selectors.destination.subnet_of(item.destination)
        and item.protocol in (0, selectors.protocol)
        and item.source_port in (0, selectors.source_port)
        and item.destination_port in (0, selectors.destination_port)
    )


def _meets(item: DriverFilter, selectors: TrafficSelector) -> bool:
    """Whether a packet can match both."""
    return (
        selectors.source.overlaps(item.source)
        and selectors.destination.overlaps(item.destination)
        and (0 in (item.protocol, selectors.protocol) or item.protocol == selectors.protocol)
        and (0 in (item.source_port, selectors.source_port) or item.source_port == selectors.source_port)
        and (
            0 in (item.destination_port, selectors.destination_port)
            or item.destination_port == selectors.destination_port
        )
    )
