/* Filters and the IP header cache in front of them. */
#include "internal.h"

#include <stdlib.h>

static int matches(const struct ipc_filter *f, enum ipc_direction direction, const struct ipc_flow *flow) {
    return f->direction == direction && (flow->source & f->source_mask) == f->source &&
           (flow->destination & f->destination_mask) == f->destination &&
           (f->protocol == 0 || f->protocol == flow->protocol) &&
           (f->source_port == 0 || f->source_port == flow->source_port) &&
           (f->destination_port == 0 || f->destination_port == flow->destination_port);
}

int ipc_sa_covers(const struct ipc_sa_hot *sa, const struct ipc_flow *flow) {
    return (flow->source & sa->source_mask) == sa->source &&
           (flow->destination & sa->destination_mask) == sa->destination &&
           (sa->protocol == 0 || sa->protocol == flow->protocol) &&
           (sa->source_port == 0 || sa->source_port == flow->source_port) &&
           (sa->destination_port == 0 || sa->destination_port == flow->destination_port);
}

static void walk(ipc_driver *d, enum ipc_direction direction, const struct ipc_flow *flow, uint32_t *filter,
                 uint32_t *sa) {
    *filter = *sa = IPC_NONE;
    for (uint32_t i = 0; i < d->filter_count; i++) {
        if (!matches(&d->filters[i].filter, direction, flow)) continue;
        *filter = i;
        if (direction == IPC_OUTBOUND)
            for (uint32_t s = d->filters[i].newest; s != IPC_NONE; s = ipc_ctl(d, s)->next)
                if (ipc_sa_covers(ipc_hot(d, s), flow)) {
                    *sa = s;
                    break;
                }
        return;
    }
}

static struct ipc_cache_entry *entry_of(const ipc_driver *d, enum ipc_direction direction,
                                        const struct ipc_flow_key *key) {
    unsigned __int128 product = (unsigned __int128)(key->word[0] ^ d->seed[0]) * (key->word[1] ^ d->seed[1]);
    uint64_t hash = (uint64_t)product ^ (uint64_t)(product >> 64);
    uint64_t slot = (hash >> 32) * d->cache_slots >> 32;
    return &d->cache[slot + (direction == IPC_INBOUND ? d->cache_slots : 0)];
}

void ipc_decide(ipc_driver *d, enum ipc_direction direction, const struct ipc_flow *flow, uint32_t *filter,
                uint32_t *sa) {
    if (IPC_UNLIKELY(d->cache_off)) {
        walk(d, direction, flow, filter, sa);
        return;
    }
    struct ipc_flow_key key = ipc_flow_key(flow);
    struct ipc_cache_entry *e = entry_of(d, direction, &key);
    int same = key.word[0] == e->key.word[0] && key.word[1] == e->key.word[1];
    if (IPC_LIKELY(same && e->generation == d->generation)) {
        d->counters.cache_hits++;
        *filter = e->filter;
        *sa = e->sa;
        return;
    }
    d->counters.cache_misses++;
    if (e->generation == d->generation)
        d->counters.cache_overwrites++;
    else if (same && e->generation)
        d->counters.cache_stale++;
    walk(d, direction, flow, filter, sa);
    e->key = key;
    e->generation = d->generation;
    e->filter = *filter;
    e->sa = *sa;
}

void ipc_cache_invalidate(ipc_driver *d) {
    if (++d->generation == 0) {
        /* Once in 2^32 changes old entries could look fresh. */
        memset(d->cache, 0, (size_t)d->cache_slots * 2 * sizeof *d->cache);
        d->generation = 1;
    }
}

int ipc_cache_create(ipc_driver *d, uint32_t slots) {
    d->cache = aligned_alloc(64, ((size_t)slots * 2 * sizeof *d->cache + 63) / 64 * 64);
    if (!d->cache) return IPC_E(NO_MEMORY);
    memset(d->cache, 0, (size_t)slots * 2 * sizeof *d->cache);
    d->cache_slots = slots;
    d->generation = 1;
    return 0;
}

int ipc_driver_set_filters(ipc_driver *d, const struct ipc_filter *filters, uint32_t count) {
    struct ipc_filter_state *states = NULL;
    if (count) {
        states = calloc(count, sizeof *states);
        if (!states) return IPC_E(NO_MEMORY);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct ipc_filter *f = &filters[i];
        if (f->direction > IPC_INBOUND || f->action > IPC_PASSTHROUGH) {
            free(states);
            return IPC_E(INVALID);
        }
        states[i].filter = *f;
        states[i].filter.source &= f->source_mask;
        states[i].filter.destination &= f->destination_mask;
        states[i].newest = IPC_NONE;
    }
    free(d->filters);
    d->filters = states;
    d->filter_count = count;
    ipc_sa_link_all(d);
    ipc_cache_invalidate(d);
    return 0;
}

uint32_t ipc_driver_filter_count(const ipc_driver *d) {
    return d->filter_count;
}

int ipc_driver_filter(const ipc_driver *d, uint32_t index, struct ipc_filter *filter, uint64_t *packets) {
    if (index >= d->filter_count) return IPC_E(NOT_FOUND);
    *filter = d->filters[index].filter;
    *packets = d->filters[index].packets;
    return 0;
}
