/* OpenSSL: the ciphers. EVP contexts live in the key, so that a packet allocates nothing. */
#ifdef IPC_HAVE_OPENSSL
#    include "crypto_openssl.h"

#    include <openssl/des.h>

#    define AES_BLOCK 16

struct contexts {
    EVP_CIPHER_CTX *encrypt, *decrypt; /* CBC wants a schedule for each; the others have the first */
};

static struct contexts *contexts(const struct ipc_ossl_key *key) {
    return (struct contexts *)(void *)key->bytes; /* its state is OpenSSL's, not the key's */
}

static const uint8_t zero_iv[AES_BLOCK];

/* --- none (RFC 2410) --- */

static int null_expand(struct ipc_ossl_key *key, const EVP_CIPHER *fetched, const uint8_t *bytes) {
    (void)key, (void)fetched, (void)bytes;
    return 1;
}

static void nothing_to_release(struct ipc_ossl_key *key) {
    (void)key;
}

static int null_crypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                      struct ipc_crypto_op *op) {
    (void)key, (void)suite, (void)op;
    return 1;
}

/* --- AES-GCM (RFC 4106), ChaCha20-Poly1305 (RFC 7634) --- */

static void evp_release(struct ipc_ossl_key *key) {
    EVP_CIPHER_CTX_free(contexts(key)->encrypt);
    EVP_CIPHER_CTX_free(contexts(key)->decrypt);
}

static int salted_expand(struct ipc_ossl_key *key, const EVP_CIPHER *fetched, const uint8_t *bytes) {
    EVP_CIPHER_CTX *context = contexts(key)->encrypt = EVP_CIPHER_CTX_new();
    memcpy(key->salt, bytes + EVP_CIPHER_get_key_length(fetched), IPC_SALT_MAX);
    return context && EVP_EncryptInit_ex(context, fetched, NULL, bytes, NULL);
}

/* A context and its IV, and the associated data of one packet. */
static int aead_associated(EVP_CIPHER_CTX *context, const struct ipc_crypto_suite *suite,
                           const struct ipc_crypto_op *op) {
    uint8_t aad[IPC_ESN_AAD];
    int length;
    if (!suite->esn) return EVP_CipherUpdate(context, NULL, &length, op->aad, IPC_ESP_HEADER);
    ipc_esn_aad(aad, op);
    return EVP_CipherUpdate(context, NULL, &length, aad, IPC_ESN_AAD);
}

static int aead_encrypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                        struct ipc_crypto_op *op) {
    EVP_CIPHER_CTX *context = contexts(key)->encrypt;
    uint8_t nonce[IPC_AEAD_NONCE];
    int length;
    ipc_nonce(nonce, key->salt, op->iv);
    return EVP_EncryptInit_ex(context, NULL, NULL, NULL, nonce) && aead_associated(context, suite, op) &&
           EVP_EncryptUpdate(context, op->text, &length, op->text, (int)op->text_length) &&
           EVP_EncryptFinal_ex(context, op->text, &length) &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG,
                               ipc_encryption_info(suite->encryption)->icv_length, op->icv);
}

static int aead_decrypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                        struct ipc_crypto_op *op) {
    EVP_CIPHER_CTX *context = contexts(key)->encrypt;
    uint8_t nonce[IPC_AEAD_NONCE];
    int length;
    ipc_nonce(nonce, key->salt, op->iv);
    return EVP_DecryptInit_ex(context, NULL, NULL, NULL, nonce) &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG,
                               ipc_encryption_info(suite->encryption)->icv_length, (void *)op->received) &&
           aead_associated(context, suite, op) &&
           EVP_DecryptUpdate(context, op->text, &length, op->text, (int)op->text_length) &&
           EVP_DecryptFinal_ex(context, op->text, &length);
}

/* --- AES-CBC (RFC 3602) --- */

static int cbc_expand(struct ipc_ossl_key *key, const EVP_CIPHER *fetched, const uint8_t *bytes) {
    struct contexts *c = contexts(key);
    c->encrypt = EVP_CIPHER_CTX_new();
    c->decrypt = EVP_CIPHER_CTX_new();
    return c->encrypt && c->decrypt && EVP_EncryptInit_ex(c->encrypt, fetched, NULL, bytes, zero_iv) &&
           EVP_DecryptInit_ex(c->decrypt, fetched, NULL, bytes, zero_iv) &&
           EVP_CIPHER_CTX_set_padding(c->encrypt, 0) && EVP_CIPHER_CTX_set_padding(c->decrypt, 0);
}

static int cbc_encrypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                       struct ipc_crypto_op *op) {
    EVP_CIPHER_CTX *context = contexts(key)->encrypt;
    int length;
    (void)suite;
    return EVP_EncryptInit_ex(context, NULL, NULL, NULL, zero_iv) &&
           EVP_EncryptUpdate(context, op->iv, &length, op->iv, AES_BLOCK + (int)op->text_length);
}

static int cbc_decrypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                       struct ipc_crypto_op *op) {
    EVP_CIPHER_CTX *context = contexts(key)->decrypt;
    int length;
    (void)suite;
    return EVP_DecryptInit_ex(context, NULL, NULL, NULL, op->iv) &&
           EVP_DecryptUpdate(context, op->text, &length, op->text, (int)op->text_length);
}

/* --- AES-CTR (RFC 3686) --- */

static int ctr_crypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                     struct ipc_crypto_op *op) {
    EVP_CIPHER_CTX *context = contexts(key)->encrypt;
    uint8_t counter[AES_BLOCK] = {[AES_BLOCK - 1] = 1};
    int length;
    (void)suite;
    ipc_nonce(counter, key->salt, op->iv);
    return EVP_EncryptInit_ex(context, NULL, NULL, NULL, counter) &&
           EVP_EncryptUpdate(context, op->text, &length, op->text, (int)op->text_length);
}

