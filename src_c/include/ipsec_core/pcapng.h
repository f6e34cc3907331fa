/* Writes pcapng: one section, Ethernet interfaces with nanosecond stamps, enhanced packet blocks. Same calls,
 * same bytes. */
#ifndef IPSEC_CORE_PCAPNG_H
#define IPSEC_CORE_PCAPNG_H

#include "ipsec_core/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ipc_pcapng ipc_pcapng;

#define IPC_PCAPNG_INBOUND  1u
#define IPC_PCAPNG_OUTBOUND 2u

/* `application` goes to shb_userappl (NULL or empty: left out). IPC_E(IO) with errno set when the file cannot
 * be made. */
int ipc_pcapng_create(const char *path, const char *application, ipc_pcapng **out);
/* Returns the interface number (0, 1, ...). `name` if_name, `speed` bits/s if_speed; link type Ethernet,
 * if_tsresol 9. */
int ipc_pcapng_interface(ipc_pcapng *p, const char *name, uint64_t speed);
/* A frame in two pieces (header, rest), at most 262144 bytes; `flags` as epb_flags (0: option left out).
 * IPC_E(INVALID) for an interface that was not made; IPC_E(IO) with errno set after a write failed. */
int ipc_pcapng_frame(ipc_pcapng *p, uint32_t interface, ipc_time time, uint32_t flags, const uint8_t *head,
                     uint32_t head_length, const uint8_t *rest, uint32_t rest_length);
/* Flushes and closes; IPC_E(IO) when any write failed, with the errno of the first. Frees `p` in every case.
 */
int ipc_pcapng_close(ipc_pcapng *p);

#ifdef __cplusplus
}
#endif
#endif
