#include "ipsec_core/icmp.h"

#include "ip.h"

#define ICMP_HEADER     8u
#define IPV4_QUOTED     8u /* bytes behind the header (RFC 792) */
#define HOP_LIMIT       64u
#define TOS             0xc0u /* internetwork control (RFC 1812 4.3.2.5) */
#define ICMPV6_REDIRECT 137u

enum { UNREACHABLE = 3, SOURCE_QUENCH = 4, REDIRECT = 5, TIME_EXCEEDED = 11, PARAMETER_PROBLEM = 12 };
enum { FRAGMENTATION_NEEDED = 4, ICMPV6_TOO_BIG = 2, ICMPV6_FIRST_QUERY = 128 };

/* What both families have in common. `at`: where the header of `protocol` is, `length` when it is not there,
 * as in a later fragment. */
struct view {
    ipc_address source, destination;
    uint32_t total, length, at;
    uint8_t version, protocol;
    uint8_t fragment, later;
};

static int view_ipv4(const uint8_t *p, uint32_t length, struct view *v) {
    uint32_t header = (p[0] & 15u) * 4, total = ipc_load16(p + 2), field = ipc_load16(p + 6);
    if (length > total) length = total;
    if (header < IPC_IPV4_HEADER || header > length) return IPC_E(FORMAT);
    *v = (struct view){.source = ipc_address_of_ipv4(ipc_load32(p + 12)),
                       .destination = ipc_address_of_ipv4(ipc_load32(p + 16)),
                       .total = total,
                       .length = length,
                       .at = field & IPC_IPV4_OFFSET ? length : header,
                       .version = 4,
                       .protocol = p[9],
                       .fragment = (field & IPC_FRAGMENT_BITS) != 0,
                       .later = (field & IPC_IPV4_OFFSET) != 0};
    return 0;
}

static int view_ipv6(const uint8_t *p, uint32_t length, struct view *v) {
    uint32_t total = IPC_IPV6_HEADER + ipc_load16(p + 4);
    if (length > total) length = total;
    *v = (struct view){.source = ipc_load_ipv6(p + 8),
                       .destination = ipc_load_ipv6(p + 24),
                       .total = total,
                       .length = length,
                       .version = 6};
    /* On the wire they would pass for IPv4 ones. */
    if (ipc_address_is_ipv4(v->source) || ipc_address_is_ipv4(v->destination)) return IPC_E(FORMAT);
    struct ipc_ipv6_walk w = ipc_ipv6_walk(p);
    for (int step = 1; step && !v->later;) {
        step = ipc_ipv6_step(p, length, &w);
        if (step < 0) return IPC_E(FORMAT);
        if (step == 0 && w.next == IPC_PROTO_FRAGMENT && !v->fragment) {
            if (length - w.at < IPC_IPV6_FRAGMENT_HEADER) return IPC_E(FORMAT);
            uint32_t field = ipc_load16(p + w.at + 2);
            v->fragment = 1;
            v->later = (field & IPC_IPV6_OFFSET) != 0;
            w = (struct ipc_ipv6_walk){w.at + IPC_IPV6_FRAGMENT_HEADER, w.at, p[w.at]};
            step = 1;
        }
    }
    v->protocol = w.next;
    v->at = v->later ? length : w.at;
    return 0;
}

/* Only the start of the packet need be there: the caller compares `total`. */
static int view(const uint8_t *p, uint32_t length, struct view *v) {
    if (length >= IPC_IPV4_HEADER && p[0] >> 4 == 4) return view_ipv4(p, length, v);
    if (length >= IPC_IPV6_HEADER && p[0] >> 4 == 6) return view_ipv6(p, length, v);
    return IPC_E(FORMAT);
}

/* Whether `a` names one host (RFC 1122 3.2.1.3, RFC 4291 2.5.2 and 2.7). */
static int is_host(ipc_address a) {
    if (!ipc_address_is_ipv4(a)) return a.high >> 56 != 0xff && !ipc_address_is_none(a);
    uint32_t net = (uint32_t)a.low >> 24;
    return net != 0 && net != 127 && net < 224;
}

/* RFC 1122 3.2.2, RFC 4443 2.4 e. ICMPv6 may answer packets to groups with "packet too big". */
static int may_be_answered(const uint8_t *packet, const struct view *v) {
    uint8_t icmp = v->version == 4 ? IPC_PROTO_ICMP : IPC_PROTO_ICMPV6;
    if (v->later || !is_host(v->source)) return 0;
    if (v->version == 4 && (uint32_t)v->destination.low >> 24 >= 224) return 0;
    if (v->protocol != icmp) return 1;
    if (v->at >= v->length) return 0;
    uint8_t type = packet[v->at];
    if (v->version == 6) return type >= ICMPV6_FIRST_QUERY && type != ICMPV6_REDIRECT;
    return type != UNREACHABLE && type != SOURCE_QUENCH && type != REDIRECT && type != TIME_EXCEEDED &&
           type != PARAMETER_PROBLEM;
}

/* Sum of the ICMP message, for IPv6 with its pseudo-header (RFC 8200 8.1): 0xffff when the checksum in it is
 * right. `ip` is its IP header. */
static uint16_t sum_of_message(const uint8_t *ip, uint8_t version, const uint8_t *message, uint32_t length) {
    uint64_t before = version == 6 ? ipc_pseudo_sum(ip, IPC_PROTO_ICMPV6, length) : 0;
    return ipc_fold(ipc_sum(message, length, before));
}

