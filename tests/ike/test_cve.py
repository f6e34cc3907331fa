"""Classes of faults for which ISAKMP implementations got CVE numbers; each family says which ones it stands for.

The numbers are examples of the class. Nothing here is about speed in seconds: work is counted in function calls.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ike_scene import everything, kept

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import (
    AuthAlgorithm,
    ChildDeleted,
    Encapsulation,
    EspTransform,
    IkeEngine,
    MainModeDeleted,
    MainModeEstablished,
    MainModePolicy,
    NegotiationFailed,
    QuickModeEstablished,
    QuickModeOffer,
    keys,
    protected,
    wire,
)
from ipsec_core.ike.conversations import MAX_MESSAGE_IDS
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import AuthMethod, ExchangeType, Flags, Notify, PayloadType, Protocol
from ipsec_core.ike.main_mode import MainMode
from ipsec_core.policy.methods import SecurityMethod
from ipsec_core.policy.model import (
    AuthenticationKind,
    AuthenticationMethod,
    FilterAction,
    FilterActionKind,
    Policy,
    Rule,
)
from ipsec_core.policy.selectors import FilterList

PACKAGE = Path(__file__).resolve().parents[2] / "ipsec_core"
COOKIE = b"attacker"


def number(value: int, length: int = 2) -> bytes:
    return value.to_bytes(length)


def payload(following: int, body: bytes, length: int | None = None) -> bytes:
    return bytes((following, 0)) + number(4 + len(body) if length is None else length) + body


def message(
    first: int, body: bytes, *, cookies: bytes = COOKIE + bytes(8), exchange: int = 2, flags: int = 0, mid: int = 0
) -> bytes:
    header = cookies + bytes((first, 0x10, exchange, flags)) + number(mid, 4)
    return header + number(28 + len(body), 4) + body


def proposal(
    transforms: bytes, count: int, *, length: int | None = None, spi: bytes = b"", spi_size: int = -1
) -> bytes:
    body = bytes((1, 1, len(spi) if spi_size < 0 else spi_size, count)) + spi + transforms
    return payload(0, body, length)


def transform(attributes: bytes, *, following: int = 0, length: int | None = None) -> bytes:
    return payload(following, bytes((1, 1, 0, 0)) + attributes, length)


DOI = number(1, 4) + number(1, 4)
GOOD = bytes.fromhex("800100058002000280030001800400 01".replace(" ", ""))

# Length and chain faults: (first payload type, bytes of the chain)
CHAINS: dict[str, tuple[int, bytes]] = {
    "no payload where one is announced": (1, b""),
    "payload header cut": (1, b"\0\0\0"),
    "payload length 0": (1, payload(0, DOI, 0)),
    "payload length 1": (1, payload(0, DOI, 1)),
    "payload length 3": (13, payload(0, b"vendor", 3)),
    "payload longer than the message": (13, payload(0, b"vendor", 4000)),
    "payload length 65535": (13, payload(0, b"vendor", 0xFFFF)),
    "chain that goes on behind the end": (13, payload(13, b"vendor")),
    "chain of empty payloads without an end": (13, payload(13, b"") * 400),
    "reserved field": (13, b"\0\xff\0\x08abcd"),
    "SA without situation": (1, payload(0, number(1, 4))),
    "SA of DOI 0": (1, payload(0, bytes(8))),
    "SA of a situation with labels": (1, payload(0, number(1, 4) + number(7, 4) + bytes(40))),
    "proposal length 0": (1, payload(0, DOI + proposal(transform(GOOD), 1, length=0))),
    "proposal shorter than its header": (1, payload(0, DOI + proposal(transform(GOOD), 1, length=7))),
    "proposal longer than the SA": (1, payload(0, DOI + proposal(transform(GOOD), 1, length=500))),
    "SPI longer than the proposal": (1, payload(0, DOI + proposal(b"", 1, spi=b"abcd", spi_size=255))),
    "more transforms counted than there are": (1, payload(0, DOI + proposal(transform(GOOD), 200))),
    "fewer transforms counted than there are": (1, payload(0, DOI + proposal(transform(GOOD) * 2, 1))),
    "transform length 0": (1, payload(0, DOI + proposal(transform(GOOD, length=0), 1))),
    "transform chain that names another type": (1, payload(0, DOI + proposal(transform(GOOD, following=9), 1))),
    "attribute longer than the transform": (1, payload(0, DOI + proposal(transform(b"\0\1\xff\xff\0"), 1))),
    "half an attribute": (1, payload(0, DOI + proposal(transform(GOOD + b"\x80"), 1))),
    "more attributes than make sense": (1, payload(0, DOI + proposal(transform(b"\x80\1\0\5" * 2000), 1))),
    "proposals without an end": (1, payload(0, DOI + payload(2, bytes((1, 1, 0, 0))) * 300)),
    "ID of 3 bytes": (5, payload(0, b"\1\0\0")),
    "nonce of 0 bytes": (10, payload(0, b"")),
    "nonce of 7 bytes": (10, payload(0, bytes(7))),
    "nonce of 257 bytes": (10, payload(0, bytes(257))),
    "notification of 7 bytes": (11, payload(0, bytes(7))),
    "notification with an SPI behind its end": (11, payload(0, number(1, 4) + b"\1\xff" + number(24578))),
    "delete of 3 bytes": (12, payload(0, bytes(3))),
    "delete of 65535 SPIs of 0 bytes": (12, payload(0, number(1, 4) + b"\1\0\xff\xff")),
    "delete of 65535 SPIs of 16 bytes": (12, payload(0, number(1, 4) + b"\1\x10\xff\xff" + bytes(16))),
    "delete with more behind its SPIs": (12, payload(0, number(1, 4) + b"\3\4\0\1" + bytes(9))),
    "empty certificate": (6, payload(0, b"")),
    "empty certificate request": (7, payload(0, b"")),
    "fragment without anything": (132, payload(0, b"")),
    "fragment number 0": (132, payload(0, b"\0\1\0\1" + bytes(40))),
    "KE and nothing else": (4, payload(0, bytes(96))),
    "SA of no proposal": (1, payload(0, DOI)),
    "proposal of no transform": (1, payload(0, DOI + proposal(b"", 0))),
    "method 65001 without a GSS name": (
        1,
        payload(0, DOI + proposal(transform(GOOD[:8] + bytes.fromhex("8003fde980040001")), 1)),
    ),
    "two SA payloads": (1, payload(1, DOI) + payload(0, DOI)),
}
HEADERS: dict[str, bytes] = {
    "nothing": b"",
    "one byte": b"\xff",
    "header cut": message(1, b"")[:27],
    "length 0": message(1, b"")[:24] + bytes(4),
    "length 27": message(1, b"")[:24] + number(27, 4),
    "length beyond the datagram": message(0, b"")[:24] + number(29, 4),
    "length 4294967295": message(0, b"")[:24] + b"\xff" * 4,
    "length shorter than the datagram": message(0, b"") + b"more",
    "cookies of zeros": message(0, b"", cookies=bytes(16)),
    "unknown responder cookie": message(0, b"", cookies=b"a" * 16),
    "version 0": b"a" * 8 + bytes(9) + b"\0\2\0" + bytes(4) + number(28, 4),
    "version 2": message(0, b"")[:17] + b"\x20" + message(0, b"")[18:],
    "flags that do not exist": message(0, b"", flags=0xF8),
    "encrypted first message": message(1, bytes(64), flags=1),
    "Main Mode with a message id": message(1, payload(0, DOI), mid=7),
    "Quick Mode without an SA": message(8, bytes(64), exchange=32, flags=1, mid=7),
    "Quick Mode in clear": message(8, payload(0, bytes(20)), exchange=32, mid=7),
    "Informational without an SA": message(8, bytes(64), exchange=5, flags=1, mid=7),
}


def alive(engine: IkeEngine) -> tuple[int, int]:
    statistics = engine.statistics()
    return statistics["Active main modes"], statistics["Active quick modes"]


def established(kit: Any, **options: Any) -> Any:
    net = kit.pair(**options)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(2.0)
    assert alive(net.engines[kit.BOB]) == (1, 1)
    return net


def main_mode_of(net: Any, address: str) -> MainMode:
    """What the engine has; what an attacker cannot know is taken from there."""
    (exchange,) = (one for one in everything(net.engines[address]) if isinstance(one, MainMode))
    return exchange


def session_of(net: Any, address: str) -> keys.Session:
    return main_mode_of(net, address).session


def sealed(
    session: keys.Session,
    first: int,
    chain: bytes,
    *,
    mid: int = 0x01020304,
    exchange: int = ExchangeType.INFORMATIONAL,
    proof: bytes | None = None,
) -> bytes:
    """Any bytes as the payloads of a protected message, with the right HASH in front unless `proof` is another."""
    proof = session.message_hash(mid, chain) if proof is None else proof
    clear = payload(first, proof) + chain
    body = session.cipher.seal(session.iv(mid), clear)
    cookies = session.initiator_cookie + session.responder_cookie
    return message(PayloadType.HASH, body, cookies=cookies, exchange=exchange, flags=1, mid=mid)


# Payload lengths and chains: CVE-2005-3671, CVE-2005-3732 (PROTOS), CVE-2009-1574, CVE-2013-6076, CVE-2015-4047,
# CVE-2016-1287, CVE-2020-1763, CVE-2022-21849, CVE-2022-23094, CVE-2022-34721, CVE-2023-30570, CVE-2023-38711,
# CVE-2024-3652


@pytest.mark.parametrize("name", HEADERS)
def test_bad_header(kit: Any, name: str) -> None:
    net = established(kit)
    bob = net.engines[kit.BOB]
    for source in (kit.ALICE, "10.0.0.66"):
        bob.receive_datagram(net.now, HEADERS[name], (source, 500))
    assert (bob.events(), alive(bob)) == ([], (1, 1))
    assert bob.datagrams() == []


@pytest.mark.parametrize("name", CHAINS)
def test_bad_chain_before_authentication(kit: Any, name: str) -> None:
    """As message 1, as message 3, and as a clear notify; nothing comes back that is longer than what came."""
    first, chain = CHAINS[name]
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.015)
    alice, bob = net.engines[kit.ALICE], net.engines[kit.BOB]
    two = wire.parse_header(net.wire[-1][2])
    cookies = two.initiator_cookie + two.responder_cookie
    for data in (message(first, chain), message(first, chain, cookies=cookies)):
        for engine, source in ((bob, kit.ALICE), (alice, kit.BOB)):
            engine.receive_datagram(net.now, data, (source, 500))
            answers = engine.datagrams()
            assert sum(len(datagram.data) for datagram in answers) <= len(data)
    alice.receive_datagram(net.now, message(first, chain, cookies=cookies, exchange=5), (kit.BOB, 500))
    assert alice.datagrams() == []
    assert alive(alice) == alive(bob) == (0, 0)
    net.run(60.0)
    assert net.of(kit.ALICE, QuickModeEstablished)[0].answers == (1,), "the true messages count all the same"


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("exchange", [ExchangeType.INFORMATIONAL, ExchangeType.QUICK_MODE])
def test_bad_chain_from_an_authenticated_peer(kit: Any, name: str, exchange: int) -> None:
    """Encrypted and with the right HASH: no SA is lost and nothing is raised."""
    first, chain = CHAINS[name]
    net = established(kit)
    bob = net.engines[kit.BOB]
    bob.receive_datagram(net.now, sealed(session_of(net, kit.BOB), first, chain, exchange=exchange), (kit.ALICE, 500))
    assert alive(bob) == (1, 1)
    assert len(bob.datagrams()) <= 1
    assert not [event for event in bob.events() if not isinstance(event, NegotiationFailed)]


@pytest.mark.parametrize("name", CHAINS)
def test_bad_chain_in_message_5(kit: Any, name: str) -> None:
    """From somebody who has agreed on keys but proved nothing."""
    first, chain = CHAINS[name]
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.035)
    half = main_mode_of(net, kit.BOB)
    cipher, iv = half._cipher, half._iv
    cookies = half.initiator_cookie + half.responder_cookie
    data = message(first, cipher.seal(iv, chain), cookies=cookies, flags=1)
    bob = net.engines[kit.BOB]
    bob.receive_datagram(net.now, data, (kit.ALICE, 500))
    assert (bob.datagrams(), bob.events(), alive(bob)) == ([], [], (0, 0))
    net.run(5.0)
    assert net.of(kit.ALICE, QuickModeEstablished)[0].answers == (1,)


def test_replies_hold_nothing_of_earlier_traffic(kit: Any) -> None:
    """CVE-2016-6415: an answer out of memory that held something else before."""
    secret = b"a secret of somebody else"
    answers = []
    for before in (b"", payload(0, secret * 20)):
        bob = kit.Net(5).add(kit.BOB)
        if before:
            bob.receive_datagram(0.0, message(13, before), (kit.ALICE, 500))
            assert bob.datagrams() == []
        none = proposal(transform(GOOD[:12] + b"\x80\4\0\x63"), 1)
        bob.receive_datagram(0.0, message(1, payload(0, DOI + none)), (kit.ALICE, 500))
        (answer,) = bob.datagrams()
        answers.append(answer.data)
        assert secret[:8] not in answer.data
    assert [len(answer) for answer in answers] == [40, 40]


# Changes of state without a proof: CVE-2004-0155, CVE-2004-0164, CVE-2014-2338, CVE-2019-10155


def endings(kit: Any, net: Any) -> Iterator[tuple[str, int, bytes]]:
    """What would end something, if it were believed: (name, payload type, chain)."""
    main = net.of(kit.BOB, MainModeEstablished)[0]
    child = net.of(kit.BOB, QuickModeEstablished)[0]
    both = main.initiator_cookie + main.responder_cookie
    for what in (
        wire.Delete(Protocol.ESP, 4, (child.outbound_spi.to_bytes(4),)),
        wire.Delete(Protocol.ISAKMP, 16, (both,)),
        wire.Notification(Protocol.ISAKMP, both, Notify.INITIAL_CONTACT),
    ):
        yield type(what).__name__, int(what.TYPE), wire.encode_payloads((what,))


@pytest.mark.parametrize("proof", ["none", "empty", "cut", "zeros", "of another id", "of other payloads", "of no key"])
def test_nothing_ends_without_its_hash(kit: Any, proof: str) -> None:
    net = established(kit)
    bob, session, mid = net.engines[kit.BOB], session_of(net, kit.BOB), 0x0A0B0C0D
    for name, first, chain in endings(kit, net):
        right = session.message_hash(mid, chain)
        wrong = {
            "empty": b"",
            "cut": right[:-1],
            "zeros": bytes(len(right)),
            "of another id": session.message_hash(mid + 1, chain),
            "of other payloads": session.message_hash(mid, chain[:-1]),
            "of no key": keys.message_hash(session.hash, b"", mid, chain),
        }
        if proof == "none":
            body = session.cipher.seal(session.iv(mid), chain)
            cookies = session.initiator_cookie + session.responder_cookie
            data = message(first, body, cookies=cookies, exchange=5, flags=1, mid=mid)
        else:
            data = sealed(session, first, chain, mid=mid, proof=wrong[proof])
        bob.receive_datagram(net.now, data, (kit.ALICE, 500))
        assert (bob.events(), bob.datagrams(), alive(bob)) == ([], [], (1, 1)), name


def test_with_its_hash_it_does(kit: Any) -> None:
    """The other side of the test above: the same messages count when they are the peer's."""
    for number_of, kind in ((0, ChildDeleted), (1, MainModeDeleted)):
        net = established(kit)
        bob = net.engines[kit.BOB]
        _, first, chain = list(endings(kit, net))[number_of]
        bob.receive_datagram(net.now, sealed(session_of(net, kit.BOB), first, chain), (kit.ALICE, 500))
        assert [type(event) for event in bob.events()] == [kind]


