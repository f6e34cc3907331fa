#include "ipsec_core/burst.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_LINE 64u

int ipc_burst_create(uint32_t capacity, uint32_t max_packet, struct ipc_burst **out) {
    if (capacity < 1 || capacity > IPC_BURST_MAX || max_packet < 20 || max_packet > IPC_PACKET_MAX)
        return IPC_E(INVALID);
    uint32_t stride =
        (IPC_BURST_HEADROOM + max_packet + IPC_BURST_TAILROOM + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    /* An odd number of lines spreads the headers of neighbouring slots over all cache sets. */
    if (stride / CACHE_LINE % 2 == 0) stride += CACHE_LINE;
    struct ipc_burst *b = calloc(1, sizeof *b);
    if (!b) return IPC_E(NO_MEMORY);
    b->capacity = capacity;
    b->stride = stride;
    b->max_packet = max_packet;
    b->arena = aligned_alloc(CACHE_LINE, (size_t)stride * capacity);
    b->offset = calloc(capacity, sizeof *b->offset);
    b->length = calloc(capacity, sizeof *b->length);
    b->sa = calloc(capacity, sizeof *b->sa);
    b->filter = calloc(capacity, sizeof *b->filter);
    b->time = calloc(capacity, sizeof *b->time);
    b->status = calloc(capacity, 1);
    if (!b->arena || !b->offset || !b->length || !b->sa || !b->filter || !b->time || !b->status) {
        ipc_burst_destroy(b);
        return IPC_E(NO_MEMORY);
    }
    memset(b->arena, 0, (size_t)stride * capacity);
    *out = b;
    return 0;
}

void ipc_burst_destroy(struct ipc_burst *b) {
    if (!b) return;
    free(b->arena);
    free(b->offset);
    free(b->length);
    free(b->sa);
    free(b->filter);
    free(b->time);
    free(b->status);
    free(b);
}

int ipc_burst_add(struct ipc_burst *b, const uint8_t *packet, uint32_t length, ipc_time time) {
    if (b->count == b->capacity) return IPC_E(FULL);
    if (length > b->max_packet) return IPC_E(INVALID);
    uint32_t i = b->count++;
    b->offset[i] = i * b->stride + IPC_BURST_HEADROOM;
    b->length[i] = length;
    b->sa[i] = IPC_NO_SA;
    b->filter[i] = IPC_NO_FILTER_INDEX;
    b->time[i] = time;
    b->status[i] = IPC_UNPROCESSED;
    if (length) /* memcpy is not defined for NULL, which an empty packet may be */
        memcpy(b->arena + b->offset[i], packet, length);
    return 0;
}
