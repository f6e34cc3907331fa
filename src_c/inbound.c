/*
 * From the wire to the host: look up, check the window, crypt, check again and count (RFC 2401 5.2, RFC
 * 2406 3.4).
 */
#include "internal.h"

#define AHEAD 4u

static enum ipc_status clear_packet(ipc_driver *d, struct ipc_burst *b, uint32_t i,
                                    const struct ipc_flow *flow) {
    uint32_t filter, sa;
    if (ipc_flow_exempt(flow)) return IPC_EXEMPT;
    ipc_decide(d, IPC_INBOUND, flow, &filter, &sa);
    b->filter[i] = filter;
    if (filter == IPC_NONE) return IPC_NO_FILTER;
    d->filters[filter].packets++;
    switch (d->filters[filter].filter.action) {
    case IPC_PERMIT: return IPC_PERMITTED;
    case IPC_PASSTHROUGH: return IPC_PASSED_THROUGH;
    case IPC_BLOCK: return IPC_BLOCKED;
    default: return IPC_SHOULD_BE_SECURED;
    }
}

/* Everything about an ESP packet that can be said without its key. */
static enum ipc_status prepare(ipc_driver *d, struct ipc_burst *b, uint32_t i, const struct ipc_flow *flow,
                               uint32_t header, struct ipc_crypto_op *op) {
    uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t length = b->length[i];
    if (flow->fragment) return IPC_FRAGMENT;
    if (length - header < IPC_ESP_HEADER) return IPC_MALFORMED;
    uint8_t *esp = packet + header;
    uint32_t index = ipc_spi_lookup(d, ipc_load32(esp), flow->destination, IPC_PROTO_ESP);
    if (index == IPC_NO_SA) {
        d->counters.bad_spi_packets++;
        return IPC_BAD_SPI;
    }
    b->sa[i] = index;
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    uint32_t around = IPC_ESP_HEADER + sa->iv_length + sa->icv_length;
    if (length - header < around + IPC_ESP_TRAILER) return IPC_MALFORMED;
    uint32_t text = length - header - around;
    if (text & sa->pad_mask) return IPC_MALFORMED;
    if (!ipc_window_check(&sa->in.window, ipc_load32(esp + 4))) return IPC_REPLAYED;
    if (IPC_UNLIKELY(sa->dead)) return IPC_EXPIRED;
    op->key = sa->key;
    op->aad = esp;
    op->iv = esp + IPC_ESP_HEADER;
    op->text = op->iv + sa->iv_length;
    op->text_length = text;
    op->icv = op->text + text;
    return IPC_PROTECTED;
}

static enum ipc_status classify(ipc_driver *d, struct ipc_burst *b, uint32_t i, struct ipc_crypto_op *op) {
    struct ipc_flow flow;
    uint32_t header;
    switch (ipc_parse_ipv4(ipc_burst_packet(b, i), &b->length[i], &flow, &header)) {
    case IPC_PARSE_NOT_IPV4: return IPC_NOT_IPV4;
    case IPC_PARSE_MALFORMED: return IPC_MALFORMED;
    default: break;
    }
    if (flow.protocol == IPC_PROTO_ESP) return prepare(d, b, i, &flow, header, op);
    return clear_packet(d, b, i, &flow);
}

/* Length of the payload in front of the trailer, or -1. Pad bytes count up from 1 (RFC 2406 2.4). */
static int64_t strip_trailer(const struct ipc_crypto_op *op) {
    uint32_t pad = op->text[op->text_length - 2];
    if (pad + IPC_ESP_TRAILER > op->text_length) return -1;
    uint32_t payload = op->text_length - IPC_ESP_TRAILER - pad;
    uint8_t wrong = 0;
    for (uint32_t i = 0; i < pad; i++)
        wrong |= (uint8_t)(op->text[payload + i] ^ (uint8_t)(i + 1));
    return wrong ? -1 : (int64_t)payload;
}

