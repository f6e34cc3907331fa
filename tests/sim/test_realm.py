"""A Kerberos realm in virtual time: what is refused. That its tokens are real, tests/interop/test_realm.py shows."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.ike.credentials import CredentialRefused
from ipsec_core.sim.realm import SKEW_SECONDS, TICKET_SECONDS, Context, Member, Realm

NAME = "EXAMPLE.COM"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def realm(clock: Clock | None = None) -> Realm:
    numbers = count(1)
    return Realm(NAME, clock or Clock(), lambda size: next(numbers).to_bytes(size))


def two(clock: Clock | None = None) -> tuple[Member, Member]:
    made = realm(clock)
    return made.join("ALICE"), made.join("BOB")


def complete(alice: Member, bob: Member) -> tuple[Context, Context]:
    ours, theirs = alice.initiate(bob.name), bob.accept()
    assert ours.step(theirs.step(ours.step(None))) is None
    return ours, theirs


def test_two_members() -> None:
    ours, theirs = complete(*two())
    assert (ours.peer, theirs.peer) == ("bob$@EXAMPLE.COM", "alice$@EXAMPLE.COM")
    for number in range(3):
        proof = bytes([number]) * 20
        assert theirs.unwrap(ours.wrap(proof)) == proof
        assert ours.unwrap(theirs.wrap(proof)) == proof


def test_a_wrapped_text_once_and_in_order() -> None:
    ours, theirs = complete(*two())
    first, second = ours.wrap(b"first"), ours.wrap(b"second")
    with pytest.raises(CredentialRefused, match="order"):
        theirs.unwrap(second)
    assert theirs.unwrap(first) == b"first"
    with pytest.raises(CredentialRefused, match="order"):
        theirs.unwrap(first)
    with pytest.raises(CredentialRefused, match="order"):
        ours.unwrap(second)  # his own, sent back


def test_a_token_a_second_time() -> None:
    alice, bob = two()
    token = alice.initiate(bob.name).step(None)
    bob.accept().step(token)
    with pytest.raises(CredentialRefused, match="second time"):
        bob.accept().step(token)


@pytest.mark.parametrize(
    ("later", "good"), [(SKEW_SECONDS, True), (SKEW_SECONDS + 1, False), (TICKET_SECONDS + 1, False)]
)
def test_a_token_that_comes_late(later: int, good: bool) -> None:
    clock = Clock()
    alice, bob = two(clock)
    token = alice.initiate(bob.name).step(None)
    clock.now += timedelta(seconds=later).total_seconds()
    if good:
        assert bob.accept().step(token)
    else:
        with pytest.raises(CredentialRefused, match="five minutes"):
            bob.accept().step(token)


def test_strangers() -> None:
    alice, bob = two()
    with pytest.raises(CredentialRefused, match=r"'carol\$@EXAMPLE.COM' is not in the realm EXAMPLE.COM"):
        alice.initiate("carol$@EXAMPLE.COM").step(None)
    with pytest.raises(CredentialRefused, match="is not in the realm"):
        alice.initiate("bob$@OTHER.COM").step(None)
    other = Realm(NAME, Clock(), lambda size: b"\x55" * size)
    other.join("BOB")
    with pytest.raises(CredentialRefused, match="another key"):
        bob.accept().step(other.join("ALICE").initiate(bob.name).step(None))


def test_an_answer_to_another_question() -> None:
    clock = Clock()
    alice, bob = two(clock)
    first, second = alice.initiate(bob.name), alice.initiate(bob.name)
    answer = bob.accept().step(first.step(None))
    second.step(None)
    with pytest.raises(CredentialRefused):
        second.step(answer)


@given(data=st.data())
def test_no_changed_token_is_good(data: st.DataObject) -> None:
    alice, bob = two()
    ours, theirs = alice.initiate(bob.name), bob.accept()
    request = ours.step(None)
    assert request is not None
    which = data.draw(st.sampled_from(["request", "reply", "wrapped"]))
    token = request if which == "request" else theirs.step(request)
    assert token is not None
    if which == "wrapped":
        ours.step(token)
        token = ours.wrap(b"proof")
    at = data.draw(st.integers(2, len(token) - 1))
    changed = token[:at] + bytes([token[at] ^ data.draw(st.integers(1, 255))]) + token[at + 1 :]
    try:
        got = {"request": theirs.step, "reply": ours.step, "wrapped": theirs.unwrap}[which](changed)
    except CredentialRefused:
        return
    # Options and names outside of what is encrypted decide nothing.
    assert which != "wrapped"
    if which == "request":
        assert got is not None
        assert ours.step(got) is None
    assert ours.unwrap(theirs.wrap(b"proof")) == b"proof"


@given(st.binary(max_size=300))
def test_any_bytes(token: bytes) -> None:
    alice, bob = two()
    with pytest.raises(CredentialRefused):
        bob.accept().step(token)
    ours = alice.initiate(bob.name)
    ours.step(None)
    with pytest.raises(CredentialRefused):
        ours.step(token)
    ours, theirs = complete(alice, bob)
    with pytest.raises(CredentialRefused):
        theirs.unwrap(token)
