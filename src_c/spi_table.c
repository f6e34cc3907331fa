#include "spi_table.h"

#include <stdlib.h>

#include "ipsec_core/types.h"

int ipc_spi_table_create(struct ipc_spi_table *t, uint32_t size, const uint64_t seed[2]) {
    if (size < 2) return IPC_E(INVALID);
    t->slots = aligned_alloc(64, ((size_t)size * sizeof *t->slots + 63) / 64 * 64);
    if (!t->slots) return IPC_E(NO_MEMORY);
    for (uint32_t i = 0; i < size; i++)
        t->slots[i] = (struct ipc_spi_slot){0};
    t->size = size;
    t->used = 0;
    t->seed[0] = seed[0];
    t->seed[1] = seed[1] | 1;
    return 0;
}

void ipc_spi_table_destroy(struct ipc_spi_table *t) {
    free(t->slots);
    t->slots = NULL;
    t->size = t->used = 0;
}

int ipc_spi_table_insert(struct ipc_spi_table *t, uint32_t spi, uint32_t destination, uint8_t protocol,
                         uint32_t index) {
    if (t->used + 1 >= t->size) return IPC_E(FULL);
    uint32_t at = ipc_spi_home(t, spi, destination, protocol);
    while (t->slots[at].protocol != 0)
        if (++at == t->size) at = 0;
    t->slots[at] = (struct ipc_spi_slot){spi, destination, index, protocol};
    t->used++;
    return 0;
}

int ipc_spi_table_delete(struct ipc_spi_table *t, uint32_t spi, uint32_t destination, uint8_t protocol) {
    uint32_t at = ipc_spi_home(t, spi, destination, protocol);
    for (;; at = at + 1 == t->size ? 0 : at + 1) {
        const struct ipc_spi_slot *slot = &t->slots[at];
        if (slot->protocol == 0) return IPC_E(NOT_FOUND);
        if (slot->spi == spi && slot->destination == destination && slot->protocol == protocol) break;
    }
    /* Pull back every later slot of the run that the gap would cut off from its home (Knuth, 6.4 algorithm
     * R). */
    uint32_t gap = at;
    for (;;) {
        at = at + 1 == t->size ? 0 : at + 1;
        struct ipc_spi_slot slot = t->slots[at];
        if (slot.protocol == 0) break;
        uint32_t home = ipc_spi_home(t, slot.spi, slot.destination, (uint8_t)slot.protocol);
        uint32_t from_home = at >= home ? at - home : at + t->size - home;
        uint32_t from_gap = at >= gap ? at - gap : at + t->size - gap;
        if (from_home >= from_gap) {
            t->slots[gap] = slot;
            gap = at;
        }
    }
    t->slots[gap] = (struct ipc_spi_slot){0};
    t->used--;
    return 0;
}

int ipc_spi_table_reserve(struct ipc_spi_table *t) {
    if (t->used < t->size / 2) return 0;
    struct ipc_spi_table bigger;
    int rc = ipc_spi_table_create(&bigger, t->size * 2, t->seed);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < t->size; i++) {
        const struct ipc_spi_slot *slot = &t->slots[i];
        if (slot->protocol)
            (void)ipc_spi_table_insert(&bigger, slot->spi, slot->destination, (uint8_t)slot->protocol,
                                       slot->index);
    }
    free(t->slots);
    *t = bigger;
    return 0;
}
