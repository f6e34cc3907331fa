/*
 * A network adapter that takes work off the host (NDIS 5 task offload version 1, IPv4 only; KB 257225: "IP
 * offloading"): checksums, segmentation of large sends, AH and ESP. An emulation: what the adapter computes
 * is computed by a crypto back end of its own.
 *
 * IPsec. An SA that is added while a NIC is attached is offered to it; refused, it stays in software. The
 * host always does framing, padding, SPI, sequence number and replay window; the NIC computes the ICV and
 * encrypts, or verifies and decrypts and tells how it went, and the host decides. In software stay: packets
 * with IP options unless V4_OPTIONS, fragments and what was put together of them, packets over the NIC's or
 * the path MTU, broadcast and multicast, two SAs around one packet unless the combined bits allow them, more
 * than two. Without a fault an offloaded SA gives the same packets and moves the same counters of the driver.
 *
 * Faults, and what they move in the IP Security Monitor. "IP offloading causes the IPsec driver to drop the
 * packet" is read there as Confidential Bytes Received of one side that stands still while Confidential Bytes
 * Sent of the other grows. Sent and Received here are these bytes. They and Not Decrypted move only for SAs
 * with a cipher, Not Authenticated only for SAs with an ICV.
 *
 *   fault                                 this computer              the peer
 *   WRONG_ICV
 *     damages the ICV that it sends       Sent grows as always       Received stands still,
 *     (SA without ICV: no fault)                                     Not Authenticated +1, Not Decrypted +1
 *   FAILED_STATUS
 *     says that a received packet failed  Received stands still,
 *     (status 0 to 5)                     Not Authenticated +1, Not Decrypted +1
 *     (status 6 and 7)                    Received stands still, nothing else: MALFORMED (event 4286)
 *   GARBAGE
 *     claims success for an ESP packet,   Received stands still,
 *     whose text comes back inverted      Not Decrypted +1, Not Authenticated stands still
 *     claims success for an AH packet,    as if all were well; a forged packet is accepted
 *     of which nothing was verified
 *   LOST_SA
 *     has forgotten the SA of a packet:   Sent grows as always       as with WRONG_ICV;
 *     sends clear text and a zero ICV                                without ICV Not Decrypted +1 alone
 *     leaves a received one untouched     as if all were well: the host does it in software
 *   DELETE_REQUEST
 *     does its work on a received packet  as if all were well; after the burst the SA and its
 *     and asks to be rid of the SA        outbound partner are off the NIC, and go on in software
 *
 * What the NIC or the host finds wrong has the verdict NOT_AUTHENTICATED, without an ICV and after garbage
 * NOT_DECRYPTED.
 */
#ifndef IPSEC_CORE_NIC_H
#define IPSEC_CORE_NIC_H

#include "ipsec_core/driver.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ipc_nic ipc_nic;

/*
 * X(name, text): the bits of NDIS_TASK_TCP_IP_CHECKSUM, NDIS_TASK_TCP_LARGE_SEND and NDIS_TASK_IPSEC. The
 * hashes of AH are those of an ESP ICV, too.
 */
#define IPC_NIC_CAPABILITY_LIST(X)                                                                           \
    X(SEND_IPV4_CHECKSUM, "IPv4 transmit checksum")                                                          \
    X(SEND_TCP_CHECKSUM, "TCP transmit checksum")                                                            \
    X(SEND_UDP_CHECKSUM, "UDP transmit checksum")                                                            \
    X(SEND_IP_OPTIONS, "transmit checksums with IP options")                                                 \
    X(RECEIVE_IPV4_CHECKSUM, "IPv4 receive checksum")                                                        \
    X(RECEIVE_TCP_CHECKSUM, "TCP receive checksum")                                                          \
    X(RECEIVE_UDP_CHECKSUM, "UDP receive checksum")                                                          \
    X(RECEIVE_IP_OPTIONS, "receive checksums with IP options")                                               \
    X(LARGE_SEND, "TCP large send")                                                                          \
    X(AH_ESP_COMBINED, "IPsec AH and ESP combined")                                                          \
    X(TRANSPORT_TUNNEL_COMBINED, "IPsec transport and tunnel combined")                                      \
    X(V4_OPTIONS, "IPsec with IP options")                                                                   \
    X(AH_MD5, "IPsec AH MD5")                                                                                \
    X(AH_SHA_1, "IPsec AH SHA 1")                                                                            \
    X(AH_TRANSPORT, "IPsec AH transport")                                                                    \
    X(AH_TUNNEL, "IPsec AH tunnel")                                                                          \
    X(AH_SEND, "IPsec AH send")                                                                              \
    X(AH_RECEIVE, "IPsec AH receive")                                                                        \
    X(ESP_DES, "IPsec ESP DES")                                                                              \
    X(ESP_TRIPLE_DES, "IPsec ESP triple DES")                                                                \
    X(ESP_NULL, "IPsec ESP NULL")                                                                            \
    X(ESP_TRANSPORT, "IPsec ESP transport")                                                                  \
    X(ESP_TUNNEL, "IPsec ESP tunnel")                                                                        \
    X(ESP_SEND, "IPsec ESP send")                                                                            \
    X(ESP_RECEIVE, "IPsec ESP receive")

