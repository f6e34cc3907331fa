"""The key schedule of RFC 2409: SKEYID and its children, cipher keys, IVs, HASH values, KEYMAT."""

from __future__ import annotations

from dataclasses import field

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ipsec_core.ike.failures import Unverified
from ipsec_core.ike.iana import AhTransform, AuthAlgorithm, Encryption, EspTransform, Hash
from ipsec_core.ike.offers import MainModeOffer, QuickModeOffer
from ipsec_core.ike.values import value

_HASHES: dict[Hash, hashes.HashAlgorithm] = {
    Hash.MD5: hashes.MD5(),
    Hash.SHA1: hashes.SHA1(),
    Hash.SHA256: hashes.SHA256(),
    Hash.SHA384: hashes.SHA384(),
    Hash.SHA512: hashes.SHA512(),
}
_BLOCK = {Encryption.DES_CBC: 8, Encryption.TRIPLE_DES_CBC: 8, Encryption.AES_CBC: 16}
_KEY_LENGTH = {Encryption.DES_CBC: 8, Encryption.TRIPLE_DES_CBC: 24}
_ESP_KEY_LENGTH = {EspTransform.DES: 8, EspTransform.TRIPLE_DES: 24, EspTransform.NULL: 0}
_AUTH_KEY_LENGTH = {
    AuthAlgorithm.HMAC_MD5: 16,
    AuthAlgorithm.HMAC_SHA1: 20,
    AuthAlgorithm.HMAC_SHA256: 32,
    AuthAlgorithm.HMAC_SHA384: 48,
    AuthAlgorithm.HMAC_SHA512: 64,
}
_AH_KEY_LENGTH = {
    AhTransform.MD5: 16,
    AhTransform.SHA1: 20,
    AhTransform.SHA256: 32,
    AhTransform.SHA384: 48,
    AhTransform.SHA512: 64,
}
# RFC 3686 section 5.1, RFC 4106 section 8.1: the salt is the last four bytes of what KEYMAT gives for the cipher.
SALT_LENGTH = 4


def digest(algorithm: Hash, data: bytes) -> bytes:
    context = hashes.Hash(_HASHES[algorithm])
    context.update(data)
    return context.finalize()


def prf(algorithm: Hash, key: bytes, data: bytes) -> bytes:
    """The negotiated pseudo-random function: HMAC of the negotiated hash (RFC 2409 section 4)."""
    context = hmac.HMAC(key, _HASHES[algorithm])
    context.update(data)
    return context.finalize()


def skeyid_preshared(algorithm: Hash, key: bytes, initiator_nonce: bytes, responder_nonce: bytes) -> bytes:
    """SKEYID for pre-shared keys, RFC 2409 section 5."""
    return prf(algorithm, key, initiator_nonce + responder_nonce)


def skeyid_signature(algorithm: Hash, initiator_nonce: bytes, responder_nonce: bytes, shared: bytes) -> bytes:
    """SKEYID for signatures, RFC 2409 section 5."""
    return prf(algorithm, initiator_nonce + responder_nonce, shared)


@value
class Skeyids:
    """SKEYID and the three keys derived from it (RFC 2409 section 5): for deriving, authenticating, encrypting."""

    root: bytes = field(repr=False)
    derive: bytes = field(repr=False)
    authenticate: bytes = field(repr=False)
    encrypt: bytes = field(repr=False)


def derive_skeyids(algorithm: Hash, root: bytes, shared: bytes, cookies: bytes) -> Skeyids:
    """`cookies` is CKY-I | CKY-R, `shared` is g^xy."""
    derive = prf(algorithm, root, shared + cookies + b"\0")
    authenticate = prf(algorithm, root, derive + shared + cookies + b"\1")
    encrypt = prf(algorithm, root, authenticate + shared + cookies + b"\2")
    return Skeyids(root, derive, authenticate, encrypt)


def cipher_key(algorithm: Hash, skeyid_e: bytes, length: int) -> bytes:
    """The phase 1 cipher key: the front of SKEYID_e, or Ka where that is too short (RFC 2409 appendix B)."""
    if len(skeyid_e) >= length:
        return skeyid_e[:length]
    block = prf(algorithm, skeyid_e, b"\0")
    key = block
    while len(key) < length:
        block = prf(algorithm, skeyid_e, block)
        key += block
    return key[:length]


