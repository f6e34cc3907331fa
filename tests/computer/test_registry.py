"""Registry: case, types, ranges of the values of KB 257225."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core.computer.registry import (
    IPSEC_KEY,
    KNOWN_VALUES,
    OAKLEY_KEY,
    POLICY_REFERENCE_KEYS,
    SCHEMA,
    Registry,
    RegistryType,
    known_value,
)
from ipsec_core.errors import RegistryError

PARTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
"""What a REG_MULTI_SZ is made of."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    yield Registry(connection)
    connection.close()


@pytest.mark.parametrize(
    ("name", "default", "low", "high"),
    [
        ("SAIdleTime", 300, 300, 3600),
        ("CacheSize", 64, 64, 1024),
        ("SAHashSize", 64, 64, 1024),
        ("EnableOffload", 1, 0, 1),
        ("NoDefaultExempt", 0, 0, 3),
        ("Debug", 0, 0, 1),
        ("EnableLogging", 0, 0, 1),
        ("ProhibitIpSec", 0, 0, 1),
    ],
)
def test_ranges(registry: Registry, name: str, default: int, low: int, high: int) -> None:
    assert registry.known_number(name) == default
    for value in (low, high):
        registry.set_known(name, value)
        assert registry.known_number(name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(RegistryError, match=rf"{name}: {value} is out of range; accepted: {low} to {high}"):
            registry.set_known(name, value)
    assert registry.known_number(name) == high


def test_the_whole_line(registry: Registry) -> None:
    with pytest.raises(RegistryError) as raised:
        registry.set(r"hklm\system\currentcontrolset\services\ipsec", "cachesize", 63)
    assert str(raised.value) == (
        r"HKEY_LOCAL_MACHINE\system\currentcontrolset\services\ipsec: "
        "CacheSize: 63 is out of range; accepted: 64 to 1024 (KB)"
    )


@pytest.mark.parametrize("value", ["64", b"64", ("64",), True, None, 1.5])
def test_wrong_type(registry: Registry, value: object) -> None:
    with pytest.raises(RegistryError, match=r"CacheSize: .* is of the wrong type; accepted: REG_DWORD, 64 to 1024"):
        registry.set_known("CacheSize", value)


def test_unknown_name() -> None:
    with pytest.raises(RegistryError, match="'CashSize' is not a registry value of IPsec; accepted: SAIdleTime, "):
        known_value("CashSize")


def test_log_file_name(registry: Registry) -> None:
    assert registry.known("Log") == "ipsecpa.log"
    registry.set_known("log", "agent.log")
    assert registry.known("LOG") == "agent.log"
    with pytest.raises(RegistryError, match="wrong type"):
        registry.set_known("Log", 1)
    with pytest.raises(RegistryError, match="Log is REG_SZ"):
        registry.known_number("Log")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".log",
        "a/b.log",
        r"C:\WINNT\debug\ipsecpa.log",
        "..",
        "state.sqlite",
        "esp_sa",
        "Oakley.LOG",
        "a\0.log",
        "a.log\n",
    ],
)
def test_the_log_stays_inside_of_its_folder_and_away_from_other_files(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match=r"Log: .* is no name of a log; accepted: file name without a folder"):
        registry.set_known("Log", name)
    assert registry.known("Log") == "ipsecpa.log"


def test_table_of_known_values_is_consistent() -> None:
    assert len({item.name.casefold() for item in KNOWN_VALUES}) == len(KNOWN_VALUES)
    for item in KNOWN_VALUES:
        assert item.source.startswith(("KB ", "[MS-IKEE]", "Windows Server 2003"))
        if isinstance(item.default, int):
            assert item.minimum <= item.default <= item.maximum
    assert known_value("EnableLogging").key == OAKLEY_KEY


def test_case_does_not_matter_but_is_kept(registry: Registry) -> None:
    registry.set(r"HKLM\SOFTWARE\Policies\Microsoft\Windows\IPSec", "ActivePolicy", "x")
    assert registry.get(r"hkey_local_machine\software\POLICIES\microsoft\windows\ipsec", "activepolicy") == "x"
    assert registry.values(r"HKLM\Software\policies\microsoft\windows\ipsec") == {"ActivePolicy": "x"}
    assert registry.keys(r"HKLM\software\policies") == ("Microsoft",)


