/* IPv4 fragmentation and bounded reassembly (RFC 791 3.2, RFC 815; overlaps refused as RFC 5722 does for
 * IPv6). */
#ifndef IPSEC_CORE_FRAG_H
#define IPSEC_CORE_FRAG_H

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

/* Reassembly table of one receiver. */
typedef struct ipc_reassembler ipc_reassembler;

struct ipc_reassembler_stats {
    uint64_t fragments; /* well-formed ones taken in */
    uint64_t datagrams; /* completed */
    uint64_t overlaps;  /* datagrams dropped because of overlapping or contradicting fragments */
    uint64_t timeouts;  /* datagrams dropped incomplete */
    uint64_t overflows; /* datagrams pushed out because the table was full */
    uint64_t malformed; /* fragments refused: bad header, length not a multiple of 8, beyond 65535 */
};

/* At most `max_datagrams` (1-65536) datagrams at once (each has a buffer of 65535 bytes made when first
 * used), each for `timeout` ns (> 0). */
int ipc_reassembler_create(uint32_t max_datagrams, ipc_time timeout, ipc_reassembler **out);
void ipc_reassembler_destroy(ipc_reassembler *r);

/*
 * Takes one fragment. Returns 1 when it completes a datagram (`*datagram`, `*length` then point at the whole
 * packet: header of the first fragment, total length, fragment fields and checksum put right; valid until the
 * next call), 0 when more are needed, IPC_E(FORMAT) when the fragment was refused (counted), or
 * IPC_E(NO_MEMORY). A packet that is no fragment is a whole datagram: returned as it is, not counted. Header
 * checksums are not looked at: the caller's business.
 *
 * A fragment with the extent and bytes of one already received is ignored; any other overlap, or an end that
 * contradicts what is known, refuses the whole datagram and what still comes of it until its timeout. `now`
 * must not decrease.
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