class PhaseOneCipher:
    """A CBC cipher of phase 1 whose IV the caller keeps; padding is zeros (RFC 2409 appendix B)."""

    __slots__ = ("_algorithm", "block", "key")

    def __init__(self, encryption: Encryption, key: bytes) -> None:
        self.key = key
        self.block = _BLOCK[encryption]
        # DES is 3DES with three equal keys.
        self._algorithm = algorithms.AES(key) if encryption is Encryption.AES_CBC else TripleDES(key * (24 // len(key)))

    def seal(self, iv: bytes, clear: bytes) -> bytes:
        # Whole blocks come out of `update`, and nothing is left to `finalize`.
        return Cipher(self._algorithm, modes.CBC(iv)).encryptor().update(clear + bytes(-len(clear) % self.block))

    def open(self, iv: bytes, sealed: bytes) -> bytes:
        if not sealed or len(sealed) % self.block:
            raise Unverified(f"{len(sealed)} encrypted bytes are not whole blocks")
        return Cipher(self._algorithm, modes.CBC(iv)).decryptor().update(sealed)


def phase_one_cipher(offer: MainModeOffer, skeyid_e: bytes) -> PhaseOneCipher:
    length = offer.key_bits // 8 or _KEY_LENGTH[offer.encryption]
    return PhaseOneCipher(offer.encryption, cipher_key(offer.hash, skeyid_e, length))


def phase_one_iv(algorithm: Hash, initiator_public: bytes, responder_public: bytes, block: int) -> bytes:
    """The IV of Main Mode message 5, RFC 2409 appendix B."""
    return digest(algorithm, initiator_public + responder_public)[:block]


def phase_two_iv(algorithm: Hash, last_block: bytes, message_id: int) -> bytes:
    """The first IV under a new message id, from the last cipher block of Main Mode (RFC 2409 appendix B)."""
    return digest(algorithm, last_block + message_id.to_bytes(4))[: len(last_block)]


def main_mode_hash(
    algorithm: Hash, skeyid: bytes, publics: bytes, cookies: bytes, sa_body: bytes, id_body: bytes
) -> bytes:
    """HASH_I or HASH_R, RFC 2409 section 5: `publics` and `cookies` with the sender's own value first."""
    return prf(algorithm, skeyid, publics + cookies + sa_body + id_body)


def message_hash(algorithm: Hash, skeyid_a: bytes, message_id: int, rest: bytes) -> bytes:
    """HASH(1), with Ni_b in front of `rest` HASH(2) (RFC 2409 section 5.5), and that of 5.7 for informationals."""
    return prf(algorithm, skeyid_a, message_id.to_bytes(4) + rest)


def confirmation_hash(algorithm: Hash, skeyid_a: bytes, message_id: int, nonces: bytes) -> bytes:
    """HASH(3), RFC 2409 section 5.5; `nonces` is Ni_b | Nr_b."""
    return prf(algorithm, skeyid_a, b"\0" + message_id.to_bytes(4) + nonces)


def keymat(
    algorithm: Hash, skeyid_d: bytes, protocol: int, spi: bytes, nonces: bytes, length: int, shared: bytes = b""
) -> bytes:
    """KEYMAT of one direction, RFC 2409 section 5.5; `shared` is g(qm)^xy under PFS, else empty."""
    seed = shared + bytes((protocol,)) + spi + nonces
    block = prf(algorithm, skeyid_d, seed)
    out = block
    while len(out) < length:
        block = prf(algorithm, skeyid_d, block + seed)
        out += block
    return out[:length]


@value
class EspKeys:
    """KEYMAT cut up: cipher key, salt, integrity key, in this order (RFC 2407 section 4.5, RFC 4106 section 8.1)."""

    encryption_key: bytes = field(repr=False)
    authentication_key: bytes = field(repr=False)
    salt: bytes = field(repr=False)


def esp_key_lengths(offer: QuickModeOffer) -> tuple[int, int, int]:
    """Bytes of cipher key, salt and integrity key that the ESP SA of an offer needs."""
    if offer.transform is None:
        return 0, 0, 0
    cipher = offer.key_bits // 8 or _ESP_KEY_LENGTH[offer.transform]
    salt = SALT_LENGTH if offer.transform.salted else 0
    return cipher, salt, 0 if offer.integrity is None else _AUTH_KEY_LENGTH[offer.integrity]


def ah_key_length(transform: AhTransform) -> int:
    """Bytes of KEYMAT for AH: as much as the hash gives (RFC 2403 and 2404 section 3, RFC 4868 section 2.1.1)."""
    return _AH_KEY_LENGTH[transform]


def split_keymat(offer: QuickModeOffer, material: bytes) -> EspKeys:
    cipher, salt, _ = esp_key_lengths(offer)
    return EspKeys(material[:cipher], material[cipher + salt :], material[cipher : cipher + salt])


@value
class Session:
    """What an established Main Mode SA leaves behind for the exchanges under it."""

    hash: Hash
    skeyid_d: bytes = field(repr=False)
    skeyid_a: bytes = field(repr=False)
    cipher: PhaseOneCipher = field(repr=False)
    last_block: bytes = field(repr=False)
    initiator_cookie: bytes
    responder_cookie: bytes

    def iv(self, message_id: int) -> bytes:
        return phase_two_iv(self.hash, self.last_block, message_id)

    def message_hash(self, message_id: int, rest: bytes) -> bytes:
        return message_hash(self.hash, self.skeyid_a, message_id, rest)
