#include "ipsec_core/frag.h"

#include <stdlib.h>
#include <string.h>

#include "packet.h"

#define MIN_MTU       68u /* RFC 791 3.2: every host forwards this much unfragmented */
#define MAX_DATAGRAMS 65536u
#define MAX_HEADER    60u
#define MAX_LENGTH    65535u
#define MORE          0x2000u
#define OFFSET        0x1fffu
#define UNITS         8192u /* of 8 bytes, as the fragment offset counts */
#define WORDS         (UNITS / 64)

/* The header's length, with `*length` cut to the total length; 0 when the packet is not well-formed (RFC
 * 791 3.1). */
static uint32_t header_of(const uint8_t *packet, uint32_t *length) {
    if (*length < IPC_IPV4_HEADER || packet[0] >> 4 != 4) return 0;
    uint32_t header = (packet[0] & 15u) * 4, total = ipc_load16(packet + 2);
    if (header < IPC_IPV4_HEADER || total < header || total > *length) return 0;
    *length = total;
    return header;
}

/* The header of all fragments but the first: options without the copy bit left out (RFC 791 3.1). Returns its
 * length; 0: bad options. */
static uint32_t later_header(const uint8_t *packet, uint32_t length, uint8_t out[MAX_HEADER]) {
    uint32_t used = IPC_IPV4_HEADER;
    memcpy(out, packet, IPC_IPV4_HEADER);
    for (uint32_t at = IPC_IPV4_HEADER; at < length && packet[at] != 0;) {
        uint32_t size = 1;
        if (packet[at] != 1) {
            if (at + 2 > length) return 0;
            size = packet[at + 1];
            if (size < 2 || size > length - at) return 0;
        }
        if (packet[at] & 0x80) {
            memcpy(out + used, packet + at, size);
            used += size;
        }
        at += size;
    }
    while (used % 4)
        out[used++] = 0;
    out[0] = (uint8_t)(0x40 | used / 4);
    return used;
}

int ipc_fragment(const uint8_t *packet, uint32_t length, uint32_t mtu, ipc_fragment_emit emit,
                 void *context) {
    uint32_t header = header_of(packet, &length);
    if (!header || mtu < MIN_MTU) return IPC_E(INVALID);
    if (length <= mtu) {
        int code = emit(context, packet, length);
        return code < 0 ? code : 1;
    }

    uint32_t field = ipc_load16(packet + 6), at = (field & OFFSET) * 8, end = at + length - header;
    uint8_t later[MAX_HEADER], scratch[MAX_LENGTH];
    uint32_t later_length = later_header(packet, header, later);
    if (!later_length || end > MAX_LENGTH || ((field & MORE) && (length - header) % 8)) return IPC_E(INVALID);
    if (field & IPC_FRAGMENT_DF) return IPC_E(FULL);

    const uint8_t *payload = packet + header;
    int count = 0;
    memcpy(scratch, packet, header);
    while (at < end) {
        uint32_t size = end - at, flags = field & ~OFFSET;
        if (size > mtu - header) {
            size = (mtu - header) & ~7u;
            flags |= MORE;
        }
        memcpy(scratch + header, payload, size);
        ipc_store16(scratch + 2, header + size);
        ipc_store16(scratch + 6, flags | at / 8);
        ipc_header_checksum(scratch, header);
        int code = emit(context, scratch, header + size);
        if (code < 0) return code;
        count++;
        payload += size;
        at += size;
        header = later_length;
        memcpy(scratch, later, header);
    }
    return count;
}

struct buffer {
    uint64_t have[WORDS]; /* units received */
    uint64_t
        starts[WORDS]; /* units where a received fragment begins: tells an exact duplicate from an overlap */
    uint8_t header[MAX_HEADER];
    uint8_t data[MAX_HEADER + UNITS * 8]; /* room for the header goes before the payload */
};

struct slot {
    struct slot *chain;         /* next in the hash bucket, or in the free list */
    struct slot *older, *newer; /* in order of the first fragments, which is the order of the deadlines */
    struct buffer *buffer;
    ipc_time deadline;
    uint64_t number;
    ipc_ipv4 source, destination;
    uint16_t id;
    uint8_t protocol;
    uint8_t refused; /* overlap seen: the rest of the datagram is refused until the deadline (RFC 5722 4) */
    uint32_t header_length;            /* of the first fragment; 0: not here yet */
    uint32_t received, highest, total; /* bytes of payload; total 0: last fragment not here yet */
};

struct ipc_reassembler {
    struct slot *slots, *free, *oldest, *newest;
    struct slot **buckets;
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
    free(r);
}

void ipc_reassembler_stats(const ipc_reassembler *r, struct ipc_reassembler_stats *stats) {
    *stats = r->stats;
}

uint64_t ipc_reassembler_last(const ipc_reassembler *r) {
    return r->last;
}

static struct slot **bucket_of(ipc_reassembler *r, ipc_ipv4 source, ipc_ipv4 destination, uint8_t protocol,
                               uint16_t id) {
    uint64_t key = ((uint64_t)source << 32 | destination) ^ ((uint64_t)id << 24 | (uint64_t)protocol << 16);
    return &r->buckets[(uint32_t)(key * 0x9e3779b97f4a7c15u >> 40) & r->mask];
}

