/*
 * No packet, good or bad, costs a call of the allocator: rounds of a mixed burst under counted malloc and free. Prints the
 * number of calls after the first rounds, in which the reassembler makes its buffers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec_core/driver.h"

#define PACKETS 64u
#define ROUNDS  2000u

static unsigned long calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);

void *__wrap_malloc(size_t size) {
    calls++;
    return __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size) {
    calls++;
    return __real_calloc(count, size);
}
void *__wrap_realloc(void *memory, size_t size) {
    calls++;
    return __real_realloc(memory, size);
}
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    calls++;
    return __real_aligned_alloc(alignment, size);
}
void __wrap_free(void *memory) {
    calls++;
    __real_free(memory);
}

static void require(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "allocations: %s\n", what);
    exit(2);
}

static void add(ipc_driver *d, int direction, int service, uint32_t spi) {
    static const uint8_t key[20] = "0123456789abcdefghij";
    int ah = service == IPC_SERVICE_AH;
    ipc_sa sa;
    struct ipc_sa_config c = {
        .direction = (uint8_t)direction,
        .mode = IPC_TUNNEL,
        .service = (uint8_t)service,
        .encryption = ah ? IPC_ENCRYPTION_NULL : IPC_ENCRYPTION_AES128_GCM16,
        .integrity = ah ? IPC_INTEGRITY_HMAC_SHA1_96 : IPC_INTEGRITY_NONE,
        .spi = spi,
        .source = ipc_address_of_ipv4(0xc0000201),
        .destination = ipc_address_of_ipv4(0xc0000202),
        .filter = 1,
        .replay_window = direction == IPC_INBOUND ? 64 : 0,
        .encryption_key = key,
        .integrity_key = key,
        .encryption_key_length = ah ? 0 : 20,
        .integrity_key_length = ah ? 20 : 0,
    };
    require(ipc_sa_add(d, &c, &sa) == 0, "no SA");
}

/* UDP from 10.0.0.1; every destination has a flow of its own. */
static void load(struct ipc_burst *b, uint32_t round) {
    uint8_t packet[196] = {0x45, 0, 0, 196, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 9, 0, 0};
    ipc_burst_reset(b);
    for (uint32_t i = 0; i < PACKETS; i++) {
        packet[18] = (uint8_t)(round >> 4);
        packet[19] = (uint8_t)i;
        require(ipc_burst_add(b, packet, sizeof packet, round) >= 0, "no room");
    }
}

/* Every eighth packet stays as it is; the others become bad in seven ways. */
static void spoil(struct ipc_burst *b) {
    for (uint32_t i = 0; i < b->count; i++) {
        uint8_t *p = ipc_burst_packet(b, i);
        switch (i % 8) {
        case 1: p[23] ^= 0x40; break;                    /* SPI */
        case 2: p[60] ^= 1; break;                       /* what is protected */
        case 3: b->length[i] = 27; break;                /* too short */
        case 4: p[6] = 0x20; break;                      /* the first piece of a datagram that never ends */
        case 5: memset(p, 0x5a, b->length[i]); break;    /* garbage */
        case 6: memcpy(p, ipc_burst_packet(b, i - 6), 100); break; /* replayed, and not authentic */
        case 7: p[9] = 17; break;                        /* clear */
        default: break;
        }
    }
}

int main(void) {
    struct ipc_driver_config config = {.cache_slots = 16, .spi_slots = 8};
    ipc_driver *out, *in;
    struct ipc_burst *burst;
    require(ipc_driver_create(&config, &out) == 0 && ipc_driver_create(&config, &in) == 0, "no driver");
    const struct ipc_filter filter = {
        .reference = 1, .action = IPC_NEGOTIATE, .tunnel = ipc_address_of_ipv4(0xc0000202)};
    require(ipc_driver_set_filters(out, &filter, 1) == 0, "no filter");
    require(ipc_burst_create(PACKETS, 2048, &burst) == 0, "no burst");
    add(in, IPC_INBOUND, IPC_SERVICE_ESP, 0x1001);
    add(in, IPC_INBOUND, IPC_SERVICE_AH, 0x1002);
    add(out, IPC_OUTBOUND, IPC_SERVICE_ESP, 0x1001);
    unsigned long in_loops = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        if (round == ROUNDS / 2) add(out, IPC_OUTBOUND, IPC_SERVICE_AH, 0x1002); /* from here on the other kind */
        load(burst, round);
        unsigned long before = calls;
        require(ipc_outbound(out, burst) == PACKETS, "a packet was not sent");
        spoil(burst);
        require(ipc_inbound(in, burst) < PACKETS, "bad packets came through");
        if (round > 3) in_loops += calls - before;
    }
    printf("%lu\n", in_loops);
    struct ipc_counters counters;
    ipc_driver_counters(in, &counters);
    require(counters.bad_spi_packets && counters.packets_not_authenticated && counters.status_inbound[IPC_MALFORMED] &&
                counters.status_inbound[IPC_REASSEMBLING] && counters.status_inbound[IPC_NO_FILTER] &&
                counters.status_inbound[IPC_PROTECTED],
            "not every kind of packet was met");
    return 0;
}
