/* intel-ipsec-mb: AES-GCM packet by packet on the vector units; 3DES and HMAC in lanes across the packets of
 * a burst. */
#ifdef IPC_HAVE_IPSECMB
#    include "crypto_backends.h"

#    define NO_COMPAT_IMB_API_053 /* the old names clash with other libraries' */
#    include <intel-ipsec-mb.h>
#    include <stdlib.h>
#    include <string.h>

#    define CACHE_LINE 64
#    define GCM_SALT   4
#    define GCM_IV     12
#    define GCM_ICV    16
#    define TOGETHER   128 /* packets verified before the first of them is decrypted */
#    define ICV_MAX    32

struct engine {
    IMB_MGR *manager;
    struct gcm_context_data gcm;
    uint8_t icv[TOGETHER][ICV_MAX];
};

struct key {
    union {
        struct {
            _Alignas(CACHE_LINE) struct gcm_key_data data;
            uint8_t salt[GCM_SALT];
        } gcm;
        struct {
            const void *schedule[3]; /* jobs keep a pointer to this array, so it lives as long as the key */
            uint64_t rounds[3][IMB_DES_KEY_SCHED_SIZE / 8];
        } des;
    } cipher;
    struct {
        uint8_t inner[IMB_SHA1_DIGEST_SIZE_IN_BYTES], outer[IMB_SHA1_DIGEST_SIZE_IN_BYTES]; /* RFC 2104 4 */
    } mac;
};

/* --- AES-GCM (RFC 4106): one call a packet --- */

static void gcm_expand(struct key *key, IMB_MGR *manager, const uint8_t *bytes) {
    IMB_AES128_GCM_PRE(manager, bytes, &key->cipher.gcm.data);
    memcpy(key->cipher.gcm.salt, bytes + IMB_KEY_128_BYTES, GCM_SALT);
}

static void gcm(struct engine *engine, aes_gcm_enc_dec_t crypt, struct ipc_crypto_op *op, uint8_t *icv) {
    const struct key *key = op->key;
    uint8_t iv[GCM_IV];
    memcpy(iv, key->cipher.gcm.salt, GCM_SALT);
    memcpy(iv + GCM_SALT, op->iv, GCM_IV - GCM_SALT);
    crypt(&key->cipher.gcm.data, &engine->gcm, op->text, op->text, op->text_length, iv, op->aad,
          IPC_ESP_HEADER, icv, GCM_ICV);
}

static void gcm_encrypt(struct engine *engine, aes_gcm_enc_dec_t crypt, struct ipc_crypto_op *ops,
                        unsigned count) {
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        gcm(engine, crypt, op, op->icv);
        op->ok = 1;
    }
}

static void gcm_decrypt(struct engine *engine, aes_gcm_enc_dec_t crypt, struct ipc_crypto_op *ops,
                        unsigned count) {
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        uint8_t icv[GCM_ICV];
        gcm(engine, crypt, op, icv);
        op->ok = (uint8_t)ipc_equal(icv, op->icv, GCM_ICV);
    }
}

/* --- block ciphers and HMAC: jobs in lanes --- */

static void des3_expand(struct key *key, IMB_MGR *manager, const uint8_t *bytes) {
    for (int i = 0; i < 3; i++) {
        IMB_DES_KEYSCHED(manager, key->cipher.des.rounds[i], bytes + i * IMB_DES_BLOCK_SIZE);
        key->cipher.des.schedule[i] = key->cipher.des.rounds[i];
    }
}

static void hmac_sha1_pad(IMB_MGR *manager, uint8_t *state, const uint8_t *key, uint8_t pad) {
    uint8_t block[IMB_SHA1_BLOCK_SIZE];
    memset(block, pad, sizeof block);
    for (unsigned i = 0; i < IMB_SHA1_DIGEST_SIZE_IN_BYTES; i++)
        block[i] ^= key[i];
    IMB_SHA1_ONE_BLOCK(manager, block, state);
    ipc_wipe(block, sizeof block);
}

static void hmac_sha1_expand(struct key *key, IMB_MGR *manager, const uint8_t *bytes) {
    hmac_sha1_pad(manager, key->mac.inner, bytes, 0x36);
    hmac_sha1_pad(manager, key->mac.outer, bytes, 0x5c);
}

