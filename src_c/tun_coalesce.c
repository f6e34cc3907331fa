/* TCP segments that belong together become one large packet for the host, as GRO of the kernel does it. */
#include "tun.h"

enum { TCP_PSH = 0x08, TCP_ACK = 0x10, TCP_CHECKSUM = 16 };

/* Whether a packet may be joined with others at all; the length of its headers. */
static uint32_t headers_of(const uint8_t *packet, uint32_t length) {
    if (length < IPC_IPV4_HEADER + IPC_TCP_HEADER || packet[0] != 0x45 || packet[9] != IPC_PROTO_TCP ||
        ipc_load16(packet + 2) != length || (ipc_load16(packet + 6) & IPC_FRAGMENT_BITS))
        return 0;
    const uint8_t *tcp = packet + IPC_IPV4_HEADER;
    uint32_t headers = IPC_IPV4_HEADER + (tcp[12] >> 4) * 4u;
    if (headers < IPC_IPV4_HEADER + IPC_TCP_HEADER || headers >= length) return 0;
    if ((tcp[13] & (uint8_t)~TCP_PSH) != TCP_ACK) return 0;
    return headers;
}

/* Both checksums: what is joined gets new ones, which must not make a broken packet look whole. */
static int intact(const uint8_t *packet, uint32_t length) {
    uint64_t sum = ipc_pseudo_sum(packet, IPC_PROTO_TCP, length - IPC_IPV4_HEADER);
    sum += ipc_tun_sum(packet + IPC_IPV4_HEADER, length - IPC_IPV4_HEADER);
    return ipc_fold(sum) == 0xffff && ipc_tun_sum(packet, IPC_IPV4_HEADER) == 0xffff;
}

/* Whether the headers say the same, but for length, identification, sequence number, PSH and checksums. */
static int same_headers(const uint8_t *a, const uint8_t *b, uint32_t headers) {
    uint32_t differ = (uint32_t)(a[1] ^ b[1]) | ((ipc_load32(a + 6) ^ ipc_load32(b + 6)) & 0xffffffffu);
    const uint8_t *s = a + IPC_IPV4_HEADER, *t = b + IPC_IPV4_HEADER;
    uint64_t ends = (ipc_load64(a + 12) ^ ipc_load64(b + 12)) | (ipc_load32(s) ^ ipc_load32(t));
    differ |= ipc_load32(s + 8) ^ ipc_load32(t + 8);
    differ |= (ipc_load32(s + 12) ^ ipc_load32(t + 12)) & ~((uint32_t)TCP_PSH << 16);
    for (uint32_t i = IPC_TCP_HEADER; i < headers - IPC_IPV4_HEADER; i += 4)
        differ |= ipc_load32(s + i) ^ ipc_load32(t + i);
    return (differ | ends) == 0;
}

static void begin(struct ipc_tun_merge *merge, uint8_t *packet, uint32_t length, uint32_t headers) {
    merge->header = (struct virtio_net_hdr){0};
    merge->parts[0] = (struct iovec){&merge->header, sizeof merge->header};
    merge->parts[1] = (struct iovec){packet, length};
    merge->count = 2;
    merge->length = length;
    merge->data = headers;
    merge->size = length - headers;
    merge->closed = !headers;
    if (!headers) return;
    merge->sequence = ipc_load32(packet + IPC_IPV4_HEADER + 4) + merge->size;
    merge->closed = (packet[IPC_IPV4_HEADER + 13] & TCP_PSH) || !intact(packet, length);
}

int ipc_tun_merge_add(struct ipc_tun_merge *merge, uint8_t *packet, uint32_t length) {
    uint32_t headers = headers_of(packet, length);
    if (merge->count == 0) {
        begin(merge, packet, length, headers);
        return 1;
    }
    uint32_t size = length - headers;
    uint8_t *first = merge->parts[1].iov_base;
    if (merge->closed || headers != merge->data || size > merge->size ||
        merge->length + size > IPC_PACKET_MAX || merge->count == 1 + IPC_TUN_MERGE_MAX ||
        !same_headers(first, packet, headers) ||
        ipc_load32(packet + IPC_IPV4_HEADER + 4) != merge->sequence || !intact(packet, length))
        return 0;
    merge->parts[merge->count++] = (struct iovec){packet + headers, size};
    merge->length += size;
    merge->sequence += size;
    first[IPC_IPV4_HEADER + 13] |= packet[IPC_IPV4_HEADER + 13] & TCP_PSH;
    merge->closed = size < merge->size || (packet[IPC_IPV4_HEADER + 13] & TCP_PSH);
    return 1;
}

void ipc_tun_merge_finish(struct ipc_tun_merge *merge) {
    if (merge->count <= 2) return;
    uint8_t *packet = merge->parts[1].iov_base;
    uint32_t segment = merge->length - IPC_IPV4_HEADER;
    merge->header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                            .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                            .hdr_len = (uint16_t)merge->data,
                                            .gso_size = (uint16_t)merge->size,
                                            .csum_start = IPC_IPV4_HEADER,
                                            .csum_offset = TCP_CHECKSUM};
    ipc_store16(packet + 2, merge->length);
    ipc_header_checksum(packet, IPC_IPV4_HEADER);
    uint16_t pseudo = ipc_fold(ipc_pseudo_sum(packet, IPC_PROTO_TCP, segment));
    ipc_store16(packet + IPC_IPV4_HEADER + TCP_CHECKSUM, pseudo);
}
