/*
 * From the host to the wire: classify and encapsulate, crypt, finish (RFC 2401 5.1, RFC 2402 3.3, RFC
 * 2406 3.3).
 */
#include "internal.h"

#define AHEAD   4u
#define SCRATCH 20u /* bytes past the trailer that building it and an ESN may write */

/* Pad bytes are 1, 2, 3, ... (RFC 2406 2.4). */
static const uint8_t padding[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* What a burst adds up before it goes to the counters. */
struct tally {
    uint64_t both, confidential, authenticated; /* bytes: `both` are confidential and authenticated */
    unsigned ops;
    unsigned special; /* packets that are not done once they are encrypted */
};

/* ATOMIC: a whole packet with a Fragment header (RFC 6946) in front of the place for IPsec. */
enum { WHOLE, PIECE = IPC_MARK_FRAGMENT, ATOMIC };

/* The host's packet as the loop needs it. */
struct place {
    uint32_t header, next; /* see struct ipc_layout */
    uint8_t fragment;
};

static struct place place_of(const struct ipc_layout *layout, uint64_t rest) {
    uint8_t fragment = rest & IPC_MARK_FRAGMENT                                 ? PIECE
                       : layout->fragment && layout->fragment <= layout->header ? ATOMIC
                                                                                : WHOLE;
    return (struct place){layout->header, layout->next, fragment};
}

/* RFC 2401 6.1: whether the packet with this SA's headers around it may be fragmented. The source of an IPv6
 * packet cannot be told to send less than 1280 bytes, which we have to carry somehow (RFC 2473 7.1, RFC 4213
 * 3.2.2); of an IPv6 packet with an SA around it we are the source. `ours`: it has one. */
static int must_not_fragment(const struct ipc_sa_hot *sa, const uint8_t *packet, uint32_t length, int ours) {
    if (sa->outer_header && sa->df != IPC_DF_COPY) return sa->df == IPC_DF_SET;
    if (packet[0] >> 4 == 6) return length > IPC_IPV6_MIN_MTU && !ours;
    return packet[6] & IPC_FRAGMENT_DF >> 8;
}

/* Takes the next sequence number and the packet's bytes from the SA, or says why not. Numbers never wrap (RFC
 * 2406 3.3.3). */
static inline enum ipc_status reserve(ipc_driver *d, struct ipc_sa_hot *sa, uint32_t index, uint32_t carried,
                                      ipc_time now) {
    uint64_t bytes = sa->bytes + carried;
    if (IPC_UNLIKELY(bytes >= sa->byte_limit || now >= sa->time_limit ||
                     sa->sent.sequence >= sa->sequence_limit)) {
        enum ipc_status status = ipc_sa_limit(d, index, bytes, now);
        if (status != IPC_PROTECTED) return status;
    }
    sa->bytes = bytes;
    sa->last = now;
    sa->sent.sequence++;
    return IPC_PROTECTED;
}

/* RFC 2401 5.1.2: type of service and DF come from the packet inside, the rest from the SA. */
static inline void outer_ipv4(ipc_driver *d, const struct ipc_sa_hot *sa, uint8_t *start,
                              const uint8_t *inner, uint32_t total, int any) {
    int v4 = inner[0] >> 4 == 4;
    uint32_t tos = v4 ? inner[1] : (uint32_t)(ipc_load16(inner) >> 4 & 0xff);
    uint32_t df = v4 ? ipc_load16(inner + 6) & IPC_FRAGMENT_DF : IPC_FRAGMENT_DF;
    if (any && sa->df != IPC_DF_COPY) df = sa->df == IPC_DF_SET ? IPC_FRAGMENT_DF : 0;
    if (any && sa->out.path_mtu && total > sa->out.path_mtu) df = 0; /* what is to be fragmented after all */
    uint32_t id = ++d->packet_id;
    uint32_t sum = sa->out.header_sum + tos + total + id + df;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ipc_store64(start, (uint64_t)(0x4500 | tos) << 48 | (uint64_t)total << 32 | id << 16 | df);
    ipc_store64(start + 8, ipc_load64(sa->out.headers + 8) | (uint64_t)(~sum & 0xffff) << 32);
    memcpy(start + 16, sa->out.headers + 16, 4);
}

static void outer_ipv6(const struct ipc_sa_hot *sa, uint8_t *start, const uint8_t *inner, uint32_t total) {
    uint32_t traffic_class = inner[0] >> 4 == 4 ? inner[1] : (uint32_t)(ipc_load16(inner) >> 4 & 0xff);
    memcpy(start, sa->out.headers, IPC_IPV6_HEADER);
    ipc_store32(start, 6u << 28 | traffic_class << 20);
    ipc_store16(start + 4, total - IPC_IPV6_HEADER);
}

/* RFC 3948 2.1: no checksum under IPv4. */
static void udp_header(const struct ipc_sa_hot *sa, uint8_t *udp, uint32_t length) {
    memcpy(udp, sa->out.headers + sa->outer_header, 4);
    ipc_store32(udp + 4, length << 16);
}

/* IP headers in front of the IPsec header, outer or moved; `protocol` is what follows them. Returns what the
 * IPsec header names as its next one. */
static inline uint8_t put_headers(ipc_driver *d, const struct ipc_sa_hot *sa, uint8_t *start, uint8_t *packet,
                                  const struct place *place, uint8_t protocol, uint32_t total,
                                  uint32_t outer_header, int any) {
    uint8_t family = packet[0] >> 4; /* before it may be written over */
    if (outer_header == IPC_IPV4_HEADER) {
        outer_ipv4(d, sa, start, packet, total, any);
    } else if (outer_header) {
        outer_ipv6(sa, start, packet, total);
    } else {
        uint8_t next_header = packet[place->next];
        memmove(start, packet, place->header);
        ipc_finish_header(start, place->header, place->next, protocol, total);
        return next_header;
    }
    return family == 4 ? IPC_PROTO_IPV4 : IPC_PROTO_IPV6;
}

/* RFC 2402 3.3: the header with a zero ICV; what may change on the way is hidden until the ICV is computed.
 */
static enum ipc_status put_ah(ipc_driver *d, struct ipc_sa_hot *sa, uint8_t *start, uint8_t *ah,
                              uint32_t total, uint8_t next_header, unsigned k) {
    struct ipc_crypto_op *op = &d->ops[k];
    ah[0] = next_header;
    ah[1] = (uint8_t)((IPC_AH_HEADER + sa->icv_field) / 4 - 2);
    ah[2] = ah[3] = 0;
    ipc_store32(ah + 4, sa->spi);
    ipc_store32(ah + 8, (uint32_t)sa->sent.sequence);
    memset(ah + IPC_AH_HEADER, 0, sa->icv_field);
    if (!ipc_ah_hide(start, (uint32_t)(ah - start), &d->ah[k])) return IPC_MALFORMED;
    op->aad = op->text = start;
    op->text_length = total;
    op->iv = ah + IPC_AH_HEADER;
    if (sa->iv_length) ipc_store64(op->iv, sa->sent.sequence);
    op->icv = op->iv + sa->iv_length;
    return IPC_PROTECTED;
}

/* RFC 2406 2: all but the encryption. */
static inline void put_esp(const struct ipc_sa_hot *sa, uint8_t *esp, uint64_t number, uint32_t carried,
                           uint32_t pad, uint8_t next_header, struct ipc_crypto_op *restrict op) {
    const uint32_t iv_length = sa->iv_length;
    ipc_store64(esp, (uint64_t)sa->spi << 32 | (uint32_t)number);
    op->aad = esp;
    op->iv = esp + IPC_ESP_HEADER;
    uint8_t *text = esp + IPC_ESP_HEADER + iv_length, *trailer = text + carried;
    op->text = text;
    op->text_length = carried + pad + IPC_ESP_TRAILER;
    op->icv = trailer + pad + IPC_ESP_TRAILER;
    /* A number that never repeats under the key; see crypto.h for what each mode makes of it. */
    if (iv_length) {
        ipc_store64(esp + IPC_ESP_HEADER, number);
        if (iv_length > 8) ipc_store64(esp + IPC_ESP_HEADER + 8, 0);
    }
    memcpy(trailer, padding, sizeof padding);
    trailer[pad] = (uint8_t)pad;
    trailer[pad + 1] = next_header;
}

/*
 * Builds the IPsec packet around the packet, in place, and its operation. `shape` is a constant wherever this
 * is compiled in, so that what it decides is decided once.
 */
static inline __attribute__((always_inline)) enum ipc_status
encapsulate(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index, const struct place *place,
            struct tally *tally, enum ipc_shape shape) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    const int any = shape == IPC_SHAPE_ANY;
    const uint32_t outer_header = any ? sa->outer_header : shape == IPC_SHAPE_TUNNEL4 ? IPC_IPV4_HEADER : 0;
    const uint32_t udp = any ? sa->udp : 0, front = sa->front;
    const int ah = any && sa->service == IPC_SERVICE_AH;
    uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t length = b->length[i];
    uint32_t outside = outer_header ? 0 : place->header;
    /* AH does not go behind a Fragment header, which the receiver takes off before it looks at the ICV. */
    if (IPC_UNLIKELY(!outer_header && place->fragment) &&
        (place->fragment == PIECE || sa->service == IPC_SERVICE_AH))
        return IPC_FRAGMENT;
    uint32_t carried = length - outside;
    uint32_t pad = (0u - (carried + IPC_ESP_TRAILER)) & sa->pad_mask;
    uint32_t back = ah ? 0 : pad + IPC_ESP_TRAILER + sa->icv_length;
    uint32_t total = length + front + back;
    uint32_t room = b->offset[i] - i * b->stride;
    if (IPC_UNLIKELY(room < front || room + length + back + SCRATCH > b->stride || total > IPC_PACKET_MAX))
        return IPC_TOO_BIG;
    if (any && sa->out.path_mtu && total > sa->out.path_mtu &&
        must_not_fragment(sa, packet, length, room < IPC_BURST_HEADROOM))
        return IPC_EXCEEDS_MTU;
    enum ipc_status status = reserve(d, sa, index, carried, b->time[i]);
    if (IPC_UNLIKELY(status != IPC_PROTECTED)) return status;

    unsigned k = tally->ops;
    struct ipc_crypto_op *restrict op = &d->ops[k];
    uint64_t number = sa->sent.sequence;
    op->key = sa->key;
    op->sequence_high = (uint32_t)(number >> 32);
    d->op_suite[k] = sa->suite;
    d->op_packet[k] = (uint16_t)i;
    d->op_sa[k] = index;
    tally->ops = k + 1;
    b->offset[i] -= front;
    b->length[i] = total;
    if (any) {
        tally->special |= ah | (udp && sa->outer_header == IPC_IPV6_HEADER) | (udp && packet[0] >> 4 == 6) |
                          (sa->outer != IPC_NONE);
        tally->confidential += sa->confidential ? carried : 0;
        tally->authenticated += sa->authenticated ? carried : 0;
        if (!sa->authenticated) d->counters.unauthenticated_packets++;
    } else {
        tally->both += carried;
    }
    uint8_t *start = packet - front;
    uint8_t *ipsec = packet + outside - front + outer_header + udp;
    uint8_t protocol = ah ? IPC_PROTO_AH : udp ? IPC_PROTO_UDP : IPC_PROTO_ESP;
    uint8_t next_header = put_headers(d, sa, start, packet, place, protocol, total, outer_header, any);
    if (udp) udp_header(sa, ipsec - IPC_UDP_HEADER, total - (uint32_t)(ipsec - IPC_UDP_HEADER - start));
    if (ah) return put_ah(d, sa, start, ipsec, total, next_header, k);
    put_esp(sa, ipsec, number, carried, pad, next_header, op);
    return IPC_PROTECTED;
}

