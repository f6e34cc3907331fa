#include "ipsec_core/frag.h"

#include <stdlib.h>

#include "ip.h"

#define MAX_DATAGRAMS 65536u
/* One fragment looks at no more than this many datagrams, however their keys were chosen. */
#define MAX_CHAIN 16u
#define UNITS     8192u /* of 8 bytes, as the fragment offset counts */
#define WORDS     (UNITS / 64 + 1)
#define KIND_IPV6 256u /* beyond all protocols of IPv4 */

/* The header ends, and the payload begins, at IPC_PER_FRAGMENT_MAX of `data`. */
struct buffer {
    uint64_t have[WORDS];   /* units received */
    uint64_t starts[WORDS]; /* units where a received fragment begins: an exact duplicate is no overlap */
    uint8_t data[IPC_PER_FRAGMENT_MAX + UNITS * 8];
};
_Static_assert(IPC_PER_FRAGMENT_MAX >= IPC_IPV4_MAX_HEADER, "room for the headers of both families");

/* What tells the datagrams apart: RFC 791 3.2 with the protocol, RFC 8200 4.5 without. */
struct key {
    ipc_address source, destination;
    uint32_t identification;
    uint32_t kind; /* protocol of IPv4, or KIND_IPV6 */
};

struct slot {
    struct slot *chain;         /* next in the hash bucket, or in the free list */
    struct slot *older, *newer; /* in order of the first fragments, which is the order of the deadlines */
    struct buffer *buffer;
    struct key key;
    ipc_time deadline;
    uint64_t number;
    uint32_t header;                   /* bytes of header before the payload; 0: not here yet */
    uint32_t received, highest, total; /* bytes of payload; total 0: last fragment not here yet */
    uint8_t refused; /* overlap seen: the rest of the datagram is refused until the deadline (RFC 5722 4) */
};

struct ipc_reassembler {
    struct slot *slots, *free, *oldest, *newest;
    struct slot **buckets;
    uint8_t *atomic; /* the last atomic fragment without its fragment header */
    uint32_t mask;
    ipc_time timeout;
    uint64_t numbers; /* datagrams begun */
    uint64_t last;
    struct ipc_reassembler_stats stats;
};

int ipc_reassembler_create(uint32_t max_datagrams, ipc_time timeout, ipc_reassembler **out) {
    if (max_datagrams == 0 || max_datagrams > MAX_DATAGRAMS || timeout == 0) return IPC_E(INVALID);
    ipc_reassembler *r = calloc(1, sizeof *r);
    uint32_t buckets = 1;
    while (buckets < max_datagrams)
        buckets *= 2;
    if (r) {
        r->slots = calloc(max_datagrams, sizeof *r->slots);
        r->buckets = calloc(buckets, sizeof(struct slot *));
    }
    if (!r || !r->slots || !r->buckets) {
        ipc_reassembler_destroy(r);
        return IPC_E(NO_MEMORY);
    }
    r->mask = buckets - 1;
    r->timeout = timeout;
    for (uint32_t i = max_datagrams; i-- > 0;) {
        r->slots[i].chain = r->free;
        r->free = &r->slots[i];
    }
    *out = r;
    return 0;
}

void ipc_reassembler_destroy(ipc_reassembler *r) {
    if (!r) return;
    /* Slots in use hang on the age list, free ones with a buffer on the free list. */
    for (struct slot *s = r->oldest; s; s = s->newer)
        free(s->buffer);
    for (struct slot *s = r->free; s; s = s->chain)
        free(s->buffer);
    free(r->slots);
    free(r->buckets);
    free(r->atomic);
    free(r);
}

void ipc_reassembler_stats(const ipc_reassembler *r, struct ipc_reassembler_stats *stats) {
    *stats = r->stats;
}

uint64_t ipc_reassembler_last(const ipc_reassembler *r) {
    return r->last;
}

