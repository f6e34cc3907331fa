/* Two packets of one burst, the second past the hard lifetime of their SA; prints the verdicts. */
#include <stdio.h>
#include <stdlib.h>

#include "ipsec_core/driver.h"

#define SECOND UINT64_C(1000000000)

static void must(int code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ipc_strerror(code));
        exit(1);
    }
}

static ipc_driver *made(enum ipc_direction direction, uint8_t service, ipc_time hard_time) {
    static const struct ipc_driver_config plain;
    static const struct ipc_filter all = {.reference = 1, .direction = IPC_OUTBOUND, .action = IPC_NEGOTIATE};
    static const uint8_t key[20] = "0123456789abcdefghi";
    struct ipc_sa_config c = {.direction = (uint8_t)direction,
                              .service = service,
                              .integrity = IPC_INTEGRITY_HMAC_SHA1_96,
                              .spi = 0x1001,
                              .source = ipc_address_of_ipv4(0x0a010001),
                              .destination = ipc_address_of_ipv4(0x0a010002),
                              .filter = 1,
                              .replay_window = 64,
                              .integrity_key = key,
                              .integrity_key_length = sizeof key,
                              .hard_time = hard_time};
    ipc_driver *d;
    ipc_sa handle;
    must(ipc_driver_create(&plain, &d));
    must(ipc_driver_set_filters(d, &all, 1));
    must(ipc_sa_add(d, &c, &handle));
    return d;
}

int main(void) {
    static const uint8_t packet[28] = {0x45, 0, 0, 28, 0, 7, 0, 0, 64, 253, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2};
    for (uint8_t service = IPC_SERVICE_ESP; service <= IPC_SERVICE_AH; service++) {
        struct ipc_burst *b;
        must(ipc_burst_create(2, 100, &b));
        must(ipc_burst_add(b, packet, sizeof packet, SECOND));
        must(ipc_burst_add(b, packet, sizeof packet, 60 * SECOND));
        ipc_driver *sender = made(IPC_OUTBOUND, service, 0);
        ipc_driver *receiver = made(IPC_INBOUND, service, 30 * SECOND);
        (void)ipc_outbound(sender, b);
        (void)ipc_inbound(receiver, b);
        printf("%s %s\n", ipc_status_name(b->status[0]), ipc_status_name(b->status[1]));
        ipc_driver_destroy(sender);
        ipc_driver_destroy(receiver);
        ipc_burst_destroy(b);
    }
    return 0;
}
