/*
 * Fragmentation and bounded reassembly of IPv4 (RFC 791 3.2, RFC 815) and IPv6 (RFC 8200 4.5). Overlaps are
 * refused in both families, as RFC 5722 says for IPv6.
 */
#ifndef IPSEC_CORE_FRAG_H
#define IPSEC_CORE_FRAG_H

#include "ipsec_core/burst.h"
#include "ipsec_core/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called once per fragment, in order. `fragment` points into scratch memory that is valid during the call
 * only. */
typedef int (*ipc_fragment_emit)(void *context, const uint8_t *fragment, uint32_t length);

/*
 * Splits the IPv4 packet into fragments of at most `mtu` bytes each and calls `emit` for each one; options
 * with the copy bit stay in all fragments. A packet that fits is emitted as it is. Returns the number of
 * fragments, IPC_E(INVALID) when the packet is not a well-formed IPv4 packet or the mtu is under 68, or
 * IPC_E(FULL) when it does not fit and DF is set (nothing is emitted then). A negative value from `emit`
 * stops and is returned.
 */
int ipc_fragment(const uint8_t *packet, uint32_t length, uint32_t mtu, ipc_fragment_emit emit, void *context);

/*
 * The same for an IPv6 packet that its source sends: only the source may split it. All headers up to the last
 * routing header, else the hop-by-hop options, stay in all fragments. `identification` must not return soon
 * for the same addresses (RFC 8200 4.5). IPC_E(INVALID) also: the mtu is under 1280, a jumbogram, or
 * extension headers that do not fit in the first fragment (RFC 7112 5); IPC_E(FULL): it does not fit and has
 * a fragment header already.
 */
int ipc_fragment6(const uint8_t *packet, uint32_t length, uint32_t mtu, uint32_t identification,
                  ipc_fragment_emit emit, void *context);

/*
 * Adds the packets of `in` from index `*next` on whose verdict is PASS, or that are UNPROCESSED, to `out`,
 * those longer than `mtu` (at least 68) as fragments: IPv4 without DF, and IPv6 (only what this computer is
 * the source of may be split, as tunnel packets are), whose `*identification` is then counted up. Each piece
 * has time, status, SA and filter of its packet. Stops before the packet whose pieces `out` has no room for.
 * `*next` becomes the index of the first packet that was not looked at: in->count when all are done. Returns
 * how many `out` got more, or IPC_E(INVALID) for the mtu.
 *
 * A packet that cannot go on takes one slot with a verdict of DROP, cut to the length of a slot of `out`:
 * EXCEEDS_MTU (IPv4 with DF, IPv6 that is a fragment or when the mtu is under 1280, not IP), MALFORMED (bad
 * headers), TOO_BIG (longer than out->max_packet, or more fragments than `out` has slots).
 */
int ipc_burst_fragment(const struct ipc_burst *in, uint32_t *next, struct ipc_burst *out, uint32_t mtu,
                       uint32_t *identification);

/* Reassembly table of one receiver, for both families. */
typedef struct ipc_reassembler ipc_reassembler;

struct ipc_reassembler_stats {
    uint64_t fragments; /* well-formed ones taken in */
    uint64_t datagrams; /* completed */
    uint64_t overlaps;  /* datagrams dropped because of overlapping or contradicting fragments */
    uint64_t timeouts;  /* datagrams dropped incomplete */
    uint64_t overflows; /* datagrams pushed out because the table was full, or their part of it */
    uint64_t malformed; /* packets and fragments refused: bad headers, not a multiple of 8, beyond 65535 */
};

/* At most `max_datagrams` (1-65536) datagrams at once (each has a buffer of 68 KB made when first used and
 * kept), each for `timeout` ns (> 0; RFC 8200 4.5: 60 s). */
int ipc_reassembler_create(uint32_t max_datagrams, ipc_time timeout, ipc_reassembler **out);
void ipc_reassembler_destroy(ipc_reassembler *r);

/*
 * Takes one fragment. Returns 1 when it completes a datagram (`*datagram`, `*length` then point at the whole
 * packet: header of the first fragment, total length, fragment fields and checksum put right, or the fragment
 * header taken out; valid until the next call), 0 when more are needed, IPC_E(FORMAT) when the fragment was
 * refused (counted), or IPC_E(NO_MEMORY). A packet that is no fragment is a whole datagram: returned as it
 * is, not counted. So is an IPv6 atomic fragment (RFC 6946), without its fragment header. Header checksums
 * are not looked at: the caller's business.
 *
 * A fragment with the extent and bytes of one already received is ignored; any other overlap, or an end that
 * contradicts what is known, refuses the whole datagram and what still comes of it until its timeout. Refused
 * are also a first IPv6 fragment that does not reach the upper-layer header (RFC 8200 4.5), a second fragment
 * header behind the first, and more than 1264 bytes of headers in front of it. `now` must not decrease.
 *
 * The work for one fragment is bounded by its length, whatever came before.
 */
int ipc_reassembler_input(ipc_reassembler *r, const uint8_t *fragment, uint32_t length, ipc_time now,
                          const uint8_t **datagram, uint32_t *datagram_length);
/* Which datagram the last input belonged to: 1, 2, ... in order of their first fragments; 0 when it was
 * malformed or no fragment. */
uint64_t ipc_reassembler_last(const ipc_reassembler *r);
void ipc_reassembler_stats(const ipc_reassembler *r, struct ipc_reassembler_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
