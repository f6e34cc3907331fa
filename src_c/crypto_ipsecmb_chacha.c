/* ipsec-mb: ChaCha20-Poly1305 (RFC 7634). Jobs, although nothing runs in lanes: the direct calls make three
 * passes of what a job does in one, and take half as long again for short packets. */
#ifdef IPC_HAVE_IPSECMB
#    include "crypto_ipsecmb.h"

#    define CHACHA_KEY   32
#    define POLY1305_ICV 16

struct chacha_key {
    struct ipc_mb_key head;
    uint8_t bytes[CHACHA_KEY];
};

static size_t key_size(const struct ipc_crypto_suite *suite) {
    (void)suite;
    return sizeof(struct chacha_key);
}

static void expand(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                   struct ipc_mb_key *head, const uint8_t *encryption_key, const uint8_t *integrity_key) {
    struct chacha_key *key = (struct chacha_key *)head;
    (void)engine, (void)suite, (void)integrity_key;
    memcpy(key->bytes, encryption_key, CHACHA_KEY);
    memcpy(key->head.salt, encryption_key + CHACHA_KEY, IPC_SALT_MAX);
}

static void submit(struct ipc_mb_engine *engine, struct ipc_mb_scratch *scratch, struct ipc_crypto_op *op,
                   IMB_CIPHER_DIRECTION direction, uint8_t *icv, int esn) {
    const struct chacha_key *key = op->key;
    IMB_JOB *job = IMB_GET_NEXT_JOB(engine->manager);
    ipc_nonce(scratch->nonce, key->head.salt, op->iv);
    if (esn) ipc_esn_aad(scratch->aad, op);
    job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
    job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
    job->cipher_direction = direction;
    job->chain_order = direction == IMB_DIR_ENCRYPT ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
    job->enc_keys = job->dec_keys = key->bytes;
    job->key_len_in_bytes = CHACHA_KEY;
    job->src = job->dst = op->text;
    job->cipher_start_src_offset_in_bytes = job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_cipher_in_bytes = job->msg_len_to_hash_in_bytes = op->text_length;
    job->iv = scratch->nonce;
    job->iv_len_in_bytes = IPC_AEAD_NONCE;
    job->u.CHACHA20_POLY1305.aad = esn ? scratch->aad : op->aad;
    job->u.CHACHA20_POLY1305.aad_len_in_bytes = esn ? IPC_ESN_AAD : IPC_ESP_HEADER;
    job->auth_tag_output = icv;
    job->auth_tag_output_len_in_bytes = POLY1305_ICV;
    IMB_SUBMIT_JOB_NOCHECK(engine->manager);
}

static void encrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                    struct ipc_crypto_op *ops, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        submit(engine, &engine->scratch[i], &ops[i], IMB_DIR_ENCRYPT, ops[i].icv, suite->esn);
        ops[i].ok = 1;
    }
    ipc_mb_finish(engine->manager);
}

static void decrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                    struct ipc_crypto_op *ops, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        submit(engine, &engine->scratch[i], &ops[i], IMB_DIR_DECRYPT, engine->scratch[i].icv, suite->esn);
    ipc_mb_finish(engine->manager);
    for (unsigned i = 0; i < count; i++)
        ops[i].ok = (uint8_t)ipc_equal(engine->scratch[i].icv, ops[i].received, POLY1305_ICV);
}

const struct ipc_mb_method ipc_mb_chacha_method = {key_size, expand, encrypt, decrypt};
#else
typedef int ipc_crypto_ipsecmb_chacha_not_built;
#endif
