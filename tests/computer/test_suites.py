"""Algorithms: one list in policy, IKE and driver; what a profile takes; every suite from end to end."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.profiles import PROFILES
from ipsec_core.computer.suites import CIPHERS, MACS, Suite, security, suite_for, suite_of
from ipsec_core.driver import SaInfo, algorithms
from ipsec_core.errors import PolicyError
from ipsec_core.ike import AhTransform, AuthAlgorithm, Encapsulation, EspTransform, QuickModeOffer
from ipsec_core.ike.keys import esp_key_lengths
from ipsec_core.policy.methods import Confidentiality, Integrity, SecurityMethod
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table

DRIVER = {item.name: item for item in algorithms()}
SUITES = [Suite(c, m) for c in CIPHERS for m in ((None,) if c.transform.combined else MACS)]


def method_of(suite: Suite) -> SecurityMethod:
    assert suite.cipher is not None
    return SecurityMethod(suite.cipher.confidentiality, suite.mac.integrity if suite.mac else None)


def offer_of(suite: Suite) -> QuickModeOffer:
    assert suite.cipher is not None
    esp = suite.mac.esp if suite.mac else None
    return QuickModeOffer(suite.cipher.transform, esp, Encapsulation.TRANSPORT, suite.cipher.key_bits)


def policy(*methods: str, exchange: str = "3DES-SHA1-2") -> Policy:
    rule = {
        "name": "All",
        "filters": [{"source": "me", "destination": "10.0.0.0/24"}],
        "action": {"negotiate": list(methods)},
        "authentication": [{"preshared_key": "lab"}],
    }
    return policy_from_table({"name": "Lab", "key_exchange": {"methods": [exchange]}, "rules": [rule]}, "test")


# ---- the lists ------------------------------------------------------------------------------------------------------


def test_the_lists_are_complete() -> None:
    assert [item.confidentiality for item in CIPHERS] == list(Confidentiality)
    assert {item.transform for item in CIPHERS} == set(EspTransform)
    assert [item.integrity for item in MACS] == list(Integrity)
    assert [item.esp for item in MACS] == list(AuthAlgorithm)
    assert [item.ah for item in MACS] == list(AhTransform)
    # No number in IKEv1: ChaCha20-Poly1305 (RFC 7634). AES-GMAC is not negotiated, "none" is no algorithm.
    named = {item.driver for item in (*CIPHERS, *MACS)}
    assert {name for name in set(DRIVER) - named if "GMAC" not in name} == {"ChaCha20-Poly1305", "none"}
    assert named < set(DRIVER)


@pytest.mark.parametrize(
    ("name", "transform", "bits", "attribute", "ah"),
    [
        ("ESP[DES,MD5]", 2, 0, 1, 2),
        ("ESP[3DES,SHA1]", 3, 0, 2, 3),
        ("ESP[NULL,SHA256]", 11, 0, 5, 5),
        ("ESP[AES-128-CBC,SHA384]", 12, 128, 6, 6),
        ("ESP[AES-192-CTR,SHA512]", 13, 192, 7, 7),
        ("ESP[AES-256-GCM-8]", 18, 256, None, None),
        ("ESP[AES-128-GCM-12]", 19, 128, None, None),
        ("ESP[AES-192-GCM]", 20, 192, None, None),
    ],
)
def test_the_numbers_of_iana(name: str, transform: int, bits: int, attribute: int | None, ah: int | None) -> None:
    """Isakmp-registry: IPSEC ESP and AH transform identifiers, authentication algorithm."""
    suite = suite_for(SecurityMethod.parse(name))
    assert suite is not None
    assert suite.cipher is not None
    assert (suite.cipher.transform, suite.cipher.key_bits) == (transform, bits)
    assert (suite.mac.esp, suite.mac.ah) == (attribute, ah) if suite.mac else attribute is ah is None


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: method_of(suite).algorithms)
def test_policy_ike_and_driver_agree(suite: Suite) -> None:
    assert suite.cipher is not None
    method, offer = method_of(suite), offer_of(suite)
    cipher, mac = DRIVER[suite.cipher.driver], DRIVER[suite.driver_integrity]
    assert suite_for(method) == suite_of(offer) == suite
    assert esp_key_lengths(offer) == (cipher.key_length - cipher.salt_length, cipher.salt_length, mac.key_length)
    assert method.windows_2000 is (cipher.windows_2000 and mac.windows_2000)
    assert suite.cipher.transform.combined is (cipher.icv_length > 0) is suite.cipher.confidentiality.combined


def test_what_nothing_authenticates_is_not_negotiated() -> None:
    assert suite_for(SecurityMethod.parse("ESP[DES,NONE]")) is None
    assert suite_for(SecurityMethod.parse("AH[MD5]+ESP[DES,NONE]")) is not None


# ---- profiles -------------------------------------------------------------------------------------------------------


def computer(policy: Policy, **options: Any) -> Computer:
    return Computer("ALICE", IPv4Address("10.0.0.1"), policy, seed=b"x", **options)


def test_windows_2000_is_the_default() -> None:
    assert list(PROFILES) == ["windows-2000", "windows-2000-update", "modern"]
    for options in ({}, {"profile": "windows-2000"}):
        computer(policy("ESP[3DES,SHA1]", "ESP[DES,MD5]", "ESP[NULL,MD5]"), **options).start(0.0)
        with pytest.raises(PolicyError) as raised:
            computer(policy("ESP[3DES,SHA1]", "ESP[AES-128-CBC,SHA1]"), **options).start(0.0)
        assert str(raised.value) == (
            "policy 'Lab', rule 'All': security method ESP[AES-128-CBC,SHA1]:100000k/3600s is not of the profile "
            "windows-2000; accepted: ESP[NULL|DES|3DES,MD5|SHA1], AH[MD5|SHA1], AH+ESP, or profile modern"
        )


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: method_of(suite).algorithms)
def test_each_suite_in_each_profile(suite: Suite) -> None:
    made = policy(str(method_of(suite)))
    computer(made, profile="modern").start(0.0)
    assert suite.cipher is not None
    if DRIVER[suite.cipher.driver].windows_2000 and DRIVER[suite.driver_integrity].windows_2000:
        computer(made).start(0.0)
    else:
        with pytest.raises(PolicyError, match=r"is not of the profile windows-2000"):
            computer(made).start(0.0)


def test_the_key_exchange_belongs_to_the_profile() -> None:
    made = policy("ESP[3DES,SHA1]", exchange="3DES-SHA1-14")
    computer(made, profile="modern").start(0.0)
    with pytest.raises(PolicyError, match=r"^policy 'Lab': key exchange method 3DES-SHA1-14 is not of the profile"):
        computer(made).start(0.0)


def test_ah_counts_for_the_profile() -> None:
    computer(policy("ESP[3DES,SHA1]", "AH[SHA1]")).start(0.0)
    with pytest.raises(PolicyError, match=r"AH\[SHA256\]:100000k/3600s is not of the profile"):
        computer(policy("ESP[3DES,SHA1]", "AH[SHA256]")).start(0.0)


def test_unknown_profile() -> None:
    with pytest.raises(PolicyError) as raised:
        computer(policy("ESP[3DES,SHA1]"), profile="windows-95")
    assert (
        str(raised.value) == "profile: 'windows-95' is not known; accepted: windows-2000, windows-2000-update, modern"
    )


def test_what_a_modern_computer_could_do_is_said() -> None:
    with pytest.raises(PolicyError, match=r"accepted: ESP\[NULL\|DES\|3DES\|AES-128-CBC.*SHA512\], ESP\[AES-128-GCM\|"):
        computer(policy("ESP[DES,NONE]"), profile="modern").start(0.0)


# ---- what the tools show --------------------------------------------------------------------------------------------


def info(**fields: Any) -> SaInfo:
    plain: dict[str, Any] = {
        "handle": 1,
        "index": 0,
        "direction": "out",
        "mode": "transport",
        "protocol": "esp",
        "spi": 4096,
        "source": IPv4Address("10.0.0.1"),
        "destination": IPv4Address("10.0.0.2"),
        "inner_source": IPv4Network("10.0.0.1"),
        "inner_destination": IPv4Network("10.0.0.2"),
        "inner_protocol": 0,
        "source_port": 0,
        "destination_port": 0,
        "encryption": "NULL",
        "integrity": "none",
        "backend": "",
        "filter": 0,
        "packets": 0,
        "bytes": 0,
        "sequence": 0,
        "dropped": 0,
        "lost": 0,
        "last": 0.0,
        "expired": False,
        "offloaded": False,
        "path_mtu": 0,
    }
    return SaInfo(**{**plain, **fields})


def test_security_of_all_suites_is_that_of_the_policy() -> None:
    for suite in SUITES:
        assert suite.cipher is not None
        sa = info(encryption=suite.cipher.driver, integrity=suite.driver_integrity)
        assert security(sa) == method_of(suite).algorithms
    for mac in MACS:
        assert security(info(protocol="ah", integrity=mac.driver)) == f"AH[{mac.integrity.text}]"
    assert security(info(protocol="none")) == "None"
    ah = info(protocol="ah", integrity="HMAC-SHA1-96")
    assert security(info(encryption="DES-CBC"), ah) == "AH[SHA1]+ESP[DES,NONE]"
    assert security(info(encryption="ChaCha20-Poly1305")) == "ESP[ChaCha20-Poly1305]"
    assert security(info(integrity="AES-128-GMAC")) == "ESP[NULL,AES-128-GMAC]"
