#include "internal.h"
#include "ipsec_core/nic.h"

#include <stdlib.h>

#define KB             1024u
#define HOLD_PACKETS   64u
#define HOLD_BYTES     (256u * KB)
#define HOLD_BYTES_MAX (64u * KB * KB)
#define MIN_SLOTS      2u
#define FRAGMENTS      16u
#define FRAGMENTS_MAX  256u

static uint32_t or_default(uint32_t value, uint32_t fallback) {
    return value ? value : fallback;
}

static int in_range(uint32_t kb) {
    return kb >= IPC_TABLE_KB_MIN && kb <= IPC_TABLE_KB_MAX;
}

int ipc_driver_create(const struct ipc_driver_config *config, ipc_driver **out) {
    uint32_t hash_kb = or_default(config->sa_hash_kb, IPC_TABLE_KB_MIN);
    uint32_t cache_kb = or_default(config->cache_kb, IPC_TABLE_KB_MIN);
    uint32_t spi_slots = or_default(config->spi_slots, hash_kb * KB / (uint32_t)sizeof(struct ipc_spi_slot));
    uint32_t cache_slots =
        or_default(config->cache_slots, cache_kb * KB / 2 / (uint32_t)sizeof(struct ipc_cache_entry));
    if (!in_range(hash_kb) || !in_range(cache_kb) || spi_slots < MIN_SLOTS || spi_slots > 1u << 30 ||
        cache_slots > 1u << 26 || config->fragments > FRAGMENTS_MAX || config->no_default_exempt > 3 ||
        config->hold_bytes > HOLD_BYTES_MAX)
        return IPC_E(INVALID);
    ipc_driver *d = calloc(1, sizeof *d);
    if (!d) return IPC_E(NO_MEMORY);
    memcpy(d->seed, config->seed, sizeof d->seed);
    d->random = ipc_mix(d->seed[0]) ^ d->seed[1];
    for (int i = 0; i < 2; i++)
        d->seed[i] = ipc_random(&d->random);
    d->cache_off = config->cache_off;
    d->matcher_off = config->matcher_off;
    d->no_default_exempt = config->no_default_exempt;
    d->nat_traversal = config->nat_traversal;
    d->fragments = or_default(config->fragments, FRAGMENTS);
    d->next_tick = IPC_NEVER;
    d->backend = config->backend;
    d->sa_free = IPC_NONE;
    d->hold_packets = or_default(config->hold_packets, HOLD_PACKETS);
    d->hold_bytes = or_default(config->hold_bytes, HOLD_BYTES);
    d->held = malloc(d->hold_bytes);
    if (!d->held || ipc_cache_create(d, cache_slots) < 0 ||
        ipc_spi_table_create(&d->spi, spi_slots, d->seed) < 0) {
        ipc_driver_destroy(d);
        return IPC_E(NO_MEMORY);
    }
    *out = d;
    return 0;
}

void ipc_driver_destroy(ipc_driver *d) {
    if (!d) return;
    ipc_driver_detach_nic(d);
    ipc_sa_destroy_all(d);
    for (unsigned i = 0; i < sizeof d->engine / sizeof *d->engine; i++)
        if (d->engine[i]) ipc_crypto_backend(i)->engine_destroy(d->engine[i]);
    ipc_spi_table_destroy(&d->spi);
    ipc_spi_table_destroy(&d->spi_overflow);
    if (d->ah) ipc_wipe(d->ah, IPC_BURST_MAX * sizeof *d->ah);
    free(d->ah);
    ipc_reassembler_destroy(d->reassembler);
    free(d->cache);
    free(d->filters);
    free(d->filter_names);
    ipc_matcher_destroy(d->matcher);
    if (d->held) ipc_wipe(d->held, d->hold_bytes); /* clear text that waited */
    free(d->held);
    free(d);
}

void ipc_driver_profile(ipc_driver *d, struct ipc_profile *profile) {
    d->profile = profile;
}

void ipc_driver_counters(const ipc_driver *d, struct ipc_counters *counters) {
    *counters = d->counters;
}

void ipc_driver_reset_counters(ipc_driver *d) {
    uint64_t active = d->counters.active_associations, soft = d->counters.soft_associations;
    memset(&d->counters, 0, sizeof d->counters);
    d->counters.active_associations = active;
    d->counters.soft_associations = soft;
}

void ipc_driver_tables(const ipc_driver *d, struct ipc_table_info *info) {
    *info = (struct ipc_table_info){d->spi.size, d->spi.used, d->spi_overflow.used, d->cache_slots};
}
