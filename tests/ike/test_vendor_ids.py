"""What the two ends tell each other by vendor ids, and what they make of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ipsec_core.ike import IkeOptions, MainModePolicy, NatTraversal, vendor_ids, wire
from ipsec_core.ike.iana import MICROSOFT_VENDOR_ID
from ipsec_core.ike.main_mode import MainMode

RFC, DRAFT = NatTraversal.RFC_3947, NatTraversal.DRAFT_02
MICROSOFT = hashlib.md5(b"MS NT5 ISAKMPOAKLEY").digest()
FRAGMENTATION = hashlib.md5(b"FRAGMENTATION").digest()
RFC_ID = hashlib.md5(b"RFC 3947").digest()
DRAFT_ID = hashlib.md5(b"draft-ietf-ipsec-nat-t-ike-02\n").digest()
BARE_DRAFT_ID = hashlib.md5(b"draft-ietf-ipsec-nat-t-ike-02").digest()


def exchange(kit: Any, *, initiator: bool, **options: Any) -> MainMode:
    return MainMode(
        initiator=initiator,
        local=kit.ALICE if initiator else kit.BOB,
        remote=kit.BOB if initiator else kit.ALICE,
        policy=MainModePolicy((kit.MAIN_OFFER,), kit.KEY),
        random=Random(initiator).randbytes,
        cookie=b"initiatr" if initiator else b"respondr",
        peer_cookie=wire.NO_COOKIE if initiator else b"initiatr",
        options=IkeOptions(**options),
    )


def ids(message: bytes | None) -> list[bytes]:
    assert message is not None
    payloads = wire.parse_clear(wire.parse_header(message), message)
    return [payload.data for payload in wire.every(payloads, wire.VendorId)]


def give(receiver: MainMode, message: bytes | None) -> bytes | None:
    assert message is not None
    return receiver.receive(wire.parse_header(message), message)


def test_the_ids_are_what_they_are_made_of() -> None:
    assert MICROSOFT_VENDOR_ID == MICROSOFT
    assert vendor_ids.FRAGMENTATION == FRAGMENTATION
    assert vendor_ids.NAT_TRAVERSAL == {RFC: (RFC_ID,), DRAFT: (DRAFT_ID, BARE_DRAFT_ID)}


@pytest.mark.parametrize("version", [2, 4])
def test_windows_2000_says_its_version_and_nothing_else(kit: Any, version: int) -> None:
    initiator = exchange(kit, initiator=True, vendor_version=version)
    responder = exchange(kit, initiator=False)
    message = initiator.start()
    assert ids(message) == [MICROSOFT + version.to_bytes(4)]
    answer = give(responder, message)
    assert ids(answer) == [MICROSOFT + bytes((0, 0, 0, 2))]
    give(initiator, answer)
    assert (initiator.common.microsoft_version, responder.common.microsoft_version) == (2, version)
    assert initiator.microsoft_peer


@pytest.mark.parametrize(
    ("offered", "accepted", "announced", "answered", "common"),
    [
        ((RFC, DRAFT), (RFC, DRAFT), [RFC_ID, DRAFT_ID], [RFC_ID], RFC),
        ((DRAFT, RFC), (RFC, DRAFT), [DRAFT_ID, RFC_ID], [RFC_ID], RFC),
        ((DRAFT,), (RFC, DRAFT), [DRAFT_ID], [DRAFT_ID], DRAFT),
        ((RFC,), (DRAFT,), [RFC_ID], [], None),
        ((RFC,), (), [RFC_ID], [], None),
        ((), (RFC,), [], [], None),
    ],
)
def test_one_dialect_of_nat_traversal(
    kit: Any, offered: Any, accepted: Any, announced: list[bytes], answered: list[bytes], common: Any
) -> None:
    """Both ends have to mean the same one: the responder names it, and only it."""
    initiator = exchange(kit, initiator=True, nat_traversal=offered)
    responder = exchange(kit, initiator=False, nat_traversal=accepted)
    message = initiator.start()
    assert ids(message)[1:] == announced
    answer = give(responder, message)
    assert ids(answer)[1:] == answered
    give(initiator, answer)
    assert initiator.common.dialect is responder.common.dialect is common


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_fragmentation_takes_both(kit: Any, ours: bool, theirs: bool) -> None:
    initiator = exchange(kit, initiator=True, fragmentation=ours)
    responder = exchange(kit, initiator=False, fragmentation=theirs)
    message = initiator.start()
    assert ids(message)[1:] == ([FRAGMENTATION] if ours else [])
    answer = give(responder, message)
    assert ids(answer)[1:] == ([FRAGMENTATION] if ours and theirs else [])
    give(initiator, answer)
    assert initiator.common.fragmentation is responder.common.fragmentation is (ours and theirs)


def test_the_answer_is_not_longer_than_a_message_1_without_our_name(kit: Any) -> None:
    """Microsoft's id is all that goes: what both can do is said, or it is not in force."""
    responder = exchange(kit, initiator=False, nat_traversal=(RFC,), fragmentation=True)
    message = exchange(kit, initiator=True, nat_traversal=(RFC,), fragmentation=True).start()
    header = wire.parse_header(message)
    payloads = wire.parse_clear(header, message)
    short = wire.encode_clear(header, tuple(p for p in payloads if p != wire.VendorId(MICROSOFT + bytes((0, 0, 0, 2)))))
    answer = give(responder, short)
    assert answer is not None
    assert len(answer) == len(short)
    assert ids(answer) == [RFC_ID, FRAGMENTATION]


def test_variants_and_strangers() -> None:
    options = IkeOptions(nat_traversal=(RFC, DRAFT), fragmentation=True)

    def common(*data: bytes) -> vendor_ids.Capabilities:
        return vendor_ids.common(options, [wire.VendorId(each) for each in data])

    assert common() == common(b"", b"x", RFC_ID + b"x", MICROSOFT[:-1]) == vendor_ids.Capabilities()
    assert common(MICROSOFT).microsoft_version == 0
    assert common(MICROSOFT + bytes(3) + b"\x05").microsoft_version == 5
    assert common(FRAGMENTATION + b"\x80\0\0\0").fragmentation
    bare = common(BARE_DRAFT_ID)
    assert (bare.dialect, bare.dialect_id) == (DRAFT, BARE_DRAFT_ID)
    # It knows the id that it sent.
    assert vendor_ids.answer(options, bare)[1:] == (wire.VendorId(BARE_DRAFT_ID),)
    assert common(BARE_DRAFT_ID, DRAFT_ID).dialect_id == DRAFT_ID


def test_ids_of_ike_scan(captures: Path) -> None:
    """Its collection of vendor ids has ours under the names that we know."""
    known = {}
    for line in (captures / "ike-scan/ike-vendor-ids").read_text(errors="replace").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, pattern = line.rpartition("\t")
            known[name.strip()] = pattern.strip().lower().lstrip("^").rstrip("$")
    assert RFC_ID.hex() in known.values()
    assert DRAFT_ID.hex() in known.values()
    assert BARE_DRAFT_ID.hex() in known.values()
    assert any(pattern.startswith(FRAGMENTATION.hex()) for pattern in known.values())
    assert known["Windows-2000"] == MICROSOFT.hex() + "00000002"
