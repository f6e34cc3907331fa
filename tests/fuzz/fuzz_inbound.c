/*
 * libFuzzer target: any bytes through ipc_inbound and ipc_outbound of drivers with SAs of each suite and mode.
 *
 * Input: one byte of options, one byte of damage, then packets, each after one byte of length. With SEAL a sender with the same keys protects
 * the packets, `damage` (if not 0) changes a byte of each, and they go in; with OTHER_MODE that sender is in the other mode, so that what
 * comes out under a good ICV is wrong in every way.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE -DIPC_HAVE_OPENSSL \
 *         -Isrc_c -Isrc_c/include tests/fuzz/fuzz_inbound.c src_c/{burst,crypt,crypto,crypto_openssl,driver,filter}.c \
 *         src_c/{hold,inbound,names,outbound,sa,spi_table}.c -lcrypto -o /tmp/fuzz_inbound
 *     /tmp/fuzz_inbound -max_len=1024 -max_total_time=60
 */
#include <stdlib.h>
#include <string.h>

#include "ipsec_core/driver.h"

#define SPI    0x1001u
#define HOST_A 0x0a010001u
#define HOST_B 0x0a010002u
#define SLOTS  16u

enum { OUTBOUND = 1, TUNNEL = 2, DES = 4, SEAL = 8, OTHER_MODE = 16, ONLY_UDP = 32, CACHE_OFF = 64, LAST_NUMBERS = 128 };

static void require(int condition) {
    if (!condition)
        abort();
}

static ipc_driver *make(int options) {
    static const uint8_t key[25] = "0123456789abcdefghijklmn", mac[21] = "nopqrstuvwxyz0123456";
    struct ipc_driver_config config = {
        .hold_bytes = 600, .hold_packets = 3, .spi_slots = 2, .cache_slots = 2, .cache_off = (options & CACHE_OFF) != 0};
    ipc_driver *d;
    require(ipc_driver_create(&config, &d) == 0);
    int tunnel = options & TUNNEL, des = options & DES, outbound = options & OUTBOUND;
    struct ipc_filter filters[] = {
        {.reference = 2, .direction = IPC_INBOUND, .action = IPC_NEGOTIATE, .protocol = 6},
        {.reference = 3, .direction = IPC_INBOUND, .action = IPC_PERMIT, .protocol = 1},
        {.reference = 4, .direction = IPC_INBOUND, .action = IPC_BLOCK, .protocol = 2},
        {.reference = 5, .direction = IPC_INBOUND, .action = IPC_PASSTHROUGH, .protocol = 17, .source_port = 4000},
        {.reference = 6, .direction = IPC_OUTBOUND, .action = IPC_PERMIT, .protocol = 1},
        {.reference = 7, .direction = IPC_OUTBOUND, .action = IPC_BLOCK, .protocol = 2},
        {.reference = 8, .direction = IPC_OUTBOUND, .action = IPC_NEGOTIATE, .destination_port = 7, .tunnel = tunnel ? HOST_A : 0},
        {.reference = 1, .direction = IPC_OUTBOUND, .action = IPC_NEGOTIATE},
    };
    require(ipc_driver_set_filters(d, filters, sizeof filters / sizeof *filters) == 0);
    struct ipc_sa_config c = {
        .direction = outbound ? IPC_OUTBOUND : IPC_INBOUND,
        .mode = tunnel ? IPC_TUNNEL : IPC_TRANSPORT,
        .encryption = des ? IPC_ENCRYPTION_3DES_CBC : IPC_ENCRYPTION_AES128_GCM16,
        .integrity = des ? IPC_INTEGRITY_HMAC_SHA1_96 : IPC_INTEGRITY_NONE,
        .spi = SPI,
        .source = HOST_A,
        .destination = HOST_B,
        .filter = 1,
        .protocol = options & ONLY_UDP ? 17 : 0,
        .replay_window = outbound ? 0 : 64,
        .encryption_key = key,
        .encryption_key_length = des ? 24 : 20,
        .integrity_key = mac,
        .integrity_key_length = des ? 20 : 0,
        .soft_bytes = options & SEAL && outbound ? 0 : 100,
        .hard_bytes = options & SEAL && outbound ? 0 : 300,
        .sequence = options & LAST_NUMBERS ? UINT32_MAX - 3 : 0,
    };
    ipc_sa handle;
    require(ipc_sa_add(d, &c, &handle) == 0);
    return d;
}

static void load(struct ipc_burst *b, const uint8_t *data, size_t size) {
    ipc_burst_reset(b);
    while (size > 0 && b->count < SLOTS) {
        size_t length = data[0] < size - 1 ? data[0] : size - 1;
        require(ipc_burst_add(b, data + 1, (uint32_t)length, 0) == 0);
        data += 1 + length;
        size -= 1 + length;
    }
}

static void check(const ipc_driver *d, const struct ipc_burst *b, uint32_t passed, const uint64_t *before, const uint64_t *after) {
    uint32_t pass = 0;
    uint64_t counted = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        require(b->status[i] > IPC_UNPROCESSED && b->status[i] < IPC_STATUS_COUNT);
        pass += ipc_status_verdict(b->status[i]) == IPC_VERDICT_PASS;
        uint32_t slot = i * b->stride;
        require(b->offset[i] >= slot && b->offset[i] + b->length[i] <= slot + b->stride);
        require(b->filter[i] == IPC_NO_FILTER_INDEX || b->filter[i] < ipc_driver_filter_count(d));
    }
    for (int i = 0; i < IPC_STATUS_COUNT; i++)
        counted += after[i] - before[i];
    require(pass == passed && counted == b->count);
}

static void run(ipc_driver *d, struct ipc_burst *b, int outbound) {
    struct ipc_counters before, after;
    ipc_driver_counters(d, &before);
    uint32_t passed = outbound ? ipc_outbound(d, b) : ipc_inbound(d, b);
    ipc_driver_counters(d, &after);
    check(d, b, passed, outbound ? before.status_outbound : before.status_inbound,
          outbound ? after.status_outbound : after.status_inbound);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    int options = data[0], damage = data[1];
    struct ipc_burst *b;
    require(ipc_burst_create(SLOTS, 300, &b) == 0);
    load(b, data + 2, size - 2);
    if (options & SEAL) {
        ipc_driver *sender = make(((options | OUTBOUND) ^ (options & OTHER_MODE ? TUNNEL : 0)) & ~ONLY_UDP);
        run(sender, b, 1);
        for (uint32_t i = 0; i < b->count; i++)
            if (b->length[i] && damage)
                ipc_burst_packet(b, i)[((uint32_t)damage * 7 + i) % b->length[i]] ^= (uint8_t)(damage | 1);
        ipc_driver_destroy(sender);
        options &= ~(OUTBOUND | LAST_NUMBERS);
    }
    ipc_driver *d = make(options);
    run(d, b, options & OUTBOUND);
    struct ipc_upcall u;
    for (uint32_t i = 0; ipc_upcall_next(d, &u); i++)
        require(i < SLOTS * 2 && u.kind <= IPC_UPCALL_EXPIRED);
    require(ipc_acquire_failed(d, 8, HOST_A, HOST_B) <= SLOTS);
    /* What they are now goes through once more. */
    run(d, b, options & OUTBOUND);
    ipc_driver_destroy(d);
    ipc_burst_destroy(b);
    return 0;
}
