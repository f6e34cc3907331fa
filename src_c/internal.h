/* The driver's own structures. Private. */
#ifndef IPC_INTERNAL_H
#define IPC_INTERNAL_H

#include "ipsec_core/crypto.h"
#include "ipsec_core/driver.h"
#include "packet.h"
#include "replay.h"
#include "spi_table.h"

#define IPC_LIKELY(x)   __builtin_expect(!!(x), 1)
#define IPC_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define IPC_NONE        UINT32_MAX

/*
 * What packets touch of an SA: two lines that the loops only read, one that they write. The control record
 * (struct ipc_sa_ctl) stays cold.
 */
struct ipc_sa_hot {
    /* read */
    const struct ipc_crypto_backend *backend;
    const void *key;
    void *engine;
    uint64_t soft_bytes, hard_bytes; /* UINT64_MAX: none */
    uint32_t spi;
    uint8_t mode, encryption, integrity;
    uint8_t iv_length, pad_mask, icv_length;
    uint8_t confidential, authenticated;
    /* selectors, masks and values; ports and protocol 0: any */
    uint32_t source, source_mask, destination, destination_mask;
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint8_t direction;
    uint8_t dead;     /* the hard lifetime is over */
    uint8_t rekeying; /* the soft limit was reported */
    uint32_t tunnel_source, tunnel_destination;
    uint32_t generation;
    uint8_t reserved[28];
    /* written */
    _Alignas(64) uint64_t bytes;
    uint64_t packets;
    union {
        struct {
            uint64_t sequence; /* last number used */
            uint64_t iv_state;
        } out;
        struct {
            struct ipc_window window;
            uint64_t dropped;
        } in;
    };
};
_Static_assert(sizeof(struct ipc_sa_hot) == 192, "two lines read, one written");
_Static_assert(offsetof(struct ipc_sa_hot, bytes) == 128, "the written line begins after two read ones");

struct ipc_sa_ctl {
    struct ipc_sa_config config;
    void *key;
    uint64_t serial;     /* order of creation */
    uint32_t next;       /* next older outbound SA of the same filter; next free record */
    uint32_t generation; /* of the index; even: free, odd: in use */
    uint64_t small_window[2];
};

#define IPC_CHUNK 256u /* SAs allocated together */

struct ipc_filter_state {
    struct ipc_filter filter;
    uint64_t packets;
    uint32_t newest; /* outbound SAs, chained by ctl.next */
};

struct ipc_cache_entry {
    struct ipc_flow_key key;
    uint32_t generation; /* 0: empty */
    uint32_t filter;
    uint32_t sa;
    uint32_t zero;
};
_Static_assert(sizeof(struct ipc_cache_entry) == 32, "two entries a cache line");

#define IPC_PENDING_MAX 256u /* acquires at once */

struct ipc_pending {
    uint32_t reference;           /* filter; meaningless when packets == 0 and not waiting */
    uint32_t source, destination; /* 0 for a tunnel: one negotiation serves all flows of the filter */
    uint32_t packets;
    uint8_t used;
    uint8_t ready; /* its SA has come: packets may be released */
};

struct ipc_held {
    uint32_t size; /* of this record with its packet, a multiple of 8 */
    uint32_t length;
    uint32_t pending;
    uint32_t zero;
};

#define IPC_UPCALLS 1024u

struct ipc_driver {
    /* filters and header cache */
    struct ipc_filter_state *filters;
    uint32_t filter_count;
    uint32_t generation;
    struct ipc_cache_entry *cache; /* outbound half, then inbound half */
    uint32_t cache_slots;          /* of a half */
    uint8_t cache_off;
    uint16_t packet_id; /* of outer headers */
    uint64_t seed[2];
    uint64_t random;
    /* SAs */
    struct ipc_sa_hot **hot;
    struct ipc_sa_ctl **ctl;
    uint32_t sa_limit; /* records that exist */
    uint32_t sa_free;  /* list of free ones */
    uint64_t sa_serial;
    uint32_t spi_next;
    struct ipc_spi_table spi, spi_overflow;
    uint32_t *spi_found; /* of a burst */
    /* crypto */
    const char *backend;
    void *engine[4];
    struct ipc_crypto_op ops[IPC_BURST_MAX];
    uint16_t op_packet[IPC_BURST_MAX];
    /* held packets */
    struct ipc_pending pending[IPC_PENDING_MAX];
    uint8_t *held;
    uint32_t held_used, hold_bytes, hold_packets;
    /* upcalls */
    struct ipc_upcall upcall[IPC_UPCALLS];
    uint32_t upcall_head, upcall_tail;
    struct ipc_counters counters;
};

