/* The ICMP messages of path MTU discovery (RFC 792, RFC 1191; RFC 4443 3.2, RFC 8201; RFC 2401 6.1). */
#ifndef IPSEC_CORE_ICMP_H
#define IPSEC_CORE_ICMP_H

#include "ipsec_core/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IPC_ICMP_MAX 1280u /* bytes of the longest message made here */

/*
 * Makes the IP packet that tells the source of `packet` (from its IP header on) that it is longer than the
 * `mtu` bytes that can be taken: "fragmentation needed" (type 3, code 4, with the MTU of RFC 1191 4) with the
 * IPv4 header and 8 bytes, or ICMPv6 "packet too big" with as much of the packet as fits 1280 bytes. An mtu
 * under 68 (IPv4) or 1280 (IPv6, RFC 2473 7.1) is told as that. `from` is the address that answers.
 *
 * Returns the length of the message in `out` (of `room` bytes, IPC_ICMP_MAX are enough), or 0: this packet
 * must not be answered (RFC 1122 3.2.2, RFC 4443 2.4 e): a fragment other than the first, an ICMP error or
 * redirect, a source that is not one host (broadcasts of a subnet are not known here), an IPv4 packet to a
 * group. IPC_E(FORMAT): the packet is malformed; IPC_E(INVALID): it is no longer than the mtu, or `from` is
 * of the other family; IPC_E(FULL): no room.
 */
int ipc_icmp_too_big(const uint8_t *packet, uint32_t length, uint32_t mtu, ipc_address from, uint8_t *out,
                     uint32_t room);

/* What a router tells about an ESP, AH or UDP-encapsulated ESP packet of ours. */
struct ipc_path_mtu {
    ipc_address source, destination;        /* of our packet */
    ipc_address router;                     /* who says so */
    uint32_t spi;                           /* host byte order; 0: the message does not reach so far */
    uint32_t mtu;                           /* 68 or 1280 .. ; may be larger than what is known already */
    uint16_t source_port, destination_port; /* of UDP, else 0 */
    uint8_t protocol;                       /* 50, 51 or 17 */
};

/*
 * Reads a message of the kinds of `ipc_icmp_too_big` that came to us. `mtu` is not under 68 (IPv4) or 1280
 * (IPv6); where an old router says 0 it is the next plateau under the length of the packet (RFC 1191 7.1).
 * Returns 0, or with `found` undefined IPC_E(NOT_FOUND) when it is something else or about a packet that is
 * not IPsec (UDP: no port is 4500, or IKE by the non-ESP marker of RFC 3948 2.2), IPC_E(FORMAT) when it is
 * malformed, a fragment, its checksum is wrong, or it did not come to the source of the packet that it is
 * about. The checksum of the IPv4 header is the caller's business.
 *
 * Anybody can send such a message: lower a path MTU by it only when the SA exists and `mtu` is under the
 * length of what was sent (RFC 2401 6.1.2, RFC 5927 7).
 */
int ipc_icmp_path_mtu(const uint8_t *packet, uint32_t length, struct ipc_path_mtu *found);

#ifdef __cplusplus
}
#endif
#endif
