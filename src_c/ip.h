/* What fragments and ICMP messages need of IPv4 and IPv6 headers (RFC 791 3.1, RFC 8200 3 and 4). Private. */
#ifndef IPC_IP_H
#define IPC_IP_H

#include "ipsec_core/types.h"
#include "packet.h"

#define IPC_IPV4_MAX_HEADER      60u
#define IPC_IPV4_MIN_MTU         68u /* RFC 791 3.2: every host forwards this much unfragmented */
#define IPC_IPV4_MORE            0x2000u
#define IPC_IPV4_OFFSET          IPC_FRAGMENT_OFFSET
#define IPC_IP_MAX_PAYLOAD       65535u /* IPv4: header and all; IPv6: behind the header */
#define IPC_IPV6_MIN_MTU         1280u  /* RFC 8200 5 */
#define IPC_IPV6_FRAGMENT_HEADER 8u
#define IPC_IPV6_MORE            1u
#define IPC_IPV6_OFFSET          0xfff8u /* the offset field as it lies, which is in bytes */
/* Headers that every fragment repeats: longer ones would leave no room for payload on every link. */
#define IPC_PER_FRAGMENT_MAX (IPC_IPV6_MIN_MTU - IPC_IPV6_FRAGMENT_HEADER - 8)

/* Cuts `*length` to what the header says. 0: not a well-formed IPv6 packet, or a jumbogram (RFC 2675). */
static inline int ipc_ipv6_cut(const uint8_t *p, uint32_t *length) {
    if (*length < IPC_IPV6_HEADER || p[0] >> 4 != 6) return 0;
    uint32_t payload = ipc_load16(p + 4);
    if (payload > *length - IPC_IPV6_HEADER || (payload == 0 && p[6] == IPC_PROTO_HOP_BY_HOP)) return 0;
    *length = IPC_IPV6_HEADER + payload;
    return 1;
}

/* Where a walk over the extension headers is: before the header `next` at `at`, which the byte at `named`
 * names. */
struct ipc_ipv6_walk {
    uint32_t at, named;
    uint8_t next;
};
static inline struct ipc_ipv6_walk ipc_ipv6_walk(const uint8_t *p) {
    return (struct ipc_ipv6_walk){IPC_IPV6_HEADER, 6, p[6]};
}

/* Steps over one header of options or routing: 1; 0: the next header is of another kind; -1: it reaches over
 * the end. Hop-by-hop options are such only right behind the IPv6 header (RFC 8200 4.1). */
static inline int ipc_ipv6_step(const uint8_t *p, uint32_t length, struct ipc_ipv6_walk *w) {
    int known = w->next == IPC_PROTO_ROUTING || w->next == IPC_PROTO_DESTINATION ||
                (w->next == IPC_PROTO_HOP_BY_HOP && w->named == 6);
    if (!known) return 0;
    if (length - w->at < 8) return -1;
    uint32_t size = (p[w->at + 1] + 1u) * 8;
    if (size > length - w->at) return -1;
    *w = (struct ipc_ipv6_walk){w->at + size, w->at, p[w->at]};
    return 1;
}

#endif
