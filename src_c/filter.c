/* Filters and the IP header cache in front of them. */
#include "internal.h"

#include <stdlib.h>

int ipc_sa_covers(const ipc_driver *d, uint32_t sa, const struct ipc_flow *flow) {
    const struct ipc_sa_config *c = &ipc_ctl(d, sa)->config;
    return (c->family == 0 || c->family == flow->family) &&
           ipc_address_in(flow->source, c->inner_source, c->inner_source_mask) &&
           ipc_address_in(flow->destination, c->inner_destination, c->inner_destination_mask) &&
           (c->protocol == 0 || c->protocol == ipc_protocol(flow->rest)) &&
           (c->source_port == 0 || c->source_port == ipc_source_port(flow->rest)) &&
           (c->destination_port == 0 || c->destination_port == ipc_destination_port(flow->rest));
}

/* KB 253169 and KB 811832: what is never matched against filters, by the value of NoDefaultExempt. */
static int exempt(const ipc_driver *d, const struct ipc_flow *flow) {
    uint8_t protocol = ipc_protocol(flow->rest);
    uint16_t source_port = ipc_source_port(flow->rest), destination_port = ipc_destination_port(flow->rest);
    if (protocol == IPC_PROTO_UDP &&
        (destination_port == IPC_PORT_IKE ||
         (d->nat_traversal && (source_port == IPC_PORT_NAT_T || destination_port == IPC_PORT_NAT_T))))
        return 1;
    if (flow->rest & IPC_MARK_NEIGHBOR) return 1;
    if (!(d->no_default_exempt & 2)) {
        /* Multicast 224/4 and limited broadcast; what lies between is no unicast either. */
        if (flow->family == 4 ? (uint32_t)flow->destination.low >= 0xe0000000u
                              : flow->destination.high >> 56 == 0xff)
            return 1;
    }
    if (d->no_default_exempt & 1) return 0;
    if (protocol == IPC_PROTO_UDP || protocol == IPC_PROTO_TCP)
        return source_port == IPC_PORT_KERBEROS || destination_port == IPC_PORT_KERBEROS;
    return protocol == IPC_PROTO_RSVP;
}

static uint32_t find(const ipc_driver *d, enum ipc_direction direction, const struct ipc_flow *flow) {
    const struct ipc_match_key key = {
        .source = flow->source,
        .destination = flow->destination,
        .source_port = ipc_source_port(flow->rest),
        .destination_port = ipc_destination_port(flow->rest),
        .protocol = ipc_protocol(flow->rest),
        .family = flow->family,
    };
    if (!d->matcher_off) return d->matcher ? ipc_matcher_find(d->matcher, direction, &key) : IPC_NONE;
    for (uint32_t i = 0; i < d->filter_count; i++)
        if (ipc_filter_matches(&d->filters[i].filter, direction, &key)) return i;
    return IPC_NONE;
}

/* An SA protects nothing without those around it. */
static int alive(const ipc_driver *d, uint32_t sa) {
    while (!ipc_hot(d, sa)->dead) {
        ipc_sa outer = ipc_ctl(d, sa)->config.outer;
        if (!outer) return 1;
        if (!ipc_sa_valid(d, outer)) return 0;
        sa = IPC_SA_INDEX(outer);
    }
    return 0;
}

/* The newest SA of the filter that serves the flow; inbound only soft SAs are in the chain. */
static uint32_t serving(const ipc_driver *d, uint32_t filter, const struct ipc_flow *flow) {
    for (uint32_t s = d->filters[filter].newest; s != IPC_NONE; s = ipc_ctl(d, s)->next)
        if (alive(d, s) && ipc_sa_covers(d, s, flow)) return s;
    return IPC_NONE;
}

