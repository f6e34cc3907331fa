"""Stored objects <-> policies: every policy returns, what is unchanged keeps its bytes, one line for what is broken."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_kit import MemoryStore, distinct, guids, policies, stored

from ipsec_core.errors import PolicyError
from ipsec_core.policy import blobs
from ipsec_core.policy.blobs import (
    AlgorithmData,
    BlobData,
    FilterData,
    IsakmpData,
    NegotiationData,
    NfaData,
    PolicyData,
    QuickModeOfferData,
    decode,
    encode,
)
from ipsec_core.policy.builtin import builtin_objects
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.integrity import check
from ipsec_core.policy.methods import (
    DEFAULT_RESPONSE_METHODS,
    Confidentiality,
    Integrity,
    KeyExchangeMethod,
    SecurityMethod,
)
from ipsec_core.policy.model import (
    ConnectionType,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.objects import (
    DEFAULT_RESPONSE_TYPE,
    STANDARD_TYPE,
    ObjectClass,
    ObjectName,
    StoredObject,
)
from ipsec_core.policy.records import SECTION_GUID
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList
from ipsec_core.policy.storage import read_catalogue, read_policy, save

FAMILY = "70FA-11D1-864C-14A300000000}"
SERVER = "ipsecPolicy{72385230-" + FAMILY
REQUEST = "ipsecNegotiationPolicy{72385233-" + FAMILY
PERMIT = "ipsecNegotiationPolicy{7238523B-" + FAMILY
MAIN_MODE = "ipsecISAKMPPolicy{72385231-" + FAMILY
RULE = "ipsecNFA{72385232-" + FAMILY
ALL_IP = "ipsecFilter{7238523A-" + FAMILY
VERSION = "ipsecNFA{6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17}"
RESPONSE = FilterAction("", FilterActionKind.NEGOTIATE, DEFAULT_RESPONSE_METHODS)
SECURE = FilterAction("Secure", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("ESP[3DES,SHA1]"),))
LAN = FilterList("LAN", "", (Filter("", MY, Address.parse("10.0.0.0/8")),))


def builtin() -> MemoryStore:
    return MemoryStore(builtin_objects(1))


def with_data(text: str, change: Callable[[BlobData], BlobData]) -> MemoryStore:
    """The built-in policies with one blob changed."""
    store = builtin()
    item = store.named(text)
    store.kept[item.name] = replace(item, data=encode(change(decode(item.data))))
    return store


def edited(store: MemoryStore, edit: Callable[[Catalogue], object]) -> set[str]:
    """What one editing step writes: the names of the objects."""
    catalogue = read_catalogue(store, new_guid=guids())
    edit(catalogue)
    changes = save(catalogue, store, 2)
    assert check(store.objects(), store.assigned()) == ()
    return {str(item.name) for item in changes.put}


@settings(max_examples=60)
@given(policies)
def test_every_policy_returns(policy: Policy) -> None:
    store = stored(policy)
    (name,) = (name for name in store.kept if name.object_class is ObjectClass.POLICY)
    assert read_policy(store.objects(), name.guid) == policy
    catalogue = read_catalogue(store)
    assert catalogue.policies == (policy,)
    names = [(one.source.dns_name, one.destination.dns_name) for rule in policy.rules for one in rule.filters]
    kept = catalogue.policies[0].rules
    assert [(one.source.dns_name, one.destination.dns_name) for rule in kept for one in rule.filters] == names
    assert not save(catalogue, store, 9)
    if policy.rules:
        assert check(store.objects()) == ()


@settings(max_examples=50)
@given(policies, policies)
def test_a_policy_becomes_any_other(before: Policy, after: Policy) -> None:
    store = stored(before)
    catalogue = read_catalogue(store, new_guid=uuid.uuid4)
    after = distinct(after, "b")
    catalogue.replace_policy(before.name, after)
    save(catalogue, store, 2)
    assert read_catalogue(store).policies == (after,)
    if after.rules:
        assert check(store.objects()) == ()


def test_saving_what_was_read_writes_nothing() -> None:
    store = builtin()
    assert edited(store, lambda catalogue: None) == set()
    assert store.steps == []


def test_saving_twice_writes_once() -> None:
    store = builtin()
    catalogue = read_catalogue(store, new_guid=guids())
    catalogue.add_filter_list(LAN)
    catalogue.assign("Server (Request Security)")
    assert save(catalogue, store, 2)
    assert not save(catalogue, store, 3)
    assert store.active == uuid.UUID("72385230-70FA-11D1-864C-14A300000000")
    catalogue.assign(None)
    assert save(catalogue, store, 4).assign is None
    assert store.active is None


def test_one_new_setting_is_one_object() -> None:
    def slower(catalogue: Catalogue) -> None:
        policy = catalogue.policy("Server (Request Security)")
        catalogue.replace_policy(policy.name, replace(policy, polling_interval_seconds=60))

    store = builtin()
    assert edited(store, slower) == {SERVER}
    assert decode(store.named(SERVER).data) == PolicyData(60)
    assert store.named(SERVER).when_changed == 2
    assert store.named(RULE).when_changed == 1


def test_a_changed_object_keeps_what_others_wrote_there() -> None:
    """Bytes left in memory of the offers that remain, and a section that nobody here knows."""
    section = b"\0" + uuid.UUID(int=7).bytes_le + b"\2\0\0\0ab"

    def foreign(data: BlobData) -> BlobData:
        assert isinstance(data, NegotiationData)
        return replace(data, tail=section)

    def without_des(catalogue: Catalogue) -> None:
        action = catalogue.filter_action("Request Security (Optional)")
        methods = (SecurityMethod.parse("AH[SHA1]"), action.methods[0], action.methods[3])
        catalogue.replace_filter_action(action.name, replace(action, methods=methods))

    store = with_data(REQUEST, foreign)
    before = decode(store.named(REQUEST).data)
    assert edited(store, without_des) == {REQUEST}
    after = decode(store.named(REQUEST).data)
    assert isinstance(before, NegotiationData)
    assert isinstance(after, NegotiationData)
    assert after.offers[1:] == (before.offers[0], before.offers[3], before.offers[4])
    assert after.offers[0].algorithms[0] == AlgorithmData(2, 0, 1, 64, 8)
    assert after.offers[0].lifetime_seconds == after.offers[0].lifetime_kilobytes == 0
    assert after.tail == section


def test_another_name_leaves_the_blob_alone() -> None:
    def rename(catalogue: Catalogue) -> None:
        action = catalogue.filter_action("Request Security (Optional)")
        catalogue.replace_filter_action(action.name, replace(action, name="Ask first"))

    store = builtin()
    data = store.named(REQUEST).data
    assert edited(store, rename) == {REQUEST}
    assert store.named(REQUEST).data == data
    assert store.named(REQUEST).display_name == "Ask first"


def test_a_filter_that_stays_keeps_its_record() -> None:
    def options(data: BlobData) -> BlobData:
        assert isinstance(data, FilterData)
        return FilterData((replace(data.records[0], options=b"xy"),), -4)

    def one_more(catalogue: Catalogue) -> None:
        known = catalogue.filter_list("All IP Traffic")
        more = Filter("web", MY, ANY, 6, 0, 80)
        catalogue.replace_filter_list(known.name, replace(known, filters=(more, *known.filters)))

    store = with_data(ALL_IP, options)
    assert edited(store, one_more) == {ALL_IP}
    data = decode(store.named(ALL_IP).data)
    assert isinstance(data, FilterData)
    assert [record.options for record in data.records] == [bytes(2), b"xy"]
    assert data.length_offset == -4


def test_what_belongs_to_a_deleted_policy_goes_with_it() -> None:
    """Rules before the policy; shared filter lists and actions remain, without the owner that they had."""
    store = builtin()
    catalogue = read_catalogue(store)
    catalogue.delete_policy("Server (Request Security)")
    changes = save(catalogue, store, 2)
    kinds = [name.object_class for name in changes.delete]
    assert kinds == [ObjectClass.NFA] * 3 + [ObjectClass.POLICY, ObjectClass.ISAKMP, ObjectClass.NEGOTIATION]
    assert store.named(REQUEST).owners == ()
    assert [str(name) for name in store.named(ALL_IP).owners] == ["ipsecNFA{7238523E-" + FAMILY]
    assert check(store.objects()) == ()


def test_what_nobody_understands_remains() -> None:
    store = builtin()
    orphan = StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=1)), b"?", owners=(ObjectName.parse(RULE),))
    lonely = replace(store.named(RULE), name=ObjectName.of(ObjectClass.NFA, uuid.UUID(int=2)), owners=())
    store.kept |= {orphan.name: orphan, lonely.name: lonely}
    catalogue = read_catalogue(store)
    for name in [policy.name for policy in catalogue.policies]:
        catalogue.delete_policy(name)
    save(catalogue, store, 2)
    assert store.kept[orphan.name] == orphan
    assert store.kept[lonely.name] == lonely
    assert str(store.named(VERSION).name) == VERSION
    assert store.named(ALL_IP).owners == (lonely.name,)


def test_the_action_of_a_default_response_is_not_offered() -> None:
    store = stored(Policy("P", rules=(Rule("", LAN, SECURE), Rule("", None, RESPONSE))))
    assert [item.name for item in read_catalogue(store).filter_actions] == ["Secure"]
    kinds = {item.display_name: item.kind for item in store.objects() if item.kind}
    assert kinds == {"Secure": STANDARD_TYPE, "": DEFAULT_RESPONSE_TYPE}


def test_data_type_is_that_of_the_store() -> None:
    store = MemoryStore(replace(item, data_type=0x256) for item in builtin_objects())
    edited(store, lambda catalogue: catalogue.add_filter_list(LAN))
    assert {item.data_type for item in store.objects()} == {0x256}


NEW_RULE = Rule("R", LAN, SECURE, tunnel_endpoint=IPv4Address("192.0.2.1"), connection_type=ConnectionType.LAN)


def test_numbers_as_older_systems_read_them() -> None:
    methods = (
        KeyExchangeMethod.parse("3DES-SHA1-2"),
        KeyExchangeMethod.parse("DES-MD5-1:60s"),
        KeyExchangeMethod.parse("AES-256-SHA256-14"),
        KeyExchangeMethod.parse("3DES-SHA1-19"),
    )
    store = stored(Policy("P", rules=(NEW_RULE,), key_exchange=KeyExchangeSettings(methods, 3600, True, 4)))
    data = {type(one): one for one in (decode(item.data) for item in store.objects())}
    main_mode, rule = data[IsakmpData], data[NfaData]
    assert isinstance(main_mode, IsakmpData)
    assert [(one.cipher, one.key_bits, one.hash, one.group, one.lifetime_seconds) for one in main_mode.methods] == [
        (3, 64, 2, 2, 3600),
        (1, 64, 1, 1, 60),
        (7, 256, 4, 0x10000001, 3600),
        (3, 64, 2, 19, 3600),
    ]
    assert (main_mode.master_pfs, main_mode.quick_mode_limit, main_mode.tail) == (1, 4, b"\0")
    assert {one.quick_mode_limit for one in main_mode.methods} == {4}
    assert isinstance(rule, NfaData)
    assert (rule.interface_type, str(rule.tunnel_endpoint), rule.is_tunnel) == (0xFFFFFFFE, "192.0.2.1", 1)


@pytest.mark.parametrize(
    ("text", "algorithms"),
    [
        ("ESP[NULL,SHA1]", [(0, 2, 2, 64)]),
        ("ESP[3DES,NONE]", [(3, 0, 2, 64)]),
        ("AH[MD5]+ESP[DES,SHA1]", [(1, 0, 1, 64), (1, 2, 2, 64)]),
        ("ESP[AES-128-CBC,SHA256]", [(12, 5, 2, 128)]),
        ("ESP[AES-192-CTR,SHA384]", [(13, 6, 2, 192)]),
        ("ESP[AES-256-GCM]", [(20, 0, 2, 256)]),
        ("AH[SHA512]", [(7, 0, 1, 64)]),
    ],
)
def test_numbers_of_security_methods(text: str, algorithms: list[tuple[int, int, int, int]]) -> None:
    action = replace(SECURE, methods=(SecurityMethod.parse(text),))
    store = stored(Policy("P", rules=(Rule("", LAN, action),)))
    (data,) = (one for one in (decode(item.data) for item in store.objects()) if isinstance(one, NegotiationData))
    (offer,) = data.offers
    assert [(one.algorithm, one.integrity, one.kind, one.key_bits) for one in offer.algorithms[: offer.count]] == (
        algorithms
    )


def test_our_own_section_goes_when_it_is_not_needed() -> None:
    store = stored(
        Policy("P", rules=(Rule("", LAN, SECURE),), key_exchange=KeyExchangeSettings(soft_lifetime_seconds=9))
    )
    catalogue = read_catalogue(store)
    assert any(SECTION_GUID.bytes_le in item.data for item in store.objects())
    catalogue.replace_policy("P", replace(catalogue.policy("P"), key_exchange=KeyExchangeSettings()))
    save(catalogue, store, 2)
    assert not any(SECTION_GUID.bytes_le in item.data for item in store.objects())


def _offer(**fields: object) -> Callable[[BlobData], BlobData]:
    """The first offer's first algorithm changed."""

    def change(data: BlobData) -> BlobData:
        assert isinstance(data, NegotiationData)
        first = data.offers[0]
        algorithm = replace(first.algorithms[0], **fields)
        offer = replace(first, algorithms=(algorithm, *first.algorithms[1:]))
        return replace(data, offers=(offer, *data.offers[1:]))

    return change


