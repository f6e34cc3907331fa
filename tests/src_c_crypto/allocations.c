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

static void aim(const void *key, size_t icv_shift) {
    for (unsigned i = 0; i < 256; i++) {
        unsigned char *p = arena + i * 2048;
        unsigned length = 8 * (1 + i % 180);
        ops[i] = (struct ipc_crypto_op){key, p, p + 8, p + 16, p + 16 + length, length, 0};
        ops[i].icv[0] ^= (unsigned char)icv_shift;
    }
}

static void count(const struct ipc_crypto_backend *backend, enum ipc_encryption encryption,
                  enum ipc_integrity integrity) {
    static const unsigned char keys[2][24] = {"0123456789abcdefABCDEFG", "ghijklmnopqrstuvwxyz"};
    void *engine = backend->engine_create();
    void *key = backend->key_create(engine, encryption, integrity, keys[0], keys[1]);
    aim(key, 0);
    backend->encrypt(engine, encryption, integrity, ops, 256); /* what a library sets up once per thread */
    backend->decrypt(engine, encryption, integrity, ops, 256);

    unsigned long before = allocations;
    backend->encrypt(engine, encryption, integrity, ops, 256);
    aim(key, 0);
    backend->decrypt(engine, encryption, integrity, ops, 256);
    aim(key, 1); /* a wrong ICV allocates neither */
    backend->decrypt(engine, encryption, integrity, ops, 256);
    unsigned long during = allocations - before;

    kept = 0;
    secret = keys[0];
    cleared = key;
    backend->key_destroy(key);
    backend->engine_destroy(engine);
    secret = NULL;
    printf("%s %s+%s %lu %u\n", backend->name, ipc_encryption_info((int)encryption)->text,
           ipc_integrity_info((int)integrity)->text, during, kept);
}

int main(void) {
    const struct ipc_crypto_backend *backend;
    for (unsigned i = 0; (backend = ipc_crypto_backend(i)); i++)
        for (int e = 0; e < IPC_ENCRYPTION_COUNT; e++)
            for (int m = 0; m < IPC_INTEGRITY_COUNT; m++)
                if (backend->rank((enum ipc_encryption)e, (enum ipc_integrity)m))
                    count(backend, (enum ipc_encryption)e, (enum ipc_integrity)m);
    return 0;
}
