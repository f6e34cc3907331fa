"""The policy objects: text forms, ranges, defaults of KB 257225 and of the stored Windows 2000 policies."""

from __future__ import annotations

import uuid
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core.errors import PolicyError
from ipsec_core.policy.methods import Confidentiality, DiffieHellmanGroup, Integrity, KeyExchangeMethod, SecurityMethod
from ipsec_core.policy.model import (
    AuthenticationKind,
    AuthenticationMethod,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList, parse_protocol

KEY = AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "a preshared key long enough")
NEGOTIATE = FilterAction("", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("ESP[3DES,SHA1]"),))


@pytest.mark.parametrize(
    ("text", "network", "shown"),
    [
        ("any", "0.0.0.0/0", "any"),
        ("0.0.0.0/0", "0.0.0.0/0", "any"),
        ("0.0.0.0/0.0.0.0", "0.0.0.0/0", "any"),
        ("ME", "0.0.0.0/32", "me"),
        ("10.0.0.1", "10.0.0.1/32", "10.0.0.1"),
        ("10.0.0.1/32", "10.0.0.1/32", "10.0.0.1"),
        ("10.0.0.0/24", "10.0.0.0/24", "10.0.0.0/24"),
        ("10.0.0.0/255.255.255.0", "10.0.0.0/24", "10.0.0.0/24"),
    ],
)
def test_address_from_text(text: str, network: str, shown: str) -> None:
    address = Address.parse(text)
    assert address.network == IPv4Network(network)
    assert str(address) == shown
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.300", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/255.0.255.0", "10.0.0.0/0.0.0.255", "0.0.0.0", "::1", "x"],
)
def test_address_refused(text: str) -> None:
    with pytest.raises(PolicyError, match=r"accepted: any, me, a\.b\.c\.d, a\.b\.c\.d/len") as raised:
        Address.parse(text)
    assert repr(text) in str(raised.value)


def test_address_with_host_bits_tells_the_subnet() -> None:
    with pytest.raises(PolicyError, match=r"the subnet is 10\.0\.0\.0/24"):
        Address.parse("10.0.0.7/24")


def test_any_and_my_are_stored_as_windows_stores_them() -> None:
    assert str(ANY.network.netmask) == "0.0.0.0"
    assert str(MY.network.netmask) == "255.255.255.255"
    assert ANY.is_any
    assert not ANY.is_my
    assert MY.is_my
    assert not MY.is_any


@pytest.mark.parametrize(
    ("given", "number"), [("any", 0), ("TCP", 6), ("udp", 17), ("icmp", 1), ("50", 50), (255, 255)]
)
def test_protocol(given: str | int, number: int) -> None:
    assert parse_protocol(given) == number


