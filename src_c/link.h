/* One direction of an Ethernet link: serialisation bit by bit in virtual time, and the frames in flight.
 * Private. */
#ifndef IPC_LINK_H
#define IPC_LINK_H

#include "ipsec_core/world.h"

struct ipc_wire_frame {
    ipc_time start;   /* first bit of the preamble */
    ipc_time arrival; /* last bit of the FCS at the other end */
    uint32_t size;    /* of this record with its bytes, a multiple of 8 */
    uint32_t l3_length;
    uint16_t ethertype;
    uint8_t l2_length;
};

struct ipc_wire {
    uint64_t rate;
    ipc_time delay, free_at; /* next frame may start */
    uint64_t fraction;       /* of free_at, in 1/rate ns */
    uint8_t *bytes; /* records in order of start: [head, used) in flight, [captured, used) not yet in the
                       capture */
    size_t head, captured, used, size;
    struct ipc_link_counters counters;
};

/* Puts a frame (header, layer 3) at the end of the queue at `now`. IPC_E(NO_MEMORY). */
int ipc_wire_send(struct ipc_wire *wire, const uint8_t *l2, uint32_t l2_length, uint16_t ethertype,
                  const uint8_t *l3, uint32_t l3_length, ipc_time now);
void ipc_wire_destroy(struct ipc_wire *wire);

static inline uint64_t ipc_wire_length(uint32_t frame) {
    return IPC_ETH_PREAMBLE + (frame < IPC_ETH_MINIMUM ? IPC_ETH_MINIMUM : frame) + IPC_ETH_FCS + IPC_ETH_GAP;
}
static inline const struct ipc_wire_frame *ipc_wire_at(const struct ipc_wire *wire, size_t at) {
    return (const struct ipc_wire_frame *)(const void *)(wire->bytes + at);
}
static inline const uint8_t *ipc_wire_l2(const struct ipc_wire_frame *frame) {
    return (const uint8_t *)(frame + 1);
}

#endif