enum ipc_nic_capability {
#define X(name, text) IPC_NIC_##name,
    IPC_NIC_CAPABILITY_LIST(X)
#undef X
        IPC_NIC_CAPABILITY_COUNT
};
#define IPC_NIC_CAN(name) (UINT32_C(1) << IPC_NIC_##name)
#define IPC_NIC_CAN_ALL   ((UINT32_C(1) << IPC_NIC_CAPABILITY_COUNT) - 1)

/* X(name, text) */
#define IPC_NIC_FAULT_LIST(X)                                                                                \
    X(NONE, "none")                                                                                          \
    X(WRONG_ICV, "wrong ICV on send")                                                                        \
    X(FAILED_STATUS, "failed status on receive")                                                             \
    X(GARBAGE, "success claimed with garbage")                                                               \
    X(LOST_SA, "lost SA")                                                                                    \
    X(DELETE_REQUEST, "delete request on receive")

enum ipc_nic_fault {
#define X(name, text) IPC_NIC_FAULT_##name,
    IPC_NIC_FAULT_LIST(X)
#undef X
        IPC_NIC_FAULT_COUNT
};

/* Of a received packet that the NIC has worked on. X(name, text) */
#define IPC_NIC_STATUS_LIST(X)                                                                               \
    X(SUCCESS, "success")                                                                                    \
    X(GENERIC, "generic error")                                                                              \
    X(TRANSPORT_AH, "transport AH failed")                                                                   \
    X(TRANSPORT_ESP, "transport ESP failed")                                                                 \
    X(TUNNEL_AH, "tunnel AH failed")                                                                         \
    X(TUNNEL_ESP, "tunnel ESP failed")                                                                       \
    X(INVALID_SYNTAX, "invalid packet syntax")                                                               \
    X(INVALID_PROTOCOL, "invalid protocol")

enum ipc_nic_status {
#define X(name, text) IPC_NIC_STATUS_##name,
    IPC_NIC_STATUS_LIST(X)
#undef X
        IPC_NIC_STATUS_COUNT
};

/* X(name, text) */
#define IPC_NIC_STATISTIC_LIST(X)                                                                            \
    X(sas, "SAs that the NIC holds")                                                                         \
    X(sa_offers, "SAs offered")                                                                              \
    X(sa_refusals, "SAs refused: capability off or beyond what NDIS 5 knows")                                \
    X(sa_no_room, "SAs refused: no room")                                                                    \
    X(sa_deletions, "SAs deleted from the NIC")                                                              \
    X(ipsec_sent, "packets handed to the NIC for protection, once per SA")                                   \
    X(ipsec_received, "packets verified and decrypted by the NIC, once per SA")                              \
    X(ipsec_failed, "received packets with a status other than success")                                     \
    X(software_sent, "packets of offloaded SAs that the host protected")                                     \
    X(software_received, "packets of offloaded SAs that the host took off")                                  \
    X(faults, "faults made")                                                                                 \
    X(packets_sent, "packets transmitted")                                                                   \
    X(packets_too_long, "packets not transmitted: longer than the MTU")                                      \
    X(checksums_sent, "checksums computed by the NIC")                                                       \
    X(checksums_by_host, "checksums asked for that the host computed")                                       \
    X(checksums_good, "received checksums found right")                                                      \
    X(checksums_bad, "received checksums found wrong")                                                       \
    X(large_sends, "large sends cut by the NIC")                                                             \
    X(large_sends_by_host, "large sends cut by the host")                                                    \
    X(large_sends_refused, "large sends of packets that must not be cut: IPsec, not TCP, fragment, SYN, "    \
                           "RST, URG")                                                                       \
    X(segments, "segments that large sends were cut into")

struct ipc_nic_statistics {
#define X(name, text) uint64_t name;
    IPC_NIC_STATISTIC_LIST(X)
#undef X
};

struct ipc_nic_config {
    uint32_t capabilities;            /* IPC_NIC_CAN(...) bits */
    uint32_t sa_capacity;             /* SAs that it holds; a pair is two */
    uint32_t mtu;                     /* 68..65535 */
    uint32_t large_send_max;          /* bytes of TCP data in one large send */
    uint32_t large_send_min_segments; /* fewer are not worth it */
};

int ipc_nic_create(const struct ipc_nic_config *config, ipc_nic **out);
/* A NIC that is attached lives on until its driver lets go of it. */
void ipc_nic_destroy(ipc_nic *nic);
void ipc_nic_config(const ipc_nic *nic, struct ipc_nic_config *config);
/* What it does now: nothing with EnableOffload = 0. IPC_NIC_CAN(...) bits. */
uint32_t ipc_nic_capabilities(const ipc_nic *nic);
int ipc_nic_attached(const ipc_nic *nic);
void ipc_nic_statistics(const ipc_nic *nic, struct ipc_nic_statistics *statistics);
/* From now on every `every`-th packet of a direction (1: all) has the fault. `status` of FAILED_STATUS: 1..7,
 * or 0 for the one that fits the SA. IPC_E(INVALID): out of range. */
