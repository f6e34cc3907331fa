/*
 * The filters of a driver compiled for search: the answer is that of the walk through the list, filter by
 * filter, which ipc_filter_matches spells out. Private.
 */
#ifndef IPC_MATCHER_H
#define IPC_MATCHER_H

#include "ipsec_core/driver.h"

/* What filters look at (RFC 2401 4.4.2). Ports 0: the packet has none, or they are in another fragment. */
struct ipc_match_key {
    ipc_address source, destination;
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint8_t family; /* 4 or 6 */
};

static inline int ipc_filter_matches(const struct ipc_filter *f, enum ipc_direction direction,
                                     const struct ipc_match_key *key) {
    return f->direction == direction && ipc_address_in(key->source, f->source, f->source_mask) &&
           ipc_address_in(key->destination, f->destination, f->destination_mask) &&
           (f->family == 0 || f->family == key->family) &&
           (f->protocol == 0 || f->protocol == key->protocol) &&
           (f->source_port == 0 || f->source_port == key->source_port) &&
           (f->destination_port == 0 || f->destination_port == key->destination_port);
}

typedef struct ipc_matcher ipc_matcher;

/* Filters of both directions in the order of the list; nothing of them is referred to later. Returns 0 or
 * IPC_E(NO_MEMORY). */
int ipc_matcher_create(const struct ipc_filter *filters, uint32_t count, const uint64_t seed[2],
                       ipc_matcher **out);
void ipc_matcher_destroy(ipc_matcher *m); /* NULL is allowed */
/* Index in the list of the first filter that matches, UINT32_MAX: none does. */
uint32_t ipc_matcher_find(const ipc_matcher *m, enum ipc_direction direction,
                          const struct ipc_match_key *key);

#endif
