#include "ipsec_core/path_mtu.h"

#include "internal.h"
#include "ip.h"

static uint32_t header_of(ipc_address end) {
    return ipc_address_is_ipv4(end) ? IPC_IPV4_HEADER : IPC_IPV6_HEADER;
}

static int fits(const ipc_driver *d, ipc_sa handle, uint32_t length, uint32_t header) {
    while (ipc_sa_valid(d, handle)) {
        const struct ipc_sa_config *c = &ipc_ctl(d, IPC_SA_INDEX(handle))->config;
        length += ipc_overhead(c, length, header);
        if (length > (c->path_mtu ? c->path_mtu : IPC_PACKET_MAX)) return 0;
        if (c->mode == IPC_TUNNEL) header = header_of(c->source);
        handle = c->outer;
    }
    return 1;
}

uint32_t ipc_sa_clear_mtu(const ipc_driver *d, ipc_sa handle, uint32_t header) {
    if (!ipc_sa_valid(d, handle) || !fits(d, handle, header, header)) return 0;
    uint32_t good = header, bad = IPC_PACKET_MAX + 1;
    while (bad - good > 1) {
        uint32_t middle = (good + bad) / 2;
        if (fits(d, handle, middle, header))
            good = middle;
        else
            bad = middle;
    }
    return good;
}

/* Only the outermost SA of a packet shows on the wire. */
static int made(const struct ipc_sa_config *c, const struct ipc_path_mtu *found) {
    if (c->direction != IPC_OUTBOUND || c->service == IPC_SERVICE_SOFT || c->outer) return 0;
    uint8_t protocol = c->service == IPC_SERVICE_AH   ? IPC_PROTO_AH
                       : c->encapsulation_destination ? IPC_PROTO_UDP
                                                      : IPC_PROTO_ESP;
    return protocol == found->protocol && (!found->spi || c->spi == found->spi) &&
           ipc_address_equal(c->source, found->source) &&
           ipc_address_equal(c->destination, found->destination) &&
           c->encapsulation_source == found->source_port &&
           c->encapsulation_destination == found->destination_port;
}

static int lower(ipc_driver *d, uint32_t index, uint32_t mtu) {
    const struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    if (ctl->config.path_mtu && ctl->config.path_mtu <= mtu) return 0;
    return ipc_sa_set_path_mtu(d, ipc_handle(index, ctl->generation), mtu) == 0;
}

/* The longest packet of this SA that those around it take. */
static uint32_t room_inside(const ipc_driver *d, const struct ipc_sa_config *c) {
    uint32_t least = IPC_PACKET_MAX, header = header_of(c->source);
    /* In transport mode the header is that of the host's packet; padding depends on it up to a block. */
    for (uint32_t options = 0; options < (c->mode == IPC_TUNNEL ? 4u : 16u); options += 4) {
        uint32_t most = ipc_sa_clear_mtu(d, c->outer, header + options);
        if (most < least) least = most;
    }
    return least < IPC_IPV4_MIN_MTU ? IPC_IPV4_MIN_MTU : least;
}

uint32_t ipc_learn_path_mtu(ipc_driver *d, const struct ipc_path_mtu *found, uint32_t least, ipc_sa *handles,
                            uint32_t max) {
    uint32_t mtu = found->mtu < least ? least : found->mtu, count = 0;
    for (uint32_t i = 0; i < d->sa_limit; i++) {
        const struct ipc_sa_ctl *ctl = ipc_ctl(d, i);
        if (!(ctl->generation & 1) || !made(&ctl->config, found) || !lower(d, i, mtu)) continue;
        if (count < max) handles[count] = ipc_handle(i, ctl->generation);
        count++;
    }
    for (uint32_t i = 0; count && i < d->sa_limit; i++) {
        const struct ipc_sa_ctl *ctl = ipc_ctl(d, i);
        if ((ctl->generation & 1) && ctl->config.direction == IPC_OUTBOUND &&
            ipc_sa_valid(d, ctl->config.outer))
            (void)lower(d, i, room_inside(d, &ctl->config));
    }
    return count;
}

int ipc_burst_too_big(const ipc_driver *d, const struct ipc_burst *b, uint32_t i, ipc_address from,
                      uint8_t *out, uint32_t room) {
    if (i >= b->count || b->status[i] != IPC_EXCEEDS_MTU || b->sa[i] >= d->sa_limit) return IPC_E(INVALID);
    if (b->offset[i] < i * b->stride + IPC_BURST_HEADROOM) return 0;
    const uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t length = b->length[i];
    struct ipc_flow flow;
    struct ipc_layout layout;
    if (ipc_parse(packet, &length, &flow, &layout) != IPC_PARSE_OK) return IPC_E(FORMAT);
    if (ipc_address_is_ipv4(from) != (flow.family == 4)) return IPC_E(INVALID);
    ipc_sa handle = ipc_handle(b->sa[i], ipc_ctl(d, b->sa[i])->generation);
    uint32_t mtu = ipc_sa_clear_mtu(d, handle, layout.header);
    if (length <= mtu || length <= (flow.family == 4 ? IPC_IPV4_MIN_MTU : IPC_IPV6_MIN_MTU)) return 0;
    return ipc_icmp_too_big(packet, length, mtu, from, out, room);
}
