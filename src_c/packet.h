/* Reading and writing IP and transport headers in place. Private. */
#ifndef IPC_PACKET_H
#define IPC_PACKET_H

#include <stdint.h>
#include <string.h>

#include "ipsec_core/types.h"

#define IPC_IPV4_HEADER 20u
#define IPC_IPV6_HEADER 40u
#define IPC_UDP_HEADER  8u
#define IPC_TCP_HEADER  20u /* without options */
#define IPC_ESP_HEADER  8u
#define IPC_ESP_TRAILER 2u
#define IPC_AH_HEADER   12u /* up to the ICV (RFC 2402 2) */

enum {
    IPC_PROTO_HOP_BY_HOP = 0,
    IPC_PROTO_ICMP = 1,
    IPC_PROTO_IPV4 = 4,
    IPC_PROTO_TCP = 6,
    IPC_PROTO_UDP = 17,
    IPC_PROTO_IPV6 = 41,
    IPC_PROTO_ROUTING = 43,
    IPC_PROTO_FRAGMENT = 44,
    IPC_PROTO_RSVP = 46,
    IPC_PROTO_ESP = 50,
    IPC_PROTO_AH = 51,
    IPC_PROTO_ICMPV6 = 58,
    IPC_PROTO_NONE = 59,
    IPC_PROTO_DESTINATION = 60
};
enum { IPC_PORT_KERBEROS = 88, IPC_PORT_IKE = 500, IPC_PORT_NAT_T = 4500 };

#define IPC_FRAGMENT_BITS   0x3fffu /* MF and offset */
#define IPC_FRAGMENT_OFFSET 0x1fffu
#define IPC_FRAGMENT_DF     0x4000u

static inline uint16_t ipc_load16(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#    define IPC_BE32(v) __builtin_bswap32(v)
#    define IPC_BE64(v) __builtin_bswap64(v)
#else
#    define IPC_BE32(v) (v)
#    define IPC_BE64(v) (v)
#endif
static inline uint32_t ipc_load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return IPC_BE32(v);
}
static inline uint64_t ipc_load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return IPC_BE64(v);
}
static inline void ipc_store16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void ipc_store32(uint8_t *p, uint32_t v) {
    v = IPC_BE32(v);
    memcpy(p, &v, 4);
}
static inline void ipc_store64(uint8_t *p, uint64_t v) {
    v = IPC_BE64(v);
    memcpy(p, &v, 8);
}
static inline ipc_address ipc_load_ipv6(const uint8_t *p) {
    return (ipc_address){ipc_load64(p), ipc_load64(p + 8)};
}
static inline void ipc_store_ipv6(uint8_t *p, ipc_address a) {
    ipc_store64(p, a.high);
    ipc_store64(p + 8, a.low);
}

/*
 * An IPv4 flow as two words, made in registers: source and destination; ports, protocol and marks. The header
 * cache compares and hashes them, the selectors of an SA are masks over them.
 */
struct ipc_words {
    uint64_t addresses;
    uint64_t rest;
};
#define IPC_REST(source_port, destination_port, protocol)                                                    \
    ((uint64_t)(source_port) << 48 | (uint64_t)(destination_port) << 32 | (uint64_t)(protocol) << 8)
enum { IPC_MARK_FRAGMENT = 1, IPC_MARK_NEIGHBOR = 2 };

/* What the filters look at (RFC 2401 4.4.2), for both families. */
struct ipc_flow {
    ipc_address source, destination;
    uint64_t rest; /* as in struct ipc_words */
    uint8_t family;
};
static inline uint16_t ipc_source_port(uint64_t rest) {
    return (uint16_t)(rest >> 48);
}
static inline uint16_t ipc_destination_port(uint64_t rest) {
    return (uint16_t)(rest >> 32);
}
static inline uint8_t ipc_protocol(uint64_t rest) {
    return (uint8_t)(rest >> 8);
}

enum ipc_parse { IPC_PARSE_OK, IPC_PARSE_NOT_IP, IPC_PARSE_MALFORMED };

/* Where IPsec finds its place in a packet, and where what is not an extension header begins; each with the
 * offset of the byte that tells what follows. */
struct ipc_layout {
    uint32_t header, next;
    uint32_t upper, upper_next;
    uint32_t fragment; /* IPv6: end of a Fragment header, be the packet whole (RFC 6946) or not; 0: none */
};

