/* intel-ipsec-mb: combined modes packet by packet on the vector units; the other ciphers and HMAC in lanes
 * across the packets of a burst. */
#ifdef IPC_HAVE_IPSECMB
#    include "crypto_ipsecmb.h"

#    include <stdlib.h>

#    define CACHE_LINE 64

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

static int rank(const struct ipc_crypto_suite *suite) {
    if (!ipc_crypto_suite_valid(suite) || !__builtin_cpu_supports("sse4.2")) return 0;
    /*
     * Below AVX512, DES has no lanes but scalar code that scans its tables in constant time, and AES without
     * its instructions is an emulation: OpenSSL is faster then.
     */
    int des = suite->encryption == IPC_ENCRYPTION_DES_CBC || suite->encryption == IPC_ENCRYPTION_3DES_CBC;
    return (des ? has_avx512() : has_aes()) ? 30 : 10;
}

static const struct ipc_mb_method *method_of(const struct ipc_crypto_suite *suite) {
    if (ipc_integrity_info(suite->integrity)->iv_length) return &ipc_mb_gmac_method;
    if (!ipc_encryption_info(suite->encryption)->icv_length) return &ipc_mb_lanes_method;
    return suite->encryption == IPC_ENCRYPTION_CHACHA20_POLY1305 ? &ipc_mb_chacha_method : &ipc_mb_gcm_method;
}

static void engine_destroy(void *memory) {
    struct ipc_mb_engine *engine = memory;
    if (!engine) return;
    if (engine->manager) free_mb_mgr(engine->manager);
    ipc_wipe(engine, sizeof *engine);
    free(engine);
}

static void *engine_create(void) {
    struct ipc_mb_engine *engine = aligned_alloc(CACHE_LINE, sizeof *engine);
    if (!engine) return NULL;
    memset(engine, 0, sizeof *engine);
    IMB_MGR *m = engine->manager = alloc_mb_mgr(0);
    if (m) init_mb_mgr_auto(m, NULL);
    if (!m || imb_get_errno(m)) {
        engine_destroy(engine);
        return NULL;
    }
    engine->gcm[0] = (struct ipc_mb_gcm){m->gcm128_pre,   m->gcm128_enc,     m->gcm128_dec,
                                         m->gmac128_init, m->gmac128_update, m->gmac128_finalize};
    engine->gcm[1] = (struct ipc_mb_gcm){m->gcm192_pre,   m->gcm192_enc,     m->gcm192_dec,
                                         m->gmac192_init, m->gmac192_update, m->gmac192_finalize};
    engine->gcm[2] = (struct ipc_mb_gcm){m->gcm256_pre,   m->gcm256_enc,     m->gcm256_dec,
                                         m->gmac256_init, m->gmac256_update, m->gmac256_finalize};
    return engine;
}

static size_t key_size(const struct ipc_crypto_suite *suite) {
    if (!ipc_crypto_suite_valid(suite)) return 0;
    return (method_of(suite)->key_size(suite) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
}

static void *key_create(void *engine, const struct ipc_crypto_suite *suite, const uint8_t *encryption_key,
                        const uint8_t *integrity_key) {
    if (!rank(suite)) return NULL;
    size_t size = key_size(suite);
    struct ipc_mb_key *key = aligned_alloc(CACHE_LINE, size); /* the vector code wants GCM keys aligned */
    if (!key) return NULL;
    memset(key, 0, size);
    key->size = size;
    method_of(suite)->expand(engine, suite, key, encryption_key, integrity_key);
    return key;
}

static void key_destroy(void *memory) {
    struct ipc_mb_key *key = memory;
    if (!key) return;
    ipc_wipe(key, key->size);
    free(key);
}

static unsigned at_most_together(unsigned count) {
    return count < IPC_MB_TOGETHER ? count : IPC_MB_TOGETHER;
}

static void encrypt(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count) {
    const struct ipc_mb_method *method = method_of(suite);
    for (unsigned done = 0; done < count; done += IPC_MB_TOGETHER)
        method->encrypt(engine, suite, ops + done, at_most_together(count - done));
}

static void decrypt(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count) {
    const struct ipc_mb_method *method = method_of(suite);
    for (unsigned done = 0; done < count; done += IPC_MB_TOGETHER)
        method->decrypt(engine, suite, ops + done, at_most_together(count - done));
}

const struct ipc_crypto_backend ipc_crypto_ipsecmb = {
    .name = "ipsec-mb",
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
typedef int ipc_crypto_ipsecmb_not_built; /* ISO C wants a declaration in every file */
#endif
