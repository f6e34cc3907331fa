"""Powers modulo the primes of Diffie-Hellman, by libcrypto. `groups.py` does without where the build had none."""

cdef extern from "openssl/bn.h" nogil:
    ctypedef struct BIGNUM:
        pass
    ctypedef struct BN_CTX:
        pass
    ctypedef struct BN_MONT_CTX:
        pass
    int BN_FLG_CONSTTIME
    BIGNUM *BN_new()
    void BN_free(BIGNUM *)
    void BN_clear_free(BIGNUM *)
    BIGNUM *BN_bin2bn(const unsigned char *, int, BIGNUM *)
    int BN_bn2binpad(const BIGNUM *, unsigned char *, int)
    int BN_is_odd(const BIGNUM *)
    int BN_ucmp(const BIGNUM *, const BIGNUM *)
    void BN_set_flags(BIGNUM *, int)
    BN_CTX *BN_CTX_secure_new()
    void BN_CTX_free(BN_CTX *)
    BN_MONT_CTX *BN_MONT_CTX_new()
    int BN_MONT_CTX_set(BN_MONT_CTX *, const BIGNUM *, BN_CTX *)
    void BN_MONT_CTX_free(BN_MONT_CTX *)
    int BN_mod_exp_mont_consttime(BIGNUM *, const BIGNUM *, const BIGNUM *, const BIGNUM *, BN_CTX *, BN_MONT_CTX *)

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize


cdef class Modulus:
    """An odd modulus with its Montgomery form, made once; many threads may use it, for nothing of it changes."""

    cdef BIGNUM *n
    cdef BN_MONT_CTX *form
    cdef readonly int length

    def __cinit__(self, bytes modulus not None):
        cdef BN_CTX *scratch = BN_CTX_secure_new()
        cdef bint done = False
        self.length = <int>len(modulus)
        self.n = BN_bin2bn(modulus, self.length, NULL)
        self.form = BN_MONT_CTX_new()
        if scratch != NULL and self.n != NULL and self.form != NULL:
            if not BN_is_odd(self.n):
                BN_CTX_free(scratch)
                raise ValueError("modulus: even, Montgomery's form needs an odd one")
            done = BN_MONT_CTX_set(self.form, self.n, scratch)
        BN_CTX_free(scratch)
        if not done:
            raise MemoryError

    def __dealloc__(self):
        BN_free(self.n)
        BN_MONT_CTX_free(self.form)

    def power(self, bytes base not None, bytes exponent not None):
        """base^exponent, big endian, as long as the modulus; in a time that tells nothing of `exponent` but its length.

        ValueError when `base` is not below the modulus.
        """
        cdef bytes result = PyBytes_FromStringAndSize(NULL, self.length)
        cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(result)
        cdef const unsigned char *base_bytes = base
        cdef const unsigned char *exponent_bytes = exponent
        cdef int base_length = <int>len(base), exponent_length = <int>len(exponent)
        cdef BIGNUM *b
        cdef BIGNUM *e
        cdef BIGNUM *r
        cdef BN_CTX *scratch
        cdef bint below = False, done = False
        with nogil:
            b = BN_bin2bn(base_bytes, base_length, NULL)
            e = BN_bin2bn(exponent_bytes, exponent_length, NULL)
            r = BN_new()
            scratch = BN_CTX_secure_new()
            if b != NULL and e != NULL and r != NULL and scratch != NULL:
                below = BN_ucmp(b, self.n) < 0
                BN_set_flags(e, BN_FLG_CONSTTIME)
                done = (
                    below
                    and BN_mod_exp_mont_consttime(r, b, e, self.n, scratch, self.form)
                    and BN_bn2binpad(r, out, self.length) == self.length
                )
            BN_CTX_free(scratch)
            BN_free(b)
            BN_clear_free(e)
            BN_clear_free(r)
        if not done:
            raise MemoryError if below else ValueError("base: not below the modulus")
        return result
