/*
 * Virtual time: computers with a driver and a NIC each, full-duplex Ethernet links between them, recorded
 * traffic, and one queue of control events. Between two control events the world is pure data plane and runs
 * in bursts without its caller.
 *
 * Nothing that a packet causes at the control level (an acquire, an arrived IKE datagram) takes effect sooner
 * than `reaction` after it. That is the lookahead: within it packets cannot influence what the drivers know,
 * so how they are grouped into bursts does not change any result.
 */
#ifndef IPSEC_CORE_WORLD_H
#define IPSEC_CORE_WORLD_H

#include "ipsec_core/driver.h"
#include "ipsec_core/pcapng.h"
#include "ipsec_core/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ipc_world ipc_world;

struct ipc_world_config {
    ipc_time reaction;   /* > 0, ns: what ISAKMP/Oakley and the Policy Agent need for an answer */
    uint32_t burst;      /* packets in a burst at most, 1..256, 0: 64 */
    uint32_t max_packet; /* longest IPv4 packet before protection, 0: 2048 */
};

struct ipc_node_config {
    ipc_driver *driver; /* stays the caller's */
    ipc_ipv4 address;
    uint8_t mac[6];
};

struct ipc_link_config {
    uint64_t rate;  /* bits per second, > 0 */
    ipc_time delay; /* propagation, ns */
    uint32_t mtu;   /* bytes of layer 3, 68..65535 */
    uint32_t queue; /* bytes that may wait in a NIC before its computer's traffic source pauses, 0: 256 KiB */
};

/* Ethernet on the wire (IEEE 802.3): preamble and SFD, frame of at least 64 bytes with FCS, gap of 96 bit
 * times. */
#define IPC_ETH_PREAMBLE 8u
#define IPC_ETH_MINIMUM  60u /* without FCS */
#define IPC_ETH_FCS      4u
#define IPC_ETH_GAP      12u

int ipc_world_create(const struct ipc_world_config *config, ipc_world **out);
void ipc_world_destroy(ipc_world *w);
/* Indices count from 0. A node has one link. */
int ipc_world_add_node(ipc_world *w, const struct ipc_node_config *config);
int ipc_world_add_link(ipc_world *w, uint32_t a, uint32_t b, const struct ipc_link_config *config);
/* Frames of the trace leave their computers at their times, `repeat` times over, `pause` ns apart; where the
 * recorded hosts were faster than the link, all that the capture shows later is as late as the frame that had
 * to wait. `asap`: as fast as the link takes them, each computer for itself. The trace must outlive the
 * world. */
int ipc_world_set_trace(ipc_world *w, const ipc_trace *trace, uint32_t repeat, ipc_time pause, int asap);
/* Writes every frame that starts on the link to an open capture (interface number of it); NULL stops. */
int ipc_world_capture(ipc_world *w, uint32_t link, ipc_pcapng *capture, uint32_t interface);

enum ipc_event_kind { IPC_EVENT_TIMER, IPC_EVENT_UPCALL, IPC_EVENT_DATAGRAM, IPC_EVENT_STEP };

struct ipc_event {
    ipc_time time;
    uint32_t node;
    uint32_t kind;
    uint64_t token;           /* TIMER, STEP: the caller's */
    struct ipc_upcall upcall; /* UPCALL */
    const uint8_t *packet;    /* DATAGRAM: the whole IPv4 packet (UDP port 500 or 4500), valid until the next
                                 call of    ipc_world_run */
    uint32_t length;
};

enum ipc_run { IPC_RUN_EVENT, IPC_RUN_YIELD, IPC_RUN_IDLE, IPC_RUN_UNTIL };

/*
 * Runs the world. Returns IPC_RUN_EVENT with a control event that is due (its time is now the world's),
 * IPC_RUN_YIELD after about `budget` packets (call again), IPC_RUN_IDLE when no traffic, frame, waiting
 * packet, answer or step is left (timers may be), IPC_RUN_UNTIL when the time `until` is reached, or a
 * negative error.
 */
int ipc_world_run(ipc_world *w, ipc_time until, uint64_t budget, struct ipc_event *event);
ipc_time ipc_world_now(const ipc_world *w);
/* A TIMER event for a node, not before now. */
int ipc_world_timer(ipc_world *w, ipc_time time, uint32_t node, uint64_t token);
/* A STEP event: the same, but a world that waits for one is not idle. */
int ipc_world_step(ipc_world *w, ipc_time time, uint32_t node, uint64_t token);
/* The node sends an IPv4 packet now, through its driver. */
int ipc_world_send(ipc_world *w, uint32_t node, const uint8_t *packet, uint32_t length);

/* X(name): per node */
#define IPC_NODE_COUNTER_LIST(X)                                                                             \
    X(packets_sent)      /* taken from the traffic */                                                        \
    X(bytes_sent)        /* their layer-3 bytes */                                                           \
    X(packets_delivered) /* handed up, IKE apart */                                                          \
    X(bytes_delivered)                                                                                       \
    X(frames_not_ipv4) /* sent past the driver */                                                            \
    X(packets_too_big) /* did not fit the link's MTU and must not be fragmented */                           \
    X(packets_fragmented)                                                                                    \
    X(datagrams_reassembled)                                                                                 \
    X(fragments_refused) /* overlapping, malformed, timed out or pushed out */                               \
    X(ike_sent)                                                                                              \
    X(ike_received)

/* X(name): per direction of a link */
#define IPC_LINK_COUNTER_LIST(X)                                                                             \
    X(frames)                                                                                                \
    X(bytes)            /* Ethernet header to last byte before FCS, without padding */                       \
    X(wire_bytes)       /* preamble, padding, FCS and gap included */                                        \
    X(busy_ns)          /* time the wire was in use */                                                       \
    X(queue_peak_bytes) /* most that ever waited in the NIC, in wire bytes */

struct ipc_node_counters {
#define X(name) uint64_t name;
    IPC_NODE_COUNTER_LIST(X)
#undef X
};
struct ipc_link_counters {
#define X(name) uint64_t name;
    IPC_LINK_COUNTER_LIST(X)
#undef X
};

int ipc_world_node_counters(const ipc_world *w, uint32_t node, struct ipc_node_counters *out);
/* direction 0: a to b, 1: b to a */
int ipc_world_link_counters(const ipc_world *w, uint32_t link, int direction, struct ipc_link_counters *out);
/* Packets taken from the traffic so far, and in all (repeats included). */
void ipc_world_progress(const ipc_world *w, uint64_t *sent, uint64_t *total);

#ifdef __cplusplus
}
#endif
#endif
