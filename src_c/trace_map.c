#include "ipsec_core/frag.h"
#include "ipsec_core/trace.h"

#include <stdlib.h>
#include <string.h>

#include "packet.h"
#include "trace_private.h"

#define REASSEMBLY_SLOTS   1024u
#define REASSEMBLY_TIMEOUT 60000000000u /* RFC 1122 3.3.2: 60 to 120 s */
#define AMBIGUOUS          256u         /* value of a MAC address that served hosts of two computers */
#define FRAGMENT_OFFSET    0x1fffu
#define ICMP_HEADER        8u
#define TCP_CHECKSUM       16u
#define UDP_CHECKSUM       6u
#define ETHERTYPE_ARP      0x0806u
#define ARP_LENGTH         28u
#define ARP_SENDER         14u /* protocol addresses */
#define ARP_TARGET         24u

struct mapping {
    const struct ipc_host_map *maps;
    size_t count;
    int reassemble;
};

static const struct ipc_host_map *host_of(const struct mapping *m, ipc_ipv4 address) {
    for (size_t i = 0; i < m->count; i++) {
        if (((address ^ m->maps[i].network) & m->maps[i].mask) == 0) return &m->maps[i];
    }
    return NULL;
}

static ipc_ipv4 new_address(const struct mapping *m, ipc_ipv4 address) {
    const struct ipc_host_map *host = host_of(m, address);
    return host && host->rewrite ? host->address : address;
}

/* --- checksums (RFC 1624 3, equation 3) --- */

static void adjust16(uint8_t *checksum, uint32_t old, uint32_t new) {
    if (old == new) return; /* 0xffff would become 0 */
    uint32_t sum = (~(uint32_t)ipc_load16(checksum) & 0xffff) + (~old & 0xffff) + new;
    sum = (sum & 0xffff) + (sum >> 16);
    sum += sum >> 16;
    ipc_store16(checksum, ~sum & 0xffff);
}

static void adjust32(uint8_t *checksum, uint32_t old, uint32_t new) {
    adjust16(checksum, old >> 16, new >> 16);
    adjust16(checksum, old & 0xffff, new & 0xffff);
}

/* The TCP or UDP checksum field within `length` bytes of a packet; NULL: none there, or UDP without checksum
 * (RFC 768). */
static uint8_t *transport_checksum(uint8_t *packet, uint32_t header, uint32_t length) {
    if (ipc_load16(packet + 6) & FRAGMENT_OFFSET) return NULL;
    uint32_t at = packet[9] == IPC_PROTO_TCP ? TCP_CHECKSUM : packet[9] == IPC_PROTO_UDP ? UDP_CHECKSUM : 0;
    if (!at || length - header < at + 2) return NULL;
    uint8_t *field = packet + header + at;
    return packet[9] == IPC_PROTO_UDP && ipc_load16(field) == 0 ? NULL : field;
}

/* Changes the addresses of a packet, of which `length` bytes are there, and what depends on them. */
static void change_addresses(uint8_t *packet, uint32_t header, uint32_t length, ipc_ipv4 source,
                             ipc_ipv4 destination) {
    uint8_t *field = transport_checksum(packet, header, length);
    const ipc_ipv4 new[2] = {source, destination};
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *address = packet + 12 + 4 * i;
        ipc_ipv4 old = ipc_load32(address);
        adjust32(packet + 10, old, new[i]);
        if (field) adjust32(field, old, new[i]);
        ipc_store32(address, new[i]);
    }
    if (field && packet[9] == IPC_PROTO_UDP && ipc_load16(field) == 0) ipc_store16(field, 0xffff);
}

/* ICMP errors carry the header of the packet they are about, as its sender knew it (RFC 792). */
static void rewrite_icmp(const struct mapping *m, uint8_t *icmp, uint32_t length) {
    /* Unreachable, source quench, redirect, time exceeded, parameter problem. */
    if (length < ICMP_HEADER + IPC_IPV4_HEADER) return;
    if (icmp[0] != 3 && icmp[0] != 4 && icmp[0] != 5 && icmp[0] != 11 && icmp[0] != 12) return;
    uint8_t *inner = icmp + ICMP_HEADER;
    uint32_t room = length - ICMP_HEADER, header = (inner[0] & 15u) * 4;
    if (inner[0] >> 4 != 4 || header < IPC_IPV4_HEADER || header > room) return;
    uint8_t before[10], *field = transport_checksum(inner, header, room);
    uint32_t old_field = field ? ipc_load16(field) : 0;
    memcpy(before, inner + 10, sizeof before);
    change_addresses(inner, header, room, new_address(m, ipc_load32(inner + 12)),
                     new_address(m, ipc_load32(inner + 16)));
    /* Header checksum and both addresses are one run of five words; all words lie even in the message. */
    for (uint32_t i = 0; i < 10; i += 2)
        adjust16(icmp + 2, ipc_load16(before + i), ipc_load16(inner + 10 + i));
    if (field) adjust16(icmp + 2, old_field, ipc_load16(field));
}

