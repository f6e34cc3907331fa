/*
 * What a clear packet is and what the filters say to it, read a second time and as plainly as it can be
 * (RFC 791, RFC 8200, KB 253169 and KB 811832 for the exemptions). Shares no code with src_c.
 */
#ifndef FUZZ_ORACLE_H
#define FUZZ_ORACLE_H

#include "ipsec_core/driver.h"
#include "kit.h"

enum { NOT_IP = 0, MALFORMED = 1 }; /* else the family, 4 or 6 */

struct seen {
    int family;
    uint32_t length;     /* without link padding */
    uint32_t place;      /* bytes of header in front of the place for IPsec */
    uint32_t upper;      /* where `protocol` begins */
    uint8_t address[32]; /* source, destination; IPv4: ::ffff:a.b.c.d */
    uint8_t protocol;
    uint8_t fragment;
    uint8_t fragment_headers; /* of IPv6; a whole packet may have one, not two (RFC 6946, RFC 8200 4.1) */
    uint16_t source_port, destination_port;
    uint8_t neighbor;
};

static inline uint32_t get16(const uint8_t *p) {
    return (uint32_t)p[0] << 8 | p[1];
}

static void see_ports(const uint8_t *p, struct seen *s) {
    if ((s->protocol == 6 || s->protocol == 17) && s->length - s->upper >= 4) {
        s->source_port = (uint16_t)get16(p + s->upper);
        s->destination_port = (uint16_t)get16(p + s->upper + 2);
    }
}

static void see_ipv4(const uint8_t *p, uint32_t length, struct seen *s) {
    uint32_t header = (p[0] & 15u) * 4;
    if (length < 20 || header < 20 || get16(p + 2) < header || get16(p + 2) > length) return;
    *s = (struct seen){.family = 4, .length = get16(p + 2), .place = header, .upper = header};
    s->address[10] = s->address[11] = s->address[26] = s->address[27] = 0xff;
    memcpy(s->address + 12, p + 12, 4);
    memcpy(s->address + 28, p + 16, 4);
    s->protocol = p[9];
    s->fragment = (get16(p + 6) & 0x3fff) != 0;
    if ((get16(p + 6) & 0x1fff) == 0) see_ports(p, s);
}

static void see_ipv6(const uint8_t *p, uint32_t length, struct seen *s) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (length < 40 || 40 + get16(p + 4) > length || !memcmp(p + 8, mapped, 12) ||
        !memcmp(p + 24, mapped, 12))
        return;
    struct seen found = {.family = 6, .length = 40 + get16(p + 4), .place = 40, .upper = 40};
    memcpy(found.address, p + 8, 32);
    int later = 0, outside = 1;
    uint8_t kind = p[6];
    for (unsigned headers = 0; !later && (kind == 0 || kind == 43 || kind == 44 || kind == 60); headers++) {
        if (headers == 8 || (kind == 0 && headers > 0) || found.length - found.upper < 8) return;
        const uint8_t *header = p + found.upper;
        uint32_t size = kind == 44 ? 8 : 8 + header[1] * 8u;
        if (size > found.length - found.upper) return;
        if (kind == 44) {
            found.fragment_headers++;
            found.fragment |= (get16(header + 2) & 0xfff9) != 0;
            later = get16(header + 2) >= 8;
        }
        /* Destination options are for the last host unless a routing header comes next. */
        if (kind == 60 && header[0] != 43) outside = 0;
        found.upper += size;
        if (outside) found.place = found.upper;
        kind = header[0];
    }
    found.protocol = kind;
    *s = found;
    if (later) return;
    see_ports(p, s);
    s->neighbor = kind == 58 && s->upper < s->length && p[s->upper] >= 133 && p[s->upper] <= 137;
}

static struct seen see(const uint8_t *packet, uint32_t length) {
    struct seen s = {.family = MALFORMED};
    if (length == 0) return s;
    if (packet[0] >> 4 == 4)
        see_ipv4(packet, length, &s);
    else if (packet[0] >> 4 == 6)
        see_ipv6(packet, length, &s);
    else
        s.family = NOT_IP;
    return s;
}

