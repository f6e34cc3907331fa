/* The algorithm tables, the list of back ends and the choice between them. */
#include "crypto_backends.h"
#include "crypto_vaes.h"

#include <string.h>

const struct ipc_encryption_info *ipc_encryption_info(int encryption) {
    static const struct ipc_encryption_info table[IPC_ENCRYPTION_COUNT] = {
#define X(name, ...) {__VA_ARGS__},
        IPC_ENCRYPTION_LIST(X)
#undef X
    };
    return encryption >= 0 && encryption < IPC_ENCRYPTION_COUNT ? &table[encryption] : NULL;
}

const struct ipc_integrity_info *ipc_integrity_info(int integrity) {
    static const struct ipc_integrity_info table[IPC_INTEGRITY_COUNT] = {
#define X(name, ...) {__VA_ARGS__},
        IPC_INTEGRITY_LIST(X)
#undef X
    };
    return integrity >= 0 && integrity < IPC_INTEGRITY_COUNT ? &table[integrity] : NULL;
}

int ipc_crypto_suite_valid(const struct ipc_crypto_suite *suite) {
    const struct ipc_encryption_info *cipher = ipc_encryption_info(suite->encryption);
    const struct ipc_integrity_info *mac = ipc_integrity_info(suite->integrity);
    if (!cipher || !mac || suite->esn > 1 || suite->ah > 1) return 0;
    int null = suite->encryption == IPC_ENCRYPTION_NULL;
    if (suite->ah) return null && mac->icv_length;
    if (cipher->icv_length) return suite->integrity == IPC_INTEGRITY_NONE;
    /* The high half travels in the ICV alone; a forged low half would move the window (RFC 4303 2.2.1). */
    if (suite->esn && !mac->icv_length) return 0;
    return null || !mac->iv_length;
}

const struct ipc_crypto_backend *ipc_crypto_backend(unsigned index) {
    static const struct ipc_crypto_backend *const list[] = {
#ifdef IPC_HAVE_VAES
        &ipc_crypto_vaes,
#endif
#ifdef IPC_HAVE_IPSECMB
        &ipc_crypto_ipsecmb,
#endif
#ifdef IPC_HAVE_OPENSSL
        &ipc_crypto_openssl,
#endif
        NULL,
    };
    return index < sizeof list / sizeof *list ? list[index] : NULL;
}

const struct ipc_crypto_backend *ipc_crypto_choose(const struct ipc_crypto_suite *suite, const char *name) {
    const struct ipc_crypto_backend *best = NULL, *candidate;
    int best_rank = 0;
    if (!ipc_crypto_suite_valid(suite)) return NULL;
    for (unsigned i = 0; (candidate = ipc_crypto_backend(i)); i++) {
        if (name && strcmp(name, candidate->name) != 0) continue;
        int rank = candidate->rank(suite);
        if (rank > best_rank) {
            best = candidate;
            best_rank = rank;
        }
    }
    return best;
}

int ipc_equal(const uint8_t *a, const uint8_t *b, size_t length) {
    uint64_t difference = 0;
    for (; length >= 8; a += 8, b += 8, length -= 8) {
        uint64_t x, y;
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        difference |= x ^ y;
    }
    for (; length; a++, b++, length--)
        difference |= (uint64_t)(*a ^ *b);
    /* Without this the compiler may see that any difference decides, and leave the loop early. */
    __asm__ volatile("" : "+r"(difference));
    return difference == 0;
}

void ipc_wipe(void *memory, size_t length) {
    memset(memory, 0, length);
    __asm__ volatile("" : : "r"(memory) : "memory");
}
