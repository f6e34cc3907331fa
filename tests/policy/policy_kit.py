"""A store in memory, policies of all shapes for hypothesis, and the order of GUIDs of one test."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace

from hypothesis import strategies as st

from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.methods import (
    Confidentiality,
    DiffieHellmanGroup,
    Integrity,
    KeyExchangeMethod,
    SecurityMethod,
)
from ipsec_core.policy.model import (
    AuthenticationKind,
    AuthenticationMethod,
    ConnectionType,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.objects import Changes, ObjectName, StoredObject, by_name
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList
from ipsec_core.policy.storage import save


class MemoryStore:
    """A `PolicyStore` that keeps what it is given, and the steps it was given it in."""

    def __init__(self, objects: Iterable[StoredObject] = (), assigned: uuid.UUID | None = None) -> None:
        self.kept = by_name(objects)
        self.active = assigned
        self.steps: list[Changes] = []

    def objects(self) -> tuple[StoredObject, ...]:
        return tuple(self.kept.values())

    def assigned(self) -> uuid.UUID | None:
        return self.active

    def apply(self, changes: Changes, now: int) -> None:
        self.steps.append(changes)
        for item in changes.put:
            self.kept[item.name] = replace(item, when_changed=now)
        for name in changes.delete:
            del self.kept[name]
        if changes.assign is not ...:
            self.active = changes.assign

    def named(self, text: str) -> StoredObject:
        return self.kept[ObjectName.parse(text)]


def guids() -> Callable[[], uuid.UUID]:
    """1, 2, 3 and so on."""
    numbers = itertools.count(1)
    return lambda: uuid.UUID(int=next(numbers))


def stored(*policies: Policy) -> MemoryStore:
    """A store with these policies, as a catalogue writes them."""
    store, catalogue = MemoryStore(), Catalogue(new_guid=guids())
    for policy in policies:
        catalogue.add_policy(policy)
    save(catalogue, store, 1)
    return store


names = st.text(max_size=6)
_words = st.text(min_size=1, max_size=6)
_addresses = st.just(ANY) | st.builds(
    lambda number, length, name: (
        replace(Address.parse(f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"), dns_name=name)
        if length == 32
        else Address.parse(f"{number >> 24}.0.0.0/{max(length, 8)}")
    ),
    st.integers(0x01000000, 0xFFFFFFFF),
    st.integers(1, 32),
    names,
)
_with_ports = st.builds(
    Filter,
    names,
    source=_addresses | st.just(MY),
    destination=_addresses,
    protocol=st.sampled_from([6, 17]),
    source_port=st.integers(0, 65535),
    destination_port=st.integers(0, 65535),
    mirrored=st.booleans(),
)
_without_ports = st.builds(
    Filter,
    names,
    source=_addresses,
    destination=_addresses | st.just(MY),
    protocol=st.integers(0, 255),
    mirrored=st.booleans(),
)
filter_lists = st.builds(FilterList, names, names, st.lists(_with_ports | _without_ports, max_size=3).map(tuple))
_seconds = st.integers(1, 172_799) | st.just(3600)
_kilobytes = st.integers(1, 2_147_483_647) | st.just(100_000)
_integrities = st.sampled_from(Integrity)
_combined = st.sampled_from([item for item in Confidentiality if item.combined])
_plain = st.sampled_from([item for item in Confidentiality if not item.combined and item is not Confidentiality.NULL])
security_methods = st.one_of(
    st.builds(SecurityMethod, _combined, st.none(), st.none() | _integrities, _seconds, _kilobytes),
    st.builds(SecurityMethod, _plain, st.none() | _integrities, st.none() | _integrities, _seconds, _kilobytes),
    st.builds(SecurityMethod, st.just(Confidentiality.NULL), _integrities, st.none(), _seconds, _kilobytes),
    st.builds(SecurityMethod, st.none(), st.none(), _integrities, _seconds, _kilobytes),
)
_negotiating = st.builds(
    FilterAction,
    names,
    st.just(FilterActionKind.NEGOTIATE),
    st.lists(security_methods, min_size=1, max_size=3).map(tuple),
    inbound_passthrough=st.booleans(),
    allow_unsecured=st.booleans(),
    description=names,
)
negotiating = _negotiating | st.builds(
    lambda action, group: replace(action, pfs=True, pfs_group=group),
    _negotiating,
    st.none() | st.sampled_from(DiffieHellmanGroup),
)
_simple = st.builds(
    FilterAction, names, st.sampled_from([FilterActionKind.PERMIT, FilterActionKind.BLOCK]), description=names
)
_authentication = st.just(AuthenticationMethod(AuthenticationKind.KERBEROS)) | st.builds(
    AuthenticationMethod, st.sampled_from([AuthenticationKind.PRESHARED_KEY, AuthenticationKind.CERTIFICATE]), _words
)
_some = st.lists(_authentication, min_size=1, max_size=2).map(tuple)
_common = {"connection_type": st.sampled_from(ConnectionType), "active": st.booleans(), "description": names}
rules = st.one_of(
    st.builds(
        Rule,
        names,
        filter_lists,
        negotiating,
        _some,
        st.none() | st.ip_addresses(v=4, network="10.0.0.0/8"),
        **_common,
    ),
    st.builds(Rule, names, filter_lists, _simple, st.just(()) | _some, **_common),
)
responses = st.builds(Rule, names, st.none(), negotiating, _some, **_common)
key_exchange_methods = st.builds(
    KeyExchangeMethod,
    st.sampled_from(
        [
            Confidentiality.DES,
            Confidentiality.TRIPLE_DES,
            Confidentiality.AES_128_CBC,
            Confidentiality.AES_192_CBC,
            Confidentiality.AES_256_CBC,
        ]
    ),
    _integrities,
    st.sampled_from(DiffieHellmanGroup),
    st.integers(0, 3),
)
key_exchanges = st.builds(
    KeyExchangeSettings,
    st.lists(key_exchange_methods, min_size=1, max_size=3).map(tuple),
    st.integers(1, 3) | st.just(28_800),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 600),
)


def distinct(policy: Policy, suffix: str = "") -> Policy:
    """Filter lists and actions without a GUID are shared by name, so that two must not have one name."""
    rules = tuple(
        replace(
            rule,
            filter_list=rule.filter_list and replace(rule.filter_list, name=f"{rule.filter_list.name}{number}{suffix}"),
            filter_action=replace(rule.filter_action, name=f"{rule.filter_action.name}{number}{suffix}"),
        )
        for number, rule in enumerate(policy.rules)
    )
    return replace(policy, rules=rules)


policies = st.builds(
    lambda name, description, some, response, exchange, seconds: distinct(
        Policy(name, description, (*some, *response), exchange, seconds)
    ),
    _words,
    names,
    st.lists(rules, max_size=3),
    st.lists(responses, max_size=1),
    key_exchanges | st.just(KeyExchangeSettings()),
    st.integers(1, 100_000),
)
