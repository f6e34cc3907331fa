/* Path MTU discovery of a driver: what it learns, and what it tells the hosts (RFC 2401 6.1, RFC 4301 8.2).
 */
#ifndef IPSEC_CORE_PATH_MTU_H
#define IPSEC_CORE_PATH_MTU_H

#include "ipsec_core/driver.h"
#include "ipsec_core/icmp.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IPC_PATH_MTU_LEAST 576u /* RFC 791 3.1: what every host takes; what Windows believes at least */

/*
 * The longest IP packet that this outbound SA and those around it turn into packets that fit their path MTUs;
 * `header` as in ipc_sa_overhead. Every shorter packet fits as well. 65535 less the overhead when no path MTU
 * is known, 0 when nothing fits or there is no such SA.
 */
uint32_t ipc_sa_clear_mtu(const ipc_driver *d, ipc_sa handle, uint32_t header);

/*
 * Lowers the path MTU of the outbound SAs that made the packet which `found` is about: the SA with the SPI,
 * or where the message does not reach so far all with these ends (RFC 2401 6.1.2.1). The path MTUs of SAs
 * inside of these become what the outer ones take. Anybody can forge such a message, so that a value under
 * `least` counts as `least`, and none is raised. Returns how many SAs were lowered for the message's sake,
 * writes up to `max` handles. Walks all SAs: 10 ms for a million.
 */
uint32_t ipc_learn_path_mtu(ipc_driver *d, const struct ipc_path_mtu *found, uint32_t least, ipc_sa *handles,
                            uint32_t max);

/*
 * The ICMP message for packet `i` of a burst that ipc_outbound has just refused with EXCEEDS_MTU, with the
 * MTU that makes its source's packets fit. As ipc_icmp_too_big; 0 also when the packet is not the host's any
 * more (an SA around the first one refused it; ipc_learn_path_mtu takes care that the first one does) or no
 * longer than what every link takes. IPC_E(INVALID): it was not refused so, or `from` is of the other family.
 */
int ipc_burst_too_big(const ipc_driver *d, const struct ipc_burst *b, uint32_t i, ipc_address from,
                      uint8_t *out, uint32_t room);

#ifdef __cplusplus
}
#endif
#endif