static struct slot **bucket_of(ipc_reassembler *r, const struct key *k) {
    const uint64_t odd = 0x9e3779b97f4a7c15u;
    uint64_t words[] = {k->source.high, k->source.low, k->destination.high, k->destination.low,
                        (uint64_t)k->identification << 32 | k->kind};
    uint64_t hash = 0;
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        hash = (hash ^ words[i]) * odd;
        hash ^= hash >> 32;
    }
    return &r->buckets[(uint32_t)hash & r->mask];
}

static int equal(const struct key *a, const struct key *b) {
    return ipc_address_equal(a->source, b->source) && ipc_address_equal(a->destination, b->destination) &&
           a->identification == b->identification && a->kind == b->kind;
}

static void release(ipc_reassembler *r, struct slot *s) {
    struct slot **link = bucket_of(r, &s->key);
    while (*link != s)
        link = &(*link)->chain;
    *link = s->chain;
    *(s->older ? &s->older->newer : &r->oldest) = s->newer;
    *(s->newer ? &s->newer->older : &r->newest) = s->older;
    s->chain = r->free;
    r->free = s;
}

static void push_out(ipc_reassembler *r, struct slot *s) {
    if (!s->refused) r->stats.overflows++;
    release(r, s);
}

/* The slot of the fragment's datagram, begun when it is the first to come; NULL: no memory for its buffer. */
static struct slot *slot_of(ipc_reassembler *r, const struct key *key, ipc_time now) {
    struct slot **bucket = bucket_of(r, key), *last = NULL;
    uint32_t chained = 0;
    for (struct slot *s = *bucket; s; s = s->chain) {
        if (equal(&s->key, key)) return s;
        last = s;
        chained++;
    }

    if (chained == MAX_CHAIN)
        push_out(r, last); /* the oldest of the chain */
    else if (!r->free)
        push_out(r, r->oldest);
    struct slot *s = r->free;
    if (!s->buffer) s->buffer = malloc(sizeof *s->buffer);
    if (!s->buffer) return NULL;
    r->free = s->chain;
    memset(s->buffer->have, 0, sizeof s->buffer->have);
    memset(s->buffer->starts, 0, sizeof s->buffer->starts);
    *s = (struct slot){.chain = *bucket,
                       .older = r->newest,
                       .buffer = s->buffer,
                       .key = *key,
                       .deadline = now > IPC_NEVER - r->timeout ? IPC_NEVER : now + r->timeout,
                       .number = ++r->numbers};
    *bucket = s;
    *(r->newest ? &r->newest->newer : &r->oldest) = s;
    r->newest = s;
    return s;
}

static void expire(ipc_reassembler *r, ipc_time now) {
    while (r->oldest && r->oldest->deadline <= now) {
        if (!r->oldest->refused) r->stats.timeouts++;
        release(r, r->oldest);
    }
}

/* Bits of `word` that stand for units from `first` up to `end`. */
static uint64_t units_in(uint32_t word, uint32_t first, uint32_t end) {
    uint64_t mask = UINT64_MAX;
    if (word == first / 64) mask <<= first % 64;
    if (word == end / 64) mask &= ((uint64_t)1 << end % 64) - 1;
    return mask;
}

static int has(const uint64_t *bits, uint32_t unit) {
    return bits[unit / 64] >> unit % 64 & 1;
}

enum fit { FIT_NEW, FIT_DUPLICATE, FIT_OVERLAP };

/* Compares the units of a fragment with those received. A duplicate has the extent and the bytes of one
 * fragment that came before. */
static enum fit compare(const struct buffer *b, uint32_t start, uint32_t end, const uint8_t *payload) {
    uint32_t first = start / 8, last = (end + 7) / 8;
    int any = 0, all = 1, begun = 0;
    for (uint32_t word = first / 64; word <= (last - 1) / 64; word++) {
        uint64_t mask = units_in(word, first, last), have = b->have[word] & mask;
        any |= have != 0;
        all &= have == mask;
        uint64_t starts = b->starts[word] & mask;
        if (word == first / 64) starts &= ~((uint64_t)1 << first % 64);
        begun |= starts != 0;
    }
    if (!any) return FIT_NEW;
    int ends = !has(b->have, last) || has(b->starts, last);
    int same = all && !begun && ends && has(b->starts, first);
    return same && memcmp(b->data + IPC_PER_FRAGMENT_MAX + start, payload, end - start) == 0 ? FIT_DUPLICATE
                                                                                             : FIT_OVERLAP;
}