def test_an_answer_to_another_exchange_proves_nothing(kit: Any) -> None:
    """HASH(1) of a Quick Mode does for no Informational message, and not under another message id."""
    net = established(kit)
    bob, session = net.engines[kit.BOB], session_of(net, kit.BOB)
    quick = next(data for _, who, data in net.wire if who == kit.ALICE and data[18] == ExchangeType.QUICK_MODE)
    for exchange, mid in ((5, quick[20:24]), (5, b"\1\2\3\4"), (32, b"\1\2\3\4")):
        data = quick[:18] + bytes([exchange]) + quick[19:20] + mid + quick[24:]
        bob.receive_datagram(net.now, data, (kit.ALICE, 500))
    assert (bob.events(), bob.datagrams(), alive(bob)) == ([], [], (1, 1))
    assert session.initiator_cookie == quick[:8]


@pytest.mark.parametrize("exchange", [ExchangeType.QUICK_MODE, ExchangeType.INFORMATIONAL])
def test_phase_2_waits_for_the_end_of_phase_1(kit: Any, exchange: int) -> None:
    """Keys are there after message 4, but nobody is authenticated before message 5 (CVE-2014-2338 in spirit)."""
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.035)
    bob = net.engines[kit.BOB]
    half = main_mode_of(net, kit.BOB)
    session = keys.Session(
        half.offer.hash,
        half._skeyids.derive,
        half._skeyids.authenticate,
        half._cipher,
        half._iv,
        half.initiator_cookie,
        half.responder_cookie,
    )
    for body in (
        wire.Delete(Protocol.ISAKMP, 16, (half.initiator_cookie + half.responder_cookie,)),
        wire.Notification(Protocol.ISAKMP, b"", Notify.INITIAL_CONTACT),
        wire.Notification(Protocol.ISAKMP, b"", Notify.CONNECTED),
    ):
        data = sealed(session, int(body.TYPE), wire.encode_payloads((body,)), exchange=exchange)
        bob.receive_datagram(net.now, data, (kit.ALICE, 500))
        assert (bob.events(), bob.datagrams(), alive(bob)) == ([], [], (0, 0))
    net.run(5.0)
    assert net.of(kit.ALICE, QuickModeEstablished)