static struct ipc_decision resolve(const ipc_driver *d, enum ipc_direction direction,
                                   const struct ipc_flow *flow) {
    struct ipc_decision none = {IPC_NONE, IPC_NONE, IPC_EXEMPT};
    if (exempt(d, flow)) return none;
    none.status = IPC_NO_FILTER;
    none.filter = find(d, direction, flow);
    if (none.filter == IPC_NONE) return none;
    enum ipc_action action = d->filters[none.filter].filter.action;
    if (action == IPC_BLOCK || action == IPC_PERMIT ||
        (direction == IPC_OUTBOUND && action == IPC_PASSTHROUGH)) {
        none.status = action == IPC_BLOCK ? IPC_BLOCKED : IPC_PERMITTED;
        return none;
    }
    none.sa = serving(d, none.filter, flow);
    if (none.sa != IPC_NONE)
        none.status = ipc_hot(d, none.sa)->service == IPC_SERVICE_SOFT ? IPC_SOFT : IPC_PROTECTED;
    else if (direction == IPC_OUTBOUND)
        none.status = IPC_HELD;
    else
        none.status = action == IPC_PASSTHROUGH ? IPC_PASSED_THROUGH : IPC_SHOULD_BE_SECURED;
    return none;
}

static int same_words(struct ipc_words a, struct ipc_words b) {
    return a.addresses == b.addresses && a.rest == b.rest;
}

static void remember_miss(ipc_driver *d, const struct ipc_cache_entry *e, int same) {
    d->counters.cache_misses++;
    if ((e->generation | 1) == (d->generation | 1))
        d->counters.cache_overwrites++;
    else if (same && e->generation)
        d->counters.cache_stale++;
}

static struct ipc_decision decide_ipv4(ipc_driver *d, enum ipc_direction direction,
                                       const struct ipc_flow *flow) {
    struct ipc_words key = {flow->source.low << 32 | (uint32_t)flow->destination.low, flow->rest};
    struct ipc_cache_entry *e = ipc_cache_entry(d, direction, key);
    int same = !(e->generation & 1) && same_words(e->key, key);
    remember_miss(d, e, same);
    struct ipc_decision decision = resolve(d, direction, flow);
    *e = (struct ipc_cache_entry){key, d->generation, decision};
    return decision;
}

static uint64_t fold_address(const ipc_driver *d, ipc_address a) {
    return ipc_fold_product(a.high ^ d->seed[0], a.low ^ d->seed[1]);
}

static struct ipc_decision decide_ipv6(ipc_driver *d, enum ipc_direction direction,
                                       const struct ipc_flow *flow) {
    if (d->cache_slots < 2) {
        d->counters.cache_misses++;
        return resolve(d, direction, flow);
    }
    struct ipc_words hashed = {fold_address(d, flow->source) - fold_address(d, flow->destination) * 3,
                               flow->rest};
    struct ipc_cache_entry *half = &d->cache[direction == IPC_INBOUND ? d->cache_slots : 0];
    uint64_t slot = (uint64_t)(ipc_cache_entry(d, direction, hashed) - half) & ~UINT64_C(1);
    struct ipc_cache_entry *e = &half[slot + 1 < d->cache_slots ? slot : 0];
    struct ipc_words from = {flow->source.high, flow->source.low},
                     to = {flow->destination.high, flow->destination.low};
    struct ipc_decision rest = {(uint32_t)(flow->rest >> 32), (uint32_t)flow->rest, 0};
    int same = (e[0].generation & e[1].generation & 1) && same_words(e[0].key, from) &&
               same_words(e[1].key, to) && e[1].decision.filter == rest.filter && e[1].decision.sa == rest.sa;
    uint32_t fresh = d->generation | 1;
    if (same && e[0].generation == fresh && e[1].generation == fresh) {
        d->counters.cache_hits++;
        return e[0].decision;
    }
    remember_miss(d, e, same);
    struct ipc_decision decision = resolve(d, direction, flow);
    e[0] = (struct ipc_cache_entry){from, fresh, decision};
    e[1] = (struct ipc_cache_entry){to, fresh, rest};
    return decision;
}

