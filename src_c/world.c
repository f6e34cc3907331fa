#include "eventq.h"
#include "internal.h"
#include "ipsec_core/frag.h"
#include "link.h"

#include <stdlib.h>

#define BURST      64u
#define MAX_PACKET 2048u
#define QUEUE      (256u * 1024u)
#define NODES      4096u
#define DATAGRAMS  64u /* in reassembly at once at a node */
#define REASSEMBLY_TIME                                                                                      \
    UINT64_C(30000000000) /* RFC 1122 3.3.2: 60 to 120 s; short enough to show in a result */
#define ETHERTYPE_IPV4 0x0800u
#define ESP_ROOM       57u /* outer header, ESP, IV, longest padding, trailer, ICV: tunnel mode */
#define ETHERTYPE_ARP  0x0806u
#define ARP_LENGTH     28u

struct node {
    struct ipc_node_config config;
    uint32_t link;
    uint8_t direction; /* of the link, that this node sends on */
    uint32_t *frames;  /* indices into the trace, in order of time */
    uint32_t frame_count, next_frame, cycle;
    ipc_time source_free; /* the source's own pace: one plain frame after the other */
    ipc_reassembler *reassembler;
    struct ipc_node_counters counters;
};

struct link {
    struct ipc_link_config config;
    struct ipc_wire wire[2];
    uint32_t node[2];
    ipc_pcapng *capture;
    uint32_t interface;
};

struct ipc_world {
    struct ipc_world_config config;
    struct node *nodes;
    struct link *links;
    uint32_t node_count, link_count;
    ipc_time now;
    struct ipc_eventq events;
    uint8_t *event_bytes; /* of the event the caller holds */
    const ipc_trace *trace;
    const struct ipc_trace_frame *frames;
    const uint8_t *trace_bytes;
    ipc_time *schedule; /* of each frame of the trace */
    ipc_time period, pause;
    uint32_t repeat;
    int asap;
    uint64_t sent, total;
    struct ipc_burst *out, *in;
    uint32_t out_frame[IPC_BURST_MAX];
    int failed; /* first error inside the data plane */
};

int ipc_world_create(const struct ipc_world_config *config, ipc_world **out) {
    struct ipc_world_config c = *config;
    c.burst = c.burst ? c.burst : BURST;
    c.max_packet = c.max_packet ? c.max_packet : MAX_PACKET;
    if (c.reaction == 0 || c.burst > IPC_BURST_MAX || c.max_packet > IPC_PACKET_MAX) return IPC_E(INVALID);
    ipc_world *w = calloc(1, sizeof *w);
    if (!w) return IPC_E(NO_MEMORY);
    w->config = c;
    uint32_t protected_max = c.max_packet + IPC_BURST_HEADROOM + IPC_BURST_TAILROOM;
    if (protected_max > IPC_PACKET_MAX) protected_max = IPC_PACKET_MAX;
    int rc = ipc_burst_create(c.burst, c.max_packet, &w->out);
    if (rc == 0) rc = ipc_burst_create(c.burst, protected_max, &w->in);
    if (rc < 0) {
        ipc_world_destroy(w);
        return rc;
    }
    *out = w;
    return 0;
}

void ipc_world_destroy(ipc_world *w) {
    if (!w) return;
    for (uint32_t i = 0; i < w->node_count; i++) {
        free(w->nodes[i].frames);
        ipc_reassembler_destroy(w->nodes[i].reassembler);
    }
    for (uint32_t i = 0; i < w->link_count; i++) {
        ipc_wire_destroy(&w->links[i].wire[0]);
        ipc_wire_destroy(&w->links[i].wire[1]);
    }
    free(w->schedule);
    free(w->nodes);
    free(w->links);
    ipc_eventq_destroy(&w->events);
    free(w->event_bytes);
    ipc_burst_destroy(w->out);
    ipc_burst_destroy(w->in);
    free(w);
}

int ipc_world_add_node(ipc_world *w, const struct ipc_node_config *config) {
    if (w->node_count == NODES || !config->driver || w->trace) return IPC_E(INVALID);
    struct node *nodes = realloc(w->nodes, (w->node_count + 1) * sizeof *nodes);
    if (!nodes) return IPC_E(NO_MEMORY);
    w->nodes = nodes;
    struct node *n = &nodes[w->node_count];
    *n = (struct node){.config = *config, .link = IPC_NONE};
    int rc = ipc_reassembler_create(DATAGRAMS, REASSEMBLY_TIME, &n->reassembler);
    return rc < 0 ? rc : (int)w->node_count++;
}

