/*
 * The IPsec driver: filters, security associations, the outbound and inbound loops. One driver belongs to one
 * thread at a time; there is no global state, so that any number of drivers live in one process.
 */
#ifndef IPSEC_CORE_DRIVER_H
#define IPSEC_CORE_DRIVER_H

#include "ipsec_core/algorithm.h"
#include "ipsec_core/burst.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ipc_driver ipc_driver;

enum ipc_direction { IPC_OUTBOUND, IPC_INBOUND };
enum ipc_mode { IPC_TRANSPORT, IPC_TUNNEL };
enum ipc_action { IPC_PERMIT, IPC_BLOCK, IPC_NEGOTIATE, IPC_PASSTHROUGH };
/* What an SA does. SOFT: nothing, the packets go in clear; the peer does not speak IKE and the policy allows
 * that (KB 257225: security "None"). */
enum ipc_service { IPC_SERVICE_ESP, IPC_SERVICE_AH, IPC_SERVICE_SOFT };
/* The DF bit of an outer IPv4 header (RFC 2401 6.1). */
enum ipc_df { IPC_DF_COPY, IPC_DF_SET, IPC_DF_CLEAR };

#define IPC_TABLE_KB_MIN 64
#define IPC_TABLE_KB_MAX 1024
#define IPC_WINDOW_MIN   32
#define IPC_WINDOW_MAX   4096
#define IPC_NESTED_MAX   4u /* SAs around one packet, one in the other */

/* Zero in a field means its default. */
struct ipc_driver_config {
    uint32_t sa_hash_kb;   /* SAHashSize, 64..1024, default 64 */
    uint32_t cache_kb;     /* CacheSize, 64..1024, default 64 */
    uint32_t spi_slots;    /* overrides the size that sa_hash_kb gives (tests shrink the table) */
    uint32_t cache_slots;  /* likewise for cache_kb; per direction */
    uint32_t hold_packets; /* packets that may wait for one acquire, default 64 */
    uint32_t hold_bytes;   /* bytes of all waiting packets together, default 256 KiB */
    uint32_t fragments;  /* IPsec datagrams put together at once, default 16, at most 256; 65535 bytes each */
    uint8_t cache_off;   /* 1: ask the filters for every packet */
    uint8_t matcher_off; /* 1: walk the filters one by one (the readable twin of the compiled matcher) */
    uint8_t no_default_exempt; /* NoDefaultExempt, 0..3 (KB 253169, KB 811832) */
    uint8_t nat_traversal;     /* 1: UDP port 4500 carries IKE and ESP (RFC 3948) */
    uint8_t seed[16];          /* of table hashes; all zero is allowed (not for real use) */
    const char *backend;       /* name of the crypto back end, NULL: the best one per SA */
};

int ipc_driver_create(const struct ipc_driver_config *config, ipc_driver **out);
void ipc_driver_destroy(ipc_driver *d);

/* --- filters: the first one in the order given decides (the Policy Agent sorts, most specific first) --- */

/* Port 0, protocol 0 and mask 0 mean any; family 0: both, 4 or 6. Ports count only for TCP and UDP; a later
 * fragment has ports 0. */
struct ipc_filter {
    ipc_address source, source_mask, destination, destination_mask;
    ipc_address tunnel; /* tunnel endpoint, none: transport mode */
    uint32_t
        reference; /* the caller's number, unique per direction and lasting; SAs name their filter by it */
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint8_t family;
    uint8_t direction; /* enum ipc_direction */
    uint8_t action;    /* enum ipc_action */
};

/* Replaces all filters. SAs stay; those whose filter reference is gone protect nothing outbound until a
 * filter with it returns. Packet counts of filters that stay (same direction and reference) go on. On an
 * error nothing has changed; IPC_E(DUPLICATE): two filters of one direction have the same reference. */
int ipc_driver_set_filters(ipc_driver *d, const struct ipc_filter *filters, uint32_t count);
uint32_t ipc_driver_filter_count(const ipc_driver *d);
/* Copies filter `index` (order of the list) and the packets it has decided. */
int ipc_driver_filter(const ipc_driver *d, uint32_t index, struct ipc_filter *filter, uint64_t *packets);

/* --- security associations --- */

/* An index with a generation: a handle of a deleted SA never names another one; 0 names none. */
typedef uint64_t ipc_sa;
#define IPC_SA_INDEX(handle) ((uint32_t)(handle))

