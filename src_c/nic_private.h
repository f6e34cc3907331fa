/* The NIC from inside, and the two sides of IPsec offload: what the adapter does (nic*.c) and what the driver
 * makes of it (offload.c). Private. */
#ifndef IPC_NIC_PRIVATE_H
#define IPC_NIC_PRIVATE_H

#include "internal.h"
#include "ipsec_core/nic.h"

#define IPC_NIC_SUITES  16u /* of Windows 2000 there are 11: three ciphers by three ICVs, two of AH */
#define IPC_NIC_ENGINES 4u

/* Operations of one offloaded suite. The driver sees the first member; its engine is this record. */
struct ipc_nic_suite {
    struct ipc_suite suite;
    const struct ipc_crypto_backend *backend;
    void *engine;
    ipc_nic *nic;
};

/* An SA on the NIC; the handle that the host has of it. It stands in an operation where the key is. */
struct ipc_nic_sa {
    struct ipc_nic_sa *next;
    const struct ipc_nic_suite *suite;
    void *key;
    /* the host's own means, for what the NIC does not do */
    const struct ipc_suite *host_suite;
    const void *host_key;
    uint32_t index;
    uint8_t direction, mode, service, icv_length;
    uint8_t delete_request;
};

struct ipc_nic {
    struct ipc_nic_config config;
    const ipc_driver *driver; /* to which it is attached */
    uint8_t off;              /* EnableOffload = 0 */
    uint8_t orphan;           /* its owner is gone, the driver lets it go */
    uint8_t fault, fault_status;
    uint32_t fault_every;
    uint32_t due[2]; /* packets since the last fault, by direction */
    uint8_t delete_requests;
    uint8_t handed[IPC_BURST_MAX]; /* SAs that the NIC takes off the packet of the burst */
    struct ipc_nic_sa *sas;
    struct ipc_nic_suite suites[IPC_NIC_SUITES];
    uint32_t suite_count;
    void *engine[IPC_NIC_ENGINES];
    struct ipc_nic_statistics statistics;
};

/* What the NIC says of a received packet. */
struct ipc_nic_result {
    uint8_t done; /* 0: untouched */
    uint8_t status;
    uint8_t delete_request;
};

/* nic.c: the handle, or NULL: refused. `host` are the functions of offload.c that see the operations first.
 */
struct ipc_nic_sa *ipc_nic_sa_add(ipc_nic *nic, const struct ipc_sa_config *config,
                                  const struct ipc_crypto_backend *host);
void ipc_nic_sa_delete(ipc_nic *nic, struct ipc_nic_sa *sa);
void ipc_nic_free(ipc_nic *nic);

/* nic_ipsec.c: operations of one suite, whose keys are handles. */
void ipc_nic_protect(const struct ipc_nic_suite *suite, struct ipc_crypto_op *ops, unsigned count);
void ipc_nic_unprotect(const struct ipc_nic_suite *suite, struct ipc_crypto_op *ops, unsigned count,
                       struct ipc_nic_result *results);

/* nic_checksum.c: does the checksum tasks of an IPv4 packet. */
void ipc_nic_checksums(ipc_nic *nic, uint8_t *packet, uint32_t length, unsigned tasks);

/* nic_segment.c, nic_checksum.c */
static inline int ipc_nic_can(const ipc_nic *nic, uint32_t capabilities) {
    return (ipc_nic_capabilities(nic) & capabilities) == capabilities;
}

#endif
