/* AH and ESP as the adapter does them, and as it does them wrong (see the table in nic.h). */
#include "nic_private.h"

/* Whether the next packet of a direction has the fault. */
static int due(ipc_nic *nic, enum ipc_direction direction) {
    if (++nic->due[direction] < nic->fault_every) return 0;
    nic->due[direction] = 0;
    return 1;
}

/* Operations from[..] without a fault: handles become keys, and the back end gets them all at once. */
static void run(const struct ipc_nic_suite *suite, struct ipc_crypto_op *ops, unsigned count,
                enum ipc_direction direction) {
    if (!count) return;
    for (unsigned i = 0; i < count; i++)
        ops[i].key = ((const struct ipc_nic_sa *)ops[i].key)->key;
    (direction == IPC_OUTBOUND ? suite->backend->encrypt
                               : suite->backend->decrypt)(suite->engine, &suite->suite.crypto, ops, count);
}

static void damage_sent(const struct ipc_nic_suite *suite, struct ipc_crypto_op *op) {
    const struct ipc_nic_sa *sa = op->key;
    if (suite->nic->fault == IPC_NIC_FAULT_WRONG_ICV) {
        run(suite, op, 1, IPC_OUTBOUND);
        for (unsigned i = 0; i < sa->icv_length; i++)
            op->icv[i] ^= 0xff;
    } else { /* LOST_SA: nothing is computed */
        memset(op->icv, 0, sa->icv_length);
        op->ok = 1;
    }
    suite->nic->statistics.faults++;
}

void ipc_nic_protect(const struct ipc_nic_suite *suite, struct ipc_crypto_op *ops, unsigned count) {
    ipc_nic *nic = suite->nic;
    unsigned from = 0;
    nic->statistics.ipsec_sent += count;
    if (nic->fault == IPC_NIC_FAULT_WRONG_ICV || nic->fault == IPC_NIC_FAULT_LOST_SA)
        for (unsigned i = 0; i < count; i++) {
            const struct ipc_nic_sa *sa = ops[i].key;
            if (nic->fault == IPC_NIC_FAULT_WRONG_ICV && !sa->icv_length) continue;
            if (!due(nic, IPC_OUTBOUND)) continue;
            run(suite, ops + from, i - from, IPC_OUTBOUND);
            damage_sent(suite, &ops[i]);
            from = i + 1;
        }
    run(suite, ops + from, count - from, IPC_OUTBOUND);
}

static enum ipc_nic_status failure_of(const struct ipc_nic_sa *sa) {
    if (sa->mode == IPC_TUNNEL)
        return sa->service == IPC_SERVICE_AH ? IPC_NIC_STATUS_TUNNEL_AH : IPC_NIC_STATUS_TUNNEL_ESP;
    return sa->service == IPC_SERVICE_AH ? IPC_NIC_STATUS_TRANSPORT_AH : IPC_NIC_STATUS_TRANSPORT_ESP;
}

static void damage_received(const struct ipc_nic_suite *suite, struct ipc_crypto_op *op,
                            struct ipc_nic_result *result) {
    const struct ipc_nic_sa *sa = op->key;
    ipc_nic *nic = suite->nic;
    nic->statistics.faults++;
    result->done = nic->fault != IPC_NIC_FAULT_LOST_SA;
    if (nic->fault == IPC_NIC_FAULT_FAILED_STATUS) {
        result->status = nic->fault_status ? nic->fault_status : (uint8_t)failure_of(sa);
    } else if (nic->fault == IPC_NIC_FAULT_GARBAGE && sa->service == IPC_SERVICE_ESP) {
        run(suite, op, 1, IPC_INBOUND);
        /* Not random, so that the trailer is wrong for certain and not 255 times of 256. */
        for (uint32_t i = 0; i < op->text_length; i++)
            op->text[i] ^= 0xff;
    }
}

void ipc_nic_unprotect(const struct ipc_nic_suite *suite, struct ipc_crypto_op *ops, unsigned count,
                       struct ipc_nic_result *results) {
    ipc_nic *nic = suite->nic;
    unsigned from = 0;
    memset(results, 0, count * sizeof *results);
    uint8_t failure[IPC_BURST_MAX];
    for (unsigned i = 0; i < count; i++)
        failure[i] = (uint8_t)failure_of(ops[i].key);
    for (unsigned to = 0; to <= count; to++) {
        int fault = to < count && nic->fault >= IPC_NIC_FAULT_FAILED_STATUS && due(nic, IPC_INBOUND);
        if (fault && nic->fault == IPC_NIC_FAULT_DELETE_REQUEST) {
            results[to].delete_request = 1;
            nic->statistics.faults++;
            continue;
        }
        if (to < count && !fault) continue;
        run(suite, ops + from, to - from, IPC_INBOUND);
        for (; from < to; from++) {
            results[from].done = 1;
            results[from].status = ops[from].ok ? IPC_NIC_STATUS_SUCCESS : failure[from];
        }
        if (fault) damage_received(suite, &ops[to], &results[to]);
        from = to + 1;
    }
    for (unsigned i = 0; i < count; i++) {
        nic->statistics.ipsec_received += results[i].done;
        nic->statistics.ipsec_failed += results[i].status != IPC_NIC_STATUS_SUCCESS;
    }
}
