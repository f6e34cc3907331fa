"""Two engines, and an input that decides what happens on the wire between them: one is under test, the other is its
peer and honest; somebody in between drops, repeats, delays, damages, forges, and knows the keys if he wants to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from random import Random
from typing import Any

from ike_proofs import Papers, Tickets
from ike_tape import HASH, Chain, Tape, Wiretap, damage, edit, split

from ipsec_core.ike import (
    Acquire,
    AuthAlgorithm,
    AuthMethod,
    ChildDeleted,
    Datagram,
    Encapsulation,
    Encryption,
    EspTransform,
    Event,
    Group,
    Hash,
    IkeEngine,
    IkeOptions,
    MainModeDeleted,
    MainModeEstablished,
    MainModeOffer,
    MainModePolicy,
    NatTraversal,
    NegotiationFailed,
    QuickModeEstablished,
    QuickModeOffer,
    QuickModePolicy,
    SoftAssociation,
    TrafficSelector,
)
from ipsec_core.ike.iana import ExchangeType, Flags, PayloadType

TESTED, PEER, STRANGER = "10.0.0.1", "10.0.0.2", "10.0.0.66"
# Group 1 is the cheapest.
MAIN_OFFER = MainModeOffer(Encryption.TRIPLE_DES_CBC, Hash.SHA1, Group.MODP_768)
QUICK_OFFERS = (
    QuickModeOffer(EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_SHA1, Encapsulation.TRANSPORT),
    QuickModeOffer(EspTransform.DES, AuthAlgorithm.HMAC_MD5, Encapsulation.TRANSPORT),
)
WITH_PFS = (
    QuickModeOffer(EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_SHA1, Encapsulation.TRANSPORT, pfs_group=Group.MODP_768),
)
MARKER = bytes(4)
LIMIT = 6000
"""Things that an engine may keep after one input; a whole input has far fewer messages."""

ANSWERING = (QuickModeEstablished, NegotiationFailed, SoftAssociation)
BELIEVING = (MainModeEstablished, QuickModeEstablished, ChildDeleted, MainModeDeleted)


class Broken(AssertionError):
    """An invariant does not hold."""


class Rules:
    """`auth` is the way of this input; certificates and tickets are those of ike_proofs.py."""

    def __init__(self, local: str, auth: AuthMethod, tokens: int) -> None:
        offer = replace(MAIN_OFFER, auth=auth)
        papers, tickets = Papers(local), Tickets(local, tokens)
        self._main = MainModePolicy((offer,), b"a preshared key", certificates=papers, kerberos=tickets)

    def main_mode(self, local: str, remote: str) -> MainModePolicy | None:
        return None if remote == STRANGER else self._main

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy | None:
        return None if selectors.protocol == 47 else QuickModePolicy(QUICK_OFFERS + WITH_PFS, 7)


def everything(engine: IkeEngine) -> Iterator[Any]:
    """All that an engine holds, its tables and what is in them."""
    seen: set[int] = set()
    todo: list[Any] = [engine]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            todo += one
        elif type(one).__module__.startswith("ipsec_core.ike"):
            todo += getattr(one, "__dict__", {}).values()
            for kind in type(one).__mro__:
                names = getattr(kind, "__slots__", ())
                todo += [getattr(one, name) for name in names if hasattr(one, name)]


def kept(engine: IkeEngine) -> int:
    """How many entries all tables of an engine have together."""
    return sum(len(one) for one in everything(engine) if isinstance(one, dict | list | tuple | set | frozenset))


class Scene:
    """`initiator`: the engine under test asks first."""

    def __init__(self, data: bytes, *, initiator: bool) -> None:
        self.tape = Tape(data)
        self.now = 0.0
        choice = self.tape.number(256)
        self.options = IkeOptions(
            nat_traversal=(NatTraversal.RFC_3947, NatTraversal.DRAFT_02)[: choice & 3],
            fragmentation=bool(choice & 4),
            commit_bit=bool(choice & 8),
            dos_protect=bool(choice & 16),
            pretend_nat=bool(choice & 32),
        )
        ways = (AuthMethod.PRESHARED_KEY, AuthMethod.RSA_SIGNATURES, AuthMethod.KERBEROS, AuthMethod.PRESHARED_KEY)
        self.auth = ways[choice >> 6]
        self.tested, self.peer = self.engine(TESTED), self.engine(PEER)
        self.wiretap = Wiretap(MAIN_OFFER, self.auth)
        self.waiting: list[Datagram] = []
        self.history: list[Datagram] = []
        self.taken: set[bytes] = set()
        self.asked: list[int] = []
        self.answered: list[int] = []
        self.established = False
        self.acquire(self.tested if initiator else self.peer, 0)
        while self.tape:
            STEPS[self.tape.number(len(STEPS))](self)
            self.check()
        self.finish()

    def engine(self, address: str) -> IkeEngine:
        source = Random(address)
        return IkeEngine(
            address,
            Rules(address, self.auth, 3 if self.options.commit_bit else 2),
            random=source.randbytes,
            allocate_spi=lambda: source.randrange(256, 1 << 32),
            options=self.options,
        )

    # The engines

    def run_tested(self, call: Callable[[], None]) -> tuple[list[Datagram], list[Event]]:
        with self.wiretap.listening():
            call()
        sent, events = self.tested.datagrams(), self.tested.events()
        for event in events:
            if isinstance(event, ANSWERING):
                self.answered += event.answers
            self.established |= isinstance(event, MainModeEstablished)
        return sent, events

    def exchange(self, sent: Iterable[Datagram]) -> None:
        """What the engine under test has sent goes to its peer, who answers at its own time."""
        for datagram in sent:
            self.wiretap.watch(message(datagram), ours=True)
            if datagram.destination[0] == PEER:
                source = (TESTED, datagram.source_port)
                self.peer.receive_datagram(self.now, datagram.data, source, datagram.destination[1])
        self.collect()

    def collect(self) -> None:
        self.peer.events()
        new = self.peer.datagrams()
        self.waiting += new
        self.history += new

    def deliver(self, datagram: Datagram, source: str = PEER, *, genuine: bool = False) -> None:
        before = self.tested.statistics()

        def receive() -> None:
            port = datagram.destination[1]
            self.tested.receive_datagram(self.now, datagram.data, (source, datagram.source_port), port)

        sent, events = self.run_tested(receive)
        after = self.tested.statistics()
        discarded = ("Discarded messages", "Unverified messages", "Duplicate messages")
        if all(before[name] == after[name] for name in discarded):
            if not is_envelope(datagram):
                self.taken.add(datagram.data)
            if source == PEER:
                self.wiretap.watch(message(datagram), ours=False)
        if not genuine:
            if any(isinstance(event, BELIEVING) for event in events):
                raise Broken(f"believed without a proof: {events}")
            alive = ("Active main modes", "Active quick modes")
            if any(after[name] != before[name] for name in alive):
                raise Broken("SAs changed without a proof")
        if not self.established:
            self.check_size(datagram.data, sent, source)
        self.exchange(sent)

    def check_size(self, data: bytes, sent: list[Datagram], source: str) -> None:
        """No amplifier: towards somebody who is not authenticated one datagram for one; to a first message no more."""
        answers = [datagram for datagram in sent if datagram.destination[0] == source]
        if source == STRANGER or data.removeprefix(MARKER)[8:16] == bytes(8):
            if sum(len(datagram.data) for datagram in answers) > len(data):
                raise Broken(f"{len(data)} bytes are answered by {[len(datagram.data) for datagram in answers]}")
        elif len(answers) > 4 and not self.options.fragmentation:
            raise Broken(f"{len(answers)} datagrams for one")

    def acquire(self, engine: IkeEngine, what: int) -> None:
        here, there = (TESTED, PEER) if engine is self.tested else (PEER, TESTED)
        protocol, port = (0, 0) if not what & 7 else (6, 1000 + (what & 7))
        traffic = TrafficSelector(IPv4Network(here), IPv4Network(there), protocol, port)
        request = Acquire(
            there, traffic, WITH_PFS if what & 8 else QUICK_OFFERS, len(self.asked), allow_soft=bool(what & 16)
        )
        if engine is self.tested:
            self.asked.append(request.reference)
            self.exchange(self.run_tested(lambda: engine.acquire(self.now, request))[0])
        else:
            engine.acquire(self.now, request)
            self.collect()

    # Steps

    def next_datagram(self) -> Datagram | None:
        return self.waiting.pop(0) if self.waiting else None

    def pass_on(self) -> None:
        if datagram := self.next_datagram():
            self.deliver(datagram, genuine=True)

    def pass_on_twice(self) -> None:
        if datagram := self.next_datagram():
            for _ in range(2):
                self.deliver(datagram, genuine=True)

    def lose(self) -> None:
        self.next_datagram()

    def reorder(self) -> None:
        if datagram := self.next_datagram():
            self.waiting.append(datagram)

    def some_datagram(self) -> Datagram | None:
        """One under way (it stays), or one of before."""
        which = self.waiting if self.tape.number(2) else self.history
        return which[self.tape.number(len(which))] if which else None

    def damaged(self, datagram: Datagram) -> Datagram:
        return rewritten(datagram, damage(message(datagram), self.tape))

    def pass_on_damaged(self) -> None:
        if datagram := self.some_datagram():
            data = self.damaged(datagram).data
            # RFC 2409 has no HASH over the padding: `damage` leaves it alone, but more of it may come behind.
            longer = data[32:].startswith(datagram.data[32:])
            known = data in {one.data for one in self.history}
            proved = self.wiretap.same_proof(message(datagram), message(replaced(datagram, data)))
            self.deliver(replaced(datagram, data), genuine=longer or is_envelope(datagram) or known or proved)

    def pass_on_changed(self) -> None:
        """As if the peer itself had written something else."""
        if datagram := self.next_datagram():
            honest = self.tape.number(4) > 0
            data = self.wiretap.change(message(datagram), self.tape, honest=honest)
            same = data == message(datagram) or self.wiretap.same_chain(message(datagram), data)
            self.deliver(rewritten(datagram, data), genuine=honest or same or unhashed(data))

    def replay(self) -> None:
        if self.history:
            datagram = self.history[self.tape.number(len(self.history))]
            self.deliver(datagram, genuine=True)

    def from_stranger(self) -> None:
        if datagram := self.some_datagram():
            data = self.damaged(datagram).data if self.tape.number(2) else datagram.data
            # Behind a NAT the peer may turn up anywhere with a message that is new (RFC 3947 section 4); no HASH covers
            # its header.
            same = body(replaced(datagram, data)).startswith(body(datagram)[:-8])
            same |= self.wiretap.same_proof(message(datagram), message(replaced(datagram, data)))
            moved = bool(self.options.nat_traversal) and data not in self.taken and same
            self.deliver(replaced(datagram, data), STRANGER, genuine=moved)

    def noise(self) -> None:
        port = (500, 4500)[self.tape.number(2)]
        data = self.tape.take(self.tape.number(300))
        self.deliver(Datagram(data, (TESTED, port), port), (PEER, STRANGER)[self.tape.number(2)])

    def invent(self) -> None:
        """A message of the peer's own making under a Main Mode SA: Quick Mode, Informational or another exchange."""
        known = list(self.wiretap.last_block)
        if not known:
            return
        cookies = known[self.tape.number(len(known))]
        exchange = (ExchangeType.INFORMATIONAL, ExchangeType.QUICK_MODE, self.tape.number(256))[self.tape.number(3)]
        message_id = self.tape.number(4) or int.from_bytes(self.tape.take(4))
        chain: Chain = [(HASH, b"")]
        for _ in range(self.tape.number(4)):
            chain.append((KINDS[self.tape.number(len(KINDS))], self.body(cookies)))
        data = self.wiretap.make(cookies, exchange, message_id, chain)
        self.deliver(Datagram(data, (TESTED, 500)), genuine=True)

    def body(self, cookies: bytes) -> bytes:
        """Of a Delete or Notification more likely than of anything else."""
        doi, protocol = b"\0\0\0\1", bytes([1 + self.tape.number(3)])
        spi = (cookies, self.tape.take(4), b"")[self.tape.number(3)]
        kind = self.tape.number(3)
        if kind == 0:
            return doi + protocol + bytes([len(spi), 0, 1]) + spi
        if kind == 1:
            notify = (16384, 24576, 24578, 14, 40003, self.tape.number(1 << 16))[self.tape.number(6)]
            return doi + protocol + bytes([len(spi)]) + notify.to_bytes(2) + spi + self.tape.take(self.tape.number(12))
        return self.tape.take(self.tape.number(80))

    def first_message(self) -> None:
        """A first message changed by anybody."""
        if self.history and (opening := self.history[0]).data[8:16] == bytes(8):
            data = opening.data
            data = self.tape.take(8) + data[8:16] + data[16:]
            chain = split(data[16], data[28:])
            if self.tape.number(2):
                chain = edit(chain, self.tape)
            data = self.wiretap.clear(data[:16], data[18], chain)
            self.deliver(replaced(opening, data), (PEER, STRANGER)[self.tape.number(2)])

    def wait(self) -> None:
        """To the next deadline of either, or for a while."""
        timers = [time for one in (self.tested, self.peer) if (time := one.next_timer()) is not None]
        due = min(timers, default=self.now)
        self.now = max(self.now, due) if self.tape.number(2) else self.now + self.tape.number(64)
        self.tick()

    def tick(self) -> None:
        self.exchange(self.run_tested(lambda: self.tested.handle_timer(self.now))[0])
        self.peer.handle_timer(self.now)
        self.collect()

    def ask(self) -> None:
        what = self.tape.number(256)
        if len(self.asked) < 64:
            self.acquire(self.tested if what & 128 else self.peer, what)

    def end(self) -> None:
        engine = (self.tested, self.peer)[self.tape.number(2)]
        if engine is self.peer:
            engine.close(self.now)
            self.collect()
        else:
            self.exchange(self.run_tested(lambda: engine.close(self.now))[0])

    # What must hold

    def check(self) -> None:
        extra = set(self.answered) - set(self.asked)
        if extra or len(set(self.answered)) != len(self.answered):
            raise Broken(f"answers {self.answered} to acquires {self.asked}")
        if (timer := self.tested.next_timer()) is not None and timer != timer:
            raise Broken("a deadline that is no time")

    def finish(self) -> None:
        """Every acquire has its answer in time; the tables are small, and a new peer is served as if nothing was."""
        if (size := kept(self.tested)) > LIMIT:
            raise Broken(f"{size} things kept")
        end = self.now + 1000.0
        while (due := self.tested.next_timer()) is not None and due < end:
            self.now = max(self.now, due)
            self.exchange(self.run_tested(lambda: self.tested.handle_timer(self.now))[0])
        self.check()
        if len(self.answered) != len(self.asked):
            raise Broken(f"acquires {sorted(set(self.asked) - set(self.answered))} have no answer")
        self.now = max(self.now, end)
        self.exchange(self.run_tested(lambda: self.tested.close(self.now))[0])
        alive = self.tested.statistics()
        if alive["Active main modes"] or alive["Active quick modes"]:
            raise Broken("SAs after the end")
        self.peer = self.engine(PEER)
        self.waiting.clear()
        self.acquire(self.peer, 0)
        for _ in range(40):
            if not self.waiting:
                break
            self.deliver(self.waiting.pop(0), genuine=True)
        if not self.tested.statistics()["Active quick modes"]:
            raise Broken("does not serve a new peer any more")


