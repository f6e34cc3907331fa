/* OpenSSL: HMAC from saved states, AES-GMAC. */
#ifdef IPC_HAVE_OPENSSL
#    include "crypto_openssl.h"

/* --- none --- */

static int none_expand(struct ipc_ossl_key *key, const struct ipc_ossl_hash *hash, const EVP_CIPHER *fetched,
                       const uint8_t *bytes) {
    (void)key, (void)hash, (void)fetched, (void)bytes;
    return 1;
}

static void nothing_to_release(struct ipc_ossl_key *key) {
    (void)key;
}

static int none_compute(struct ipc_ossl_engine *engine, const struct ipc_ossl_hash *hash,
                        const struct ipc_crypto_suite *suite, const struct ipc_crypto_op *op,
                        uint8_t *digest) {
    (void)engine, (void)hash, (void)suite, (void)op, (void)digest;
    return 1;
}

/* --- HMAC (RFC 2403, 2404, 4868) --- */

struct ipc_ossl_hash {
    void (*init)(union ipc_ossl_hash_state *state);
    void (*update)(union ipc_ossl_hash_state *state, const void *bytes, size_t length);
    void (*final)(union ipc_ossl_hash_state *state, uint8_t *digest);
    size_t state_length, block_length, digest_length;
};

#    define HASH(name, member, PREFIX, block, digest)                                                        \
        static void name##_init(union ipc_ossl_hash_state *state) {                                          \
            PREFIX##_Init(&state->member);                                                                   \
        }                                                                                                    \
        static void name##_update(union ipc_ossl_hash_state *state, const void *bytes, size_t length) {      \
            PREFIX##_Update(&state->member, bytes, length);                                                  \
        }                                                                                                    \
        static void name##_final(union ipc_ossl_hash_state *state, uint8_t *out) {                           \
            PREFIX##_Final(out, &state->member);                                                             \
        }                                                                                                    \
        static const struct ipc_ossl_hash name = {                                                           \
            name##_init, name##_update, name##_final, sizeof(((union ipc_ossl_hash_state *)0)->member),      \
            block,       digest};
HASH(md5, md5, MD5, MD5_CBLOCK, MD5_DIGEST_LENGTH)
HASH(sha1, sha1, SHA1, SHA_CBLOCK, SHA_DIGEST_LENGTH)
HASH(sha256, sha256, SHA256, SHA256_CBLOCK, SHA256_DIGEST_LENGTH)
HASH(sha384, sha512, SHA384, SHA512_CBLOCK, SHA384_DIGEST_LENGTH)
HASH(sha512, sha512, SHA512, SHA512_CBLOCK, SHA512_DIGEST_LENGTH)
#    undef HASH

/* Keys are as long as the digest, so they are never hashed down (RFC 2104 3). */
static int hmac_expand(struct ipc_ossl_key *key, const struct ipc_ossl_hash *hash, const EVP_CIPHER *fetched,
                       const uint8_t *bytes) {
    static const uint8_t pads[IPC_HMAC_STATES] = {0x36, 0x5c};
    (void)fetched;
    for (int i = 0; i < IPC_HMAC_STATES; i++) {
        union ipc_ossl_hash_state state;
        uint8_t block[IPC_HASH_BLOCK];
        ipc_hmac_block(block, hash->block_length, bytes, hash->digest_length, pads[i]);
        hash->init(&state);
        hash->update(&state, block, hash->block_length);
        memcpy(key->bytes + key->mac_at + i * hash->state_length, &state, hash->state_length);
        ipc_wipe(block, sizeof block);
        ipc_wipe(&state, sizeof state);
    }
    return 1;
}

static int hmac_compute(struct ipc_ossl_engine *engine, const struct ipc_ossl_hash *hash,
                        const struct ipc_crypto_suite *suite, const struct ipc_crypto_op *op,
                        uint8_t *digest) {
    const struct ipc_ossl_key *key = op->key;
    const uint8_t *states = key->bytes + key->mac_at;
    memcpy(&engine->scratch, states, hash->state_length);
    hash->update(&engine->scratch, op->aad, (size_t)(op->text - op->aad) + op->text_length);
    if (suite->esn) {
        uint8_t high[4];
        ipc_store_high(high, op->sequence_high);
        hash->update(&engine->scratch, high, sizeof high);
    }
    hash->final(&engine->scratch, digest);
    memcpy(&engine->scratch, states + hash->state_length, hash->state_length);
    hash->update(&engine->scratch, digest, hash->digest_length);
    hash->final(&engine->scratch, digest);
    return 1;
}

