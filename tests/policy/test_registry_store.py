"""The local policy store: the layout of real registries, what real exports lack or add, one transaction a step."""

from __future__ import annotations

import sqlite3
import uuid

import pytest
from hypothesis import given, settings
from policy_kit import policies, stored

from ipsec_core.computer.registry import SCHEMA, Registry, RegistryType
from ipsec_core.errors import PolicyError, RegistryError
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_objects, builtin_policy
from ipsec_core.policy.integrity import check
from ipsec_core.policy.model import Policy
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, StoredObject, by_name
from ipsec_core.policy.registry_store import RegistryStore, populate
from ipsec_core.policy.storage import read_catalogue, read_policy, save

PATH = r"SOFTWARE\Policies\Microsoft\Windows\IPSec\Policy\Local"
LOCAL = rf"HKEY_LOCAL_MACHINE\{PATH}"
SERVER = "ipsecPolicy{72385230-70FA-11D1-864C-14A300000000}"
RULE = "ipsecNFA{72385232-70FA-11D1-864C-14A300000000}"
REQUEST = "ipsecNegotiationPolicy{72385233-70FA-11D1-864C-14A300000000}"
GUID = uuid.UUID("72385230-70FA-11D1-864C-14A300000000")


def _registry() -> Registry:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    return Registry(connection)


@pytest.fixture
def registry() -> Registry:
    registry = _registry()
    populate(RegistryStore(registry), 7)
    return registry


def test_a_new_store_has_the_built_in_policies(registry: Registry) -> None:
    store = RegistryStore(registry)
    assert by_name(store.objects()) == by_name(builtin_objects(7))
    assert store.assigned() is None
    assert {policy.name for policy in read_catalogue(store).policies} == set(BUILTIN_NAMES)


def test_only_a_new_one(registry: Registry) -> None:
    store = RegistryStore(registry)
    store.apply(Changes(delete=tuple(item.name for item in store.objects())), 8)
    assert not populate(store, 9)
    assert store.objects() == ()


def test_there_may_be_none() -> None:
    store = RegistryStore(_registry())
    assert not store.exists
    assert (store.objects(), store.assigned()) == ((), None)


def test_layout(registry: Registry) -> None:
    """Names, types and texts as in exports of real machines."""
    key = rf"{LOCAL}\{SERVER}"
    assert {name: (registry.type_of(key, name).name, value) for name, value in registry.values(key).items()} == {
        "className": ("REG_SZ", "ipsecPolicy"),
        "name": ("REG_SZ", SERVER),
        "ipsecName": ("REG_SZ", "Server (Request Security)"),
        "description": ("REG_SZ", builtin_policy("Server (Request Security)").description),
        "ipsecID": ("REG_SZ", "{72385230-70FA-11D1-864C-14A300000000}"),
        "ipsecDataType": ("REG_DWORD", 0x100),
        "ipsecData": ("REG_BINARY", bytes.fromhex("632120224c4fd111863b00a0248d302104000000302a000000")),
        "whenChanged": ("REG_DWORD", 7),
        "ipsecISAKMPReference": ("REG_SZ", rf"{PATH}\ipsecISAKMPPolicy{{72385231-70FA-11D1-864C-14A300000000}}"),
        "ipsecNFAReference": (
            "REG_MULTI_SZ",
            (
                rf"{PATH}\ipsecNFA{{594272E2-071D-11D3-AD22-0060B0ECCA17}}",
                rf"{PATH}\ipsecNFA{{59319BE2-5EE3-11D2-ACE8-0060B0ECCA17}}",
                rf"{PATH}\{RULE}",
            ),
        ),
    }
    action = registry.values(rf"{LOCAL}\{REQUEST}")
    assert action["ipsecNegotiationPolicyAction"] == "{3F91A81A-7647-11D1-864D-D46A00000000}"
    assert action["ipsecNegotiationPolicyType"] == "{62F49E10-6C37-11D1-864C-14A300000000}"
    assert action["ipsecOwnersReference"] == (rf"{PATH}\{RULE}",)


def test_the_assigned_policy(registry: Registry) -> None:
    store = RegistryStore(registry)
    catalogue = read_catalogue(store)
    catalogue.assign("Server (Request Security)")
    save(catalogue, store, 8)
    assert registry.get(LOCAL, "ActivePolicy") == rf"{PATH}\{SERVER}"
    assert store.assigned() == GUID
    catalogue.assign(None)
    save(catalogue, store, 9)
    assert not registry.exists(LOCAL, "ActivePolicy")
    registry.set(LOCAL, "ActivePolicy", "")
    assert store.assigned() is None
    registry.set(LOCAL, "ActivePolicy", rf"{PATH.lower()}\{SERVER.lower()}")
    assert store.assigned() == GUID


