/*
 * From the host to the wire: classify and encapsulate, crypt, count (RFC 2401 5.1, RFC 2406 3.3).
 */
#include "internal.h"

#define AHEAD      4u
#define TUNNEL_TTL 128u /* as the hosts of the time sent; RFC 2401 5.1.2.1 leaves it open */

/* Pad bytes are 1, 2, 3, ... (RFC 2406 2.4). */
static const uint8_t padding[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* Takes the next sequence number and the packet's bytes from the SA, or says why not. Numbers never wrap (RFC
 * 2406 3.3.3). */
static enum ipc_status reserve(ipc_driver *d, struct ipc_sa_hot *sa, uint32_t index, uint32_t payload,
                               ipc_time now) {
    uint64_t bytes = sa->bytes + payload;
    /* Rekey 2^20 numbers before the end: at a million packets a second still a second to negotiate in. */
    if (IPC_UNLIKELY(bytes >= sa->soft_bytes || sa->out.sequence >= UINT32_MAX - (UINT32_C(1) << 20) ||
                     sa->dead)) {
        if (sa->dead) return IPC_EXPIRED;
        if (bytes > sa->hard_bytes) {
            sa->dead = 1;
            ipc_upcall_sa(d, IPC_UPCALL_EXPIRED, index, now);
            return IPC_EXPIRED;
        }
        if (!sa->rekeying) {
            sa->rekeying = 1;
            ipc_upcall_sa(d, IPC_UPCALL_REKEY, index, now);
        }
        if (sa->out.sequence == UINT32_MAX) return IPC_SEQUENCE_EXHAUSTED;
    }
    sa->bytes = bytes;
    sa->packets++;
    sa->out.sequence++;
    return IPC_PROTECTED;
}

/* Builds the ESP packet around the payload, in place, all but the encryption. */
static enum ipc_status encapsulate(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index,
                                   const struct ipc_flow *flow, uint32_t header, struct ipc_crypto_op *op) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t length = b->length[i];
    int tunnel = sa->mode == IPC_TUNNEL;
    if (!tunnel && flow->fragment) return IPC_FRAGMENT;
    uint32_t outer = tunnel ? IPC_IPV4_HEADER : header;
    uint32_t payload = tunnel ? length : length - header;
    uint32_t pad = (0u - (payload + IPC_ESP_TRAILER)) & sa->pad_mask;
    uint32_t front = (tunnel ? IPC_IPV4_HEADER : 0) + IPC_ESP_HEADER + sa->iv_length;
    uint32_t back = pad + IPC_ESP_TRAILER + sa->icv_length;
    uint32_t slot = i * b->stride;
    if (b->offset[i] - slot < front || b->offset[i] - slot + length + back > b->stride ||
        length + front + back > IPC_PACKET_MAX)
        return IPC_TOO_BIG;
    enum ipc_status status = reserve(d, sa, index, payload, b->time[i]);
    if (status != IPC_PROTECTED) return status;

    uint8_t *start = packet - front;
    uint32_t total = length + front + back;
    uint8_t next_header;
    if (tunnel) {
        /* RFC 2401 5.1.2.1: version, TOS and DF from the inner header, the rest made here. */
        next_header = IPC_PROTO_IPV4;
        const uint32_t words[5] = {
            0x45u << 24 | (uint32_t)packet[1] << 16 | total,
            (uint32_t)++d->packet_id << 16 | (ipc_load16(packet + 6) & IPC_FRAGMENT_DF),
            TUNNEL_TTL << 24 | IPC_PROTO_ESP << 16,
            sa->tunnel_source,
            sa->tunnel_destination,
        };
        ipc_store_header(start, words);
    } else {
        next_header = flow->protocol;
        memmove(start, packet, header);
        start[9] = IPC_PROTO_ESP;
        ipc_store16(start + 2, total);
        ipc_header_checksum(start, outer);
    }

    uint8_t *esp = start + outer;
    ipc_store64(esp, (uint64_t)sa->spi << 32 | (uint32_t)sa->out.sequence);
    op->key = sa->key;
    op->aad = esp;
    op->iv = esp + IPC_ESP_HEADER;
    op->text = op->iv + sa->iv_length;
    op->text_length = payload + pad + IPC_ESP_TRAILER;
    op->icv = op->text + op->text_length;
    /* A counter for GCM, which must never repeat (RFC 4106 3.1); for CBC any value, see crypto.h. */
    ipc_store64(op->iv,
                sa->integrity == IPC_INTEGRITY_NONE ? sa->out.sequence : ipc_random(&sa->out.iv_state));
    memcpy(op->text + payload, padding, pad);
    op->text[payload + pad] = (uint8_t)pad;
    op->text[payload + pad + 1] = next_header;
    b->offset[i] -= front;
    b->length[i] = total;

    d->counters.confidential_bytes_sent += sa->confidential ? payload : 0;
    d->counters.authenticated_bytes_sent += sa->authenticated ? payload : 0;
    return IPC_PROTECTED;
}

static enum ipc_status classify(ipc_driver *d, struct ipc_burst *b, uint32_t i, struct ipc_crypto_op *op) {
    struct ipc_flow flow;
    uint32_t header, filter, sa;
    const uint8_t *packet = ipc_burst_packet(b, i);
    switch (ipc_parse_ipv4(packet, &b->length[i], &flow, &header)) {
    case IPC_PARSE_NOT_IPV4: return IPC_NOT_IPV4;
    case IPC_PARSE_MALFORMED: return IPC_MALFORMED;
    default: break;
    }
    if (ipc_flow_exempt(&flow)) return IPC_EXEMPT;
    ipc_decide(d, IPC_OUTBOUND, &flow, &filter, &sa);
    b->filter[i] = filter;
    if (filter == IPC_NONE) return IPC_NO_FILTER;
    d->filters[filter].packets++;
    switch (d->filters[filter].filter.action) {
    case IPC_BLOCK: return IPC_BLOCKED;
    case IPC_NEGOTIATE: break;
    default: return IPC_PERMITTED;
    }
    if (sa == IPC_NONE) return ipc_hold(d, filter, &flow, packet, b->length[i], b->time[i]);
    b->sa[i] = sa;
    return encapsulate(d, b, i, sa, &flow, header, op);
}

uint32_t ipc_outbound(ipc_driver *d, struct ipc_burst *b) {
    unsigned ops = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        if (i + AHEAD < b->count) {
            const uint8_t *ahead = ipc_burst_packet(b, i + AHEAD);
            __builtin_prefetch(ahead);
            __builtin_prefetch(ahead + b->length[i + AHEAD], 1);
        }
        b->sa[i] = IPC_NO_SA;
        b->filter[i] = IPC_NO_FILTER_INDEX;
        enum ipc_status status = classify(d, b, i, &d->ops[ops]);
        if (status == IPC_PROTECTED) d->op_packet[ops++] = (uint16_t)i;
        b->status[i] = (uint8_t)status;
    }
    d->counters.packets_outbound += b->count;
    ipc_crypt(d, b, ops, IPC_OUTBOUND);
    for (unsigned k = 0; k < ops; k++)
        if (IPC_UNLIKELY(!d->ops[k].ok)) b->status[d->op_packet[k]] = IPC_NOT_ENCRYPTED;
    uint32_t passed = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        enum ipc_status status = b->status[i];
        passed += ipc_passes(status);
        d->counters.status_outbound[status]++;
    }
    return passed;
}
