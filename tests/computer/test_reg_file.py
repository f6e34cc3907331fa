"""Files of the Registry Editor: what is read, what is refused and where, what is written, and that it comes back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core.computer.reg_file import (
    HEADER,
    CreateKey,
    DeleteKey,
    DeleteValue,
    SetValue,
    apply,
    encode,
    export,
    parse,
)
from ipsec_core.computer.registry import IPSEC_KEY, SCHEMA, Registry, RegistryType, Value
from ipsec_core.errors import RegistryError

KEY = r"HKEY_LOCAL_MACHINE\SOFTWARE\x"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        yield Registry(connection)


def file(*lines: str) -> bytes:
    return "\r\n".join((HEADER, "", *lines, "")).encode()


def one(data: str) -> Value:
    """The value that a line of a file gives."""
    _, operation = parse(file(f"[{KEY}]", f'"v"={data}'), "x")
    assert isinstance(operation, SetValue)
    return operation.value


def refusal(data: bytes) -> str:
    """Why a file cannot be read; empty when it can."""
    try:
        parse(data, "x.reg")
    except RegistryError as raised:
        return str(raised)
    return ""


# -- reading --


@pytest.mark.parametrize(
    ("data", "kind", "value"),
    [
        ('""', "REG_SZ", ""),
        ('"text"', "REG_SZ", "text"),
        (r'"C:\\WINNT\\\"x\""', "REG_SZ", 'C:\\WINNT\\"x"'),
        ('"two\r\nlines"', "REG_SZ", "two\r\nlines"),
        ('"; no comment" ; a comment', "REG_SZ", "; no comment"),
        ("dword:0000012c", "REG_DWORD", 300),
        ("dword:FfffffFF;x", "REG_DWORD", 0xFFFFFFFF),
        ("DWORD:1", "REG_DWORD", 1),
        ("hex:", "REG_BINARY", b""),
        ("hex:0A,b,ff  ", "REG_BINARY", b"\x0a\x0b\xff"),
        ("hex:\\\r\n  01,02,\\\r\n  03 ,\\  \r\n\t04,  05 ; end", "REG_BINARY", b"\1\2\3\4\5"),
        ("hex(3):01", "REG_BINARY", b"\1"),
        ("hex(0):01", "REG_NONE", b"\1"),
        ("hex(1):61,00,e4,00,00,00", "REG_SZ", "aä"),
        ("hex(1):61,00", "REG_SZ", "a"),
        ("hex(1):61,00,00,00,00,00", "REG_SZ", "a\0"),
        ("hex(2):25,00,61,00,25,00,00,00", "REG_EXPAND_SZ", "%a%"),
        ("hex(4):2c,01,00,00", "REG_DWORD", 300),
        ("hex(b):01,00,00,00,00,00,00,80", "REG_QWORD", 0x8000000000000001),
        ("HEX(B):01,00,00,00,00,00,00,00", "REG_QWORD", 1),
        ("hex(7):61,00,62,00,00,00,3d,d8,00,de,00,00,00,00", "REG_MULTI_SZ", ("ab", "\U0001f600")),
        ("hex(7):61,00,00,00,62,00", "REG_MULTI_SZ", ("a", "b")),
        ("hex(7):00,00", "REG_MULTI_SZ", ()),
        ("hex(7):00,00,00,00", "REG_MULTI_SZ", ()),
        ("hex(7):", "REG_MULTI_SZ", ()),
        ("hex(7):61,00,00,00,00,00,62,00", "REG_MULTI_SZ", ("a", "", "b")),
        ("hex(5):00,00,00,01", "REG_DWORD_BIG_ENDIAN", b"\0\0\0\1"),
        ("hex(6):5c,00", "REG_LINK", b"\\\0"),
        ("hex(8):01", "REG_RESOURCE_LIST", b"\1"),
        ("hex(9):01", "REG_FULL_RESOURCE_DESCRIPTOR", b"\1"),
        ("hex(a):", "REG_RESOURCE_REQUIREMENTS_LIST", b""),
    ],
)
def test_data(data: str, kind: str, value: object) -> None:
    assert (one(data).type.name, one(data).data) == (kind, value)


def test_a_whole_file() -> None:
    data = file(
        "; of a Windows 2000 computer",
        rf"[{KEY}]",
        '@="default"',
        r'  "na\"me\\"  =  dword:1',
        '"@"=-',
        "",
        f"[-{KEY}\\old]",
        r"[hkcu\a]b]  ",
        "@=-",
    )
    assert parse(data, "x") == (
        CreateKey("x:4", KEY),
        SetValue("x:5", KEY, "", Value(RegistryType.REG_SZ, "default")),
        SetValue("x:6", KEY, 'na"me\\', Value(RegistryType.REG_DWORD, 1)),
        DeleteValue("x:7", KEY, "@"),
        DeleteKey("x:9", KEY + r"\old"),
        CreateKey("x:10", r"hkcu\a]b"),
        DeleteValue("x:11", r"hkcu\a]b", ""),
    )


def test_encodings() -> None:
    text = f'{HEADER}\n[HKLM\\x]\n"ä€"="\U0001f600"'
    wanted = parse(text.encode(), "x")
    assert wanted[1] == SetValue("x:3", "HKLM\\x", "ä€", Value(RegistryType.REG_SZ, "\U0001f600"))
    assert parse(b"\xef\xbb\xbf" + text.encode(), "x") == wanted
    assert parse(b"\xff\xfe" + text.encode("utf-16-le"), "x") == wanted
    assert parse(text.encode("utf-16-le"), "x") == wanted
    assert parse(text.replace("\n", "\r\n").encode(), "x") == wanted


def test_the_old_format_is_eight_bit_inside_and_outside() -> None:
    lines = b'REGEDIT4\r\n\r\n[HKLM\\x]\r\n"a"="\xe4\x80"\r\n"b"=hex(7):e4,00,62,00,00\r\n"c"=hex(2):80,00\r\n'
    values = [operation.value.data for operation in parse(lines, "x") if isinstance(operation, SetValue)]
    assert values == ["ä€", ("ä", "b"), "€"]


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        (['"v"=dword:1'], 3, "value 'v': no key above it; accepted: [KEY] first"),
        ([f"[-{KEY}]", "@=-"], 4, "is deleted; accepted: [KEY] first"),
        ([f"[{KEY}"], 3, "neither a key nor a value; accepted: [KEY] or [-KEY]"),
        ([f"[{KEY}] ; x"], 3, "neither a key nor a value"),
        ([f"[{KEY}]", "v=1"], 4, "neither a key nor a value"),
        ([f"[{KEY}]", '"v'], 4, "neither a key nor a value"),
        ([f"[{KEY}]", r'"a\b"="c"'], 4, "neither a key nor a value"),
        ([f"[{KEY}]", '"v"='], 4, "value 'v': its data cannot be read; accepted: "),
        ([f"[{KEY}]", '"v"=1'], 4, "its data cannot be read"),
        ([f"[{KEY}]", '"v"=qword:1'], 4, "its data cannot be read"),
        ([f"[{KEY}]", '"v"=dword:g'], 4, "its data cannot be read"),
        ([f"[{KEY}]", r'"v"="C:\temp"'], 4, r'accepted: "text" with \\ and \" inside'),
        ([f"[{KEY}]", "", '"v"="open', '"w"="x"'], 5, "value 'v': something else follows its data"),
        ([f"[{KEY}]", '"v"="open', ""], 4, "value 'v': its data cannot be read"),
        ([f"[{KEY}]", '"v"=dword:123456789'], 4, "something else follows its data; accepted: ; COMMENT"),
        ([f"[{KEY}]", '"v"=hex:01,2g'], 4, "accepted: bytes of two hexadecimal digits with commas between"),
        ([f"[{KEY}]", '"v"=hex:01,\\', "  02,\\", "  003"], 6, "accepted: bytes of two hexadecimal digits"),
        ([f"[{KEY}]", '"v"=hex:01,\\', "  02,\\", "", '"w"=-'], 6, "accepted: bytes of two hexadecimal digits"),
        ([f"[{KEY}]", '"v"=hex:\\', "  ; a comment", "01"], 5, "accepted: bytes of two hexadecimal digits"),
        ([f"[{KEY}]", '"v"=hex:01,'], 4, "accepted: bytes of two hexadecimal digits"),
        ([f"[{KEY}]", '"v"=hex:01 02'], 4, "accepted: bytes of two hexadecimal digits"),
        ([f"[{KEY}]", '"v"=hex(3e9):00'], 4, "hex(3e9) is a type that is not kept here; accepted: hex(0) REG_NONE, "),
        ([f"[{KEY}]", '"v"=hex(ffff0000):'], 4, "hex(ffff0000) is a type that is not kept here"),
        ([f"[{KEY}]", '"v"=hex(4):00,00'], 4, "REG_DWORD of 2 bytes; accepted: 4 bytes"),
        ([f"[{KEY}]", '"v"=hex(b):00,00,00,00'], 4, "REG_QWORD of 4 bytes; accepted: 8 bytes"),
        ([f"[{KEY}]", '"v"=hex(1):61'], 4, "REG_SZ of bytes that are no text; accepted: UTF-16LE"),
        ([f"[{KEY}]", '"v"=hex(2):00,d8'], 4, "REG_EXPAND_SZ of bytes that are no text"),
    ],
)
def test_wrong_lines(lines: list[str], where: int, what: str) -> None:
    text = refusal(file(*lines))
    assert text.startswith(f"x.reg:{where}: ")
    assert what in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "x.reg:1: not a file of the Registry Editor; accepted: Windows Registry Editor Version 5.00, REGEDIT4"),
        (b"\n" + HEADER.encode(), "x.reg:1: not a file of the Registry Editor"),
        (HEADER.encode("utf-16-be"), "x.reg:1: not "),
        (HEADER[:-1].encode("utf-16-le"), "x.reg:1: not a file of the Registry Editor"),
        (b"\xff\xfe" + "REGEDIT4\n".encode("utf-16-le"), "x.reg:1: not a file of the Registry Editor"),
        (b"REGEDIT5\n", "x.reg:1: not a file of the Registry Editor"),
        (file("; \xfc")[:-4] + b"\xfc", "x.reg:3: not UTF-8; accepted: UTF-16LE, UTF-8; for REGEDIT4 code page 1252"),
        (b"\xff\xfe" + f"{HEADER}\n\n;".encode("utf-16-le") + b"\0\xdc", "x.reg:3: not UTF-16LE; accepted: "),
        (b"\xff\xfe" + f"{HEADER}\n".encode("utf-16-le") + b"\0", "x.reg:2: not UTF-16LE; accepted: "),
        (b"REGEDIT4\n\n;\x81", "x.reg:3: not code page 1252; accepted: "),
    ],
)
def test_wrong_files(data: bytes, text: str) -> None:
    assert refusal(data).startswith(text)


def test_data_is_never_shown(registry: Registry) -> None:
    for line in ('"v"="s3cret\\x"', '"v"="s3cret" x', '"v"=s3cret', '"s3cret', '"v"=hex:s3cret'):
        assert "s3cret" not in refusal(file(f"[{KEY}]", line))


# -- into a registry --


def test_import(registry: Registry) -> None:
    registry.set(KEY + r"\old", "v", 1)
    registry.set(KEY, "gone", 1)
    registry.set(IPSEC_KEY, "NoDefaultExempt", 1)
    apply(
        registry,
        parse(
            file(
                f"[-{KEY}\\OLD]",
                r"[-HKLM\never\was]",
                f"[{KEY}]",
                '"Gone"=-',
                '"never"=-',
                r'"ActivePolicy"="SOFTWARE\\Policies"',
                r"[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\ipsec]",
                '"saidletime"=dword:00000258',
                '"nodefaultexempt"=-',
                r"[HKEY_USERS\.DEFAULT]",
            ),
            "x",
        ),
    )
    assert not registry.exists(KEY + r"\old")
    assert registry.values(KEY) == {"ActivePolicy": r"SOFTWARE\Policies"}
    assert registry.known("SAIdleTime") == 600
    assert registry.known("NoDefaultExempt") == 0
    assert registry.keys("HKU") == (".DEFAULT",)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (r"[HKEY_CLASSES_ROOT\x]", r"x.reg:8: 'HKEY_CLASSES_ROOT\\x' is not a registry key; accepted: HKLM\..."),
        ("[-HKEY_LOCAL_MACHINE]", "x.reg:8: HKEY_LOCAL_MACHINE: a hive cannot be deleted"),
        (f'[{IPSEC_KEY}]\r\n"cachesize"=dword:00000401', "CacheSize: 1025 is out of range; accepted: 64 to 1024 (KB)"),
        (f'[{IPSEC_KEY}]\r\n"CacheSize"="64"', "CacheSize: '64' is of the wrong type; accepted: REG_DWORD"),
        ("garbage", "x.reg:8: neither a key nor a value"),
    ],
)
def test_one_mistake_changes_nothing(registry: Registry, line: str, text: str) -> None:
    registry.set(KEY, "gone", 1)
    before = export(registry, "HKLM")
    data = file(f"[{KEY}]", '"gone"=-', '"new"="x"', f"[-{KEY}]", rf"[{KEY}\new]", line)
    with pytest.raises(RegistryError) as raised:
        apply(registry, parse(data, "x.reg"))
    assert text in str(raised.value)
    assert str(raised.value).startswith("x.reg:")
    assert export(registry, "HKLM") == before


# -- writing --


def test_lines_are_broken_as_the_registry_editor_breaks_them(registry: Registry) -> None:
    """The form in which every Windows exports the path of a service."""
    registry.set(KEY, "ImagePath", r"%SystemRoot%\system32\lsass.exe", RegistryType.REG_EXPAND_SZ)
    assert export(registry, KEY) == "\r\n".join(
        (
            HEADER,
            "",
            f"[{KEY}]",
            r'"ImagePath"=hex(2):25,00,53,00,79,00,73,00,74,00,65,00,6d,00,52,00,6f,00,6f,00,' + "\\",
            r"  74,00,25,00,5c,00,73,00,79,00,73,00,74,00,65,00,6d,00,33,00,32,00,5c,00,6c," + "\\",
            r"  00,73,00,61,00,73,00,73,00,2e,00,65,00,78,00,65,00,00,00",
            "",
            "",
        )
    )


def test_what_is_written(registry: Registry) -> None:
    values: dict[str, object] = {
        "": 'a\\"b',
        "binary": b"\0\xff",
        "empty": b"",
        "line": "a\nb",
        "long": bytes(24),
        'n"\\': 300,
        "none": (),
        "texts": ("a", "bc"),
    }
    for name, value in values.items():
        registry.set(KEY, name, value)
    registry.set(KEY, "wide", 1, RegistryType.REG_QWORD)
    assert export(registry, KEY.lower()).split("\r\n")[3:-2] == [
        r'@="a\\\"b"',
        '"binary"=hex:00,ff',
        '"empty"=hex:',
        '"line"=hex(1):61,00,0a,00,62,00,00,00',
        f'"long"=hex:{"00," * 22}\\',
        "  00,00",
        r'"n\"\\"=dword:0000012c',
        '"none"=hex(7):00,00',
        '"texts"=hex(7):61,00,00,00,62,00,63,00,00,00,00,00',
        '"wide"=hex(b):01,00,00,00,00,00,00,00',
    ]


def test_encoded(registry: Registry) -> None:
    assert encode("ä\r\n") == b"\xff\xfe\xe4\x00\r\x00\n\x00"
    assert encode("ä\r\n", utf8=True) == b"\xef\xbb\xbf\xc3\xa4\r\n"


SCALARS = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters="\\"), min_size=1, max_size=9
)
PARTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
VALUES = st.one_of(
    st.builds(Value, st.just(RegistryType.REG_SZ), SCALARS),
    st.builds(Value, st.just(RegistryType.REG_EXPAND_SZ), SCALARS),
    st.builds(Value, st.sampled_from([RegistryType.REG_BINARY, RegistryType.REG_NONE]), st.binary(max_size=200)),
    st.builds(Value, st.just(RegistryType.REG_DWORD), st.integers(0, (1 << 32) - 1)),
    st.builds(Value, st.just(RegistryType.REG_QWORD), st.integers(0, (1 << 64) - 1)),
    st.builds(Value, st.just(RegistryType.REG_MULTI_SZ), st.lists(PARTS, max_size=3).map(tuple)),
)
KEYS = st.lists(NAMES, max_size=4).map(lambda names: "\\".join(("HKEY_LOCAL_MACHINE", *names)))


@settings(deadline=None)
@given(st.dictionaries(KEYS, st.dictionaries(NAMES | st.just(""), VALUES, max_size=4), max_size=5), st.booleans())
def test_what_is_exported_comes_back(content: dict[str, dict[str, Value]], utf8: bool) -> None:
    with closing(sqlite3.connect(":memory:")) as first, closing(sqlite3.connect(":memory:")) as second:
        for connection in (first, second):
            connection.executescript(SCHEMA)
        source, target = Registry(first), Registry(second)
        for key, values in content.items():
            source.create_key(key)
            for name, value in values.items():
                source.set(key, name, value.data, value.type)
        text = export(source, "HKLM")
        apply(target, parse(encode(text, utf8), "x"))
        assert list(target.walk("HKLM")) == list(source.walk("HKLM"))
        assert export(target, "HKLM") == text


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_read_or_refused_in_one_line(data: bytes) -> None:
    for whole in (
        data,
        file() + data,
        b"REGEDIT4\n[HKLM\\x]\n" + data,
        b"\xff\xfe" + HEADER.encode("utf-16-le") + data,
    ):
        if message := refusal(whole):
            assert message.startswith("x.reg:")
            assert "\n" not in message
