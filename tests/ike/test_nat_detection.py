"""NAT-D: who is behind a NAT, in both dialects (RFC 3947 section 3.2, draft-ietf-ipsec-nat-t-ike-02)."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Network
from random import Random
from typing import Any

import pytest

from ipsec_core.ike import Hash, IkeOptions, MainModePolicy, NatTraversal, wire
from ipsec_core.ike.authentication import PresharedKey
from ipsec_core.ike.failures import FailureReason, Refused
from ipsec_core.ike.iana import PayloadType
from ipsec_core.ike.main_mode import MainMode, State
from ipsec_core.ike.nat import NatPath, detection_hash, detection_payloads, find_nat
from ipsec_core.ike.offers import encode_identity

I_COOKIE, R_COOKIE = b"initiatr", b"respondr"
COOKIES = I_COOKIE + R_COOKIE
RFC, DRAFT = NatTraversal.RFC_3947, NatTraversal.DRAFT_02
# Alice's address as bob sees it, and bob's as alice sees it.
GATE, DOOR = "192.0.2.1", "192.0.2.2"


def pair(kit: Any, *, alice_as: str, bob_as: str, **options: Any) -> tuple[MainMode, MainMode]:
    policy = MainModePolicy((kit.MAIN_OFFER,), kit.KEY)
    both: dict[str, Any] = {"policy": policy, "options": IkeOptions(**({"nat_traversal": (RFC,)} | options))}
    return (
        MainMode(
            initiator=True, local=kit.ALICE, remote=bob_as, random=Random(1).randbytes, cookie=I_COOKIE, **both
        ),
        MainMode(
            initiator=False, local=kit.BOB, remote=alice_as, random=Random(2).randbytes, cookie=R_COOKIE,
            peer_cookie=I_COOKIE, **both,
        ),
    )  # fmt: skip


def run(initiator: MainMode, responder: MainMode, alice_port: int = 500, bob_port: int = 500) -> list[bytes]:
    """`alice_port` and `bob_port` are those that the other end sees."""
    sent: list[bytes] = []
    message: bytes | None = initiator.start()
    while message is not None:
        sent.append(message)
        at_bob = len(sent) % 2
        receiver, port = (responder, alice_port) if at_bob else (initiator, bob_port)
        message = receiver.receive(wire.parse_header(message), message, remote_port=port)
    return sent


def behind(local: bool, remote: bool, dialect: NatTraversal = RFC) -> NatPath:
    return NatPath(dialect, local, remote)


def test_the_hash_is_over_cookies_address_and_port() -> None:
    text = COOKIES + bytes((10, 99, 0, 2)) + b"\x01\xf4"
    for algorithm, digest in ((Hash.MD5, hashlib.md5), (Hash.SHA1, hashlib.sha1), (Hash.SHA256, hashlib.sha256)):
        assert detection_hash(algorithm, COOKIES, ("10.99.0.2", 500)) == digest(text).digest()
    # As strongSwan logs it in a capture of two of its kind.
    cookies = bytes.fromhex("9991977255b880d13bd0293b21ec0286")
    logged = "205794d47a2832c591dba17bbe11b24338fcc5f4"
    assert detection_hash(Hash.SHA1, cookies, ("10.99.0.2", 500)).hex() == logged


@pytest.mark.parametrize(("dialect", "kind"), [(RFC, PayloadType.NAT_D), (DRAFT, PayloadType.NAT_D_DRAFT)])
def test_messages_three_and_four_carry_destination_and_source(
    kit: Any, dialect: NatTraversal, kind: PayloadType
) -> None:
    initiator, responder = pair(kit, alice_as=kit.ALICE, bob_as=kit.BOB, nat_traversal=(dialect,))
    sent = run(initiator, responder)
    ends = [detection_hash(Hash.SHA1, COOKIES, (address, 500)) for address in (kit.BOB, kit.ALICE)]
    for number, message in enumerate(sent[:4], 1):
        payloads = wire.parse_clear(wire.parse_header(message), message)
        found = [(payload.TYPE, payload.data) for payload in wire.every(payloads, wire.NatDetection)]
        assert found == {3: [(kind, end) for end in ends], 4: [(kind, end) for end in ends[::-1]]}.get(number, [])
    assert initiator.nat is responder.nat is None


@pytest.mark.parametrize("dialect", [RFC, DRAFT])
@pytest.mark.parametrize("alice", [True, False])
@pytest.mark.parametrize("bob", [True, False])
def test_who_is_behind(kit: Any, dialect: NatTraversal, alice: bool, bob: bool) -> None:
    initiator, responder = pair(
        kit, alice_as=GATE if alice else kit.ALICE, bob_as=DOOR if bob else kit.BOB, nat_traversal=(dialect,)
    )
    run(initiator, responder)
    assert initiator.nat == (behind(alice, bob, dialect) if alice or bob else None)
    assert responder.nat == (behind(bob, alice, dialect) if alice or bob else None)
    # The identities are the addresses before the NAT.
    assert initiator.state is responder.state is State.ESTABLISHED


def test_a_nat_that_changes_ports_only(kit: Any) -> None:
    initiator, responder = pair(kit, alice_as=kit.ALICE, bob_as=kit.BOB)
    run(initiator, responder, alice_port=61_000)
    assert initiator.nat == behind(True, False)
    assert responder.nat == behind(False, True)


def test_pretending(kit: Any) -> None:
    """Who pretends knows it, and the other end sees it in the false hash."""
    initiator, responder = pair(kit, alice_as=kit.ALICE, bob_as=kit.BOB)
    initiator.options = IkeOptions(nat_traversal=(RFC,), pretend_nat=True)
    run(initiator, responder)
    assert initiator.nat == behind(True, False)
    assert responder.nat == behind(False, True)
    initiator, responder = pair(kit, alice_as=kit.ALICE, bob_as=kit.BOB, pretend_nat=True)
    run(initiator, responder)
    assert initiator.nat == responder.nat == behind(True, True)


def test_without_the_vendor_id_nothing_is_sent_or_found(kit: Any) -> None:
    initiator, responder = pair(kit, alice_as=kit.ALICE, bob_as=kit.BOB, nat_traversal=(), pretend_nat=True)
    for message in run(initiator, responder)[:4]:
        assert not wire.every(wire.parse_clear(wire.parse_header(message), message), wire.NatDetection)
    assert initiator.nat is responder.nat is None


def test_an_identity_of_another_address_needs_a_nat_before_the_peer(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without_detection = pair(kit, alice_as=GATE, bob_as=kit.BOB, nat_traversal=())
    with pytest.raises(Refused) as caught:
        run(*without_detection)
    assert caught.value.reason is FailureReason.ID_PAYLOAD
    # A NAT before ourselves is no excuse.
    liar = encode_identity(IPv4Network("10.9.9.9"))
    monkeypatch.setattr(PresharedKey, "identity", lambda self, local: liar)
    with pytest.raises(Refused) as caught:
        run(*pair(kit, alice_as=kit.ALICE, bob_as=DOOR))
    assert caught.value.reason is FailureReason.ID_PAYLOAD


HERE, THERE = ("10.0.0.2", 500), ("10.0.0.1", 500)


def find(*hashes: bytes, kind: PayloadType = PayloadType.NAT_D, **options: Any) -> NatPath | None:
    payloads = [wire.NatDetection(kind, data) for data in hashes]
    return find_nat(RFC, payloads, Hash.SHA1, COOKIES, HERE, THERE, **options)


def test_what_a_peer_may_send() -> None:
    here, there = (detection_hash(Hash.SHA1, COOKIES, end) for end in (HERE, THERE))
    other = bytes(20)
    assert find(here, there) is None
    # RFC 3947 section 3.2: a host with several addresses sends a hash of each.
    assert find(here, other, there, other) is None
    assert find(here, other, other) == behind(False, True)
    assert find(there, here) == behind(True, True)
    assert find(b"", b"") == behind(True, True)
    assert find() is find(here) is None
    assert find(other, other, kind=PayloadType.NAT_D_DRAFT) is None
    assert find(here, there, pretend=True) == behind(True, False)
    assert find(pretend=True) is None
    ours = detection_payloads(RFC, Hash.SHA1, COOKIES, HERE, THERE)
    assert [payload.data for payload in ours] == [there, here]
