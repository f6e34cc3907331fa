"""LDIF (RFC 2849), against the package `ldif`, which is slow with hostile names but reads the same."""

from __future__ import annotations

import io
import string
from pathlib import Path

import ldif
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipsec_core.errors import PolicyError
from ipsec_core.policy.ldif import Entry, read_ldif

NAMES = st.text(string.ascii_letters, min_size=1, max_size=8).filter(
    lambda name: name.lower() not in ("dn", "version", "changetype", "control", "search", "ref")
)
RECORDS = st.dictionaries(
    st.integers(1, 99).map(lambda number: f"CN=Büro {number},DC=lab"),
    st.dictionaries(NAMES.map(str.lower), st.lists(st.binary(max_size=120), min_size=1, max_size=3), max_size=4),
    max_size=4,
)


def read(text: str | bytes) -> list[tuple[str, dict[str, list[bytes]]]]:
    content = text.encode() if isinstance(text, str) else text
    return [(entry.dn, dict(entry.values)) for entry in read_ldif(content)]


@given(RECORDS, st.integers(20, 80), st.sampled_from([b"\n", b"\r\n"]))
def test_what_another_library_writes(records: dict[str, dict[str, list[bytes]]], columns: int, end: bytes) -> None:
    file = io.BytesIO()
    writer = ldif.LDIFWriter(file, cols=columns, line_sep=end)
    for dn, attributes in records.items():
        writer.unparse(dn, attributes)
    assert read(file.getvalue()) == list(records.items())


def test_what_another_library_reads(captures: Path) -> None:
    for file in sorted((captures.parent / "reference" / "data").glob("*.ldif")):
        content = file.read_bytes()
        expected = ldif.LDIFParser(io.BytesIO(content), encoding=None).parse()
        assert read(content) == [
            (dn, {name.lower(): values for name, values in entry.items()}) for dn, entry in expected if dn
        ]


def test_forms() -> None:
    text = """version: 1

# a comment
  of two lines
dn: CN=a,
 DC=lab
Description: one
 two\x20
description:: dGhyZWU=
empty:
other;lang-de:   four

dn:: Q049YixEQz1sYWI=
changetype: add
cn: b

search: 2
result: 0 Success

"""
    expected = [
        ("CN=a,DC=lab", {"description": [b"onetwo ", b"three"], "empty": [b""], "other": [b"four"]}),
        ("CN=b,DC=lab", {"cn": [b"b"]}),
    ]
    assert read(text) == read(text.replace("\n", "\r\n")) == read("\ufeff" + text) == expected
    assert read(text.encode("utf-16")) == expected, "as ldifde -u writes it"
    assert list(read_ldif(text.encode()))[1] == Entry("CN=b,DC=lab", {"cn": [b"b"]}, 13)
    assert read("") == read("version: 1\n") == read("# nothing") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cn: a\n", "line 1: cn begins a record; accepted: dn"),
        ("\n\ndn: a\nb\n", "line 4: not LDIF; accepted: NAME: VALUE, NAME:: BASE64"),
        (" dn: a\n", "line 1: not LDIF"),
        ("dn: a\ncn:: !\n", "line 2: cn is not base64"),
        ("dn: a\ncn:< file:///etc/passwd\n", "line 2: the value is elsewhere"),
        ("dn: a\ndn: b\n", "line 2: a second dn in the record of line 1"),
        ("dn: a\nchangetype: delete\n", "line 2: a change record; accepted: entries, or changetype: add"),
        ("dn: a\nchangetype: modify\nreplace: cn\ncn: b\n-\n", "line 5: a change record; accepted: entries, or"),
        (b"dn: \xff\n", "line 1: dn is not UTF-8"),
        (b"\xff\xfea", "line 1: not UTF-16"),
    ],
)
def test_errors(text: str | bytes, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(text)
    assert str(caught.value).startswith(message)


@given(st.binary(max_size=200))
@example(b"dn: a=b" + b"+c=d" * 100_000 + b",\n")
@example(b"a" + b";b" * 100_000)
def test_any_octets(content: bytes) -> None:
    text = "line "
    try:
        list(read_ldif(content))
    except PolicyError as error:
        text = str(error)
    assert text.startswith("line ")
    assert "\n" not in text
