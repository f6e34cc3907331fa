"""What the IKE targets share: a tape of choices, payload chains as plain bytes, and somebody on the wire who knows all
keys and can change, hash and encrypt again what goes over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ike_proofs import signature

from ipsec_core.ike import keys, wire
from ipsec_core.ike.iana import AuthMethod, ExchangeType, Flags, PayloadType
from ipsec_core.ike.offers import MainModeOffer

HASH, NONCE, SIGNATURE = PayloadType.HASH, PayloadType.NONCE, PayloadType.SIGNATURE
Chain = list[tuple[int, bytes]]
"""(type, body) of each payload, as the bytes say; a chain that ends early is cut there."""


class Tape:
    """Choices from the bytes of an input; zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        piece = self._data[self._at : self._at + length]
        self._at += length
        return piece + bytes(length - len(piece))

    def number(self, below: int) -> int:
        """0 to below - 1, from one byte or, where that is too small, two."""
        return int.from_bytes(self.take(1 if below <= 256 else 2)) % below


def split(first: int, data: bytes) -> Chain:
    chain: Chain = []
    while first and len(data) >= 4:
        length = max(4, int.from_bytes(data[2:4]))
        chain.append((first, data[4:length]))
        first, data = data[0], data[length:]
    return chain


def join(chain: Chain) -> bytes:
    followers = [kind for kind, _ in chain[1:]] + [PayloadType.NONE]
    return b"".join(
        bytes((following & 255, 0)) + (4 + len(body)).to_bytes(2) + body
        for following, (_, body) in zip(followers, chain, strict=False)
    )


def edit(chain: Chain, tape: Tape) -> Chain:
    """One to four changes of a chain: in the bytes of a body, in its length, or in which payloads there are."""
    chain = list(chain)
    for _ in range(1 + tape.number(4)):
        what = tape.number(8)
        if not chain or what == 0:
            chain.insert(tape.number(len(chain) + 1), (tape.number(256), tape.take(tape.number(64))))
            continue
        at = tape.number(len(chain))
        kind, body = chain[at]
        if what == 1:
            del chain[at]
        elif what == 2:
            chain.insert(tape.number(len(chain) + 1), chain[at])
        elif what == 3:
            chain[at] = (tape.number(256), body)
        elif what == 4:
            chain[at] = (kind, body[: tape.number(len(body) + 1)])
        elif what == 5:
            chain[at] = (kind, body + tape.take(tape.number(40)))
        else:
            for _ in range(1 + tape.number(4)):
                place = tape.number(len(body) + 1)
                new = tape.take(1 if what == 6 else 2)
                body = body[:place] + new + body[place + len(new) :]
            chain[at] = (kind, body)
    return chain


@dataclass
class Secrets:
    """What one end has derived for one Main Mode."""

    ids: keys.Skeyids
    cipher: keys.PhaseOneCipher
    iv: bytes = b""


PROOF = (PayloadType.IDENTIFICATION, PayloadType.HASH, PayloadType.SIGNATURE)


