/* The driver's own structures. Private. */
#ifndef IPC_INTERNAL_H
#define IPC_INTERNAL_H

#include "ipsec_core/crypto.h"
#include "ipsec_core/driver.h"
#include "ipsec_core/frag.h"
#include "hash.h"
#include "ip.h"
#include "matcher.h"
#include "replay.h"
#include "spi_table.h"

#define IPC_LIKELY(x)   __builtin_expect(!!(x), 1)
#define IPC_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define IPC_NONE        UINT32_MAX

/* Back end, engine and algorithms that SAs of a kind share: runs of operations are cut where this changes. */
struct ipc_suite {
    const struct ipc_crypto_backend *backend;
    void *engine;
    struct ipc_crypto_suite crypto;
};

/* Kinds of outbound SAs for which the loop is compiled on its own: ESP with cipher and ICV, and nothing else
 * that asks for a decision (no UDP, no AH, no SA around, DF as in the packet, no path MTU). */
enum ipc_shape { IPC_SHAPE_ANY, IPC_SHAPE_TUNNEL4, IPC_SHAPE_TRANSPORT };

/*
 * What packets touch of an SA: two lines that the loops only read, one that they write. The control record
 * (struct ipc_sa_ctl) stays cold.
 */
struct ipc_sa_hot {
    /* read by both loops */
    void *key;
    const struct ipc_suite *suite;
    /* The nearest limits; what is beyond them is for ipc_sa_limit() to say. */
    uint64_t byte_limit, sequence_limit;
    ipc_time time_limit;
    uint32_t spi;
    uint32_t outer; /* index of the SA around this one, or IPC_NONE */
    uint8_t service, direction;
    uint8_t offload; /* 1: it is on the NIC as well, see offload.c */
    uint8_t dead;    /* the hard lifetime is over */
    uint8_t iv_length, pad_mask, icv_length, esn;
    uint8_t confidential, authenticated;
    uint8_t cold_selectors; /* 1: they do not fit the words below, see the control record */
    uint8_t df;
    uint8_t outer_header; /* tunnel: bytes of the outer IP header, else 0 */
    uint8_t udp;          /* bytes of the UDP header of an encapsulation, else 0 */
    uint8_t front;        /* all bytes in front of what is carried: outer IP, UDP, ESP with IV or AH */
    uint8_t icv_field;    /* AH: IV, ICV and its padding */
    /* read by one of them */
    union {
        struct {
            /* Outer headers (IPv4 20 or IPv6 40 bytes), then UDP. */
            uint8_t headers[48];
            uint32_t header_sum; /* of the constant words of an IPv4 outer header */
            uint32_t path_mtu;
            uint8_t shape; /* enum ipc_shape */
            uint8_t zero[7];
        } out;
        struct {
            struct ipc_words value, mask;
            uint32_t checksum_delta; /* NAT-OA: what the NAT added to transport checksums */
            uint32_t peer;           /* where the last packet in UDP came from; IPv4 alone */
            uint16_t peer_port;      /* 0: nobody asks */
        } in;
    };
    /* written */
    _Alignas(64) uint64_t bytes;
    ipc_time last;
    union {
        struct {
            uint64_t sequence; /* last number used */
        } sent;
        struct {
            uint64_t packets;
            struct ipc_window window;
        } got;
    };
};
_Static_assert(sizeof(struct ipc_sa_hot) == 192, "two lines read, one written");
_Static_assert(offsetof(struct ipc_sa_hot, bytes) == 128, "the written line begins after two read ones");

struct ipc_nic_sa;

struct ipc_sa_ctl {
    struct ipc_sa_config config;
    struct ipc_nic_sa *offload; /* on the NIC, or NULL */
    uint64_t serial;            /* order of creation */
    uint64_t dropped, lost;
    uint32_t next;       /* next older SA of the same filter; next free record */
    uint32_t generation; /* of the index; even: free, odd: in use */
    uint8_t rekeying;    /* the soft limit was reported */
    uint8_t idle;        /* it was reported idle */
    uint8_t retired;     /* no successor is asked for */
    uint8_t owed;        /* upcalls that found the ring full: a bit each of enum ipc_upcall_kind */
};