static void rewrite(const struct mapping *m, ipc_trace *t, const struct ipc_trace_frame *frame) {
    uint8_t *packet = t->block + frame->offset + frame->l2_length;
    uint32_t header = (packet[0] & 15u) * 4, length = frame->l3_length;
    ipc_ipv4 source = ipc_load32(packet + 12), destination = ipc_load32(packet + 16);
    ipc_ipv4 everybody = frame->from == frame->to ? destination : new_address(m, destination);
    change_addresses(packet, header, length, new_address(m, source), everybody);
    if (packet[9] == IPC_PROTO_ICMP && !(ipc_load16(packet + 6) & FRAGMENT_OFFSET)) {
        rewrite_icmp(m, packet + header, length - header);
    }
}

/* ARP for IPv4 over Ethernet (RFC 826) names addresses, too. */
static void rewrite_arp(const struct mapping *m, uint8_t *arp, uint32_t length) {
    static const uint8_t ipv4_over_ethernet[6] = {0, 1, 8, 0, 6, 4};
    if (length < ARP_LENGTH || memcmp(arp, ipv4_over_ethernet, sizeof ipv4_over_ethernet) != 0) return;
    ipc_store32(arp + ARP_SENDER, new_address(m, ipc_load32(arp + ARP_SENDER)));
    ipc_store32(arp + ARP_TARGET, new_address(m, ipc_load32(arp + ARP_TARGET)));
}

/* --- who sends what to whom --- */

static int learn_macs(ipc_trace *t, const struct mapping *m) {
    if (t->macs.used) return 0; /* assigned by the caller */
    for (size_t i = 0; i < t->count; i++) {
        const struct ipc_trace_frame *frame = &t->frames[i];
        const uint8_t *bytes = t->block + frame->offset;
        if (frame->ethertype != IPC_ETHERTYPE_IPV4) continue;
        const struct ipc_host_map *host = host_of(m, ipc_load32(bytes + frame->l2_length + 12));
        if (!host) continue;
        uint32_t *computer = ipc_table_at(&t->macs, ipc_mac_key(bytes + 6));
        if (!computer) return IPC_E(NO_MEMORY);
        *computer = *computer == IPC_TABLE_NONE || *computer == host->computer ? host->computer : AMBIGUOUS;
    }
    return 0;
}

/* Sets `from` and `to`; 0 when the frame does not travel. */
static int choose(const ipc_trace *t, const struct mapping *m, struct ipc_trace_frame *frame) {
    const uint8_t *bytes = t->block + frame->offset, *packet = bytes + frame->l2_length;
    int group = bytes[0] & 1;
    uint32_t from = IPC_TABLE_NONE, to = IPC_TABLE_NONE;
    if (frame->ethertype == IPC_ETHERTYPE_IPV4) {
        ipc_ipv4 destination = ipc_load32(packet + 16);
        const struct ipc_host_map *sender = host_of(m, ipc_load32(packet + 12));
        const struct ipc_host_map *receiver = host_of(m, destination);
        group |= destination >> 28 == 14 || destination == UINT32_MAX;
        if (sender) from = sender->computer;
        if (receiver) to = receiver->computer;
    } else {
        from = ipc_table_get(&t->macs, ipc_mac_key(bytes + 6));
        to = ipc_table_get(&t->macs, ipc_mac_key(bytes));
    }
    if (from > UINT8_MAX || (!group && (to > UINT8_MAX || to == from))) return 0;
    frame->from = (uint8_t)from;
    frame->to = (uint8_t)(group ? from : to);
    return 1;
}

/* --- reassembly --- */

static int is_fragment(const ipc_trace *t, const struct ipc_trace_frame *frame) {
    return frame->ethertype == IPC_ETHERTYPE_IPV4 &&
           (ipc_load16(t->block + frame->offset + frame->l2_length + 6) & IPC_FRAGMENT_BITS);
}

/* Appends the datagram that frame completes, behind the frame's Ethernet header, and makes it the frame. */
static int replace_with(ipc_trace *t, struct ipc_trace_frame *frame, const uint8_t *datagram,
                        uint32_t length) {
    uint8_t *grown = ipc_trace_grow(t->block, &t->room, t->used + frame->l2_length + length, 1);
    if (!grown) return IPC_E(NO_MEMORY);
    t->block = grown;
    memcpy(grown + t->used, grown + frame->offset, frame->l2_length);
    memcpy(grown + t->used + frame->l2_length, datagram, length);
    frame->offset = t->used;
    frame->l3_length = length;
    t->used += frame->l2_length + length;
    return 0;
}

