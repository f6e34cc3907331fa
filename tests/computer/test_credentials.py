"""Who the peer is: certificates and Kerberos from the policy to the Security log, and what happens without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from computer_kit import A, B, Pair, policy

from ipsec_core.computer.computer import Computer
from ipsec_core.errors import PolicyError
from ipsec_core.ike import AuthMethod, Certificates, Claim, CredentialRefused, FailureReason, PeerIdentity

ROOT = {"certificate": "CN=Root"}
KEY = {"preshared_key": "lab"}


@dataclass
class Papers:
    """Certificates of a name, which are that name and signatures that are the signed."""

    name: str
    trusted: Sequence[str] = ("CN=Root",)
    forged: bool = False
    crl_level: int = -1
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def for_root(self, *root_names: str) -> Certificates:
        self.asked.append(root_names)
        if not set(root_names) & set(self.trusted):
            raise PolicyError(f"no certificate under {', '.join(root_names)}")
        return self

    def usable_roots(self) -> tuple[str, ...]:
        return tuple(self.trusted)

    @property
    def subject(self) -> bytes:
        return self.name.encode()

    def requests(self) -> tuple[bytes, ...]:
        return (b"CN=Root",)

    def chain(self, requested: Sequence[bytes]) -> tuple[bytes, ...]:
        return (self.name.encode(),)

    def sign(self, digest: bytes) -> bytes:
        return b"forged" if self.forged else digest

    def verify(self, now: float, claim: Claim) -> PeerIdentity:
        who = PeerIdentity(AuthMethod.RSA_SIGNATURES, claim.chain[0].decode(), "CN=Issuer", "CN=Root")
        if b"Mallory" in claim.chain[0]:
            raise CredentialRefused(FailureReason.PEER_CERTIFICATE, "not trusted", who)
        if claim.signature != claim.digest:
            raise CredentialRefused(FailureReason.INVALID_SIGNATURE, "wrong signature", who)
        return who


@dataclass
class Context:
    """A mechanism of two tokens."""

    peer: str
    complete: bool = False

    def step(self, token: bytes | None) -> bytes | None:
        if token is None:
            return b"request"
        self.complete = True
        return b"reply" if token == b"request" else None

    def wrap(self, data: bytes) -> bytes:
        return data

    def unwrap(self, data: bytes) -> bytes:
        return data


@dataclass
class Account:
    name: str
    peer: str

    def initiate(self, peer: str) -> Context:
        assert peer == self.peer
        return Context(peer)

    def accept(self) -> Context:
        return Context(self.peer)


ALICE, BOB = "alice$@LAB.EXAMPLE", "bob$@LAB.EXAMPLE"


def audit(computer: Computer, number: int) -> str:
    return computer.log.events(log="Security", event_id=number)[0].text


def pair_of(authentication: Sequence[object], **bob: Any) -> Pair:
    made = policy("ESP[3DES,SHA1]", authentication=authentication)
    pair = Pair(made, made, alice={"certificates": Papers("CN=Alice")}, bob={"certificates": Papers("CN=Bob"), **bob})
    pair.send(10)
    pair.until(150.0)
    return pair


def test_certificates() -> None:
    pair = pair_of([ROOT])
    assert len(pair.delivered) == 1
    assert pair.audits(pair.a)[:2] == [541, 541]
    for number in range(2):
        text = pair.a.log.events(log="Security", event_id=541)[number].text
        assert "Certificate based Identity.\nPeer Subject CN=Bob\nPeer Issuing Certificate Authority CN=Issuer" in text
        assert f"Peer Root Certificate Authority CN=Root\nPeer IP Address: {B}" in text
    assert "Peer Subject CN=Alice" in audit(pair.b, 541)


def test_a_certificate_that_nobody_trusts() -> None:
    pair = pair_of([ROOT], certificates=Papers("CN=Mallory"))
    assert pair.delivered == []
    text = audit(pair.a, 544)
    assert "Peer Subject CN=Mallory\nPeer Issuing Certificate Authority CN=Issuer" in text
    # The other end hears of it; what it had was right.
    assert "Certificate based Identity." in audit(pair.b, 545)
    assert pair.a.counters()["authentication_failures"] == 1


def test_a_signature_that_is_not_the_peers() -> None:
    pair = pair_of([ROOT], certificates=Papers("CN=Bob", forged=True))
    assert pair.delivered == []
    assert "Peer Subject CN=Bob" in audit(pair.a, 545)


def test_kerberos() -> None:
    made = policy("ESP[3DES,SHA1]", authentication=["kerberos"])
    pair = Pair(made, made, alice={"kerberos": Account(ALICE, BOB)}, bob={"kerberos": Account(BOB, ALICE)})
    pair.send(10)
    assert len(pair.delivered) == 1
    assert f"Kerberos based Identity: {BOB}\nPeer IP Address: {B}" in audit(pair.a, 541)
    assert f"Kerberos based Identity: {ALICE}\nPeer IP Address: {A}" in audit(pair.b, 541)
    assert pair.a.log.events(source="Oakley") == ()


def test_without_an_account_kerberos_is_left_out() -> None:
    """Of the two methods the other one is used; an informational event says so."""
    made = policy("ESP[3DES,SHA1]", authentication=["kerberos", KEY])
    pair = Pair(made, made, alice={"kerberos": Account(ALICE, BOB)})
    pair.send(10)
    assert len(pair.delivered) == 1
    assert "Preshared key ID." in audit(pair.a, 541)
    (event,) = pair.b.log.events(source="Oakley")
    assert (event.event_id, event.log, event.type) == (507, "Application", "Information")
    assert pair.a.log.events(source="Oakley") == ()


def test_one_transform_for_each_method_and_way_to_authenticate() -> None:
    """In the order of the methods, and under each of the rule."""
    made = policy("ESP[3DES,SHA1]", authentication=["kerberos", ROOT, KEY], exchange=["3DES-SHA1-2", "DES-MD5-1"])
    options = {"kerberos": Account(ALICE, BOB), "certificates": Papers("CN=Alice")}
    pair = Pair(made, None, alice=options)
    found = pair.a.main_mode(A, B)
    assert found is not None
    assert [(int(offer.encryption), int(offer.auth)) for offer in found.offers] == [
        (5, 65001),
        (5, 3),
        (5, 1),
        (1, 65001),
        (1, 3),
        (1, 1),
    ]
    assert found.preshared_key == b"lab"


def test_the_names_of_several_roots_are_one_method() -> None:
    papers = Papers("CN=Alice")
    made = policy("ESP[3DES,SHA1]", authentication=[{"certificate": "CN=Other"}, KEY, ROOT])
    pair = Pair(made, None, alice={"certificates": papers})
    assert set(papers.asked) == {("CN=Other", "CN=Root")}
    found = pair.a.main_mode(A, B)
    assert found is not None
    assert [offer.auth for offer in found.offers] == [AuthMethod.RSA_SIGNATURES, AuthMethod.PRESHARED_KEY]


@pytest.mark.parametrize(
    ("authentication", "message"),
    [
        ([{"certificate": "CN=Other"}], "no certificate under CN=Other"),
        (["kerberos"], "the computer has no Kerberos credentials"),
        (["kerberos", {"certificate": "CN=Other"}], "the computer has no Kerberos credentials; no certificate under"),
    ],
)
def test_a_rule_without_any_way_is_refused(authentication: Sequence[object], message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        Pair(policy(authentication=authentication), None, alice={"certificates": Papers("CN=Alice")})
    assert f"policy 'Lab', rule 'All': no authentication method can be carried out ({message}" in str(raised.value)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_strong_crl_check(level: int) -> None:
    papers = Papers("CN=Alice")
    made = policy("ESP[3DES,SHA1]", authentication=[ROOT])
    pair = Pair(made, None, alice={"certificates": papers, "registry": {"StrongCrlCheck": level}})
    assert papers.crl_level == level
    pair.a.state.registry.set_known("StrongCrlCheck", 2)
    assert papers.crl_level == level, "the service has to restart"
    pair.a.restart_agent(1.0)
    assert papers.crl_level == 2


def test_dos_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    """EnableDOSProtect reaches IKE when the service restarts."""
    from ipsec_core.computer import computer as module

    seen: list[bool] = []
    engine = module.IkeEngine

    def made(*arguments: Any, **named: Any) -> Any:
        seen.append(named["options"].dos_protect)
        return engine(*arguments, **named)

    monkeypatch.setattr(module, "IkeEngine", made)
    pair = Pair(policy(), None, alice={"registry": {"EnableDOSProtect": 1}})
    pair.b.state.registry.set_known("EnableDOSProtect", 1)
    pair.b.restart_agent(1.0)
    assert seen == [True, False, True]
