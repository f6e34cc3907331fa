/* OpenSSL libcrypto: one packet at a time, on every CPU. */
#ifdef IPC_HAVE_OPENSSL
#    include "crypto_openssl.h"

#    include <openssl/crypto.h>
#    include <openssl/err.h>
#    include <stdlib.h>

static const char *version(void) {
    return OpenSSL_version(OPENSSL_VERSION_STRING);
}

static int rank(const struct ipc_crypto_suite *suite) {
    return ipc_crypto_suite_valid(suite) ? 20 : 0;
}

static void engine_destroy(void *memory) {
    struct ipc_ossl_engine *engine = memory;
    if (!engine) return;
    for (int i = 0; i < IPC_OSSL_FETCH_COUNT; i++)
        EVP_CIPHER_free(engine->fetched[i]);
    ipc_wipe(engine, sizeof *engine);
    free(engine);
}

static void *engine_create(void) {
    static const char *const names[IPC_OSSL_FETCH_COUNT] = {
#    define X(name, text) [IPC_OSSL_##name] = text,
        IPC_OSSL_FETCH_LIST(X)
#    undef X
    };
    struct ipc_ossl_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return NULL;
    ERR_set_mark(); /* what no provider has is no error: its keys cannot be made, that is all */
    for (int i = IPC_OSSL_NOTHING + 1; i < IPC_OSSL_FETCH_COUNT; i++)
        engine->fetched[i] = EVP_CIPHER_fetch(NULL, names[i], NULL);
    ERR_pop_to_mark();
    return engine;
}

static size_t mac_at(const struct ipc_crypto_suite *suite) {
    return (ipc_ossl_ciphers[suite->encryption].length + 15) & ~(size_t)15;
}

static size_t key_size(const struct ipc_crypto_suite *suite) {
    if (!ipc_crypto_suite_valid(suite)) return 0;
    return sizeof(struct ipc_ossl_key) + mac_at(suite) + ipc_ossl_macs[suite->integrity].length;
}

static void key_destroy(void *memory) {
    struct ipc_ossl_key *key = memory;
    if (!key) return;
    ipc_ossl_ciphers[key->suite.encryption].release(key);
    ipc_ossl_macs[key->suite.integrity].release(key);
    ipc_wipe(key, key_size(&key->suite));
    free(key);
}

static void *key_create(void *memory, const struct ipc_crypto_suite *suite, const uint8_t *encryption_key,
                        const uint8_t *integrity_key) {
    const struct ipc_ossl_engine *engine = memory;
    if (!rank(suite)) return NULL;
    const struct ipc_ossl_cipher *cipher = &ipc_ossl_ciphers[suite->encryption];
    const struct ipc_ossl_mac *mac = &ipc_ossl_macs[suite->integrity];
    if ((cipher->fetch && !engine->fetched[cipher->fetch]) || (mac->fetch && !engine->fetched[mac->fetch]))
        return NULL;
    struct ipc_ossl_key *key = calloc(1, key_size(suite));
    if (!key) return NULL;
    key->suite = *suite;
    key->mac_at = mac_at(suite);
    ERR_set_mark();
    int good = cipher->expand(key, engine->fetched[cipher->fetch], encryption_key) &&
               mac->expand(key, mac->hash, engine->fetched[mac->fetch], integrity_key);
    ERR_pop_to_mark();
    if (good) return key;
    key_destroy(key);
    return NULL;
}

static void encrypt(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count) {
    const struct ipc_ossl_cipher *cipher = &ipc_ossl_ciphers[suite->encryption];
    const struct ipc_ossl_mac *mac = &ipc_ossl_macs[suite->integrity];
    const size_t icv_length = ipc_integrity_info(suite->integrity)->icv_length;
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        uint8_t digest[IPC_DIGEST_MAX];
        op->ok = (uint8_t)(cipher->encrypt(op->key, suite, op) &&
                           mac->compute(engine, mac->hash, suite, op, digest));
        if (op->ok) memcpy(op->icv, digest, icv_length);
    }
}

static void decrypt(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count) {
    const struct ipc_ossl_cipher *cipher = &ipc_ossl_ciphers[suite->encryption];
    const struct ipc_ossl_mac *mac = &ipc_ossl_macs[suite->integrity];
    const size_t icv_length = ipc_integrity_info(suite->integrity)->icv_length;
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        uint8_t digest[IPC_DIGEST_MAX];
        op->ok =
            (uint8_t)(mac->compute(engine, mac->hash, suite, op, digest) &&
                      ipc_equal(digest, op->received, icv_length) && cipher->decrypt(op->key, suite, op));
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
    .key_size = key_size,
    .encrypt = encrypt,
    .decrypt = decrypt,
};
#else
typedef int ipc_crypto_openssl_not_built; /* ISO C wants a declaration in every file */
#endif