/* One fragment of either family. `header` bytes of it go before the payload of the whole datagram; IPv6: the
 * byte at `named` then says `next`. */
struct piece {
    struct key key;
    uint32_t header, at, start, size;
    uint32_t named;
    uint8_t next;
    uint8_t more;
};

enum kind { MALFORMED, WHOLE, ATOMIC, PIECE };

static enum kind read_ipv4(const uint8_t *packet, uint32_t *length, struct piece *f) {
    uint32_t header = ipc_ipv4_cut(packet, length);
    if (!header) return MALFORMED;
    uint32_t field = ipc_load16(packet + 6);
    if (!(field & IPC_FRAGMENT_BITS)) return WHOLE;
    *f = (struct piece){.key = {.source = ipc_address_of_ipv4(ipc_load32(packet + 12)),
                                .destination = ipc_address_of_ipv4(ipc_load32(packet + 16)),
                                .identification = ipc_load16(packet + 4),
                                .kind = packet[9]},
                        .header = header,
                        .at = header,
                        .start = (field & IPC_IPV4_OFFSET) * 8,
                        .size = *length - header,
                        .more = (field & IPC_IPV4_MORE) != 0};
    return PIECE;
}

static enum kind read_ipv6(const uint8_t *packet, uint32_t *length, struct piece *f) {
    if (!ipc_ipv6_cut(packet, length)) return MALFORMED;
    struct ipc_ipv6_walk w = ipc_ipv6_walk(packet);
    int step;
    while ((step = ipc_ipv6_step(packet, *length, &w)) > 0)
        ;
    if (step < 0) return MALFORMED;
    if (w.next != IPC_PROTO_FRAGMENT) return WHOLE;
    if (*length - w.at < IPC_IPV6_FRAGMENT_HEADER || w.at > IPC_PER_FRAGMENT_MAX) return MALFORMED;
    uint32_t field = ipc_load16(packet + w.at + 2);
    *f = (struct piece){.key = {.source = ipc_load_ipv6(packet + 8),
                                .destination = ipc_load_ipv6(packet + 24),
                                .identification = ipc_load32(packet + w.at + 4),
                                .kind = KIND_IPV6},
                        .header = w.at,
                        .at = w.at + IPC_IPV6_FRAGMENT_HEADER,
                        .start = field & IPC_IPV6_OFFSET,
                        .size = *length - w.at - IPC_IPV6_FRAGMENT_HEADER,
                        .named = w.named,
                        .next = packet[w.at],
                        .more = field & IPC_IPV6_MORE};
    if (f->start) return PIECE;

    /* The first fragment reaches the upper-layer header (RFC 8200 4.5), and no other fragment header is on
     * the way (4.1: each header once). */
    w = (struct ipc_ipv6_walk){f->at, w.at, f->next};
    while ((step = ipc_ipv6_step(packet, *length, &w)) > 0)
        ;
    if (step < 0 || w.next == IPC_PROTO_FRAGMENT || (w.at == *length && w.next != IPC_PROTO_NONE))
        return MALFORMED;
    return f->more ? PIECE : ATOMIC;
}

/* The headers that the whole datagram gets from its first fragment; lengths and checksum come last. */
static void put_header(uint8_t *to, const uint8_t *fragment, const struct piece *f) {
    memcpy(to, fragment, f->header);
    if (f->key.kind == KIND_IPV6)
        to[f->named] = f->next;
    else
        ipc_store16(to + 6, ipc_load16(to + 6) & ~IPC_FRAGMENT_BITS);
}

static void put_length(uint8_t *packet, uint32_t header, uint32_t payload) {
    if (packet[0] >> 4 == 6) {
        ipc_store16(packet + 4, header - IPC_IPV6_HEADER + payload);
    } else {
        ipc_store16(packet + 2, header + payload);
        ipc_header_checksum(packet, header);
    }
}