static inline struct ipc_sa_hot *ipc_hot(const ipc_driver *d, uint32_t index) {
    return &d->hot[index / IPC_CHUNK][index % IPC_CHUNK];
}
static inline struct ipc_sa_ctl *ipc_ctl(const ipc_driver *d, uint32_t index) {
    return &d->ctl[index / IPC_CHUNK][index % IPC_CHUNK];
}
static inline ipc_sa ipc_handle(uint32_t index, uint32_t generation) {
    return (uint64_t)generation << 32 | index;
}

/* splitmix64: seeds, hashes of the tables and the values under CBC IVs */
static inline uint64_t ipc_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
static inline uint64_t ipc_random(uint64_t *state) {
    return ipc_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

/* KB 253169: what Windows 2000 never matches against filters. */
static inline int ipc_flow_exempt(const struct ipc_flow *flow) {
    /* Multicast 224/4 and limited broadcast; what lies between is no unicast either. */
    if (flow->destination >= 0xe0000000u) return 1;
    if (flow->protocol != IPC_PROTO_UDP && flow->protocol != IPC_PROTO_TCP)
        return flow->protocol == IPC_PROTO_RSVP;
    return flow->source_port == IPC_PORT_KERBEROS || flow->destination_port == IPC_PORT_KERBEROS ||
           (flow->protocol == IPC_PROTO_UDP && flow->destination_port == IPC_PORT_IKE);
}

_Static_assert(IPC_STATUS_COUNT <= 31, "verdicts fit one word");
/* ipc_status_verdict(status) == IPC_VERDICT_PASS, without a call. */
static inline unsigned ipc_passes(enum ipc_status status) {
    enum {
        MASK = 0
#define X(name, verdict, text) | (IPC_VERDICT_##verdict == IPC_VERDICT_PASS ? 1 << IPC_##name : 0)
        IPC_STATUS_LIST(X)
#undef X
    };
    return (unsigned)MASK >> status & 1;
}

/* header_cache + filter.c: the decision for a flow. Fills *filter and *sa (IPC_NONE when there is none). */
void ipc_decide(ipc_driver *d, enum ipc_direction direction, const struct ipc_flow *flow, uint32_t *filter,
                uint32_t *sa);
int ipc_sa_covers(const struct ipc_sa_hot *sa, const struct ipc_flow *flow);
/* Every change of a filter or an SA makes all cached decisions stale. */
void ipc_cache_invalidate(ipc_driver *d);
int ipc_cache_create(ipc_driver *d, uint32_t slots);

/* sa.c */
void ipc_sa_link_all(ipc_driver *d);
void ipc_sa_destroy_all(ipc_driver *d);

/* hold.c */
enum ipc_status ipc_hold(ipc_driver *d, uint32_t filter, const struct ipc_flow *flow, const uint8_t *packet,
                         uint32_t length, ipc_time now);
void ipc_hold_ready(ipc_driver *d, const struct ipc_sa_config *config);

/* upcall.c (in hold.c): 1 when queued */
int ipc_upcall_post(ipc_driver *d, const struct ipc_upcall *upcall);
void ipc_upcall_sa(ipc_driver *d, enum ipc_upcall_kind kind, uint32_t sa, ipc_time now);

/* crypt.c: runs d->ops[0..count) in groups of one suite */
void ipc_crypt(ipc_driver *d, const struct ipc_burst *burst, unsigned count, enum ipc_direction direction);

#endif
