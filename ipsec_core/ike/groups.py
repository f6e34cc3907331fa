"""Diffie-Hellman of IKE: the MODP groups of RFC 2409 section 6 and RFC 3526, the ECP groups of RFC 5903.

Powers are libcrypto's, in constant time (`_modexp.pyx`): the `cryptography` package has announced to drop
Diffie-Hellman over finite fields, and tests the well-known prime anew for every key that it loads. The elliptic curves
are those of that package.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Group, Notify

try:
    from ipsec_core.ike._modexp import Modulus
except ImportError:  # built without libcrypto
    from ipsec_core.ike.modulus import Modulus  # type: ignore[assignment]

GENERATOR = 2

# floor(2^8062 pi), of which the middle of every prime is the front.
_PI = int(
    "C90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5"
    "AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD96"
    "1C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E8603"
    "9B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA051015728E5A8AAAC42D"
    "AD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7ABF5AE8CDB0933D7"
    "1E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200CBBE117577A615D6C"
    "770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D788719A10BDBA5B26"
    "99C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6287C59474E6BC05D"
    "99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA993B4EA988D8FDDC1"
    "86FFB7DC90A6C08F4DF435C93402849236C3FAB4D27C7026C1D4DCB2602646DEC9751E763DBA37BDF8FF9406AD9E530E"
    "E5DB382F413001AEB06A53ED9027D831179727B0865A8918DA3EDBEBCF9B14ED44CE6CBACED4BB1BDB7F1447E6CC254B"
    "332051512BD7AF426FB8F401378CD2BF5983CA01C64B92ECF032EA15D1721D03F482D7CE6E74FEF6D55E702F46980C82"
    "B5A84031900B1C9E59E7C97FBEC7E8F323A97A7E36CC88BE0F1D45B7FF585AC54BD407B22B4154AACC8F6D7EBF48E1D8"
    "14CC5ED20F8037E0A79715EEF29BE32806A1D58BB7C5DA76F550AA3D8A1FBFF0EB19CCB1A313D55CDA56C9EC2EF29632"
    "387FE8D76E3C0468043E8F663F4860EE12BF2D5B0B7474D6E694F91E6DBE115974A3926F12FEE5E438777CB6A932DF8C"
    "D8BEC4D073B931BA3BC832B68D9DD300741FA7BF8AFC47ED2576F6936BA424663AAB639C5AE4F5683423B4742BF1C978"
    "238F16CBE39D652DE3FDB8BEFC848AD922222E04A4037C0713EB57A81A23F0C73473FC646CEA306B4BCBC8862F8385DD"
    "FA9D4B7FA2C087E879683303ED5BDD3A062B3CF5B3A278A66D2A13F83F44F82DDF310EE074AB6A364597E899A0255DC1"
    "64F31CC50846851DF9AB48195DED7EA1B1D510BD7EE74D73FAF36BC31ECFA268359046F4EB879F924009438B481C6CD7"
    "889A002ED5EE382BC9190DA6FC026E479558E4475677E9AA9E3050E2765694DFC81F56E880B96E7160C980DD98A573EA",
    16,
)


def _prime(bits: int, offset: int) -> int:
    """2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + offset), RFC 2409 section 6 and RFC 3526."""
    return (1 << bits) - (1 << bits - 64) - 1 + ((_PI >> 8192 - bits) + offset << 64)


PRIMES = {
    Group.MODP_768: _prime(768, 149686),
    Group.MODP_1024: _prime(1024, 129093),
    Group.MODP_1536: _prime(1536, 741804),
    Group.MODP_2048: _prime(2048, 124476),
    Group.MODP_3072: _prime(3072, 1690314),
    Group.MODP_4096: _prime(4096, 240904),
    Group.MODP_6144: _prime(6144, 929484),
    Group.MODP_8192: _prime(8192, 4743158),
}
CURVES: dict[Group, ec.EllipticCurve] = {
    Group.ECP_256: ec.SECP256R1(),
    Group.ECP_384: ec.SECP384R1(),
    Group.ECP_521: ec.SECP521R1(),
}
_MODULI = {group: Modulus(prime.to_bytes(prime.bit_length() // 8)) for group, prime in PRIMES.items()}


def exponent_length(group: Group) -> int:
    """Bytes of a private exponent: twice the group's strength (RFC 3526 section 8; SP 800-56A revision 3 table 26)."""
    return {Group.MODP_4096: 40, Group.MODP_6144: 44, Group.MODP_8192: 50}.get(group, 32)


class _Modp:
    __slots__ = ("_exponent", "_group", "public")

    def __init__(self, group: Group, random: Callable[[int], bytes]) -> None:
        self._group = group
        drawn = random(exponent_length(group))
        # The top bit keeps the exponent at its full size whatever the source returns.
        self._exponent = bytes((drawn[0] | 0x80,)) + drawn[1:]
        self.public = _MODULI[group].power(bytes((GENERATOR,)), self._exponent)

    def shared(self, peer: bytes) -> bytes:
        if not 1 < int.from_bytes(peer) < PRIMES[self._group] - 1:
            raise ValueError("public value outside 2..p-2")
        return _MODULI[self._group].power(peer, self._exponent)


class _Ecp:
    __slots__ = ("_key", "public")

    def __init__(self, curve: ec.EllipticCurve, random: Callable[[int], bytes]) -> None:
        # 64 bits more than the order has, so that the remainder is as good as even (FIPS 186-5 A.2.1).
        drawn = int.from_bytes(random((curve.key_size + 7) // 8 + 8))
        self._key = ec.derive_private_key(drawn % (curve.group_order - 1) + 1, curve)
        self.public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def shared(self, peer: bytes) -> bytes:
        # Refuses a point that is not on the curve (RFC 5903 section 9).
        return self._key.exchange(
            ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(self._key.curve, b"\4" + peer)
        )


class DiffieHellman:
    """One private value, drawn from `random` so that a run with the same source repeats bit for bit.

    MODP: `public` and the shared secret are as long as the prime, zeros in front (RFC 2409 section 5). ECP: `public` is
    x | y, the shared secret x, each as long as the field (RFC 5903 section 7).
    """

    __slots__ = ("_key", "length", "public")

    def __init__(self, group: Group, random: Callable[[int], bytes]) -> None:
        self._key = _Ecp(CURVES[group], random) if group in CURVES else _Modp(group, random)
        self.public = self._key.public
        self.length = len(self.public)

    def shared(self, peer: bytes) -> bytes:
        """g^xy with the peer's public value; MalformedMessage if that is of the wrong size or outside the group."""
        if len(peer) == self.length:
            try:
                return self._key.shared(peer)
            except ValueError:
                pass
        raise MalformedMessage(Notify.INVALID_KEY_INFORMATION, "public value outside the group")
