#include "link.h"

#include <stdlib.h>
#include <string.h>

static int make_room(struct ipc_wire *wire, size_t need) {
    if (wire->size - wire->used >= need) return 0;
    size_t done = wire->head < wire->captured ? wire->head : wire->captured;
    if (done >= wire->size / 2 && wire->size - (wire->used - done) >= need) {
        memmove(wire->bytes, wire->bytes + done, wire->used - done);
        wire->head -= done;
        wire->captured -= done;
        wire->used -= done;
        return 0;
    }
    size_t size = wire->size ? wire->size : (size_t)1 << 18;
    while (size - wire->used < need)
        size *= 2;
    uint8_t *bytes = realloc(wire->bytes, size);
    if (!bytes) return IPC_E(NO_MEMORY);
    wire->bytes = bytes;
    wire->size = size;
    return 0;
}

int ipc_wire_send(struct ipc_wire *wire, const uint8_t *l2, uint32_t l2_length, uint16_t ethertype,
                  const uint8_t *l3, uint32_t l3_length, ipc_time now) {
    size_t size = (sizeof(struct ipc_wire_frame) + l2_length + l3_length + 7) & ~(size_t)7;
    int rc = make_room(wire, size);
    if (rc < 0) return rc;
    if (now > wire->free_at) {
        wire->free_at = now;
        wire->fraction = 0;
    }
    /* Whole nanoseconds pass on the clock, the rest is carried to the next frame: no rate drifts. */
    uint64_t length = ipc_wire_length(l2_length + l3_length);
    unsigned __int128 gap_end = (unsigned __int128)length * 8 * 1000000000u + wire->fraction;
    unsigned __int128 frame_end =
        (unsigned __int128)(length - IPC_ETH_GAP) * 8 * 1000000000u + wire->fraction;
    ipc_time start = wire->free_at;
    wire->free_at = start + (ipc_time)(gap_end / wire->rate);
    wire->fraction = (uint64_t)(gap_end % wire->rate);

    struct ipc_wire_frame *frame = (struct ipc_wire_frame *)(void *)(wire->bytes + wire->used);
    *frame = (struct ipc_wire_frame){
        .start = start,
        .arrival = start + (ipc_time)((frame_end + wire->rate - 1) / wire->rate) + wire->delay,
        .size = (uint32_t)size,
        .l3_length = l3_length,
        .ethertype = ethertype,
        .l2_length = (uint8_t)l2_length,
    };
    memcpy(frame + 1, l2, l2_length);
    memcpy((uint8_t *)(frame + 1) + l2_length, l3, l3_length);
    wire->used += size;
    wire->counters.frames++;
    wire->counters.bytes += l2_length + l3_length;
    wire->counters.wire_bytes += length;
    wire->counters.busy_ns += wire->free_at - start;
    uint64_t waiting = (uint64_t)((unsigned __int128)(wire->free_at - now) * wire->rate / 8000000000u);
    if (waiting > wire->counters.queue_peak_bytes) wire->counters.queue_peak_bytes = waiting;
    return 0;
}

void ipc_wire_destroy(struct ipc_wire *wire) {
    free(wire->bytes);
    wire->bytes = NULL;
}