/* Atomic fragments have nothing to do with others of the same identification (RFC 6946 4). */
static int take_atomic(ipc_reassembler *r, const uint8_t *fragment, const struct piece *f) {
    if (!r->atomic) r->atomic = malloc(IPC_IPV6_HEADER + IPC_IP_MAX_PAYLOAD);
    if (!r->atomic) return IPC_E(NO_MEMORY);
    put_header(r->atomic, fragment, f);
    memcpy(r->atomic + f->header, fragment + f->at, f->size);
    put_length(r->atomic, f->header, f->size);
    return 1;
}

static uint32_t longest(const struct piece *f) {
    return f->key.kind == KIND_IPV6 ? IPC_IPV6_HEADER + IPC_IP_MAX_PAYLOAD : IPC_IP_MAX_PAYLOAD;
}

/* Puts the fragment in its place. Returns 1 when the datagram is whole, 0 when not, or IPC_E(FORMAT). */
static int take(ipc_reassembler *r, struct slot *s, const uint8_t *fragment, const struct piece *f) {
    if (s->refused) return IPC_E(FORMAT);
    struct buffer *b = s->buffer;
    uint32_t start = f->start, end = start + f->size;
    int contradicts;
    if (f->more)
        contradicts = s->total && end >= s->total;
    else /* without a total, more comes behind all that is here */
        contradicts = s->total ? end != s->total : end <= s->highest;
    enum fit fit = contradicts ? FIT_OVERLAP : compare(b, start, end, fragment + f->at);
    if (fit == FIT_DUPLICATE) return 0;
    if (fit == FIT_OVERLAP) {
        s->refused = 1;
        r->stats.overlaps++;
        return IPC_E(FORMAT);
    }

    memcpy(b->data + IPC_PER_FRAGMENT_MAX + start, fragment + f->at, f->size);
    for (uint32_t word = start / 8 / 64, last = (end + 7) / 8; word <= (last - 1) / 64; word++) {
        b->have[word] |= units_in(word, start / 8, last);
    }
    b->starts[start / 8 / 64] |= (uint64_t)1 << start / 8 % 64;
    if (start == 0) {
        put_header(b->data + IPC_PER_FRAGMENT_MAX - f->header, fragment, f);
        s->header = f->header;
    }
    s->received += f->size;
    if (end > s->highest) s->highest = end;
    if (!f->more) s->total = end;
    return s->received == s->total;
}

int ipc_reassembler_input(ipc_reassembler *r, const uint8_t *fragment, uint32_t length, ipc_time now,
                          const uint8_t **datagram, uint32_t *datagram_length) {
    expire(r, now);
    r->last = 0;
    struct piece f;
    int version = length ? fragment[0] >> 4 : 0;
    enum kind kind = version == 6 ? read_ipv6(fragment, &length, &f) : read_ipv4(fragment, &length, &f);
    if (kind == MALFORMED) goto malformed;
    if (kind == WHOLE) {
        *datagram = fragment;
        *datagram_length = length;
        return 1;
    }
    if (kind == ATOMIC) {
        int code = take_atomic(r, fragment, &f);
        *datagram = r->atomic;
        *datagram_length = f.header + f.size;
        return code;
    }
    if (f.size == 0 || (f.more && f.size % 8) || f.start + f.size > longest(&f) - f.header) goto malformed;

    struct slot *s = slot_of(r, &f.key, now);
    if (!s) return IPC_E(NO_MEMORY);
    r->stats.fragments++;
    r->last = s->number;
    int code = take(r, s, fragment, &f);
    if (code <= 0) return code;

    /* A released slot keeps its buffer; the next call at the earliest gives it to another datagram. */
    release(r, s);
    if (s->total > longest(&f) - s->header) goto malformed;
    uint8_t *whole = s->buffer->data + IPC_PER_FRAGMENT_MAX - s->header;
    put_length(whole, s->header, s->total);
    *datagram = whole;
    *datagram_length = s->header + s->total;
    r->stats.datagrams++;
    return 1;

malformed:
    r->stats.malformed++;
    return IPC_E(FORMAT);
}
