/*
 * The algorithms, declared once. `text` is the name that people see and that the Python side takes.
 * A combined mode (AEAD) counts as encryption and has its own ICV; its key is followed by its salt.
 */
#ifndef IPSEC_CORE_ALGORITHM_H
#define IPSEC_CORE_ALGORITHM_H

#include "ipsec_core/types.h"

/* X(name, text, key bytes (with salt), salt, IV on the wire, block, ICV, Windows 2000)
 * Block is the alignment of the ciphertext: at least 4 (RFC 2406 2.4). */
#define IPC_ENCRYPTION_LIST(X)                                                                               \
    X(NULL, "NULL", 0, 0, 0, 4, 0, 1)                 /* RFC 2410 */                                         \
    X(DES_CBC, "DES-CBC", 8, 0, 8, 8, 0, 1)           /* RFC 2405 */                                         \
    X(3DES_CBC, "3DES-CBC", 24, 0, 8, 8, 0, 1)        /* RFC 2451 */                                         \
    X(AES128_CBC, "AES-128-CBC", 16, 0, 16, 16, 0, 0) /* RFC 3602 */                                         \
    X(AES192_CBC, "AES-192-CBC", 24, 0, 16, 16, 0, 0)                                                        \
    X(AES256_CBC, "AES-256-CBC", 32, 0, 16, 16, 0, 0)                                                        \
    X(AES128_CTR, "AES-128-CTR", 20, 4, 8, 4, 0, 0) /* RFC 3686 */                                           \
    X(AES192_CTR, "AES-192-CTR", 28, 4, 8, 4, 0, 0)                                                          \
    X(AES256_CTR, "AES-256-CTR", 36, 4, 8, 4, 0, 0)                                                          \
    X(AES128_GCM16, "AES-128-GCM", 20, 4, 8, 4, 16, 0) /* RFC 4106 */                                        \
    X(AES192_GCM16, "AES-192-GCM", 28, 4, 8, 4, 16, 0)                                                       \
    X(AES256_GCM16, "AES-256-GCM", 36, 4, 8, 4, 16, 0)                                                       \
    X(AES128_GCM12, "AES-128-GCM-12", 20, 4, 8, 4, 12, 0)                                                    \
    X(AES192_GCM12, "AES-192-GCM-12", 28, 4, 8, 4, 12, 0)                                                    \
    X(AES256_GCM12, "AES-256-GCM-12", 36, 4, 8, 4, 12, 0)                                                    \
    X(AES128_GCM8, "AES-128-GCM-8", 20, 4, 8, 4, 8, 0)                                                       \
    X(AES192_GCM8, "AES-192-GCM-8", 28, 4, 8, 4, 8, 0)                                                       \
    X(AES256_GCM8, "AES-256-GCM-8", 36, 4, 8, 4, 8, 0)                                                       \
    X(CHACHA20_POLY1305, "ChaCha20-Poly1305", 36, 4, 8, 4, 16, 0) /* RFC 7634 */

/* X(name, text, key bytes (with salt), salt, IV on the wire, ICV, Windows 2000)
 * AES-GMAC brings its IV along: between the ESP header and the payload with ESP NULL, in front of the ICV
 * with AH. */
#define IPC_INTEGRITY_LIST(X)                                                                                \
    X(NONE, "none", 0, 0, 0, 0, 1)                                                                           \
    X(HMAC_MD5_96, "HMAC-MD5-96", 16, 0, 0, 12, 1)           /* RFC 2403 */                                  \
    X(HMAC_SHA1_96, "HMAC-SHA1-96", 20, 0, 0, 12, 1)         /* RFC 2404 */                                  \
    X(HMAC_SHA256_128, "HMAC-SHA2-256-128", 32, 0, 0, 16, 0) /* RFC 4868 */                                  \
    X(HMAC_SHA384_192, "HMAC-SHA2-384-192", 48, 0, 0, 24, 0)                                                 \
    X(HMAC_SHA512_256, "HMAC-SHA2-512-256", 64, 0, 0, 32, 0)                                                 \
    X(AES128_GMAC, "AES-128-GMAC", 20, 4, 8, 16, 0) /* RFC 4543 */                                           \
    X(AES192_GMAC, "AES-192-GMAC", 28, 4, 8, 16, 0)                                                          \
    X(AES256_GMAC, "AES-256-GMAC", 36, 4, 8, 16, 0)

#define IPC_ICV_MAX 32

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
    uint8_t key_length, salt_length, iv_length, icv_length, windows_2000;
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
