"""Quick Mode one against one, and a peer that knows the keys and cheats."""

from __future__ import annotations

from random import Random
from typing import Any

from ipsec_core.ike import keys, protected, wire
from ipsec_core.ike.events import QuickModePolicy
from ipsec_core.ike.iana import Encryption, ExchangeType, Hash
from ipsec_core.ike.main_mode import MainMode
from ipsec_core.ike.quick_mode import QuickMode

I_COOKIE, R_COOKIE = b"initiatr", b"respondr"


def give(exchange: MainMode | QuickMode, message: bytes | None) -> bytes | None:
    assert message is not None
    return exchange.receive(wire.parse_header(message), message)


def quick_modes(kit: Any) -> tuple[QuickMode, QuickMode]:
    session = keys.Session(
        Hash.SHA1, b"d" * 20, b"a" * 20, keys.PhaseOneCipher(Encryption.TRIPLE_DES_CBC, bytes(range(24))), b"lastiv!!",
        I_COOKIE, R_COOKIE,
    )  # fmt: skip
    spis = iter((0x1000, 0x2000))

    def make(initiator: bool, local: str, remote: str) -> QuickMode:
        return QuickMode(
            session,
            77,
            initiator=initiator,
            local=local,
            remote=remote,
            random=Random(initiator).randbytes,
            allocate_spi=lambda: next(spis),
            find_policy=lambda selectors: QuickModePolicy((kit.ESP_OFFER,), 7),
        )

    return make(True, kit.ALICE, kit.BOB), make(False, kit.BOB, kit.ALICE)


def reseal(initiator: QuickMode, message: bytes, change: Any, nonce: bytes) -> bytes:
    """Message 2 with other payloads and a right HASH(2), as only the peer can make it."""
    session = initiator.session
    header = wire.parse_header(message)
    iv = initiator._iv
    opened = protected.unseal(session, header, iv, message)
    payloads = change(opened.payloads)
    proof = session.message_hash(77, nonce + wire.encode_payloads(payloads))
    return protected.seal(session, ExchangeType.QUICK_MODE, 77, iv, lambda rest: proof, payloads)