static int is_exempt(const struct ipc_driver_config *c, const struct seen *s) {
    int udp = s->protocol == 17, from = s->source_port, to = s->destination_port;
    const uint8_t *destination = s->address + 16;
    if (udp && to == 500) return 1;
    if (udp && c->nat_traversal && (from == 4500 || to == 4500)) return 1;
    if (s->neighbor) return 1;
    int group = s->family == 4 ? destination[12] >= 224 : destination[0] == 0xff;
    if (group && c->no_default_exempt < 2) return 1;
    if (c->no_default_exempt % 2) return 0;
    return s->protocol == 46 || ((udp || s->protocol == 6) && (from == 88 || to == 88));
}

static int in_network(const uint8_t *address, ipc_address network, ipc_address mask) {
    for (int i = 0; i < 16; i++) {
        unsigned down = (unsigned)(15 - i) % 8 * 8;
        uint8_t n = (uint8_t)((i < 8 ? network.high : network.low) >> down);
        uint8_t m = (uint8_t)((i < 8 ? mask.high : mask.low) >> down);
        if ((address[i] ^ n) & m) return 0;
    }
    return 1;
}

static uint32_t first_match(const struct ipc_filter *filters, uint32_t count, enum ipc_direction direction,
                            const struct seen *s) {
    for (uint32_t i = 0; i < count; i++) {
        const struct ipc_filter *f = &filters[i];
        if (f->direction != direction) continue;
        if (f->family && f->family != s->family) continue;
        if (f->protocol && f->protocol != s->protocol) continue;
        if (f->source_port && f->source_port != s->source_port) continue;
        if (f->destination_port && f->destination_port != s->destination_port) continue;
        if (in_network(s->address, f->source, f->source_mask) &&
            in_network(s->address + 16, f->destination, f->destination_mask))
            return i;
    }
    return IPC_NO_FILTER_INDEX;
}

static int one_of(int status, const int *list, unsigned count) {
    while (count--)
        if (list[count] == status) return 1;
    return 0;
}
#define ONE_OF(status, ...)                                                                                  \
    one_of(status, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

/* Whether these may be the verdict and the filter of a packet that came to the driver like this. `soft`:
 * there is a soft SA. */
static int verdict_fits(const struct ipc_driver_config *c, const struct ipc_filter *filters, uint32_t count,
                        enum ipc_direction direction, const struct seen *s, int soft, int status,
                        uint32_t filter) {
    if (s->family == NOT_IP || s->family == MALFORMED)
        return status == (s->family == NOT_IP ? IPC_NOT_IP : IPC_MALFORMED) && filter == IPC_NO_FILTER_INDEX;
    if (direction == IPC_INBOUND) {
        int udp = c->nat_traversal && s->protocol == 17;
        if (s->protocol == 50 || s->protocol == 51 ||
            (udp && (s->fragment || s->fragment_headers || s->destination_port == 4500)))
            /* Its own ways, on which filters are asked of reassembled UDP alone. */
            return s->protocol == 17 ||
                   !ONE_OF(status, IPC_EXEMPT, IPC_PERMITTED, IPC_NO_FILTER, IPC_PASSED_THROUGH, IPC_SOFT,
                           IPC_NOT_IP, IPC_BLOCKED, IPC_SHOULD_BE_SECURED);
    }
    if (is_exempt(c, s)) return status == IPC_EXEMPT && filter == IPC_NO_FILTER_INDEX;
    uint32_t first = first_match(filters, count, direction, s);
    if (filter != first) return 0;
    if (first == IPC_NO_FILTER_INDEX) return status == IPC_NO_FILTER;
    int action = filters[first].action;
    if (action == IPC_BLOCK) return status == IPC_BLOCKED;
    if (action == IPC_PERMIT || (action == IPC_PASSTHROUGH && direction == IPC_OUTBOUND))
        return status == IPC_PERMITTED;
    if (soft && ONE_OF(status, IPC_SOFT, IPC_EXPIRED)) return 1;
    if (direction == IPC_INBOUND)
        return status == (action == IPC_PASSTHROUGH ? IPC_PASSED_THROUGH : IPC_SHOULD_BE_SECURED);
    return ONE_OF(status, IPC_PROTECTED, IPC_HELD, IPC_NOT_HELD, IPC_MALFORMED, IPC_FRAGMENT, IPC_EXPIRED,
                  IPC_SEQUENCE_EXHAUSTED, IPC_EXCEEDS_MTU, IPC_TOO_BIG);
}

#endif
