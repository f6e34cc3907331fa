/*
 * The packet loop of a live computer: a TUN device on the host's side, sockets on the network's side, the
 * driver in between. Private; ipsec_core/live/_io.pyx is its face. Linux only.
 */
#ifndef IPC_TUN_H
#define IPC_TUN_H

#include <linux/virtio_net.h>
#include <sys/uio.h>

#include "ipsec_core/driver.h"
#include "packet.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#    define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* kernel 6.2; older headers do not know it */
#endif
#define IPC_TUN_GSO_MAX 64u /* segments of one UDP_SEGMENT call: UDP_MAX_SEGMENTS of older kernels */

/* --- tun_segment.c: what the kernel leaves to the device --- */

/* The sum of RFC 1071 in network order, folded to 16 bits. */
uint16_t ipc_tun_sum(const uint8_t *p, uint32_t length);

/* A packet of the kernel that has to be cut or finished; `at` moves on as segments are taken. */
struct ipc_tun_large {
    uint8_t *packet;
    uint32_t length;
    uint32_t header, data; /* offsets of the transport header and of what is cut */
    uint32_t size;         /* bytes of each segment but the last */
    uint32_t at;           /* bytes of data that are in segments already */
    uint32_t segments;     /* taken */
    uint8_t protocol;
};

/* Prepares to cut a packet with this header; a packet that needs no cutting has one segment. 0, or
 * IPC_E(FORMAT): header and packet do not fit together, or it is a kind of GSO that was not asked for. */
int ipc_tun_large_begin(struct ipc_tun_large *large, const struct virtio_net_hdr *header, uint8_t *packet,
                        uint32_t length);
static inline int ipc_tun_large_done(const struct ipc_tun_large *large) {
    return large->packet == NULL;
}
/* Writes the next segment with its checksums to `out`, which has room for it; returns its length. */
uint32_t ipc_tun_large_next(struct ipc_tun_large *large, uint8_t *out);
/* Length of the longest segment. */
static inline uint32_t ipc_tun_large_longest(const struct ipc_tun_large *large) {
    uint32_t left = large->length - large->data;
    return large->data + (left < large->size ? left : large->size);
}

/* --- tun_coalesce.c: segments of one TCP flow become one packet again --- */

#define IPC_TUN_MERGE_MAX 128u /* segments */

struct ipc_tun_merge {
    struct virtio_net_hdr header;
    struct iovec
        parts[1 + IPC_TUN_MERGE_MAX]; /* the header above, the first packet, the data of the others */
    uint32_t count;                   /* of parts; 0: nothing is here */
    uint32_t length;                  /* of the packet */
    uint32_t data, size;              /* offset and length of the first packet's data */
    uint32_t sequence;                /* that comes next */
    uint8_t closed;                   /* a short or pushed segment ends it */
};

/* Takes a packet that passed the driver: 1, or 0 when it does not go with what is here, which has to be
 * finished and written first. The packet must stay where it is until then. A segment with a wrong checksum is
 * not joined to anything: its receiver shall see it as it is. */
int ipc_tun_merge_add(struct ipc_tun_merge *merge, uint8_t *packet, uint32_t length);
/* Finishes the headers: parts[0..count) are to be written to the TUN device as one packet. */
void ipc_tun_merge_finish(struct ipc_tun_merge *merge);

/* --- tun_io.c --- */

typedef struct ipc_tun ipc_tun;

/* Non-blocking descriptors, which stay the caller's. */
struct ipc_tun_config {
    int tun;     /* IFF_TUN, IFF_NO_PI, IFF_VNET_HDR */
    int udp;     /* bound to port 4500 of `local`, UDP_GRO */
    int esp, ah; /* raw sockets of protocols 50 and 51 */
    int raw;     /* raw socket with IP_HDRINCL, to send */
    int control; /* when it is readable, ipc_tun_run returns */
    ipc_time (*clock)(const void *context);
    const void *context;
    ipc_driver *driver;
    ipc_ipv4 local;
    uint32_t mtu; /* of the link: longer packets are fragmented */
    int no_gso;   /* 1: a system call a packet, for links without checksum offload */
};

#define IPC_TUN_STATISTICS(X)                                                                                \
    X(reads, "packets from the host, as the kernel hands them over")                                         \
    X(writes, "packets to the host, coalesced")                                                              \
    X(sends, "system calls' messages to the network")                                                        \
    X(receives, "messages from the network, as the kernel hands them over")                                  \
    X(clear, "packets that came in clear")                                                                   \
    X(send_errors, "packets that the network refused")                                                       \
    X(write_errors, "packets that the host refused")                                                         \
    X(malformed, "packets of the host that could not be cut")                                                \
    X(blocked, "times that the network's queue was full and the host had to wait")                           \
    X(lost_up, "IKE datagrams for which there was no room")                                                  \
    X(too_big, "answers to the host that a packet is too long")

struct ipc_tun_statistics {
#define X(name, text) uint64_t name;
    IPC_TUN_STATISTICS(X)
#undef X
};

int ipc_tun_create(const struct ipc_tun_config *config, ipc_tun **out);
void ipc_tun_destroy(ipc_tun *t);
enum {
    IPC_TUN_CONTROL = 1, /* the control descriptor is readable */
    IPC_TUN_UP = 2,      /* IKE datagrams wait (ipc_tun_up), or upcalls of the driver */
    IPC_TUN_GONE = 4     /* the TUN device is no more */
};
/* Moves packets both ways, and waits for more, until there is something for the control level or `timeout` ms
 * are over (-1: for ever); returns flags. With `release`, packets that waited for an SA that has come go
 * first. */
unsigned ipc_tun_run(ipc_tun *t, int timeout, int release);
/* The next IPv4/UDP packet with an IKE datagram that came to port 4500, valid until the next call here; its
 * length, 0: there is none. */
uint32_t ipc_tun_up(ipc_tun *t, const uint8_t **packet);
void ipc_tun_statistics(const ipc_tun *t, struct ipc_tun_statistics *statistics);
/* Name of the i-th member; NULL past the end. */
const char *ipc_tun_statistic_name(unsigned index);

#endif
