"""Diffie-Hellman against published vectors, Python's `pow` and the `cryptography` package (OpenSSL)."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import warnings
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import dh
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.ike import _modexp, modulus
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.groups import CURVES, GENERATOR, PRIMES, DiffieHellman, exponent_length
from ipsec_core.ike.iana import Group

unhex = bytes.fromhex
LENGTHS = {1: 96, 2: 128, 5: 192, 14: 256, 15: 384, 16: 512, 17: 768, 18: 1024, 19: 64, 20: 96, 21: 132}
# The initiator's and the responder's private value and x | y, and the shared x: RFC 5903 sections 8.1 to 8.3.
RFC_5903 = {
    Group.ECP_256: (
        "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
        "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180"
        "5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3",
        "C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
        "D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63"
        "56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB",
        "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
    ),
    Group.ECP_384: (
        "099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194",
        "667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6DE3AC808ACB4BDB4C88732AEE95F41AA"
        "9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38EEB9FCFF3C2C947DAE69B4C634573A81C",
        "41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC",
        "E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D0D1AC43A0336DEF96FDA41D0774A3571"
        "DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FFF83FA40142209DFF5EAAD96DB9E6386C",
        "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746",
    ),
    Group.ECP_521: (
        "0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A095AA85A30FE1C2952C6771D937BA9777F595"
        "7B2639BAB072462F68C27A57382D4A52",
        "0015417E84DBF28C0AD3C278713349DC7DF153C897A1891BD98BAB4357C9ECBEE1E3BF42E00B8E380AEAE57C2D107564941"
        "885942AF5A7F4601723C4195D176CED3E"
        "017CAE20B6641D2EEB695786D8C946146239D099E18E1D5A514C739D7CB4A10AD8A788015AC405D7799DC75E7B7D5B6CF226"
        "1A6A7F1507438BF01BEB6CA3926F9582",
        "0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E9C677D600B343757A3BDBF2A3163E4C2F869"
        "CCA7458AA4A4EFFC311F5CB151685EB9",
        "00D0B3975AC4B799F5BEA16D5E13E9AF971D5E9B984C9F39728B5E5739735A219B97C356436ADC6E95BB0352F6BE64A6C291"
        "2D4EF2D0433CED2B6171640012D9460F"
        "015C68226383956E3BD066E797B623C27CE0EAC2F551A10C2C724D9852077B87220B6536C5C408A1D2AEBB8E86D678AE49CB"
        "57091F4732296579AB44FCD17F0FC56A",
        "01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04D1427E73CA4BAA240A34786859810C06B3C7"
        "15A3A8CC3151F2BEE417996D19F3DDEA",
    ),
}


# The numbers


def test_primes_are_the_published_ones(captures: Path) -> None:
    groups = json.loads((captures / "rfc-vectors/modp_groups.json").read_text())["groups"].values()
    known = {one["group"]: int(one["prime"], 16) for one in groups}
    text = (captures / "cryptography-vectors/asymmetric__DH__rfc3526.txt").read_text()
    numbers = re.findall(r"known as group(\d+)\nCOUNT = \d+\nP = (\w+)\nG = 2\n", text)
    for number, prime in numbers:
        assert known.setdefault(int(number), int(prime, 16)) == int(prime, 16)
    assert known == PRIMES
    assert all(one["generator"] == GENERATOR for one in groups)


def test_primes_are_the_published_formulas() -> None:
    """RFC 2409 section 6 and RFC 3526 with pi by Machin's formula."""
    bits = 8200
    one = 1 << bits

    def arctan_inverse(x: int) -> int:
        term = one // x
        total, n, sign = term, 1, 1
        while term:
            term //= x * x
            n, sign = n + 2, -sign
            total += sign * (term // n)
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    offsets = {768: 149686, 1024: 129093, 1536: 741804, 2048: 124476, 3072: 1690314, 4096: 240904}
    offsets |= {6144: 929484, 8192: 4743158}
    for prime, (size, offset) in zip(PRIMES.values(), offsets.items(), strict=True):
        middle = (pi >> (bits - (size - 130))) + offset
        assert prime == 2**size - 2 ** (size - 64) - 1 + 2**64 * middle


def test_every_group_has_its_numbers() -> None:
    assert {*PRIMES, *CURVES} == set(Group)
    assert not {*PRIMES} & {*CURVES}


@pytest.mark.parametrize(
    ("group", "bits"), [(1, 160), (14, 220), (15, 260 - 4), (16, 300), (17, 340), (18, 380)], ids=str
)
def test_exponents_are_twice_the_strength(group: int, bits: int) -> None:
    """The lower estimates of RFC 3526 section 8; 256 bits for group 15 are those of SP 800-56A revision 3."""
    assert 8 * exponent_length(Group(group)) >= bits


# Powers


@pytest.mark.parametrize("kind", [_modexp.Modulus, modulus.Modulus])
def test_powers_of_published_vectors(captures: Path, kind: type[_modexp.Modulus]) -> None:
    folder, done = captures / "cryptography-vectors", 0
    for block in (folder / "asymmetric__DH__vec.txt").read_text().split("COUNT")[1:]:
        v = dict(re.findall(r"^([A-Z]\w*) = (\w+)", block, re.M))
        number = {key: int(v[key]) for key in "PGXY"}
        length = (number["P"].bit_length() + 7) // 8
        n = kind(number["P"].to_bytes(length))
        exponent = number["X"].to_bytes(length)
        # Y is the peer's public value.
        assert int.from_bytes(n.power(number["Y"].to_bytes(length), exponent)) == int(v["K"], 16)
        done += 1
    for block in (folder / "asymmetric__DH__RFC5114.txt").read_text().split("COUNT")[1:]:
        v = dict(re.findall(r"^([A-Z]\w*) = (\w+)", block, re.M))
        n = kind(unhex(v["P"]))
        for private, public, peer in (("XstatCAVS", "YstatCAVS", "YstatIUT"), ("XstatIUT", "YstatIUT", "YstatCAVS")):
            assert n.power(unhex(v["G"]), unhex(v[private])) == unhex(v[public])
            assert n.power(unhex(v[peer]), unhex(v[private])) == unhex(v["Z"])
        done += 1
    assert done >= 6


def test_powers_of_nist(captures: Path) -> None:
    path = captures / "nist-acvp/KAS-FFC-SSC-Sp800-56Ar3__internalProjection.json.gz"
    done = 0
    for group in json.loads(gzip.decompress(path.read_bytes()))["testGroups"]:
        if group["scheme"] != "dhEphem":
            continue
        n = _modexp.Modulus(unhex(group["p"]))
        for test in group["tests"]:
            if not test["testPassed"]:
                continue
            secret = n.power(unhex(test["ephemeralPublicIut"]), unhex(test["ephemeralPrivateServer"]))
            assert n.power(unhex(group["g"]), unhex(test["ephemeralPrivateServer"])) == unhex(
                test["ephemeralPublicServer"]
            )
            assert secret == unhex(test["z"])
            done += 1
    assert done >= 5


@given(st.integers(3, 2**200).map(lambda n: n | 1), st.integers(0), st.binary(min_size=1, max_size=40))
def test_power_equals_pow(n: int, base: int, exponent: bytes) -> None:
    length = (n.bit_length() + 7) // 8
    arguments = (base % n).to_bytes(length), exponent
    expected = pow(base, int.from_bytes(exponent), n).to_bytes(length)
    assert _modexp.Modulus(n.to_bytes(length)).power(*arguments) == expected
    assert modulus.Modulus(n.to_bytes(length)).power(*arguments) == expected


def test_powers_refuse_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="even"):
        _modexp.Modulus(b"\x10")
    with pytest.raises(ValueError, match="below the modulus"):
        _modexp.Modulus(b"\x11").power(b"\x11", b"\x02")


