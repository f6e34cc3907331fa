/* OpenSSL libcrypto: one packet at a time, on every CPU. */
#ifdef IPC_HAVE_OPENSSL
/*
 * OpenSSL 3 deprecates the DES_ and SHA1_ functions in favour of EVP. They stay here for two reasons: EVP_MAC
 * cannot start again from saved inner and outer states without allocating a copy for each packet, and some
 * providers refuse 3DES keys with K1 = K2, which real peers use.
 */
#    define OPENSSL_SUPPRESS_DEPRECATED
#    include "crypto_backends.h"

#    include <openssl/crypto.h>
#    include <openssl/des.h>
#    include <openssl/err.h>
#    include <openssl/evp.h>
#    include <openssl/sha.h>
#    include <stdlib.h>
#    include <string.h>

#    define GCM_SALT 4
#    define GCM_IV   12
#    define GCM_ICV  16

struct engine {
    EVP_CIPHER *aes_128_gcm; /* fetched once: a fetch takes locks */
    SHA_CTX scratch;         /* derived from keys, so kept where it is wiped, not on the stack */
};

struct key {
    union {
        struct {
            EVP_CIPHER_CTX *context;
            uint8_t salt[GCM_SALT];
        } gcm;
        DES_key_schedule des[3];
    } cipher;
    enum ipc_encryption encryption;
    struct {
        SHA_CTX inner, outer; /* the states after the block of key xor ipad, key xor opad (RFC 2104 4) */
    } mac;
};

/* crypt: 1, or 0 when an AEAD finds the ICV wrong. Other ciphers cannot fail. */
struct cipher {
    int (*expand)(struct key *key, const struct engine *engine, const uint8_t *bytes);
    void (*release)(struct key *key);
    int (*encrypt)(const struct key *key, struct ipc_crypto_op *op);
    int (*decrypt)(const struct key *key, struct ipc_crypto_op *op);
};

struct mac {
    void (*expand)(struct key *key, const uint8_t *bytes);
    void (*compute)(struct engine *engine, const struct key *key, const struct ipc_crypto_op *op,
                    uint8_t *digest);
    size_t icv_length;
};

/* --- AES-GCM (RFC 4106) --- */

static int gcm_expand(struct key *key, const struct engine *engine, const uint8_t *bytes) {
    int key_length = EVP_CIPHER_get_key_length(engine->aes_128_gcm);
    memcpy(key->cipher.gcm.salt, bytes + key_length, GCM_SALT);
    key->cipher.gcm.context = EVP_CIPHER_CTX_new();
    return key->cipher.gcm.context &&
           EVP_EncryptInit_ex(key->cipher.gcm.context, engine->aes_128_gcm, NULL, bytes, NULL);
}

static void gcm_release(struct key *key) {
    EVP_CIPHER_CTX_free(key->cipher.gcm.context);
}

static void gcm_iv(const struct key *key, const struct ipc_crypto_op *op, uint8_t iv[GCM_IV]) {
    memcpy(iv, key->cipher.gcm.salt, GCM_SALT);
    memcpy(iv + GCM_SALT, op->iv, GCM_IV - GCM_SALT);
}

static int gcm_encrypt(const struct key *key, struct ipc_crypto_op *op) {
    EVP_CIPHER_CTX *context = key->cipher.gcm.context;
    uint8_t iv[GCM_IV];
    int length;
    gcm_iv(key, op, iv);
    return EVP_EncryptInit_ex(context, NULL, NULL, NULL, iv) &&
           EVP_EncryptUpdate(context, NULL, &length, op->aad, IPC_ESP_HEADER) &&
           EVP_EncryptUpdate(context, op->text, &length, op->text, (int)op->text_length) &&
           EVP_EncryptFinal_ex(context, op->text, &length) &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, GCM_ICV, op->icv);
}

static int gcm_decrypt(const struct key *key, struct ipc_crypto_op *op) {
    EVP_CIPHER_CTX *context = key->cipher.gcm.context;
    uint8_t iv[GCM_IV];
    int length;
    gcm_iv(key, op, iv);
    return EVP_DecryptInit_ex(context, NULL, NULL, NULL, iv) &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, GCM_ICV, op->icv) &&
           EVP_DecryptUpdate(context, NULL, &length, op->aad, IPC_ESP_HEADER) &&
           EVP_DecryptUpdate(context, op->text, &length, op->text, (int)op->text_length) &&
           EVP_DecryptFinal_ex(context, op->text, &length);
}

/* --- 3DES-CBC (RFC 2451) --- */

static int des3_expand(struct key *key, const struct engine *engine, const uint8_t *bytes) {
    (void)engine;
    /* Unchecked: parity, weak keys and K1 = K2 are for whoever negotiates the keys to judge (RFC 2451 2.3).
     */
    for (int i = 0; i < 3; i++) {
        DES_cblock block;
        memcpy(block, bytes + i * sizeof block, sizeof block);
        DES_set_key_unchecked(&block, &key->cipher.des[i]);
        ipc_wipe(block, sizeof block);
    }
    return 1;
}

static void des3(const struct key *key, const uint8_t *iv, uint8_t *text, uint32_t length, int encrypt) {
    DES_key_schedule *schedule = (DES_key_schedule *)key->cipher.des; /* read only; its type is not const */
    DES_cblock chain;
    memcpy(chain, iv, sizeof chain);
    DES_ede3_cbc_encrypt(text, text, (long)length, &schedule[0], &schedule[1], &schedule[2], &chain, encrypt);
}

static int des3_encrypt(const struct key *key, struct ipc_crypto_op *op) {
    static const uint8_t zero[DES_KEY_SZ];
    des3(key, zero, op->iv, DES_KEY_SZ + op->text_length, DES_ENCRYPT);
    return 1;
}