static enum ipc_status encapsulate_any(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index,
                                       const struct place *place, struct tally *tally) {
    struct tally before = *tally;
    enum ipc_status status = encapsulate(d, b, i, index, place, tally, IPC_SHAPE_ANY);
    if (status != IPC_PROTECTED)
        *tally = before; /* AH that cannot read the headers */
    else if (IPC_UNLIKELY(ipc_hot(d, index)->offload))
        ipc_offload_send(d, b, i, index, before.ops);
    return status;
}

static inline enum ipc_status protect(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index,
                                      const struct place *place, struct tally *tally) {
    uint8_t shape = ipc_hot(d, index)->out.shape;
    if (IPC_LIKELY(shape == IPC_SHAPE_TUNNEL4))
        return encapsulate(d, b, i, index, place, tally, IPC_SHAPE_TUNNEL4);
    if (shape == IPC_SHAPE_TRANSPORT) return encapsulate(d, b, i, index, place, tally, IPC_SHAPE_TRANSPORT);
    return encapsulate_any(d, b, i, index, place, tally);
}

static enum ipc_status hold(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t filter) {
    struct ipc_flow flow;
    struct ipc_layout layout;
    (void)ipc_parse(ipc_burst_packet(b, i), &b->length[i], &flow, &layout);
    return ipc_hold(d, filter, &flow, ipc_burst_packet(b, i), b->length[i], b->time[i]);
}

