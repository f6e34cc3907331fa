/*
 * A burst: packets in one arena, side by side with their verdicts. Every slot has headroom for outer headers
 * and tailroom for padding and ICV, so that packets are protected where they lie.
 */
#ifndef IPSEC_CORE_BURST_H
#define IPSEC_CORE_BURST_H

#include "ipsec_core/status.h"
#include "ipsec_core/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IPC_BURST_MAX      256 /* packets */
#define IPC_BURST_HEADROOM 192 /* two outer IPv6 headers with UDP, ESP and IV or AH, with room to spare */
#define IPC_BURST_TAILROOM                                                                                   \
    128 /* twice padding up to a block, trailer, ICV, and what is written past them                          \
         */
#define IPC_PACKET_MAX      65535
#define IPC_NO_SA           UINT32_MAX
#define IPC_NO_FILTER_INDEX UINT32_MAX

/* Arrays have `capacity` elements, of which the first `count` are in use. `offset` is from the start of
 * `arena`. */
struct ipc_burst {
    uint8_t *arena;
    uint32_t *offset;
    uint32_t *length;
    uint32_t *sa;     /* index of the SA that protected or should have protected it, or IPC_NO_SA */
    uint32_t *filter; /* index of the filter that decided, or IPC_NO_FILTER_INDEX */
    ipc_time *time;   /* when the packet passes the driver */
    uint8_t *status;  /* enum ipc_status */
    uint32_t capacity, count;
    uint32_t stride;     /* bytes from slot to slot */
    uint32_t max_packet; /* longest packet that can be loaded */
};

/* capacity 1..IPC_BURST_MAX, max_packet 20..IPC_PACKET_MAX. */
int ipc_burst_create(uint32_t capacity, uint32_t max_packet, struct ipc_burst **out);
void ipc_burst_destroy(struct ipc_burst *b);

/* Copies a packet into the next slot. IPC_E(FULL): no slot left; IPC_E(INVALID): longer than max_packet. */
int ipc_burst_add(struct ipc_burst *b, const uint8_t *packet, uint32_t length, ipc_time time);

static inline uint8_t *ipc_burst_packet(const struct ipc_burst *b, uint32_t i) {
    return b->arena + b->offset[i];
}
static inline void ipc_burst_reset(struct ipc_burst *b) {
    b->count = 0;
}

#ifdef __cplusplus
}
#endif
#endif