#define IPC_CHUNK 256u /* SAs allocated together */

struct ipc_filter_state {
    struct ipc_filter filter;
    uint64_t packets;
    uint32_t newest; /* SAs that serve it, chained by ctl.next */
};

/* How a filter is found by what its SAs name it. */
struct ipc_filter_name {
    uint32_t reference, direction, index;
};

/* What the filters and SAs say to a flow. */
struct ipc_decision {
    uint32_t filter, sa; /* IPC_NONE: none */
    uint32_t status;     /* PROTECTED or SOFT with an SA; HELD: negotiate; else the verdict */
};

/*
 * An IPv4 flow is one entry. An IPv6 flow is a pair of neighbours, whose first holds source and decision and
 * whose second holds destination and (in place of the decision) the rest; their generation is odd, that of
 * IPv4 entries even, so that neither is ever taken for the other.
 */
struct ipc_cache_entry {
    struct ipc_words key;
    uint32_t generation; /* 0: empty */
    struct ipc_decision decision;
};
_Static_assert(sizeof(struct ipc_cache_entry) == 32, "two entries a cache line");

#define IPC_PENDING_MAX 256u /* acquires at once */

struct ipc_pending {
    ipc_address source, destination; /* none for a tunnel: one negotiation serves all flows of the filter */
    uint32_t reference;              /* filter */
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

#define IPC_UPCALLS    1024u
#define IPC_SUITES_MAX 256u
#define IPC_HEADER_MAX 512u /* longest chain of headers that AH protects */

/* What has to be put back after the ICV of an AH packet was computed. */
struct ipc_ah_saved {
    uint32_t length;
    uint8_t header[IPC_HEADER_MAX];
    uint8_t icv[IPC_ICV_MAX];
};

/* A packet that came off one SA and is another one's. */
struct ipc_again {
    uint16_t packet;
    uint8_t protocol;
    uint32_t sa, at; /* `at`: offset of its IPsec header */
};

struct ipc_driver {
    /* filters and header cache */
    struct ipc_filter_state *filters;
    struct ipc_filter_name *filter_names; /* by direction, then reference */
    uint32_t filter_count;
    ipc_matcher *matcher;
    uint32_t generation;
    struct ipc_cache_entry *cache; /* outbound half, then inbound half */
    uint32_t cache_slots;          /* of a half */
    uint8_t cache_off, matcher_off;
    uint8_t no_default_exempt, nat_traversal;
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
    ipc_time next_tick; /* nothing is due before */
    struct ipc_spi_table spi, spi_overflow;
    uint32_t spi_found[IPC_BURST_MAX]; /* SAs of a burst, when it pays to look all of them up at once */
    /* crypto */
    const char *backend;
    void *engine[4];
    struct ipc_suite suites[IPC_SUITES_MAX];
    uint32_t suite_count;
    struct ipc_crypto_op ops[IPC_BURST_MAX];
    const struct ipc_suite *op_suite[IPC_BURST_MAX];
    uint32_t op_sa[IPC_BURST_MAX];
    uint16_t op_packet[IPC_BURST_MAX];
    uint32_t op_at[IPC_BURST_MAX]; /* inbound: offset of the IPsec header in the packet */
    struct ipc_again again[IPC_BURST_MAX];
    struct ipc_ah_saved *ah;      /* IPC_BURST_MAX of them, made with the first AH SA */
    ipc_reassembler *reassembler; /* made with the first fragment */
    uint32_t fragments;
    /* NIC; the rest is of inbound packets and looked at only for SAs that are on it */
    struct ipc_nic *nic;
    uint32_t rebuilt; /* the last packet of the burst that was put together of fragments, or IPC_NONE */
    uint32_t around;  /* the SA that was just taken off the packet in hand, or IPC_NONE */
    /* held packets */
    struct ipc_pending pending[IPC_PENDING_MAX];
    uint8_t *held;
    uint32_t held_used, hold_bytes, hold_packets;
    /* upcalls */
    struct ipc_upcall upcall[IPC_UPCALLS];
    uint32_t upcall_head, upcall_tail;
    struct ipc_counters counters;
    struct ipc_profile *profile; /* NULL: nobody asks */
};

/* The time since `*mark` goes to a phase, and the next one begins. */
#define IPC_PHASE(d, mark, phase)                                                                            \
    do {                                                                                                     \
        if (IPC_UNLIKELY((d)->profile != NULL)) {                                                            \
            uint64_t now_ = (d)->profile->clock();                                                           \
            (d)->profile->phase += now_ - (mark);                                                            \
            (mark) = now_;                                                                                   \
        }                                                                                                    \
    } while (0)

static inline struct ipc_sa_hot *ipc_hot(const ipc_driver *d, uint32_t index) {
    return &d->hot[index / IPC_CHUNK][index % IPC_CHUNK];
}
static inline struct ipc_sa_ctl *ipc_ctl(const ipc_driver *d, uint32_t index) {
    return &d->ctl[index / IPC_CHUNK][index % IPC_CHUNK];
}
static inline ipc_sa ipc_handle(uint32_t index, uint32_t generation) {
    return (uint64_t)generation << 32 | index;
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

/* filter.c: the slow path of a decision, for a flow that the header cache does not know. Answers and
 * remembers. */
struct ipc_decision ipc_decide(ipc_driver *d, enum ipc_direction direction, const struct ipc_flow *flow);
int ipc_sa_covers(const ipc_driver *d, uint32_t sa, const struct ipc_flow *flow);
/* Every change of a filter or an SA makes all cached decisions stale. */
void ipc_cache_invalidate(ipc_driver *d);
int ipc_cache_create(ipc_driver *d, uint32_t slots);
uint32_t ipc_filter_find(const ipc_driver *d, uint32_t reference, enum ipc_direction direction);

static inline struct ipc_cache_entry *ipc_cache_entry(const ipc_driver *d, enum ipc_direction direction,
                                                      struct ipc_words key) {
    uint64_t hash = ipc_fold_product(key.addresses ^ d->seed[0], key.rest ^ d->seed[1]);
    uint64_t slot = (hash >> 32) * d->cache_slots >> 32;
    return &d->cache[slot + (direction == IPC_INBOUND ? d->cache_slots : 0)];
}

/* The decision for an IPv4 flow; what the cache knows is answered here. */
static inline struct ipc_decision ipc_decide_ipv4(ipc_driver *d, enum ipc_direction direction,
                                                  struct ipc_words words) {
    if (IPC_LIKELY(!d->cache_off)) {
        const struct ipc_cache_entry *e = ipc_cache_entry(d, direction, words);
        if (IPC_LIKELY(((e->key.addresses ^ words.addresses) | (e->key.rest ^ words.rest)) == 0 &&
                       e->generation == d->generation)) {
            d->counters.cache_hits++;
            return e->decision;
        }
    }
    struct ipc_flow flow = {ipc_address_of_ipv4((uint32_t)(words.addresses >> 32)),
                            ipc_address_of_ipv4((uint32_t)words.addresses), words.rest, 4};
    return ipc_decide(d, direction, &flow);
}

/* Adds the verdicts of a burst to the counters; returns how many pass. */
static inline uint32_t ipc_count_verdicts(const struct ipc_burst *b, uint64_t *counters) {
    uint32_t passed = 0;
    for (uint32_t i = 0; i < b->count;) {
        uint8_t status = b->status[i];
        uint32_t from = i++;
        while (i < b->count && b->status[i] == status)
            i++;
        counters[status] += i - from;
        passed += ipc_passes((enum ipc_status)status) * (i - from);
    }
    return passed;
}

/* sa_setup.c */
int ipc_sa_check(const ipc_driver *d, const struct ipc_sa_config *config);
void ipc_sa_fill(struct ipc_sa_hot *hot, const struct ipc_sa_config *config);
struct ipc_crypto_suite ipc_sa_suite(const struct ipc_sa_config *config);
static inline int ipc_path_mtu_valid(uint32_t path_mtu) {
    return path_mtu == 0 || (path_mtu >= IPC_IPV4_MIN_MTU && path_mtu <= IPC_PACKET_MAX);
}
void ipc_sa_set_path_mtu_hot(struct ipc_sa_hot *hot, uint32_t path_mtu);
void ipc_sa_set_offload(struct ipc_sa_hot *hot, int offload);

/* sa.c */
/* ipc_spi_lookup for an IPv4 destination, whose key in the table is exact. */
static inline uint32_t ipc_spi_lookup_ipv4(const ipc_driver *d, uint32_t spi, uint32_t destination,
                                           uint8_t protocol) {
    uint32_t index = ipc_spi_find(&d->spi, spi, destination, protocol);
    if (IPC_UNLIKELY(index == IPC_NO_SA && d->spi_overflow.used))
        index = ipc_spi_find(&d->spi_overflow, spi, destination, protocol);
    return index;
}
int ipc_sa_valid(const ipc_driver *d, ipc_sa handle);
void ipc_sa_link_all(ipc_driver *d);
void ipc_sa_destroy_all(ipc_driver *d);

/* lifetime.c: what becomes of a packet of `bytes` carried bytes that found a limit of its SA: PROTECTED when
 * it may go on. Posts upcalls, moves the limits on. */
enum ipc_status ipc_sa_limit(ipc_driver *d, uint32_t index, uint64_t bytes, ipc_time now);
/* Sets the limits in the hot record to the nearest ones of the configuration. */
void ipc_sa_set_limits(struct ipc_sa_hot *hot, const struct ipc_sa_ctl *ctl);

/* hold.c */
enum ipc_status ipc_hold(ipc_driver *d, uint32_t filter, const struct ipc_flow *flow, const uint8_t *packet,
                         uint32_t length, ipc_time now);
void ipc_hold_ready(ipc_driver *d, const struct ipc_sa_config *config);
int ipc_upcall_post(ipc_driver *d, const struct ipc_upcall *upcall);
int ipc_upcall_sa(ipc_driver *d, enum ipc_upcall_kind kind, uint32_t sa, ipc_time now);

/* ah.c: makes the packet ready for its ICV to be computed, mutable fields as the receiver will see them (RFC
 * 2402 3.3.3, RFC 4302 appendix A); 0 when its headers cannot be understood. ipc_ah_restore undoes it. */
int ipc_ah_hide(uint8_t *packet, uint32_t header, struct ipc_ah_saved *saved);
void ipc_ah_restore(uint8_t *packet, const struct ipc_ah_saved *saved);

/* A clear packet of a soft SA is counted and looked after: SOFT, or EXPIRED. */
static inline enum ipc_status ipc_soft(ipc_driver *d, uint32_t index, uint32_t length, ipc_time now) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    uint64_t bytes = sa->bytes + length;
    if (IPC_UNLIKELY(bytes >= sa->byte_limit || now >= sa->time_limit)) {
        enum ipc_status status = ipc_sa_limit(d, index, bytes, now);
        if (status != IPC_PROTECTED) return status;
    }
    sa->bytes = bytes;
    sa->last = now;
    sa->got.packets++;
    return IPC_SOFT;
}

/* offload.c: what the loops ask for SAs that are on the NIC. The operation is complete; it is changed where
 * the NIC takes it. */
void ipc_offload_send(ipc_driver *d, const struct ipc_burst *b, uint32_t i, uint32_t index, unsigned k);
void ipc_offload_receive(ipc_driver *d, const struct ipc_burst *b, uint32_t i, uint32_t index, unsigned k);
/* The verdict on a received packet whose operation is not ok. */
enum ipc_status ipc_offload_failure(const struct ipc_sa_hot *sa, const struct ipc_crypto_op *op);
/* Does what the NIC asked for; with a NIC alone. */
void ipc_offload_after_burst(ipc_driver *d);
void ipc_offload_offer(ipc_driver *d, uint32_t index, const struct ipc_sa_config *config);
void ipc_offload_withdraw(ipc_driver *d, uint32_t index);

/* crypt.c: runs d->ops[0..count) in groups of one suite */
void ipc_crypt(ipc_driver *d, unsigned count, enum ipc_direction direction);

#endif
