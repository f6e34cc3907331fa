#include "peer.h"

#include <stdlib.h>
#include <string.h>

#define ESP_HEADER 8
#define ESP_IV     8

#ifdef IPC_HAVE_IPSECMB
#    define NO_COMPAT_IMB_API_053
#    include <intel-ipsec-mb.h>

struct gcm {
    _Alignas(64) struct gcm_key_data key;
    struct gcm_context_data context;
    IMB_MGR *manager;
};

static struct gcm *gcm_open(const uint8_t *key) {
    struct gcm *g = aligned_alloc(64, sizeof *g);
    if (!g) return NULL;
    g->manager = alloc_mb_mgr(0);
    if (!g->manager) {
        free(g);
        return NULL;
    }
    init_mb_mgr_auto(g->manager, NULL);
    IMB_AES128_GCM_PRE(g->manager, key, &g->key);
    return g;
}

static void gcm_close(struct gcm *g) {
    free_mb_mgr(g->manager);
    free(g);
}

int ipc_peer_gcm_encrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                         unsigned count, unsigned rounds) {
    struct gcm *g = gcm_open(key20);
    if (!g) return IPC_E(NO_MEMORY);
    uint8_t iv[12];
    memcpy(iv, key20 + IMB_KEY_128_BYTES, 4);
    for (; rounds; rounds--)
        for (unsigned i = 0; i < count; i++) {
            uint8_t *text = arena + offset[i];
            memcpy(iv + 4, text - ESP_IV, ESP_IV);
            IMB_AES128_GCM_ENC(g->manager, &g->key, &g->context, text, text, length[i], iv,
                               text - ESP_IV - ESP_HEADER, ESP_HEADER, text + length[i], 16);
        }
    gcm_close(g);
    return 0;
}

int ipc_peer_gcm_decrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                         unsigned count, unsigned rounds) {
    struct gcm *g = gcm_open(key20);
    if (!g) return IPC_E(NO_MEMORY);
    uint8_t iv[12], icv[16];
    memcpy(iv, key20 + IMB_KEY_128_BYTES, 4);
    for (; rounds; rounds--)
        for (unsigned i = 0; i < count; i++) {
            uint8_t *text = arena + offset[i];
            memcpy(iv + 4, text - ESP_IV, ESP_IV);
            IMB_AES128_GCM_DEC(g->manager, &g->key, &g->context, text, text, length[i], iv,
                               text - ESP_IV - ESP_HEADER, ESP_HEADER, icv, 16);
        }
    gcm_close(g);
    return 0;
}

#    define CBC_IV 16

struct jobs {
    IMB_MGR *manager;
    _Alignas(16) uint8_t encrypt[16 * 15];
    _Alignas(16) uint8_t decrypt[16 * 15];
    uint8_t inner[20], outer[20];
};

static void half_key(IMB_MGR *manager, const uint8_t *key, uint8_t pad, uint8_t *state) {
    uint8_t block[64];
    memset(block, pad, sizeof block);
    for (unsigned i = 0; i < 20; i++)
        block[i] ^= key[i];
    IMB_SHA1_ONE_BLOCK(manager, block, state);
}

static void submit(struct jobs *j, uint8_t *text, uint32_t length) {
    IMB_JOB *job = IMB_GET_NEXT_JOB(j->manager);
    uint8_t *esp = text - CBC_IV - ESP_HEADER;
    job->chain_order = IMB_ORDER_CIPHER_HASH;
    job->cipher_mode = IMB_CIPHER_CBC;
    job->cipher_direction = IMB_DIR_ENCRYPT;
    job->enc_keys = j->encrypt;
    job->dec_keys = j->decrypt;
    job->key_len_in_bytes = 16;
    job->src = esp;
    job->dst = text;
    job->iv = text - CBC_IV;
    job->iv_len_in_bytes = CBC_IV;
    job->cipher_start_src_offset_in_bytes = ESP_HEADER + CBC_IV;
    job->msg_len_to_cipher_in_bytes = length;
    job->hash_alg = IMB_AUTH_HMAC_SHA_1;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_hash_in_bytes = ESP_HEADER + CBC_IV + length;
    job->u.HMAC._hashed_auth_key_xor_ipad = j->inner;
    job->u.HMAC._hashed_auth_key_xor_opad = j->outer;
    job->auth_tag_output = text + length;
    job->auth_tag_output_len_in_bytes = 12;
    IMB_SUBMIT_JOB_NOCHECK(j->manager);
}