int ipc_world_add_link(ipc_world *w, uint32_t a, uint32_t b, const struct ipc_link_config *config) {
    if (a >= w->node_count || b >= w->node_count || a == b || w->nodes[a].link != IPC_NONE ||
        w->nodes[b].link != IPC_NONE || config->rate == 0 || config->mtu < 68 || config->mtu > IPC_PACKET_MAX)
        return IPC_E(INVALID);
    struct link *links = realloc(w->links, (w->link_count + 1) * sizeof *links);
    if (!links) return IPC_E(NO_MEMORY);
    w->links = links;
    struct link *l = &links[w->link_count];
    *l = (struct link){.config = *config, .node = {a, b}};
    l->config.queue = config->queue ? config->queue : QUEUE;
    for (int i = 0; i < 2; i++) {
        l->wire[i].rate = config->rate;
        l->wire[i].delay = config->delay;
        w->nodes[l->node[i]].link = w->link_count;
        w->nodes[l->node[i]].direction = (uint8_t)i;
    }
    return (int)w->link_count++;
}

static void fail(ipc_world *w, int rc) {
    if (rc < 0 && w->failed == 0) w->failed = rc;
}

static struct ipc_wire *wire_of(ipc_world *w, const struct node *n) {
    return &w->links[n->link].wire[n->direction];
}

static ipc_time wire_time(const ipc_world *w, const struct node *n, uint32_t frame) {
    uint64_t rate = w->links[n->link].wire[n->direction].rate;
    return (ipc_time)((unsigned __int128)ipc_wire_length(frame) * 8000000000u / rate);
}

/*
 * When each frame may leave. Recorded hosts may have been faster than the link: a frame that has to wait for
 * the frame before it makes all that the capture shows after it later by as much, from whichever computer, so
 * that no answer overtakes what it answers. Every frame counts with the room that ESP may need, so that what
 * is encrypted does not fall behind either.
 */
static int make_schedule(ipc_world *w, size_t count) {
    ipc_time *free_at = calloc(w->node_count, sizeof *free_at);
    w->schedule = malloc((count + 1) * sizeof *w->schedule);
    if (!free_at || !w->schedule) {
        free(free_at);
        return IPC_E(NO_MEMORY);
    }
    ipc_time late = 0;
    for (size_t i = 0; i < count; i++) {
        const struct ipc_trace_frame *f = &w->frames[i];
        ipc_time time = f->time + late;
        if (free_at[f->from] > time) {
            late += free_at[f->from] - time;
            time = free_at[f->from];
        }
        w->schedule[i] = time;
        free_at[f->from] = time + wire_time(w, &w->nodes[f->from], f->l2_length + f->l3_length + ESP_ROOM);
    }
    w->period = (count ? w->schedule[count - 1] : 0) + w->pause;
    free(free_at);
    return 0;
}

int ipc_world_set_trace(ipc_world *w, const ipc_trace *trace, uint32_t repeat, ipc_time pause, int asap) {
    if (w->trace || repeat == 0) return IPC_E(INVALID);
    size_t count;
    const struct ipc_trace_frame *frames = ipc_trace_frames(trace, &count);
    if (count > UINT32_MAX) return IPC_E(INVALID);
    for (size_t i = 0; i < count; i++) {
        if (frames[i].from >= w->node_count || frames[i].to >= w->node_count ||
            w->nodes[frames[i].from].link == IPC_NONE ||
            (frames[i].ethertype == ETHERTYPE_IPV4 && frames[i].l3_length > w->config.max_packet))
            return IPC_E(INVALID);
        w->nodes[frames[i].from].frame_count++;
    }
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct node *n = &w->nodes[i];
        n->frames = malloc((n->frame_count + (size_t)1) * sizeof *n->frames);
        if (!n->frames) return IPC_E(NO_MEMORY);
        n->frame_count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        struct node *n = &w->nodes[frames[i].from];
        n->frames[n->frame_count++] = (uint32_t)i;
    }
    w->trace = trace;
    w->frames = frames;
    w->trace_bytes = ipc_trace_bytes(trace);
    w->repeat = repeat;
    w->pause = pause;
    w->asap = asap;
    w->total = (uint64_t)count * repeat;
    return make_schedule(w, count);
}

