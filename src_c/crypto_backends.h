/* What the crypto back ends share; private to src_c. */
#ifndef IPSEC_CORE_CRYPTO_BACKENDS_H
#define IPSEC_CORE_CRYPTO_BACKENDS_H

#include "ipsec_core/crypto.h"

#define IPC_ESP_HEADER 8 /* SPI and sequence number: authenticated, not encrypted (RFC 2406 2) */

extern const struct ipc_crypto_backend ipc_crypto_ipsecmb;
extern const struct ipc_crypto_backend ipc_crypto_openssl;

/* 1 when the two go together: an AEAD brings its own ICV (RFC 4106 4), every other cipher takes any
 * integrity. */
int ipc_crypto_suite_valid(enum ipc_encryption encryption, enum ipc_integrity integrity);

#endif