def _action(store: MemoryStore) -> FilterAction:
    return read_catalogue(store).filter_action("Request Security (Optional)")


def test_both_numbers_of_null_and_of_3des_are_read() -> None:
    for number in (0, 2):
        assert _action(with_data(REQUEST, _offer(algorithm=number))).methods[0].confidentiality is Confidentiality.NULL

    def cipher(data: BlobData) -> BlobData:
        assert isinstance(data, IsakmpData)
        return replace(data, methods=(replace(data.methods[0], cipher=2), *data.methods[1:]))

    settings = read_catalogue(with_data(MAIN_MODE, cipher)).policy("Server (Request Security)").key_exchange
    assert settings == KeyExchangeSettings()


def test_one_lifetime_of_zero_is_that_default() -> None:
    def half(data: BlobData) -> BlobData:
        assert isinstance(data, NegotiationData)
        return replace(data, offers=(replace(data.offers[0], lifetime_kilobytes=0, lifetime_seconds=700),))

    (method,) = _action(with_data(REQUEST, half)).methods
    assert (method.lifetime_kilobytes, method.lifetime_seconds) == (100_000, 700)


def test_pfs_is_one() -> None:
    def pfs(data: BlobData) -> BlobData:
        assert isinstance(data, NegotiationData)
        return replace(data, offers=tuple(replace(one, pfs=1) for one in data.offers))

    assert not _action(builtin()).pfs
    assert _action(with_data(REQUEST, pfs)).pfs