@dataclass
class Wiretap:
    """Follows the conversations of the engine under test, whose Main Modes all use `offer`.

    It learns keys from what the engine derives (`listening`) and IVs from what it sends; so it can make messages
    that the engine takes for its peer's. It knows nothing of how the engine is made.
    """

    offer: MainModeOffer
    auth: AuthMethod
    secrets: dict[bytes, Secrets] = field(default_factory=dict)
    last_block: dict[bytes, bytes] = field(default_factory=dict)
    ivs: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    nonces: dict[tuple[bytes, int], list[bytes]] = field(default_factory=dict)
    proposals: dict[bytes, tuple[bytes, bool]] = field(default_factory=dict)
    publics: dict[bytes, list[bytes]] = field(default_factory=dict)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the engine under test runs: note what the key schedule gives."""
        derive, first_iv = keys.derive_skeyids, keys.phase_one_iv
        cookies = [b""]

        def note_skeyids(algorithm: Any, root: bytes, shared: bytes, both: bytes) -> keys.Skeyids:
            ids = derive(algorithm, root, shared, both)
            cookies[0] = both
            self.secrets[both] = Secrets(ids, keys.phase_one_cipher(self.offer, ids.encrypt))
            return ids

        def note_iv(*arguments: Any) -> bytes:
            iv = first_iv(*arguments)
            if cookies[0] in self.secrets:
                self.secrets[cookies[0]].iv = iv
            return iv

        keys.derive_skeyids, keys.phase_one_iv = note_skeyids, note_iv
        try:
            yield
        finally:
            keys.derive_skeyids, keys.phase_one_iv = derive, first_iv

    def _clear(self, data: bytes) -> tuple[Secrets, int, Chain] | None:
        """Keys, message id and chain of an encrypted message under the IV that is due."""
        secrets, message_id = self.secrets.get(data[:16]), int.from_bytes(data[20:24])
        if secrets is None or not data[19] & Flags.ENCRYPTION or (len(data) - 28) % secrets.cipher.block:
            return None
        iv = self.iv(data[:16], message_id)
        return secrets, message_id, split(data[16], secrets.cipher.open(iv, data[28:]) if len(data) > 28 else b"")

    def same_chain(self, data: bytes, other: bytes) -> bool:
        """Whether two encrypted messages say the same: what stands behind the last payload is padding."""
        chains = [clear[2] if (clear := self._clear(message)) else None for message in (data, other)]
        return chains[0] is not None and chains[0] == chains[1]

    def same_proof(self, data: bytes, other: bytes) -> bool:
        """Whether two last messages of Main Mode have one identity and one proof: no HASH covers what stands beside
        them, a notify for instance (RFC 2409 section 5)."""
        proofs = []
        for message in (data, other):
            if len(message) < wire.HEADER_LENGTH or message[18] != ExchangeType.MAIN_MODE:
                return False
            clear = self._clear(message)
            proofs.append([one for one in clear[2] if one[0] in PROOF] if clear else [])
        return len(proofs[0]) > 1 and proofs[0] == proofs[1]

    def iv(self, cookies: bytes, message_id: int) -> bytes:
        secrets = self.secrets[cookies]
        if (known := self.ivs.get((cookies, message_id))) is not None:
            return known
        if not message_id:
            return secrets.iv
        return keys.phase_two_iv(self.offer.hash, self.last_block.get(cookies, secrets.iv), message_id)

    def watch(self, data: bytes, *, ours: bool) -> None:
        """A message that the engine has sent, or has taken from its peer."""
        if len(data) < wire.HEADER_LENGTH:
            return
        cookies = data[:16]
        if not data[19] & Flags.ENCRYPTION:
            for kind, body in split(data[16], data[28:]):
                if kind == PayloadType.SA and cookies.endswith(wire.NO_COOKIE):
                    self.proposals.setdefault(cookies[:8], (body, ours))
                elif kind == PayloadType.KEY_EXCHANGE and body not in self.publics.setdefault(cookies, []):
                    self.publics[cookies].append(body)
            return
        clear = self._clear(data)
        if clear is None:
            return
        secrets, message_id, chain = clear
        last = data[-secrets.cipher.block :]
        if not message_id:
            self.last_block[cookies] = last
        if data[18] != ExchangeType.INFORMATIONAL:
            self.ivs[cookies, message_id] = last
            found = self.nonces.setdefault((cookies, message_id), [])
            found += [body for kind, body in chain if kind == NONCE and body not in found]

    def change(self, data: bytes, tape: Tape, *, honest: bool = True) -> bytes:
        """A message for the engine, changed within; hashed and encrypted as its peer would, unless not `honest`."""
        if len(data) < wire.HEADER_LENGTH:
            return damage(data, tape)
        if not data[19] & Flags.ENCRYPTION or (clear := self._clear(data)) is None:
            return self.clear(data[:16], data[18], edit(split(data[16], data[28:]), tape))
        _, message_id, chain = clear
        return self.make(data[:16], data[18], message_id, edit(chain, tape), honest=honest)

    @staticmethod
    def clear(cookies: bytes, exchange: int, chain: Chain) -> bytes:
        """A message that anybody can make."""
        return with_length(cookies + first(chain) + bytes((wire.VERSION, exchange)) + bytes(9) + join(chain))

    def make(self, cookies: bytes, exchange: int, message_id: int, chain: Chain, *, honest: bool = True) -> bytes:
        """A message under keys that the engine has; its HASH payload, if it begins with one, is made right."""
        secrets = self.secrets[cookies]
        if honest:
            chain = self._hashed(secrets, cookies, exchange, message_id, chain)
        body = secrets.cipher.seal(self.iv(cookies, message_id), join(chain))
        header = cookies + first(chain) + bytes((wire.VERSION, exchange, Flags.ENCRYPTION))
        return with_length(header + message_id.to_bytes(4) + bytes(4) + body)

    def _hashed(self, secrets: Secrets, cookies: bytes, exchange: int, message_id: int, chain: Chain) -> Chain:
        """The chain with the HASH that the peer would send."""
        algorithm, key = self.offer.hash, secrets.ids.authenticate
        if not message_id:
            identity = next((body for kind, body in chain if kind == PayloadType.IDENTIFICATION), b"")
            proposal, ours = self.proposals.get(cookies[:8], (b"", False))
            publics = self.publics.get(cookies, [])
            both = [cookies[:8], cookies[8:]]
            order = -1 if ours else 1
            proof = keys.main_mode_hash(
                algorithm, secrets.ids.root, b"".join(publics[::order]), b"".join(both[::order]), proposal, identity
            )
            # What Kerberos wraps covers its tokens, too: that HASH stays as it is.
            proofs = {AuthMethod.PRESHARED_KEY: {HASH: proof}, AuthMethod.RSA_SIGNATURES: {SIGNATURE: signature(proof)}}
            return [(kind, proofs.get(self.auth, {}).get(kind, body)) for kind, body in chain]
        if not chain or chain[0][0] != HASH:
            return chain
        rest = join(chain[1:])
        nonces = [] if exchange == ExchangeType.INFORMATIONAL else self.nonces.get((cookies, message_id), [])
        if len(nonces) >= 2:
            proof = keys.confirmation_hash(algorithm, key, message_id, b"".join(nonces[:2]))
        else:
            proof = keys.message_hash(algorithm, key, message_id, b"".join(nonces) + rest)
        return [(HASH, proof), *chain[1:]]


def first(chain: Chain) -> bytes:
    return bytes([chain[0][0] & 255 if chain else 0])


def with_length(data: bytes) -> bytes:
    return data[:24] + len(data).to_bytes(4) + data[28:] if len(data) >= 28 else data


def damage(data: bytes, tape: Tape) -> bytes:
    """Bytes of a message changed, cut or added by somebody without keys."""
    what = tape.number(4)
    if what == 0:
        return data[: tape.number(len(data) + 1)]
    if what == 1:
        return with_length(data + tape.take(1 + tape.number(40)))
    for _ in range(1 + tape.number(4)):
        at = tape.number(max(1, len(data) - 16))
        data = data[:at] + tape.take(1) + data[at + 1 :]
    return with_length(data) if what == 2 else data
