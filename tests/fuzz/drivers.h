/*
 * The three drivers of fuzz_inbound.c and what must hold for every burst. `fast` is the one that is looked
 * at; `slow` has neither header cache nor compiled matcher (and, if the input says so, gets its packets one
 * by one): both must do the same to every packet and count the same. `peer` is the remote host: it seals
 * packets for the two and opens what they protect. What the filters say is asked of oracle.h.
 */
#ifndef FUZZ_DRIVERS_H
#define FUZZ_DRIVERS_H

#include "chain.h"
#include "oracle.h"

#define SLOTS   8u
#define FILTERS 10u
#define SAS     256u
#define LONGEST 9216u
#define UPCALLS 1025u /* more than a driver keeps */

/* What is known of a packet of the burst. */
struct note {
    uint8_t *given; /* as it came to the driver */
    uint32_t given_length;
    uint8_t *clear; /* what the remote host sealed; NULL: it did not */
    uint32_t clear_length;
    uint8_t damaged, again;
    uint8_t uncertain; /* one of its fragments, or a copy: another one may be what comes out */
};

struct run {
    struct input in;
    struct ipc_driver_config config;
    struct ipc_filter filters[FILTERS];
    uint32_t filter_count;
    struct chain chain[2]; /* IPv4, IPv6 */
    ipc_driver *fast, *slow, *peer;
    struct ipc_burst *burst, *twin, *single;
    struct note note[SLOTS];
    enum ipc_direction direction;
    ipc_time now;
    uint32_t generation, identification;
    uint8_t singles;
    uint8_t soft;          /* a soft SA was added */
    uint8_t disturbed;     /* SAs of the two drivers went before their time */
    uint8_t authenticated; /* all chains are */
    uint8_t forged;        /* an SA was asked about what the remote host did not send like this */
};

static uint32_t loop(ipc_driver *d, struct ipc_burst *b, enum ipc_direction direction) {
    return direction == IPC_OUTBOUND ? ipc_outbound(d, b) : ipc_inbound(d, b);
}

/* Each packet of the burst in a burst of its own. */
static uint32_t loop_singly(ipc_driver *d, struct ipc_burst *b, enum ipc_direction direction) {
    uint32_t passed = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        struct ipc_burst one = *b;
        one.arena += (size_t)i * b->stride;
        one.offset += i;
        one.length += i;
        one.sa += i;
        one.filter += i;
        one.time += i;
        one.status += i;
        one.count = one.capacity = 1;
        *one.offset -= i * b->stride;
        passed += loop(d, &one, direction);
        *one.offset += i * b->stride;
    }
    return passed;
}

static void check_burst(const struct run *r, const struct ipc_burst *b, uint32_t passed) {
    uint32_t pass = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        CHECK(b->status[i] > IPC_UNPROCESSED && b->status[i] < IPC_STATUS_COUNT);
        pass += ipc_status_verdict(b->status[i]) == IPC_VERDICT_PASS;
        CHECK(b->offset[i] >= i * b->stride && b->offset[i] + b->length[i] <= (i + 1) * b->stride);
        CHECK(b->filter[i] == IPC_NO_FILTER_INDEX || b->filter[i] < r->filter_count);
    }
    CHECK(pass == passed);
}

static void check_counters(const struct run *r, const struct ipc_counters *before) {
    struct ipc_counters fast, slow;
    ipc_driver_counters(r->fast, &fast);
    ipc_driver_counters(r->slow, &slow);
    int out = r->direction == IPC_OUTBOUND;
    const uint64_t *was = out ? before->status_outbound : before->status_inbound;
    const uint64_t *is = out ? fast.status_outbound : fast.status_inbound;
    uint64_t counted = 0;
    for (int i = 0; i < IPC_STATUS_COUNT; i++)
        counted += is[i] - was[i];
    CHECK(counted == r->burst->count);
    CHECK((out ? fast.packets_outbound - before->packets_outbound
               : fast.packets_inbound - before->packets_inbound) == r->burst->count);
    fast.cache_hits = fast.cache_misses = fast.cache_overwrites = fast.cache_stale = 0;
    for (unsigned i = 0; i < sizeof fast / sizeof(uint64_t); i++)
        CHECK(((const uint64_t *)&fast)[i] == ((const uint64_t *)&slow)[i]);
}