int ipc_world_capture(ipc_world *w, uint32_t link, ipc_pcapng *capture, uint32_t interface) {
    if (link >= w->link_count) return IPC_E(INVALID);
    w->links[link].capture = capture;
    w->links[link].interface = interface;
    return 0;
}

/* --- the way out --- */

struct transmission {
    struct ipc_wire *wire;
    const uint8_t *l2;
    uint32_t l2_length;
    ipc_time time;
};

static int transmit_fragment(void *context, const uint8_t *fragment, uint32_t length) {
    const struct transmission *t = context;
    return ipc_wire_send(t->wire, t->l2, t->l2_length, ETHERTYPE_IPV4, fragment, length, t->time);
}

static void transmit(ipc_world *w, struct node *n, const uint8_t *l2, uint32_t l2_length, uint16_t ethertype,
                     const uint8_t *l3, uint32_t length, ipc_time time) {
    struct ipc_wire *wire = wire_of(w, n);
    uint32_t mtu = w->links[n->link].config.mtu;
    if (length <= mtu) {
        fail(w, ipc_wire_send(wire, l2, l2_length, ethertype, l3, length, time));
        return;
    }
    struct transmission t = {wire, l2, l2_length, time};
    int rc = ethertype == ETHERTYPE_IPV4 ? ipc_fragment(l3, length, mtu, transmit_fragment, &t) : IPC_E(FULL);
    if (rc == IPC_E(FULL) || rc == IPC_E(INVALID))
        n->counters.packets_too_big++;
    else if (rc < 0)
        fail(w, rc);
    else
        n->counters.packets_fragmented++;
}

/* The frame's own header with the MAC addresses of the two computers; group addresses stay. */
static uint32_t make_header(const ipc_world *w, const struct ipc_trace_frame *f,
                            uint8_t l2[IPC_TRACE_MAX_L2]) {
    memcpy(l2, w->trace_bytes + f->offset, f->l2_length);
    if (f->to != f->from) memcpy(l2, w->nodes[f->to].config.mac, 6);
    memcpy(l2 + 6, w->nodes[f->from].config.mac, 6);
    return f->l2_length;
}

/* A frame that the driver does not see. ARP names the MAC addresses of its sender and, in answers, of its
 * target (RFC 826). */
static void transmit_plain(ipc_world *w, struct node *n, const struct ipc_trace_frame *f, const uint8_t *l2,
                           uint32_t l2_length, ipc_time time) {
    const uint8_t *l3 = w->trace_bytes + f->offset + f->l2_length;
    uint8_t arp[ARP_LENGTH];
    if (f->ethertype == ETHERTYPE_ARP && f->l3_length >= ARP_LENGTH) {
        memcpy(arp, l3, ARP_LENGTH);
        memcpy(arp + 8, n->config.mac, 6);
        if (f->to != f->from) memcpy(arp + 18, w->nodes[f->to].config.mac, 6);
        transmit(w, n, l2, l2_length, f->ethertype, arp, ARP_LENGTH, time); /* padding is the wire's */
        return;
    }
    transmit(w, n, l2, l2_length, f->ethertype, l3, f->l3_length, time);
}

static uint32_t peer_header(const ipc_world *w, const struct node *n, uint8_t l2[14]) {
    const struct link *l = &w->links[n->link];
    memcpy(l2, w->nodes[l->node[!n->direction]].config.mac, 6);
    memcpy(l2 + 6, n->config.mac, 6);
    ipc_store16(l2 + 12, ETHERTYPE_IPV4);
    return 14;
}

static void post_upcalls(ipc_world *w, uint32_t node) {
    struct ipc_event e = {.node = node, .kind = IPC_EVENT_UPCALL};
    while (ipc_upcall_next(w->nodes[node].config.driver, &e.upcall)) {
        e.time = e.upcall.time + w->config.reaction;
        fail(w, ipc_eventq_push(&w->events, &e));
    }
}

/* Sends what the driver lets through. Frames of the trace keep their Ethernet headers; `from_trace` 0:
 * packets of the computer itself. */