struct ipc_decision ipc_decide(ipc_driver *d, enum ipc_direction direction, const struct ipc_flow *flow) {
    if (d->cache_off) return resolve(d, direction, flow);
    return flow->family == 4 ? decide_ipv4(d, direction, flow) : decide_ipv6(d, direction, flow);
}

void ipc_cache_invalidate(ipc_driver *d) {
    if ((d->generation += 2) == 0) {
        /* Once in 2^31 changes old entries could look fresh. */
        memset(d->cache, 0, (size_t)d->cache_slots * 2 * sizeof *d->cache);
        d->generation = 2;
    }
}

int ipc_cache_create(ipc_driver *d, uint32_t slots) {
    d->cache = aligned_alloc(64, ((size_t)slots * 2 * sizeof *d->cache + 63) / 64 * 64);
    if (!d->cache) return IPC_E(NO_MEMORY);
    memset(d->cache, 0, (size_t)slots * 2 * sizeof *d->cache);
    d->cache_slots = slots;
    d->generation = 2;
    return 0;
}

static int by_name(const void *a, const void *b) {
    const struct ipc_filter_name *x = a, *y = b;
    if (x->direction != y->direction) return x->direction < y->direction ? -1 : 1;
    return (x->reference > y->reference) - (x->reference < y->reference);
}

uint32_t ipc_filter_find(const ipc_driver *d, uint32_t reference, enum ipc_direction direction) {
    const struct ipc_filter_name wanted = {reference, direction, 0}, *found = NULL;
    if (d->filter_count) found = bsearch(&wanted, d->filter_names, d->filter_count, sizeof wanted, by_name);
    return found ? found->index : IPC_NONE;
}

/* Copies with what the masks leave. */
static int read_filters(struct ipc_filter_state *states, const struct ipc_filter *filters, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct ipc_filter *f = &states[i].filter;
        *f = filters[i];
        if (f->direction > IPC_INBOUND || f->action > IPC_PASSTHROUGH ||
            (f->family != 0 && f->family != 4 && f->family != 6))
            return IPC_E(INVALID);
        f->source = (ipc_address){f->source.high & f->source_mask.high, f->source.low & f->source_mask.low};
        f->destination = (ipc_address){f->destination.high & f->destination_mask.high,
                                       f->destination.low & f->destination_mask.low};
        states[i].newest = IPC_NONE;
    }
    return 0;
}

static int read_names(struct ipc_filter_name *names, const struct ipc_filter_state *states, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        names[i] = (struct ipc_filter_name){states[i].filter.reference, states[i].filter.direction, i};
    if (count > 1) qsort(names, count, sizeof *names, by_name);
    for (uint32_t i = 1; i < count; i++)
        if (by_name(&names[i - 1], &names[i]) == 0) return IPC_E(DUPLICATE);
    return 0;
}

int ipc_driver_set_filters(ipc_driver *d, const struct ipc_filter *filters, uint32_t count) {
    size_t room = count ? count : 1;
    struct ipc_filter_state *states = calloc(room, sizeof *states);
    struct ipc_filter_name *names = malloc(room * sizeof *names), *old = d->filter_names;
    ipc_matcher *matcher = NULL;
    int rc = states && names ? read_filters(states, filters, count) : IPC_E(NO_MEMORY);
    if (rc == 0) rc = read_names(names, states, count);
    if (rc == 0) rc = ipc_matcher_create(filters, count, d->seed, &matcher);
    if (rc < 0) {
        free(names);
        free(states);
        return rc;
    }
    for (uint32_t i = 0, k = 0; i < count && k < d->filter_count;) {
        int order = by_name(&names[i], &old[k]);
        if (order == 0) states[names[i].index].packets = d->filters[old[k].index].packets;
        i += order <= 0;
        k += order >= 0;
    }
    free(old);
    free(d->filters);
    ipc_matcher_destroy(d->matcher);
    d->matcher = matcher;
    d->filters = states;
    d->filter_names = names;
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