static int same_upcall(const struct ipc_upcall *a, const struct ipc_upcall *b) {
    return a->time == b->time && a->sa == b->sa && a->filter == b->filter &&
           ipc_address_equal(a->peer, b->peer) && ipc_address_equal(a->source, b->source) &&
           ipc_address_equal(a->destination, b->destination) && a->source_port == b->source_port &&
           a->destination_port == b->destination_port && a->protocol == b->protocol && a->kind == b->kind;
}

static uint32_t upcalls_of(ipc_driver *d, struct ipc_upcall *list) {
    uint32_t count = 0;
    while (count < UPCALLS && ipc_upcall_next(d, &list[count]))
        count++;
    CHECK(count < UPCALLS);
    return count;
}

/* The same ones; in the same order, but where soft SAs, asked before all others, saw other bursts. */
static void check_upcalls(const struct run *r) {
    struct ipc_upcall fast[UPCALLS], slow[UPCALLS];
    uint32_t count = upcalls_of(r->fast, fast), left = upcalls_of(r->slow, slow);
    CHECK(count == left);
    for (uint32_t i = 0, found; i < count; i++) {
        for (found = 0; r->soft && r->singles && found + 1 < left; found++)
            if (same_upcall(&fast[i], &slow[found])) break;
        CHECK(same_upcall(&fast[i], &slow[found]));
        CHECK(fast[i].kind <= IPC_UPCALL_MOVED && fast[i].time <= r->now);
        CHECK(fast[i].kind != IPC_UPCALL_MOVED ||
              (ipc_address_is_ipv4(fast[i].peer) && fast[i].source_port != 0));
        memmove(slow + found, slow + found + 1, (--left - found) * sizeof *slow);
    }
}

static void check_sas(const struct run *r) {
    ipc_sa fast[SAS], slow[SAS];
    uint32_t count = ipc_sa_list(r->fast, fast, SAS);
    CHECK(count == ipc_sa_list(r->slow, slow, SAS));
    for (uint32_t i = 0; i < count && i < SAS; i++) {
        struct ipc_sa_info a, b;
        CHECK(fast[i] == slow[i]);
        CHECK(ipc_sa_info(r->fast, fast[i], &a) == 0 && ipc_sa_info(r->slow, slow[i], &b) == 0);
        CHECK(a.packets == b.packets && a.bytes == b.bytes && a.sequence == b.sequence);
        CHECK(a.dropped == b.dropped && a.lost == b.lost && a.last == b.last && a.expired == b.expired);
    }
}

/*
 * Whether nothing stands in the way of a packet that goes through the chain unharmed. Transport mode needs
 * packets between the two hosts; IPsec inside is another SA's; next header 59 is a dummy (RFC 4303 2.6).
 */
static int must_arrive(const struct chain *chain, const struct seen *s, const uint8_t to[2][16]) {
    if (s->protocol == 50 || s->protocol == 51) return 0;
    if (chain->level[0].mode == IPC_TUNNEL) return 1;
    /* Stays outside of ESP and AH: whoever receives it refuses a second one. */
    if (s->fragment_headers > 1) return 0;
    return memcmp(s->address + 16, to[s->family == 6], 16) == 0 &&
           !(s->protocol == 59 && s->place == s->upper);
}

/* A whole packet with a Fragment header (RFC 6946): whoever puts fragments together takes the header off. */
static int atomic_fragment(const struct seen *s) {
    return s->fragment_headers && !s->fragment;
}

/* What came out is what went in. Transport mode makes the checksum of an IPv4 header anew. Where the headers
 * outside of IPsec were damaged, or those of fragments put together, it is the rest that counts. */