/* The header's length, with `*length` cut to the total length; 0: not a well-formed IPv4 packet. */
static inline uint32_t ipc_ipv4_cut(const uint8_t *p, uint32_t *length) {
    if (*length < IPC_IPV4_HEADER || p[0] >> 4 != 4) return 0;
    uint32_t header = (p[0] & 15u) * 4, total = ipc_load16(p + 2);
    if (header < IPC_IPV4_HEADER || total < header || total > *length) return 0;
    *length = total;
    return header;
}

/* The flow and the length of the header of an IPv4 packet; cuts link padding off `*length`. */
static inline enum ipc_parse ipc_parse_ipv4(const uint8_t *p, uint32_t *length, struct ipc_words *flow,
                                            uint32_t *header) {
    uint32_t ihl = ipc_ipv4_cut(p, length);
    if (ihl == 0) return IPC_PARSE_MALFORMED;
    uint32_t total = *length;
    *header = ihl;
    uint32_t fragment = ipc_load16(p + 6) & IPC_FRAGMENT_BITS;
    flow->addresses = ipc_load64(p + 12);
    flow->rest = (uint64_t)p[9] << 8 | (fragment != 0);
    /* Only the first fragment holds the ports. */
    if ((p[9] == IPC_PROTO_TCP || p[9] == IPC_PROTO_UDP) && (fragment & IPC_FRAGMENT_OFFSET) == 0 &&
        total - ihl >= 4)
        flow->rest |= (uint64_t)ipc_load32(p + ihl) << 32;
    return IPC_PARSE_OK;
}

/*
 * The same for IPv6 (RFC 8200). IPsec comes after the hop-by-hop options and a routing header, and after
 * destination options that belong to the routing header (RFC 4303 3.1.1).
 */
enum ipc_parse ipc_parse_ipv6(const uint8_t *p, uint32_t *length, struct ipc_flow *flow,
                              struct ipc_layout *layout);

/* Either family, by the version field. */
enum ipc_parse ipc_parse(const uint8_t *p, uint32_t *length, struct ipc_flow *flow,
                         struct ipc_layout *layout);

/* RFC 1071: the sum of 16-bit words, not folded; an odd byte counts as the high half of a word. */
static inline uint64_t ipc_sum(const uint8_t *p, uint32_t length, uint64_t sum) {
    for (; length >= 4; p += 4, length -= 4)
        sum += ipc_load32(p);
    if (length >= 2) {
        sum += ipc_load16(p);
        p += 2;
        length -= 2;
    }
    return length ? sum + ((uint32_t)p[0] << 8) : sum;
}
static inline uint16_t ipc_fold(uint64_t sum) {
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
/* The pseudo-header of either family (RFC 793 3.1, RFC 8200 8.1) in front of `size` bytes of the protocol. */
static inline uint64_t ipc_pseudo_sum(const uint8_t *ip, uint8_t protocol, uint32_t size) {
    uint64_t sum = (uint64_t)protocol + size;
    return ip[0] >> 4 == 4 ? ipc_sum(ip + 12, 8, sum) : ipc_sum(ip + 8, 32, sum);
}
/* The checksum over TCP, UDP or ICMPv6 with its pseudo-header: 0 when the one in it is right. */
static inline uint16_t ipc_transport_sum(const uint8_t *ip, uint8_t protocol, const uint8_t *segment,
                                         uint32_t size) {
    return (uint16_t)~ipc_fold(ipc_sum(segment, size, ipc_pseudo_sum(ip, protocol, size)));
}
static inline void ipc_header_checksum(uint8_t *p, uint32_t length) {
    p[10] = p[11] = 0;
    ipc_store16(p + 10, (uint16_t)~ipc_fold(ipc_sum(p, length, 0)));
}
/* An IPv4 header without options from its five words, in host order; the checksum is put in (RFC 791 3.1). */
static inline void ipc_store_header(uint8_t *p, const uint32_t word[5]) {
    for (unsigned i = 0; i < 5; i++)
        ipc_store32(p + 4 * i, word[i]);
    ipc_header_checksum(p, IPC_IPV4_HEADER);
}
/* Puts the next protocol (at offset `next`), the total length and the checksum into a header of `header`
 * bytes. */
void ipc_finish_header(uint8_t *p, uint32_t header, uint32_t next, uint8_t protocol, uint32_t total);

#endif
