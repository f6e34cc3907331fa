/* The adapter: what it can, what it holds. */
#include "nic_private.h"

#include <stdlib.h>

int ipc_nic_create(const struct ipc_nic_config *config, ipc_nic **out) {
    if (config->capabilities & ~IPC_NIC_CAN_ALL || config->mtu < IPC_IPV4_MIN_MTU ||
        config->mtu > IPC_PACKET_MAX)
        return IPC_E(INVALID);
    ipc_nic *nic = calloc(1, sizeof *nic);
    if (!nic) return IPC_E(NO_MEMORY);
    nic->config = *config;
    nic->fault_every = 1;
    *out = nic;
    return 0;
}

void ipc_nic_free(ipc_nic *nic) {
    for (unsigned i = 0; i < IPC_NIC_ENGINES; i++)
        if (nic->engine[i]) ipc_crypto_backend(i)->engine_destroy(nic->engine[i]);
    free(nic);
}

void ipc_nic_destroy(ipc_nic *nic) {
    if (!nic) return;
    nic->orphan = 1;
    if (!nic->driver) ipc_nic_free(nic);
}

void ipc_nic_config(const ipc_nic *nic, struct ipc_nic_config *config) {
    *config = nic->config;
}

uint32_t ipc_nic_capabilities(const ipc_nic *nic) {
    return nic->off ? 0 : nic->config.capabilities;
}

int ipc_nic_attached(const ipc_nic *nic) {
    return nic->driver != NULL;
}

void ipc_nic_statistics(const ipc_nic *nic, struct ipc_nic_statistics *statistics) {
    *statistics = nic->statistics;
}

int ipc_nic_set_fault(ipc_nic *nic, unsigned fault, uint32_t every, unsigned status) {
    if (fault >= IPC_NIC_FAULT_COUNT || every == 0 || status >= IPC_NIC_STATUS_COUNT) return IPC_E(INVALID);
    nic->fault = (uint8_t)fault;
    nic->fault_every = every;
    nic->fault_status = (uint8_t)status;
    nic->due[IPC_OUTBOUND] = nic->due[IPC_INBOUND] = 0;
    return 0;
}

/* The bits that an SA needs; a bit that no NIC has for what NDIS 5 does not know. */
static uint32_t needs(const struct ipc_sa_config *c) {
    const uint32_t never = ~IPC_NIC_CAN_ALL;
    uint32_t bits = 0;
    if (c->esn || c->encapsulation_source || !ipc_address_is_ipv4(c->destination)) return never;
    switch (c->integrity) {
    case IPC_INTEGRITY_NONE: break;
    case IPC_INTEGRITY_HMAC_MD5_96: bits |= IPC_NIC_CAN(AH_MD5); break;
    case IPC_INTEGRITY_HMAC_SHA1_96: bits |= IPC_NIC_CAN(AH_SHA_1); break;
    default: return never;
    }
    if (c->service == IPC_SERVICE_AH)
        return bits | (c->mode == IPC_TUNNEL ? IPC_NIC_CAN(AH_TUNNEL) : IPC_NIC_CAN(AH_TRANSPORT)) |
               (c->direction == IPC_OUTBOUND ? IPC_NIC_CAN(AH_SEND) : IPC_NIC_CAN(AH_RECEIVE));
    switch (c->encryption) {
    case IPC_ENCRYPTION_NULL: bits |= IPC_NIC_CAN(ESP_NULL); break;
    case IPC_ENCRYPTION_DES_CBC: bits |= IPC_NIC_CAN(ESP_DES); break;
    case IPC_ENCRYPTION_3DES_CBC: bits |= IPC_NIC_CAN(ESP_TRIPLE_DES); break;
    default: return never;
    }
    return bits | (c->mode == IPC_TUNNEL ? IPC_NIC_CAN(ESP_TUNNEL) : IPC_NIC_CAN(ESP_TRANSPORT)) |
           (c->direction == IPC_OUTBOUND ? IPC_NIC_CAN(ESP_SEND) : IPC_NIC_CAN(ESP_RECEIVE));
}