static const struct cipher {
    void (*expand)(struct key *key, IMB_MGR *manager, const uint8_t *bytes);
    IMB_CIPHER_MODE mode;
    uint8_t key_length, iv_length;
} ciphers[IPC_ENCRYPTION_COUNT] = {
    [IPC_ENCRYPTION_3DES_CBC] = {des3_expand, IMB_CIPHER_DES3, 24, IMB_DES_BLOCK_SIZE},
    [IPC_ENCRYPTION_AES128_GCM16] = {gcm_expand, IMB_CIPHER_GCM, IMB_KEY_128_BYTES, 8},
};

static const struct mac {
    void (*expand)(struct key *key, IMB_MGR *manager, const uint8_t *bytes);
    IMB_HASH_ALG algorithm;
    uint8_t icv_length;
} macs[IPC_INTEGRITY_COUNT] = {
    [IPC_INTEGRITY_NONE] = {NULL, IMB_AUTH_NULL, 0},
    [IPC_INTEGRITY_HMAC_SHA1_96] = {hmac_sha1_expand, IMB_AUTH_HMAC_SHA_1, 12},
};

static const uint8_t zero_iv[16];

/* The library keeps jobs in a ring and never clears them: every field that it reads is set for every job. */
static void job_cipher(IMB_JOB *job, const struct cipher *cipher, const struct key *key,
                       IMB_CIPHER_DIRECTION direction, const uint8_t *iv, uint8_t *text, uint64_t length) {
    job->cipher_mode = cipher->mode;
    job->cipher_direction = direction;
    job->enc_keys = job->dec_keys = key->cipher.des.schedule;
    job->key_len_in_bytes = cipher->key_length;
    job->iv = iv;
    job->iv_len_in_bytes = cipher->iv_length;
    job->cipher_start_src_offset_in_bytes = (uint64_t)(text - job->src);
    job->dst = text;
    job->msg_len_to_cipher_in_bytes = length;
}

static void job_mac(IMB_JOB *job, const struct mac *mac, const struct key *key,
                    const struct ipc_crypto_op *op, uint8_t *icv) {
    job->hash_alg = mac->algorithm;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_hash_in_bytes = (uint64_t)(op->text - op->aad) + op->text_length;
    job->u.HMAC._hashed_auth_key_xor_ipad = key->mac.inner;
    job->u.HMAC._hashed_auth_key_xor_opad = key->mac.outer;
    job->auth_tag_output = icv;
    job->auth_tag_output_len_in_bytes = mac->icv_length;
}

/* Jobs come back in order of submission and point to their results, so what is returned needs no look. */
static void finish(IMB_MGR *manager) {
    while (IMB_FLUSH_JOB(manager))
        ;
}

static void lanes_encrypt(IMB_MGR *manager, const struct cipher *cipher, const struct mac *mac,
                          struct ipc_crypto_op *ops, unsigned count) {
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        IMB_JOB *job = IMB_GET_NEXT_JOB(manager);
        job->chain_order = IMB_ORDER_CIPHER_HASH;
        job->src = op->aad;
        job_cipher(job, cipher, op->key, IMB_DIR_ENCRYPT, zero_iv, op->iv,
                   cipher->iv_length + op->text_length);
        job_mac(job, mac, op->key, op, op->icv);
        op->ok = 1;
        IMB_SUBMIT_JOB_NOCHECK(manager);
    }
    finish(manager);
}

static void lanes_verify(struct engine *engine, const struct mac *mac, struct ipc_crypto_op *ops,
                         unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        IMB_JOB *job = IMB_GET_NEXT_JOB(engine->manager);
        job->chain_order = IMB_ORDER_HASH_CIPHER;
        job->src = ops[i].aad;
        job->cipher_mode = IMB_CIPHER_NULL;
        job->cipher_direction = IMB_DIR_DECRYPT;
        job_mac(job, mac, ops[i].key, &ops[i], engine->icv[i]);
        IMB_SUBMIT_JOB_NOCHECK(engine->manager);
    }
    finish(engine->manager);
    for (unsigned i = 0; i < count; i++)
        ops[i].ok = (uint8_t)ipc_equal(engine->icv[i], ops[i].icv, mac->icv_length);
}

static void lanes_decrypt(struct engine *engine, const struct cipher *cipher, const struct mac *mac,
                          struct ipc_crypto_op *ops, unsigned count) {
    lanes_verify(engine, mac, ops, count);
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        /* A job without a block to decrypt is not defined by the library. */
        if (!op->ok || !op->text_length) continue;
        IMB_JOB *job = IMB_GET_NEXT_JOB(engine->manager);
        job->chain_order = IMB_ORDER_HASH_CIPHER;
        job->src = op->aad;
        job->hash_alg = IMB_AUTH_NULL;
        job_cipher(job, cipher, op->key, IMB_DIR_DECRYPT, op->iv, op->text, op->text_length);
        IMB_SUBMIT_JOB_NOCHECK(engine->manager);
    }
    finish(engine->manager);
}

