/* Checksum tasks: IPv4 header, TCP and UDP (RFC 791 3.1, RFC 793 3.1, RFC 768), on the way out and in. */
#include "nic_private.h"

/* What tasks can be about: an IPv4 packet that is whole. */
struct parsed {
    uint32_t header, length;
    uint8_t options;
    uint8_t transport; /* TCP or UDP with room for its header, not a fragment; else 0 */
};

static int parse(const uint8_t *packet, uint32_t length, struct parsed *p) {
    struct ipc_words words;
    if (!length || packet[0] >> 4 != 4 || ipc_parse_ipv4(packet, &length, &words, &p->header) != IPC_PARSE_OK)
        return 0;
    uint8_t protocol = ipc_protocol(words.rest);
    uint32_t least = protocol == IPC_PROTO_TCP ? IPC_TCP_HEADER : IPC_UDP_HEADER;
    p->length = length;
    p->options = p->header > IPC_IPV4_HEADER;
    p->transport = 0;
    if ((protocol == IPC_PROTO_TCP || protocol == IPC_PROTO_UDP) && !(words.rest & IPC_MARK_FRAGMENT) &&
        length - p->header >= least)
        p->transport = protocol;
    return 1;
}

static void count(ipc_nic *nic, const struct parsed *p, uint32_t capability) {
    if (p->options) capability |= IPC_NIC_CAN(SEND_IP_OPTIONS);
    if (ipc_nic_can(nic, capability))
        nic->statistics.checksums_sent++;
    else
        nic->statistics.checksums_by_host++;
}

void ipc_nic_checksums(ipc_nic *nic, uint8_t *packet, uint32_t length, unsigned tasks) {
    struct parsed p;
    if (!parse(packet, length, &p)) return;
    if (tasks & IPC_NIC_TASK(IPV4_CHECKSUM)) {
        ipc_header_checksum(packet, p.header);
        count(nic, &p, IPC_NIC_CAN(SEND_IPV4_CHECKSUM));
    }
    int tcp = p.transport == IPC_PROTO_TCP;
    if (!p.transport || !(tasks & (tcp ? IPC_NIC_TASK(TCP_CHECKSUM) : IPC_NIC_TASK(UDP_CHECKSUM)))) return;
    uint8_t *field = packet + p.header + (tcp ? 16 : 6);
    field[0] = field[1] = 0;
    uint16_t sum = ipc_transport_sum(packet, p.transport, packet + p.header, p.length - p.header);
    ipc_store16(field, !tcp && sum == 0 ? 0xffff : sum); /* RFC 768: 0 says that there is none */
    count(nic, &p, tcp ? IPC_NIC_CAN(SEND_TCP_CHECKSUM) : IPC_NIC_CAN(SEND_UDP_CHECKSUM));
}

static uint8_t check(const ipc_nic *nic, const uint8_t *packet, uint32_t length) {
    struct parsed p;
    uint8_t found = 0;
    if (!parse(packet, length, &p)) return 0;
    uint32_t options = p.options ? IPC_NIC_CAN(RECEIVE_IP_OPTIONS) : 0;
    int good = ipc_fold(ipc_sum(packet, p.header, 0)) == 0xffff;
    if (ipc_nic_can(nic, options | IPC_NIC_CAN(RECEIVE_IPV4_CHECKSUM)))
        found = good ? IPC_NIC_CHECK(IPV4_GOOD) : IPC_NIC_CHECK(IPV4_BAD);
    if (!good || !p.transport) return found;
    int tcp = p.transport == IPC_PROTO_TCP;
    const uint8_t *udp = packet + p.header;
    if (!tcp && (ipc_load16(udp + 6) == 0 || ipc_load16(udp + 4) != p.length - p.header)) return found;
    options |= tcp ? IPC_NIC_CAN(RECEIVE_TCP_CHECKSUM) : IPC_NIC_CAN(RECEIVE_UDP_CHECKSUM);
    if (!ipc_nic_can(nic, options)) return found;
    good = ipc_transport_sum(packet, p.transport, packet + p.header, p.length - p.header) == 0;
    if (tcp) return found | (good ? IPC_NIC_CHECK(TCP_GOOD) : IPC_NIC_CHECK(TCP_BAD));
    return found | (good ? IPC_NIC_CHECK(UDP_GOOD) : IPC_NIC_CHECK(UDP_BAD));
}

void ipc_nic_receive(ipc_nic *nic, const struct ipc_burst *b, uint8_t *checks) {
    const unsigned good = IPC_NIC_CHECK(IPV4_GOOD) | IPC_NIC_CHECK(TCP_GOOD) | IPC_NIC_CHECK(UDP_GOOD);
    const unsigned bad = IPC_NIC_CHECK(IPV4_BAD) | IPC_NIC_CHECK(TCP_BAD) | IPC_NIC_CHECK(UDP_BAD);
    for (uint32_t i = 0; i < b->count; i++) {
        checks[i] = check(nic, ipc_burst_packet(b, i), b->length[i]);
        nic->statistics.checksums_good += (unsigned)__builtin_popcount(checks[i] & good);
        nic->statistics.checksums_bad += (unsigned)__builtin_popcount(checks[i] & bad);
    }
}
