/*
 * Stands in for the C library's allocator and counts. Prints a line "backend suite allocations-per-burst
 * kept-keys", where kept-keys are freed blocks that still held key bytes, plus 1 when the block of the key
 * itself was not cleared.
 */
#include "ipsec_core/crypto.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static unsigned long allocations;
static unsigned kept;
static const unsigned char *secret; /* 8 bytes to look for in what is freed */
static const void *cleared;         /* a block that must be all zero when it is freed */

void *malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
    allocations++;
    return __libc_realloc(memory, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    allocations++;
    /* Cleared to its real end, so that free() can look at all of it. */
    void *memory = __libc_memalign(alignment, size);
    return memory ? memset(memory, 0, malloc_usable_size(memory)) : NULL;
}
void free(void *memory) {
    const unsigned char *bytes = memory;
    size_t size = memory && secret ? malloc_usable_size(memory) : 0;
    for (size_t i = 0; i < size; i++)
        if ((memory == cleared && bytes[i]) || (i + 8 <= size && memcmp(bytes + i, secret, 8) == 0)) {
            kept++;
            break;
        }
    __libc_free(memory);
}

static unsigned char arena[256 * 2048];
static struct ipc_crypto_op ops[256];

static void aim(const struct ipc_crypto_suite *suite, const void *key, unsigned char wrong) {
    const struct ipc_encryption_info *cipher = ipc_encryption_info(suite->encryption);
    const struct ipc_integrity_info *mac = ipc_integrity_info(suite->integrity);
    for (unsigned i = 0; i < 256; i++) {
        unsigned char *p = arena + i * 2048, *text = p + 8 + cipher->iv_length + mac->iv_length;
        unsigned length = 16 * (1 + i % 90);
        unsigned char *icv = suite->ah ? text : text + length;
        ops[i] = (struct ipc_crypto_op){.key = key,
                                        .aad = p,
                                        .iv = p + 8,
                                        .text = text,
                                        .icv = icv,
                                        .received = icv,
                                        .text_length = length,
                                        .sequence_high = i};
        if (suite->ah) ops[i].received = p + 1800;
        icv[0] ^= wrong;
    }
}

static void count(const struct ipc_crypto_backend *backend, const struct ipc_crypto_suite *suite) {
    static const unsigned char keys[2][64] = {"0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZ",
                                              "ghijklmnopqrstuvwxyz"};
    void *engine = backend->engine_create();
    void *key = backend->key_create(engine, suite, keys[0], keys[1]);
    aim(suite, key, 0);
    backend->encrypt(engine, suite, ops, 256); /* what a library sets up once per thread */
    backend->decrypt(engine, suite, ops, 256);

    unsigned long before = allocations;
    backend->encrypt(engine, suite, ops, 256);
    aim(suite, key, 0);
    backend->decrypt(engine, suite, ops, 256);
    aim(suite, key, 1); /* a wrong ICV allocates neither */
    backend->decrypt(engine, suite, ops, 256);
    unsigned long during = allocations - before;

    kept = 0;
    secret = ipc_encryption_info(suite->encryption)->key_length ? keys[0] : keys[1];
    cleared = key;
    backend->key_destroy(key);
    backend->engine_destroy(engine);
    secret = NULL;
    printf("%s %u,%u,%u,%u %lu %u\n", backend->name, suite->encryption, suite->integrity, suite->esn,
           suite->ah, during, kept);
}

int main(void) {
    const struct ipc_crypto_backend *backend;
    for (unsigned i = 0; (backend = ipc_crypto_backend(i)); i++)
        for (unsigned n = 0; n < 4u * IPC_ENCRYPTION_COUNT * IPC_INTEGRITY_COUNT; n++) {
            struct ipc_crypto_suite suite = {(uint8_t)(n / 4 / IPC_INTEGRITY_COUNT),
                                             (uint8_t)(n / 4 % IPC_INTEGRITY_COUNT), n & 1, n >> 1 & 1};
            if (ipc_crypto_suite_valid(&suite) && backend->rank(&suite)) count(backend, &suite);
        }
    return 0;
}
