"""ipsecData byte for byte: real blobs, all records both ways, one clear line for what is none."""

from __future__ import annotations

import base64
import re
import uuid
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.errors import PolicyError
from ipsec_core.policy.blobs import (
    FILTER_GUID,
    NEGOTIATION_GUID,
    NFA_GUID,
    POLICY_GUID,
    AlgorithmData,
    AuthenticationData,
    BlobData,
    FilterData,
    FilterRecord,
    IsakmpData,
    MainModeMethod,
    NegotiationData,
    NfaData,
    PolicyData,
    QuickModeOfferData,
    VersionData,
    bytes_of,
    decode,
    encode,
    text_of,
)

KERBEROS_RULE = bytes.fromhex(
    "00acbb118d49d111863900a0248d30212a000000010000000500000002000000"
    "0000fdffffff02000000000000000000000000000100000002000000000000"
)

numbers = st.integers(0, 0xFFFFFFFF)
rests = st.binary(max_size=9)
ids = st.uuids()
addresses = st.ip_addresses(v=4)


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


algorithms = st.builds(AlgorithmData, numbers, numbers, numbers, numbers, numbers)
offers = st.builds(
    QuickModeOfferData,
    numbers,
    numbers,
    numbers,
    numbers,
    st.integers(0, 3),
    st.tuples(algorithms, algorithms, algorithms),
)
main_mode_methods = st.builds(
    MainModeMethod,
    *([numbers] * 8),
    version=exactly(4),
    reserved=exactly(24),
    pfs=exactly(4),
)
filter_records = st.builds(
    FilterRecord,
    ids,
    addresses,
    addresses,
    addresses,
    addresses,
    numbers,
    st.integers(0, 65535),
    st.integers(0, 65535),
    numbers,
    rests,
    rests,
    rests,
    addresses,
    st.integers(0, 255),
    st.integers(0, 255),
    exactly(2),
)
blobs: st.SearchStrategy[BlobData] = st.one_of(
    st.builds(PolicyData, numbers, rests, rests),
    st.builds(
        IsakmpData,
        st.lists(main_mode_methods, max_size=3).map(tuple),
        exactly(16),
        numbers,
        numbers,
        numbers,
        numbers,
        st.tuples(exactly(4), exactly(4), exactly(20)),
        rests,
        rests,
    ),
    st.builds(
        NfaData,
        st.lists(st.builds(AuthenticationData, numbers, rests), max_size=3).map(tuple),
        numbers,
        rests,
        addresses,
        numbers,
        numbers,
        rests,
        rests,
        rests,
    ),
    st.builds(NegotiationData, st.lists(offers, max_size=3).map(tuple), rests, rests),
    st.builds(FilterData, st.lists(filter_records, max_size=3).map(tuple), st.sampled_from([0, -4]), rests),
    st.builds(VersionData, numbers, numbers, st.tuples(rests, rests, rests), rests, rests),
)


@given(blobs)
def test_every_record_returns(data: BlobData) -> None:
    assert decode(encode(data)) == data


@given(blobs, st.data())
def test_a_blob_cut_anywhere_is_refused_or_means_what_is_left(data: BlobData, draw: st.DataObject) -> None:
    whole = encode(data)
    short = whole[: draw.draw(st.integers(0, len(whole) - len(data.tail)))]
    if len(short) == len(whole) - len(data.tail):
        assert encode(decode(short)) == short
    else:
        with pytest.raises(PolicyError, match=r"\A[^\n]+\Z"):
            decode(short)


@given(st.binary(max_size=120), st.sampled_from([POLICY_GUID, NFA_GUID, NEGOTIATION_GUID, FILTER_GUID]))
def test_any_bytes_are_refused_or_return(noise: bytes, guid: uuid.UUID) -> None:
    blob = guid.bytes_le + noise
    try:
        record = decode(blob)
    except PolicyError:
        return
    assert encode(record) == blob


def test_real_blobs(domain: Path) -> None:
    """Read from the file itself, not by our reader of LDIF."""
    text = domain.read_text().replace("\n ", "")
    found = [base64.b64decode(value) for value in re.findall(r"^ipsecData:: (\S+)$", text, re.MULTILINE)]
    assert len(found) == 22
    assert all(encode(decode(blob)) == blob for blob in found)
    assert len({type(decode(blob)) for blob in found}) == 6


def test_layouts_of_the_published_vectors() -> None:
    assert encode(PolicyData(10_800)).hex() == "632120224c4fd111863b00a0248d302104000000302a000000"
    assert encode(NegotiationData()).hex() == "b920dc80c82ed111a89e00a0248d3021040000000000000000"
    assert encode(NfaData((AuthenticationData(5),))) == KERBEROS_RULE
    offer = QuickModeOfferData(count=1, algorithms=(AlgorithmData(3, 2, 2), AlgorithmData(), AlgorithmData())).write()
    assert offer == bytes(16) + bytes.fromhex("01000000 03000000 02000000 02000000") + bytes(48)


def test_addresses_in_network_order_and_ports_in_little_endian() -> None:
    record = FilterRecord(
        uuid.UUID(int=0),
        IPv4Address("10.1.2.3"),
        IPv4Address("255.255.255.0"),
        IPv4Address("192.0.2.1"),
        IPv4Address("255.255.255.255"),
        17,
        22,
        1701,
    )
    blob = encode(FilterData((record,)))
    assert len(blob) == 20 + 4 + 70 + 1
    assert bytes.fromhex("0a010203 ffffff00 c0000201 ffffffff") in blob
    assert bytes.fromhex("1600 a506") in blob
    assert blob[16:20] == b"\x4a\0\0\0"


@pytest.mark.parametrize(
    ("blob", "line"),
    [
        (b"", "GUID of the kind at byte 0 takes 16 bytes, and 0 are left"),
        (bytes(20), "is not a kind of ipsecData; accepted: "),
        (POLICY_GUID.bytes_le + b"\5\0\0\0\0\0\0\0", "what the length counts at byte 20 takes 5 bytes, and 4 are left"),
        (NEGOTIATION_GUID.bytes_le + b"\4\0\0\0" + b"\xff" * 5, "4294967295 Quick Mode offers at byte 4 do not fit"),
        (
            NEGOTIATION_GUID.bytes_le + b"\x54\0\0\0\1\0\0\0" + bytes(16) + b"\4\0\0\0" + bytes(61),
            "a Quick Mode offer has 4 algorithms; accepted: 0 to 3",
        ),
        (FILTER_GUID.bytes_le + b"\5\0\0\0\0\0\0\0", "the length says 5, and the 0 filters take 4 bytes"),
        (
            NFA_GUID.bytes_le + b"\x0c\0\0\0\1\0\0\0\1\0\0\0\xff\xff\xff\xff",
            "authentication method at byte 12 takes 4294967295 bytes, and 0 are left",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(blob: bytes, line: str) -> None:
    with pytest.raises(PolicyError) as raised:
        decode(blob)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text())
def test_texts_return(text: str) -> None:
    assert text_of(bytes_of(text)) == text


def test_texts_that_are_none() -> None:
    with pytest.raises(PolicyError, match="not UTF-16"):
        text_of(b"\x00\xd8")
    with pytest.raises(PolicyError, match="surrogate"):
        bytes_of("\ud800")


def test_a_preshared_key_is_in_no_representation() -> None:
    assert "s\\x00e" not in repr(NfaData((AuthenticationData(1, bytes_of("secret")),)))
