/*
 * libFuzzer target: packets through ipc_inbound and ipc_outbound of drivers with chains of SAs of every
 * suite, mode and family, filters, soft SAs, small tables, and a clock that goes on. drivers.h says what must
 * hold.
 *
 * Input: options, a chain of SAs for each family (chain.h), filters, then steps: packets (kit.h) in either
 * direction, which the remote host may have sealed, and which were then damaged, split or sent twice; and
 * control calls.
 */
#include "drivers.h"

#include "ipsec_core/frag.h"

#define SOFT_UNDER 10u /* reference of the first filter of the input */

#define GENERATIONS (SAS / (2 * 2 * IPC_NESTED_MAX))

enum step { IN_CLEAR, IN_SEALED, OUT, CONTROL };
enum { LIKELY = 4, FLUSH = 8, DAMAGE = 16, SPLIT = 32, TWICE = 64, LATER = 128 };

static void read_place(struct input *in, uint8_t kind, int family, ipc_address *address, ipc_address *mask) {
    int six = family == 6;
    const ipc_address nets[] = {{0, 0}, address_of(HERE[six]), address_of(THERE[six]), address_of(HERE[six])};
    const ipc_address masks[] = {
        {0, 0}, {UINT64_MAX, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}, {UINT64_MAX, UINT64_MAX << 8}};
    *address = nets[kind & 3];
    *mask = masks[kind & 3];
    if ((kind & 4) && family == 0) mask->low = take(in, 1); /* any bits */
}

static void read_filters(struct run *r) {
    static const uint8_t protocols[] = {0, 6, 17, 1, 58, 46, 50, 2}, families[] = {0, 4, 6, 0};
    static const uint16_t ports[] = {0, 0, 0, 53, 80, 500, 88, 4500};
    uint32_t options = take(&r->in, 1), count = options & 7;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits = take(&r->in, 3);
        struct ipc_filter *f = &r->filters[i];
        *f = (struct ipc_filter){.reference = SOFT_UNDER + i,
                                 .action = bits & 3,
                                 .direction = bits >> 2 & 1,
                                 .family = families[bits >> 3 & 3],
                                 .protocol = protocols[bits >> 5 & 7],
                                 .source_port = ports[bits >> 8 & 7],
                                 .destination_port = ports[bits >> 11 & 7]};
        read_place(&r->in, bits >> 14 & 7, f->family, &f->source, &f->source_mask);
        read_place(&r->in, bits >> 17 & 7, f->family, &f->destination, &f->destination_mask);
        if (bits >> 20 & 1) f->tunnel = address_of(THERE[0]);
    }
    if (!(options & 8))
        r->filters[count++] =
            (struct ipc_filter){.reference = REFERENCE, .direction = IPC_OUTBOUND, .action = IPC_NEGOTIATE};
    if (!(options & 16))
        r->filters[count++] = (struct ipc_filter){.reference = REFERENCE,
                                                  .direction = IPC_INBOUND,
                                                  .action = options & 32 ? IPC_PASSTHROUGH : IPC_NEGOTIATE};
    r->filter_count = count;
    CHECK(ipc_driver_set_filters(r->fast, r->filters, count) == 0);
    CHECK(ipc_driver_set_filters(r->slow, r->filters, count) == 0);
}

/* A new generation of SAs for one family (0, 1) or both (-1), in both directions. */
static int add_chains(struct run *r, int only) {
    for (int i = 0; i < 2; i++) {
        const struct chain *c = &r->chain[i];
        if (only >= 0 && only != i) continue;
        for (int in = 0; in < 2; in++) {
            enum ipc_direction direction = in ? IPC_INBOUND : IPC_OUTBOUND;
            int fast = add_chain(r->fast, c, direction, in, 1, r->generation, r->now);
            int slow = add_chain(r->slow, c, direction, in, 1, r->generation, r->now);
            int peer = add_chain(r->peer, c, in ? IPC_OUTBOUND : IPC_INBOUND, in, 0, r->generation, r->now);
            CHECK(fast == slow && fast == peer);
            if (fast < 0) return fast;
        }
    }
    r->generation++;
    return 0;
}

static void add_soft(struct run *r, uint32_t bits) {
    struct ipc_sa_config c = {.service = IPC_SERVICE_SOFT,
                              .direction = r->filters[0].direction,
                              .filter = SOFT_UNDER,
                              .hard_bytes = bits & 1 ? 300 : 0,
                              .hard_time = bits & 2 ? r->now + 1000000 : 0,
                              .protocol = bits & 4 ? 6 : 0,
                              .created = r->now};
    ipc_sa fast, slow;
    CHECK(ipc_sa_add(r->fast, &c, &fast) == 0 && ipc_sa_add(r->slow, &c, &slow) == 0 && fast == slow);
    r->soft = 1;
}

