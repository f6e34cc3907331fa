/*
 * SPI -> SA index: open addressing, linear probing, deletion without tombstones, seeded hash (an attacker
 * cannot aim collisions). Key: SPI, destination, protocol (RFC 2401 4.4.3). Private.
 */
#ifndef IPC_SPI_TABLE_H
#define IPC_SPI_TABLE_H

#include <stdint.h>

struct ipc_spi_slot {
    uint32_t spi;
    uint32_t destination;
    uint32_t index;
    uint32_t protocol; /* 0: empty slot */
};
_Static_assert(sizeof(struct ipc_spi_slot) == 16, "four slots a cache line");

struct ipc_spi_table {
    struct ipc_spi_slot *slots;
    uint32_t size; /* slots, any number >= 2 */
    uint32_t used;
    uint64_t seed[2];
};

int ipc_spi_table_create(struct ipc_spi_table *t, uint32_t size, const uint64_t seed[2]);
void ipc_spi_table_destroy(struct ipc_spi_table *t);
/* IPC_E(FULL) when only one slot is left (a probe must end at an empty one). The key must not be in the
 * table. */
int ipc_spi_table_insert(struct ipc_spi_table *t, uint32_t spi, uint32_t destination, uint8_t protocol,
                         uint32_t index);
int ipc_spi_table_delete(struct ipc_spi_table *t, uint32_t spi, uint32_t destination, uint8_t protocol);
/* Doubles the table when it is more than half full. */
int ipc_spi_table_reserve(struct ipc_spi_table *t);

static inline uint32_t ipc_spi_home(const struct ipc_spi_table *t, uint32_t spi, uint32_t destination,
                                    uint8_t protocol) {
    unsigned __int128 product = (unsigned __int128)(((uint64_t)spi << 32 | destination) ^ t->seed[0]) *
                                (t->seed[1] + (uint64_t)protocol * 2);
    uint64_t hash = (uint64_t)product ^ (uint64_t)(product >> 64);
    return (uint32_t)((hash >> 32) * t->size >> 32);
}

/* From the home slot on; UINT32_MAX when the key is not there. */
static inline uint32_t ipc_spi_probe(const struct ipc_spi_table *t, uint32_t at, uint32_t spi,
                                     uint32_t destination, uint8_t protocol) {
    for (;;) {
        const struct ipc_spi_slot *slot = &t->slots[at];
        if (slot->spi == spi && slot->destination == destination && slot->protocol == protocol)
            return slot->index;
        if (slot->protocol == 0) return UINT32_MAX;
        if (++at == t->size) at = 0;
    }
}

static inline uint32_t ipc_spi_find(const struct ipc_spi_table *t, uint32_t spi, uint32_t destination,
                                    uint8_t protocol) {
    return ipc_spi_probe(t, ipc_spi_home(t, spi, destination, protocol), spi, destination, protocol);
}

#endif
