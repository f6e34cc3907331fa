/*
 * The driver's side of IPsec offload: which SAs the NIC is given, which packets, and what becomes of what it
 * says about them.
 */
#include "nic_private.h"

/* --- operations on their way to the NIC and back --- */

static void protect(void *engine, const struct ipc_crypto_suite *crypto, struct ipc_crypto_op *ops,
                    unsigned count) {
    (void)crypto;
    ipc_nic_protect(engine, ops, count);
}

/* A packet that the NIC left untouched is the host's. */
static void in_software(const struct ipc_nic_sa *sa, struct ipc_crypto_op *op) {
    op->key = sa->host_key;
    sa->host_suite->backend->decrypt(sa->host_suite->engine, &sa->host_suite->crypto, op, 1);
}

static void unprotect(void *engine, const struct ipc_crypto_suite *crypto, struct ipc_crypto_op *ops,
                      unsigned count) {
    const struct ipc_nic_suite *suite = engine;
    ipc_nic *nic = suite->nic;
    struct ipc_nic_sa *sas[IPC_BURST_MAX];
    struct ipc_nic_result results[IPC_BURST_MAX];
    (void)crypto;
    for (unsigned i = 0; i < count; i++)
        sas[i] = (struct ipc_nic_sa *)(uintptr_t)ops[i].key; /* the host made it, and marks it below */
    ipc_nic_unprotect(suite, ops, count, results);
    for (unsigned i = 0; i < count; i++) {
        if (results[i].delete_request) nic->delete_requests = sas[i]->delete_request = 1;
        if (results[i].done) {
            ops[i].nic_status = results[i].status;
            ops[i].ok = results[i].status == IPC_NIC_STATUS_SUCCESS;
        } else {
            nic->statistics.software_received++;
            in_software(sas[i], &ops[i]);
        }
    }
}

/* Stands where a crypto back end stands, for operations whose keys are handles. */
static const struct ipc_crypto_backend through_nic = {
    .name = "nic",
    .encrypt = protect,
    .decrypt = unprotect,
};

enum ipc_status ipc_offload_failure(const struct ipc_sa_hot *sa, const struct ipc_crypto_op *op) {
    if (op->nic_status == IPC_NIC_STATUS_INVALID_SYNTAX || op->nic_status == IPC_NIC_STATUS_INVALID_PROTOCOL)
        return IPC_MALFORMED;
    return sa->authenticated ? IPC_NOT_AUTHENTICATED : IPC_NOT_DECRYPTED;
}

/* --- packets --- */

static int is_ipsec(uint8_t protocol) {
    return protocol == IPC_PROTO_ESP || protocol == IPC_PROTO_AH;
}

/* Whether the NIC takes two SAs of one packet: AH around ESP, transport mode in a tunnel. */
static int combines(const ipc_nic *nic, const struct ipc_sa_hot *outer, uint8_t inner_protocol) {
    int outer_ah = outer->service == IPC_SERVICE_AH, inner_ah = inner_protocol == IPC_PROTO_AH;
    if (outer_ah != inner_ah && !ipc_nic_can(nic, IPC_NIC_CAN(AH_ESP_COMBINED))) return 0;
    if (outer->outer_header) return ipc_nic_can(nic, IPC_NIC_CAN(TRANSPORT_TUNNEL_COMBINED));
    return outer_ah && !inner_ah;
}

/* The protocol of what an SA carries: of the packet inside in tunnel mode. `carried` is in clear. */
static uint8_t protocol_inside(const struct ipc_sa_hot *sa, const uint8_t *carried, uint8_t next_header) {
    if (!sa->outer_header) return next_header;
    return carried[next_header == IPC_PROTO_IPV4 ? 9 : 6];
}

/* RFC 791 3.2, RFC 8200 4.5: a fragment in a tunnel. */
static int fragment_inside(const struct ipc_sa_hot *sa, const uint8_t *carried, uint8_t next_header) {
    if (!sa->outer_header) return 0;
    return next_header == IPC_PROTO_IPV4 ? (ipc_load16(carried + 6) & IPC_FRAGMENT_BITS) != 0
                                         : carried[6] == IPC_PROTO_FRAGMENT;
}

