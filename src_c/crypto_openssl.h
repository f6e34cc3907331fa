/* What the files of the OpenSSL back end share. */
#ifndef IPSEC_CORE_CRYPTO_OPENSSL_H
#define IPSEC_CORE_CRYPTO_OPENSSL_H

/*
 * OpenSSL 3 deprecates the DES_, MD5_ and SHA_ functions in favour of EVP. They stay here for two reasons:
 * EVP_MAC cannot start again from saved inner and outer states without allocating a copy for each packet, and
 * some providers refuse 3DES keys with K1 = K2, which real peers use.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto_backends.h"

#include <openssl/evp.h>
#include <openssl/md5.h>
#include <openssl/sha.h>

/* Fetched once per engine: a fetch takes locks. X(name, the library's name) */
#define IPC_OSSL_FETCH_LIST(X)                                                                               \
    X(AES128_CBC, "AES-128-CBC")                                                                             \
    X(AES192_CBC, "AES-192-CBC")                                                                             \
    X(AES256_CBC, "AES-256-CBC")                                                                             \
    X(AES128_CTR, "AES-128-CTR")                                                                             \
    X(AES192_CTR, "AES-192-CTR")                                                                             \
    X(AES256_CTR, "AES-256-CTR")                                                                             \
    X(AES128_GCM, "AES-128-GCM")                                                                             \
    X(AES192_GCM, "AES-192-GCM")                                                                             \
    X(AES256_GCM, "AES-256-GCM")                                                                             \
    X(CHACHA20_POLY1305, "ChaCha20-Poly1305")

enum ipc_ossl_fetch {
    IPC_OSSL_NOTHING,
#define X(name, text) IPC_OSSL_##name,
    IPC_OSSL_FETCH_LIST(X)
#undef X
        IPC_OSSL_FETCH_COUNT
};

union ipc_ossl_hash_state {
    MD5_CTX md5;
    SHA_CTX sha1;
    SHA256_CTX sha256;
    SHA512_CTX sha512; /* SHA-384, too */
};

struct ipc_ossl_engine {
    EVP_CIPHER *fetched[IPC_OSSL_FETCH_COUNT]; /* NULL where no provider has it */
    union ipc_ossl_hash_state scratch; /* derived from keys, so kept where it is wiped, not on the stack */
};

struct ipc_ossl_key {
    struct ipc_crypto_suite suite;
    uint8_t salt[IPC_SALT_MAX];
    size_t mac_at;
    /* What the cipher's expand made, at mac_at what the mac's made. */
    _Alignas(16) uint8_t bytes[];
};

/* expand: 1, or 0 on failure; release is called even then. crypt: 1, or 0 when an AEAD finds the ICV wrong
 * (the other ciphers cannot fail). */
struct ipc_ossl_cipher {
    int (*expand)(struct ipc_ossl_key *key, const EVP_CIPHER *fetched, const uint8_t *bytes);
    void (*release)(struct ipc_ossl_key *key);
    int (*encrypt)(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                   struct ipc_crypto_op *op);
    int (*decrypt)(const struct ipc_ossl_key *key, const struct ipc_crypto_suite *suite,
                   struct ipc_crypto_op *op);
    enum ipc_ossl_fetch fetch;
    size_t length; /* in the key */
};

struct ipc_ossl_hash;

/* compute: the whole digest. */
struct ipc_ossl_mac {
    int (*expand)(struct ipc_ossl_key *key, const struct ipc_ossl_hash *hash, const EVP_CIPHER *fetched,
                  const uint8_t *bytes);
    void (*release)(struct ipc_ossl_key *key);
    int (*compute)(struct ipc_ossl_engine *engine, const struct ipc_ossl_hash *hash,
                   const struct ipc_crypto_suite *suite, const struct ipc_crypto_op *op, uint8_t *digest);
    const struct ipc_ossl_hash *hash;
    enum ipc_ossl_fetch fetch;
    size_t length; /* in the key */
};

extern const struct ipc_ossl_cipher ipc_ossl_ciphers[IPC_ENCRYPTION_COUNT];
extern const struct ipc_ossl_mac ipc_ossl_macs[IPC_INTEGRITY_COUNT];

#endif
