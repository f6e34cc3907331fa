/* Captures by MAC address: for traffic that has no IPv4 hosts. */
#include "ipsec_core/trace.h"

#include <stdlib.h>
#include <string.h>

#include "trace_private.h"

struct pairs {
    struct ipc_station_pair *list;
    size_t count, room;
};

static int busier(const void *left, const void *right) {
    const struct ipc_station_pair *x = left, *y = right;
    if (x->frames != y->frames) return x->frames > y->frames ? -1 : 1;
    int order = memcmp(x->a, y->a, sizeof x->a);
    return order ? order : memcmp(x->b, y->b, sizeof x->b);
}

static uint32_t number_of(struct ipc_table *stations, const uint8_t *mac) {
    uint32_t *number = ipc_table_at(stations, ipc_mac_key(mac));
    if (!number) return IPC_TABLE_NONE;
    if (*number == IPC_TABLE_NONE) *number = (uint32_t)stations->used;
    return *number;
}

static int count_pair(struct ipc_table *stations, struct ipc_table *index, struct pairs *pairs,
                      const uint8_t *bytes, uint64_t length) {
    const uint8_t *a = bytes + 6, *b = bytes;
    int order = memcmp(a, b, 6);
    if (order == 0 || (a[0] & 1) || (b[0] & 1)) return 0;
    if (order > 0) {
        a = bytes;
        b = bytes + 6;
    }
    uint32_t x = number_of(stations, a), y = number_of(stations, b);
    if (x == IPC_TABLE_NONE || y == IPC_TABLE_NONE) return IPC_E(NO_MEMORY);
    uint32_t *at = ipc_table_at(index, (uint64_t)x << 32 | y);
    if (!at) return IPC_E(NO_MEMORY);
    if (*at == IPC_TABLE_NONE) {
        void *grown = ipc_trace_grow(pairs->list, &pairs->room, pairs->count + 1, sizeof *pairs->list);
        if (!grown) return IPC_E(NO_MEMORY);
        pairs->list = grown;
        struct ipc_station_pair *pair = &pairs->list[pairs->count];
        memset(pair, 0, sizeof *pair);
        memcpy(pair->a, a, sizeof pair->a);
        memcpy(pair->b, b, sizeof pair->b);
        *at = (uint32_t)pairs->count++;
    }
    pairs->list[*at].frames++;
    pairs->list[*at].bytes += length;
    return 0;
}

int64_t ipc_trace_stations(const ipc_trace *t, struct ipc_station_pair *out, size_t max) {
    struct ipc_table stations = {0}, index = {0};
    struct pairs pairs = {0};
    int code = 0;
    for (size_t i = 0; i < t->count && code == 0; i++) {
        const struct ipc_trace_frame *frame = &t->frames[i];
        code = count_pair(&stations, &index, &pairs, t->block + frame->offset,
                          (uint64_t)frame->l2_length + frame->l3_length);
    }
    if (code == 0 && pairs.count) {
        qsort(pairs.list, pairs.count, sizeof *pairs.list, busier);
        memcpy(out, pairs.list, (max < pairs.count ? max : pairs.count) * sizeof *out);
    }
    free(stations.entries);
    free(index.entries);
    free(pairs.list);
    return code < 0 ? code : (int64_t)pairs.count;
}

int ipc_trace_assign(ipc_trace *t, const uint8_t mac[6], uint8_t computer) {
    if (t->mapped) return IPC_E(INVALID);
    uint32_t *value = ipc_table_at(&t->macs, ipc_mac_key(mac));
    if (!value) return IPC_E(NO_MEMORY);
    *value = computer;
    return 0;
}
