"""The authentication methods of Main Mode in both roles, and peers that cheat in each of them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core.ike import (
    IkeOptions,
    MainModeEstablished,
    MainModePolicy,
    NatTraversal,
    NegotiationFailed,
    PeerIdentity,
    keys,
    wire,
)
from ipsec_core.ike.credentials import Claim, CredentialRefused
from ipsec_core.ike.events import AuthMethod
from ipsec_core.ike.failures import FailurePoint, FailureReason, MalformedMessage, Refused, Unverified
from ipsec_core.ike.iana import CertificateEncoding, ExchangeType, Flags, IdType, MainModeAttribute, Notify, Protocol
from ipsec_core.ike.main_mode import MainMode, State

I_COOKIE, R_COOKIE = b"initiatr", b"respondr"
PSK, RSA, KERBEROS = AuthMethod.PRESHARED_KEY, AuthMethod.RSA_SIGNATURES, AuthMethod.KERBEROS
X509 = CertificateEncoding.X509_SIGNATURE


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


@dataclass
class Papers:
    """Certificates that are bare names with a key, from an issuer of the name `root`."""

    name: str
    root: str = "CN=root"
    trusted: tuple[str, ...] = ("CN=root",)
    requested: list[Sequence[bytes]] = field(default_factory=list)
    seen: list[tuple[Sequence[bytes], Sequence[bytes]]] = field(default_factory=list)
    forge: bool = False

    @property
    def subject(self) -> bytes:
        return self.name.encode()

    @property
    def certificate(self) -> bytes:
        public = rsa_key(self.name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert len(public) < 256
        return b"|".join((self.name.encode(), self.root.encode(), public))

    def requests(self) -> tuple[bytes, ...]:
        return tuple(name.encode() for name in self.trusted)

    def chain(self, requested: Sequence[bytes]) -> tuple[bytes, ...]:
        self.requested.append(requested)
        if requested and not {self.root.encode(), b""} & set(requested):
            raise CredentialRefused(FailureReason.NO_MACHINE_CERTIFICATE, "no certificate of a root that is asked for")
        return self.certificate, b"intermediate"

    def sign(self, digest: bytes) -> bytes:
        signature = rsa_key(self.name).sign(digest, padding.PKCS1v15(), NoDigestInfo())
        return bytes(len(signature)) if self.forge else signature

    def verify(self, now: float, claim: Claim) -> PeerIdentity:
        self.seen.append((claim.chain, claim.crls))
        name, root, *_ = (*(claim.chain[0] if claim.chain else b"").split(b"|", 2), b"", b"")
        who = PeerIdentity(RSA, repr(name), repr(root))
        trusted = claim.chain and root.decode(errors="replace") in self.trusted
        if not trusted or claim.identity != (IdType.DER_ASN1_DN, name):
            raise CredentialRefused(FailureReason.PEER_CERTIFICATE, "nobody we trust", who)
        try:
            key = rsa_key(name.decode()).public_key()
            key.verify(claim.signature, claim.digest, padding.PKCS1v15(), NoDigestInfo())
        except (InvalidSignature, ValueError):
            raise CredentialRefused(FailureReason.INVALID_SIGNATURE, "signature", who) from None
        return PeerIdentity(RSA, name.decode(), root.decode(), root.decode())


@dataclass
class Context:
    """A mechanism with `legs` tokens in all, the initiator's first."""

    legs: int
    peer: str
    reached: int = 0

    @property
    def complete(self) -> bool:
        return self.reached == self.legs

    def token(self, number: int) -> bytes:
        return b"token %d of %d;" % (number, self.legs)

    def step(self, token: bytes | None) -> bytes | None:
        if token is not None:
            if token != self.token(self.reached + 1):
                raise CredentialRefused(FailureReason.KERBEROS, "defective token")
            self.reached += 1
        if self.complete:
            return None
        self.reached += 1
        return self.token(self.reached)

    def wrap(self, data: bytes) -> bytes:
        return b"wrapped:" + data

    def unwrap(self, data: bytes) -> bytes:
        if not data.startswith(b"wrapped:"):
            raise CredentialRefused(FailureReason.KERBEROS, "integrity check")
        return data.removeprefix(b"wrapped:")