def test_the_cached_domain_policy_is_another_store(registry: Registry) -> None:
    cache = RegistryStore(registry, "Cache")
    (policy,) = (item for item in builtin_objects() if str(item.name) == SERVER)
    cache.apply(Changes((policy,), assign=GUID), 8)
    key = str(cache)
    assert registry.keys(key) == (SERVER,)
    assert str(registry.get(key, "ActivePolicy")).endswith(rf"\IPSec\Policy\Cache\{SERVER}")
    assert RegistryStore(registry).assigned() is None


def test_a_real_export_lacks_and_adds(registry: Registry) -> None:
    """No owners, no class, other types, other cases, values and keys of others: all of it can be read, and remains."""
    key = rf"{LOCAL}\{RULE}"
    for name in ("ipsecOwnersReference", "className", "name", "ipsecID", "whenChanged", "ipsecDataType"):
        registry.delete(key, name)
    registry.set(key, "ipsecDataType", "256")
    registry.set(key, "ipsecFilterReference", rf"software\policies\IPSEC\x\IPSECFILTER{{7238523a{REQUEST[31:]}")
    registry.set(key, "IPSECNAME", "Mine")
    registry.set(key, "ipsecName", "Mine", RegistryType.REG_EXPAND_SZ)
    registry.set(key, "vendor", b"\1")
    registry.set(rf"{LOCAL}\Backup", "by", "somebody")
    registry.set(rf"{LOCAL}\Backup\{RULE}", "ipsecData", b"not one of this store")
    store = RegistryStore(registry)
    item = by_name(store.objects())[ObjectName.parse(RULE)]
    assert (item.owners, item.when_changed, item.data_type, item.display_name) == ((), 0, 256, "Mine")
    assert read_policy(store.objects(), GUID).rules[2].name == "Mine"
    assert [str(problem) for problem in check(store.objects())] == [
        f"{RULE}: ipsecOwnersReference lacks {SERVER}, which refers to it"
    ]
    catalogue = read_catalogue(store)
    save(catalogue, store, 9)
    assert check(store.objects()) == ()
    assert registry.get(key, "vendor") == b"\1"
    assert registry.get(rf"{LOCAL}\Backup", "by") == "somebody"
    assert registry.get(key, "whenChanged") == 9


def test_references_of_a_copy_from_a_directory(registry: Registry) -> None:
    key = rf"{LOCAL}\{RULE}"
    registry.set(key, "ipsecNegotiationPolicyReference", f"CN={REQUEST},CN=IP Security,CN=System,DC=ad,DC=test")
    item = by_name(RegistryStore(registry).objects())[ObjectName.parse(RULE)]
    assert item.negotiation == ObjectName.parse(REQUEST)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("ipsecData", "text", "accepted: REG_BINARY"),
        ("ipsecName", 1, "accepted: REG_SZ"),
        ("whenChanged", "now", "accepted: REG_DWORD"),
        ("ipsecFilterReference", ("nothing",), "'nothing' is not a reference; accepted: SOFTWARE"),
        (
            "ipsecFilterReference",
            (r"a\ipsecThing{1}",),
            "'ipsecThing{1}' is not the name of a policy object; accepted: ",
        ),
        ("ipsecNegotiationPolicyType", "{}", "'{}' is not a GUID; accepted: "),
    ],
)
def test_a_value_that_says_nothing(registry: Registry, name: str, value: object, line: str) -> None:
    registry.set(rf"{LOCAL}\{RULE}", name, value)
    with pytest.raises(PolicyError) as raised:
        RegistryStore(registry).objects()
    assert str(raised.value).startswith(rf"{LOCAL}\{RULE}: {name}: {line}")
    assert "\n" not in str(raised.value)


def test_an_assignment_that_says_nothing(registry: Registry) -> None:
    registry.set(LOCAL, "ActivePolicy", "Server")
    with pytest.raises(PolicyError, match=r"Local: ActivePolicy: 'Server' is not a reference; .*\\CLASS{GUID}$"):
        RegistryStore(registry).assigned()
    registry.set(LOCAL, "ActivePolicy", rf"{PATH}\{RULE}")
    with pytest.raises(PolicyError, match="is no ipsecPolicy"):
        RegistryStore(registry).assigned()


def test_a_step_is_whole_or_nothing(registry: Registry) -> None:
    """The registry refuses half a surrogate pair, in an object behind one that it took."""
    store = RegistryStore(registry)
    before = store.objects()
    good = StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=1)), b"", display_name="good")
    bad = StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=2)), b"", display_name="\ud800")
    with pytest.raises(RegistryError):
        store.apply(Changes((good, bad), (ObjectName.parse(RULE),), GUID), 9)
    assert store.objects() == before
    assert store.assigned() is None


@settings(max_examples=30)
@given(policies)
def test_every_policy_returns(policy: Policy) -> None:
    objects = stored(policy).objects()
    store = RegistryStore(_registry())
    try:
        store.apply(Changes(objects), 1)
    except RegistryError:
        assert any("\0" in item.display_name + item.description for item in objects)
        return
    assert by_name(store.objects()) == by_name(objects)
