/* SAs of the targets: chains of up to four SAs around one packet (RFC 2401 4.3), read from the input. */
#ifndef FUZZ_CHAIN_H
#define FUZZ_CHAIN_H

#include "ipsec_core/crypto.h"
#include "ipsec_core/driver.h"
#include "kit.h"

/* The same filter serves both families; SAs outside of others serve none. */
enum { REFERENCE = 1, NO_REFERENCE = 900, PORT_NAT_T = 4500 };

/* This host and the remote one, as addresses lie on the wire: IPv4 (mapped), IPv6. */
static const uint8_t HERE[2][16] = {{[10] = 0xff, 0xff, 10, 1, 0, 2}, {0xfd, [15] = 2}};
static const uint8_t THERE[2][16] = {{[10] = 0xff, 0xff, 10, 1, 0, 1}, {0xfd, [15] = 1}};

static ipc_address address_of(const uint8_t bytes[16]) {
    ipc_address a = {0, 0};
    for (int i = 0; i < 8; i++) {
        a.high = a.high << 8 | bytes[i];
        a.low = a.low << 8 | bytes[i + 8];
    }
    return a;
}

struct chain {
    struct ipc_sa_config level[IPC_NESTED_MAX]; /* innermost first, as from the remote host to this one */
    unsigned levels;
    uint8_t family;        /* of what goes through it */
    uint8_t authenticated; /* by the outermost SA: what is forged there may pass for anything */
    uint8_t limited;       /* may end, or does not serve all packets */
    uint8_t unguarded;     /* no replay window anywhere */
    uint8_t corrects;      /* checksums, for a NAT */
};

static void read_suite(struct input *in, struct ipc_sa_config *c) {
    c->encryption = (uint8_t)(take(in, 1) % IPC_ENCRYPTION_COUNT);
    c->integrity = (uint8_t)(take(in, 1) % IPC_INTEGRITY_COUNT);
    struct ipc_crypto_suite suite = {c->encryption, c->integrity, c->esn, c->service == IPC_SERVICE_AH};
    if (suite.ah) suite.encryption = c->encryption = IPC_ENCRYPTION_NULL;
    if (!ipc_crypto_suite_valid(&suite))
        c->integrity = suite.ah                                         ? IPC_INTEGRITY_HMAC_MD5_96
                       : ipc_encryption_info(c->encryption)->icv_length ? IPC_INTEGRITY_NONE
                                                                        : IPC_INTEGRITY_HMAC_SHA256_128;
    c->allow_unauthenticated = 1;
}

static void set_hosts(struct ipc_sa_config *c, int family, int towards_here) {
    ipc_address here = address_of(HERE[family == 6]);
    ipc_address there = address_of(THERE[family == 6]);
    c->source = towards_here ? there : here;
    c->destination = towards_here ? here : there;
}

static void read_limits(struct input *in, struct chain *chain) {
    static const uint64_t sequences[] = {0, UINT32_MAX - 3, UINT32_MAX - (1 << 20) - 1, 1 << 20};
    struct ipc_sa_config *c = &chain->level[0];
    uint32_t bits = take(in, 2);
    if (bits & 1) c->soft_bytes = 200;
    if (bits & 2) c->hard_bytes = 600;
    if (bits & 4) c->soft_time = 3000000000u;
    if (bits & 8) c->hard_time = 9000000000u;
    if (bits & 16) c->idle = 1000000000u;
    if (bits & 32) c->protocol = 17;
    if (bits & 64) c->destination_port = 53;
    if (bits & 128) c->inner_source = c->source;
    if (bits & 128) c->inner_source_mask = (ipc_address){UINT64_MAX, UINT64_MAX << 8};
    c->sequence = sequences[bits >> 8 & 3];
    if (c->esn && (bits & 1024)) c->sequence = UINT64_MAX - (bits & 256 ? 3 : 1 << 20);
    if (bits & 2048) c->path_mtu = 200;
    if ((bits & 4096) && c->mode == IPC_TRANSPORT) {
        c->original_source = (ipc_address){c->source.high, c->source.low ^ 0x1234};
        c->original_destination = c->destination;
        chain->corrects = 1;
    }
    chain->limited = (bits & 0xff) != 0;
}

