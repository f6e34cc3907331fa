/*
 * Peers of the benchmarks: what a plain loop over the libraries reaches. They share nothing with the back
 * ends.
 *
 * All take packets as they lie in a burst arena: offset[i] and length[i] are of the text; before it the ESP
 * header (8 bytes) and the IV (8 bytes, AES-CBC 16), behind it the ICV. Texts of 3DES are whole blocks. The
 * whole list is gone through `rounds` times; 0 rounds do the set-up alone (library state and key schedule),
 * so that a caller who takes times can subtract it.
 *
 * They return 0, IPC_E(UNSUPPORTED) when the build has not the library, or IPC_E(NO_MEMORY).
 */
#ifndef IPSEC_CORE_PEER_H
#define IPSEC_CORE_PEER_H

#include "ipsec_core/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bare calls of intel-ipsec-mb's AES-128-GCM. key20: key and salt. ICV: 16 bytes; decrypt computes it and
 * throws it away. */
int ipc_peer_gcm_encrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                         unsigned count, unsigned rounds);
int ipc_peer_gcm_decrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                         unsigned count, unsigned rounds);

/* intel-ipsec-mb's jobs, AES-128-CBC with the IV as it stands (16 bytes in front of the text), then
 * HMAC-SHA1-96; lanes are kept full over all rounds. key36: 16 bytes for AES, 20 for HMAC. ICV: 12 bytes. */
int ipc_peer_cbc_sha1_jobs(const uint8_t *key36, uint8_t *arena, const uint32_t *offset,
                           const uint32_t *length, unsigned count, unsigned rounds);

/* OpenSSL EVP, 3DES-CBC with the IV as it stands, then HMAC-SHA1-96. key44: 24 bytes for 3DES, 20 for HMAC.
 * ICV: 12 bytes. */
int ipc_peer_evp_3des_sha1(const uint8_t *key44, uint8_t *arena, const uint32_t *offset,
                           const uint32_t *length, unsigned count, unsigned rounds);

#ifdef __cplusplus
}
#endif
#endif