/* What is said of both directions by the header in front of the IPsec header. */
static int plain(const ipc_nic *nic, const uint8_t *packet) {
    if (packet[0] != 0x45 && !(packet[0] >> 4 == 4 && ipc_nic_can(nic, IPC_NIC_CAN(V4_OPTIONS)))) return 0;
    return packet[16] < 224; /* class D and E, limited broadcast */
}

/* The SA around this one takes its packets to the NIC as well, and they fit in the end: what the NIC
 * encrypts nobody can put into software afterwards. */
static int outer_follows(const ipc_driver *d, uint32_t index, const uint8_t *packet, uint32_t *total) {
    const struct ipc_sa_hot *sa = ipc_hot(d, index);
    if (sa->outer == IPC_NONE) return 1;
    ipc_sa handle = ipc_ctl(d, index)->config.outer;
    if (!ipc_sa_valid(d, handle)) return 0;
    const struct ipc_sa_hot *outer = ipc_hot(d, sa->outer);
    if (!outer->offload || outer->outer != IPC_NONE || (sa->outer_header && outer->outer_header)) return 0;
    *total += ipc_sa_overhead(d, handle, *total, (packet[0] & 15u) * 4);
    return (!outer->out.path_mtu || *total <= outer->out.path_mtu) &&
           combines(d->nic, outer, sa->service == IPC_SERVICE_AH ? IPC_PROTO_AH : IPC_PROTO_ESP);
}

static void hand_over(ipc_driver *d, uint32_t index, unsigned k) {
    struct ipc_nic_sa *sa = ipc_ctl(d, index)->offload;
    d->op_suite[k] = &sa->suite->suite;
    d->ops[k].key = sa;
}

void ipc_offload_send(ipc_driver *d, const struct ipc_burst *b, uint32_t i, uint32_t index, unsigned k) {
    const struct ipc_sa_hot *sa = ipc_hot(d, index);
    const struct ipc_crypto_op *op = &d->ops[k];
    ipc_nic *nic = d->nic;
    const uint8_t *packet = ipc_burst_packet(b, i), *carried = packet + sa->front;
    int ah = sa->service == IPC_SERVICE_AH;
    uint8_t next_header = ah ? *(op->iv - IPC_AH_HEADER) : op->text[op->text_length - 1];
    uint8_t inside = protocol_inside(sa, carried, next_header);
    uint32_t total = b->length[i];
    if ((sa->out.path_mtu && total > sa->out.path_mtu) || fragment_inside(sa, carried, next_header) ||
        !plain(nic, packet) || (is_ipsec(inside) && !combines(nic, sa, inside)) ||
        !outer_follows(d, index, packet, &total) || total > nic->config.mtu) {
        nic->statistics.software_sent++;
        return;
    }
    hand_over(d, index, k);
}

/* Whether the NIC goes on with a packet off which it has taken one SA. */
static int goes_on(ipc_driver *d, uint32_t i, const struct ipc_sa_hot *sa) {
    if (d->around == IPC_NONE) return 1;
    const struct ipc_sa_hot *outer = ipc_hot(d, d->around);
    return outer->offload && d->nic->handed[i] == 1 && !(sa->outer_header && outer->outer_header) &&
           combines(d->nic, outer, sa->service == IPC_SERVICE_AH ? IPC_PROTO_AH : IPC_PROTO_ESP);
}

void ipc_offload_receive(ipc_driver *d, const struct ipc_burst *b, uint32_t i, uint32_t index, unsigned k) {
    const struct ipc_sa_hot *sa = ipc_hot(d, index);
    const struct ipc_crypto_op *op = &d->ops[k];
    ipc_nic *nic = d->nic;
    int again = d->around != IPC_NONE, taken = plain(nic, ipc_burst_packet(b, i)) && d->rebuilt != i;
    if (sa->service == IPC_SERVICE_AH && taken) { /* of ESP the NIC cannot see what is inside */
        const uint8_t *ah = op->iv - IPC_AH_HEADER, *carried = ah + IPC_AH_HEADER + sa->icv_field;
        uint8_t least = sa->outer_header ? IPC_IPV4_HEADER : 0;
        int whole = op->text + op->text_length >= carried + least;
        uint8_t inside = whole ? protocol_inside(sa, carried, ah[0]) : 0;
        taken = !is_ipsec(inside) || combines(nic, sa, inside);
    }
    taken = taken && goes_on(d, i, sa);
    nic->handed[i] = (uint8_t)(taken ? 1 + again : 0);
    d->ops[k].nic_status = IPC_NIC_STATUS_SUCCESS;
    if (taken)
        hand_over(d, index, k);
    else
        nic->statistics.software_received++;
}

