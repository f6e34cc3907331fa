/* ipsec-mb: AES-GCM (RFC 4106) and AES-GMAC (RFC 4543), direct calls, one packet at a time. */
#ifdef IPC_HAVE_IPSECMB
#    include "crypto_ipsecmb.h"

#    define GMAC_ICV 16

struct gcm_key {
    struct ipc_mb_key head;
    struct gcm_key_data data;
};

static size_t key_size(const struct ipc_crypto_suite *suite) {
    (void)suite;
    return sizeof(struct gcm_key);
}

/* Which of engine->gcm, from the length of an AES key and its salt. */
static unsigned variant(unsigned key_and_salt) {
    return (key_and_salt - IPC_SALT_MAX - IMB_KEY_128_BYTES) / 8;
}

static void expand(const struct ipc_mb_engine *engine, struct ipc_mb_key *head, const uint8_t *bytes,
                   unsigned key_and_salt) {
    struct gcm_key *key = (struct gcm_key *)head;
    engine->gcm[variant(key_and_salt)].expand(bytes, &key->data);
    memcpy(key->head.salt, bytes + key_and_salt - IPC_SALT_MAX, IPC_SALT_MAX);
}

/* --- AES-GCM --- */

static void gcm_expand(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                       struct ipc_mb_key *key, const uint8_t *encryption_key, const uint8_t *integrity_key) {
    (void)integrity_key;
    expand(engine, key, encryption_key, ipc_encryption_info(suite->encryption)->key_length);
}

static inline void gcm(struct gcm_context_data *context, aes_gcm_enc_dec_t crypt, struct ipc_crypto_op *op,
                       uint8_t *icv, unsigned icv_length, int esn) {
    const struct gcm_key *key = op->key;
    uint8_t nonce[IPC_AEAD_NONCE], aad[IPC_ESN_AAD];
    ipc_nonce(nonce, key->head.salt, op->iv);
    if (esn) ipc_esn_aad(aad, op);
    crypt(&key->data, context, op->text, op->text, op->text_length, nonce, esn ? aad : op->aad,
          esn ? IPC_ESN_AAD : IPC_ESP_HEADER, icv, icv_length);
}

static inline void gcm_seal(struct ipc_mb_engine *engine, aes_gcm_enc_dec_t crypt, struct ipc_crypto_op *op,
                            unsigned icv_length, int esn) {
    gcm(&engine->context, crypt, op, op->icv, icv_length, esn);
    op->ok = 1;
}

static inline void gcm_open(struct ipc_mb_engine *engine, aes_gcm_enc_dec_t crypt, struct ipc_crypto_op *op,
                            unsigned icv_length, int esn) {
    uint8_t icv[IMB_MAX_TAG_LEN];
    gcm(&engine->context, crypt, op, icv, icv_length, esn);
    op->ok = (uint8_t)ipc_equal(icv, op->received, icv_length);
}

static void gcm_encrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                        struct ipc_crypto_op *ops, unsigned count) {
    const struct ipc_encryption_info *info = ipc_encryption_info(suite->encryption);
    aes_gcm_enc_dec_t crypt = engine->gcm[variant(info->key_length)].encrypt;
    struct ipc_crypto_op *end = ops + count;
    if (suite->esn)
        for (struct ipc_crypto_op *op = ops; op < end; op++)
            gcm_seal(engine, crypt, op, info->icv_length, 1);
    else
        for (struct ipc_crypto_op *op = ops; op < end; op++)
            gcm_seal(engine, crypt, op, info->icv_length, 0);
}

static void gcm_decrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                        struct ipc_crypto_op *ops, unsigned count) {
    const struct ipc_encryption_info *info = ipc_encryption_info(suite->encryption);
    aes_gcm_enc_dec_t crypt = engine->gcm[variant(info->key_length)].decrypt;
    struct ipc_crypto_op *end = ops + count;
    if (suite->esn)
        for (struct ipc_crypto_op *op = ops; op < end; op++)
            gcm_open(engine, crypt, op, info->icv_length, 1);
    else
        for (struct ipc_crypto_op *op = ops; op < end; op++)
            gcm_open(engine, crypt, op, info->icv_length, 0);
}

const struct ipc_mb_method ipc_mb_gcm_method = {key_size, gcm_expand, gcm_encrypt, gcm_decrypt};

/* --- AES-GMAC --- */

static void gmac_expand(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                        struct ipc_mb_key *key, const uint8_t *encryption_key, const uint8_t *integrity_key) {
    (void)encryption_key;
    expand(engine, key, integrity_key, ipc_integrity_info(suite->integrity)->key_length);
}

/* The whole tag: icv may lie in what is authenticated. */
static void gmac(struct ipc_mb_engine *engine, const struct ipc_mb_gcm *calls,
                 const struct ipc_crypto_suite *suite, const struct ipc_crypto_op *op, uint8_t *icv) {
    const struct gcm_key *key = op->key;
    const uint8_t *from = op->aad;
    uint8_t nonce[IPC_AEAD_NONCE], extra[IPC_ESN_AAD];
    ipc_nonce(nonce, key->head.salt, op->iv);
    calls->init(&key->data, &engine->context, nonce, sizeof nonce);
    if (suite->esn && !suite->ah) {
        ipc_esn_aad(extra, op);
        calls->update(&key->data, &engine->context, extra, IPC_ESN_AAD);
        from += IPC_ESP_HEADER;
    }
    calls->update(&key->data, &engine->context, from, (uint64_t)(op->text - from) + op->text_length);
    if (suite->esn && suite->ah) {
        ipc_store_high(extra, op->sequence_high);
        calls->update(&key->data, &engine->context, extra, 4);
    }
    calls->finalize(&key->data, &engine->context, icv, GMAC_ICV);
}

static void gmac_encrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                         struct ipc_crypto_op *ops, unsigned count) {
    const struct ipc_mb_gcm *calls = &engine->gcm[variant(ipc_integrity_info(suite->integrity)->key_length)];
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        gmac(engine, calls, suite, op, op->icv);
        op->ok = 1;
    }
}

static void gmac_decrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                         struct ipc_crypto_op *ops, unsigned count) {
    const struct ipc_mb_gcm *calls = &engine->gcm[variant(ipc_integrity_info(suite->integrity)->key_length)];
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        uint8_t icv[GMAC_ICV];
        gmac(engine, calls, suite, op, icv);
        op->ok = (uint8_t)ipc_equal(icv, op->received, GMAC_ICV);
    }
}

const struct ipc_mb_method ipc_mb_gmac_method = {key_size, gmac_expand, gmac_encrypt, gmac_decrypt};
#else
typedef int ipc_crypto_ipsecmb_gcm_not_built;
#endif