static void outbound(ipc_world *w, uint32_t node, int from_trace) {
    struct node *n = &w->nodes[node];
    struct ipc_burst *b = w->out;
    uint8_t l2[IPC_TRACE_MAX_L2];
    (void)ipc_outbound(n->config.driver, b);
    for (uint32_t i = 0; i < b->count; i++) {
        if (!ipc_passes(b->status[i])) continue;
        uint32_t l2_length =
            from_trace ? make_header(w, &w->frames[w->out_frame[i]], l2) : peer_header(w, n, l2);
        transmit(w, n, l2, l2_length, ETHERTYPE_IPV4, ipc_burst_packet(b, i), b->length[i], b->time[i]);
    }
    post_upcalls(w, node);
}

static void release(ipc_world *w, uint32_t node) {
    struct node *n = &w->nodes[node];
    do {
        ipc_burst_reset(w->out);
        (void)ipc_release(n->config.driver, w->out, w->now);
        if (w->out->count) outbound(w, node, 0);
    } while (w->out->count == w->out->capacity);
}

int ipc_world_send(ipc_world *w, uint32_t node, const uint8_t *packet, uint32_t length) {
    if (node >= w->node_count || w->nodes[node].link == IPC_NONE) return IPC_E(INVALID);
    ipc_burst_reset(w->out);
    int rc = ipc_burst_add(w->out, packet, length, w->now);
    if (rc < 0) return rc;
    outbound(w, node, 0);
    w->nodes[node].counters.ike_sent++;
    return w->failed;
}

/* When the node's next frame may leave its source, IPC_NEVER when there is none. A full NIC queue makes the
 * source wait (`now`: start of the window; judged once a window, so that bursts do not matter). */
static ipc_time source_time(const ipc_world *w, const struct node *n) {
    if (n->next_frame == n->frame_count) return IPC_NEVER;
    ipc_time stamp = w->asap ? 0 : w->schedule[n->frames[n->next_frame]] + n->cycle * w->period;
    return stamp > n->source_free ? stamp : n->source_free;
}

static ipc_time queue_gate(const ipc_world *w, const struct node *n) {
    const struct link *l = &w->links[n->link];
    const struct ipc_wire *wire = &l->wire[n->direction];
    ipc_time room = (ipc_time)((unsigned __int128)l->config.queue * 8000000000u / wire->rate);
    return wire->free_at > room ? wire->free_at - room : 0;
}

static void advance_source(ipc_world *w, struct node *n, ipc_time time) {
    const struct ipc_trace_frame *f = &w->frames[n->frames[n->next_frame]];
    n->source_free = time + wire_time(w, n, f->l2_length + f->l3_length);
    n->counters.packets_sent++;
    n->counters.bytes_sent += f->l3_length;
    w->sent++;
    if (++n->next_frame == n->frame_count && ++n->cycle < w->repeat) n->next_frame = 0;
}

static void send_window(ipc_world *w, uint32_t node, ipc_time from, ipc_time to) {
    struct node *n = &w->nodes[node];
    if (n->next_frame == n->frame_count) return;
    /* A short queue empties within the window: the wire must not fall idle. */
    ipc_time gate = queue_gate(w, n);
    if (gate > from) from = gate;
    for (;;) {
        ipc_burst_reset(w->out);
        int plain = 0;
        while (w->out->count < w->out->capacity) {
            ipc_time time = source_time(w, n);
            if (time < from) time = from;
            if (time >= to) break;
            uint32_t index = n->frames[n->next_frame];
            const struct ipc_trace_frame *f = &w->frames[index];
            if (f->ethertype != ETHERTYPE_IPV4) {
                if (w->out->count) { /* what came before it goes first */
                    plain = 1;
                    break;
                }
                uint8_t l2[IPC_TRACE_MAX_L2];
                uint32_t l2_length = make_header(w, f, l2);
                n->counters.frames_not_ipv4++;
                transmit_plain(w, n, f, l2, l2_length, time);
            } else {
                w->out_frame[w->out->count] = index;
                fail(w, ipc_burst_add(w->out, w->trace_bytes + f->offset + f->l2_length, f->l3_length, time));
            }
            advance_source(w, n, time);
        }
        if (w->out->count) outbound(w, node, 1);
        if (w->out->count < w->out->capacity && !plain) return;
    }
}

/* --- the way in --- */