@pytest.mark.parametrize("given", ["esp", "256", "-1", "9" * 5000, "", 256, -1])
def test_protocol_refused(given: str | int) -> None:
    with pytest.raises(PolicyError, match="accepted: any, icmp, tcp, udp, 0 to 255"):
        parse_protocol(given)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source_port": 80}, "a port needs protocol tcp or udp, not any"),
        ({"protocol": 1, "destination_port": 80}, "a port needs protocol tcp or udp, not icmp"),
        ({"protocol": 6, "destination_port": 65536}, "destination_port: 65536 is out of range; accepted: 0 to 65535"),
        ({"destination": MY}, "source and destination cannot both be me"),
    ],
)
def test_filter_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        Filter(**{"name": "", "source": MY, "destination": ANY, **fields})  # type: ignore[arg-type]
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ESP[3DES,SHA1]:100000k/3600s", SecurityMethod(Confidentiality.TRIPLE_DES, Integrity.SHA1)),
        ("esp[des,md5]:50001K/900S", SecurityMethod(Confidentiality.DES, Integrity.MD5, None, 900, 50001)),
        ("ESP[3DES,SHA]:0k/0s", SecurityMethod(Confidentiality.TRIPLE_DES, Integrity.SHA1)),
        ("ESP[3DES,SHA1]:900s", SecurityMethod(Confidentiality.TRIPLE_DES, Integrity.SHA1, None, 900)),
        ("ESP[AES-128-GCM]", SecurityMethod(Confidentiality.AES_128_GCM, None)),
        ("ESP[aes-256-gcm-12]", SecurityMethod(Confidentiality.AES_256_GCM_12, None)),
        ("ESP[AES-192-CTR,SHA384]", SecurityMethod(Confidentiality.AES_192_CTR, Integrity.SHA384)),
        ("AH[SHA512]", SecurityMethod(None, None, Integrity.SHA512)),
        ("ESP[NULL,MD5]", SecurityMethod(Confidentiality.NULL, Integrity.MD5)),
        ("ESP[None,MD5]", SecurityMethod(Confidentiality.NULL, Integrity.MD5)),
        ("ESP[DES,NONE]", SecurityMethod(Confidentiality.DES, None)),
        ("AH[SHA1]", SecurityMethod(None, None, Integrity.SHA1)),
        ("ESP[DES,MD5]+AH[SHA1]", SecurityMethod(Confidentiality.DES, Integrity.MD5, Integrity.SHA1)),
    ],
)
def test_security_method_from_text(text: str, expected: SecurityMethod) -> None:
    assert SecurityMethod.parse(text) == expected


methods = st.builds(
    lambda esp, integrity, ah, seconds, kilobytes: SecurityMethod(
        esp,
        None if esp is None or esp.combined else integrity or (Integrity.MD5 if esp is Confidentiality.NULL else None),
        ah or (Integrity.SHA1 if esp is None else None),
        seconds,
        kilobytes,
    ),
    st.none() | st.sampled_from(Confidentiality),
    st.none() | st.sampled_from(Integrity),
    st.none() | st.sampled_from(Integrity),
    st.integers(1, 172_799),
    st.integers(1, 2_147_483_647),
)


