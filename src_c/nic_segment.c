/* The way out of the adapter: checksums, and TCP large sends cut into segments. */
#include "nic_private.h"

enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_PSH = 0x08, TCP_URG = 0x20, TCP_CWR = 0x80 };

/* A large send: where its TCP data begin and how they are cut. */
struct large {
    uint32_t header, data; /* offsets of the TCP header and of the data */
    uint32_t size;         /* of the data */
    uint32_t mss;
};

/* Whether the packet is one that may be cut. */
static int read_large(const ipc_nic *nic, const uint8_t *packet, uint32_t length, uint32_t mss,
                      struct large *large) {
    struct ipc_words words;
    if (!length || packet[0] >> 4 != 4 ||
        ipc_parse_ipv4(packet, &length, &words, &large->header) != IPC_PARSE_OK ||
        ipc_protocol(words.rest) != IPC_PROTO_TCP || (words.rest & IPC_MARK_FRAGMENT) ||
        length - large->header < IPC_TCP_HEADER)
        return 0;
    const uint8_t *tcp = packet + large->header;
    uint32_t tcp_header = (tcp[12] >> 4) * 4u;
    if (tcp_header < IPC_TCP_HEADER || tcp_header > length - large->header) return 0;
    if (tcp[13] & (TCP_SYN | TCP_RST | TCP_URG)) return 0;
    large->data = large->header + tcp_header;
    large->size = length - large->data;
    if (large->data >= nic->config.mtu) return 0;
    uint32_t room = nic->config.mtu - large->data;
    large->mss = mss && mss < room ? mss : room;
    return 1;
}

static void count_large(ipc_nic *nic, const struct large *large) {
    uint32_t segments = (large->size + large->mss - 1) / large->mss;
    if (ipc_nic_can(nic, IPC_NIC_CAN(LARGE_SEND)) && large->size <= nic->config.large_send_max &&
        segments >= nic->config.large_send_min_segments && large->header == IPC_IPV4_HEADER)
        nic->statistics.large_sends++;
    else
        nic->statistics.large_sends_by_host++;
}

/* Copies packet `i` up to `length` into the next slot, with what the burst says of it. */
static uint8_t *copy(const struct ipc_burst *in, uint32_t i, uint32_t length, struct ipc_burst *out) {
    (void)ipc_burst_add(out, ipc_burst_packet(in, i), length, in->time[i]); /* there is room */
    uint32_t last = out->count - 1;
    out->sa[last] = in->sa[i];
    out->filter[last] = in->filter[i];
    out->status[last] = in->status[i];
    return ipc_burst_packet(out, last);
}

/* The segment that begins `offset` bytes into the data; returns its size. */
static uint32_t put_segment(ipc_nic *nic, const struct ipc_burst *in, uint32_t i, const struct large *large,
                            uint32_t offset, struct ipc_burst *out) {
    uint32_t left = large->size - offset, size = left < large->mss ? left : large->mss;
    uint8_t *packet = copy(in, i, large->data, out), *tcp = packet + large->header;
    memcpy(packet + large->data, ipc_burst_packet(in, i) + large->data + offset, size);
    uint32_t length = large->data + size;
    out->length[out->count - 1] = length;
    ipc_store16(packet + 2, length);
    ipc_store16(packet + 4, (uint32_t)ipc_load16(packet + 4) + offset / large->mss);
    ipc_header_checksum(packet, large->header);
    ipc_store32(tcp + 4, ipc_load32(tcp + 4) + offset);
    if (size < left) tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
    if (offset) tcp[13] &= (uint8_t)~TCP_CWR; /* RFC 3168 6.1.2: said once */
    tcp[16] = tcp[17] = 0;
    ipc_store16(tcp + 16, ipc_transport_sum(packet, IPC_PROTO_TCP, tcp, length - large->header));
    nic->statistics.segments++;
    nic->statistics.packets_sent++;
    return size;
}

/* Puts as many segments into `out` as it takes; moves the cursor on. */
static void cut(ipc_nic *nic, const struct ipc_burst *in, struct ipc_nic_cursor *at,
                const struct large *large, struct ipc_burst *out) {
    if (at->offset == 0) count_large(nic, large);
    while (out->count < out->capacity) {
        at->offset += put_segment(nic, in, at->packet, large, at->offset, out);
        if (at->offset < large->size) continue;
        *at = (struct ipc_nic_cursor){at->packet + 1, 0};
        return;
    }
}

static void send_one(ipc_nic *nic, struct ipc_burst *in, uint32_t i, unsigned tasks, struct ipc_burst *out) {
    if (in->length[i] > nic->config.mtu) {
        in->status[i] = IPC_EXCEEDS_MTU;
        nic->statistics.packets_too_long++;
        return;
    }
    uint8_t *packet = copy(in, i, in->length[i], out);
    nic->statistics.packets_sent++;
    ipc_nic_checksums(nic, packet, in->length[i], tasks);
}

int ipc_nic_transmit(ipc_nic *nic, struct ipc_burst *in, const struct ipc_nic_task *tasks,
                     struct ipc_nic_cursor *at, struct ipc_burst *out) {
    if (in == out || out->max_packet < nic->config.mtu) return IPC_E(INVALID);
    uint32_t before = out->count;
    while (at->packet < in->count && out->count < out->capacity) {
        uint32_t i = at->packet;
        struct ipc_nic_task task = tasks ? tasks[i] : (struct ipc_nic_task){0, 0};
        struct large large;
        if (!ipc_passes((enum ipc_status)in->status[i]) && in->status[i] != IPC_UNPROCESSED) {
            at->packet++;
            continue;
        }
        if (task.tasks & IPC_NIC_TASK(LARGE_SEND)) {
            if (!read_large(nic, ipc_burst_packet(in, i), in->length[i], task.mss, &large)) {
                nic->statistics.large_sends_refused++;
            } else if (large.size > large.mss && at->offset < large.size) {
                cut(nic, in, at, &large, out);
                continue;
            } else { /* one segment: a large send has its checksums computed at any size */
                task.tasks |= IPC_NIC_TASK(IPV4_CHECKSUM) | IPC_NIC_TASK(TCP_CHECKSUM);
            }
        }
        send_one(nic, in, i, task.tasks, out);
        *at = (struct ipc_nic_cursor){i + 1, 0};
    }
    return (int)(out->count - before);
}