/* Whether it is an IPv4 packet to `address`; `*rest` as in struct ipc_words. */
static int addressed_to(ipc_ipv4 address, const uint8_t *packet, uint32_t *length, uint64_t *rest) {
    struct ipc_words words;
    uint32_t header;
    if (*length == 0 || packet[0] >> 4 != 4 ||
        ipc_parse_ipv4(packet, length, &words, &header) != IPC_PARSE_OK)
        return 0;
    *rest = words.rest;
    return (uint32_t)words.addresses == address;
}

static void hand_up(ipc_world *w, uint32_t node) {
    struct node *n = &w->nodes[node];
    struct ipc_burst *b = w->in;
    if (b->count == 0) return;
    (void)ipc_inbound(n->config.driver, b);
    for (uint32_t i = 0; i < b->count; i++) {
        if (!ipc_passes(b->status[i])) continue;
        const uint8_t *packet = ipc_burst_packet(b, i);
        uint32_t length = b->length[i];
        uint64_t rest;
        if (b->status[i] == IPC_EXEMPT && addressed_to(n->config.address, packet, &length, &rest) &&
            ipc_protocol(rest) == IPC_PROTO_UDP && !(rest & IPC_MARK_FRAGMENT) &&
            (ipc_destination_port(rest) == IPC_PORT_IKE || ipc_destination_port(rest) == IPC_PORT_NAT_T)) {
            struct ipc_event e = {.time = b->time[i] + w->config.reaction,
                                  .node = node,
                                  .kind = IPC_EVENT_DATAGRAM,
                                  .packet = packet,
                                  .length = length};
            fail(w, ipc_eventq_push(&w->events, &e));
            n->counters.ike_received++;
            continue;
        }
        n->counters.packets_delivered++;
        n->counters.bytes_delivered += length;
    }
    post_upcalls(w, node);
    ipc_burst_reset(b);
}

static void take_packet(ipc_world *w, uint32_t node, const uint8_t *packet, uint32_t length, ipc_time time) {
    struct node *n = &w->nodes[node];
    uint32_t total = length;
    uint64_t rest;
    /* IPsec comes after reassembly (RFC 2401 5.2); a router passes fragments on as they are. */
    if (addressed_to(n->config.address, packet, &total, &rest) && (rest & IPC_MARK_FRAGMENT)) {
        int rc = ipc_reassembler_input(n->reassembler, packet, total, time, &packet, &length);
        if (rc <= 0) return;
        n->counters.datagrams_reassembled++;
    }
    if (ipc_burst_add(w->in, packet, length, time) == IPC_E(INVALID)) n->counters.packets_too_big++;
    if (w->in->count == w->in->capacity) hand_up(w, node);
}

static void deliver(ipc_world *w, struct link *l, int direction, ipc_time to) {
    struct ipc_wire *wire = &l->wire[direction];
    uint32_t node = l->node[!direction];
    ipc_burst_reset(w->in);
    while (wire->head < wire->used) {
        const struct ipc_wire_frame *f = ipc_wire_at(wire, wire->head);
        if (f->arrival >= to) break;
        const uint8_t *l3 = ipc_wire_l2(f) + f->l2_length;
        if (f->ethertype == ETHERTYPE_IPV4) {
            take_packet(w, node, l3, f->l3_length, f->arrival);
        } else {
            w->nodes[node].counters.packets_delivered++;
            w->nodes[node].counters.bytes_delivered += f->l3_length;
        }
        wire->head += f->size;
    }
    hand_up(w, node);
    if (!l->capture) wire->captured = wire->head;
    if (wire->head == wire->used && wire->captured == wire->used)
        wire->head = wire->captured = wire->used = 0;
}

/* Both directions in the order of their first bits. */
static void capture(ipc_world *w, struct link *l, ipc_time to) {
    while (l->capture) {
        const struct ipc_wire_frame *first = NULL;
        int direction = 0;
        for (int i = 0; i < 2; i++) {
            const struct ipc_wire *wire = &l->wire[i];
            const struct ipc_wire_frame *f =
                wire->captured < wire->used ? ipc_wire_at(wire, wire->captured) : NULL;
            if (f && f->start < to && (!first || f->start < first->start)) {
                first = f;
                direction = i;
            }
        }
        if (!first) return;
        const uint8_t *l2 = ipc_wire_l2(first);
        fail(w, ipc_pcapng_frame(l->capture, l->interface, first->start, 0, l2, first->l2_length,
                                 l2 + first->l2_length, first->l3_length));
        l->wire[direction].captured += first->size;
    }
}

/* --- time --- */

