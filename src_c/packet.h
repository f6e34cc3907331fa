/* Reading and writing IPv4 and transport headers in place. Private. */
#ifndef IPC_PACKET_H
#define IPC_PACKET_H

#include <stdint.h>
#include <string.h>

#define IPC_IPV4_HEADER 20u
#define IPC_ESP_HEADER  8u
#define IPC_ESP_TRAILER 2u

enum {
    IPC_PROTO_ICMP = 1,
    IPC_PROTO_IPV4 = 4,
    IPC_PROTO_TCP = 6,
    IPC_PROTO_UDP = 17,
    IPC_PROTO_RSVP = 46,
    IPC_PROTO_ESP = 50
};
enum { IPC_PORT_KERBEROS = 88, IPC_PORT_IKE = 500 };

#define IPC_FRAGMENT_BITS 0x3fffu /* MF and offset */
#define IPC_FRAGMENT_DF   0x4000u

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

/* What the filters look at (RFC 2401 4.4.2). */
struct ipc_flow {
    uint32_t source, destination;
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint8_t fragment;
};

/* The same as two words, made in registers: the header cache compares and hashes them. */
struct ipc_flow_key {
    uint64_t word[2];
};
static inline struct ipc_flow_key ipc_flow_key(const struct ipc_flow *f) {
    return (struct ipc_flow_key){{(uint64_t)f->source << 32 | f->destination,
                                  (uint64_t)f->source_port << 48 | (uint64_t)f->destination_port << 32 |
                                      (uint32_t)f->protocol << 8 | f->fragment}};
}

enum ipc_parse { IPC_PARSE_OK, IPC_PARSE_NOT_IPV4, IPC_PARSE_MALFORMED };

/* Checks the header against the buffer, cuts link padding off `*length`, and fills the flow. */
static inline enum ipc_parse ipc_parse_ipv4(const uint8_t *p, uint32_t *length, struct ipc_flow *flow,
                                            uint32_t *header) {
    if (*length < 1) return IPC_PARSE_MALFORMED;
    if (p[0] >> 4 != 4) return IPC_PARSE_NOT_IPV4;
    uint32_t ihl = (p[0] & 15u) * 4;
    if (*length < IPC_IPV4_HEADER || ihl < IPC_IPV4_HEADER) return IPC_PARSE_MALFORMED;
    uint32_t total = ipc_load16(p + 2);
    if (total < ihl || total > *length) return IPC_PARSE_MALFORMED;
    *length = total;
    *header = ihl;
    uint32_t fragment = ipc_load16(p + 6) & IPC_FRAGMENT_BITS;
    flow->source = ipc_load32(p + 12);
    flow->destination = ipc_load32(p + 16);
    flow->protocol = p[9];
    flow->fragment = fragment != 0;
    flow->source_port = flow->destination_port = 0;
    /* Only the first fragment holds the ports. */
    if ((p[9] == IPC_PROTO_TCP || p[9] == IPC_PROTO_UDP) && (fragment & 0x1fffu) == 0 && total - ihl >= 4) {
        flow->source_port = ipc_load16(p + ihl);
        flow->destination_port = ipc_load16(p + ihl + 2);
    }
    return IPC_PARSE_OK;
}

/* RFC 1071 over an IPv4 header of `length` bytes (a multiple of 4) whose checksum field is counted as it
 * stands. */
static inline uint16_t ipc_header_sum(const uint8_t *p, uint32_t length) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < length; i += 4) {
        uint32_t word;
        memcpy(&word, p + i, 4);
        sum += word;
    }
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
/* An IPv4 header without options from its five words, in host order; the checksum is put in (RFC 791 3.1). */
static inline void ipc_store_header(uint8_t *p, const uint32_t word[5]) {
    uint64_t sum = (uint64_t)word[0] + word[1] + word[2] + word[3] + word[4];
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ipc_store32(p, word[0]);
    ipc_store32(p + 4, word[1]);
    ipc_store32(p + 8, word[2] | (~(uint32_t)sum & 0xffff));
    ipc_store32(p + 12, word[3]);
    ipc_store32(p + 16, word[4]);
}

static inline void ipc_header_checksum(uint8_t *p, uint32_t length) {
    p[10] = p[11] = 0;
    uint16_t sum = (uint16_t)~ipc_header_sum(p, length);
    memcpy(p + 10, &sum, 2);
}

#endif
