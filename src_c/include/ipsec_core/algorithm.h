/*
 * The algorithms, declared once. X(name, text, key bytes (with salt), salt, IV, block, ICV, Windows 2000)
 * `text` is the name that people see and that the Python side takes.
 */
#ifndef IPSEC_CORE_ALGORITHM_H
#define IPSEC_CORE_ALGORITHM_H

#include "ipsec_core/types.h"

/* Block is the alignment of the ciphertext: at least 4 (RFC 2406 2.4). An AEAD has its own ICV. */
#define IPC_ENCRYPTION_LIST(X)                                                                               \
    X(3DES_CBC, "3DES-CBC", 24, 0, 8, 8, 0, 1)         /* RFC 2451 */                                        \
    X(AES128_GCM16, "AES-128-GCM", 20, 4, 8, 4, 16, 0) /* RFC 4106 */

/* X(name, text, key bytes, ICV, Windows 2000) */
#define IPC_INTEGRITY_LIST(X)                                                                                \
    X(NONE, "none", 0, 0, 1)                                                                                 \
    X(HMAC_SHA1_96, "HMAC-SHA1-96", 20, 12, 1) /* RFC 2404 */

enum ipc_encryption {
#define X(name, ...) IPC_ENCRYPTION_##name,
    IPC_ENCRYPTION_LIST(X)
#undef X
        IPC_ENCRYPTION_COUNT
};

enum ipc_integrity {
#define X(name, ...) IPC_INTEGRITY_##name,
    IPC_INTEGRITY_LIST(X)
#undef X
        IPC_INTEGRITY_COUNT
};

struct ipc_encryption_info {
    const char *text;
    uint8_t key_length, salt_length, iv_length, block_length, icv_length, windows_2000;
};

struct ipc_integrity_info {
    const char *text;
    uint8_t key_length, icv_length, windows_2000;
};

#ifdef __cplusplus
extern "C" {
#endif

/* NULL for a number that is none. */
const struct ipc_encryption_info *ipc_encryption_info(int encryption);
const struct ipc_integrity_info *ipc_integrity_info(int integrity);

#ifdef __cplusplus
}
#endif
#endif