int ipc_peer_cbc_sha1_jobs(const uint8_t *key36, uint8_t *arena, const uint32_t *offset,
                           const uint32_t *length, unsigned count, unsigned rounds) {
    struct jobs *j = aligned_alloc(64, (sizeof *j + 63) / 64 * 64);
    if (!j) return IPC_E(NO_MEMORY);
    j->manager = alloc_mb_mgr(0);
    if (!j->manager) {
        free(j);
        return IPC_E(NO_MEMORY);
    }
    init_mb_mgr_auto(j->manager, NULL);
    IMB_AES_KEYEXP_128(j->manager, key36, j->encrypt, j->decrypt);
    half_key(j->manager, key36 + 16, 0x36, j->inner);
    half_key(j->manager, key36 + 16, 0x5c, j->outer);
    for (; rounds; rounds--)
        for (unsigned i = 0; i < count; i++)
            submit(j, arena + offset[i], length[i]);
    while (IMB_FLUSH_JOB(j->manager))
        ;
    free_mb_mgr(j->manager);
    free(j);
    return 0;
}
#else
int ipc_peer_gcm_encrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                         unsigned count, unsigned rounds) {
    (void)key20, (void)arena, (void)offset, (void)length, (void)count, (void)rounds;
    return IPC_E(UNSUPPORTED);
}

int ipc_peer_gcm_decrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                         unsigned count, unsigned rounds) {
    (void)key20, (void)arena, (void)offset, (void)length, (void)count, (void)rounds;
    return IPC_E(UNSUPPORTED);
}

int ipc_peer_cbc_sha1_jobs(const uint8_t *key36, uint8_t *arena, const uint32_t *offset,
                           const uint32_t *length, unsigned count, unsigned rounds) {
    (void)key36, (void)arena, (void)offset, (void)length, (void)count, (void)rounds;
    return IPC_E(UNSUPPORTED);
}
#endif

#ifdef IPC_HAVE_OPENSSL
#    include <openssl/core_names.h>
#    include <openssl/evp.h>

int ipc_peer_evp_3des_sha1(const uint8_t *key44, uint8_t *arena, const uint32_t *offset,
                           const uint32_t *length, unsigned count, unsigned rounds) {
    char digest[] = "SHA1";
    const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                     OSSL_PARAM_construct_end()};
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
    int good = cipher && mac && EVP_EncryptInit_ex(cipher, EVP_des_ede3_cbc(), NULL, key44, NULL) &&
               EVP_CIPHER_CTX_set_padding(cipher, 0) && EVP_MAC_init(mac, key44 + 24, 20, parameters);
    for (; good && rounds; rounds--)
        for (unsigned i = 0; good && i < count; i++) {
            uint8_t *text = arena + offset[i], icv[20];
            int written;
            size_t icv_length;
            good = EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, text - ESP_IV) &&
                   EVP_EncryptUpdate(cipher, text, &written, text, (int)length[i]) &&
                   EVP_MAC_init(mac, NULL, 0, NULL) &&
                   EVP_MAC_update(mac, text - ESP_IV - ESP_HEADER, ESP_HEADER + ESP_IV + length[i]) &&
                   EVP_MAC_final(mac, icv, &icv_length, sizeof icv);
            memcpy(text + length[i], icv, 12);
        }
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(hmac);
    EVP_CIPHER_CTX_free(cipher);
    return good ? 0 : IPC_E(NO_MEMORY);
}
#else
int ipc_peer_evp_3des_sha1(const uint8_t *key44, uint8_t *arena, const uint32_t *offset,
                           const uint32_t *length, unsigned count, unsigned rounds) {
    (void)key44, (void)arena, (void)offset, (void)length, (void)count, (void)rounds;
    return IPC_E(UNSUPPORTED);
}
#endif
