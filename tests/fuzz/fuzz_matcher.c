/*
 * libFuzzer target for the compiled filters: for any list of filters and any packets, the compiled search
 * gives the index that the walk through the list gives.
 *
 * Input: number of filters, then filters, then packets until the end. Addresses and masks have few bits in
 * few places, so that they meet.
 */
#include "kit.h"
#include "matcher.h"

#define FILTERS 200u
#define NONE    UINT32_MAX

/* Eight bits, spread over an address so that every part of it counts. */
static ipc_address spread(uint32_t bits) {
    return (ipc_address){(uint64_t)(bits >> 4 & 3) << 62 | (bits >> 6 & 1),
                         (uint64_t)(bits >> 7 & 1) << 63 | (bits & 15)};
}

static struct ipc_filter read_filter(struct input *in) {
    static const uint8_t families[] = {0, 0, 4, 6};
    uint32_t kinds = take(in, 2);
    struct ipc_filter f = {.direction = kinds & 1,
                           .family = families[kinds >> 1 & 3],
                           .protocol = kinds >> 3 & 3,
                           .source_port = kinds >> 5 & 3,
                           .destination_port = kinds >> 7 & 3,
                           .source_mask = spread(take(in, 1)),
                           .destination_mask = spread(take(in, 1))};
    if (kinds & 512) f.source_mask = f.destination_mask = (ipc_address){UINT64_MAX, UINT64_MAX};
    ipc_address source = spread(take(in, 1)), destination = spread(take(in, 1));
    f.source = (ipc_address){source.high & f.source_mask.high, source.low & f.source_mask.low};
    f.destination =
        (ipc_address){destination.high & f.destination_mask.high, destination.low & f.destination_mask.low};
    return f;
}

static struct ipc_match_key read_key(struct input *in) {
    uint32_t kinds = take(in, 1);
    return (struct ipc_match_key){.family = kinds & 1 ? 6 : 4,
                                  .protocol = kinds >> 1 & 3,
                                  .source_port = kinds >> 3 & 3,
                                  .destination_port = kinds >> 5 & 3,
                                  .source = spread(take(in, 1)),
                                  .destination = spread(take(in, 1))};
}

static uint32_t walk(const struct ipc_filter *filters, uint32_t count, enum ipc_direction direction,
                     const struct ipc_match_key *key) {
    for (uint32_t i = 0; i < count; i++)
        if (ipc_filter_matches(&filters[i], direction, key)) return i;
    return NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct ipc_filter filters[FILTERS];
    struct input in = {data, size};
    uint32_t count = take(&in, 1) % (FILTERS + 1);
    uint64_t seed[2] = {take(&in, 1), 0};
    for (uint32_t i = 0; i < count; i++)
        filters[i] = read_filter(&in);
    ipc_matcher *m;
    CHECK(ipc_matcher_create(filters, count, seed, &m) == 0);
    /* With no packets left, those of a filter each. */
    for (uint32_t i = 0; in.size || i < count; i++) {
        struct ipc_match_key key = read_key(&in);
        if (i < count) {
            key.source = filters[i].source;
            key.destination = filters[i].destination;
        }
        for (int direction = IPC_OUTBOUND; direction <= IPC_INBOUND; direction++)
            CHECK(ipc_matcher_find(m, direction, &key) == walk(filters, count, direction, &key));
    }
    ipc_matcher_destroy(m);
    return 0;
}