static void read_chain(struct input *in, struct chain *chain, uint8_t family) {
    uint32_t depth = take(in, 1);
    *chain = (struct chain){.family = family, .unguarded = 1};
    chain->levels = depth & 3 ? 1 : 1 + (depth >> 2) % IPC_NESTED_MAX;
    for (unsigned level = 0; level < chain->levels; level++) {
        static const uint16_t windows[] = {64, 32, 96, 4096, 0, 1024, 64, 64};
        struct ipc_sa_config *c = &chain->level[level];
        uint32_t bits = take(in, 2);
        c->mode = bits & 1 ? IPC_TUNNEL : IPC_TRANSPORT;
        c->service = bits & 2 ? IPC_SERVICE_AH : IPC_SERVICE_ESP;
        c->esn = (bits & 4) != 0;
        c->df = (uint8_t)((bits >> 4) % 3);
        c->replay_window = windows[bits >> 6 & 7];
        if (c->esn && c->replay_window == 0) c->replay_window = 64;
        if (c->mode == IPC_TUNNEL) family = bits & 512 ? 6 : 4;
        set_hosts(c, family, 1);
        read_suite(in, c);
        /* Only what is outermost goes under UDP (RFC 3948). */
        if ((bits & 1024) && c->service == IPC_SERVICE_ESP && level + 1 == chain->levels)
            c->encapsulation_source = c->encapsulation_destination = PORT_NAT_T;
        if (c->replay_window) chain->unguarded = 0;
        chain->authenticated =
            c->integrity != IPC_INTEGRITY_NONE || ipc_encryption_info(c->encryption)->icv_length != 0;
        /* What passes an SA between two others has no ports and is IPsec: only the innermost selects. */
        if (level == 0) c->family = chain->family;
    }
    read_limits(in, chain);
}

static int chain_uses(const struct chain *chain, enum ipc_encryption encryption) {
    for (unsigned i = 0; i < chain->levels; i++)
        if (chain->level[i].encryption == encryption) return 1;
    return 0;
}

static int is_encapsulated(const struct chain *chain) {
    return chain->level[chain->levels - 1].encapsulation_source != 0;
}

/* Adds the chain to a driver in one direction. `limits`: with lifetimes, selectors and what NAT asks for, as
 * this host has them; the remote one is without. Another `generation` has other SPIs. */
static int add_chain(ipc_driver *d, const struct chain *chain, enum ipc_direction direction, int towards_here,
                     int limits, uint32_t generation, ipc_time now) {
    static const uint8_t secret[64 + IPC_NESTED_MAX] = "Any bytes are keys; those of the levels differ.";
    ipc_sa outer = 0;
    for (unsigned level = chain->levels; level-- > 0;) {
        struct ipc_sa_config c = chain->level[level];
        if (!limits) {
            c.soft_bytes = c.hard_bytes = 0;
            c.soft_time = c.hard_time = c.idle = 0;
            c.inner_source = c.inner_source_mask = c.original_source = c.original_destination =
                (ipc_address){0, 0};
            c.protocol = 0;
            c.destination_port = 0;
            c.path_mtu = 0;
        }
        set_hosts(&c, ipc_address_is_ipv4(c.source) ? 4 : 6, towards_here);
        c.direction = direction;
        c.created = now;
        c.spi = 0x1000 + generation * 0x100 + chain->family * 0x10u + level;
        c.filter = level == 0 ? REFERENCE : NO_REFERENCE;
        c.outer = outer;
        c.encryption_key = c.integrity_key = secret + level;
        c.encryption_key_length = ipc_encryption_info(c.encryption)->key_length;
        c.integrity_key_length = ipc_integrity_info(c.integrity)->key_length;
        int code = ipc_sa_add(d, &c, &outer);
        if (code < 0) return code;
    }
    return 0;
}

#endif
