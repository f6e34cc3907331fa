#include "ipsec_core/steer.h"

#include "internal.h"

static uint64_t end_of_flow(ipc_address a, uint16_t port) {
    return ipc_mix(a.high ^ ipc_mix(a.low ^ (uint64_t)port << 48));
}

/* The ends are added, so that their order does not count. */
static uint32_t of_flow(const struct ipc_flow *flow, uint32_t count) {
    uint64_t ports = flow->rest & IPC_MARK_FRAGMENT ? 0 : flow->rest;
    uint64_t ends = end_of_flow(flow->source, ipc_source_port(ports)) +
                    end_of_flow(flow->destination, ipc_destination_port(ports));
    return (uint32_t)((ipc_mix(ends + ipc_protocol(flow->rest)) >> 32) * count >> 32);
}

uint32_t ipc_steer(const uint8_t *packet, uint32_t length, enum ipc_direction direction, int nat_traversal,
                   uint32_t count) {
    struct ipc_flow flow;
    struct ipc_layout layout;
    if (ipc_parse(packet, &length, &flow, &layout) != IPC_PARSE_OK) return 0;
    uint8_t protocol = ipc_protocol(flow.rest);
    int udp = nat_traversal && protocol == IPC_PROTO_UDP;
    if (direction == IPC_OUTBOUND || (protocol != IPC_PROTO_ESP && protocol != IPC_PROTO_AH && !udp))
        return of_flow(&flow, count);
    if (flow.rest & IPC_MARK_FRAGMENT) return count;
    if (udp && ipc_destination_port(flow.rest) != IPC_PORT_NAT_T) return of_flow(&flow, count);
    uint32_t at = layout.upper + (udp ? IPC_UDP_HEADER : protocol == IPC_PROTO_AH ? 4 : 0);
    return length < at + 4 ? 0 : ipc_shard_of_spi(ipc_load32(packet + at), count);
}