def test_lifetime_of_main_mode_in_each_method_or_in_the_settings() -> None:
    def lifetimes(seconds: int, *methods: int) -> Callable[[BlobData], BlobData]:
        def change(data: BlobData) -> BlobData:
            assert isinstance(data, IsakmpData)
            kept = tuple(replace(data.methods[0], lifetime_seconds=one) for one in methods)
            return replace(data, lifetime_seconds=seconds, methods=kept)

        return change

    for seconds, methods, expected in (
        (0, (28_800, 28_800), (28_800, 0, 0)),
        (0, (3600, 3600), (3600, 0, 0)),
        (28_800, (28_800, 60), (28_800, 0, 60)),
        (0, (0, 60), (28_800, 0, 60)),
    ):
        store = with_data(MAIN_MODE, lifetimes(seconds, *methods))
        read = read_catalogue(store).policy("Server (Request Security)").key_exchange
        assert (read.lifetime_seconds, *(one.lifetime_seconds for one in read.methods)) == expected


def _record(**fields: object) -> Callable[[BlobData], BlobData]:
    def change(data: BlobData) -> BlobData:
        assert isinstance(data, FilterData)
        return replace(data, records=(replace(data.records[0], **fields),))

    return change


def _nfa(**fields: object) -> Callable[[BlobData], BlobData]:
    def change(data: BlobData) -> BlobData:
        assert isinstance(data, NfaData)
        return replace(data, **fields)

    return change


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        (
            REQUEST,
            _offer(algorithm=9),
            "ESP algorithm 9 with 64 bits; accepted: 0, 1, 2, 3, with 128, 192, 256 bits 12,",
        ),
        (REQUEST, _offer(algorithm=12), "ESP algorithm 12 with 64 bits; accepted: "),
        (REQUEST, _offer(integrity=3), "ESP integrity algorithm 3; accepted: 1, 2, 5, 6, 7"),
        (REQUEST, _offer(kind=3), "protocol 3 in a Quick Mode offer; accepted: 1 (AH) and 2 (ESP), each once"),
        (REQUEST, _offer(kind=1, algorithm=4), "AH algorithm 4; accepted: 1, 2, 5, 6, 7"),
        (
            REQUEST,
            lambda data: NegotiationData((QuickModeOfferData(),)),
            "negotiate needs at least one security method",
        ),
        (MAIN_MODE, lambda data: IsakmpData(()), "key exchange needs at least one method"),
        (RULE, _nfa(interface_type=1), "0x1 is not an interface type; accepted: 0xfffffffd (all), "),
        (RULE, _nfa(authentication=(blobs.AuthenticationData(2),)), "2 is not a kind of authentication; accepted: 1 ("),
        (RULE, _nfa(authentication=(blobs.AuthenticationData(1),)), "a preshared key must not be empty"),
        (RULE, _nfa(is_tunnel=1), "0.0.0.0 is not a tunnel endpoint; accepted: the address of a host"),
        (RULE, lambda data: PolicyData(1), "its ipsecData is that of another class"),
        (
            ALL_IP,
            _record(special=1),
            "filter 1: special address 1 (of a DNS, WINS or DHCP server or the default gateway)",
        ),
        (
            ALL_IP,
            _record(source_mask=IPv4Address("255.0.255.0")),
            "filter 1: the mask 255.0.255.0 of 0.0.0.0 has holes",
        ),
        (ALL_IP, _record(protocol=256), "filter 1: protocol: 256 is out of range; accepted: 0 to 255"),
    ],
)
def test_a_blob_that_says_what_is_not_understood(name: str, change: Callable[[BlobData], BlobData], line: str) -> None:
    store = with_data(name, change)
    with pytest.raises(PolicyError) as raised:
        read_policy(store.objects(), ObjectName.parse(SERVER).guid)
    assert str(raised.value).startswith(f"{name}: {line}")
    assert "\n" not in str(raised.value)