@settings(deadline=None)
@given(st.integers(0, 0xFFFF_FFFF) | st.text() | st.binary() | st.lists(PARTS, max_size=3).map(tuple))
def test_every_type_round_trips(value: object) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    registry = Registry(connection)
    registry.set(r"HKLM\SOFTWARE\x", "v", value)
    assert registry.get(r"HKLM\SOFTWARE\x", "v") == value
    assert type(registry.get(r"HKLM\SOFTWARE\x", "v")) is type(value)
    expected = {int: "REG_DWORD", str: "REG_SZ", bytes: "REG_BINARY", tuple: "REG_MULTI_SZ"}[type(value)]
    assert registry.type_of(r"HKLM\SOFTWARE\x", "v").name == expected
    connection.close()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RegistryType.REG_NONE, b"\1\2"),
        (RegistryType.REG_EXPAND_SZ, r"%SystemRoot%\System32\lsass.exe"),
        (RegistryType.REG_QWORD, 0),
        (RegistryType.REG_QWORD, (1 << 64) - 1),
    ],
)
def test_types_that_must_be_named(registry: Registry, kind: RegistryType, value: object) -> None:
    registry.set(r"HKLM\SOFTWARE\x", "v", value, kind)
    assert (registry.type_of(r"HKLM\SOFTWARE\x", "v"), registry.get(r"HKLM\SOFTWARE\x", "v")) == (kind, value)


def test_unknown_values_are_checked_for_their_type(registry: Registry) -> None:
    wrong: tuple[tuple[object, RegistryType | None], ...] = (
        (-1, None),
        (1 << 32, None),
        (1 << 64, RegistryType.REG_QWORD),
        (1, RegistryType.REG_SZ),
        ((1, 2), None),
        (("a", ""), None),
        (("a\0b",), None),
        ("\ud800", None),
        (("\udfff",), None),
    )
    for value, kind in wrong:
        with pytest.raises(RegistryError, match=r"HKEY_LOCAL_MACHINE\\SOFTWARE\\x: v: "):
            registry.set(r"HKLM\SOFTWARE\x", "v", value, kind)


def test_keys_and_deletion(registry: Registry) -> None:
    for key in (r"HKLM\a\b\c", r"HKLM\a\b-d", r"HKLM\a\bb", r"HKLM\a%\x"):
        registry.create_key(key)
    registry.set(r"HKLM\a\b\c", "v", 1)
    assert registry.keys(r"HKLM\A") == ("b", "b-d", "bb")
    assert registry.keys("HKLM") == ("a", "a%")
    registry.delete(r"HKLM\A\B")
    assert registry.keys(r"HKLM\a") == ("b-d", "bb")
    with pytest.raises(RegistryError, match=r"there is no key HKEY_LOCAL_MACHINE\\a\\b"):
        registry.values(r"HKLM\a\b")
    registry.create_key(r"HKLM\a\b\c")
    assert registry.values(r"HKLM\a\b\c") == {}


def test_value_deletion(registry: Registry) -> None:
    registry.set_known("CacheSize", 128)
    registry.delete(IPSEC_KEY, "CACHESIZE")
    assert registry.known("CacheSize") == 64
    for call in (registry.get, registry.delete, registry.type_of):
        with pytest.raises(RegistryError, match="there is no value 'CacheSize'"):
            call(IPSEC_KEY, "CacheSize")


def test_data_is_not_shown_where_it_may_be_a_key(registry: Registry) -> None:
    for value, kind in ((b"s3cret", RegistryType.REG_SZ), ("s3cret\ud800", None), (("s3cret", ""), None)):
        with pytest.raises(RegistryError) as raised:
            registry.set(r"HKLM\SOFTWARE\x", "ipsecData", value, kind)
        assert "s3cret" not in str(raised.value)


def test_the_case_of_the_first_writing_stays(registry: Registry) -> None:
    registry.set(r"HKLM\SOFTWARE\Policies", "Name", 1)
    registry.set(r"hklm\software\POLICIES\Deep\Deeper", "x", 1)
    registry.set(r"HKLM\Software\policies", "NAME", "changed")
    assert registry.create_key(r"hklm\software\policies\DEEP") == r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Deep"
    assert [path for path, _ in registry.walk(r"HKLM\software\policies")] == [
        r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies",
        r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Deep",
        r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Deep\Deeper",
    ]
    assert registry.values(r"HKLM\SOFTWARE\Policies") == {"Name": "changed"}


