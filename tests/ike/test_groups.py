"""Our Diffie-Hellman against the one of the `cryptography` package (OpenSSL)."""

from __future__ import annotations

import hashlib
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric import dh

from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.groups import EXPONENT_LENGTH, GENERATOR, PRIMES, DiffieHellman
from ipsec_core.ike.iana import Group


@pytest.mark.parametrize("group", list(Group))
@pytest.mark.parametrize("seed", [b"one", b"two"])
def test_public_value_and_shared_secret_equal_openssl(group: Group, seed: bytes) -> None:
    exponents: list[bytes] = []

    def random(count: int) -> bytes:
        exponents.append(hashlib.shake_256(seed).digest(count))
        return exponents[-1]

    ours = DiffieHellman(group, random)
    with warnings.catch_warnings():
        # The package is giving up Diffie-Hellman over finite fields.
        warnings.simplefilter("ignore")
        parameters = dh.DHParameterNumbers(PRIMES[group], GENERATOR)
        theirs = parameters.parameters().generate_private_key()
        public = theirs.public_key().public_numbers().y
        exponent = int.from_bytes(exponents[0]) | 1 << (8 * EXPONENT_LENGTH - 1)
        numbers = dh.DHPublicNumbers(int.from_bytes(ours.public), parameters)
        # OpenSSL refuses a private value that does not belong to the public one.
        twin = dh.DHPrivateNumbers(exponent, numbers).private_key()
        peer = dh.DHPublicNumbers(public, parameters).public_key()
        assert ours.shared(public.to_bytes(ours.length)) == twin.exchange(peer) == theirs.exchange(numbers.public_key())


@pytest.mark.parametrize("group", list(Group))
def test_values_outside_the_group_are_refused(group: Group) -> None:
    ours = DiffieHellman(group, bytes)
    prime = PRIMES[group]
    for value in (0, 1, prime - 1, prime, 256**ours.length - 1):
        with pytest.raises(MalformedMessage):
            ours.shared(value.to_bytes(ours.length))
    with pytest.raises(MalformedMessage):
        ours.shared((2).to_bytes(ours.length - 1))