def test_a_second_message_5_changes_nobody(kit: Any) -> None:
    """Once established, no message of Main Mode moves the SA: not to another identity, nor its IV."""
    net = established(kit)
    bob = net.engines[kit.BOB]
    fifth = next(data for _, who, data in net.wire if who == kit.ALICE and data[18] == 2 and data[19] & 1)
    random = Random(1)
    for _ in range(50):
        at = random.randrange(28, len(fifth))
        changed = fifth[:at] + bytes([fifth[at] ^ 1 << random.randrange(8)]) + fifth[at + 1 :]
        bob.receive_datagram(net.now, changed, (kit.ALICE, 500))
    assert (bob.events(), bob.datagrams(), alive(bob)) == ([], [], (1, 1))
    net.engines[kit.ALICE].acquire(net.now, kit.wish(traffic=kit.selectors(protocol=6), reference=2))
    net.run(net.now + 1.0)
    assert [event.answers for event in net.of(kit.ALICE, QuickModeEstablished)] == [(1,), (2,)]


# Oracles: CVE-2017-17305, CVE-2018-0131, CVE-2018-8753, CVE-2018-9129 (Felsch and others, 2018)


@pytest.mark.parametrize("method", [2, 4, 5, 6, 7, 8, 64221, 65001, 0])
def test_no_encrypted_nonces_and_no_other_method(kit: Any, method: int) -> None:
    bob = kit.Net().add(kit.BOB)
    other = transform(GOOD[:8] + b"\x80\3" + number(method) + GOOD[12:])
    bob.receive_datagram(0.0, message(1, payload(0, DOI + proposal(other, 1))), (kit.ALICE, 500))
    (answer,) = bob.datagrams()
    (notify,) = wire.parse_clear(wire.parse_header(answer.data), answer.data)
    assert isinstance(notify, wire.Notification)
    assert notify.notify == Notify.NO_PROPOSAL_CHOSEN
    assert method not in {int(known) for known in AuthMethod} or method == AuthMethod.KERBEROS