static void release(ipc_reassembler *r, struct slot *s) {
    struct slot **link = bucket_of(r, s->source, s->destination, s->protocol, s->id);
    while (*link != s)
        link = &(*link)->chain;
    *link = s->chain;
    *(s->older ? &s->older->newer : &r->oldest) = s->newer;
    *(s->newer ? &s->newer->older : &r->newest) = s->older;
    s->chain = r->free;
    r->free = s;
}

/* The slot of the fragment's datagram, begun when it is the first to come; NULL: no memory for its buffer. */
static struct slot *slot_of(ipc_reassembler *r, const uint8_t *fragment, ipc_time now) {
    ipc_ipv4 source = ipc_load32(fragment + 12), destination = ipc_load32(fragment + 16);
    uint16_t id = ipc_load16(fragment + 4);
    uint8_t protocol = fragment[9];
    struct slot **bucket = bucket_of(r, source, destination, protocol, id);
    for (struct slot *s = *bucket; s; s = s->chain) {
        if (s->source == source && s->destination == destination && s->protocol == protocol && s->id == id)
            return s;
    }

    if (!r->free) {
        if (!r->oldest->refused) r->stats.overflows++;
        release(r, r->oldest);
    }
    struct slot *s = r->free;
    if (!s->buffer) s->buffer = malloc(sizeof *s->buffer);
    if (!s->buffer) return NULL;
    r->free = s->chain;
    memset(s->buffer->have, 0, sizeof s->buffer->have);
    memset(s->buffer->starts, 0, sizeof s->buffer->starts);
    *s = (struct slot){.chain = *bucket,
                       .older = r->newest,
                       .buffer = s->buffer,
                       .deadline = now > IPC_NEVER - r->timeout ? IPC_NEVER : now + r->timeout,
                       .number = ++r->numbers,
                       .source = source,
                       .destination = destination,
                       .id = id,
                       .protocol = protocol};
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
    return same && memcmp(b->data + MAX_HEADER + start, payload, end - start) == 0 ? FIT_DUPLICATE
                                                                                   : FIT_OVERLAP;
}

int ipc_reassembler_input(ipc_reassembler *r, const uint8_t *fragment, uint32_t length, ipc_time now,
                          const uint8_t **datagram, uint32_t *datagram_length) {
    expire(r, now);
    r->last = 0;
    uint32_t header = header_of(fragment, &length);
    if (!header) goto malformed;
    uint32_t field = ipc_load16(fragment + 6), size = length - header;
    if (!(field & IPC_FRAGMENT_BITS)) {
        *datagram = fragment;
        *datagram_length = length;
        return 1;
    }
    uint32_t start = (field & OFFSET) * 8, end = start + size;
    int more = (field & MORE) != 0;
    if (size == 0 || (more && size % 8) || end > MAX_LENGTH - header) goto malformed;

    struct slot *s = slot_of(r, fragment, now);
    if (!s) return IPC_E(NO_MEMORY);
    r->stats.fragments++;
    r->last = s->number;
    if (s->refused) return IPC_E(FORMAT);
    struct buffer *b = s->buffer;
    const uint8_t *payload = fragment + header;
    int contradicts = more ? s->total && end >= s->total : s->highest > end || (s->total && s->total != end);
    enum fit fit = contradicts ? FIT_OVERLAP : compare(b, start, end, payload);
    if (fit == FIT_DUPLICATE) return 0;
    if (fit == FIT_OVERLAP) {
        s->refused = 1;
        r->stats.overlaps++;
        return IPC_E(FORMAT);
    }

    memcpy(b->data + MAX_HEADER + start, payload, size);
    for (uint32_t word = start / 8 / 64, last = (end + 7) / 8; word <= (last - 1) / 64; word++) {
        b->have[word] |= units_in(word, start / 8, last);
    }
    b->starts[start / 8 / 64] |= (uint64_t)1 << start / 8 % 64;
    if (start == 0) {
        memcpy(b->header, fragment, header);
        s->header_length = header;
    }
    s->received += size;
    if (end > s->highest) s->highest = end;
    if (!more) s->total = end;
    if (s->received != s->total) return 0;

    uint32_t total = s->total;
    header = s->header_length;
    /* A released slot keeps its buffer; the next call at the earliest gives it to another datagram. */
    release(r, s);
    if (total > MAX_LENGTH - header) goto malformed;
    uint8_t *whole = b->data + MAX_HEADER - header;
    memcpy(whole, b->header, header);
    ipc_store16(whole + 2, header + total);
    ipc_store16(whole + 6, ipc_load16(whole + 6) & ~IPC_FRAGMENT_BITS);
    ipc_header_checksum(whole, header);
    *datagram = whole;
    *datagram_length = header + total;
    r->stats.datagrams++;
    return 1;

malformed:
    r->stats.malformed++;
    return IPC_E(FORMAT);
}