/* Takes ESP off a packet whose ICV was good and checks what comes out against the SA. */
static enum ipc_status decapsulate(struct ipc_burst *b, uint32_t i, const struct ipc_sa_hot *sa,
                                   const struct ipc_crypto_op *op, uint32_t *payload) {
    int64_t stripped = strip_trailer(op);
    uint8_t next_header = op->text[op->text_length - 1];
    if (stripped < 0) return IPC_NOT_DECRYPTED;
    *payload = (uint32_t)stripped;
    uint8_t *packet = ipc_burst_packet(b, i), *start;
    uint32_t length;
    if (sa->mode == IPC_TUNNEL) {
        if (next_header != IPC_PROTO_IPV4) return IPC_NOT_DECRYPTED;
        start = op->text;
        length = *payload;
    } else {
        uint32_t header = (uint32_t)(op->aad - packet);
        start = op->text - header;
        length = header + *payload;
        memmove(start, packet, header);
        start[9] = next_header;
        ipc_store16(start + 2, length);
        ipc_header_checksum(start, header);
    }
    struct ipc_flow flow;
    uint32_t header;
    if (ipc_parse_ipv4(start, &length, &flow, &header) != IPC_PARSE_OK) return IPC_NOT_DECRYPTED;
    if (!ipc_sa_covers(sa, &flow)) return IPC_WRONG_SELECTOR;
    b->offset[i] = (uint32_t)(start - b->arena);
    b->length[i] = length;
    return IPC_PROTECTED;
}

static enum ipc_status commit(ipc_driver *d, struct ipc_burst *b, uint32_t i,
                              const struct ipc_crypto_op *op) {
    uint32_t index = b->sa[i];
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    uint64_t number = ipc_load32(op->aad + 4);
    uint32_t payload;
    /* Earlier packets of the burst may have taken the same number or ended the SA, so both are asked again.
     * The window first, as in prepare(), for it never takes back a refusal: what becomes of a packet does not
     * depend on how packets are put into bursts. */
    if (IPC_UNLIKELY(!ipc_window_check(&sa->in.window, number))) return IPC_REPLAYED;
    if (IPC_UNLIKELY(sa->dead)) return IPC_EXPIRED;
    if (IPC_UNLIKELY(!op->ok)) return IPC_NOT_AUTHENTICATED;
    ipc_window_advance(&sa->in.window, number);
    enum ipc_status status = decapsulate(b, i, sa, op, &payload);
    if (status != IPC_PROTECTED) return status;
    uint64_t bytes = sa->bytes + payload;
    if (IPC_UNLIKELY(bytes >= sa->soft_bytes)) {
        if (bytes > sa->hard_bytes) {
            sa->dead = 1;
            ipc_upcall_sa(d, IPC_UPCALL_EXPIRED, index, b->time[i]);
            return IPC_EXPIRED;
        }
        if (!sa->rekeying) {
            sa->rekeying = 1;
            ipc_upcall_sa(d, IPC_UPCALL_REKEY, index, b->time[i]);
        }
    }
    sa->bytes = bytes;
    sa->packets++;
    d->counters.confidential_bytes_received += sa->confidential ? payload : 0;
    d->counters.authenticated_bytes_received += sa->authenticated ? payload : 0;
    return IPC_PROTECTED;
}

/* The article: "not authenticated" is a wrong ICV; "not decrypted" is every packet of an encrypting SA that
 * yields no clear text, for an expired SA, a wrong ICV or a wrong trailer. */
static void count_failure(ipc_driver *d, struct ipc_sa_hot *sa, enum ipc_status status) {
    sa->in.dropped++;
    d->counters.packets_not_authenticated += status == IPC_NOT_AUTHENTICATED;
    if (status == IPC_NOT_AUTHENTICATED || status == IPC_NOT_DECRYPTED || status == IPC_EXPIRED)
        d->counters.packets_not_decrypted += sa->confidential;
}

uint32_t ipc_inbound(ipc_driver *d, struct ipc_burst *b) {
    unsigned ops = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        if (i + AHEAD < b->count) __builtin_prefetch(ipc_burst_packet(b, i + AHEAD));
        b->sa[i] = IPC_NO_SA;
        b->filter[i] = IPC_NO_FILTER_INDEX;
        enum ipc_status status = classify(d, b, i, &d->ops[ops]);
        if (status == IPC_PROTECTED) d->op_packet[ops++] = (uint16_t)i;
        b->status[i] = (uint8_t)status;
    }
    d->counters.packets_inbound += b->count;
    ipc_crypt(d, b, ops, IPC_INBOUND);
    for (unsigned k = 0; k < ops; k++)
        b->status[d->op_packet[k]] = (uint8_t)commit(d, b, d->op_packet[k], &d->ops[k]);
    uint32_t passed = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        enum ipc_status status = b->status[i];
        d->counters.status_inbound[status]++;
        if (ipc_passes(status))
            passed++;
        else if (b->sa[i] != IPC_NO_SA)
            count_failure(d, ipc_hot(d, b->sa[i]), status);
    }
    return passed;
}
