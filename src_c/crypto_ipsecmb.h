/* What the files of the ipsec-mb back end share. */
#ifndef IPSEC_CORE_CRYPTO_IPSECMB_H
#define IPSEC_CORE_CRYPTO_IPSECMB_H

#include "crypto_backends.h"

#define NO_COMPAT_IMB_API_053 /* the old names clash with other libraries' */
#include <intel-ipsec-mb.h>

#define IPC_MB_TOGETHER 128 /* packets in lanes at a time; verified before the first of them is decrypted */

/* What jobs in lanes point to, one cache line a packet. */
struct ipc_mb_scratch {
    _Alignas(64) uint8_t icv[IPC_ICV_MAX];
    uint8_t nonce[12];
    uint8_t aad[12];
    uint32_t behind; /* what stood behind the text */
};

/* AES-GCM and GMAC with one length of key. */
struct ipc_mb_gcm {
    aes_gcm_pre_t expand;
    aes_gcm_enc_dec_t encrypt, decrypt;
    aes_gmac_init_t init;
    aes_gmac_update_t update;
    aes_gmac_finalize_t finalize;
};

struct ipc_mb_engine {
    struct ipc_mb_scratch scratch[IPC_MB_TOGETHER];
    IMB_MGR *manager;
    struct ipc_mb_gcm gcm[3]; /* AES-128, -192, -256 */
    struct gcm_context_data context;
    IMB_JOB jobs[IPC_MB_TOGETHER]; /* of the calls that take all of them at once */
};

/* Every key begins so. */
struct ipc_mb_key {
    _Alignas(64) size_t size; /* all of it, for the wipe */
    uint8_t salt[IPC_SALT_MAX];
};

/* One way to serve suites. The suite is valid and count at most IPC_MB_TOGETHER. */
struct ipc_mb_method {
    size_t (*key_size)(const struct ipc_crypto_suite *suite);
    void (*expand)(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite, struct ipc_mb_key *key,
                   const uint8_t *encryption_key, const uint8_t *integrity_key);
    void (*encrypt)(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                    struct ipc_crypto_op *ops, unsigned count);
    void (*decrypt)(struct ipc_mb_engine *engine, const struct ipc_crypto_suite *suite,
                    struct ipc_crypto_op *ops, unsigned count);
};

extern const struct ipc_mb_method ipc_mb_gcm_method, ipc_mb_gmac_method, ipc_mb_chacha_method,
    ipc_mb_lanes_method;

/* Jobs come back in order of submission and point to their results, so what is returned needs no look. */
static inline void ipc_mb_finish(IMB_MGR *manager) {
    while (IMB_FLUSH_JOB(manager))
        ;
}

#endif
