/* AES-GCM for ESP on VAES, VPCLMULQDQ and AVX-512; private to src_c. */
#ifndef IPSEC_CORE_CRYPTO_VAES_H
#define IPSEC_CORE_CRYPTO_VAES_H

#include "ipsec_core/crypto.h"

#ifdef __x86_64__
#    define IPC_HAVE_VAES
#    define IPC_VAES_TARGET                                                                                  \
        __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,bmi2")))

#    define IPC_VAES_ROUNDS_MAX 14
#    define IPC_VAES_TOGETHER   4 /* packets side by side */
#    define IPC_VAES_SPAN       24 /* vectors of 4 blocks that one reduction serves */
#    define IPC_VAES_POWERS     (4 * IPC_VAES_SPAN + 1) /* one more for the block of lengths */

struct ipc_vaes_key {
    /* H^IPC_VAES_POWERS .. H^1 in the form that multiply() wants. */
    _Alignas(16) uint8_t power[IPC_VAES_POWERS][16];
    /* In round[0] the salt is mixed in already. Must follow power: vectors of powers end in here. */
    _Alignas(64) uint8_t round[IPC_VAES_ROUNDS_MAX + 1][64];
};

/* What a suite comes down to. */
struct ipc_vaes_shape {
    uint8_t rounds, icv_length, esn;
};

/* key: key_length bytes (16, 24, 32), then 4 bytes of salt. */
void ipc_vaes_expand(struct ipc_vaes_key *out, const uint8_t *key, unsigned key_length);

/* `count` packets, 1 or IPC_VAES_TOGETHER, whose texts take the same number of vectors
 * (ipc_vaes_vectors). */
void ipc_vaes_encrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops, unsigned count);
void ipc_vaes_decrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops, unsigned count);

/* Vectors of 64 bytes for the AAD's block and the text. */
static inline unsigned ipc_vaes_vectors(uint32_t text_length) {
    return (16 + text_length + 63) / 64;
}

extern const struct ipc_crypto_backend ipc_crypto_vaes;
#endif

#endif