static const struct ipc_nic_suite *suite_for(ipc_nic *nic, const struct ipc_crypto_suite *crypto,
                                             const struct ipc_crypto_backend *host) {
    for (uint32_t i = 0; i < nic->suite_count; i++) {
        const struct ipc_crypto_suite *known = &nic->suites[i].suite.crypto;
        if (known->encryption == crypto->encryption && known->integrity == crypto->integrity &&
            known->ah == crypto->ah)
            return &nic->suites[i];
    }
    const struct ipc_crypto_backend *backend = ipc_crypto_choose(crypto, NULL);
    if (!backend || nic->suite_count == IPC_NIC_SUITES) return NULL;
    struct ipc_nic_suite *suite = &nic->suites[nic->suite_count];
    for (unsigned i = 0; i < IPC_NIC_ENGINES; i++)
        if (ipc_crypto_backend(i) == backend) {
            if (!nic->engine[i]) nic->engine[i] = backend->engine_create();
            if (!nic->engine[i]) return NULL;
            *suite = (struct ipc_nic_suite){{host, suite, *crypto}, backend, nic->engine[i], nic};
            nic->suite_count++;
            return suite;
        }
    return NULL;
}

struct ipc_nic_sa *ipc_nic_sa_add(ipc_nic *nic, const struct ipc_sa_config *c,
                                  const struct ipc_crypto_backend *host) {
    const struct ipc_crypto_suite crypto = {c->encryption, c->integrity, 0, c->service == IPC_SERVICE_AH};
    nic->statistics.sa_offers++;
    if (!ipc_nic_can(nic, needs(c))) {
        nic->statistics.sa_refusals++;
        return NULL;
    }
    const struct ipc_nic_suite *suite = suite_for(nic, &crypto, host);
    int room = nic->statistics.sas < nic->config.sa_capacity;
    struct ipc_nic_sa *sa = suite && room ? calloc(1, sizeof *sa) : NULL;
    if (sa) sa->key = suite->backend->key_create(suite->engine, &crypto, c->encryption_key, c->integrity_key);
    if (!sa || !sa->key) {
        free(sa);
        nic->statistics.sa_no_room++;
        return NULL;
    }
    sa->suite = suite;
    sa->direction = c->direction;
    sa->mode = c->mode;
    sa->service = c->service;
    sa->icv_length = ipc_integrity_info(c->integrity)->icv_length;
    sa->next = nic->sas;
    nic->sas = sa;
    nic->statistics.sas++;
    return sa;
}

void ipc_nic_sa_delete(ipc_nic *nic, struct ipc_nic_sa *sa) {
    struct ipc_nic_sa **link = &nic->sas;
    while (*link != sa)
        link = &(*link)->next;
    *link = sa->next;
    sa->suite->backend->key_destroy(sa->key);
    free(sa);
    nic->statistics.sas--;
    nic->statistics.sa_deletions++;
}

/* The nth name or text of a list. */
#define NAMES(function, list, entry)                                                                         \
    const char *function(unsigned index) {                                                                   \
        static const char *const table[] = {list(entry)};                                                    \
        return index < sizeof table / sizeof *table ? table[index] : NULL;                                   \
    }
#define NAME(name, text) #name,
#define TEXT(name, text) text,
#define NAME_ALONE(name) #name,
NAMES(ipc_nic_capability_name, IPC_NIC_CAPABILITY_LIST, NAME)
NAMES(ipc_nic_capability_text, IPC_NIC_CAPABILITY_LIST, TEXT)
NAMES(ipc_nic_fault_name, IPC_NIC_FAULT_LIST, NAME)
NAMES(ipc_nic_fault_text, IPC_NIC_FAULT_LIST, TEXT)
NAMES(ipc_nic_status_text, IPC_NIC_STATUS_LIST, TEXT)
NAMES(ipc_nic_statistic_name, IPC_NIC_STATISTIC_LIST, NAME)
NAMES(ipc_nic_statistic_text, IPC_NIC_STATISTIC_LIST, TEXT)
NAMES(ipc_nic_task_name, IPC_NIC_TASK_LIST, NAME_ALONE)
NAMES(ipc_nic_check_name, IPC_NIC_CHECK_LIST, NAME_ALONE)