static int des3_decrypt(const struct key *key, struct ipc_crypto_op *op) {
    des3(key, op->iv, op->text, op->text_length, DES_DECRYPT);
    return 1;
}

/* --- HMAC-SHA1-96 (RFC 2404) --- */

static void hmac_sha1_pad(SHA_CTX *state, const uint8_t *key, uint8_t pad) {
    uint8_t block[SHA_CBLOCK];
    memset(block, pad, sizeof block);
    for (unsigned i = 0; i < SHA_DIGEST_LENGTH; i++)
        block[i] ^= key[i];
    SHA1_Init(state);
    SHA1_Update(state, block, sizeof block);
    ipc_wipe(block, sizeof block);
}

static void hmac_sha1_expand(struct key *key, const uint8_t *bytes) {
    hmac_sha1_pad(&key->mac.inner, bytes, 0x36);
    hmac_sha1_pad(&key->mac.outer, bytes, 0x5c);
}

static void hmac_sha1(struct engine *engine, const struct key *key, const struct ipc_crypto_op *op,
                      uint8_t *digest) {
    engine->scratch = key->mac.inner;
    SHA1_Update(&engine->scratch, op->aad, (size_t)(op->text - op->aad) + op->text_length);
    SHA1_Final(digest, &engine->scratch);
    engine->scratch = key->mac.outer;
    SHA1_Update(&engine->scratch, digest, SHA_DIGEST_LENGTH);
    SHA1_Final(digest, &engine->scratch);
}

/* --- suites --- */

static void nothing_to_release(struct key *key) {
    (void)key;
}

static const struct cipher ciphers[IPC_ENCRYPTION_COUNT] = {
    [IPC_ENCRYPTION_3DES_CBC] = {des3_expand, nothing_to_release, des3_encrypt, des3_decrypt},
    [IPC_ENCRYPTION_AES128_GCM16] = {gcm_expand, gcm_release, gcm_encrypt, gcm_decrypt},
};

static const struct mac macs[IPC_INTEGRITY_COUNT] = {
    [IPC_INTEGRITY_HMAC_SHA1_96] = {hmac_sha1_expand, hmac_sha1, 12},
};

static const char *version(void) {
    return OpenSSL_version(OPENSSL_VERSION_STRING);
}

static int rank(enum ipc_encryption encryption, enum ipc_integrity integrity) {
    return ipc_crypto_suite_valid(encryption, integrity) ? 20 : 0;
}

static void engine_destroy(void *memory) {
    struct engine *engine = memory;
    if (!engine) return;
    EVP_CIPHER_free(engine->aes_128_gcm);
    ipc_wipe(engine, sizeof *engine);
    free(engine);
}

static void *engine_create(void) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) return NULL;
    engine->aes_128_gcm = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    if (!engine->aes_128_gcm) {
        engine_destroy(engine);
        return NULL;
    }
    return engine;
}

static void key_destroy(void *memory) {
    struct key *key = memory;
    if (!key) return;
    ciphers[key->encryption].release(key);
    ipc_wipe(key, sizeof *key);
    free(key);
}

static void *key_create(void *engine, enum ipc_encryption encryption, enum ipc_integrity integrity,
                        const uint8_t *encryption_key, const uint8_t *integrity_key) {
    if (!rank(encryption, integrity)) return NULL;
    struct key *key = calloc(1, sizeof *key);
    if (!key) return NULL;
    key->encryption = encryption;
    if (!ciphers[encryption].expand(key, engine, encryption_key)) {
        key_destroy(key);
        return NULL;
    }
    if (macs[integrity].expand) macs[integrity].expand(key, integrity_key);
    return key;
}

static void encrypt(void *memory, enum ipc_encryption encryption, enum ipc_integrity integrity,
                    struct ipc_crypto_op *ops, unsigned count) {
    const struct cipher *cipher = &ciphers[encryption];
    const struct mac *mac = &macs[integrity];
    struct ipc_crypto_op *end = ops + count;
    if (!mac->compute) {
        for (struct ipc_crypto_op *op = ops; op < end; op++)
            op->ok = (uint8_t)cipher->encrypt(op->key, op);
        return;
    }
    uint8_t digest[EVP_MAX_MD_SIZE];
    for (struct ipc_crypto_op *op = ops; op < end; op++) {
        op->ok = (uint8_t)cipher->encrypt(op->key, op);
        mac->compute(memory, op->key, op, digest);
        memcpy(op->icv, digest, mac->icv_length);
    }
}

static void decrypt(void *memory, enum ipc_encryption encryption, enum ipc_integrity integrity,
                    struct ipc_crypto_op *ops, unsigned count) {
    const struct cipher *cipher = &ciphers[encryption];
    const struct mac *mac = &macs[integrity];
    struct ipc_crypto_op *end = ops + count;
    if (!mac->compute) {
        for (struct ipc_crypto_op *op = ops; op < end; op++)
            op->ok = (uint8_t)cipher->decrypt(op->key, op);
        return;
    }
    uint8_t digest[EVP_MAX_MD_SIZE];
    for (struct ipc_crypto_op *op = ops; op < end; op++) {
        mac->compute(memory, op->key, op, digest);
        op->ok = (uint8_t)ipc_equal(digest, op->icv, mac->icv_length);
        if (op->ok) cipher->decrypt(op->key, op);
    }
}

const struct ipc_crypto_backend ipc_crypto_openssl = {
    .name = "openssl",
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
typedef int ipc_crypto_openssl_not_built; /* ISO C wants a declaration in every file */
#endif