static void make_drivers(struct run *r) {
    uint32_t options = take(&r->in, 2), tables = take(&r->in, 1);
    for (int i = 0; i < 2; i++)
        read_chain(&r->in, &r->chain[i], i ? 6 : 4);
    r->authenticated = r->chain[0].authenticated && r->chain[1].authenticated;
    r->config = (struct ipc_driver_config){.spi_slots = tables & 1 ? 2 : 64,
                                           .cache_slots = 1u << (tables >> 1 & 7),
                                           .hold_packets = tables & 16 ? 2 : 0,
                                           .hold_bytes = tables & 32 ? 300 : 4000,
                                           .fragments = 1 + (tables >> 6),
                                           .no_default_exempt = options & 3,
                                           .nat_traversal = (options & 4) || is_encapsulated(&r->chain[0]) ||
                                                            is_encapsulated(&r->chain[1])};
    struct ipc_driver_config slow = r->config, peer = r->config;
    slow.cache_off = slow.matcher_off = 1;
    /* OpenSSL 3 has DES in a provider that it does not load by itself. */
    int des =
        chain_uses(&r->chain[0], IPC_ENCRYPTION_DES_CBC) || chain_uses(&r->chain[1], IPC_ENCRYPTION_DES_CBC);
    if ((options & 8) && !des) slow.backend = "openssl";
    /* Outer headers are numbered, and limits of SAs in one another reached, in the order of the levels of a
     * burst. */
    r->singles = (options & 16) && r->chain[0].levels == 1 && r->chain[1].levels == 1;
    CHECK(ipc_driver_create(&r->config, &r->fast) == 0);
    CHECK(ipc_driver_create(&slow, &r->slow) == 0);
    CHECK(ipc_driver_create(&peer, &r->peer) == 0);
    static const struct ipc_filter all = {
        .reference = REFERENCE, .direction = IPC_OUTBOUND, .action = IPC_NEGOTIATE};
    CHECK(ipc_driver_set_filters(r->peer, &all, 1) == 0);
    /* Slots end with their tailroom, for these sizes make whole numbers of cache lines. */
    static const uint32_t longest[] = {1664, 256, 9216, 128};
    uint32_t slots = options & 32 ? SLOTS : 3, room = longest[options >> 6 & 3];
    CHECK(ipc_burst_create(slots, room, &r->burst) == 0);
    CHECK(ipc_burst_create(slots, room, &r->twin) == 0);
    CHECK(ipc_burst_create(1, LONGEST + 1000, &r->single) == 0);
    read_filters(r);
    if ((options & 256) && r->filter_count && r->filters[0].reference == SOFT_UNDER)
        add_soft(r, options >> 9);
}

struct pieces {
    struct run *r;
    const struct note *note;
};

static int load_piece(void *context, const uint8_t *fragment, uint32_t length) {
    struct pieces *p = context;
    struct note note = *p->note;
    note.uncertain = 1;
    note.clear = copy_of(note.clear, note.clear_length);
    load(p->r, IPC_INBOUND, fragment, length, note);
    return 0;
}

/* A sealed packet on its way: harmed, split. */
static void receive(struct run *r, uint32_t step, uint8_t *packet, uint32_t length, struct note note) {
    if ((step & DAMAGE) && length) {
        uint32_t at = take(&r->in, 2) % length, change = take(&r->in, 1);
        note.damaged = 1;
        if (change)
            packet[at] ^= (uint8_t)change;
        else
            length = at;
    }
    int split = 0;
    if ((step & SPLIT) && length) {
        struct pieces p = {.r = r, .note = &note};
        uint32_t mtu = take(&r->in, 1);
        split = packet[0] >> 4 == 6
                    ? ipc_fragment6(packet, length, 1280 + mtu, ++r->identification, load_piece, &p)
                    : ipc_fragment(packet, length, 68 + mtu * 4, load_piece, &p);
    }
    if (split <= 0) {
        note.clear = copy_of(note.clear, note.clear_length);
        load(r, IPC_INBOUND, packet, length, note);
    }
}

/* The remote host sends the packet, which ends in the burst, sealed if its driver seals it. */
static void send(struct run *r, uint32_t step, uint8_t *clear, uint32_t length) {
    ipc_burst_reset(r->single);
    CHECK(ipc_burst_add(r->single, clear, length, r->now) == 0);
    (void)ipc_outbound(r->peer, r->single);
    if (ipc_status_verdict(r->single->status[0]) != IPC_VERDICT_PASS) return;
    struct note note = {0};
    uint32_t sealed = r->single->length[0];
    /* Copies: the peer opens packets of a burst that must be flushed first. */
    uint8_t *packet = copy_of(ipc_burst_packet(r->single, 0), sealed), *again = copy_of(packet, sealed);
    if (r->single->status[0] != IPC_PROTECTED) {
        load(r, IPC_INBOUND, packet, sealed, note);
    } else {
        note.clear = clear;
        note.clear_length = length;
        receive(r, step, packet, sealed, note);
        note.again = !(step & (DAMAGE | SPLIT));
        note.uncertain = !note.again;
        if (step & TWICE) receive(r, 0, again, sealed, note);
    }
    free(packet);
    free(again);
}

