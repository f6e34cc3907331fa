/*
 * What AH does not protect: fields that routers change are zero for the ICV, or as the receiver will see them
 * (RFC 2402 3.3.3.1, RFC 4302 3.3.3.1 and appendix A).
 */
#include "internal.h"

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_LOOSE_ROUTE = 131, OPTION_STRICT_ROUTE = 137 };

static int immutable_option(uint8_t type) {
    return type == 130 || type == 133 || type == 134 || type == 148 || type == 149;
}

static int hide_ipv4(uint8_t *p, uint32_t header) {
    p[1] = 0;                 /* TOS */
    p[6] = p[7] = 0;          /* flags and offset */
    p[8] = p[10] = p[11] = 0; /* TTL, checksum */
    for (uint32_t at = IPC_IPV4_HEADER; at < header && p[at] != OPTION_END;) {
        uint8_t type = p[at];
        if (type == OPTION_NOP) {
            at++;
            continue;
        }
        if (header - at < 2 || p[at + 1] < 2 || p[at + 1] > header - at) return 0;
        uint8_t size = p[at + 1];
        if (type == OPTION_LOOSE_ROUTE || type == OPTION_STRICT_ROUTE) {
            if (size < 3) return 0;
            /* On the way the destination is the next hop; the receiver sees the last entry. */
            if (p[at + 2] <= size && size >= 7) memcpy(p + 16, p + at + size - 4, 4);
        }
        if (!immutable_option(type)) memset(p + at, 0, size);
        at += size;
    }
    return 1;
}

/* Options whose third bit is set may change on the way: their data are zero (RFC 8200 4.2). */
static int hide_options(uint8_t *p, uint32_t size) {
    for (uint32_t at = 2; at < size;) {
        if (p[at] == 0) {
            at++;
            continue;
        }
        if (size - at < 2 || p[at + 1] > size - at - 2) return 0;
        if (p[at] & 0x20) memset(p + at + 2, 0, p[at + 1]);
        at += 2u + p[at + 1];
    }
    return 1;
}

static int hide_ipv6(uint8_t *p, uint32_t header) {
    p[0] = 0x60; /* traffic class and flow label */
    p[1] = p[2] = p[3] = 0;
    p[7] = 0; /* hop limit */
    uint8_t protocol = p[6];
    for (uint32_t at = IPC_IPV6_HEADER; at < header;) {
        uint32_t size = 8 + p[at + 1] * 8u;
        if (size > header - at) return 0;
        if (protocol == IPC_PROTO_HOP_BY_HOP || protocol == IPC_PROTO_DESTINATION) {
            if (!hide_options(p + at, size)) return 0;
        } else if (protocol == IPC_PROTO_ROUTING) {
            /* Hops to go: only type 0 says how the header ends up, and that is history (RFC 5095). */
            if (p[at + 3] != 0) return 0;
        } else {
            return 0;
        }
        protocol = p[at];
        at += size;
    }
    return 1;
}

int ipc_ah_hide(uint8_t *packet, uint32_t header, struct ipc_ah_saved *saved) {
    if (header > IPC_HEADER_MAX) return 0;
    saved->length = header;
    memcpy(saved->header, packet, header);
    int understood = packet[0] >> 4 == 4 ? hide_ipv4(packet, header) : hide_ipv6(packet, header);
    if (!understood) ipc_ah_restore(packet, saved);
    return understood;
}

void ipc_ah_restore(uint8_t *packet, const struct ipc_ah_saved *saved) {
    memcpy(packet, saved->header, saved->length);
}
