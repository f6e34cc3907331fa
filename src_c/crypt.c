/* The middle pass: operations of a burst go to the back ends in runs of one suite. */
#include "internal.h"

void ipc_crypt(ipc_driver *d, const struct ipc_burst *burst, unsigned count, enum ipc_direction direction) {
    for (unsigned from = 0; from < count;) {
        const struct ipc_sa_hot *sa = ipc_hot(d, burst->sa[d->op_packet[from]]);
        unsigned to = from + 1;
        for (; to < count; to++) {
            const struct ipc_sa_hot *next = ipc_hot(d, burst->sa[d->op_packet[to]]);
            if (next != sa && (next->backend != sa->backend || next->encryption != sa->encryption ||
                               next->integrity != sa->integrity))
                break;
        }
        (direction == IPC_OUTBOUND ? sa->backend->encrypt : sa->backend->decrypt)(
            sa->engine, sa->encryption, sa->integrity, &d->ops[from], to - from);
        from = to;
    }
}

uint32_t ipc_esp_overhead(enum ipc_mode mode, enum ipc_encryption encryption, enum ipc_integrity integrity,
                          uint32_t length) {
    const struct ipc_encryption_info *e = ipc_encryption_info(encryption);
    const struct ipc_integrity_info *a = ipc_integrity_info(integrity);
    if (!e || !a || length < IPC_IPV4_HEADER) return 0;
    uint32_t payload = mode == IPC_TUNNEL ? length : length - IPC_IPV4_HEADER;
    uint32_t pad = (0u - (payload + IPC_ESP_TRAILER)) & (e->block_length - 1u);
    return (mode == IPC_TUNNEL ? IPC_IPV4_HEADER : 0) + IPC_ESP_HEADER + e->iv_length + pad +
           IPC_ESP_TRAILER + (e->icv_length ? e->icv_length : a->icv_length);
}