/* --- DES-CBC (RFC 2405), 3DES-CBC (RFC 2451) --- */

static DES_key_schedule *schedules(const struct ipc_ossl_key *key) {
    return (DES_key_schedule *)(void *)key->bytes; /* read only; the library's type is not const */
}

/* Unchecked: parity, weak keys and K1 = K2 are for whoever negotiates the keys to judge (RFC 2451 2.3). */
static void des_schedule(DES_key_schedule *schedule, const uint8_t *bytes) {
    DES_cblock block;
    memcpy(block, bytes, sizeof block);
    DES_set_key_unchecked(&block, schedule);
    ipc_wipe(block, sizeof block);
}

static int des_expand(struct ipc_ossl_key *key, const EVP_CIPHER *fetched, const uint8_t *bytes) {
    (void)fetched;
    des_schedule(schedules(key), bytes);
    return 1;
}

static int des3_expand(struct ipc_ossl_key *key, const EVP_CIPHER *fetched, const uint8_t *bytes) {
    (void)fetched;
    for (int i = 0; i < 3; i++)
        des_schedule(schedules(key) + i, bytes + i * DES_KEY_SZ);
    return 1;
}

static void des(const struct ipc_ossl_key *key, const uint8_t *iv, uint8_t *text, uint32_t length,
                int encrypt) {
    DES_cblock chain;
    memcpy(chain, iv, sizeof chain);
    DES_ncbc_encrypt(text, text, (long)length, schedules(key), &chain, encrypt);
}

static void des3(const struct ipc_ossl_key *key, const uint8_t *iv, uint8_t *text, uint32_t length,
                 int encrypt) {
    DES_key_schedule *s = schedules(key);
    DES_cblock chain;
    memcpy(chain, iv, sizeof chain);
    DES_ede3_cbc_encrypt(text, text, (long)length, &s[0], &s[1], &s[2], &chain, encrypt);
}

#    define DES_CRYPT(name)                                                                                  \
        static int name##_encrypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,      \
                                  struct ipc_crypto_op *op) {                                                \
            (void)suite;                                                                                     \
            name(key, zero_iv, op->iv, DES_KEY_SZ + op->text_length, DES_ENCRYPT);                           \
            return 1;                                                                                        \
        }                                                                                                    \
        static int name##_decrypt(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,      \
                                  struct ipc_crypto_op *op) {                                                \
            (void)suite;                                                                                     \
            name(key, op->iv, op->text, op->text_length, DES_DECRYPT);                                       \
            return 1;                                                                                        \
        }
DES_CRYPT(des)
DES_CRYPT(des3)
#    undef DES_CRYPT

#    define AEAD(fetch)                                                                                      \
        { salted_expand, evp_release, aead_encrypt, aead_decrypt, IPC_OSSL_##fetch, sizeof(struct contexts) }
#    define CBC(fetch)                                                                                       \
        { cbc_expand, evp_release, cbc_encrypt, cbc_decrypt, IPC_OSSL_##fetch, sizeof(struct contexts) }
#    define CTR(fetch)                                                                                       \
        { salted_expand, evp_release, ctr_crypt, ctr_crypt, IPC_OSSL_##fetch, sizeof(struct contexts) }

const struct ipc_ossl_cipher ipc_ossl_ciphers[IPC_ENCRYPTION_COUNT] = {
    [IPC_ENCRYPTION_NULL] = {null_expand, nothing_to_release, null_crypt, null_crypt, IPC_OSSL_NOTHING, 0},
    [IPC_ENCRYPTION_DES_CBC] = {des_expand, nothing_to_release, des_encrypt, des_decrypt, IPC_OSSL_NOTHING,
                                sizeof(DES_key_schedule)},
    [IPC_ENCRYPTION_3DES_CBC] = {des3_expand, nothing_to_release, des3_encrypt, des3_decrypt,
                                 IPC_OSSL_NOTHING, 3 * sizeof(DES_key_schedule)},
    [IPC_ENCRYPTION_AES128_CBC] = CBC(AES128_CBC),
    [IPC_ENCRYPTION_AES192_CBC] = CBC(AES192_CBC),
    [IPC_ENCRYPTION_AES256_CBC] = CBC(AES256_CBC),
    [IPC_ENCRYPTION_AES128_CTR] = CTR(AES128_CTR),
    [IPC_ENCRYPTION_AES192_CTR] = CTR(AES192_CTR),
    [IPC_ENCRYPTION_AES256_CTR] = CTR(AES256_CTR),
    [IPC_ENCRYPTION_AES128_GCM16] = AEAD(AES128_GCM),
    [IPC_ENCRYPTION_AES192_GCM16] = AEAD(AES192_GCM),
    [IPC_ENCRYPTION_AES256_GCM16] = AEAD(AES256_GCM),
    [IPC_ENCRYPTION_AES128_GCM12] = AEAD(AES128_GCM),
    [IPC_ENCRYPTION_AES192_GCM12] = AEAD(AES192_GCM),
    [IPC_ENCRYPTION_AES256_GCM12] = AEAD(AES256_GCM),
    [IPC_ENCRYPTION_AES128_GCM8] = AEAD(AES128_GCM),
    [IPC_ENCRYPTION_AES192_GCM8] = AEAD(AES192_GCM),
    [IPC_ENCRYPTION_AES256_GCM8] = AEAD(AES256_GCM),
    [IPC_ENCRYPTION_CHACHA20_POLY1305] = AEAD(CHACHA20_POLY1305),
};
#else
typedef int ipc_crypto_openssl_ciphers_not_built;
#endif