static inline enum ipc_status classify(ipc_driver *d, struct ipc_burst *b, uint32_t i, struct tally *tally) {
    const uint8_t *packet = ipc_burst_packet(b, i);
    struct ipc_decision decision;
    struct place place;
    if (IPC_LIKELY(b->length[i] && packet[0] >> 4 == 4)) {
        struct ipc_words words;
        if (ipc_parse_ipv4(packet, &b->length[i], &words, &place.header) != IPC_PARSE_OK)
            return IPC_MALFORMED;
        place.next = 9;
        place.fragment = words.rest & IPC_MARK_FRAGMENT;
        decision = ipc_decide_ipv4(d, IPC_OUTBOUND, words);
    } else {
        struct ipc_flow flow;
        struct ipc_layout layout;
        switch (ipc_parse(packet, &b->length[i], &flow, &layout)) {
        case IPC_PARSE_NOT_IP: return IPC_NOT_IP;
        case IPC_PARSE_MALFORMED: return IPC_MALFORMED;
        default: break;
        }
        place = place_of(&layout, flow.rest);
        decision = ipc_decide(d, IPC_OUTBOUND, &flow);
    }
    b->filter[i] = decision.filter;
    b->sa[i] = decision.sa;
    if (decision.filter != IPC_NONE) d->filters[decision.filter].packets++;
    if (IPC_LIKELY(decision.status == IPC_PROTECTED)) return protect(d, b, i, decision.sa, &place, tally);
    if (decision.status == IPC_HELD) return hold(d, b, i, decision.filter);
    if (decision.status == IPC_SOFT) return ipc_soft(d, decision.sa, b->length[i], b->time[i]);
    return (enum ipc_status)decision.status;
}