@settings(deadline=None)
@given(methods)
def test_security_method_text_round_trip(method: SecurityMethod) -> None:
    assert SecurityMethod.parse(str(method)) == method
    assert SecurityMethod.parse(str(method).lower()) == method


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a security method"),
        ("3DES-SHA1", "'3DES-SHA1' is not a security method"),
        ("ESP[3DES,SHA1]:fast", "is not a security method"),
        ("ESP[3DES,SHA1]+ESP[DES,MD5]", "is not a security method"),
        ("AH[SHA1,MD5]", "is not a security method"),
        ("ESP[RC4,SHA1]", "'RC4' is not an algorithm here; accepted: NULL, DES, 3DES, AES-128-CBC, "),
        ("ESP[3DES,SHA224]", "'SHA224' is not an algorithm here; accepted: MD5, SHA1, SHA256, SHA384, SHA512"),
        ("ESP[AES-192-GCM-8,SHA1]", "AES-192-GCM-8 authenticates by itself; write ESP[AES-192-GCM-8]"),
        ("ESP[3DES]", "ESP[3DES] lacks its integrity; accepted: ESP[3DES,SHA1], ESP[3DES,NONE]"),
        ("ESP[NULL,NONE]", "ESP needs encryption or integrity"),
        ("ESP[3DES,SHA1]:1k/172800s", "lifetime_seconds: 172800 is out of range; accepted: 1 to 172799"),
        ("ESP[3DES,SHA1]:2147483648k", "lifetime_kilobytes: 2147483648 is out of range"),
    ],
)
def test_security_method_refused(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        SecurityMethod.parse(text)
    assert message in str(raised.value)


def test_what_esp_without_encryption_needs_is_an_integrity() -> None:
    with pytest.raises(PolicyError, match=r"accepted: ESP\[NULL,SHA1\]$"):
        SecurityMethod.parse("ESP[NULL]")


def test_what_windows_2000_knows() -> None:
    assert SecurityMethod.parse("ESP[3DES,SHA1]").windows_2000
    assert SecurityMethod.parse("AH[MD5]").windows_2000
    for text in ("ESP[AES-128-GCM]", "ESP[3DES,SHA256]", "AH[SHA256]", "ESP[3DES,SHA1]+AH[SHA384]"):
        assert not SecurityMethod.parse(text).windows_2000
    assert KeyExchangeMethod.parse("DES-MD5-1").windows_2000
    assert not KeyExchangeMethod.parse("3DES-SHA1-14").windows_2000


def test_default_key_exchange_is_that_of_windows_2000() -> None:
    settings = KeyExchangeSettings()
    assert [str(method) for method in settings.methods] == ["3DES-SHA1-2", "3DES-MD5-2", "DES-SHA1-1", "DES-MD5-1"]
    assert settings.lifetime_of(settings.methods[0]) == 28_800
    assert settings.quick_modes_per_main_mode == 0
    assert KeyExchangeSettings(master_key_pfs=True, quick_mode_limit=9).quick_modes_per_main_mode == 1


@pytest.mark.parametrize("cipher", ["DES", "3DES", "AES-128", "AES-192", "AES-256"])
@pytest.mark.parametrize("number", [1, 2, 5, *range(14, 22)])
def test_key_exchange_methods_of_today(cipher: str, number: int) -> None:
    for integrity in Integrity:
        text = f"{cipher}-{integrity.text}-{number}"
        method = KeyExchangeMethod.parse(text)
        assert (str(method), method.group, method.integrity) == (text, number, integrity)
        assert method.windows_2000 is (not cipher.startswith("AES") and integrity.windows_2000 and number < 5)


def test_a_group_for_pfs_needs_pfs() -> None:
    methods = (SecurityMethod.parse("AH[SHA1]"),)
    group = DiffieHellmanGroup.MODP_2048
    assert FilterAction("", FilterActionKind.NEGOTIATE, methods, pfs=True, pfs_group=group).pfs_group == 14
    with pytest.raises(PolicyError, match="a group for PFS without PFS"):
        FilterAction("", FilterActionKind.NEGOTIATE, methods, pfs_group=group)


def test_key_exchange_method_text() -> None:
    method = KeyExchangeMethod.parse("3des-sha-2:600s")
    assert method == KeyExchangeMethod(Confidentiality.TRIPLE_DES, Integrity.SHA1, DiffieHellmanGroup.MODP_1024, 600)
    assert str(method) == "3DES-SHA1-2:600s"
    assert KeyExchangeSettings(lifetime_seconds=900).lifetime_of(method) == 600
    for text in ("3DES-SHA1", "3DES-SHA1-6", "AES-128-GCM-SHA1-2", "NULL-SHA1-2", "3DES-SHA3-2", "3DES-SHA1-2:5k"):
        with pytest.raises(PolicyError):
            KeyExchangeMethod.parse(text)


def test_action_guids() -> None:
    assert FilterActionKind.PERMIT.guid == uuid.UUID("8a171dd2-77e3-11d1-8659-a04f00000000")
    assert NEGOTIATE.action_guid == uuid.UUID("8a171dd3-77e3-11d1-8659-a04f00000000")
    inbound = FilterAction("", FilterActionKind.NEGOTIATE, NEGOTIATE.methods, inbound_passthrough=True)
    assert inbound.action_guid == uuid.UUID("3f91a81a-7647-11d1-864d-d46a00000000")


def test_actions_refused() -> None:
    with pytest.raises(PolicyError, match="at least one security method"):
        FilterAction("", FilterActionKind.NEGOTIATE)
    for fields in ({"methods": NEGOTIATE.methods}, {"pfs": True}, {"allow_unsecured": True}):
        with pytest.raises(PolicyError, match="block takes no security methods"):
            FilterAction("", FilterActionKind.BLOCK, **fields)


def test_preshared_key_is_never_shown() -> None:
    rule = Rule("r", FilterList("", "", ()), NEGOTIATE, (KEY,))
    assert "sesame" not in repr(KEY)
    assert "sesame" not in repr(Policy("p", rules=(rule,)))
    assert "Root CA" in repr(AuthenticationMethod(AuthenticationKind.CERTIFICATE, "CN=Root CA"))


def test_authentication_refused() -> None:
    for kind, value in ((AuthenticationKind.PRESHARED_KEY, ""), (AuthenticationKind.KERBEROS, "x")):
        with pytest.raises(PolicyError):
            AuthenticationMethod(kind, value)
    with pytest.raises(PolicyError, match="authentication method"):
        Rule("r", FilterList("", "", ()), NEGOTIATE, ())


def test_tunnel_needs_negotiate() -> None:
    with pytest.raises(PolicyError, match="a tunnel needs the action negotiate, not block"):
        Rule("r", FilterList("", "", ()), FilterAction("", FilterActionKind.BLOCK), (), IPv4Address("10.0.0.2"))


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.5", "255.255.255.255"])
def test_a_tunnel_ends_at_a_host(address: str) -> None:
    action = FilterAction("", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("ESP[3DES,SHA1]"),))
    with pytest.raises(PolicyError, match=f"{address} is not a tunnel endpoint; accepted: the address of a host"):
        Rule("r", FilterList("", "", ()), action, tunnel_endpoint=IPv4Address(address))