static void check_same(const struct chain *chain, const struct seen *s, const uint8_t *clear,
                       const uint8_t *got, uint32_t length, int touched) {
    int transport = chain->level[0].mode == IPC_TRANSPORT;
    int atomic = transport && atomic_fragment(s);
    uint32_t from = atomic ? s->upper : touched && transport ? s->place : 0, carried = s->length - from;
    struct seen out = see(got, length);
    /* A packet between other hosts, inside of a tunnel: its IPsec header is theirs to take off. */
    if ((out.protocol == 50 || out.protocol == 51) && chain->levels > 1) return;
    CHECK(touched || atomic ? length >= carried : length == s->length);
    got += length - carried;
    clear += from;
    if (from == 0 && transport && s->family == 4) {
        CHECK(memcmp(got, clear, 10) == 0);
        got += 12;
        clear += 12;
        carried -= 12;
    }
    CHECK(memcmp(got, clear, carried) == 0);
}

static void check_inbound(struct run *r, uint32_t i) {
    const struct note *n = &r->note[i];
    int status = r->burst->status[i], harmed = n->damaged || n->uncertain;
    if ((!n->clear || harmed) && r->burst->sa[i] != IPC_NO_SA) r->forged = 1;
    if (!n->clear) {
        struct seen s = see(n->given, n->given_length);
        CHECK(verdict_fits(&r->config, r->filters, r->filter_count, IPC_INBOUND, &s, r->soft, status,
                           r->burst->filter[i]));
        /* Nothing that the remote host did not seal is taken for it. */
        if (r->authenticated) CHECK(status != IPC_PROTECTED);
        return;
    }
    struct seen s = see(n->clear, n->clear_length);
    const struct chain *chain = &r->chain[s.family == 6];
    if (status == IPC_PROTECTED) {
        /* NAT-OA changes checksums; without an ICV anything may come out. */
        if (chain->corrects || (harmed && !r->authenticated)) return;
        check_same(chain, &s, n->clear, ipc_burst_packet(r->burst, i), r->burst->length[i], harmed);
        /* IPsec inside of a tunnel that is somebody else's is carried on, each time. */
        struct seen out = see(ipc_burst_packet(r->burst, i), r->burst->length[i]);
        CHECK(!n->again || chain->unguarded || out.protocol == 50 || out.protocol == 51);
    } else if (n->again) {
        CHECK(status != IPC_NOT_AUTHENTICATED || harmed);
    } else if (!harmed && !r->disturbed && must_arrive(chain, &s, HERE)) {
        /* Without an ICV, forged packets move the window. */
        int left_behind = status == IPC_REPLAYED && r->forged && !chain->authenticated;
        CHECK(left_behind || (chain->limited && ONE_OF(status, IPC_EXPIRED, IPC_WRONG_SELECTOR)));
    }
}

/* The SA that the driver tells for the packet. */
static ipc_sa handle_of(ipc_driver *d, uint32_t index) {
    ipc_sa list[SAS];
    uint32_t count = ipc_sa_list(d, list, SAS);
    for (uint32_t i = 0; i < count && i < SAS; i++)
        if (IPC_SA_INDEX(list[i]) == index) return list[i];
    return 0;
}

static void check_outbound(const struct run *r, uint32_t i) {
    const struct note *n = &r->note[i];
    const struct ipc_burst *b = r->burst;
    struct seen s = see(n->given, n->given_length);
    CHECK(verdict_fits(&r->config, r->filters, r->filter_count, IPC_OUTBOUND, &s, r->soft, b->status[i],
                       b->filter[i]));
    const uint8_t *packet = ipc_burst_packet(b, i);
    if (b->status[i] != IPC_PROTECTED) {
        if (ipc_status_verdict(b->status[i]) == IPC_VERDICT_PASS && s.family > MALFORMED)
            CHECK(b->length[i] == s.length && memcmp(packet, n->given, s.length) == 0);
        return;
    }
    const struct chain *chain = &r->chain[s.family == 6];
    CHECK(b->length[i] ==
          s.length + ipc_sa_overhead(r->fast, handle_of(r->fast, b->sa[i]), s.length, s.place));
    struct seen wire = see(packet, b->length[i]);
    CHECK(wire.family > MALFORMED && wire.length == b->length[i]);
    CHECK(wire.protocol == 50 || wire.protocol == 51 ||
          (is_encapsulated(chain) && wire.protocol == 17 && wire.destination_port == PORT_NAT_T));
    ipc_burst_reset(r->single);
    CHECK(ipc_burst_add(r->single, packet, b->length[i], r->now) == 0);
    (void)ipc_inbound(r->peer, r->single);
    if (r->single->status[0] == IPC_PROTECTED)
        check_same(chain, &s, n->given, ipc_burst_packet(r->single, 0), r->single->length[0], 0);
    else
        CHECK(!must_arrive(chain, &s, THERE));
}