/* --- the back end --- */

/* Not imb_get_feature_flags(): it asks the CPU anew, 20 us under a hypervisor, and every new SA asks for
 * ranks. */
static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

static int has_aes(void) {
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

static const char *version(void) {
    if (imb_get_version() != IMB_VERSION_NUM) return imb_get_version_str();
    if (!has_aes()) return IMB_VERSION_STR " (no AES-NI)";
    if (has_avx512()) return IMB_VERSION_STR " (AVX512)";
    if (__builtin_cpu_supports("avx2")) return IMB_VERSION_STR " (AVX2)";
    return __builtin_cpu_supports("avx") ? IMB_VERSION_STR " (AVX)" : IMB_VERSION_STR " (SSE)";
}

static int rank(enum ipc_encryption encryption, enum ipc_integrity integrity) {
    if (!ipc_crypto_suite_valid(encryption, integrity) || !__builtin_cpu_supports("sse4.2")) return 0;
    /*
     * Below AVX512, DES has no lanes but scalar code that scans its tables in constant time, and AES without
     * its instructions is an emulation: OpenSSL is faster then.
     */
    return (encryption == IPC_ENCRYPTION_3DES_CBC ? has_avx512() : has_aes()) ? 30 : 10;
}

static void engine_destroy(void *memory) {
    struct engine *engine = memory;
    if (!engine) return;
    if (engine->manager) free_mb_mgr(engine->manager);
    ipc_wipe(engine, sizeof *engine);
    free(engine);
}

static void *engine_create(void) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) return NULL;
    engine->manager = alloc_mb_mgr(0);
    if (engine->manager) init_mb_mgr_auto(engine->manager, NULL);
    if (!engine->manager || imb_get_errno(engine->manager)) {
        engine_destroy(engine);
        return NULL;
    }
    return engine;
}

static void *key_create(void *memory, enum ipc_encryption encryption, enum ipc_integrity integrity,
                        const uint8_t *encryption_key, const uint8_t *integrity_key) {
    struct engine *engine = memory;
    if (!rank(encryption, integrity)) return NULL;
    struct key *key = aligned_alloc(CACHE_LINE, sizeof *key); /* the vector code wants GCM keys aligned */
    if (!key) return NULL;
    memset(key, 0, sizeof *key);
    ciphers[encryption].expand(key, engine->manager, encryption_key);
    if (macs[integrity].expand) macs[integrity].expand(key, engine->manager, integrity_key);
    return key;
}

static void key_destroy(void *key) {
    if (!key) return;
    ipc_wipe(key, sizeof(struct key));
    free(key);
}

static void encrypt(void *memory, enum ipc_encryption encryption, enum ipc_integrity integrity,
                    struct ipc_crypto_op *ops, unsigned count) {
    struct engine *engine = memory;
    if (encryption == IPC_ENCRYPTION_AES128_GCM16)
        gcm_encrypt(engine, engine->manager->gcm128_enc, ops, count);
    else
        lanes_encrypt(engine->manager, &ciphers[encryption], &macs[integrity], ops, count);
}

static void decrypt(void *memory, enum ipc_encryption encryption, enum ipc_integrity integrity,
                    struct ipc_crypto_op *ops, unsigned count) {
    struct engine *engine = memory;
    if (encryption == IPC_ENCRYPTION_AES128_GCM16) {
        gcm_decrypt(engine, engine->manager->gcm128_dec, ops, count);
        return;
    }
    for (unsigned done = 0; done < count; done += TOGETHER)
        lanes_decrypt(engine, &ciphers[encryption], &macs[integrity], ops + done,
                      count - done < TOGETHER ? count - done : TOGETHER);
}

const struct ipc_crypto_backend ipc_crypto_ipsecmb = {
    .name = "ipsec-mb",
    .version = version,
    .rank = rank,
    .engine_create = engine_create,
    .engine_destroy = engine_destroy,
    .key_create = key_create,
    .key_destroy = key_destroy,
    .encrypt = encrypt,
    .decrypt = decrypt,
};
#else
typedef int ipc_crypto_ipsecmb_not_built; /* ISO C wants a declaration in every file */
#endif