int ipc_icmp_too_big(const uint8_t *packet, uint32_t length, uint32_t mtu, ipc_address from, uint8_t *out,
                     uint32_t room) {
    struct view v;
    int code = view(packet, length, &v);
    if (code) return code;
    if (v.total > length) return IPC_E(FORMAT);
    uint32_t least = v.version == 4 ? IPC_IPV4_MIN_MTU : IPC_IPV6_MIN_MTU;
    if (mtu < least) mtu = least;
    if (v.total <= mtu || ipc_address_is_ipv4(from) != (v.version == 4) || ipc_address_is_none(from))
        return IPC_E(INVALID);
    if (!may_be_answered(packet, &v)) return 0;

    /* The packet is longer than its smallest MTU, which is no less than what is quoted. */
    uint32_t header = v.version == 4 ? IPC_IPV4_HEADER : IPC_IPV6_HEADER;
    uint32_t quoted =
        v.version == 4 ? (packet[0] & 15u) * 4 + IPV4_QUOTED : IPC_ICMP_MAX - header - ICMP_HEADER;
    uint32_t all = header + ICMP_HEADER + quoted;
    if (room < all) return IPC_E(FULL);
    uint8_t *message = out + header;
    memcpy(message + ICMP_HEADER, packet, quoted);
    if (v.version == 4) {
        /* DF and identification 0: it is never split (RFC 6864 4.1). */
        const uint32_t words[5] = {0x45000000 | TOS << 16 | all, IPC_FRAGMENT_DF,
                                   HOP_LIMIT << 24 | IPC_PROTO_ICMP << 16, (uint32_t)from.low,
                                   (uint32_t)v.source.low};
        ipc_store_header(out, words);
        message[0] = UNREACHABLE;
        message[1] = FRAGMENTATION_NEEDED;
    } else {
        ipc_store32(out, 0x60000000);
        ipc_store32(out + 4, (ICMP_HEADER + quoted) << 16 | IPC_PROTO_ICMPV6 << 8 | HOP_LIMIT);
        ipc_store_ipv6(out + 8, from);
        ipc_store_ipv6(out + 24, v.source);
        message[0] = ICMPV6_TOO_BIG;
        message[1] = 0;
    }
    ipc_store16(message + 2, 0);
    ipc_store32(message + 4, mtu);
    ipc_store16(message + 2, (uint16_t)~sum_of_message(out, v.version, message, ICMP_HEADER + quoted));
    return (int)all;
}

/* RFC 1191 7.1 */
static uint32_t plateau_under(uint32_t length) {
    static const uint16_t plateaus[] = {65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296};
    for (unsigned i = 0; i < sizeof plateaus / sizeof *plateaus; i++) {
        if (plateaus[i] < length) return plateaus[i];
    }
    return IPC_IPV4_MIN_MTU;
}

/* Fills protocol, ports and SPI from the packet that the message quotes. */
static int read_quoted(const uint8_t *p, const struct view *v, struct ipc_path_mtu *found) {
    const uint8_t *header = p + v->at;
    uint32_t there = v->length - v->at;
    found->protocol = v->protocol;
    if (v->protocol == IPC_PROTO_ESP) {
        if (there >= 4) found->spi = ipc_load32(header);
        return 0;
    }
    if (v->protocol == IPC_PROTO_AH) {
        if (there >= 8) found->spi = ipc_load32(header + 4);
        return 0;
    }
    if (v->protocol != IPC_PROTO_UDP || there < 4) return IPC_E(NOT_FOUND);
    found->source_port = ipc_load16(header);
    found->destination_port = ipc_load16(header + 2);
    if (found->source_port != IPC_PORT_NAT_T && found->destination_port != IPC_PORT_NAT_T)
        return IPC_E(NOT_FOUND);
    if (there < IPC_UDP_HEADER + 4) return 0;
    found->spi = ipc_load32(header + IPC_UDP_HEADER);
    return found->spi ? 0 : IPC_E(NOT_FOUND);
}

int ipc_icmp_path_mtu(const uint8_t *packet, uint32_t length, struct ipc_path_mtu *found) {
    struct view outer, inner;
    int code = view(packet, length, &outer);
    if (code) return code;
    if (outer.total > length) return IPC_E(FORMAT);
    if (outer.protocol != (outer.version == 4 ? IPC_PROTO_ICMP : IPC_PROTO_ICMPV6)) return IPC_E(NOT_FOUND);
    uint32_t size = outer.length - outer.at;
    if (outer.fragment || size < ICMP_HEADER) return IPC_E(FORMAT);
    const uint8_t *message = packet + outer.at, *quoted = message + ICMP_HEADER;
    /* The code of ICMPv6 says nothing (RFC 4443 3.2). */
    int ours = outer.version == 4 ? message[0] == UNREACHABLE && message[1] == FRAGMENTATION_NEEDED
                                  : message[0] == ICMPV6_TOO_BIG;
    if (!ours) return IPC_E(NOT_FOUND);
    if (sum_of_message(packet, outer.version, message, size) != 0xffff) return IPC_E(FORMAT);
    code = view(quoted, size - ICMP_HEADER, &inner);
    if (code) return code;
    if (inner.version != outer.version || !ipc_address_equal(inner.source, outer.destination))
        return IPC_E(FORMAT);

    *found = (struct ipc_path_mtu){
        .source = inner.source, .destination = inner.destination, .router = outer.source};
    uint32_t least = outer.version == 4 ? IPC_IPV4_MIN_MTU : IPC_IPV6_MIN_MTU;
    found->mtu = outer.version == 4 ? ipc_load16(message + 6) : ipc_load32(message + 4);
    if (outer.version == 4 && found->mtu == 0) found->mtu = plateau_under(inner.total);
    if (found->mtu < least) found->mtu = least;
    return read_quoted(quoted, &inner, found);
}