struct ipc_sa_config {
    uint8_t direction, mode;
    uint8_t service;               /* enum ipc_service */
    uint8_t encryption, integrity; /* enums of algorithm.h; AH: encryption NULL; SOFT: both 0 */
    uint8_t esn;                   /* 1: 64-bit sequence numbers (RFC 4303 2.2.1) */
    uint8_t allow_unauthenticated; /* 1: ESP without integrity, even NULL/NULL, is what the caller wants */
    uint8_t df;                    /* enum ipc_df, of the outer header (tunnel) */
    uint32_t spi;                  /* 256..2^32-1; SOFT: 0 */
    /* of the IPsec packets: hosts in transport mode, tunnel ends in tunnel mode; one family */
    ipc_address source, destination;
    /* selectors of the protected traffic, in the SA's own direction (masks and numbers 0: any) */
    ipc_address inner_source, inner_source_mask, inner_destination, inner_destination_mask;
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint8_t family; /* of the selectors: 0 both, 4, 6 */
    uint32_t
        filter; /* reference of the filter (of the SA's direction) that it serves: outbound and soft SAs */
    uint32_t replay_window; /* inbound: 32..4096, a multiple of 32; 0: no check */
    /* UDP encapsulation of ESP (RFC 3948): ports of the outer UDP header; both 0: none */
    uint16_t encapsulation_source, encapsulation_destination;
    /* The addresses that the peer's packets had before the NAT (NAT-OA, RFC 3947 5.2), none: not known.
     * Transport mode, inbound: TCP and UDP checksums are put right by their difference (RFC 3948 3.1.2). */
    ipc_address original_source, original_destination;
    /* Bundles and nested SAs (RFC 2401 4.3): outbound, what this SA made is given to `outer` next; inbound,
     * this SA takes only what `outer` has just taken off. 0: none. The outer one must exist and have this
     * direction. */
    ipc_sa outer;
    const uint8_t *encryption_key, *integrity_key;
    uint32_t encryption_key_length, integrity_key_length;
    /* Bytes: what the IPsec header carries, before padding. 0: none */
    uint64_t soft_bytes, hard_bytes;
    /* Moments on the driver's clock (ns). 0: none */
    ipc_time soft_time, hard_time;
    ipc_time idle;     /* ns without a packet after which the SA is reported idle; 0: never */
    ipc_time created;  /* now */
    uint32_t path_mtu; /* outbound: largest IPsec packet of the path in bytes, 0: not known */
    uint64_t sequence; /* last number used (outbound) or highest seen (inbound); 0 for a new SA */
};

struct ipc_sa_info {
    ipc_sa handle;
    struct ipc_sa_config config;       /* key pointers NULL, lengths 0 */
    const char *backend;               /* "" for a soft SA */
    uint64_t packets, bytes, sequence; /* sequence: last used or right edge of the window */
    uint64_t dropped;                  /* inbound: packets of this SA that failed a check */
    uint64_t lost;                     /* inbound: numbers that left the window unseen */
    ipc_time last;                     /* of the last packet, or of the creation */
    uint8_t expired;                   /* 1: the hard lifetime is over */
    uint8_t offloaded;                 /* 1: it is on the NIC (nic.h) */
};

/* Negative error, else 0 and the handle. A newer outbound SA for the same filter and selectors takes over
 * from older ones at once. */
int ipc_sa_add(ipc_driver *d, const struct ipc_sa_config *config, ipc_sa *handle);
int ipc_sa_delete(ipc_driver *d, ipc_sa handle);
/* The SA goes on until `hard_time` at the latest, without asking for a successor: the overlap after a rekey.
 */
int ipc_sa_retire(ipc_driver *d, ipc_sa handle, ipc_time hard_time);
/* Path MTU of an outbound SA (RFC 2401 6.1.2), 0: not known; otherwise 68 (RFC 791) .. 65535. */
int ipc_sa_set_path_mtu(ipc_driver *d, ipc_sa handle, uint32_t path_mtu);
int ipc_sa_info(const ipc_driver *d, ipc_sa handle, struct ipc_sa_info *info);
/* Handles of all SAs in the order of their indices; returns how many there are, writes up to `max`. */
uint32_t ipc_sa_list(const ipc_driver *d, ipc_sa *handles, uint32_t max);
/* Index of the inbound SA or IPC_NO_SA (RFC 2401 5.2.1: SPI, destination, protocol 50 or 51). */
uint32_t ipc_spi_lookup(const ipc_driver *d, uint32_t spi, ipc_address destination, uint8_t protocol);
/* The same for `count` (at most IPC_BURST_MAX) IPv4 keys of one protocol at once, with the memory accesses
 * overlapped. */