static ipc_time min_time(ipc_time a, ipc_time b) {
    return a < b ? a : b;
}

static ipc_time next_data(const ipc_world *w) {
    ipc_time next = IPC_NEVER;
    for (uint32_t i = 0; i < w->node_count; i++) {
        const struct node *n = &w->nodes[i];
        ipc_time source = source_time(w, n);
        if (source != IPC_NEVER) {
            ipc_time gate = queue_gate(w, n);
            next = min_time(next, source > gate ? source : gate);
        }
    }
    for (uint32_t i = 0; i < w->link_count; i++)
        for (int k = 0; k < 2; k++) {
            const struct ipc_wire *wire = &w->links[i].wire[k];
            if (wire->head < wire->used) next = min_time(next, ipc_wire_at(wire, wire->head)->arrival);
        }
    return next < w->now ? w->now : next;
}

static int waiting(const ipc_world *w) {
    if (w->events.count > w->events.timers) return 1;
    for (uint32_t i = 0; i < w->node_count; i++)
        if (w->nodes[i].config.driver->held_used) return 1;
    return 0;
}

static void data_window(ipc_world *w, ipc_time from, ipc_time to) {
    for (uint32_t i = 0; i < w->node_count; i++)
        send_window(w, i, from, to);
    for (uint32_t i = 0; i < w->link_count; i++) {
        capture(w, &w->links[i], to);
        deliver(w, &w->links[i], 0, to);
        deliver(w, &w->links[i], 1, to);
    }
}

int ipc_world_run(ipc_world *w, ipc_time until, uint64_t budget, struct ipc_event *event) {
    free(w->event_bytes);
    w->event_bytes = NULL;
    uint64_t stop = w->sent + budget;
    for (uint32_t i = 0; i < w->node_count; i++)
        release(w, i);
    for (;;) {
        if (w->failed) return w->failed;
        ipc_time data = next_data(w), control = ipc_eventq_next(&w->events);
        if (data == IPC_NEVER && (control == IPC_NEVER || !waiting(w))) return IPC_RUN_IDLE;
        if (min_time(data, control) > until) {
            w->now = until;
            return IPC_RUN_UNTIL;
        }
        if (control <= data) {
            struct ipc_queued top = ipc_eventq_pop(&w->events);
            w->now = top.event.time > w->now ? top.event.time : w->now;
            w->event_bytes = top.bytes;
            *event = top.event;
            return IPC_RUN_EVENT;
        }
        ipc_time to = data + w->config.reaction;
        to = min_time(to, control);
        if (until != IPC_NEVER) to = min_time(to, until + 1);
        data_window(w, data, to);
        w->now = to - 1; /* everything before `to` has happened */
        if (w->sent >= stop) return IPC_RUN_YIELD;
    }
}

ipc_time ipc_world_now(const ipc_world *w) {
    return w->now;
}

static int later(ipc_world *w, ipc_time time, uint32_t node, enum ipc_event_kind kind, uint64_t token) {
    struct ipc_event e = {.time = time > w->now ? time : w->now, .node = node, .kind = kind, .token = token};
    return ipc_eventq_push(&w->events, &e);
}

int ipc_world_timer(ipc_world *w, ipc_time time, uint32_t node, uint64_t token) {
    return later(w, time, node, IPC_EVENT_TIMER, token);
}

int ipc_world_step(ipc_world *w, ipc_time time, uint32_t node, uint64_t token) {
    return later(w, time, node, IPC_EVENT_STEP, token);
}

int ipc_world_node_counters(const ipc_world *w, uint32_t node, struct ipc_node_counters *out) {
    if (node >= w->node_count) return IPC_E(NOT_FOUND);
    struct ipc_reassembler_stats s;
    *out = w->nodes[node].counters;
    ipc_reassembler_stats(w->nodes[node].reassembler, &s);
    out->fragments_refused = s.overlaps + s.timeouts + s.overflows + s.malformed;
    return 0;
}

int ipc_world_link_counters(const ipc_world *w, uint32_t link, int direction, struct ipc_link_counters *out) {
    if (link >= w->link_count || direction < 0 || direction > 1) return IPC_E(NOT_FOUND);
    *out = w->links[link].wire[direction].counters;
    return 0;
}

void ipc_world_progress(const ipc_world *w, uint64_t *sent, uint64_t *total) {
    *sent = w->sent;
    *total = w->total;
}
