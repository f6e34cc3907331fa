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
    SCHEMA,
    Registry,
    RegistryType,
    known_value,
)
from ipsec_core.errors import RegistryError


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
@given(st.integers(0, 0xFFFF_FFFF) | st.text() | st.binary() | st.lists(st.text(), max_size=3).map(tuple))
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


def test_unknown_values_are_checked_for_their_type(registry: Registry) -> None:
    for value, kind in ((-1, None), (1 << 32, None), (1, RegistryType.REG_SZ), ((1, 2), None)):
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


@pytest.mark.parametrize("key", ["", "SOFTWARE", r"HKCR\x", r"HKLM\\x"])
def test_bad_key(registry: Registry, key: str) -> None:
    with pytest.raises(RegistryError, match="is not a registry key; accepted: HKLM"):
        registry.create_key(key)
