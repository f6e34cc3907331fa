/* AES-GCM for ESP on VAES, VPCLMULQDQ and AVX-512: what the back end and its kernels share; private to src_c.
 */
#ifndef IPSEC_CORE_CRYPTO_VAES_H
#define IPSEC_CORE_CRYPTO_VAES_H

#include "ipsec_core/crypto.h"

#ifdef __x86_64__
#    define IPC_HAVE_VAES

#    define IPC_VAES_LANES  4                       /* vectors that the kernels work on at a time */
#    define IPC_VAES_SPAN   24                      /* vectors that one reduction serves: 1536 bytes */
#    define IPC_VAES_POWERS (4 * IPC_VAES_SPAN + 1) /* of H; one more for the block of lengths */
#    define IPC_VAES_ROUNDS 14

struct ipc_vaes_key {
    /* H^IPC_VAES_POWERS .. H^1 in the form that multiply() wants; then zeros, where the vectors of powers may
     * end. */
    _Alignas(64) uint8_t power[IPC_VAES_POWERS + 3][16];
    /* Every round key four times, since that is how they are used; the first with the salt mixed in. */
    uint8_t round[IPC_VAES_ROUNDS + 1][64];
};

/* What a suite comes down to. */
struct ipc_vaes_shape {
    uint8_t rounds, icv_length, esn;
};

/* ESP header and IV, which are 16 bytes, and text, in vectors of 64 bytes. */
static inline unsigned ipc_vaes_vectors(uint32_t text_length) {
    return (16 + text_length + 63) / 64;
}

/* key: key_length bytes (16, 24, 32), then 4 bytes of salt. */
void ipc_vaes_expand(struct ipc_vaes_key *out, const uint8_t *key, unsigned key_length);

/* Either one packet of any length, or IPC_VAES_LANES packets of the same number of vectors, at most
 * IPC_VAES_SPAN. */
void ipc_vaes_encrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops, unsigned count);
void ipc_vaes_decrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops, unsigned count);

extern const struct ipc_crypto_backend ipc_crypto_vaes;
#endif

#endif
