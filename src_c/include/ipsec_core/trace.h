/* Recorded traffic: reads pcap and pcapng through libpcap, maps capture hosts onto computers, keeps all in
 * one memory block. */
#ifndef IPSEC_CORE_TRACE_H
#define IPSEC_CORE_TRACE_H

#include "ipsec_core/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IPC_TRACE_ERROR_SIZE 256
#define IPC_TRACE_MAX_L2     22 /* Ethernet header with two tags */

/* One frame to send. The bytes of l2 + l3 lie one after the other in the trace's memory at `offset`. */
struct ipc_trace_frame {
    uint64_t time;      /* ns since the first frame of the capture; never decreasing */
    uint64_t offset;    /* of the Ethernet header (made up when the capture has none) */
    uint32_t l3_length; /* bytes after the Ethernet header: what the IPsec driver sees (an IPv4 packet: its
                           total length) */
    uint16_t ethertype; /* of the layer-3 packet, after the tags */
    uint8_t l2_length;  /* 14, 18 or 22 */
    uint8_t from, to;   /* indices of computers; `to` == from: nobody in particular (broadcast, multicast) */
    uint32_t number;    /* 1-based number of the frame in the capture (the last fragment's for a reassembled
                           datagram) */
};

struct ipc_trace_stats {
    uint64_t frames;      /* in the capture */
    uint64_t mapped;      /* frames in the list to send */
    uint64_t unmapped;    /* left out: between other hosts, or between hosts of one computer */
    uint64_t reassembled; /* fragments joined into datagrams */
    uint64_t padded; /* of all that can be sent: cut by the capture's snapshot length; filled with zero bytes
                        to their length on the wire */
    uint64_t unsendable; /* left out: IPv4 total length 0 or beyond the frame (segmentation offload of the
                            capturing host), or malformed, or over 65535 bytes */
    uint64_t bytes;      /* sum of l2 + l3 lengths of the list */
    uint64_t duration;   /* ns from first to last frame of the list */
    uint32_t max_l3;     /* longest l3_length in the list */
};

/* A pair of IPv4 hosts (a < b) and what went between them. */
struct ipc_conversation {
    ipc_ipv4 a, b;
    uint64_t packets, bytes;
};

/* A pair of stations by MAC address (a < b) and what went between them, IPv4 or not. */
struct ipc_station_pair {
    uint8_t a[6], b[6];
    uint64_t frames, bytes;
};

/* Capture addresses inside network/mask belong to `computer`; with `rewrite` their packets get `address`
 * instead. First match wins. */
struct ipc_host_map {
    ipc_ipv4 network, mask;
    ipc_ipv4 address;
    uint8_t computer;
    uint8_t rewrite;
};

typedef struct ipc_trace ipc_trace;

/*
 * Reads the whole capture: Ethernet, raw IP, IPv4, IPv6, Linux cooked (SLL, SLL2), BSD loopback (NULL, LOOP).
 * Frames without an Ethernet header get one with MAC addresses 02:00 + IPv4 address. Up to two VLAN tags stay
 * in l2. On failure returns IPC_E(IO), IPC_E(FORMAT), or IPC_E(NO_MEMORY) and one line in `error` (without
 * the path) that says what is wrong (not a capture, cut short in packet n, link type X not supported;
 * accepted: ...). A capture without packets loads with no frames.
 */
int ipc_trace_load(const char *path, ipc_trace **out, char error[IPC_TRACE_ERROR_SIZE]);
void ipc_trace_destroy(ipc_trace *t);

/* Pairs of IPv4 unicast hosts of the capture as it was read (mapping changes nothing here), most packets
 * first (ties: lower addresses first); bytes are those of the IPv4 packets. Frames to link-layer groups are
 * not counted. Writes up to `max`, returns how many there are. */
size_t ipc_trace_conversations(const ipc_trace *t, struct ipc_conversation *out, size_t max);

/* Pairs of unicast MAC addresses, most frames first (ties: lower addresses first). Writes up to `max`,
 * returns how many there are, or a negative error. Captures without Ethernet headers have made-up addresses,
 * one per IP address. */
int64_t ipc_trace_stations(const ipc_trace *t, struct ipc_station_pair *out, size_t max);
/* Frames that are not IPv4 and come from this MAC address belong to `computer`, whatever mapped IPv4 frames
 * teach. Before ipc_trace_map. */
int ipc_trace_assign(ipc_trace *t, const uint8_t mac[6], uint8_t computer);

/*
 * Builds the list of frames to send, in capture order. IPv4 frames whose source maps onto one computer and
 * destination onto another travel; so do IPv4 broadcast/multicast frames (by IP address or MAC address; the
 * destination address stays) from a mapped source. Frames that are not IPv4 follow the MAC addresses that
 * mapped IPv4 frames taught as their sources (a MAC address that served two computers, as a router's does,
 * teaches nothing). With `rewrite` source and destination addresses and all checksums that depend on them
 * (IPv4 header, TCP, UDP (0 stays 0), ICMP-embedded packets) are changed incrementally (RFC 1624), so that a
 * right checksum stays right and a wrong one wrong. With `reassemble` IPv4 fragments are joined (the datagram
 * travels at the time of its last fragment): a host's own stack fragments below IPsec. Incomplete,
 * overlapping and malformed fragments travel as they are. Once per trace: IPC_E(INVALID) the second time.
 * After IPC_E(NO_MEMORY) the trace has no frames.
 *
 * Every frame is accounted for: frames = mapped + unmapped + unsendable + (reassembled - datagrams they
 * became).
 */
int ipc_trace_map(ipc_trace *t, const struct ipc_host_map *maps, size_t count, int reassemble);

/* The list: empty before mapping. Pointers are valid until mapping or destruction. */
const struct ipc_trace_frame *ipc_trace_frames(const ipc_trace *t, size_t *count);
const uint8_t *ipc_trace_bytes(const ipc_trace *t);
void ipc_trace_stats(const ipc_trace *t, struct ipc_trace_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
