#include "ipsec_core/frag.h"

#include "ip.h"

struct pieces {
    const struct ipc_burst *in;
    struct ipc_burst *out;
    uint32_t index;
    int refused; /* by `out`, not by the fragmentation */
};

static int put(struct pieces *p, const uint8_t *packet, uint32_t length, uint8_t status) {
    struct ipc_burst *out = p->out;
    p->refused = ipc_burst_add(out, packet, length, p->in->time[p->index]);
    if (p->refused) return p->refused;
    out->status[out->count - 1] = status;
    out->sa[out->count - 1] = p->in->sa[p->index];
    out->filter[out->count - 1] = p->in->filter[p->index];
    return 0;
}

static int put_piece(void *context, const uint8_t *fragment, uint32_t length) {
    struct pieces *p = context;
    return put(p, fragment, length, p->in->status[p->index]);
}

/* Returns 0 when `out` must be emptied first. */
static int put_packet(struct pieces *p, uint32_t mtu, uint32_t *identification) {
    struct ipc_burst *out = p->out;
    const uint8_t *packet = ipc_burst_packet(p->in, p->index);
    uint32_t length = p->in->length[p->index], before = out->count;
    int version = length ? packet[0] >> 4 : 0, code = IPC_E(FULL);
    p->refused = 0;
    if (length <= mtu)
        code = put_piece(p, packet, length);
    else if (version == 4)
        code = ipc_fragment(packet, length, mtu, put_piece, p);
    else if (version == 6 && mtu >= IPC_IPV6_MIN_MTU)
        code = ipc_fragment6(packet, length, mtu, *identification, put_piece, p);
    if (code >= 0) {
        *identification += version == 6 && out->count - before > 1;
        return 1;
    }

    out->count = before;
    if (before == out->capacity || (p->refused == IPC_E(FULL) && before > 0)) return 0;
    uint8_t status = p->refused ? IPC_TOO_BIG : code == IPC_E(FULL) ? IPC_EXCEEDS_MTU : IPC_MALFORMED;
    put(p, packet, length < out->max_packet ? length : out->max_packet, status);
    return 1;
}

int ipc_burst_fragment(const struct ipc_burst *in, uint32_t *next, struct ipc_burst *out, uint32_t mtu,
                       uint32_t *identification) {
    if (mtu < IPC_IPV4_MIN_MTU) return IPC_E(INVALID);
    struct pieces p = {.in = in, .out = out};
    uint32_t before = out->count;
    for (; *next < in->count; ++*next) {
        p.index = *next;
        uint8_t status = in->status[p.index];
        if ((status == IPC_UNPROCESSED || ipc_status_verdict(status) == IPC_VERDICT_PASS) &&
            !put_packet(&p, mtu, identification))
            break;
    }
    return (int)(out->count - before);
}
