/* ipsec-mb: ciphers without an ICV and HMAC, as jobs in lanes across the packets of a call. */
#ifdef IPC_HAVE_IPSECMB
#    include "crypto_ipsecmb.h"

#    define AES_BLOCK IMB_AES_BLOCK_SIZE

/* Jobs keep pointers into keys, so all of this lives as long as the key. */
struct lanes_key {
    struct ipc_mb_key head;
    /* The two states of the HMAC, then what expand made of the cipher's key. */
    _Alignas(16) uint8_t bytes[];
};

struct des3_schedule {
    const void *list[3];
    uint64_t rounds[3][IMB_DES_KEY_SCHED_SIZE / 8];
};

/* --- ciphers --- */

#    define AES_SCHEDULE(rounds) (2u * ((rounds) + 1) * AES_BLOCK) /* to encrypt, to decrypt */

static void aes128_expand(IMB_MGR *manager, const uint8_t *bytes, uint8_t *schedule) {
    IMB_AES_KEYEXP_128(manager, bytes, schedule, schedule + AES_SCHEDULE(10) / 2);
}

static void aes192_expand(IMB_MGR *manager, const uint8_t *bytes, uint8_t *schedule) {
    IMB_AES_KEYEXP_192(manager, bytes, schedule, schedule + AES_SCHEDULE(12) / 2);
}

static void aes256_expand(IMB_MGR *manager, const uint8_t *bytes, uint8_t *schedule) {
    IMB_AES_KEYEXP_256(manager, bytes, schedule, schedule + AES_SCHEDULE(14) / 2);
}

static void des_expand(IMB_MGR *manager, const uint8_t *bytes, uint8_t *schedule) {
    IMB_DES_KEYSCHED(manager, (uint64_t *)(void *)schedule, bytes);
}

static void des3_expand(IMB_MGR *manager, const uint8_t *bytes, uint8_t *schedule) {
    struct des3_schedule *des3 = (void *)schedule;
    for (int i = 0; i < 3; i++) {
        IMB_DES_KEYSCHED(manager, des3->rounds[i], bytes + i * IMB_DES_BLOCK_SIZE);
        des3->list[i] = des3->rounds[i];
    }
}

/* chained: bytes of IV that are encrypted as the first block (CBC); 0: the IV is a counter, behind the salt.
 */
static const struct cipher {
    void (*expand)(IMB_MGR *manager, const uint8_t *bytes, uint8_t *schedule);
    IMB_CIPHER_MODE mode;
    uint16_t schedule_length, decrypt_at;
    uint8_t key_length, iv_length, chained;
} ciphers[IPC_ENCRYPTION_COUNT] = {
    [IPC_ENCRYPTION_NULL] = {NULL, IMB_CIPHER_NULL, 0, 0, 0, 0, 0},
    [IPC_ENCRYPTION_DES_CBC] = {des_expand, IMB_CIPHER_DES, IMB_DES_KEY_SCHED_SIZE, 0, 8, 8, 8},
    [IPC_ENCRYPTION_3DES_CBC] = {des3_expand, IMB_CIPHER_DES3, sizeof(struct des3_schedule), 0, 24, 8, 8},
#    define AES(expand, mode, rounds, key, iv, chained)                                                      \
        { expand, mode, AES_SCHEDULE(rounds), AES_SCHEDULE(rounds) / 2, key, iv, chained }
    [IPC_ENCRYPTION_AES128_CBC] = AES(aes128_expand, IMB_CIPHER_CBC, 10, 16, AES_BLOCK, AES_BLOCK),
    [IPC_ENCRYPTION_AES192_CBC] = AES(aes192_expand, IMB_CIPHER_CBC, 12, 24, AES_BLOCK, AES_BLOCK),
    [IPC_ENCRYPTION_AES256_CBC] = AES(aes256_expand, IMB_CIPHER_CBC, 14, 32, AES_BLOCK, AES_BLOCK),
    /* With an IV of 12 bytes the library adds the block counter, from 1 (RFC 3686 4). */
    [IPC_ENCRYPTION_AES128_CTR] = AES(aes128_expand, IMB_CIPHER_CNTR, 10, 16, IPC_AEAD_NONCE, 0),
    [IPC_ENCRYPTION_AES192_CTR] = AES(aes192_expand, IMB_CIPHER_CNTR, 12, 24, IPC_AEAD_NONCE, 0),
    [IPC_ENCRYPTION_AES256_CTR] = AES(aes256_expand, IMB_CIPHER_CNTR, 14, 32, IPC_AEAD_NONCE, 0),
#    undef AES
};