MISSING = ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=5))


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        (SERVER, {"isakmp": None}, "ipsecISAKMPReference is missing"),
        (SERVER, {"isakmp": MISSING}, f"ipsecISAKMPReference {MISSING} is not of class ipsecISAKMPPolicy"),
        (RULE, {"filters": (MISSING,)}, f"ipsecFilterReference {MISSING} does not exist"),
        (RULE, {"filters": (MISSING, MISSING)}, "ipsecFilterReference names 2 filter lists; accepted: one"),
        (RULE, {"negotiation": None}, "ipsecNegotiationPolicyReference is missing"),
        (RULE, {"data": b""}, "GUID of the kind at byte 0 takes 16 bytes, and 0 are left"),
        (REQUEST, {"action": uuid.UUID(int=5)}, "ipsecNegotiationPolicyAction: {00000000-"),
        (REQUEST, {"action": None}, "ipsecNegotiationPolicyAction: none; accepted: {8A171DD2-"),
    ],
)
def test_a_broken_link_is_one_line_with_object_and_reference(name: str, fields: dict[str, object], line: str) -> None:
    store = builtin()
    item = store.named(name)
    store.kept[item.name] = replace(item, **fields)
    with pytest.raises(PolicyError) as raised:
        read_policy(store.objects(), ObjectName.parse(SERVER).guid)
    assert str(raised.value).startswith(f"{name}: {line}")
    with pytest.raises(PolicyError, match=r"; secpol check lists all that is broken$"):
        read_catalogue(store)