@dataclass
class Realm:
    name: str
    legs: int = 2
    unknown: str = ""
    asked: list[str] = field(default_factory=list)

    def initiate(self, peer: str) -> Context:
        self.asked.append(peer)
        if peer == self.unknown:
            raise CredentialRefused(FailureReason.KERBEROS, "server not found in the database")
        return Context(self.legs, peer)

    def accept(self) -> Context:
        return Context(self.legs, "somebody@REALM")


def policy(kit: Any, *methods: AuthMethod, **credentials: Any) -> MainModePolicy:
    return MainModePolicy(tuple(replace(kit.MAIN_OFFER, auth=method) for method in methods), **credentials)


def policies(kit: Any, *methods: AuthMethod, legs: int = 2) -> tuple[MainModePolicy, MainModePolicy]:
    """Of alice and of bob, with all credentials."""
    return tuple(
        policy(
            kit,
            *methods,
            preshared_key=kit.KEY,
            certificates=Papers(f"CN={name}"),
            kerberos=Realm(f"{name}$@REALM", legs),
        )
        for name in ("alice", "bob")
    )  # type: ignore[return-value]


def pair(kit: Any, ours: tuple[MainModePolicy, MainModePolicy], **options: Any) -> tuple[MainMode, MainMode]:
    common: dict[str, Any] = {"options": IkeOptions(**options)}
    return (
        MainMode(
            initiator=True, local=kit.ALICE, remote=kit.BOB, policy=ours[0], random=Random(1).randbytes,
            cookie=I_COOKIE, **common,
        ),
        MainMode(
            initiator=False, local=kit.BOB, remote=kit.ALICE, policy=ours[1], random=Random(2).randbytes,
            cookie=R_COOKIE, peer_cookie=I_COOKIE, **common,
        ),
    )  # fmt: skip


def give(exchange: MainMode, message: bytes | None) -> bytes | None:
    assert message is not None
    return exchange.receive(wire.parse_header(message), message)


def run(initiator: MainMode, responder: MainMode, messages: int = 99) -> list[bytes]:
    """Play to the end or up to so many messages, and return them; the last one is not delivered yet then."""
    sent: list[bytes] = []
    message: bytes | None = initiator.start()
    while message is not None:
        sent.append(message)
        if len(sent) == messages:
            break
        message = give(responder if len(sent) % 2 else initiator, message)
    return sent


