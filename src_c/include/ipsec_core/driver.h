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

#define IPC_TABLE_KB_MIN 64
#define IPC_TABLE_KB_MAX 1024
#define IPC_WINDOW_MIN   32
#define IPC_WINDOW_MAX   4096

/* Zero in a field means its default. */
struct ipc_driver_config {
    uint32_t sa_hash_kb;   /* SAHashSize, 64..1024, default 64 */
    uint32_t cache_kb;     /* CacheSize, 64..1024, default 64 */
    uint32_t spi_slots;    /* overrides the size that sa_hash_kb gives (tests shrink the table) */
    uint32_t cache_slots;  /* likewise for cache_kb; per direction */
    uint32_t hold_packets; /* packets that may wait for one acquire, default 64 */
    uint32_t hold_bytes;   /* bytes of all waiting packets together, default 256 KiB */
    uint8_t cache_off;     /* 1: walk the filters for every packet */
    uint8_t seed[16];      /* of table hashes and IVs; all zero is allowed (not for real use) */
    const char *backend;   /* name of the crypto back end, NULL: the best one per SA */
};

int ipc_driver_create(const struct ipc_driver_config *config, ipc_driver **out);
void ipc_driver_destroy(ipc_driver *d);

/* --- filters: linear walk in the order given (the Policy Agent sorts, most specific first) --- */

/* Port 0, protocol 0 and mask 0 mean any. Ports count only for TCP and UDP; a later fragment has ports 0. */
struct ipc_filter {
    ipc_ipv4 source, source_mask, destination, destination_mask;
    ipc_ipv4 tunnel;    /* tunnel endpoint, 0: transport mode */
    uint32_t reference; /* the caller's number, unique and lasting; SAs name their filter by it */
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint8_t direction; /* enum ipc_direction */
    uint8_t action;    /* enum ipc_action */
};

/* Replaces all filters. SAs stay; those whose filter reference is gone protect nothing outbound until a
 * filter with it returns. */
int ipc_driver_set_filters(ipc_driver *d, const struct ipc_filter *filters, uint32_t count);
uint32_t ipc_driver_filter_count(const ipc_driver *d);
/* Copies filter `index` (walk order) and the packets it has decided. */
int ipc_driver_filter(const ipc_driver *d, uint32_t index, struct ipc_filter *filter, uint64_t *packets);

/* --- security associations --- */

struct ipc_sa_config {
    uint8_t direction, mode;
    uint8_t encryption, integrity; /* enums of algorithm.h */
    uint32_t spi;                  /* 256..2^32-1 */
    ipc_ipv4 source,
        destination; /* of the ESP packets: hosts in transport mode, tunnel ends in tunnel mode */
    /* selectors of the protected traffic, in the SA's own direction (0: any) */
    ipc_ipv4 inner_source, inner_source_mask, inner_destination, inner_destination_mask;
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint32_t filter;        /* reference of the outbound filter that this SA serves (outbound only) */
    uint32_t replay_window; /* inbound: 32..4096, a multiple of 32; 0: no check */
    const uint8_t *encryption_key, *integrity_key;
    uint32_t encryption_key_length, integrity_key_length;
    uint64_t soft_bytes, hard_bytes; /* 0: none. Bytes: payload of ESP before padding */
    uint64_t sequence; /* last number used (outbound) or highest seen (inbound); 0 for a new SA */
};

/* An index with a generation: a handle of a deleted SA never names another one. */
typedef uint64_t ipc_sa;
#define IPC_SA_INDEX(handle) ((uint32_t)(handle))

struct ipc_sa_info {
    ipc_sa handle;
    struct ipc_sa_config config; /* key pointers NULL, lengths 0 */
    const char *backend;
    uint64_t packets, bytes, sequence; /* sequence: last used or right edge of the window */
    uint64_t dropped;                  /* inbound: packets of this SA that failed a check */
    uint64_t lost;                     /* inbound: numbers that left the window unseen */
};

/* Negative error, else 0 and the handle. A newer outbound SA for the same filter and selectors takes over
 * from older ones at once. */
int ipc_sa_add(ipc_driver *d, const struct ipc_sa_config *config, ipc_sa *handle);
int ipc_sa_delete(ipc_driver *d, ipc_sa handle);
int ipc_sa_info(const ipc_driver *d, ipc_sa handle, struct ipc_sa_info *info);
/* Handles of all SAs in the order of their indices; returns how many there are, writes up to `max`. */
uint32_t ipc_sa_list(const ipc_driver *d, ipc_sa *handles, uint32_t max);
/* Index of the inbound SA or IPC_NO_SA (RFC 2401 5.2.1: SPI, destination, protocol). */
uint32_t ipc_spi_lookup(const ipc_driver *d, uint32_t spi, ipc_ipv4 destination, uint8_t protocol);
/* An SPI >= 256 that no inbound SA to `destination` uses and that was not handed out since the last 2^16
 * calls. */
