/* Packets that wait for a negotiation, and what the driver asks of ISAKMP/Oakley. */
#include "internal.h"

int ipc_upcall_post(ipc_driver *d, const struct ipc_upcall *upcall) {
    if (d->upcall_head - d->upcall_tail == IPC_UPCALLS) {
        d->counters.upcalls_lost++;
        return 0;
    }
    d->upcall[d->upcall_head++ % IPC_UPCALLS] = *upcall;
    return 1;
}

int ipc_upcall_next(ipc_driver *d, struct ipc_upcall *upcall) {
    if (d->upcall_head == d->upcall_tail) return 0;
    *upcall = d->upcall[d->upcall_tail++ % IPC_UPCALLS];
    return 1;
}

int ipc_upcall_sa(ipc_driver *d, enum ipc_upcall_kind kind, uint32_t sa, ipc_time now) {
    const struct ipc_sa_ctl *ctl = ipc_ctl(d, sa);
    const struct ipc_sa_config *c = &ctl->config;
    struct ipc_upcall u = {
        .time = now,
        .sa = ipc_handle(sa, ctl->generation),
        .filter = c->filter,
        .peer = c->direction == IPC_OUTBOUND ? c->destination : c->source,
        .source = c->inner_source,
        .destination = c->inner_destination,
        .source_port = c->source_port,
        .destination_port = c->destination_port,
        .protocol = c->protocol,
        .kind = (uint8_t)kind,
    };
    return ipc_upcall_post(d, &u);
}

static uint32_t find_pending(const ipc_driver *d, uint32_t reference, ipc_address source,
                             ipc_address destination) {
    for (uint32_t i = 0; i < IPC_PENDING_MAX; i++) {
        const struct ipc_pending *p = &d->pending[i];
        if (p->used && p->reference == reference && ipc_address_equal(p->source, source) &&
            ipc_address_equal(p->destination, destination))
            return i;
    }
    return IPC_NONE;
}

static int post_acquire(ipc_driver *d, const struct ipc_filter *f, const struct ipc_flow *flow,
                        ipc_time now) {
    struct ipc_upcall u = {
        .time = now,
        .filter = f->reference,
        .peer = ipc_address_is_none(f->tunnel) ? flow->destination : f->tunnel,
        .source = flow->source,
        .destination = flow->destination,
        .source_port = ipc_source_port(flow->rest),
        .destination_port = ipc_destination_port(flow->rest),
        .protocol = ipc_protocol(flow->rest),
        .kind = IPC_UPCALL_ACQUIRE,
    };
    int posted = ipc_upcall_post(d, &u);
    d->counters.acquires += (uint64_t)posted;
    return posted;
}

/* The acquire that a packet waits for: one that is under way, or a new one if there is room for it and its
 * upcall. */
static uint32_t pending_for(ipc_driver *d, const struct ipc_filter *f, const struct ipc_flow *flow,
                            ipc_address source, ipc_address destination, ipc_time now) {
    uint32_t i = find_pending(d, f->reference, source, destination);
    if (i != IPC_NONE && !d->pending[i].ready) return i;
    if (i != IPC_NONE) {
        /* Its SA came and went again before the packets were released. */
        if (!post_acquire(d, f, flow, now)) return IPC_NONE;
        d->pending[i].ready = 0;
        return i;
    }
    for (i = 0; i < IPC_PENDING_MAX && d->pending[i].used;)
        i++;
    if (i == IPC_PENDING_MAX || !post_acquire(d, f, flow, now)) return IPC_NONE;
    d->pending[i] = (struct ipc_pending){
        .reference = f->reference, .source = source, .destination = destination, .used = 1};
    return i;
}

enum ipc_status ipc_hold(ipc_driver *d, uint32_t filter, const struct ipc_flow *flow, const uint8_t *packet,
                         uint32_t length, ipc_time now) {
    const struct ipc_filter *f = &d->filters[filter].filter;
    /* Transport mode SAs are host to host, so each pair of hosts is a negotiation of its own. */
    const ipc_address none = {0, 0};
    int pair = ipc_address_is_none(f->tunnel);
    ipc_address source = pair ? flow->source : none, destination = pair ? flow->destination : none;
    uint32_t i = pending_for(d, f, flow, source, destination, now);
    uint32_t size = (uint32_t)sizeof(struct ipc_held) + ((length + 7) & ~7u);
    if (i == IPC_NONE || d->pending[i].packets >= d->hold_packets || size > d->hold_bytes - d->held_used)
        return IPC_NOT_HELD;
    struct ipc_held h = {.size = size, .length = length, .pending = i};
    memcpy(d->held + d->held_used, &h, sizeof h);
    memcpy(d->held + d->held_used + sizeof h, packet, length);
    d->held_used += size;
    d->pending[i].packets++;
    d->counters.packets_held++;
    return IPC_HELD;
}

void ipc_hold_ready(ipc_driver *d, const struct ipc_sa_config *c) {
    for (uint32_t i = 0; i < IPC_PENDING_MAX; i++) {
        struct ipc_pending *p = &d->pending[i];
        if (!p->used || p->reference != c->filter) continue;
        /* A tunnel's packets wait together, whatever their flow. */
        int covers = c->mode == IPC_TUNNEL || ipc_address_is_none(p->source) ||
                     (ipc_address_in(p->source, c->inner_source, c->inner_source_mask) &&
                      ipc_address_in(p->destination, c->inner_destination, c->inner_destination_mask));
        if (!covers) continue;
        p->ready = 1;
        if (p->packets == 0) p->used = 0;
    }
}

/*
 * Takes the packets of ready (or of one) acquires out of the store, in order, and closes the gaps. With a
 * burst they move there until it is full; without one they are dropped.
 */
static uint32_t take(ipc_driver *d, uint32_t only, struct ipc_burst *burst, ipc_time now) {
    uint32_t taken = 0, kept = 0;
    for (uint32_t at = 0; at < d->held_used;) {
        struct ipc_held h;
        memcpy(&h, d->held + at, sizeof h);
        struct ipc_pending *p = &d->pending[h.pending];
        int wanted = only == IPC_NONE ? p->ready : h.pending == only;
        if (wanted && burst && burst->count == burst->capacity) wanted = 0;
        if (wanted) {
            if (!burst)
                d->counters.status_outbound[IPC_NEGOTIATION_FAILED]++;
            else if (ipc_burst_add(burst, d->held + at + sizeof h, h.length, now) < 0)
                d->counters.status_outbound[IPC_TOO_BIG]++;
            taken++;
            if (--p->packets == 0) p->used = 0;
        } else {
            if (kept != at) memmove(d->held + kept, d->held + at, h.size);
            kept += h.size;
        }
        at += h.size;
    }
    d->held_used = kept;
    return taken;
}

uint32_t ipc_release(ipc_driver *d, struct ipc_burst *burst, ipc_time now) {
    return d->held_used ? take(d, IPC_NONE, burst, now) : 0;
}

uint32_t ipc_acquire_failed(ipc_driver *d, uint32_t filter, ipc_address source, ipc_address destination) {
    uint32_t i = find_pending(d, filter, source, destination);
    if (i == IPC_NONE) i = find_pending(d, filter, (ipc_address){0, 0}, (ipc_address){0, 0}); /* a tunnel's */
    if (i == IPC_NONE) return 0;
    uint32_t dropped = take(d, i, NULL, 0);
    d->pending[i].used = 0;
    return dropped;
}
