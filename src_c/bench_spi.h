/* The SPI table alone, timed: what `ipsec-core bench spi` shows. */
#ifndef IPC_BENCH_SPI_H
#define IPC_BENCH_SPI_H

#include <stdint.h>

/*
 * `sas` SAs with random SPIs and few IPv4 destinations, as a driver keeps them: a main table of `slots` slots
 * (at least 4), half full at most, the rest in a growing overflow table. *seconds: the time of `rounds`
 * bursts of 64 look-ups, all hits, in an order that `seed` shuffles; before that one pass is run and checked.
 * IPC_E(INVALID) for 0 SAs or rounds, IPC_E(NO_MEMORY), IPC_E(NOT_FOUND) when a look-up gives a wrong SA.
 */
int ipc_bench_spi(uint32_t sas, uint32_t slots, uint32_t rounds, uint64_t seed, double *seconds);

#endif
