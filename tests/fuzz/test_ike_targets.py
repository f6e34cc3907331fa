"""The fuzz targets of IKE without a fuzzer: on their seeds, on noise, and whether they notice what they are for."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import ike_reader
import ike_scene
import ike_tape
import pytest
import seeds
from ike_scene import Broken, Scene, Tape

from ipsec_core.ike import ChildDeleted, Datagram, IkeEngine, protected, wire
from ipsec_core.ike.failures import FailurePoint, MalformedMessage

ROLES = pytest.mark.parametrize("initiator", [False, True], ids=["responder", "initiator"])
WHOLE = bytes(14)
"""An input in which every message goes over the wire as it is."""


@ROLES
def test_conversations_of_the_seeds(initiator: bool) -> None:
    for number, data in enumerate(seeds.conversations(Random(1))):
        if number % 3 == 0:
            Scene(data, initiator=initiator)


@ROLES
def test_conversations_of_noise(initiator: bool) -> None:
    random = Random(2)
    for _ in range(40):
        Scene(random.randbytes(random.randrange(100)), initiator=initiator)


def test_no_notify_for_an_address_that_proved_nothing() -> None:
    """Found: a damaged last message of Main Mode from elsewhere, behind a NAT, was answered there by a longer one."""
    Scene(bytes.fromhex("a100000d81ecad59b35da962"), initiator=True)


def test_an_acquire_outlives_the_main_mode_that_it_waited_for() -> None:
    """Found: the peer deleted its new Main Mode while we held back for it, and the acquire was never answered."""
    Scene(bytes.fromhex("1800000000000005538a6501000000d0"), initiator=False)


@ROLES
def test_a_whole_conversation_is_one(initiator: bool) -> None:
    scene = Scene(WHOLE, initiator=initiator)
    assert scene.tested.statistics()["Oakley quick modes"] == 2  # its own, and the one of the new peer in the end
    assert scene.answered == ([0] if initiator else [])


def test_reader(captures: Any) -> None:
    for path in sorted((captures / "tcpdump").glob("*isakmp*.pcap")):
        for data in seeds.reads(seeds.ike_messages(list(seeds.packets_of(path.read_bytes())))):
            ike_reader.read(data)
    for message in [datagram.data for datagram in Scene(WHOLE, initiator=False).history]:
        for data in seeds.reads([message]):
            ike_reader.read(data)


# The man in the middle


@ROLES
def test_who_knows_the_keys_can_write_what_the_engine_believes(initiator: bool) -> None:
    """Every message of the peer is taken apart, hashed and encrypted anew; nothing is noticed."""

    class Rewriting(Scene):
        def pass_on(self) -> None:
            if datagram := self.next_datagram():
                data = ike_scene.message(datagram)
                again = self.wiretap.change(data, Still())
                assert len(again) == len(data)
                self.deliver(ike_scene.rewritten(datagram, again), genuine=True)

    steps = tuple(Rewriting.pass_on if step is Scene.pass_on else step for step in ike_scene.STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ike_scene, "STEPS", steps)
        scene = Rewriting(WHOLE, initiator=initiator)
    assert scene.tested.statistics()["Oakley quick modes"] == 2
    assert scene.tested.statistics()["Unverified messages"] == 0


class Still(Tape):
    """Changes a body by no bytes: appends none, or an empty tape's."""

    def __init__(self) -> None:
        super().__init__(b"\0\5\0\0")

    def number(self, below: int) -> int:
        return 5 if below == 8 else 0


# What the targets are for: each of these faults is noticed


def broken_by(patch: pytest.MonkeyPatch, target: Any, name: str, value: Any, data: bytes, *, initiator: bool) -> str:
    patch.setattr(target, name, value)
    with pytest.raises((Broken, AttributeError, KeyError)) as caught:
        Scene(data, initiator=initiator)
    return str(caught.value)


def test_an_exception_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def receive(self: IkeEngine, now: float, data: bytes, source: tuple[str, int], port: int = 500) -> None:
        if len(data) == 7:
            raise KeyError("seven bytes")
        original(self, now, data, source, port)

    original = IkeEngine.receive_datagram
    noise = bytes([0, ike_scene.STEPS.index(Scene.noise), 0, 0, 7]) + b"1234567" + b"\1"
    assert "seven" in broken_by(monkeypatch, IkeEngine, "receive_datagram", receive, noise, initiator=False)


def test_a_delete_without_a_proof_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that takes any encrypted message for its peer's."""

    def believe(self: protected.Opened, expected: bytes) -> None:
        return None

    end, change = (ike_scene.STEPS.index(step) for step in (Scene.end, Scene.pass_on_changed))
    # The peer closes; in its first DELETE one byte of the HASH is another one.
    data = bytes(10) + bytes([end, 1, change, 0, 0, 6, 0, 0, 0, 0xAA])
    Scene(data, initiator=False)
    monkeypatch.setattr(protected.Opened, "verify", believe)
    with pytest.raises(Broken, match="without a proof"):
        Scene(data, initiator=False)


def test_amplification_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = IkeEngine.datagrams

    def longer(self: IkeEngine) -> list[Datagram]:
        more = bytes(400) if self.local == ike_scene.TESTED else b""
        return [replace(datagram, data=datagram.data + more) for datagram in original(self)]

    assert "answered" in broken_by(monkeypatch, IkeEngine, "datagrams", longer, WHOLE, initiator=False)


def test_a_second_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = IkeEngine.events

    def twice(self: IkeEngine) -> list[Any]:
        events = original(self)
        return events + [event for event in events if isinstance(event, ike_scene.ANSWERING)]

    assert "answers" in broken_by(monkeypatch, IkeEngine, "events", twice, WHOLE, initiator=True)


def test_growth_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Scene(WHOLE, initiator=False).tested
    before = ike_scene.kept(engine)
    assert before < 300
    engine._out.events += [ChildDeleted(0.0, "", None, n, n, FailurePoint.ME) for n in range(500)]  # type: ignore[arg-type]
    assert ike_scene.kept(engine) == before + 500
    monkeypatch.setattr(ike_scene, "LIMIT", 20)
    with pytest.raises(Broken, match="things kept"):
        Scene(WHOLE, initiator=False)


def test_a_reader_that_writes_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(reader: wire.Reader) -> wire.Nonce:
        return wire.Nonce(reader.rest().rstrip(b"\0"))

    chain = b"\1" + bytes([10]) + bytes([0, 0, 0, 16]) + b"nonce" + bytes(7)
    ike_reader.read(chain)
    monkeypatch.setitem(wire._PARSERS, 10, careless)
    with pytest.raises(AssertionError):
        ike_reader.read(chain)


def test_only_malformed_message_may_come_out_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def outside(reader: wire.Reader) -> wire.Nonce:
        raise IndexError("outside")

    monkeypatch.setitem(wire._PARSERS, 10, outside)
    with pytest.raises(IndexError):
        ike_reader.read(b"\1" + bytes([10]) + bytes([0, 0, 0, 16]) + bytes(12))


@pytest.mark.parametrize(("kind", "body"), [(11, b"\0\0\0\1\1\0"), (12, b""), (255, b"1")])
def test_chains(kind: int, body: bytes) -> None:
    chain = [(kind, body), (13, b"vendor"), (8, bytes(20))]
    assert ike_tape.split(kind, ike_tape.join(chain)) == chain
    try:
        assert ike_tape.join(chain) == wire.encode_payloads(wire.parse_payloads(kind, ike_tape.join(chain))[0])
    except MalformedMessage:
        assert kind in (11, 12)
