/* What seeds and hashes tables: splitmix64 (Steele, Lea, Flood, OOPSLA 2014) and a folded product. Private.
 */
#ifndef IPC_HASH_H
#define IPC_HASH_H

#include <stdint.h>

static inline uint64_t ipc_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
static inline uint64_t ipc_random(uint64_t *state) {
    return ipc_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

/* Both halves of the product: neither factor may be 0 for long, so seed them. */
static inline uint64_t ipc_fold_product(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#endif
