/* What the crypto back ends share; private to src_c. */
#ifndef IPSEC_CORE_CRYPTO_BACKENDS_H
#define IPSEC_CORE_CRYPTO_BACKENDS_H

#include "ipsec_core/crypto.h"

#include <string.h>

#define IPC_ESP_HEADER  8  /* SPI and sequence number: authenticated, not encrypted (RFC 2406 2) */
#define IPC_ESN_AAD     12 /* SPI, high and low half of the sequence number (RFC 4106 5) */
#define IPC_SALT_MAX    4
#define IPC_AEAD_NONCE  12 /* salt, explicit IV (RFC 4106 4, RFC 7634 2) */
#define IPC_EXPLICIT_IV 8
#define IPC_HMAC_STATES 2 /* after the block of key xor ipad, after that of key xor opad (RFC 2104 4) */
#define IPC_DIGEST_MAX  64
#define IPC_HASH_BLOCK  128 /* the longest */

extern const struct ipc_crypto_backend ipc_crypto_ipsecmb;
extern const struct ipc_crypto_backend ipc_crypto_openssl;

static inline void ipc_store_high(uint8_t *to, uint32_t sequence_high) {
    uint8_t bytes[4] = {(uint8_t)(sequence_high >> 24), (uint8_t)(sequence_high >> 16),
                        (uint8_t)(sequence_high >> 8), (uint8_t)sequence_high};
    memcpy(to, bytes, sizeof bytes);
}

/* SPI, sequence_high, sequence number: the associated data of combined modes with ESN. */
static inline void ipc_esn_aad(uint8_t aad[IPC_ESN_AAD], const struct ipc_crypto_op *op) {
    memcpy(aad, op->aad, 4);
    ipc_store_high(aad + 4, op->sequence_high);
    memcpy(aad + 8, op->aad + 4, 4);
}

static inline void ipc_nonce(uint8_t nonce[IPC_AEAD_NONCE], const uint8_t salt[IPC_SALT_MAX],
                             const uint8_t *iv) {
    memcpy(nonce, salt, IPC_SALT_MAX);
    memcpy(nonce + IPC_SALT_MAX, iv, IPC_EXPLICIT_IV);
}

/* The block that an HMAC begins with: key xor pad, then pad (RFC 2104 2). */
static inline void ipc_hmac_block(uint8_t *block, size_t block_length, const uint8_t *key, size_t key_length,
                                  uint8_t pad) {
    memset(block, pad, block_length);
    for (size_t i = 0; i < key_length; i++)
        block[i] ^= key[i];
}

#endif
