#include "decapsulate.h"

#define FRAGMENT_TIME UINT64_C(60000000000) /* RFC 8200 4.5 */

enum ipc_status ipc_reassemble(ipc_driver *d, struct ipc_burst *b, uint32_t i) {
    const uint8_t *datagram;
    uint32_t length;
    if (!d->reassembler && ipc_reassembler_create(d->fragments, FRAGMENT_TIME, &d->reassembler) < 0)
        return IPC_FRAGMENT;
    int rc = ipc_reassembler_input(d->reassembler, ipc_burst_packet(b, i), b->length[i], b->time[i],
                                   &datagram, &length);
    if (rc == 0) return IPC_REASSEMBLING;
    if (rc < 0) return rc == IPC_E(FORMAT) ? IPC_MALFORMED : IPC_FRAGMENT;
    if (length + IPC_BURST_HEADROOM + IPC_BURST_TAILROOM > b->stride) return IPC_TOO_BIG;
    b->offset[i] = i * b->stride + IPC_BURST_HEADROOM;
    b->length[i] = length;
    memcpy(ipc_burst_packet(b, i), datagram, length);
    return IPC_PROTECTED;
}

void ipc_follow_peer(ipc_driver *d, const struct ipc_burst *b, uint32_t i, uint32_t index, uint32_t at) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    const uint8_t *packet = ipc_burst_packet(b, i), *udp = packet + at - IPC_UDP_HEADER;
    uint32_t peer = ipc_load32(packet + 12);
    uint16_t port = ipc_load16(udp);
    /* Port 0 is nowhere that anything could be sent to. */
    if (!port || (peer == sa->in.peer && port == sa->in.peer_port)) return;
    const struct ipc_upcall u = {
        .time = b->time[i],
        .sa = ipc_handle(index, ipc_ctl(d, index)->generation),
        .peer = ipc_address_of_ipv4(peer),
        .source_port = port,
        .destination_port = ipc_load16(udp + 2),
        .protocol = IPC_PROTO_UDP,
        .kind = IPC_UPCALL_MOVED,
    };
    /* One that finds the ring full is made up for by the next packet. */
    if (!ipc_upcall_post(d, &u)) return;
    sa->in.peer = peer;
    sa->in.peer_port = port;
}

void ipc_correct_checksum(const struct ipc_burst *b, uint32_t i, uint32_t delta) {
    uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t length = b->length[i];
    struct ipc_flow flow;
    struct ipc_layout layout;
    if (ipc_parse(packet, &length, &flow, &layout) != IPC_PARSE_OK) return;
    int tcp = ipc_protocol(flow.rest) == IPC_PROTO_TCP;
    if ((!tcp && ipc_protocol(flow.rest) != IPC_PROTO_UDP) || (flow.rest & IPC_MARK_FRAGMENT)) return;
    uint32_t at = layout.upper + (tcp ? 16 : 6);
    if (at + 2 > length) return;
    uint16_t old = ipc_load16(packet + at);
    if (!tcp && old == 0) return;
    /* RFC 1624: the sum over the addresses changes by what the NAT changed in them. */
    uint16_t sum = (uint16_t)~ipc_fold((uint64_t)(uint16_t)~old + (uint16_t)~delta);
    ipc_store16(packet + at, !tcp && sum == 0 ? 0xffff : sum);
}

enum ipc_status ipc_close_gap(struct ipc_burst *b, uint32_t i, uint32_t at, uint32_t udp, uint32_t size,
                              uint8_t next_header, uint32_t carried) {
    uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t header = at - udp, gap = size + udp, next = 9;
    if (packet[0] >> 4 == 6) {
        struct ipc_flow flow;
        struct ipc_layout layout;
        uint32_t length = b->length[i];
        if (ipc_parse_ipv6(packet, &length, &flow, &layout) != IPC_PARSE_OK) return IPC_MALFORMED;
        next = layout.upper_next;
    }
    memmove(packet + gap, packet, header);
    ipc_finish_header(packet + gap, header, next, next_header, header + carried);
    b->offset[i] += gap;
    b->length[i] = header + carried;
    return IPC_PROTECTED;
}

enum ipc_status ipc_take_off_ah(struct ipc_burst *b, uint32_t i, const struct ipc_sa_hot *sa, uint32_t at,
                                uint32_t *carried) {
    const uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t size = IPC_AH_HEADER + sa->icv_field;
    uint8_t next_header = packet[at];
    *carried = b->length[i] - at - size;
    if (!sa->outer_header) return ipc_close_gap(b, i, at, 0, size, next_header, *carried);
    if (!ipc_packet_inside(packet + at + size, *carried, next_header)) return IPC_NOT_DECRYPTED;
    b->offset[i] += at + size;
    b->length[i] = *carried;
    return IPC_PROTECTED;
}
