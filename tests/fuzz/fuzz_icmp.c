/*
 * libFuzzer target for the messages of path MTU discovery: any bytes as a message; any packet, and the
 * message about it, which its sender must understand or find to be of no concern, before and after the input
 * has changed it.
 *
 * Input: a byte that gives the MTU, then a packet (kit.h), then what goes over the message.
 */
#include "ipsec_core/icmp.h"
#include "kit.h"

#define LONGEST 3000u

static uint32_t folded(uint32_t sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static uint32_t sum_of(const uint8_t *p, uint32_t from, uint32_t to, uint32_t sum) {
    for (uint32_t i = from; i < to; i++)
        sum += (i - from) % 2 ? p[i] : (uint32_t)p[i] << 8;
    return sum;
}

/* Sum of an ICMP message with its IP header (RFC 8200 8.1: IPv6 with a pseudo-header), 0xffff when it is
 * right. */
static uint32_t message_sum(const uint8_t *ip, uint32_t length) {
    if (ip[0] >> 4 == 4) return folded(sum_of(ip, 20, length, 0));
    return folded(sum_of(ip, 40, length, sum_of(ip, 8, 40, 58 + length - 40)));
}

/* Returns what ipc_icmp_path_mtu says. */
static int read_message(const uint8_t *bytes, uint32_t length, struct ipc_path_mtu *found) {
    uint8_t *message = copy_of(bytes, length);
    int code = ipc_icmp_path_mtu(message, length, found);
    CHECK(code == 0 || code == IPC_E(NOT_FOUND) || code == IPC_E(FORMAT));
    if (code == 0) {
        int six = message[0] >> 4 == 6;
        CHECK(found->mtu >= (six ? 1280 : 68));
        CHECK(ipc_address_is_ipv4(found->source) == !six && ipc_address_is_ipv4(found->destination) == !six);
        CHECK(ipc_address_is_ipv4(found->router) == !six);
        CHECK(found->protocol == 50 || found->protocol == 51 || found->protocol == 17);
        CHECK(found->protocol != 17 || found->source_port == 4500 || found->destination_port == 4500);
    }
    free(message);
    return code;
}

/* The message as `ipc_icmp_too_big` made it about `packet`. */
static void check_message(const uint8_t *packet, uint32_t total, uint32_t mtu, ipc_address router,
                          const uint8_t *message, uint32_t length) {
    int six = packet[0] >> 4 == 6;
    uint32_t header = six ? 40 : 20, least = six ? 1280 : 68;
    struct ipc_path_mtu found;
    CHECK(length <= IPC_ICMP_MAX && message[0] >> 4 == packet[0] >> 4);
    CHECK(message_sum(message, length) == 0xffff);
    CHECK(six || folded(sum_of(message, 0, 20, 0)) == 0xffff);
    /* It quotes the packet and goes to its source. */
    CHECK(memcmp(message + header + 8, packet, length - header - 8) == 0);
    CHECK(memcmp(message + (six ? 24 : 16), packet + (six ? 8 : 12), six ? 16 : 4) == 0);
    /* What is quoted may end within a chain of extension headers. */
    int code = read_message(message, length, &found);
    CHECK(six || code != IPC_E(FORMAT));
    if (code < 0) return;
    CHECK(found.mtu == (mtu > least ? mtu : least) && found.mtu < total);
    CHECK(ipc_address_equal(found.router, router));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    uint32_t length, mtu = take(&in, 1) * 8;
    uint8_t *packet = take_packet(&in, LONGEST, &length), *out = malloc(IPC_ICMP_MAX);
    CHECK(out);
    struct ipc_path_mtu found;
    (void)read_message(packet, length, &found);
    int six = length && packet[0] >> 4 == 6;
    ipc_address router = six ? (ipc_address){1, 2} : ipc_address_of_ipv4(3);
    int code = ipc_icmp_too_big(packet, length, mtu, router, out, IPC_ICMP_MAX);
    CHECK(code >= 0 || code == IPC_E(FORMAT) || code == IPC_E(INVALID));
    if (code > 0) {
        uint32_t made = (uint32_t)code, header = six ? 40 : 20;
        check_message(packet, length, mtu, router, out, made);
        uint8_t *exact = malloc(made);
        CHECK(exact && ipc_icmp_too_big(packet, length, mtu, router, exact, made) == code);
        CHECK(ipc_icmp_too_big(packet, length, mtu, router, exact, made - 1) == IPC_E(FULL));
        free(exact);
        for (uint32_t i = header + 4; i < made && in.size; i++)
            out[i] = (uint8_t)(out[i] ^ take(&in, 1));
        put16(out + header + 2, 0);
        put16(out + header + 2, ~message_sum(out, made));
        (void)read_message(out, made, &found);
    }
    free(packet);
    free(out);
    return 0;
}
