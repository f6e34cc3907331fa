/* Segmentation and checksums, which the kernel leaves to a TUN device with IFF_VNET_HDR. */
#include "tun.h"

enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };
enum { UDP_CHECKSUM = 6, TCP_CHECKSUM = 16 };

uint16_t ipc_tun_sum(const uint8_t *p, uint32_t length) {
    /* RFC 1071 2 (B): the sum does not care for the byte order until the end; words of the machine are
     * fastest. */
    uint64_t sum = 0;
    uint32_t words = length / 4;
    for (uint32_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, p + 4 * (size_t)i, 4);
        sum += word;
    }
    uint32_t rest = 0;
    memcpy(&rest, p + 4 * (size_t)words, length % 4);
    uint16_t folded = ipc_fold(sum + rest);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    folded = __builtin_bswap16(folded);
#endif
    return folded;
}

/* The transport checksum of a whole packet, its field included: 0 when the field is right. */
static uint16_t checksum(const uint8_t *packet, uint32_t length, uint32_t header, uint8_t protocol) {
    uint64_t sum = ipc_pseudo_sum(packet, protocol, length - header);
    return (uint16_t)~ipc_fold(sum + ipc_tun_sum(packet + header, length - header));
}

static int begin_tcp(struct ipc_tun_large *large) {
    if (large->length - large->header < IPC_TCP_HEADER) return IPC_E(FORMAT);
    uint32_t header = (large->packet[large->header + 12] >> 4) * 4u;
    if (header < IPC_TCP_HEADER || header > large->length - large->header) return IPC_E(FORMAT);
    large->data = large->header + header;
    return 0;
}

static int begin_udp(struct ipc_tun_large *large) {
    if (large->length - large->header < IPC_UDP_HEADER) return IPC_E(FORMAT);
    large->data = large->header + IPC_UDP_HEADER;
    return 0;
}

/* A packet of one segment whose checksum may be missing; the field holds the sum of the pseudo-header. */
static int begin_whole(struct ipc_tun_large *large, const struct virtio_net_hdr *header) {
    large->data = large->length;
    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) return 0;
    uint32_t start = header->csum_start, field = start + header->csum_offset;
    if (start > large->length || field + 2 > large->length) return IPC_E(FORMAT);
    uint16_t sum = (uint16_t)~ipc_tun_sum(large->packet + start, large->length - start);
    ipc_store16(large->packet + field, sum || header->csum_offset != UDP_CHECKSUM ? sum : 0xffff);
    return 0;
}

int ipc_tun_large_begin(struct ipc_tun_large *large, const struct virtio_net_hdr *header, uint8_t *packet,
                        uint32_t length) {
    uint8_t kind = header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    *large = (struct ipc_tun_large){.packet = packet, .length = length, .size = length};
    if (kind == VIRTIO_NET_HDR_GSO_NONE) return begin_whole(large, header);
    struct ipc_words words;
    int tcp = kind == VIRTIO_NET_HDR_GSO_TCPV4;
    large->protocol = tcp ? IPC_PROTO_TCP : IPC_PROTO_UDP;
    if ((!tcp && kind != VIRTIO_NET_HDR_GSO_UDP_L4) || !header->gso_size || !length || packet[0] >> 4 != 4 ||
        ipc_parse_ipv4(packet, &large->length, &words, &large->header) != IPC_PARSE_OK ||
        ipc_protocol(words.rest) != large->protocol || (words.rest & IPC_MARK_FRAGMENT))
        return IPC_E(FORMAT);
    large->size = header->gso_size;
    return tcp ? begin_tcp(large) : begin_udp(large);
}

uint32_t ipc_tun_large_next(struct ipc_tun_large *large, uint8_t *out) {
    uint32_t left = large->length - large->data - large->at;
    uint32_t size = left < large->size ? left : large->size, length = large->data + size;
    memcpy(out, large->packet, large->data);
    memcpy(out + large->data, large->packet + large->data + large->at, size);
    if (large->protocol) {
        uint8_t *transport = out + large->header;
        ipc_store16(out + 2, length);
        ipc_store16(out + 4, (uint32_t)ipc_load16(out + 4) + large->segments);
        ipc_header_checksum(out, large->header);
        uint32_t field = large->header + (large->protocol == IPC_PROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
        if (large->protocol == IPC_PROTO_TCP) {
            ipc_store32(transport + 4, ipc_load32(transport + 4) + large->at);
            if (size < left) transport[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
            if (large->at) transport[13] &= (uint8_t)~TCP_CWR; /* RFC 3168 6.1.2: said once */
        } else {
            ipc_store16(transport + 4, length - large->header);
        }
        out[field] = out[field + 1] = 0;
        uint16_t sum = checksum(out, length, large->header, large->protocol);
        ipc_store16(out + field, sum || large->protocol == IPC_PROTO_TCP ? sum : 0xffff);
    }
    large->at += size;
    large->segments++;
    if (size == left) large->packet = NULL;
    return length;
}
