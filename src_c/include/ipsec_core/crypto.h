/*
 * Crypto back ends behind one table of functions. A back end is chosen per SA when the SA is made, from what
 * the build has and the CPU can do; packets reach it in bursts of operations that share one suite.
 */
#ifndef IPSEC_CORE_CRYPTO_H
#define IPSEC_CORE_CRYPTO_H

#include "ipsec_core/algorithm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What all operations of one call have in common. */
struct ipc_crypto_suite {
    uint8_t encryption, integrity; /* enums of algorithm.h */
    uint8_t esn; /* 1: the ICV covers the high half of the sequence number (RFC 4303 2.2.1) */
    uint8_t ah;  /* 1: AH (encryption NULL): nothing but the ICV is computed */
};

/*
 * One packet.
 *
 * ESP: aad (SPI, sequence number), iv, text, icv lie side by side as on the wire. Encryption writes the
 * ciphertext over the text, and the ICV.
 *   CBC: `iv` comes in as a number that never repeats under the key. It is encrypted as a block of its own
 * with a zero IV, and what comes out is the IV on the wire, so that nobody can predict it (SP 800-38A
 * appendix C). CTR, GCM, ChaCha20-Poly1305, GMAC: `iv` is the explicit IV, a counter (RFC 3686 3.1, 4106 3.1,
 * 7634 2, 4543 3.1), used and sent as it is. HMAC: over aad .. end of text, then `sequence_high` with ESN
 * (RFC 4303 2.2.1). Combined modes: the associated data is SPI, [sequence_high,] sequence number; GMAC with
 * ESP NULL: the same, then IV and text (RFC 4543 3.2). AH: the ICV is over aad .. end of text, then
 * `sequence_high` with ESN (RFC 4302 2.5.1); the caller has zeroed what does not count: mutable fields and
 * the ICV itself. `icv` lies inside that range; `iv` (GMAC) too, 8 bytes that count as they are; GMAC takes
 * the whole range as associated data (RFC 4543 3.3).
 *
 * Behind text and ICV there is room for 4 more bytes, which the operation may write (sequence_high).
 */
struct ipc_crypto_op {
    const void *key; /* made by key_create of the same back end and suite */
    uint8_t *aad;
    uint8_t *iv;
    uint8_t *text;
    uint8_t *icv;            /* out: where the ICV is written; in: with ESP, the ICV received */
    const uint8_t *received; /* in: the ICV to compare with; equal to `icv` with ESP */
    uint32_t text_length;    /* a multiple of the cipher's block */
    uint32_t sequence_high;  /* host byte order; 0 without ESN */
    uint8_t ok;              /* out: 1, or 0 when the ICV is wrong (the text is then not to be used) */
    uint8_t nic_status;      /* in, with an SA on a NIC: enum ipc_nic_status; back ends leave it alone */
};

struct ipc_crypto_backend {
    const char *name;
    /* Version of the library and what the CPU gives it, e.g. "1.3.0 (AVX512)". */
    const char *(*version)(void);
    /* 0: cannot; otherwise the higher the faster, comparable between back ends. */
    int (*rank)(const struct ipc_crypto_suite *suite);
    /* Scratch state of one driver (one thread at a time). NULL on failure. */
    void *(*engine_create)(void);
    void (*engine_destroy)(void *engine);
    /* Keys of the lengths that algorithm.h declares (key, then salt); copied, expanded; key_destroy wipes.
     * NULL on failure. */
    void *(*key_create)(void *engine, const struct ipc_crypto_suite *suite, const uint8_t *encryption_key,
                        const uint8_t *integrity_key);
    void (*key_destroy)(void *key);
    /* Bytes that one key of this suite takes; what OpenSSL keeps behind its EVP contexts comes on top. 0 for
     * a suite that is not valid. */
    size_t (*key_size)(const struct ipc_crypto_suite *suite);
    /* Operations of one suite, any number of different keys. decrypt verifies before it decrypts where the
     * suite allows it; a wrong ICV leaves the rest of the burst untouched. */
    void (*encrypt)(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count);
    void (*decrypt)(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count);
};

/*
 * 1 when the algorithms go together: ESP with a combined mode alone, or with any other cipher (NULL is one)
 * and an HMAC or none; GMAC with ESP NULL or AH; AH with an integrity and encryption NULL. ESP without
 * integrity, even NULL alone, is a suite, too: whether it may be used is the driver's question.
 */
int ipc_crypto_suite_valid(const struct ipc_crypto_suite *suite);

/* Back ends of this build, best known first; NULL after the last. */
const struct ipc_crypto_backend *ipc_crypto_backend(unsigned index);
/* The best one for a suite, or the one with that name if it can; NULL when there is none. */
const struct ipc_crypto_backend *ipc_crypto_choose(const struct ipc_crypto_suite *suite, const char *name);

/* Constant time in the contents: 1 when equal. */
int ipc_equal(const uint8_t *a, const uint8_t *b, size_t length);
/* A store that the compiler may not leave out. */
void ipc_wipe(void *memory, size_t length);

#ifdef __cplusplus
}
#endif
#endif
