/* The few things that the back end takes from crypto.c, without the other back ends and their libraries; and
 * a look at what it wipes. */
#include "ipsec_core/crypto.h"

#include <string.h>

const struct ipc_encryption_info *ipc_encryption_info(int encryption) {
    static const struct ipc_encryption_info table[IPC_ENCRYPTION_COUNT] = {
#define X(name, ...) {__VA_ARGS__},
        IPC_ENCRYPTION_LIST(X)
#undef X
    };
    return &table[encryption];
}

size_t wiped;

void ipc_wipe(void *memory, size_t length) {
    wiped += length;
    memset(memory, 0, length);
    __asm__ volatile("" : : "r"(memory) : "memory");
}