KINDS = (11, 12, 1, 5, 10, 4, 8, 13, 21, 131, 132, 255)
STEPS: tuple[Callable[[Scene], None], ...] = (
    Scene.pass_on,
    Scene.pass_on,
    Scene.pass_on,
    Scene.pass_on_twice,
    Scene.lose,
    Scene.reorder,
    Scene.pass_on_damaged,
    Scene.pass_on_changed,
    Scene.pass_on_changed,
    Scene.replay,
    Scene.from_stranger,
    Scene.noise,
    Scene.invent,
    Scene.first_message,
    Scene.wait,
    Scene.ask,
    Scene.end,
)


def message(datagram: Datagram) -> bytes:
    """Without the non-ESP marker of port 4500."""
    return datagram.data.removeprefix(MARKER) if datagram.destination[1] == 4500 else datagram.data


def is_envelope(datagram: Datagram) -> bool:
    """Whether it is a fragment: what that holds a part of is taken and proved, or not, when it is whole."""
    return message(datagram)[16:17] == bytes([PayloadType.FRAGMENT])


def body(datagram: Datagram) -> bytes:
    """The payloads of its message."""
    return message(datagram)[28:]


def replaced(datagram: Datagram, data: bytes) -> Datagram:
    return Datagram(data, datagram.destination, datagram.source_port)


def rewritten(datagram: Datagram, data: bytes) -> Datagram:
    return replaced(datagram, MARKER + data if datagram.destination[1] == 4500 else data)


def unhashed(data: bytes) -> bool:
    """Whether a message may have payloads that no HASH covers: in Main Mode all but the ID, in the third message of
    Quick Mode all (RFC 2409 sections 5 and 5.5)."""
    return (
        len(data) >= 28
        and bool(data[19] & Flags.ENCRYPTION)
        and data[18] in (ExchangeType.MAIN_MODE, ExchangeType.QUICK_MODE)
    )
