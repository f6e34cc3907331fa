/*
 * SPI -> SA index: open addressing, linear probing, deletion without tombstones, seeded hash (an attacker
 * cannot aim collisions). Key: SPI, destination, protocol (RFC 2401 4.4.3). Private.
 *
 * A slot has 32 bits for the destination. An IPv4 address fits: a hit is exact. Of an IPv6 address it keeps a
 * seeded hash: whoever looks up compares the address in the SA's record, and goes on with ipc_spi_next() when
 * it is another one. Keys start at the head of a cache line of four slots, so that one line nearly always
 * tells: a line without the key that has an empty slot ends the search.
 *
 * A table of zeros is an empty one that takes nothing in.
 */
#ifndef IPC_SPI_TABLE_H
#define IPC_SPI_TABLE_H

#include <stdint.h>

#include "hash.h"
#include "ipsec_core/types.h"

#define IPC_SPI_NONE  UINT32_MAX /* no index */
#define IPC_SPI_IPV6  0x100u     /* in a tag: the word is a hash */
#define IPC_SPI_BURST 256        /* most look-ups in one call */
#define IPC_SPI_LINE  4          /* slots a cache line */

struct ipc_spi_slot {
    uint32_t spi;
    uint32_t word;
    uint32_t index;
    uint32_t tag; /* 0: empty */
};
_Static_assert(sizeof(struct ipc_spi_slot) * IPC_SPI_LINE == 64, "four slots a cache line");

struct ipc_spi_table {
    struct ipc_spi_slot
        *slots;    /* whole cache lines; what is beyond `size` matches nothing and is never empty */
    uint32_t size; /* slots, 2 to 2^31 */
    uint32_t used;
    uint64_t seed[2];
};

/* `seed` is of random bits; tables that one burst asks have the same. IPC_E(INVALID): size; IPC_E(NO_MEMORY).
 */
int ipc_spi_table_create(struct ipc_spi_table *t, uint32_t size, const uint64_t seed[2]);
void ipc_spi_table_destroy(struct ipc_spi_table *t);
/* IPC_E(FULL) when only one slot is left (a probe must end at an empty one). Does not look whether the key is
 * there: IPv6 addresses may share a word. The index is any but IPC_SPI_NONE. */
int ipc_spi_table_insert(struct ipc_spi_table *t, uint32_t spi, uint32_t word, uint32_t tag, uint32_t index);
/* Takes out the slot that has this key and this index; IPC_E(NOT_FOUND). Moves slots: no cursor stays good.
 */
int ipc_spi_table_delete(struct ipc_spi_table *t, uint32_t spi, uint32_t word, uint32_t tag, uint32_t index);
/* Doubles the table when it is at least half full. On failure it stays as it is. */
int ipc_spi_table_reserve(struct ipc_spi_table *t);

/* Protocol (50 ESP, 51 AH) and family. */
static inline uint32_t ipc_spi_tag(uint8_t protocol, ipc_address destination) {
    return ipc_address_is_ipv4(destination) ? protocol : protocol | IPC_SPI_IPV6;
}

/* The same for all tables of one seed. */
static inline uint32_t ipc_spi_word(const struct ipc_spi_table *t, ipc_address destination) {
    if (ipc_address_is_ipv4(destination)) return (uint32_t)destination.low;
    uint64_t high = ipc_fold_product(destination.high ^ t->seed[0], t->seed[1]);
    return (uint32_t)(ipc_fold_product(destination.low ^ high, t->seed[0] | 1) >> 32);
}

static inline uint32_t ipc_spi_lines(const struct ipc_spi_table *t) {
    return t->size / IPC_SPI_LINE + (t->size % IPC_SPI_LINE != 0);
}

/* 32 bits that do not depend on the size of the table. */
static inline uint32_t ipc_spi_hash(const uint64_t seed[2], uint32_t spi, uint32_t word, uint32_t tag) {
    return (uint32_t)(ipc_fold_product(((uint64_t)spi << 32 | word) ^ seed[0], seed[1] + (uint64_t)tag * 2) >>
                      32);
}

/*
 * The next index stored under the key. `*cursor` is 0 for the first and belongs to the table until
 * IPC_SPI_NONE comes or the table changes.
 */
static inline uint32_t ipc_spi_next(const struct ipc_spi_table *t, uint32_t *cursor, uint32_t spi,
                                    uint32_t word, uint32_t tag) {
    if (t->used == 0) return IPC_SPI_NONE;
    uint32_t lines = ipc_spi_lines(t);
    uint32_t home = (uint32_t)((uint64_t)ipc_spi_hash(t->seed, spi, word, tag) * lines >> 32) * IPC_SPI_LINE;
    for (;;) {
        uint64_t at = (uint64_t)home + *cursor;
        if (at >= (uint64_t)lines * IPC_SPI_LINE) at -= (uint64_t)lines * IPC_SPI_LINE;
        const struct ipc_spi_slot *slot = &t->slots[at];
        if (slot->tag == 0) return IPC_SPI_NONE;
        ++*cursor;
        if (slot->spi == spi && slot->word == word && slot->tag == tag) return slot->index;
    }
}

/* The first index stored under the key, or IPC_SPI_NONE. */
static inline uint32_t ipc_spi_find(const struct ipc_spi_table *t, uint32_t spi, uint32_t word,
                                    uint32_t tag) {
    uint32_t cursor = 0;
    return ipc_spi_next(t, &cursor, spi, word, tag);
}

/*
 * Look-ups of `count` <= IPC_SPI_BURST keys of one tag in both tables (of one seed; `overflow` may be NULL),
 * with their memory accesses overlapped: index[i] is an index stored under the key in one of them, or
 * IPC_SPI_NONE. Of several (IPv6 words that collide) it is any: with another address in the SA's record, ask
 * both tables by ipc_spi_next().
 */
void ipc_spi_find_burst(const struct ipc_spi_table *main, const struct ipc_spi_table *overflow,
                        const uint32_t *spi, const uint32_t *word, uint32_t tag, uint32_t count,
                        uint32_t *index);

#endif