/* RFC 8200 8.1: under IPv6 a UDP checksum is a must. */
static void udp_checksum(const uint8_t *packet, uint32_t length, uint8_t *udp) {
    uint32_t size = length - (uint32_t)(udp - packet);
    uint16_t sum = ipc_transport_sum(packet, IPC_PROTO_UDP, udp, size);
    ipc_store16(udp + 6, sum ? sum : 0xffff);
}

/* The SA around this one (RFC 2401 4.3): the packet is the host's once more. */
static enum ipc_status next_sa(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index,
                               struct tally *tally) {
    struct ipc_flow flow;
    struct ipc_layout layout;
    ipc_sa outer = ipc_ctl(d, index)->config.outer;
    if (!ipc_sa_valid(d, outer)) return IPC_EXPIRED;
    if (ipc_parse(ipc_burst_packet(b, i), &b->length[i], &flow, &layout) != IPC_PARSE_OK)
        return IPC_MALFORMED;
    struct place place = place_of(&layout, flow.rest);
    return encapsulate_any(d, b, i, IPC_SA_INDEX(outer), &place, tally);
}

/* After the crypt pass: what AH hid comes back, and packets with another SA around them begin again. */
static void finish(ipc_driver *d, struct ipc_burst *b, struct tally *tally) {
    unsigned ops = tally->ops;
    tally->ops = tally->special = 0;
    for (unsigned k = 0; k < ops; k++) {
        uint32_t i = d->op_packet[k], index = d->op_sa[k];
        const struct ipc_sa_hot *sa = ipc_hot(d, index);
        uint8_t *packet = ipc_burst_packet(b, i);
        if (sa->service == IPC_SERVICE_AH) ipc_ah_restore(packet, &d->ah[k]);
        if (!d->ops[k].ok) {
            b->status[i] = IPC_NOT_ENCRYPTED;
            continue;
        }
        if (sa->udp && packet[0] >> 4 == 6)
            udp_checksum(packet, b->length[i], d->ops[k].aad - IPC_UDP_HEADER);
        /* Writes op `tally->ops`, which is never past the one just read. */
        if (sa->outer != IPC_NONE) b->status[i] = (uint8_t)next_sa(d, b, i, index, tally);
    }
}

uint32_t ipc_outbound(ipc_driver *d, struct ipc_burst *b) {
    struct tally tally = {0};
    uint64_t mark = d->profile ? d->profile->clock() : 0;
    for (uint32_t i = 0; i < b->count; i++) {
        if (i + AHEAD < b->count) {
            const uint8_t *ahead = ipc_burst_packet(b, i + AHEAD);
            __builtin_prefetch(ahead);
            __builtin_prefetch(ahead + b->length[i + AHEAD], 1);
        }
        b->sa[i] = IPC_NO_SA;
        b->filter[i] = IPC_NO_FILTER_INDEX;
        b->status[i] = (uint8_t)classify(d, b, i, &tally);
    }
    IPC_PHASE(d, mark, classify);
    while (tally.ops) {
        ipc_crypt(d, tally.ops, IPC_OUTBOUND);
        IPC_PHASE(d, mark, crypt);
        if (IPC_UNLIKELY(tally.special)) {
            finish(d, b, &tally);
            continue;
        }
        for (unsigned k = 0; k < tally.ops; k++)
            if (IPC_UNLIKELY(!d->ops[k].ok)) b->status[d->op_packet[k]] = IPC_NOT_ENCRYPTED;
        break;
    }
    d->counters.packets_outbound += b->count;
    d->counters.confidential_bytes_sent += tally.confidential + tally.both;
    d->counters.authenticated_bytes_sent += tally.authenticated + tally.both;
    uint32_t passed = ipc_count_verdicts(b, d->counters.status_outbound);
    IPC_PHASE(d, mark, commit);
    return passed;
}
