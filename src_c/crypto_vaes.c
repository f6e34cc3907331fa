/* Our own AES-GCM on VAES: sorts a burst into packets of the same size for the kernels of crypto_vaes_gcm.c.
 */
#include "crypto_vaes.h"

#ifdef IPC_HAVE_VAES
#    include <stdlib.h>
#    include <string.h>
#    ifdef __clang__
#        include <cpuid.h>
#    endif

typedef void kernel(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops, unsigned count);

/* Packets that wait for others of as many vectors. Empty between bursts. */
struct engine {
    struct ipc_crypto_op *waiting[IPC_VAES_SPAN + 1][IPC_VAES_LANES];
    uint8_t count[IPC_VAES_SPAN + 1];
};

static int has_vaes(void) {
#    ifdef __clang__ /* whose __builtin_cpu_supports has not always known the word */
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx & bit_VAES;
#    else
    return __builtin_cpu_supports("vaes");
#    endif
}

static int cpu_can(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("aes") && has_vaes();
}

static const char *version(void) {
    return cpu_can() ? "AVX512, VAES" : "no AVX512 with VAES";
}

static int rank(const struct ipc_crypto_suite *suite) {
    return suite->encryption >= IPC_ENCRYPTION_AES128_GCM16 &&
                   suite->encryption <= IPC_ENCRYPTION_AES256_GCM8 &&
                   suite->integrity == IPC_INTEGRITY_NONE && !suite->ah && cpu_can()
               ? 40
               : 0;
}

static void *engine_create(void) {
    return calloc(1, sizeof(struct engine));
}

static void engine_destroy(void *engine) {
    free(engine);
}

static unsigned aes_key_length(const struct ipc_encryption_info *info) {
    return (unsigned)(info->key_length - info->salt_length);
}

static void *key_create(void *engine, const struct ipc_crypto_suite *suite, const uint8_t *encryption_key,
                        const uint8_t *integrity_key) {
    (void)engine, (void)integrity_key;
    if (!rank(suite)) return NULL;
    struct ipc_vaes_key *key = aligned_alloc(_Alignof(struct ipc_vaes_key), sizeof *key);
    if (!key) return NULL;
    memset(key, 0, sizeof *key);
    ipc_vaes_expand(key, encryption_key, aes_key_length(ipc_encryption_info(suite->encryption)));
    return key;
}

static void key_destroy(void *key) {
    if (!key) return;
    ipc_wipe(key, sizeof(struct ipc_vaes_key));
    free(key);
}

static size_t key_size(const struct ipc_crypto_suite *suite) {
    (void)suite;
    return sizeof(struct ipc_vaes_key);
}

static void burst(struct engine *engine, const struct ipc_crypto_suite *suite, struct ipc_crypto_op *ops,
                  unsigned count, kernel *crypt) {
    const struct ipc_encryption_info *info = ipc_encryption_info(suite->encryption);
    const struct ipc_vaes_shape shape = {
        .rounds = (uint8_t)(aes_key_length(info) / 4 + 6), /* FIPS 197 5 */
        .icv_length = info->icv_length,
        .esn = suite->esn,
    };
    uint32_t open = 0; /* sizes that packets wait for */
    _Static_assert(IPC_VAES_SPAN < 32, "a bit for every size");
    for (struct ipc_crypto_op *op = ops, *end = ops + count; op < end; op++) {
        unsigned size = ipc_vaes_vectors(op->text_length);
        if (size > IPC_VAES_SPAN) {
            crypt(shape, &op, 1);
            continue;
        }
        struct ipc_crypto_op **waiting = engine->waiting[size];
        waiting[engine->count[size]++] = op;
        open |= 1u << size;
        if (engine->count[size] == IPC_VAES_LANES) {
            crypt(shape, waiting, IPC_VAES_LANES);
            engine->count[size] = 0;
        }
    }
    for (; open; open &= open - 1) {
        unsigned size = (unsigned)__builtin_ctz(open);
        while (engine->count[size])
            crypt(shape, &engine->waiting[size][--engine->count[size]], 1);
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
#else
typedef int ipc_crypto_vaes_not_built; /* ISO C wants a declaration in every file */
#endif