def test_nothing_is_ever_decrypted_with_a_private_key() -> None:
    for path in [*PACKAGE.glob("ike/*.py"), *PACKAGE.glob("computer/*.py")]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        assert "decrypt" not in {call.attr for call in calls}, path.name


def test_all_wrong_messages_5_are_met_with_the_same_silence(kit: Any) -> None:
    """Wrong padding, no chain, no HASH, a wrong HASH, half a block: nothing tells one from the other."""
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.035)
    bob, half = net.engines[kit.BOB], main_mode_of(net, kit.BOB)
    cipher, iv = half._cipher, half._iv
    cookies = half.initiator_cookie + half.responder_cookie
    identity = payload(8, b"\1\0\0\0\x0a\0\0\1")
    bodies = [
        cipher.seal(iv, identity + payload(0, bytes(20))),
        cipher.seal(iv, identity + payload(0, bytes(20)) + b"\xff" * 8),
        cipher.seal(iv, identity),
        cipher.seal(iv, b"\xff" * 64),
        bytes(64),
        bytes(13),
        b"",
    ]
    for body in bodies:
        bob.receive_datagram(net.now, message(5, body, cookies=cookies, flags=1), (kit.ALICE, 500))
        assert (bob.datagrams(), bob.events()) == ([], [])


# Weak preshared keys: CVE-2002-1623 (Aggressive Mode), CVE-2018-5389 (Main Mode)