# Groups


@pytest.mark.parametrize("group", Group)
def test_both_ends_agree(group: Group) -> None:
    a, b = (DiffieHellman(group, Random(seed).randbytes) for seed in (1, 2))
    assert a.shared(b.public) == b.shared(a.public)
    assert len(a.public) == a.length == LENGTHS[group]
    again = DiffieHellman(group, Random(1).randbytes)
    assert (again.public, again.shared(b.public)) == (a.public, a.shared(b.public))
    assert a.public != b.public


@pytest.mark.parametrize("group", PRIMES)
def test_modp_equals_pow(group: Group) -> None:
    drawn = hashlib.shake_256(b"one").digest(exponent_length(group))
    # Bytes drawn become the exponent with its top bit set.
    exponent = int.from_bytes(drawn) | 1 << (8 * len(drawn) - 1)
    ours = DiffieHellman(group, lambda count: drawn[:count])
    assert int.from_bytes(ours.public) == pow(GENERATOR, exponent, PRIMES[group])
    peer = PRIMES[group] // 3
    assert int.from_bytes(ours.shared(peer.to_bytes(ours.length))) == pow(peer, exponent, PRIMES[group])


# Larger ones have nothing new and take seconds: OpenSSL tests the prime for every key.
@pytest.mark.parametrize("group", [Group.MODP_768, Group.MODP_1024, Group.MODP_2048])
def test_modp_equals_openssl(group: Group) -> None:
    drawn = hashlib.shake_256(b"two").digest(exponent_length(group))
    ours = DiffieHellman(group, lambda count: drawn)
    with warnings.catch_warnings():
        # The package is giving up Diffie-Hellman over finite fields.
        warnings.simplefilter("ignore")
        parameters = dh.DHParameterNumbers(PRIMES[group], GENERATOR)
        theirs = parameters.parameters().generate_private_key()
        public = theirs.public_key().public_numbers().y
        numbers = dh.DHPublicNumbers(int.from_bytes(ours.public), parameters)
        assert ours.shared(public.to_bytes(ours.length)) == theirs.exchange(numbers.public_key())


