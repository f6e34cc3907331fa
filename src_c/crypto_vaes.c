#include "crypto_vaes.h"

#ifdef IPC_HAVE_VAES
#    include <stdlib.h>
#    include <string.h>
#    ifdef __clang__
#        include <cpuid.h>
#    endif

#    define CLASSES 25

/* Packets that wait for others of their class. */
struct engine {
    struct ipc_crypto_op *waiting[CLASSES][IPC_VAES_TOGETHER];
    uint8_t count[CLASSES];
};

static int has_vaes(void) {
#    ifdef __clang__ /* whose __builtin_cpu_supports has not always known it */
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & bit_VAES;
#    else
    return __builtin_cpu_supports("vaes");
#    endif
}

static struct ipc_vaes_shape shape_of(const struct ipc_crypto_suite *suite) {
    const struct ipc_encryption_info *info = ipc_encryption_info(suite->encryption);
    return (struct ipc_vaes_shape){
        .rounds = (uint8_t)((info->key_length - info->salt_length) / 4 + 6),
        .icv_length = info->icv_length,
        .esn = suite->esn,
    };
}

static const char *version(void) {
    return "AVX512, VAES, VPCLMULQDQ";
}

static int rank(const struct ipc_crypto_suite *suite) {
    if (suite->encryption < IPC_ENCRYPTION_AES128_GCM16 || suite->encryption > IPC_ENCRYPTION_AES256_GCM8 ||
        suite->integrity != IPC_INTEGRITY_NONE || suite->ah)
        return 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("aes") &&
                   __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("bmi2") && has_vaes()
               ? 40
               : 0;
}

static void *engine_create(void) {
    return calloc(1, sizeof(struct engine));
}

static void engine_destroy(void *engine) {
    free(engine);
}

static size_t key_size(const struct ipc_crypto_suite *suite) {
    (void)suite;
    return sizeof(struct ipc_vaes_key);
}

static void *key_create(void *engine, const struct ipc_crypto_suite *suite, const uint8_t *encryption_key,
                        const uint8_t *integrity_key) {
    (void)engine, (void)integrity_key;
    if (!rank(suite)) return NULL;
    const struct ipc_encryption_info *info = ipc_encryption_info(suite->encryption);
    struct ipc_vaes_key *key = aligned_alloc(_Alignof(struct ipc_vaes_key), sizeof *key);
    if (!key) return NULL;
    memset(key, 0, sizeof *key);
    ipc_vaes_expand(key, encryption_key, (unsigned)(info->key_length - info->salt_length));
    return key;
}

static void key_destroy(void *key) {
    if (!key) return;
    ipc_wipe(key, sizeof(struct ipc_vaes_key));
    free(key);
}

static void burst(struct engine *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                  unsigned count,
                  void (*crypt)(struct ipc_vaes_shape, struct ipc_crypto_op *const *, unsigned)) {
    const struct ipc_vaes_shape shape = shape_of(suite);
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        unsigned class = ipc_vaes_vectors(op->text_length);
        if (class >= CLASSES) {
            crypt(shape, &op, 1);
            continue;
        }
        engine->waiting[class][engine->count[class]++] = op;
        if (engine->count[class] == IPC_VAES_TOGETHER) {
            engine->count[class] = 0;
            crypt(shape, engine->waiting[class], IPC_VAES_TOGETHER);
        }
    }
    for (unsigned class = 0; class < CLASSES; class++) {
        for (unsigned i = 0; i < engine->count[class]; i++)
            crypt(shape, &engine->waiting[class][i], 1);
        engine->count[class] = 0;
    }
}

static void encrypt(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count) {
    burst(engine, suite, ops, count, ipc_vaes_encrypt);
}

static void decrypt(void *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                    unsigned count) {
    burst(engine, suite, ops, count, ipc_vaes_decrypt);
}

const struct ipc_crypto_backend ipc_crypto_vaes = {
    .name = "vaes",
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
#endif