uint32_t ipc_spi_allocate(ipc_driver *d, ipc_ipv4 destination);

/* Bytes that ESP adds to an IP packet of `length` bytes (RFC 2406 2, RFC 4303 2), exact. */
uint32_t ipc_esp_overhead(enum ipc_mode mode, enum ipc_encryption encryption, enum ipc_integrity integrity,
                          uint32_t length);

/* --- the loops --- */

/* IPv4 packets from the host. On return each has its status; PROTECTED packets are ESP packets now. Returns
 * how many may be sent. */
uint32_t ipc_outbound(ipc_driver *d, struct ipc_burst *burst);
/* IPv4 packets from the NIC (whole datagrams). PROTECTED packets are the packets inside. Returns how many go
 * up. */
uint32_t ipc_inbound(ipc_driver *d, struct ipc_burst *burst);

/* --- upcalls: what the driver asks of ISAKMP/Oakley --- */

enum ipc_upcall_kind {
    IPC_UPCALL_ACQUIRE, /* a packet waits: negotiate for this filter and flow */
    IPC_UPCALL_REKEY,   /* soft lifetime reached, or sequence numbers run low */
    IPC_UPCALL_EXPIRED, /* hard lifetime reached; the SA protects nothing any more */
};

struct ipc_upcall {
    ipc_time time;
    ipc_sa sa;       /* REKEY, EXPIRED */
    uint32_t filter; /* reference */
    ipc_ipv4 peer;   /* tunnel endpoint or destination */
    ipc_ipv4 source, destination;
    uint16_t source_port, destination_port;
    uint8_t protocol;
    uint8_t kind;
};

/* Takes the oldest upcall: 1, or 0 when there is none. The ring is bounded; an acquire that finds it full is
 * asked for again by the next packet. */
int ipc_upcall_next(ipc_driver *d, struct ipc_upcall *upcall);

/* The negotiation for a flow failed: its waiting packets are dropped and counted; returns how many. */
uint32_t ipc_acquire_failed(ipc_driver *d, uint32_t filter, ipc_ipv4 source, ipc_ipv4 destination);
/* Moves packets whose SA has come into the burst (after those in it), oldest first, stamped `now`; returns
 * how many. Send them through ipc_outbound before newer packets. A packet longer than the burst's max_packet
 * is dropped and counted as TOO_BIG. */
uint32_t ipc_release(ipc_driver *d, struct ipc_burst *burst, ipc_time now);

/* --- counters --- */

/*
 * X(name, text). The statistics of the article's IP Security Monitor and the driver's own. "Bytes" are the
 * bytes of the IP packet's part that ESP carries (transport: IP payload; tunnel: the whole inner packet),
 * before padding.
 */
#define IPC_COUNTER_LIST(X)                                                                                  \
    X(active_associations, "Active Associations")                                                            \
    X(confidential_bytes_sent, "Confidential Bytes Sent")                                                    \
    X(confidential_bytes_received, "Confidential Bytes Received")                                            \
    X(authenticated_bytes_sent, "Authenticated Bytes Sent")                                                  \
    X(authenticated_bytes_received, "Authenticated Bytes Received")                                          \
    X(bad_spi_packets, "Bad SPI Packets")                                                                    \
    X(packets_not_decrypted, "Packets Not Decrypted")                                                        \
    X(packets_not_authenticated, "Packets Not Authenticated")                                                \
    X(key_additions, "Key Additions")                                                                        \
    X(packets_outbound, "Packets from the host")                                                             \
    X(packets_inbound, "Packets from the network")                                                           \
    X(key_deletions, "Key Deletions")                                                                        \
    X(cache_hits, "Header cache hits")                                                                       \
    X(cache_misses, "Header cache misses")                                                                   \
    X(cache_overwrites, "Header cache overwrites")                                                           \
    X(cache_stale, "Header cache stale entries")                                                             \
    X(packets_held, "Packets that waited for a negotiation")                                                 \
    X(acquires, "Acquires")                                                                                  \
    X(rekeys, "Rekey requests")                                                                              \
    X(expirations, "Hard expirations")                                                                       \
    X(upcalls_lost, "Upcalls that found the ring full")

struct ipc_counters {
#define X(name, text) uint64_t name;
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

struct ipc_table_info {
    uint32_t spi_slots, spi_used, spi_overflow; /* overflow: SAs beyond what the configured size holds */
    uint32_t cache_slots;                       /* per direction */
};
void ipc_driver_tables(const ipc_driver *d, struct ipc_table_info *info);

#ifdef __cplusplus
}
#endif
#endif