@pytest.mark.parametrize("group", RFC_5903)
def test_ecp_examples_of_rfc_5903(group: Group) -> None:
    initiator, initiator_public, responder, responder_public, shared = RFC_5903[group]
    for private, public, peer in (
        (initiator, initiator_public, responder_public),
        (responder, responder_public, initiator_public),
    ):
        # A drawn number d gives the private value d mod (n - 1) + 1.
        one = DiffieHellman(group, lambda count, value=int(private, 16): (value - 1).to_bytes(count))
        assert one.public == unhex(public)
        assert one.shared(unhex(peer)) == unhex(shared)


def test_openswan_vector(captures: Path) -> None:
    v = json.loads((captures / "openswan/openswan_ikev1_vectors.shared.json").read_text())["dh"]
    exponent = unhex(v["private"])
    assert exponent[0] >> 7, "the exponent of the vector has the top bit that ours has"
    mine = DiffieHellman(Group.MODP_2048, lambda count: exponent)
    assert mine.public.hex() == v["g_xi"]
    assert mine.shared(unhex(v["peer_g_xr"])).hex() == v["g_xy"]


@pytest.mark.parametrize("group", PRIMES)
def test_values_outside_a_modp_group_are_refused(group: Group) -> None:
    ours = DiffieHellman(group, bytes)
    prime = PRIMES[group]
    for value in (0, 1, prime - 1, prime, 256**ours.length - 1):
        with pytest.raises(MalformedMessage):
            ours.shared(value.to_bytes(ours.length))


@pytest.mark.parametrize("group", CURVES)
def test_points_off_the_curve_are_refused(group: Group) -> None:
    ours, peer = (DiffieHellman(group, Random(seed).randbytes) for seed in (1, 2))
    half = ours.length // 2
    x, y = peer.public[:half], peer.public[half:]
    off = (int.from_bytes(y) ^ 1).to_bytes(half)
    for value in (bytes(ours.length), b"\xff" * ours.length, x + off, y + x, x + bytes(half)):
        with pytest.raises(MalformedMessage):
            ours.shared(value)


@pytest.mark.parametrize("group", Group)
def test_values_of_a_wrong_size_are_refused(group: Group) -> None:
    ours = DiffieHellman(group, Random(1).randbytes)
    for value in (b"", ours.public[1:], b"\0" + ours.public, b"\4" + ours.public):
        with pytest.raises(MalformedMessage):
            ours.shared(value)


def test_shared_secret_keeps_its_leading_zeros() -> None:
    mine = DiffieHellman(Group.MODP_768, Random(1).randbytes)
    short = next(s for v in range(2, 5000) if not (s := mine.shared(v.to_bytes(96)))[0])
    assert len(short) == 96
    assert int.from_bytes(short) < PRIMES[Group.MODP_768]