/* --- HMAC --- */

#    define ONE_BLOCK(name, CALL)                                                                            \
        static void name(IMB_MGR *manager, const void *block, void *state) {                                 \
            CALL(manager, block, state);                                                                     \
        }
ONE_BLOCK(md5_block, IMB_MD5_ONE_BLOCK)
ONE_BLOCK(sha1_block, IMB_SHA1_ONE_BLOCK)
ONE_BLOCK(sha256_block, IMB_SHA256_ONE_BLOCK)
ONE_BLOCK(sha384_block, IMB_SHA384_ONE_BLOCK)
ONE_BLOCK(sha512_block, IMB_SHA512_ONE_BLOCK)
#    undef ONE_BLOCK

/* Keys are as long as the digest, so they are never hashed down (RFC 2104 3, RFC 4868 2.1.1). The states are
 * kept a multiple of 16 bytes apart. */
static const struct mac {
    void (*one_block)(IMB_MGR *manager, const void *block, void *state);
    IMB_HASH_ALG algorithm;
    uint8_t block_length, state_length, key_length, icv_length;
} macs[IPC_INTEGRITY_COUNT] = {
    [IPC_INTEGRITY_NONE] = {NULL, IMB_AUTH_NULL, 0, 0, 0, 0},
    [IPC_INTEGRITY_HMAC_MD5_96] = {md5_block, IMB_AUTH_MD5, 64, 16, 16, 12},
    [IPC_INTEGRITY_HMAC_SHA1_96] = {sha1_block, IMB_AUTH_HMAC_SHA_1, 64, 32, 20, 12},
    [IPC_INTEGRITY_HMAC_SHA256_128] = {sha256_block, IMB_AUTH_HMAC_SHA_256, 64, 32, 32, 16},
    [IPC_INTEGRITY_HMAC_SHA384_192] = {sha384_block, IMB_AUTH_HMAC_SHA_384, 128, 64, 48, 24},
    [IPC_INTEGRITY_HMAC_SHA512_256] = {sha512_block, IMB_AUTH_HMAC_SHA_512, 128, 64, 64, 32},
};

/* --- keys --- */

static size_t key_size(const struct ipc_crypto_suite *suite) {
    return sizeof(struct lanes_key) + IPC_HMAC_STATES * (size_t)macs[suite->integrity].state_length +
           ciphers[suite->encryption].schedule_length;
}

static void expand(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                   struct ipc_mb_key *head, const uint8_t *encryption_key, const uint8_t *integrity_key) {
    const struct cipher *cipher = &ciphers[suite->encryption];
    const struct mac *mac = &macs[suite->integrity];
    struct lanes_key *key = (struct lanes_key *)head;
    static const uint8_t pads[IPC_HMAC_STATES] = {0x36, 0x5c};
    for (int i = 0; mac->one_block && i < IPC_HMAC_STATES; i++) {
        uint8_t block[IPC_HASH_BLOCK];
        ipc_hmac_block(block, mac->block_length, integrity_key, mac->key_length, pads[i]);
        mac->one_block(engine->manager, block, key->bytes + i * mac->state_length);
        ipc_wipe(block, sizeof block);
    }
    if (!cipher->expand) return;
    cipher->expand(engine->manager, encryption_key, key->bytes + IPC_HMAC_STATES * mac->state_length);
    memcpy(head->salt, encryption_key + cipher->key_length,
           ipc_encryption_info(suite->encryption)->salt_length);
}