void ipc_spi_lookup_burst(const ipc_driver *d, const uint32_t *spi, const ipc_ipv4 *destination,
                          uint8_t protocol, uint32_t count, uint32_t *index);
/* An SPI >= 256 that no inbound SA to `destination` uses and that was not handed out since the last 2^16
 * calls. */
uint32_t ipc_spi_allocate(ipc_driver *d, ipc_address destination);

/* What the SA (or one like `config`) adds to an IP packet of `length` bytes whose header (with the extension
 * headers that stay outside, IPv6) is `header` bytes long; exact, with all its outer SAs. 0 for a soft SA. */
uint32_t ipc_sa_overhead(const ipc_driver *d, ipc_sa handle, uint32_t length, uint32_t header);
/* The same for an SA that does not exist yet, without its outer SAs. */
uint32_t ipc_overhead(const struct ipc_sa_config *config, uint32_t length, uint32_t header);

/* Lifetimes in seconds and idle timers: posts the upcalls that are due at `now` and returns when the next one
 * may be (IPC_NEVER: none). Packets find their limits by themselves; an idle SA is found here alone. */
ipc_time ipc_driver_tick(ipc_driver *d, ipc_time now);

/* --- the loops --- */

/* IP packets from the host. On return each has its status; PROTECTED packets are IPsec packets now. Returns
 * how many may be sent. */
uint32_t ipc_outbound(ipc_driver *d, struct ipc_burst *burst);
/* IP packets from the NIC. PROTECTED packets are the packets inside. Fragments of IPsec packets are put
 * together first (RFC 2401 B.2): the one that completes a datagram stands for it, the others are
 * REASSEMBLING. Returns how many go up. */
uint32_t ipc_inbound(ipc_driver *d, struct ipc_burst *burst);

/*
 * Where the time of the loops goes, by the caller's clock: classify (parse, decide, build), crypt, commit
 * (all after it). Three readings a burst while a profile is set; NULL ends it.
 */
struct ipc_profile {
    uint64_t (*clock)(void);
    uint64_t classify, crypt, commit;
};
void ipc_driver_profile(ipc_driver *d, struct ipc_profile *profile);

/* --- upcalls: what the driver asks of ISAKMP/Oakley --- */

enum ipc_upcall_kind {
    IPC_UPCALL_ACQUIRE, /* a packet waits: negotiate for this filter and flow */
    IPC_UPCALL_REKEY,   /* soft lifetime reached, or sequence numbers run low */
    IPC_UPCALL_EXPIRED, /* hard lifetime reached; the SA protects nothing any more */
    IPC_UPCALL_IDLE,    /* no packet for the SA's idle time (KB 257225: SAIdleTime) */
    IPC_UPCALL_MOVED,   /* ESP in UDP came from another address or port and was good (RFC 3947 7) */
};

struct ipc_upcall {
    ipc_time time;
    ipc_sa sa;        /* REKEY, EXPIRED, IDLE, MOVED */
    uint32_t filter;  /* reference */
    ipc_address peer; /* tunnel endpoint or destination; MOVED: where the packet came from */
    ipc_address source, destination;
    uint16_t source_port, destination_port; /* MOVED: the outer ports */
    uint8_t protocol;
    uint8_t kind;
};

/* Takes the oldest upcall: 1, or 0 when there is none. The ring is bounded; an acquire that finds it full is
 * asked for again by the next packet. */
int ipc_upcall_next(ipc_driver *d, struct ipc_upcall *upcall);

/* The negotiation for a flow failed: its waiting packets are dropped and counted; returns how many. */
uint32_t ipc_acquire_failed(ipc_driver *d, uint32_t filter, ipc_address source, ipc_address destination);
/* Moves packets whose SA has come into the burst (after those in it), oldest first, stamped `now`; returns
 * how many. Send them through ipc_outbound before newer packets. A packet longer than the burst's max_packet
 * is dropped and counted as TOO_BIG. */