def test_no_aggressive_mode(kit: Any, captures: Path) -> None:
    """Its message 2 would give HASH_R, from which a preshared key can be guessed at home. ike-scan's probe is one."""
    probe = (captures / "ike-scan" / "pkt-aggressive.dat").read_bytes()
    assert probe[18] == ExchangeType.AGGRESSIVE
    bob = kit.Net().add(kit.BOB)
    bob.receive_datagram(0.0, probe, (kit.ALICE, 500))
    assert (bob.datagrams(), bob.events(), bob.next_timer()) == ([], [], None)


def test_a_responder_shows_nothing_that_depends_on_the_key(kit: Any) -> None:
    """Message 6 is the first that does, and it goes to a peer that has shown that it knows the key."""
    shown = []
    for key in (b"one key", b"another key"):
        net = kit.pair(bob=kit.Rules(main=MainModePolicy((kit.MAIN_OFFER,), key)))
        net.engines[kit.ALICE].acquire(0.0, kit.wish())
        net.run(70.0)
        assert alive(net.engines[kit.BOB]) == (0, 0)
        shown.append({data for _, who, data in net.wire if who == kit.BOB})
    assert shown[0] == shown[1]
    assert len(shown[0]) >= 2


@pytest.mark.parametrize(
    ("key", "warned"), [("secret", True), ("k" * 19, True), ("k" * 20, False), ("\u00fc" * 10, True)]
)
def test_short_keys_are_warned_of(key: str, warned: bool) -> None:
    method = AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, key)
    action = FilterAction("", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("ESP[3DES,SHA1]"),))
    rule = Rule("mine", FilterList("", "", ()), action, (method,))
    lines = [line for line in Policy("p", rules=(rule,)).warnings() if "preshared" in line]
    assert bool(lines) is warned
    assert all("rule 'mine'" in line and key not in line for line in lines)