/* --- jobs --- */

static const uint8_t zero_iv[AES_BLOCK];

/* The library keeps jobs in a ring and never clears them: every field that it reads is set for every job. */
static void job_cipher(IMB_JOB *job, const struct cipher *cipher, const uint8_t *schedule,
                       IMB_CIPHER_DIRECTION direction, const uint8_t *iv, uint8_t *text, uint64_t length) {
    job->cipher_mode = cipher->mode;
    job->cipher_direction = direction;
    job->enc_keys = schedule;
    job->dec_keys = schedule + cipher->decrypt_at;
    job->key_len_in_bytes = cipher->key_length;
    job->iv = iv;
    job->iv_len_in_bytes = cipher->iv_length;
    job->cipher_start_src_offset_in_bytes = (uint64_t)(text - job->src);
    job->dst = text;
    job->msg_len_to_cipher_in_bytes = length;
}

static void job_mac(IMB_JOB *job, const struct mac *mac, const struct lanes_key *key,
                    const struct ipc_crypto_op *op, uint8_t *icv, unsigned esn) {
    job->hash_alg = mac->algorithm;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_hash_in_bytes = (uint64_t)(op->text - op->aad) + op->text_length + 4 * esn;
    job->u.HMAC._hashed_auth_key_xor_ipad = key->bytes;
    job->u.HMAC._hashed_auth_key_xor_opad = key->bytes + mac->state_length;
    job->auth_tag_output = icv;
    job->auth_tag_output_len_in_bytes = mac->icv_length;
}

static void job_encrypt(const struct cipher *cipher, const struct mac *mac, IMB_JOB *job,
                        struct ipc_crypto_op *op, struct ipc_mb_scratch *scratch, unsigned esn) {
    const struct lanes_key *key = op->key;
    const uint8_t *schedule = key->bytes + IPC_HMAC_STATES * mac->state_length, *iv = zero_iv;
    job->chain_order = IMB_ORDER_CIPHER_HASH;
    job->src = op->aad;
    if (cipher->iv_length && !cipher->chained) {
        ipc_nonce(scratch->nonce, key->head.salt, op->iv);
        iv = scratch->nonce;
    }
    job_cipher(job, cipher, schedule, IMB_DIR_ENCRYPT, iv, op->text - cipher->chained,
               cipher->chained + (uint64_t)op->text_length);
    if (esn) ipc_store_high(op->text + op->text_length, op->sequence_high);
    job_mac(job, mac, key, op, op->icv, esn);
    op->ok = 1;
}

/* What the library takes in one call for several packets, without a queue between cipher and HMAC. */
static int at_once(const struct cipher *cipher, const struct mac *mac) {
    return cipher->mode == IMB_CIPHER_CBC &&
           (mac->algorithm == IMB_AUTH_HMAC_SHA_1 || mac->algorithm == IMB_AUTH_HMAC_SHA_256 ||
            mac->algorithm == IMB_AUTH_HMAC_SHA_384 || mac->algorithm == IMB_AUTH_HMAC_SHA_512);
}

/* Not in smaller portions: each call drains its lanes, which costs more than what the first cache would save.
 */
static void encrypt_at_once(struct ipc_mb_engine *engine, const struct cipher *cipher, const struct mac *mac,
                            struct ipc_crypto_op *ops, unsigned count, unsigned esn) {
    for (unsigned i = 0; i < count; i++)
        job_encrypt(cipher, mac, &engine->jobs[i], &ops[i], &engine->scratch[i], esn);
    IMB_SUBMIT_CIPHER_BURST_NOCHECK(engine->manager, engine->jobs, count, cipher->mode, IMB_DIR_ENCRYPT,
                                    cipher->key_length);
    IMB_SUBMIT_HASH_BURST_NOCHECK(engine->manager, engine->jobs, count, mac->algorithm);
}

