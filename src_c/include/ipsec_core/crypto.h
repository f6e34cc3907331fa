/*
 * Crypto back ends behind one table of functions. A back end is chosen per SA when the SA is made, from what
 * the build has and the CPU can do; packets reach it in bursts of operations that share one suite (encryption
 * + integrity).
 */
#ifndef IPSEC_CORE_CRYPTO_H
#define IPSEC_CORE_CRYPTO_H

#include "ipsec_core/algorithm.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One packet. Layout in memory: aad (ESP header: SPI, sequence number), iv, text, icv, contiguous as on the
 * wire. Outbound CBC: `iv` holds a value that nobody can predict and nobody needs to know; it is encrypted as
 * a block of its own with a zero IV, and what comes out is the IV on the wire, so that wire IVs cannot be
 * predicted (RFC 2451 3, SP 800-38A appendix C). Outbound GCM: `iv` is the explicit 8-byte counter (RFC
 * 4106 3.1).
 */
struct ipc_crypto_op {
    const void *key; /* made by key_create of the same back end and suite */
    uint8_t *aad;    /* 8 bytes */
    uint8_t *iv;
    uint8_t *text;
    uint8_t *icv;
    uint32_t text_length; /* a multiple of the cipher's block */
    uint8_t ok;           /* out: 1, or 0 when the ICV is wrong (the text is then not to be used) */
};

struct ipc_crypto_backend {
    const char *name;
    /* Version of the library and what the CPU gives it, e.g. "1.3.0 (AVX512)". */
    const char *(*version)(void);
    /* 0: cannot; otherwise the higher the faster, comparable between back ends. */
    int (*rank)(enum ipc_encryption encryption, enum ipc_integrity integrity);
    /* Scratch state of one driver (one thread at a time). NULL on failure. */
    void *(*engine_create)(void);
    void (*engine_destroy)(void *engine);
    /* Keys of the lengths that algorithm.h declares (GCM: key and salt); copied, expanded; key_destroy wipes.
     * NULL on failure. */
    void *(*key_create)(void *engine, enum ipc_encryption encryption, enum ipc_integrity integrity,
                        const uint8_t *encryption_key, const uint8_t *integrity_key);
    void (*key_destroy)(void *key);
    /* Operations of one suite, any number of different keys. decrypt verifies before it decrypts where the
     * suite allows it. */
    void (*encrypt)(void *engine, enum ipc_encryption encryption, enum ipc_integrity integrity,
                    struct ipc_crypto_op *ops, unsigned count);
    void (*decrypt)(void *engine, enum ipc_encryption encryption, enum ipc_integrity integrity,
                    struct ipc_crypto_op *ops, unsigned count);
};

/* Back ends of this build, best known first; NULL after the last. */
const struct ipc_crypto_backend *ipc_crypto_backend(unsigned index);
/* The best one for a suite, or the one with that name if it can; NULL when there is none. */
const struct ipc_crypto_backend *ipc_crypto_choose(enum ipc_encryption encryption,
                                                   enum ipc_integrity integrity, const char *name);

/* Constant time in the contents: 1 when equal. */
int ipc_equal(const uint8_t *a, const uint8_t *b, size_t length);
/* A store that the compiler may not leave out. */
void ipc_wipe(void *memory, size_t length);

#ifdef __cplusplus
}
#endif
#endif
