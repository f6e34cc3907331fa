#include "ipsec_core/frag.h"

#include "ip.h"

/* The header of all fragments but the first: options without the copy bit left out (RFC 791 3.1). Returns its
 * length; 0: bad options. */
static uint32_t later_header(const uint8_t *packet, uint32_t length, uint8_t out[IPC_IPV4_MAX_HEADER]) {
    uint32_t used = IPC_IPV4_HEADER;
    memcpy(out, packet, IPC_IPV4_HEADER);
    for (uint32_t at = IPC_IPV4_HEADER; at < length && packet[at] != 0;) {
        uint32_t size = 1;
        if (packet[at] != 1) {
            if (at + 2 > length) return 0;
            size = packet[at + 1];
            if (size < 2 || size > length - at) return 0;
        }
        if (packet[at] & 0x80) {
            memcpy(out + used, packet + at, size);
            used += size;
        }
        at += size;
    }
    while (used % 4)
        out[used++] = 0;
    out[0] = (uint8_t)(0x40 | used / 4);
    return used;
}

int ipc_fragment(const uint8_t *packet, uint32_t length, uint32_t mtu, ipc_fragment_emit emit,
                 void *context) {
    uint32_t header = ipc_ipv4_cut(packet, &length);
    if (!header || mtu < IPC_IPV4_MIN_MTU) return IPC_E(INVALID);
    if (length <= mtu) {
        int code = emit(context, packet, length);
        return code < 0 ? code : 1;
    }

    uint32_t field = ipc_load16(packet + 6), at = (field & IPC_IPV4_OFFSET) * 8, end = at + length - header;
    uint8_t later[IPC_IPV4_MAX_HEADER], scratch[IPC_IP_MAX_PAYLOAD];
    uint32_t later_length = later_header(packet, header, later);
    if (!later_length || end > IPC_IP_MAX_PAYLOAD || ((field & IPC_IPV4_MORE) && (length - header) % 8))
        return IPC_E(INVALID);
    if (field & IPC_FRAGMENT_DF) return IPC_E(FULL);

    const uint8_t *payload = packet + header;
    int count = 0;
    memcpy(scratch, packet, header);
    while (at < end) {
        uint32_t size = end - at, flags = field & ~IPC_IPV4_OFFSET;
        if (size > mtu - header) {
            size = (mtu - header) & ~7u;
            flags |= IPC_IPV4_MORE;
        }
        memcpy(scratch + header, payload, size);
        ipc_store16(scratch + 2, header + size);
        ipc_store16(scratch + 6, flags | at / 8);
        ipc_header_checksum(scratch, header);
        int code = emit(context, scratch, header + size);
        if (code < 0) return code;
        count++;
        payload += size;
        at += size;
        header = later_length;
        memcpy(scratch, later, header);
    }
    return count;
}

int ipc_fragment6(const uint8_t *packet, uint32_t length, uint32_t mtu, uint32_t identification,
                  ipc_fragment_emit emit, void *context) {
    if (mtu < IPC_IPV6_MIN_MTU || !ipc_ipv6_cut(packet, &length)) return IPC_E(INVALID);
    if (length <= mtu) {
        int code = emit(context, packet, length);
        return code < 0 ? code : 1;
    }

    /* All fragments repeat the headers up to the last routing header, else the hop-by-hop options (RFC 8200
     * 4.5). */
    struct ipc_ipv6_walk walk = ipc_ipv6_walk(packet), part = walk;
    for (int step = 1; step;) {
        uint8_t passed = walk.next;
        step = ipc_ipv6_step(packet, length, &walk);
        if (step < 0) return IPC_E(INVALID);
        if (step && passed != IPC_PROTO_DESTINATION) part = walk;
    }
    if (walk.next == IPC_PROTO_FRAGMENT) return IPC_E(FULL);
    uint32_t header = part.at + IPC_IPV6_FRAGMENT_HEADER, room = mtu - header;
    /* The first fragment must reach the upper-layer header (RFC 7112 5). */
    if (part.at > IPC_PER_FRAGMENT_MAX || walk.at >= part.at + (room & ~7u)) return IPC_E(INVALID);

    uint8_t scratch[IPC_IPV6_HEADER + IPC_IP_MAX_PAYLOAD];
    memcpy(scratch, packet, part.at);
    scratch[part.named] = IPC_PROTO_FRAGMENT;
    scratch[part.at] = part.next;
    scratch[part.at + 1] = 0;
    ipc_store32(scratch + part.at + 4, identification);
    const uint8_t *payload = packet + part.at;
    uint32_t end = length - part.at;
    int count = 0;
    for (uint32_t at = 0, size; at < end; at += size) {
        uint32_t flags = 0;
        size = end - at;
        if (size > room) {
            size = room & ~7u;
            flags = IPC_IPV6_MORE;
        }
        memcpy(scratch + header, payload + at, size);
        ipc_store16(scratch + 4, header - IPC_IPV6_HEADER + size);
        ipc_store16(scratch + part.at + 2, at | flags);
        int code = emit(context, scratch, header + size);
        if (code < 0) return code;
        count++;
    }
    return count;
}