# Exhaustion and complexity: CVE-2004-0403, CVE-2008-3651, CVE-2008-3652, CVE-2016-5361, CVE-2016-10396


def calls_of(work: Callable[[], object]) -> int:
    """How many functions `work` calls, those of the C library included."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def big(kind: str, size: int) -> bytes:
    """A first message with `size` of something; none of it can be chosen."""
    useless = transform(GOOD[:12] + b"\x80\4\0\x63", following=3)
    last = transform(GOOD[:12] + b"\x80\4\0\x63")
    if kind == "transforms":
        return message(1, payload(0, DOI + proposal(useless * (size - 1) + last, size)))
    if kind == "attributes":
        return message(1, payload(0, DOI + proposal(transform(b"\x80\1\0\5" * size), 1)))
    if kind == "bytes of an attribute":
        return message(1, payload(0, DOI + proposal(transform(b"\0\1" + number(size) + bytes(size)), 1)))
    if kind == "proposals":
        one = bytes((1, 0, 1)) + last
        many = b"".join(payload(2 * (n < size - 1), bytes([n]) + one) for n in range(size))
        return message(1, payload(0, DOI + many))
    several = payload(13, DOI + proposal(last, 1)) + payload(13, b"v" * 20) * (size - 2) + payload(0, b"v")
    return message(1, several)


@pytest.mark.parametrize(
    ("kind", "size"),
    [("transforms", 64), ("attributes", 16), ("bytes of an attribute", 8000), ("proposals", 32), ("payloads", 32)],
)
def test_work_grows_with_the_message_and_no_faster(kit: Any, kind: str, size: int) -> None:
    """Twice the message, at most twice the calls (and a tenth)."""
    counts = []
    for count in (size // 2, size, 2 * size):
        data = big(kind, count)
        bob = kit.Net().add(kit.BOB)
        calls = calls_of(lambda bob=bob, data=data: bob.receive_datagram(0.0, data, (kit.ALICE, 500)))
        counts.append(calls)
        assert bob.events(), "the message was looked at"
    assert counts[2] <= 2.2 * counts[1]
    assert counts[1] <= 2.2 * counts[0]


def test_work_does_not_depend_on_how_many_others_there_are(kit: Any) -> None:
    """A first message costs the same with an empty table and with a full one, in which the oldest gives way."""
    bob = kit.Net().add(kit.BOB)
    template = kit.Net(1).add(kit.ALICE)
    template.acquire(0.0, kit.wish())
    (opening,) = template.datagrams()

    def knock(number_of: int) -> int:
        data = number(number_of, 8) + opening.data[8:]
        source = (f"10.{1 + number_of // 60000}.{number_of // 250 % 250}.{number_of % 250}", 500)
        calls = calls_of(lambda: bob.receive_datagram(0.0, data, source))
        bob.datagrams()
        return calls

    first = knock(1)
    for number_of in range(2, 5000):
        data = number(number_of, 8) + opening.data[8:]
        bob.receive_datagram(
            0.0, data, (f"10.{1 + number_of // 60000}.{number_of // 250 % 250}.{number_of % 250}", 500)
        )
    bob.datagrams()
    assert knock(5000) <= 2 * first


@pytest.mark.parametrize("name", ["bad proposals", "bad chains", "unknown cookies", "wrong key"])
def test_what_fails_leaves_nothing_behind(kit: Any, name: str) -> None:
    """CVE-2008-3651 (invalid proposals), CVE-2008-3652 (orphaned negotiations): memory for each that failed."""
    net = established(kit)
    bob = net.engines[kit.BOB]
    session = session_of(net, kit.BOB)

    def attack(number_of: int) -> bytes:
        cookies = number(number_of, 8) + bytes(8)
        if name == "bad proposals":
            return message(1, big("transforms", 2)[28:], cookies=cookies)
        if name == "bad chains":
            return message(13, payload(13, b"vendor"), cookies=cookies)
        if name == "unknown cookies":
            return message(8, bytes(40), cookies=number(number_of, 16), exchange=5, flags=1, mid=number_of)
        return sealed(session, 12, payload(0, bytes(12)), mid=number_of, proof=bytes(20))

    sizes = []
    for number_of in range(1, 601):
        bob.receive_datagram(net.now, attack(number_of), (kit.ALICE, 500))
        bob.datagrams(), bob.events()
        if number_of % 200 == 0:
            sizes.append(kept(bob))
    assert sizes[0] == sizes[1] == sizes[2]
    assert alive(bob) == (1, 1)


def test_forged_first_messages_do_not_make_an_amplifier(kit: Any) -> None:
    """CVE-2016-5361: all that is sent in all time, copies on schedule included, for first messages from everywhere."""
    bob = kit.Net().add(kit.BOB)
    template = kit.Net(1).add(kit.ALICE)
    template.acquire(0.0, kit.wish())
    (opening,) = template.datagrams()
    received = sent = 0
    for number_of in range(1, 6000):
        data = number(number_of, 8) + opening.data[8:]
        received += len(data)
        now = number_of / 1000
        while (due := bob.next_timer()) is not None and due <= now:
            bob.handle_timer(due)
        bob.receive_datagram(now, data, (f"10.1.{number_of // 250}.{number_of % 250}", 500))
        sent += sum(len(datagram.data) for datagram in bob.datagrams())
    while (due := bob.next_timer()) is not None:
        bob.handle_timer(due)
        sent += sum(len(datagram.data) for datagram in bob.datagrams())
    assert sent <= 2 * received


# Replays


def test_recorded_messages_open_nothing_again(kit: Any) -> None:
    """All of a conversation, once more and in both orders, while its SA lives: no exchange, no SPI, no event."""
    net = established(kit)
    bob = net.engines[kit.BOB]
    size = kept(bob)
    recorded = [data for _, who, data in net.wire if who == kit.ALICE]
    for data in recorded + recorded[::-1]:
        bob.receive_datagram(net.now, data, (kit.ALICE, 500))
    assert (bob.events(), alive(bob)) == ([], (1, 1))
    bob.datagrams()
    # An opening that comes late is one like any other, and runs out like one.
    while (due := bob.next_timer()) is not None and due < 100.0:
        bob.handle_timer(due)
    bob.datagrams(), bob.events()
    assert alive(bob) == (1, 1)
    assert kept(bob) <= size + len(bob.statistics())  # counters that begin to count


def test_message_ids_are_remembered_to_the_bound(kit: Any) -> None:
    """A notify that was taken once is not taken again, MAX_MESSAGE_IDS messages later neither."""
    net = established(kit)
    bob, session = net.engines[kit.BOB], session_of(net, kit.BOB)
    status = wire.Notification(Protocol.ISAKMP, b"", 30000)
    recorded = protected.seal_informational(session, 0xFFFF, (status,))
    for mid in [0xFFFF, *range(1, MAX_MESSAGE_IDS - 10)]:
        data = recorded if mid == 0xFFFF else protected.seal_informational(session, mid, (status,))
        bob.receive_datagram(net.now, data, (kit.ALICE, 500))
    before = bob.statistics()["Discarded messages"]
    assert before == 0
    bob.receive_datagram(net.now, recorded, (kit.ALICE, 500))
    assert bob.statistics()["Discarded messages"] == 1
    assert bob.datagrams() == []


# Encryption without integrity: CVE-2005-0039 and Paterson and Yau, 2006


@pytest.mark.parametrize("transform_id", [t for t in EspTransform if not t.combined])
def test_no_esp_without_integrity(transform_id: EspTransform) -> None:
    bits = 128 if transform_id.variable else 0
    with pytest.raises(NegotiationError, match="integrity"):
        QuickModeOffer(transform_id, None, Encapsulation.TRANSPORT, key_bits=bits)
    QuickModeOffer(transform_id, AuthAlgorithm.HMAC_SHA1, Encapsulation.TRANSPORT, key_bits=bits)


def test_every_flag_bit_that_matters_is_checked() -> None:
    for bit in (8, 16, 32, 64, 128):
        with pytest.raises(MalformedMessage):
            wire.parse_header(message(0, b"", flags=bit | Flags.ENCRYPTION))