uint32_t ipc_release(ipc_driver *d, struct ipc_burst *burst, ipc_time now);

/* --- counters --- */

/*
 * X(name, text, rule). The nine IPsec statistics of the article's IP Security Monitor, then the driver's own.
 * "Carried bytes" are what an IPsec header carries, before padding: in transport mode the IP payload, in
 * tunnel mode the whole packet inside. With several SAs around one packet each counts what it carries.
 */
#define IPC_COUNTER_LIST(X)                                                                                  \
    X(active_associations, "Active Associations",                                                            \
      "hard SAs that exist: one more per SA added, one less per SA deleted")                                 \
    X(confidential_bytes_sent, "Confidential Bytes Sent",                                                    \
      "carried bytes of each packet protected by ESP with a cipher (not NULL, not AH)")                      \
    X(confidential_bytes_received, "Confidential Bytes Received",                                            \
      "carried bytes of each packet taken off such an SA and accepted")                                      \
    X(authenticated_bytes_sent, "Authenticated Bytes Sent",                                                  \
      "carried bytes of each packet protected by AH, or by ESP with an ICV")                                 \
    X(authenticated_bytes_received, "Authenticated Bytes Received",                                          \
      "carried bytes of each packet taken off such an SA and accepted")                                      \
    X(bad_spi_packets, "Bad SPI Packets",                                                                    \
      "packets received for whose SPI, destination and protocol there is no SA")                             \
    X(packets_not_decrypted, "Packets Not Decrypted",                                                        \
      "packets received for an SA with a cipher that gave no clear text: SA expired, ICV wrong, padding or " \
      "content wrong")                                                                                       \
    X(packets_not_authenticated, "Packets Not Authenticated",                                                \
      "packets received for an SA with an ICV that did not verify, or whose SA has expired")                 \
    X(key_additions, "Key Additions", "hard SAs added")                                                      \
    X(key_deletions, "Key Deletions", "hard SAs deleted")                                                    \
    X(soft_associations, "Soft Associations", "soft SAs that exist")                                         \
    X(packets_outbound, "Packets from the host", "packets given to the outbound loop")                       \
    X(packets_inbound, "Packets from the network", "packets given to the inbound loop")                      \
    X(cache_hits, "Header cache hits", "decisions that the header cache knew")                               \
    X(cache_misses, "Header cache misses", "decisions that the filters were asked for")                      \
    X(cache_overwrites, "Header cache overwrites", "misses that put out a fresh entry of another flow")      \
    X(cache_stale, "Header cache stale entries",                                                             \
      "misses of a flow whose entry was older than the last change of filters or SAs")                       \
    X(packets_held, "Packets that waited for a negotiation", "packets put into the queue")                   \
    X(acquires, "Acquires", "negotiations asked for")                                                        \
    X(rekeys, "Rekey requests", "soft limits reached")                                                       \
    X(expirations, "Hard expirations", "hard limits reached")                                                \
    X(idle_expirations, "Idle expirations", "SAs reported idle")                                             \
    X(unauthenticated_packets, "Packets under unauthenticated ESP",                                          \
      "packets protected or accepted by ESP without integrity")                                              \
    X(upcalls_lost, "Upcalls that found the ring full", "upcalls that could not be posted")

struct ipc_counters {
#define X(name, text, rule) uint64_t name;
    IPC_COUNTER_LIST(X)
#undef X
    uint64_t status_outbound[IPC_STATUS_COUNT];
    uint64_t status_inbound[IPC_STATUS_COUNT];
};

void ipc_driver_counters(const ipc_driver *d, struct ipc_counters *counters);
/* All counters to 0 but active_associations, as a restart of the Policy Agent does. */
void ipc_driver_reset_counters(ipc_driver *d);

/* Names and texts of IPC_COUNTER_LIST: counter i is the i-th 64-bit member of struct ipc_counters. NULL past
 * the end. */
unsigned ipc_counter_count(void);
const char *ipc_counter_name(unsigned index);
const char *ipc_counter_text(unsigned index);
const char *ipc_counter_rule(unsigned index);

struct ipc_table_info {
    uint32_t spi_slots, spi_used, spi_overflow; /* overflow: SAs beyond what the configured size holds */
    uint32_t cache_slots;                       /* per direction */
};
void ipc_driver_tables(const ipc_driver *d, struct ipc_table_info *info);

#ifdef __cplusplus
}
#endif
#endif