def refused(exchange: MainMode, message: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        give(exchange, message)
    return caught.value


def clear(message: bytes) -> tuple[wire.Payload, ...]:
    return wire.parse_clear(wire.parse_header(message), message)


def opened(receiver: MainMode, message: bytes) -> tuple[wire.Payload, ...]:
    header = wire.parse_header(message)
    return wire.parse_payloads(header.next_payload, receiver._cipher.open(receiver._iv, message[28:]))[0]


def sealed(receiver: MainMode, payloads: Sequence[wire.Payload]) -> bytes:
    """What a peer with the right keys and other payloads would send."""
    body = receiver._cipher.seal(receiver._iv, wire.encode_payloads(payloads))
    kind = wire.first_type(tuple(payloads))
    return wire.Header(I_COOKIE, R_COOKIE, ExchangeType.MAIN_MODE, Flags.ENCRYPTION, next_payload=kind).encode(
        len(body)
    ) + body  # fmt: skip


def recoded(message: bytes, payloads: Sequence[wire.Payload]) -> bytes:
    header = wire.parse_header(message)
    return wire.encode_clear(replace(header, next_payload=wire.first_type(tuple(payloads))), tuple(payloads))


# What is chosen


@pytest.mark.parametrize("method", [PSK, RSA, KERBEROS])
@pytest.mark.parametrize("choosy", [0, 1])
def test_one_common_method_is_found(kit: Any, method: AuthMethod, choosy: int) -> None:
    ours = list(policies(kit, KERBEROS, RSA, PSK))
    ours[choosy] = policies(kit, method)[choosy]
    initiator, responder = pair(kit, (ours[0], ours[1]))
    assert len(run(initiator, responder)) == 6
    assert initiator.state is responder.state is State.ESTABLISHED
    assert initiator.session.skeyid_d == responder.session.skeyid_d
    assert initiator.offer.auth is responder.offer.auth is method
    names = {PSK: ("", ""), RSA: ("CN=bob", "CN=alice"), KERBEROS: ("bob$@REALM", "somebody@REALM")}[method]
    for exchange, name in zip((initiator, responder), names, strict=True):
        assert exchange.peer is not None
        assert (exchange.peer.method, exchange.peer.name) == (method, name)


def test_the_first_of_several_methods_counts(kit: Any) -> None:
    for methods in ((KERBEROS, RSA, PSK), (RSA, PSK, KERBEROS), (PSK, KERBEROS, RSA)):
        initiator, responder = pair(kit, (policies(kit, *methods)[0], policies(kit, PSK, RSA, KERBEROS)[1]))
        run(initiator, responder)
        assert initiator.offer.auth is responder.offer.auth is methods[0]


def test_a_method_in_common_with_none(kit: Any) -> None:
    initiator, responder = pair(kit, (policies(kit, RSA)[0], policies(kit, PSK)[1]))
    refusal = refused(responder, initiator.start())
    assert refusal.reason is FailureReason.ATTRIBUTES_UNACCEPTABLE
    assert refusal.details is not None
    assert refusal.details.attribute == "Authentication Method"


def test_through_the_engine(kit: Any) -> None:
    alice, bob = policies(kit, RSA)
    net = kit.pair(alice=kit.Rules(alice), bob=kit.Rules(bob))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run()
    for address, name in ((kit.ALICE, "CN=bob"), (kit.BOB, "CN=alice")):
        (event,) = net.of(address, MainModeEstablished)
        assert event.peer == PeerIdentity(RSA, name, "CN=root", "CN=root")


# Pre-shared key


def test_another_preshared_key_is_unverified(kit: Any) -> None:
    initiator, responder = pair(kit, (policy(kit, PSK, preshared_key=b"other"), policies(kit, PSK)[1]))
    with pytest.raises(Unverified):
        give(responder, run(initiator, responder, 5)[-1])
    assert responder.state is State.KEY_ANSWERED
    assert responder.peer is None


# RSA signatures


def test_where_certificates_and_requests_travel(kit: Any) -> None:
    ours = policies(kit, RSA)
    initiator, responder = pair(kit, ours)
    sent = run(initiator, responder, 4)
    for message in sent[2:]:
        assert wire.every(clear(message), wire.CertificateRequest) == (wire.CertificateRequest(X509, b"CN=root"),)
        assert not wire.every(clear(message), wire.Certificate)
    five = give(initiator, sent[3])
    assert five is not None
    identity, *certificates, signature = opened(responder, five)
    assert identity == wire.Identification(IdType.DER_ASN1_DN, 0, 0, b"CN=alice")
    alice = ours[0].certificates
    assert isinstance(alice, Papers)
    assert certificates == [wire.Certificate(X509, data) for data in (alice.certificate, b"intermediate")]
    assert alice.requested == [(b"CN=root",)]
    # The signature is PKCS #1 over HASH_I itself, with the HMAC of hashlib as the second opinion.
    three, four = clear(sent[2]), clear(sent[3])
    shared = initiator._exchange.shared(wire.only(four, wire.KeyExchange).data)
    nonces = wire.only(three, wire.Nonce).data + wire.only(four, wire.Nonce).data
    skeyid = hmac.digest(nonces, shared, "sha1")
    publics = wire.only(three, wire.KeyExchange).data + wire.only(four, wire.KeyExchange).data
    sa = wire.only(clear(sent[0]), wire.SecurityAssociation).body()
    proof = hmac.digest(skeyid, publics + I_COOKIE + R_COOKIE + sa + identity.body(), "sha1")
    assert isinstance(signature, wire.Signature)
    assert len(proof) == hashlib.sha1().digest_size
    rsa_key("CN=alice").public_key().verify(signature.data, proof, padding.PKCS1v15(), NoDigestInfo())


def test_a_request_counts_in_every_message(kit: Any) -> None:
    for number in (1, 3, 5):
        ours = policies(kit, RSA)
        bob = ours[1].certificates
        assert isinstance(bob, Papers)
        bob.trusted = ("CN=root", "CN=second")
        initiator, responder = pair(kit, ours)
        ask = (*(wire.CertificateRequest(X509, name) for name in (b"CN=wanted", b"")), wire.CertificateRequest(9, b"x"))
        sent = run(initiator, responder, number)
        if number < 5:
            message = recoded(sent[-1], (*clear(sent[-1]), *ask))
        else:
            message = sealed(responder, (*opened(responder, sent[-1]), *ask))
        if number < 5:
            answer = give(responder, message)
            if number == 1:
                answer = give(responder, give(initiator, answer))
            five = give(initiator, answer)
            # What follows is not signed over the changed message 1.
            responder._sa_body = initiator._sa_body
            give(responder, five)
        else:
            give(responder, message)
        assert set(bob.requested[0]) == {b"CN=root", b"CN=wanted", b""}


def test_certificates_outside_messages_with_an_identity_are_ignored(kit: Any) -> None:
    ours = policies(kit, RSA)
    initiator, responder = pair(kit, ours)
    three = run(initiator, responder, 3)[-1]
    false = wire.Certificate(X509, b"false"), wire.Certificate(CertificateEncoding.CRL, b"crl")
    five = give(initiator, give(responder, recoded(three, (*clear(three), *false))))
    assert five is not None
    body = opened(responder, five)
    give(responder, sealed(responder, (*body, wire.Certificate(CertificateEncoding.CRL, b"own crl"))))
    bob, alice = ours[1].certificates, ours[0].certificates
    assert isinstance(bob, Papers)
    assert isinstance(alice, Papers)
    assert bob.seen == [([alice.certificate, b"intermediate"], [b"own crl"])]


def test_a_wrong_signature(kit: Any) -> None:
    ours = policies(kit, RSA)
    assert isinstance(ours[0].certificates, Papers)
    ours[0].certificates.forge = True
    initiator, responder = pair(kit, ours)
    refusal = refused(responder, run(initiator, responder, 5)[-1])
    assert (refusal.reason, refusal.notify) == (FailureReason.INVALID_SIGNATURE, Notify.INVALID_SIGNATURE)
    assert responder.peer is not None
    assert "alice" in responder.peer.name


def test_a_certificate_of_nobody(kit: Any) -> None:
    ours = policies(kit, RSA)
    assert isinstance(ours[1].certificates, Papers)
    ours[1].certificates.root = "CN=elsewhere"
    initiator, responder = pair(kit, ours)
    # Who cannot satisfy the request says so.
    own = refused(responder, run(initiator, responder, 5)[-1])
    assert (own.reason, own.notify) == (FailureReason.NO_MACHINE_CERTIFICATE, Notify.AUTHENTICATION_FAILED)
    # Who does not care, is refused.
    initiator, responder = pair(kit, ours)
    responder_papers = ours[1].certificates
    responder_papers.chain = lambda requested: (responder_papers.certificate,)  # type: ignore[method-assign]
    refusal = refused(initiator, run(initiator, responder, 6)[-1])
    assert (refusal.reason, refusal.notify) == (FailureReason.PEER_CERTIFICATE, Notify.AUTHENTICATION_FAILED)
    assert initiator.peer == PeerIdentity(RSA, "b'CN=bob'", "b'CN=elsewhere'")


@pytest.mark.parametrize("missing", [wire.Identification, wire.Signature])
def test_half_a_proof_is_none(kit: Any, missing: type) -> None:
    initiator, responder = pair(kit, policies(kit, RSA))
    five = run(initiator, responder, 5)[-1]
    rest = [payload for payload in opened(responder, five) if not isinstance(payload, missing)]
    with pytest.raises(Unverified):
        give(responder, sealed(responder, rest))
    assert give(initiator, give(responder, five)) is None


def test_without_certificates_the_peer_is_refused(kit: Any) -> None:
    initiator, responder = pair(kit, policies(kit, RSA))
    five = run(initiator, responder, 5)[-1]
    rest = [payload for payload in opened(responder, five) if not isinstance(payload, wire.Certificate)]
    assert refused(responder, sealed(responder, rest)).reason is FailureReason.PEER_CERTIFICATE


# Kerberos


@pytest.mark.parametrize(("legs", "messages"), [(1, 6), (2, 6), (3, 6), (4, 8), (5, 8), (6, 10)])
def test_as_many_round_trips_as_the_mechanism_wants(kit: Any, legs: int, messages: int) -> None:
    initiator, responder = pair(kit, policies(kit, KERBEROS, legs=legs))
    sent = run(initiator, responder)
    assert len(sent) == messages
    assert initiator.session.skeyid_d == responder.session.skeyid_d
    tokens = [payload.data for message in sent[2:-2] for payload in wire.every(clear(message), wire.GssToken)]
    context = Context(legs, "")
    # An initiator's last token, which nothing answers, is in message 5.
    assert tokens == [context.token(number) for number in range(1, legs + (legs % 2 == 0 or legs == 1))]
    own = b"alice$@REALM" + b"".join(context.token(n) for n in range(1, legs + 1, 2))
    assert initiator._authentication.covered(by_us=True) == responder._authentication.covered(by_us=False) == own


def test_a_mechanism_that_never_ends(kit: Any) -> None:
    initiator, responder = pair(kit, policies(kit, KERBEROS, legs=99))
    with pytest.raises(Refused) as caught:
        run(initiator, responder)
    assert caught.value.reason is FailureReason.KERBEROS


def test_names_go_both_ways_in_kerberos_transforms_only(kit: Any) -> None:
    ours = policies(kit, KERBEROS, RSA, KERBEROS, PSK)
    initiator, responder = pair(kit, ours)
    sent = run(initiator, responder, 3)
    names = []
    for message in sent[:2]:
        (proposal,) = wire.only(clear(message), wire.SecurityAssociation).proposals
        names.append(
            [
                [a.value.decode("utf-16-le") for a in transform.attributes if a.type == MainModeAttribute.GSS_NAME]
                for transform in proposal.transforms
            ]
        )
    assert names == [[["alice$@REALM"], [], ["alice$@REALM"], []], [["bob$@REALM"]]]
    assert isinstance(ours[0].kerberos, Realm)
    assert ours[0].kerberos.asked == ["bob$@REALM"]


def test_a_name_that_would_make_the_answer_longer(kit: Any) -> None:
    alice, bob = policies(kit, KERBEROS)
    assert isinstance(bob.kerberos, Realm)
    for length, good in ((24, True), (25, False)):
        # Without Microsoft's id in it the answer has 24 bytes more than the message, or as many characters as that / 2.
        bob.kerberos.name = "x" * (len("alice$@REALM") + length // 2 + length % 2)
        initiator, responder = pair(kit, (alice, bob))
        message = initiator.start()
        if good:
            answer = give(responder, message)
            assert answer is not None
            assert len(answer) == len(message)
            assert not wire.every(clear(answer), wire.VendorId)
        else:
            with pytest.raises(MalformedMessage):
                give(responder, message)
            assert responder.state is State.LISTENING


@pytest.mark.parametrize("name", [None, b"odd", b"\x00\xd8"])
def test_method_65001_without_a_name_is_not_kerberos(kit: Any, name: bytes | None) -> None:
    """It is XAUTH's number, too."""
    initiator, responder = pair(kit, policies(kit, KERBEROS, PSK))
    first = initiator.start()
    sa, *rest = clear(first)
    assert isinstance(sa, wire.SecurityAssociation)
    kerberos, preshared = sa.proposals[0].transforms
    attributes = tuple(a for a in kerberos.attributes if a.type != MainModeAttribute.GSS_NAME)
    if name is not None:
        attributes += (wire.Attribute(MainModeAttribute.GSS_NAME, name, variable=True),)
    changed = replace(sa.proposals[0], transforms=(replace(kerberos, attributes=attributes), preshared))
    give(responder, recoded(first, (wire.SecurityAssociation((changed,)), *rest)))
    assert responder.offer.auth is PSK
    # Nor is it an answer.
    answer = wire.SecurityAssociation((replace(changed, transforms=changed.transforms[:1]),))
    header = wire.Header(I_COOKIE, R_COOKIE, ExchangeType.MAIN_MODE, next_payload=1)
    with pytest.raises(MalformedMessage):
        give(initiator, wire.encode_clear(header, (answer,)))


def test_a_peer_that_kerberos_does_not_know(kit: Any) -> None:
    alice, bob = policies(kit, KERBEROS)
    assert isinstance(alice.kerberos, Realm)
    alice.kerberos.unknown = "bob$@REALM"
    net = kit.pair(alice=kit.Rules(alice), bob=kit.Rules(bob))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(300.0)
    failures = net.of(kit.ALICE, NegotiationFailed)
    assert [(event.reason, event.failure_point, event.answers) for event in failures] == [
        (FailureReason.KERBEROS, FailurePoint.ME, (1,))
    ]


def test_bad_tokens(kit: Any) -> None:
    initiator, responder = pair(kit, policies(kit, KERBEROS))
    three = run(initiator, responder, 3)[-1]
    key, nonce, token = clear(three)
    assert isinstance(token, wire.GssToken)
    for payloads in ((key, nonce), (key, nonce, token, token)):
        with pytest.raises(MalformedMessage):
            give(responder, recoded(three, payloads))
    assert refused(responder, recoded(three, (key, nonce, wire.GssToken(b"x")))).reason is FailureReason.KERBEROS
    initiator, responder = pair(kit, policies(kit, KERBEROS))
    four = run(initiator, responder, 4)[-1]
    key, nonce, token = clear(four)
    with pytest.raises(MalformedMessage):
        give(initiator, recoded(four, (key, nonce)))
    assert refused(initiator, recoded(four, (key, nonce, wire.GssToken(b"x")))).reason is FailureReason.KERBEROS


@pytest.mark.parametrize("method", [PSK, RSA, KERBEROS])
def test_a_token_out_of_turn_is_ignored(kit: Any, method: AuthMethod) -> None:
    initiator, responder = pair(kit, policies(kit, method))
    five = run(initiator, responder, 5)[-1]
    lone = (wire.GssToken(b"x"),)
    header = wire.Header(I_COOKIE, R_COOKIE, ExchangeType.MAIN_MODE, next_payload=wire.first_type(lone))
    with pytest.raises(MalformedMessage):
        give(responder, wire.encode_clear(header, lone))
    assert give(initiator, give(responder, five)) is None


def test_two_tunnels_joined_in_the_middle(kit: Any) -> None:
    """Tokens that are passed on do not fit to another Diffie-Hellman exchange."""
    initiator, responder = pair(kit, policies(kit, KERBEROS))
    five = run(initiator, responder, 5)[-1]
    identity, proof = opened(responder, five)
    assert isinstance(proof, wire.HashData)
    false = wire.HashData(b"wrapped:" + bytes(20))
    refusal = refused(responder, sealed(responder, (identity, false)))
    assert (refusal.reason, refusal.notify) == (FailureReason.KERBEROS, Notify.AUTHENTICATION_FAILED)
    assert responder.peer == PeerIdentity(KERBEROS, "somebody@REALM")
    assert refused(responder, sealed(responder, (identity, wire.HashData(bytes(28))))).reason is FailureReason.KERBEROS


def test_the_proof_covers_names_and_tokens(kit: Any) -> None:
    for change in ("name", "token"):
        ours = policies(kit, KERBEROS)
        initiator, responder = pair(kit, ours)
        five = run(initiator, responder, 4)[-1]
        assert isinstance(ours[0].kerberos, Realm)
        if change == "name":
            ours[0].kerberos.name = "mallory$@REALM"
        else:
            responder._authentication._peer_tokens += b"x"  # type: ignore[attr-defined]
        assert refused(responder, give(initiator, five) or b"").reason is FailureReason.KERBEROS


def test_a_proof_before_the_context_is_complete(kit: Any) -> None:
    initiator, responder = pair(kit, policies(kit, KERBEROS, legs=4))
    run(initiator, responder, 5)
    identity = wire.Identification(IdType.IPV4_ADDR, 0, 0, bytes((10, 0, 0, 1)))
    with pytest.raises(Unverified):
        give(responder, sealed(responder, (identity, wire.HashData(b"wrapped:" + bytes(20)))))


def test_a_damaged_message_five_with_the_last_token(kit: Any) -> None:
    initiator, responder = pair(kit, policies(kit, KERBEROS, legs=3))
    five = run(initiator, responder, 5)[-1]
    identity, proof, token = opened(responder, five)
    with pytest.raises(Unverified):
        give(responder, sealed(responder, (identity, token)))
    with pytest.raises(Unverified):
        give(responder, sealed(responder, (identity, proof, wire.GssToken(b"another"))))
    assert give(initiator, give(responder, five)) is None


# Identities


@pytest.mark.parametrize(
    ("identity", "good"),
    [
        ((IdType.IPV4_ADDR, 0, 0, bytes((10, 0, 0, 1))), True),
        ((IdType.IPV4_ADDR, 17, 500, bytes((10, 0, 0, 1))), True),
        ((IdType.IPV4_ADDR, 17, 0, bytes((10, 0, 0, 1))), True),
        ((IdType.IPV4_ADDR, 6, 500, bytes((10, 0, 0, 1))), False),
        ((IdType.IPV4_ADDR, 17, 501, bytes((10, 0, 0, 1))), False),
        ((IdType.IPV4_ADDR, 0, 0, bytes((10, 0, 0, 9))), False),
        ((IdType.IPV4_ADDR, 0, 0, bytes(3)), False),
        ((IdType.FQDN, 0, 0, b"alice.example.com"), True),
        ((IdType.USER_FQDN, 0, 0, b"alice@example.com"), True),
        ((IdType.KEY_ID, 0, 0, b"\x00"), True),
        ((IdType.DER_ASN1_DN, 0, 0, b"0"), True),
        ((IdType.FQDN, 0, 0, b""), False),
        ((IdType.IPV4_ADDR_SUBNET, 0, 0, bytes((10, 0, 0, 0, 255, 0, 0, 0))), False),
        ((IdType.IPV6_ADDR, 0, 0, bytes(16)), False),
        ((0, 0, 0, b"x"), False),
        ((255, 0, 0, b"x"), False),
    ],
)
def test_identities(kit: Any, identity: tuple[int, int, int, bytes], good: bool) -> None:
    initiator, responder = pair(kit, policies(kit, PSK))
    four = run(initiator, responder, 4)[-1]
    payload = wire.Identification(*identity)
    initiator_identity: Callable[[str], wire.Identification] = lambda local: payload  # noqa: E731
    initiator._authentication.identity = initiator_identity  # type: ignore[method-assign]
    five = give(initiator, four)
    assert five is not None
    if good:
        give(responder, five)
        assert responder.state is State.ESTABLISHED
    else:
        refusal = refused(responder, five)
        assert (refusal.reason, refusal.notify) == (FailureReason.ID_PAYLOAD, Notify.INVALID_ID_INFORMATION)


# Notifies before the end


NOTE = wire.Notification(Protocol.ISAKMP, I_COOKIE + R_COOKIE, Notify.AUTHENTICATION_FAILED)


def iv_of(exchange: MainMode, message: bytes, message_id: int) -> list[bytes]:
    """The blocks of those that could have been the base of the IV of `message`."""
    clear_text = wire.encode_payloads((NOTE,))
    proof = keys.message_hash(exchange.offer.hash, exchange._skeyids.authenticate, message_id, clear_text)
    expected = wire.encode_payloads((wire.HashData(proof), NOTE))
    blocks = (exchange._first_iv, exchange._received_block, exchange._sent_block)
    return [
        block
        for block in blocks
        if exchange._cipher.open(keys.phase_two_iv(exchange.offer.hash, block, message_id), message[28:]).startswith(
            expected
        )
    ]


@pytest.mark.parametrize("microsoft", [2, 5, 6, None])
def test_iv_of_a_notify_before_the_end(kit: Any, microsoft: int | None) -> None:
    """[MS-IKEE] appendix A: the last block sent towards Microsoft 2 to 5, else the last decrypted."""
    ours = policies(kit, RSA)
    assert isinstance(ours[1].certificates, Papers)
    ours[1].certificates.forge = True
    initiator, responder = pair(kit, ours)
    six = run(initiator, responder, 6)[-1]
    refused(initiator, six)
    assert initiator.keyed
    initiator.common = replace(initiator.common, microsoft_version=microsoft)
    message = initiator.seal_notify(77, NOTE)
    assert iv_of(initiator, message, 77) == [
        initiator._sent_block if microsoft in (2, 5) else initiator._received_block
    ]
    assert initiator._received_block == six[-8:]
    assert initiator._sent_block != six[-8:]
    header = wire.parse_header(message)
    assert (header.exchange, header.encrypted, header.message_id) == (ExchangeType.INFORMATIONAL, True, 77)
    assert responder.open_notify(header, message) == (NOTE,)
    with pytest.raises(Unverified):
        responder.open_notify(header, message[:-8] + bytes(8))


@pytest.mark.parametrize("microsoft", [2, None])
def test_a_responder_refuses_message_five(kit: Any, microsoft: int | None) -> None:
    ours = policies(kit, RSA)
    assert isinstance(ours[0].certificates, Papers)
    ours[0].certificates.forge = True
    initiator, responder = pair(kit, ours)
    assert not responder.keyed
    sent = run(initiator, responder, 5)
    refused(responder, sent[-1])
    assert responder.keyed
    responder.common = replace(responder.common, microsoft_version=microsoft)
    message = responder.seal_notify(1, NOTE)
    # It has sent nothing encrypted: then the IV of message 5 is the base.
    expected = responder._first_iv if microsoft else sent[-1][-8:]
    assert set(iv_of(responder, message, 1)) == {expected}
    assert initiator.open_notify(wire.parse_header(message), message) == (NOTE,)


def test_failures_in_the_first_two_round_trips_are_told_in_clear(kit: Any) -> None:
    initiator, responder = pair(kit, policies(kit, PSK))
    states = []
    message: bytes | None = initiator.start()
    for exchange in (responder, initiator, responder, initiator, responder, initiator):
        message = give(exchange, message)
        states.append((exchange.initiator, exchange.keyed))
    assert states == [(False, False), (True, False), (False, True), (True, True), (False, True), (True, True)]


# Anything else


ALL = IkeOptions(nat_traversal=(NatTraversal.RFC_3947,), fragmentation=True)


def mutated(data: st.DataObject, message: bytes) -> bytes:
    kind = data.draw(st.sampled_from(["bits", "bytes", "cut", "grow", "payloads"]))
    out = bytearray(message)
    if kind == "bits":
        for position in data.draw(st.lists(st.integers(0, 8 * len(out) - 1), min_size=1, max_size=4)):
            out[position // 8] ^= 1 << position % 8
    elif kind == "bytes":
        start = data.draw(st.integers(0, len(out) - 1))
        new = data.draw(st.binary(max_size=24))
        out[start : start + len(new)] = new
    elif kind == "cut":
        del out[data.draw(st.integers(0, len(out))) :]
    elif kind == "grow":
        out += data.draw(st.binary(min_size=1, max_size=40))
    else:
        start, end = sorted(data.draw(st.tuples(st.integers(0, len(out)), st.integers(0, len(out)))))
        out += out[start:end]
    return bytes(out)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_message_makes_it_raise_anything_else(kit: Any, data: st.DataObject) -> None:
    """One message of an exchange is changed, in clear or under the cipher. What is ignored leaves no trace."""
    method = data.draw(st.sampled_from([PSK, RSA, KERBEROS]))
    legs = data.draw(st.sampled_from([2, 3, 4])) if method is KERBEROS else 2
    initiator, responder = pair(
        kit, policies(kit, method, legs=legs), nat_traversal=ALL.nat_traversal, fragmentation=True
    )
    number = data.draw(st.integers(1, 8 if legs == 4 else 6))
    message = run(initiator, responder, number)[-1]
    receiver = responder if number % 2 else initiator
    before = receiver.state
    try:
        header = wire.parse_header(message)
        if header.encrypted and data.draw(st.booleans()):
            body = mutated(data, receiver._cipher.open(receiver._iv, message[28:]))
            body = receiver._cipher.seal(receiver._iv, body)
            changed = header.encode(len(body)) + body
        else:
            body = mutated(data, message[28:])
            next_payload = data.draw(st.just(header.next_payload) | st.integers(0, 255))
            changed = replace(header, next_payload=next_payload).encode(len(body)) + body
        give(receiver, changed)
    except Refused:
        return
    except MalformedMessage:
        assert receiver.state is before
        end = give(receiver, message)
        while end is not None:
            receiver = initiator if receiver is responder else responder
            end = give(receiver, end)
        assert initiator.state is responder.state is State.ESTABLISHED
        assert initiator.session.skeyid_d == responder.session.skeyid_d
