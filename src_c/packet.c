/* Walking IPv6 extension headers; the parts of header work that are too long for every packet. */
#include "ip.h"

#define EXTENSIONS_MAX 8u /* more than any sender has reason to put in */

static int marks_neighbor(const uint8_t *p, uint32_t length, uint32_t at) {
    /* Router and neighbour discovery (RFC 4861): types 133 to 137. Without them no packet finds its way. */
    return at < length && p[at] >= 133 && p[at] <= 137;
}

enum ipc_parse ipc_parse_ipv6(const uint8_t *p, uint32_t *length, struct ipc_flow *flow,
                              struct ipc_layout *layout) {
    if (*length < IPC_IPV6_HEADER) return IPC_PARSE_MALFORMED;
    uint32_t total = IPC_IPV6_HEADER + ipc_load16(p + 4);
    if (total > *length) return IPC_PARSE_MALFORMED;
    *length = total;
    flow->family = 6;
    flow->source = ipc_load_ipv6(p + 8);
    flow->destination = ipc_load_ipv6(p + 24);
    /* Mapped addresses stand for IPv4 here and have no place on the wire (RFC 4291 2.5.5.2). */
    if (ipc_address_is_ipv4(flow->source) || ipc_address_is_ipv4(flow->destination))
        return IPC_PARSE_MALFORMED;
    struct ipc_ipv6_walk w = ipc_ipv6_walk(p);
    uint64_t marks = 0;
    int outside = 1, later = 0; /* outside: still in front of the place for IPsec */
    layout->header = w.at;
    layout->next = w.named;
    layout->fragment = 0;
    for (unsigned n = 0; !later; n++) {
        uint8_t protocol = w.next;
        if (protocol == IPC_PROTO_FRAGMENT) {
            if (total - w.at < IPC_IPV6_FRAGMENT_HEADER) return IPC_PARSE_MALFORMED;
            uint32_t field = ipc_load16(p + w.at + 2);
            if (field & (IPC_IPV6_OFFSET | IPC_IPV6_MORE))
                marks |= IPC_MARK_FRAGMENT; /* RFC 6946: else it is whole */
            later = (field & IPC_IPV6_OFFSET) != 0;
            w = (struct ipc_ipv6_walk){w.at + IPC_IPV6_FRAGMENT_HEADER, w.at, p[w.at]};
            layout->fragment = w.at;
        } else {
            if (protocol == IPC_PROTO_HOP_BY_HOP && n > 0) return IPC_PARSE_MALFORMED;
            int step = ipc_ipv6_step(p, total, &w);
            if (step < 0) return IPC_PARSE_MALFORMED;
            if (step == 0) break;
        }
        if (n == EXTENSIONS_MAX) return IPC_PARSE_MALFORMED;
        if (protocol == IPC_PROTO_DESTINATION) outside = outside && w.next == IPC_PROTO_ROUTING;
        if (outside) {
            layout->header = w.at;
            layout->next = w.named;
        }
    }
    layout->upper = w.at;
    layout->upper_next = w.named;
    flow->rest = (uint64_t)w.next << 8;
    if (!later && (w.next == IPC_PROTO_TCP || w.next == IPC_PROTO_UDP) && total - w.at >= 4)
        flow->rest |= (uint64_t)ipc_load32(p + w.at) << 32;
    if (!later && w.next == IPC_PROTO_ICMPV6 && marks_neighbor(p, total, w.at)) marks |= IPC_MARK_NEIGHBOR;
    flow->rest |= marks;
    return IPC_PARSE_OK;
}

enum ipc_parse ipc_parse(const uint8_t *p, uint32_t *length, struct ipc_flow *flow,
                         struct ipc_layout *layout) {
    if (*length < 1) return IPC_PARSE_MALFORMED;
    if (p[0] >> 4 == 6) return ipc_parse_ipv6(p, length, flow, layout);
    if (p[0] >> 4 != 4) return IPC_PARSE_NOT_IP;
    struct ipc_words words;
    enum ipc_parse parsed = ipc_parse_ipv4(p, length, &words, &layout->header);
    if (parsed != IPC_PARSE_OK) return parsed;
    layout->next = layout->upper_next = 9;
    layout->upper = layout->header;
    layout->fragment = 0;
    flow->family = 4;
    flow->source = ipc_address_of_ipv4((uint32_t)(words.addresses >> 32));
    flow->destination = ipc_address_of_ipv4((uint32_t)words.addresses);
    flow->rest = words.rest;
    return IPC_PARSE_OK;
}

void ipc_finish_header(uint8_t *p, uint32_t header, uint32_t next, uint8_t protocol, uint32_t total) {
    p[next] = protocol;
    if (p[0] >> 4 == 4) {
        ipc_store16(p + 2, total);
        ipc_header_checksum(p, header);
    } else {
        ipc_store16(p + 4, total - IPC_IPV6_HEADER);
    }
}