static void release(struct run *r) {
    struct note note = {0};
    if (r->burst->count) flush(r);
    r->direction = IPC_OUTBOUND;
    uint32_t count = ipc_release(r->fast, r->burst, r->now);
    CHECK(count == ipc_release(r->slow, r->twin, r->now) && r->burst->count == r->twin->count);
    for (uint32_t i = 0; i < r->burst->count; i++) {
        note.given_length = r->burst->length[i];
        note.given = copy_of(ipc_burst_packet(r->burst, i), note.given_length);
        r->note[i] = note;
    }
}

static void control_sa(struct run *r, uint32_t what, uint32_t which) {
    ipc_sa list[SAS];
    uint32_t count = ipc_sa_list(r->fast, list, SAS), number = take(&r->in, 1);
    if (count == 0 || count > SAS) return;
    ipc_sa sa = list[which % count];
    ipc_time hard = r->now + number * 1000000;
    switch (what) {
    case 0:
        CHECK(ipc_sa_delete(r->fast, sa) == 0 && ipc_sa_delete(r->slow, sa) == 0);
        r->disturbed = 1;
        break;
    case 1:
        CHECK(ipc_sa_retire(r->fast, sa, hard) == 0 && ipc_sa_retire(r->slow, sa, hard) == 0);
        r->disturbed = 1;
        break;
    default:
        CHECK(ipc_sa_set_path_mtu(r->fast, sa, number * 8) == ipc_sa_set_path_mtu(r->slow, sa, number * 8));
        break;
    }
}

static void control(struct run *r) {
    uint32_t what = take(&r->in, 1), which = take(&r->in, 1);
    int six = which & 1;
    if (r->burst->count) flush(r);
    switch (what % 10) {
    case 0: CHECK(ipc_driver_tick(r->fast, r->now) == ipc_driver_tick(r->slow, r->now)); break;
    case 1: release(r); break;
    case 2:
        CHECK(ipc_acquire_failed(r->fast, REFERENCE, address_of(HERE[six]), address_of(THERE[six])) ==
              ipc_acquire_failed(r->slow, REFERENCE, address_of(HERE[six]), address_of(THERE[six])));
        break;
    case 3:
        if (r->generation < GENERATIONS) CHECK(add_chains(r, six) == 0);
        break;
    case 4:
    case 5:
    case 6: control_sa(r, what % 10 - 4, which); break;
    case 7: read_filters(r); break;
    case 8:
        ipc_driver_reset_counters(r->fast);
        ipc_driver_reset_counters(r->slow);
        break;
    default:
        CHECK(ipc_spi_allocate(r->fast, address_of(HERE[six])) ==
              ipc_spi_allocate(r->slow, address_of(HERE[six])));
        break;
    }
    check_upcalls(r);
}

static void one_step(struct run *r) {
    uint32_t step = take(&r->in, 1), length;
    if (step & LATER) {
        uint32_t later = take(&r->in, 1);
        r->now += later & 128 ? UINT64_C(1000000000) << (later & 7) : later * 1000;
    }
    if ((step & FLUSH) && r->burst->count) flush(r);
    if ((step & 3) == CONTROL) {
        control(r);
        return;
    }
    uint8_t *packet = take_packet(&r->in, LONGEST, &length);
    int out = (step & 3) == OUT, six = length && packet[0] >> 4 == 6;
    /* Where a packet fills its slot, what is put around it may not. */
    if (out && length > r->burst->max_packet) length = r->burst->max_packet;
    if (step & LIKELY)
        make_likely(packet, length, out ? HERE[six] : THERE[six], out ? THERE[six] : HERE[six]);
    if ((step & 3) == IN_SEALED)
        send(r, step, packet, length);
    else
        load(r, out ? IPC_OUTBOUND : IPC_INBOUND, packet, length, (struct note){0});
    free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct run r = {.in = {data, size}, .now = 1000000};
    make_drivers(&r);
    int code = add_chains(&r, -1);
    CHECK(code == 0);
    while (r.in.size)
        one_step(&r);
    if (r.burst->count) flush(&r);
    check_sas(&r);
    ipc_driver_destroy(r.fast);
    ipc_driver_destroy(r.slow);
    ipc_driver_destroy(r.peer);
    ipc_burst_destroy(r.burst);
    ipc_burst_destroy(r.twin);
    ipc_burst_destroy(r.single);
    return 0;
}