/* --- AES-GMAC (RFC 4543): AES-GCM of no text --- */

static EVP_CIPHER_CTX **context(const struct ipc_ossl_key *key) {
    return (EVP_CIPHER_CTX **)(void *)(key->bytes + key->mac_at);
}

static int gmac_expand(struct ipc_ossl_key *key, const struct ipc_ossl_hash *hash, const EVP_CIPHER *fetched,
                       const uint8_t *bytes) {
    (void)hash;
    memcpy(key->salt, bytes + EVP_CIPHER_get_key_length(fetched), IPC_SALT_MAX);
    *context(key) = EVP_CIPHER_CTX_new();
    return *context(key) && EVP_EncryptInit_ex(*context(key), fetched, NULL, bytes, NULL);
}

static void gmac_release(struct ipc_ossl_key *key) {
    EVP_CIPHER_CTX_free(*context(key));
}

static int gmac_compute(struct ipc_ossl_engine *engine, const struct ipc_ossl_hash *hash,
                        const struct ipc_crypto_suite *suite, const struct ipc_crypto_op *op,
                        uint8_t *digest) {
    const struct ipc_ossl_key *key = op->key;
    EVP_CIPHER_CTX *gcm = *context(key);
    uint8_t nonce[IPC_AEAD_NONCE], extra[IPC_ESN_AAD];
    const uint8_t *from = op->aad;
    int length;
    (void)engine, (void)hash;
    ipc_nonce(nonce, key->salt, op->iv);
    int good = EVP_EncryptInit_ex(gcm, NULL, NULL, NULL, nonce);
    if (suite->esn && !suite->ah) {
        ipc_esn_aad(extra, op);
        good = good && EVP_EncryptUpdate(gcm, NULL, &length, extra, IPC_ESN_AAD);
        from += IPC_ESP_HEADER;
    }
    good = good && EVP_EncryptUpdate(gcm, NULL, &length, from, (int)(op->text - from) + (int)op->text_length);
    if (suite->esn && suite->ah) {
        ipc_store_high(extra, op->sequence_high);
        good = good && EVP_EncryptUpdate(gcm, NULL, &length, extra, 4);
    }
    return good && EVP_EncryptFinal_ex(gcm, extra, &length) &&
           EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, ipc_integrity_info(suite->integrity)->icv_length,
                               digest);
}

#    define HMAC(hash, member)                                                                               \
        {                                                                                                    \
            hmac_expand, nothing_to_release, hmac_compute, &hash, IPC_OSSL_NOTHING,                          \
                IPC_HMAC_STATES * sizeof(((union ipc_ossl_hash_state *)0)->member)                           \
        }
#    define GMAC(fetch)                                                                                      \
        { gmac_expand, gmac_release, gmac_compute, NULL, IPC_OSSL_##fetch, sizeof(EVP_CIPHER_CTX *) }

const struct ipc_ossl_mac ipc_ossl_macs[IPC_INTEGRITY_COUNT] = {
    [IPC_INTEGRITY_NONE] = {none_expand, nothing_to_release, none_compute, NULL, IPC_OSSL_NOTHING, 0},
    [IPC_INTEGRITY_HMAC_MD5_96] = HMAC(md5, md5),
    [IPC_INTEGRITY_HMAC_SHA1_96] = HMAC(sha1, sha1),
    [IPC_INTEGRITY_HMAC_SHA256_128] = HMAC(sha256, sha256),
    [IPC_INTEGRITY_HMAC_SHA384_192] = HMAC(sha384, sha512),
    [IPC_INTEGRITY_HMAC_SHA512_256] = HMAC(sha512, sha512),
    [IPC_INTEGRITY_AES128_GMAC] = GMAC(AES128_GCM),
    [IPC_INTEGRITY_AES192_GMAC] = GMAC(AES192_GCM),
    [IPC_INTEGRITY_AES256_GMAC] = GMAC(AES256_GCM),
};
#else
typedef int ipc_crypto_openssl_macs_not_built;
#endif