/* What the monitor shows as sent is what went out protected. With SAs around one another each counts its own.
 */
static void check_carried(const struct run *r, const struct ipc_counters *before) {
    uint64_t confidential = before->confidential_bytes_sent, authenticated = before->authenticated_bytes_sent;
    if (r->direction != IPC_OUTBOUND || r->chain[0].levels > 1 || r->chain[1].levels > 1) return;
    for (uint32_t i = 0; i < r->burst->count; i++) {
        if (r->burst->status[i] != IPC_PROTECTED) continue;
        struct seen s = see(r->note[i].given, r->note[i].given_length);
        const struct chain *chain = &r->chain[s.family == 6];
        uint32_t carried = chain->level[0].mode == IPC_TUNNEL ? s.length : s.length - s.place;
        confidential += chain->level[0].encryption == IPC_ENCRYPTION_NULL ? 0 : carried;
        authenticated += chain->authenticated ? carried : 0;
    }
    struct ipc_counters after;
    ipc_driver_counters(r->fast, &after);
    CHECK(after.confidential_bytes_sent == confidential && after.authenticated_bytes_sent == authenticated);
}

/* What both drivers made of the same packet. What is dropped is nobody's any more. */
static void check_alike(const struct run *r, uint32_t i) {
    const struct ipc_burst *a = r->burst, *b = r->twin;
    CHECK(a->status[i] == b->status[i] && a->sa[i] == b->sa[i] && a->filter[i] == b->filter[i]);
    if (ipc_status_verdict(a->status[i]) != IPC_VERDICT_PASS) return;
    CHECK(a->length[i] == b->length[i]);
    CHECK(memcmp(ipc_burst_packet(a, i), ipc_burst_packet(b, i), a->length[i]) == 0);
}

/* Sends the burst through both drivers, and begins a new one. */
static void flush(struct run *r) {
    struct ipc_counters before;
    ipc_driver_counters(r->fast, &before);
    uint32_t passed = loop(r->fast, r->burst, r->direction);
    check_burst(r, r->burst, passed);
    passed = r->singles ? loop_singly(r->slow, r->twin, r->direction) : loop(r->slow, r->twin, r->direction);
    check_burst(r, r->twin, passed);
    check_counters(r, &before);
    check_carried(r, &before);
    check_upcalls(r);
    for (uint32_t i = 0; i < r->burst->count; i++) {
        check_alike(r, i);
        if (r->direction == IPC_OUTBOUND)
            check_outbound(r, i);
        else
            check_inbound(r, i);
        free(r->note[i].given);
        free(r->note[i].clear);
    }
    ipc_burst_reset(r->burst);
    ipc_burst_reset(r->twin);
}

/* Puts a packet into the burst of both drivers; what the note holds belongs to the burst. */
static void load(struct run *r, enum ipc_direction direction, const uint8_t *packet, uint32_t length,
                 struct note note) {
    if (r->burst->count && (direction != r->direction || r->burst->count == r->burst->capacity)) flush(r);
    r->direction = direction;
    note.given = copy_of(packet, length);
    note.given_length = length;
    if (ipc_burst_add(r->burst, packet, length, r->now) < 0) {
        free(note.given);
        free(note.clear);
        return;
    }
    CHECK(ipc_burst_add(r->twin, packet, length, r->now) == 0);
    r->note[r->burst->count - 1] = note;
}

#endif
