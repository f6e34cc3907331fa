"""Diffie-Hellman over the MODP groups of RFC 2409 section 6 and RFC 3526, in plain integers.

The `cryptography` package has it, too, but has announced to drop it, and tests the well-known prime anew for every key
that it loads: 46 ms for group 2, where the power itself takes 0.9 ms (CPython 3.11, cryptography 50). Python's `pow`
does not run in constant time; each exponent serves one exchange only, so that there is one measurement of it and no
second. The tests hold both equal.
"""

from __future__ import annotations

from collections.abc import Callable

from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Group, Notify

GENERATOR = 2
EXPONENT_LENGTH = 32

PRIMES = {
    Group.MODP_768: int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A3620FFFFFFFFFFFFFFFF",
        16,
    ),
    Group.MODP_1024: int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
        16,
    ),
    Group.MODP_2048: int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
        "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
        16,
    ),
}


class DiffieHellman:
    """One private value, drawn from `random` so that a run with the same source repeats bit for bit.

    `public` and the shared secret are as long as the prime, zeros in front (RFC 2409 section 5).
    """

    __slots__ = ("_exponent", "_prime", "length", "public")

    def __init__(self, group: Group, random: Callable[[int], bytes]) -> None:
        self._prime = PRIMES[group]
        self.length = (self._prime.bit_length() + 7) // 8
        # The top bit keeps the exponent at its full size whatever the source returns.
        self._exponent = int.from_bytes(random(EXPONENT_LENGTH)) | 1 << (8 * EXPONENT_LENGTH - 1)
        self.public = pow(GENERATOR, self._exponent, self._prime).to_bytes(self.length)

    def shared(self, peer: bytes) -> bytes:
        """g^xy with the peer's public value; MalformedMessage if that is of the wrong size or outside 2..p-2."""
        value = int.from_bytes(peer)
        if len(peer) != self.length or not 1 < value < self._prime - 1:
            raise MalformedMessage(Notify.INVALID_KEY_INFORMATION, "public value outside the group")
        return pow(value, self._exponent, self._prime).to_bytes(self.length)
