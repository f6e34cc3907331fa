/* Which one of several drivers, each with a thread of its own, a packet is for. */
#ifndef IPSEC_CORE_STEER_H
#define IPSEC_CORE_STEER_H

#include "ipsec_core/driver.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The driver of an inbound SA: SPIs are allocated so that they name it. */
static inline uint32_t ipc_shard_of_spi(uint32_t spi, uint32_t count) {
    return spi % count;
}

/*
 * The driver, 0..count-1, for a packet on its way out (IPC_OUTBOUND) or in. ESP and AH that come in go by
 * their SPI; `nat_traversal` as in struct ipc_driver_config. Everything else goes by its flow, which is the
 * same in both directions: addresses, protocol and the ports of TCP and UDP; all fragments of a datagram
 * without their ports. Returns `count` for a fragment of an IPsec packet that comes in: only the whole packet
 * surely has an SPI. What is not a well-formed IP packet may go anywhere.
 */
uint32_t ipc_steer(const uint8_t *packet, uint32_t length, enum ipc_direction direction, int nat_traversal,
                   uint32_t count);

#ifdef __cplusplus
}
#endif
#endif