int ipc_nic_set_fault(ipc_nic *nic, unsigned fault, uint32_t every, unsigned status);

/* A driver and a NIC belong to the same thread, and each to one other. SAs that exist already stay in
 * software: the driver does not keep keys. `enable_offload` 0: the registry's EnableOffload = 0.
 * IPC_E(INVALID): one of them is attached already. */
int ipc_driver_attach_nic(ipc_driver *d, ipc_nic *nic, int enable_offload);
/* The SAs on it go on in software. */
void ipc_driver_detach_nic(ipc_driver *d);
int ipc_driver_has_nic(const ipc_driver *d);
/* 0: nothing is offloaded any more, 1: SAs added from now on may be. IPC_E(NOT_FOUND): no NIC. */
int ipc_driver_enable_offload(ipc_driver *d, int enable_offload);

/* What the host asks to be done to a packet on its way out. X(name) */
#define IPC_NIC_TASK_LIST(X)                                                                                 \
    X(IPV4_CHECKSUM)                                                                                         \
    X(TCP_CHECKSUM)                                                                                          \
    X(UDP_CHECKSUM)                                                                                          \
    X(LARGE_SEND)

/* How the checksums of a packet were on its way in; neither of a pair: not checked. X(name) */
#define IPC_NIC_CHECK_LIST(X)                                                                                \
    X(IPV4_GOOD)                                                                                             \
    X(IPV4_BAD)                                                                                              \
    X(TCP_GOOD)                                                                                              \
    X(TCP_BAD)                                                                                               \
    X(UDP_GOOD)                                                                                              \
    X(UDP_BAD)

enum {
#define X(name) IPC_NIC_TASK_##name##_BIT_,
    IPC_NIC_TASK_LIST(X)
#undef X
        IPC_NIC_TASK_COUNT
};
enum {
#define X(name) IPC_NIC_CHECK_##name##_BIT_,
    IPC_NIC_CHECK_LIST(X)
#undef X
        IPC_NIC_CHECK_COUNT
};
#define IPC_NIC_TASK(name)  (1u << IPC_NIC_TASK_##name##_BIT_)
#define IPC_NIC_CHECK(name) (1u << IPC_NIC_CHECK_##name##_BIT_)

struct ipc_nic_task {
    uint16_t tasks; /* IPC_NIC_TASK(...) bits */
    uint16_t mss;   /* LARGE_SEND: bytes of TCP data in a segment, 0: what the MTU leaves */
};

/* Where transmission goes on: a packet, and bytes of its TCP data that were sent. */
struct ipc_nic_cursor {
    uint32_t packet, offset;
};

/*
 * Copies packets of `in` that pass or were not processed behind those in `out`, and does their tasks on the
 * way; what the NIC cannot do the host does, so that the packets are the same with any NIC. `tasks` has one
 * entry a packet, NULL: none. Begins at `*at`, stops when `out` is full or all are done (at->packet ==
 * in->count). A large send is cut into TCP segments: sequence numbers and identifications go up, FIN and PSH
 * are in the last one, CWR in the first (RFC 3168 6.1.2), IPv4 and TCP checksums are computed. Never cut are
 * IPsec packets, fragments, and segments with SYN, RST or URG. A packet that is longer than the MTU in the
 * end gets the status EXCEEDS_MTU in `in` and is not sent. Returns the number of packets added.
 * IPC_E(INVALID): out->max_packet is less than the MTU, or `in` is `out`.
 */
int ipc_nic_transmit(ipc_nic *nic, struct ipc_burst *in, const struct ipc_nic_task *tasks,
                     struct ipc_nic_cursor *at, struct ipc_burst *out);
/* Writes IPC_NIC_CHECK(...) bits for each packet of the burst. Transport checksums are checked of whole IPv4
 * packets with a good header; a UDP checksum of 0 is none (RFC 768). */
void ipc_nic_receive(ipc_nic *nic, const struct ipc_burst *b, uint8_t *checks);

/* Names and texts of the lists above by number; NULL past the end. */
const char *ipc_nic_capability_name(unsigned index);
const char *ipc_nic_capability_text(unsigned index);
const char *ipc_nic_fault_name(unsigned index);
const char *ipc_nic_fault_text(unsigned index);
const char *ipc_nic_status_text(unsigned index);
const char *ipc_nic_statistic_name(unsigned index);
const char *ipc_nic_statistic_text(unsigned index);
const char *ipc_nic_task_name(unsigned index);
const char *ipc_nic_check_name(unsigned index);

#ifdef __cplusplus
}
#endif
#endif