static void encrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                    struct ipc_crypto_op *ops, unsigned count) {
    const struct cipher *cipher = &ciphers[suite->encryption];
    const struct mac *mac = &macs[suite->integrity];
    const unsigned esn = suite->esn && mac->icv_length;
    if (!cipher->expand && !mac->icv_length) {
        for (unsigned i = 0; i < count; i++)
            ops[i].ok = 1;
        return;
    }
    if (at_once(cipher, mac)) {
        encrypt_at_once(engine, cipher, mac, ops, count, esn);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        job_encrypt(cipher, mac, IMB_GET_NEXT_JOB(engine->manager), &ops[i], &engine->scratch[i], esn);
        IMB_SUBMIT_JOB_NOCHECK(engine->manager);
    }
    ipc_mb_finish(engine->manager);
}

static void verify(struct ipc_mb_engine *engine, const struct mac *mac, unsigned esn,
                   struct ipc_crypto_op *ops, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        IMB_JOB *job = IMB_GET_NEXT_JOB(engine->manager);
        job->chain_order = IMB_ORDER_HASH_CIPHER;
        job->src = ops[i].aad;
        job->cipher_mode = IMB_CIPHER_NULL;
        job->cipher_direction = IMB_DIR_DECRYPT;
        if (esn) { /* over the ICV, with ESP: it stands where the high half is hashed */
            uint8_t *behind = ops[i].text + ops[i].text_length;
            memcpy(&engine->scratch[i].behind, behind, 4);
            ipc_store_high(behind, ops[i].sequence_high);
        }
        job_mac(job, mac, ops[i].key, &ops[i], engine->scratch[i].icv, esn);
        IMB_SUBMIT_JOB_NOCHECK(engine->manager);
    }
    ipc_mb_finish(engine->manager);
    for (unsigned i = 0; i < count; i++) {
        if (esn) memcpy(ops[i].text + ops[i].text_length, &engine->scratch[i].behind, 4);
        ops[i].ok = (uint8_t)ipc_equal(engine->scratch[i].icv, ops[i].received, mac->icv_length);
    }
}

static void decrypt(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                    struct ipc_crypto_op *ops, unsigned count) {
    const struct cipher *cipher = &ciphers[suite->encryption];
    const struct mac *mac = &macs[suite->integrity];
    if (mac->icv_length)
        verify(engine, mac, suite->esn, ops, count);
    else
        for (unsigned i = 0; i < count; i++)
            ops[i].ok = 1;
    if (!cipher->expand) return;
    for (unsigned i = 0; i < count; i++) {
        struct ipc_crypto_op *op = &ops[i];
        /* A job without a block to decrypt is not defined by the library. */
        if (!op->ok || !op->text_length) continue;
        const struct lanes_key *key = op->key;
        const uint8_t *schedule = key->bytes + IPC_HMAC_STATES * mac->state_length, *iv = op->iv;
        IMB_JOB *job = IMB_GET_NEXT_JOB(engine->manager);
        job->chain_order = IMB_ORDER_HASH_CIPHER;
        job->src = op->aad;
        job->hash_alg = IMB_AUTH_NULL;
        if (!cipher->chained) {
            ipc_nonce(engine->scratch[i].nonce, key->head.salt, op->iv);
            iv = engine->scratch[i].nonce;
        }
        job_cipher(job, cipher, schedule, IMB_DIR_DECRYPT, iv, op->text, op->text_length);
        IMB_SUBMIT_JOB_NOCHECK(engine->manager);
    }
    ipc_mb_finish(engine->manager);
}

const struct ipc_mb_method ipc_mb_lanes_method = {key_size, expand, encrypt, decrypt};
#else
typedef int ipc_crypto_ipsecmb_lanes_not_built;
#endif
