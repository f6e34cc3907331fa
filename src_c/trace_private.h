/* What loading (trace.c) and mapping (trace_map.c) share. Private. */
#ifndef IPC_TRACE_PRIVATE_H
#define IPC_TRACE_PRIVATE_H

#include "ipsec_core/trace.h"
#include "packet.h"

#define IPC_ETHERTYPE_IPV4 0x0800u

/* From keys other than 0 to numbers. Grows; open addressing. */
struct ipc_table {
    struct ipc_table_entry {
        uint64_t key;
        uint32_t value;
    } * entries;
    size_t size, used; /* size: 0 or a power of two */
};

struct ipc_trace {
    uint8_t *block;
    size_t used, room;
    struct ipc_trace_frame *frames; /* before mapping: all that can be sent, with from = to = 0 */
    size_t count, frame_room;
    struct ipc_conversation *conversations;
    size_t pairs, pair_room;
    struct ipc_trace_stats stats;
    struct ipc_table macs; /* MAC address (ipc_mac_key) -> computer */
    size_t others;         /* frames that are not IPv4 */
    uint8_t ethernet;      /* MAC addresses are the capture's own */
    uint8_t mapped;
};

/* Makes `memory` hold `need` items: doubles, so that appending costs constant time. NULL: no memory, `memory`
 * stays. */
void *ipc_trace_grow(void *memory, size_t *room, size_t need, size_t item);

#define IPC_TABLE_NONE UINT32_MAX

uint32_t ipc_table_get(const struct ipc_table *table, uint64_t key);
/* The value of the key, IPC_TABLE_NONE when it is new; valid until the next call. NULL: no memory. */
uint32_t *ipc_table_at(struct ipc_table *table, uint64_t key);

/* A MAC address as a key of a table: never 0. */
static inline uint64_t ipc_mac_key(const uint8_t *mac) {
    return (uint64_t)1 << 48 | (uint64_t)ipc_load16(mac) << 32 | ipc_load32(mac + 2);
}

#endif