def test_walk_goes_down_before_it_goes_on(registry: Registry) -> None:
    for key in (r"a\bb", r"a\b-d", r"a\b\z\y", r"a\B\c", r"a]", r"a\b\C\d"):
        registry.create_key(rf"HKLM\{key}")
    registry.set(r"HKLM\a\b", "two", ("x", "y"))
    registry.set(r"HKLM\a\b", "", b"1")
    registry.set(r"HKLM\a\b", "Three", 3)
    walked = list(registry.walk(r"HKLM\A"))
    names = [path.removeprefix("HKEY_LOCAL_MACHINE\\") for path, _ in walked]
    assert names == ["a", r"a\b", r"a\b\c", r"a\b\c\d", r"a\b\z", r"a\b\z\y", r"a\b-d", r"a\bb"]
    assert list(walked[1][1].items()) == [
        ("", (RegistryType.REG_BINARY, b"1")),
        ("Three", (RegistryType.REG_DWORD, 3)),
        ("two", (RegistryType.REG_MULTI_SZ, ("x", "y"))),
    ]
    assert not any(values for path, values in walked if not path.endswith(r"\b"))


def test_walk_asks_once_however_much_there_is() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    registry = Registry(connection)
    with registry.transaction():
        for number in range(3000):
            registry.set(rf"HKLM\SOFTWARE\x\{number}", "v", number)
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    assert sum(len(values) for _, values in registry.walk("HKLM")) == 3000
    assert len(asked) <= 2
    connection.close()


def test_walk_does_not_see_what_changes_meanwhile(registry: Registry) -> None:
    registry.create_key(r"HKLM\a\b")
    for path, _ in registry.walk(r"HKLM\a"):
        registry.create_key(path + r"\new")
    assert registry.keys(r"HKLM\a\b") == ("new",)


def test_hives_are_always_there_and_stay(registry: Registry) -> None:
    for hive in ("HKLM", "HKCU", "HKU"):
        assert registry.keys(hive) == ()
        assert [values for _, values in registry.walk(hive)] == [{}]
        with pytest.raises(RegistryError, match="a hive cannot be deleted"):
            registry.delete(hive)


def test_references_to_a_domain_policy(registry: Registry) -> None:
    guid = "{31B2F340-016D-11D2-945F-00C04FB984F9}"
    assert len(POLICY_REFERENCE_KEYS) == 5
    for key in POLICY_REFERENCE_KEYS:
        place = key.replace("{GUID}", guid).upper()
        registry.set(place, "DSIPSECPolicyPath", "LDAP://CN=x")
        registry.set(place, "DSIPSECPolicyFlags", 0xFFFF_FFFF)
        registry.set(place, "anything", b"")
        for name, value in (("DSIPSECPolicyName", 1), ("dsipsecpolicyflags", "1"), ("DSIPSECPolicyDescription", b"")):
            with pytest.raises(RegistryError, match=f"(?i){name}: .* is of the wrong type; accepted: REG_"):
                registry.set(place, name, value)
    registry.set(r"HKCU\SOFTWARE\Microsoft\GroupPolicyObjects\{x}Machine", "DSIPSECPolicyFlags", "free")


@pytest.mark.parametrize("name", ["a\0", "a\nb", "\ud800", "n" * 256])
def test_bad_names(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="is not a name of a key; accepted: up to 255 characters"):
        registry.create_key(f"HKLM\\{name}")
    with pytest.raises(RegistryError, match="is not a name of a value; accepted: up to 16383 characters"):
        registry.set(r"HKLM\x", name * 64, 1)
    assert registry.keys("HKLM") == ()


def test_depth(registry: Registry) -> None:
    assert registry.create_key("HKLM" + r"\n" * 512).count("\\") == 512
    with pytest.raises(RegistryError, match="has 513 levels; accepted: up to 512"):
        registry.create_key("HKLM" + r"\n" * 513)


@pytest.mark.parametrize("key", ["", "SOFTWARE", r"HKCR\x", r"HKLM\\x"])
def test_bad_key(registry: Registry, key: str) -> None:
    with pytest.raises(RegistryError, match="is not a registry key; accepted: HKLM"):
        registry.create_key(key)
