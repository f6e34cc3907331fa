/*
 * Round trips of a burst for callgrind to count: `instructions SUITE SIZE ROUNDS`. What it counts is the work of the
 * driver's own loops; tests/bench and `make bench-instructions` hold it against bench/instructions.json.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec_core/driver.h"

#define PACKETS 64u
#define SPI     0x1001u

static const struct {
    const char *name;
    uint8_t encryption, integrity;
} suites[] = {
    {"null", IPC_ENCRYPTION_NULL, IPC_INTEGRITY_NONE},
    {"gcm", IPC_ENCRYPTION_AES128_GCM16, IPC_INTEGRITY_NONE},
    {"cbc-sha1", IPC_ENCRYPTION_AES128_CBC, IPC_INTEGRITY_HMAC_SHA1_96},
};

static void require(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "instructions: %s\n", what);
    exit(2);
}

static ipc_driver *make(int direction, unsigned suite) {
    static const uint8_t key[64] = "0123456789abcdefghijklmnopqrstuvwxyz";
    struct ipc_driver_config config = {0};
    ipc_driver *d;
    ipc_sa sa;
    require(ipc_driver_create(&config, &d) == 0, "no driver");
    const ipc_address mask = {UINT64_MAX, UINT64_C(0xffffffffffff0000)};
    struct ipc_filter filter = {.reference = 1, .action = IPC_NEGOTIATE, .tunnel = ipc_address_of_ipv4(0xc0000202)};
    require(ipc_driver_set_filters(d, &filter, direction == IPC_OUTBOUND) == 0, "no filter");
    struct ipc_sa_config c = {
        .direction = (uint8_t)direction,
        .mode = IPC_TUNNEL,
        .encryption = suites[suite].encryption,
        .integrity = suites[suite].integrity,
        .allow_unauthenticated = 1,
        .spi = SPI,
        .source = ipc_address_of_ipv4(0xc0000201),
        .destination = ipc_address_of_ipv4(0xc0000202),
        .inner_source = ipc_address_of_ipv4(0x0a010000),
        .inner_source_mask = mask,
        .inner_destination = ipc_address_of_ipv4(0x0a020000),
        .inner_destination_mask = mask,
        .family = 4,
        .filter = 1,
        .replay_window = direction == IPC_INBOUND ? 64 : 0,
        .encryption_key = key,
        .integrity_key = key,
        .encryption_key_length = ipc_encryption_info(suites[suite].encryption)->key_length,
        .integrity_key_length = ipc_integrity_info(suites[suite].integrity)->key_length,
    };
    require(ipc_sa_add(d, &c, &sa) == 0, "no SA");
    return d;
}

/* UDP from 10.1.0.1 to 10.2.0.1, a flow for each packet of the burst. */
static void load(struct ipc_burst *burst, uint32_t size) {
    uint8_t packet[2048] = {0x45, 0, (uint8_t)(size >> 8), (uint8_t)size, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1};
    for (unsigned i = 0; i < PACKETS; i++) {
        packet[20] = 4;
        packet[21] = (uint8_t)i;
        require(ipc_burst_add(burst, packet, size, 0) >= 0, "no room");
    }
}

int main(int argc, char **argv) {
    require(argc == 4, "usage: instructions SUITE SIZE ROUNDS");
    unsigned suite = 0;
    while (suite < sizeof suites / sizeof *suites && strcmp(argv[1], suites[suite].name) != 0)
        suite++;
    require(suite < sizeof suites / sizeof *suites, "unknown suite; accepted: null, gcm, cbc-sha1");
    int size = atoi(argv[2]);
    require(size >= 28 && size <= 2000, "size out of range; accepted: 28 to 2000");
    ipc_driver *out = make(IPC_OUTBOUND, suite), *in = make(IPC_INBOUND, suite);
    struct ipc_burst *burst;
    require(ipc_burst_create(PACKETS, 2048, &burst) == 0, "no burst");
    load(burst, (uint32_t)size);
    for (int round = atoi(argv[3]); round > 0; round--) {
        require(ipc_outbound(out, burst) == PACKETS, "a packet was not sent");
        require(ipc_inbound(in, burst) == PACKETS, "a packet did not come through");
    }
    ipc_burst_destroy(burst);
    ipc_driver_destroy(out);
    ipc_driver_destroy(in);
    return 0;
}