def test_no_such_policy() -> None:
    with pytest.raises(PolicyError, match=r"there is no ipsecPolicy\{00000000-0000-0000-0000-000000000001\}"):
        read_policy((), uuid.UUID(int=1))


@given(st.data())
def test_masks_are_those_of_subnets(draw: st.DataObject) -> None:
    mask = draw.draw(st.integers(0, 0xFFFFFFFF) | st.integers(0, 32).map(lambda n: 0xFFFFFFFF << n & 0xFFFFFFFF))
    store = with_data(ALL_IP, _record(destination_mask=IPv4Address(mask), destination=IPv4Address("10.1.2.3")))
    if "01" in f"{mask:032b}":
        with pytest.raises(PolicyError, match="has holes"):
            read_policy(store.objects(), ObjectName.parse(SERVER).guid)
    else:
        rule = read_policy(store.objects(), ObjectName.parse(SERVER).guid).rules[2]
        assert int(rule.filters[0].destination.network.netmask) == mask
        assert not edited(store, lambda catalogue: None)


def test_integrities_of_both_tables_have_a_number_each() -> None:
    """What the two tables of numbers must say for every algorithm of the model."""
    for integrity in Integrity:
        action = replace(SECURE, methods=(SecurityMethod(None, None, integrity),))
        settings = KeyExchangeSettings((replace(KeyExchangeSettings().methods[0], integrity=integrity),))
        policy = Policy("P", rules=(Rule("", LAN, action),), key_exchange=settings)
        assert read_catalogue(stored(policy)).policies == (policy,)


def test_5000_filters() -> None:
    """All of them are read and saved; that it is quick is for the bench to say."""
    filters = tuple(Filter(f"{n}", MY, Address.parse(f"10.{n >> 8}.{n & 255}.1"), 6, 0, 1 + n) for n in range(5000))
    policy = Policy("P", rules=(Rule("", FilterList("L", "", filters), SECURE),))
    store = stored(policy)
    catalogue = read_catalogue(store)
    assert catalogue.policies == (policy,)
    known = catalogue.filter_list("L")
    catalogue.replace_filter_list("L", replace(known, filters=known.filters[1:]))
    (item,) = save(catalogue, store, 2).put
    data = decode(item.data)
    assert isinstance(data, FilterData)
    assert len(data.records) == 4999