def test_policy_ranges_and_identity() -> None:
    assert Policy("p").policy_id == Policy("p", description="other").policy_id != Policy("q").policy_id
    with pytest.raises(PolicyError, match="a policy needs a name"):
        Policy("")
    with pytest.raises(PolicyError, match="polling_interval_seconds: 0 is out of range"):
        Policy("p", polling_interval_seconds=0)


def _policy(method: str) -> Policy:
    action = FilterAction("", FilterActionKind.NEGOTIATE, (SecurityMethod.parse(method),))
    return Policy("p", rules=(Rule("secure", FilterList("", "", ()), action),))


@pytest.mark.parametrize(
    ("method", "warnings"),
    [
        ("ESP[3DES,SHA1]", 0),
        ("ESP[3DES,SHA1]:50001k/301s", 0),
        ("ESP[3DES,SHA1]:50000k/301s", 1),
        ("ESP[3DES,SHA1]:50001k/300s", 1),
        ("ESP[3DES,SHA1]:1k/1s", 2),
    ],
)
def test_short_lifetimes_are_allowed_with_a_warning(method: str, warnings: int) -> None:
    lines = _policy(method).warnings()
    assert len(lines) == warnings
    assert all(line.startswith("rule 'secure': ESP[3DES,SHA1]:") for line in lines)


def test_tunnel_warnings() -> None:
    def rule(source: str, destination: str, endpoint: str, mirrored: bool = False) -> Rule:
        one = Filter("", Address.parse(source), Address.parse(destination), mirrored=mirrored)
        return Rule("", FilterList("", "", (one,)), NEGOTIATE, (KEY,), IPv4Address(endpoint))

    there = rule("10.1.0.0/16", "10.2.0.0/16", "192.0.2.2")
    back = rule("10.2.0.0/16", "10.1.0.0/16", "192.0.2.1")
    assert Policy("p", rules=(there, back)).warnings() == ()
    (line,) = Policy("p", rules=(there,)).warnings()
    assert line == "rule 0: no tunnel rule for the way back of 10.1.0.0/16 to 10.2.0.0/16; a tunnel needs two rules"
    mirrored = rule("10.1.0.0/16", "10.2.0.0/16", "192.0.2.2", True)
    (line,) = Policy("p", rules=(mirrored, back)).warnings()
    assert "mirrored" in line