/* --- SAs --- */

void ipc_offload_offer(ipc_driver *d, uint32_t index, const struct ipc_sa_config *config) {
    struct ipc_sa_hot *hot = ipc_hot(d, index);
    if (d->nic->off || hot->service == IPC_SERVICE_SOFT) return;
    struct ipc_nic_sa *sa = ipc_nic_sa_add(d->nic, config, &through_nic);
    if (!sa) return;
    sa->index = index;
    sa->host_suite = hot->suite;
    sa->host_key = hot->key;
    ipc_ctl(d, index)->offload = sa;
    ipc_sa_set_offload(hot, 1);
}

void ipc_offload_withdraw(ipc_driver *d, uint32_t index) {
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    ipc_nic_sa_delete(d->nic, ctl->offload);
    ctl->offload = NULL;
    ipc_sa_set_offload(ipc_hot(d, index), 0);
}

static int mirrored(const struct ipc_sa_config *in, const struct ipc_sa_config *out) {
    return ipc_address_equal(in->source, out->destination) &&
           ipc_address_equal(in->destination, out->source) && in->service == out->service &&
           in->mode == out->mode && in->encryption == out->encryption && in->integrity == out->integrity &&
           ipc_address_equal(in->inner_source, out->inner_destination) &&
           ipc_address_equal(in->inner_destination, out->inner_source) && in->protocol == out->protocol &&
           in->source_port == out->destination_port && in->destination_port == out->source_port;
}

/* The outbound SA that was negotiated with an inbound one: the mirrored one that was added nearest to it. */
static const struct ipc_nic_sa *partner(const ipc_driver *d, const struct ipc_nic_sa *in) {
    const struct ipc_sa_ctl *ctl = ipc_ctl(d, in->index);
    const struct ipc_nic_sa *best = NULL;
    uint64_t nearest = UINT64_MAX;
    for (const struct ipc_nic_sa *sa = d->nic->sas; sa; sa = sa->next) {
        const struct ipc_sa_ctl *other = ipc_ctl(d, sa->index);
        uint64_t apart =
            other->serial > ctl->serial ? other->serial - ctl->serial : ctl->serial - other->serial;
        if (sa->direction != IPC_OUTBOUND || !mirrored(&ctl->config, &other->config) || apart >= nearest)
            continue;
        nearest = apart;
        best = sa;
    }
    return best;
}

void ipc_offload_after_burst(ipc_driver *d) {
    d->rebuilt = IPC_NONE;
    while (d->nic->delete_requests) {
        struct ipc_nic_sa *sa = d->nic->sas;
        while (sa && !sa->delete_request)
            sa = sa->next;
        if (!sa) {
            d->nic->delete_requests = 0;
            break;
        }
        const struct ipc_nic_sa *out = partner(d, sa);
        if (out) ipc_offload_withdraw(d, out->index);
        ipc_offload_withdraw(d, sa->index);
    }
}

/* --- attaching --- */

static void withdraw_all(ipc_driver *d) {
    while (d->nic->sas)
        ipc_offload_withdraw(d, d->nic->sas->index);
}

int ipc_driver_attach_nic(ipc_driver *d, ipc_nic *nic, int enable_offload) {
    if (d->nic || nic->driver) return IPC_E(INVALID);
    nic->driver = d;
    nic->off = !enable_offload;
    d->nic = nic;
    d->around = d->rebuilt = IPC_NONE;
    return 0;
}

void ipc_driver_detach_nic(ipc_driver *d) {
    ipc_nic *nic = d->nic;
    if (!nic) return;
    withdraw_all(d);
    d->nic = NULL;
    nic->driver = NULL;
    nic->off = 0;
    if (nic->orphan) ipc_nic_free(nic);
}

int ipc_driver_has_nic(const ipc_driver *d) {
    return d->nic != NULL;
}

int ipc_driver_enable_offload(ipc_driver *d, int enable_offload) {
    if (!d->nic) return IPC_E(NOT_FOUND);
    if (!enable_offload) withdraw_all(d);
    d->nic->off = !enable_offload;
    return 0;
}