struct piece {
    size_t frame;
    uint64_t datagram; /* as the reassembler counts; 0: refused */
};

struct pieces {
    struct piece *list;
    size_t count, room;
    size_t *completed_by; /* by datagram: 1 + index of the frame that completed it; 0: incomplete */
};

static int feed(ipc_trace *t, ipc_reassembler *r, struct pieces *pieces) {
    uint64_t datagrams = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (!is_fragment(t, &t->frames[i])) continue;
        struct piece *grown = ipc_trace_grow(pieces->list, &pieces->room, pieces->count + 1, sizeof *grown);
        if (!grown) return IPC_E(NO_MEMORY);
        pieces->list = grown;
        const struct ipc_trace_frame *frame = &t->frames[i];
        const uint8_t *datagram;
        uint32_t length;
        int code = ipc_reassembler_input(r, t->block + frame->offset + frame->l2_length, frame->l3_length,
                                         frame->time, &datagram, &length);
        if (code == IPC_E(NO_MEMORY)) return code;
        uint64_t number = ipc_reassembler_last(r);
        pieces->list[pieces->count++] = (struct piece){i, number};
        if (number > datagrams) datagrams = number;
        if (code == 1) {
            code = replace_with(t, &t->frames[i], datagram, length);
            if (code) return code;
        }
    }
    pieces->completed_by = calloc((size_t)datagrams + 1, sizeof *pieces->completed_by);
    return pieces->completed_by ? 0 : IPC_E(NO_MEMORY);
}

/* Joins the fragments of the list; those that were joined get l2_length 0. What stays a fragment is rewritten
 * as it is. */
static int join(ipc_trace *t, const struct mapping *m, struct pieces *pieces) {
    ipc_reassembler *r;
    int code = ipc_reassembler_create(REASSEMBLY_SLOTS, REASSEMBLY_TIMEOUT, &r);
    if (code) return code;
    code = feed(t, r, pieces);
    ipc_reassembler_destroy(r);
    if (code) return code;
    for (size_t i = 0; i < pieces->count; i++) {
        const struct piece *piece = &pieces->list[i];
        if (piece->datagram && !is_fragment(t, &t->frames[piece->frame])) {
            pieces->completed_by[piece->datagram] = piece->frame + 1;
        }
    }
    for (size_t i = 0; i < pieces->count; i++) {
        const struct piece *piece = &pieces->list[i];
        size_t completed = pieces->completed_by[piece->datagram];
        t->stats.reassembled += completed != 0;
        if (completed && completed != piece->frame + 1) {
            t->frames[piece->frame].l2_length = 0;
        } else {
            rewrite(m, t, &t->frames[piece->frame]);
        }
    }
    return 0;
}

static int build(ipc_trace *t, const struct mapping *m, struct pieces *pieces) {
    int code = t->ethernet && t->others ? learn_macs(t, m) : 0;
    if (code) return code;
    size_t kept = 0, fragments = 0;
    for (size_t i = 0; i < t->count; i++) {
        struct ipc_trace_frame frame = t->frames[i];
        if (!choose(t, m, &frame)) continue;
        t->frames[kept++] = frame;
        if (m->reassemble && is_fragment(t, &frame)) {
            fragments++;
        } else if (frame.ethertype == IPC_ETHERTYPE_IPV4) {
            rewrite(m, t, &frame);
        } else if (frame.ethertype == ETHERTYPE_ARP) {
            rewrite_arp(m, t->block + frame.offset + frame.l2_length, frame.l3_length);
        }
    }
    t->stats.unmapped = t->count - kept;
    t->count = kept;
    if (fragments) {
        code = join(t, m, pieces);
        if (code) return code;
    }

    struct ipc_trace_stats *stats = &t->stats;
    kept = 0;
    for (size_t i = 0; i < t->count; i++) {
        struct ipc_trace_frame *frame = &t->frames[i];
        if (frame->l2_length == 0) continue;
        stats->bytes += frame->l2_length + frame->l3_length;
        if (frame->l3_length > stats->max_l3) stats->max_l3 = frame->l3_length;
        t->frames[kept++] = *frame;
    }
    t->count = kept;
    stats->mapped = kept;
    stats->duration = kept ? t->frames[kept - 1].time - t->frames[0].time : 0;
    return 0;
}

int ipc_trace_map(ipc_trace *t, const struct ipc_host_map *maps, size_t count, int reassemble) {
    if (t->mapped) return IPC_E(INVALID);
    const struct mapping m = {maps, count, reassemble};
    struct pieces pieces = {0};
    int code = build(t, &m, &pieces);
    free(pieces.list);
    free(pieces.completed_by);
    t->mapped = 1;
    if (code) t->count = 0;
    return code;
}
