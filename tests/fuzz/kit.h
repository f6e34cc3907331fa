/* What the fuzz targets share: checks, and the input taken byte by byte. */
#ifndef FUZZ_KIT_H
#define FUZZ_KIT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A failure prints what should have been true; libFuzzer then keeps the input. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct input {
    const uint8_t *data;
    size_t size;
};

/* The next `bytes` as a number, most significant first; past the end the input goes on with zeros. */
static inline uint32_t take(struct input *in, unsigned bytes) {
    uint32_t value = 0;
    for (; bytes; bytes--) {
        value = value << 8 | (in->size ? in->data[0] : 0);
        if (in->size) {
            in->data++;
            in->size--;
        }
    }
    return value;
}

/* A copy of its own: reading beyond it is seen. */
static inline uint8_t *copy_of(const uint8_t *data, size_t length) {
    uint8_t *copy = malloc(length ? length : 1);
    CHECK(copy);
    if (length) memcpy(copy, data, length);
    return copy;
}

static inline void put16(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

/* IPv6 extension headers in front of what `at` will name, as bits of the input say. Returns where they end.
 */
static inline uint32_t make_extensions(struct input *in, uint8_t *packet, uint32_t count, uint32_t *named) {
    static const uint8_t kinds[8] = {0, 43, 44, 60, 44, 60, 44, 43};
    uint32_t at = 40;
    for (*named = 6; count; count--) {
        uint32_t bits = take(in, 1), kind = kinds[bits & 7], size = 8;
        packet[*named] = (uint8_t)kind;
        if (kind == 44) {
            put16(packet + at + 2, (bits & 8 ? 8 * (bits >> 5) : 0) | (bits >> 4 & 1));
            packet[at + 7] = bits >> 7;
        } else {
            packet[at + 1] = bits >> 3 & 1;
            size += 8u * packet[at + 1];
        }
        *named = at;
        at += size;
    }
    return at;
}

/*
 * A packet of headers that fuzzers put together too rarely: IPv4 with options or as a fragment, IPv6 with up
 * to seven extension headers of any order, and behind them one of the protocols with a meaning of its own.
 */
static inline uint8_t *make_packet(struct input *in, uint32_t *length) {
    static const uint8_t protocols[16] = {17, 17, 17, 6, 1, 58, 50, 51, 59, 46, 2, 4, 41, 50, 51, 255};
    static const uint16_t ports[8] = {53, 80, 88, 500, 4500, 4500, 1, 0};
    uint8_t packet[512] = {0};
    uint32_t bits = take(in, 3), count = bits >> 1 & 7, upper = 20 + (count & 3) * 4, named = 9;
    if (bits & 1) {
        packet[0] = 0x60;
        upper = make_extensions(in, packet, count, &named);
    } else {
        packet[0] = (uint8_t)(0x40 | upper / 4);
        if (count & 4) put16(packet + 6, take(in, 2));
    }
    packet[named] = protocols[bits >> 4 & 15];
    uint32_t total = upper + (bits >> 8 & 127), some = take(in, 2);
    for (uint32_t i = upper; i < total; i++)
        packet[i] = (uint8_t)(some += i);
    /* Ports, or the SPI of an SA of chain.h; a UDP length, and often what marks IKE. */
    uint8_t *p = packet + upper;
    if (packet[named] == 50 || packet[named] == 51) {
        memset(p, 0, 12);
        put16(p + (packet[named] == 50 ? 2 : 6), 0x1000 | (some & 0x3f));
    } else if (packet[named] == 17 || packet[named] == 6) {
        put16(p, ports[bits >> 15 & 7]);
        put16(p + 2, ports[bits >> 18 & 7]);
        put16(p + 4, total - upper);
        if (bits >> 21 & 1) memset(p + 8, 0, 4);
    }
    /* Groups, mapped addresses, or whatever make_likely() makes of them. */
    if (packet[0] >> 4 == 4) {
        put16(packet + 2, total);
        packet[16] = bits >> 22 & 1 ? 0xe0 : 0;
    } else {
        put16(packet + 4, total - 40);
        packet[24] = bits >> 22 & 1 ? 0xff : 0;
        if (!(some & 31)) memset(packet + 18, 0xff, 2);
    }
    *length = bits >> 23 & 1 ? total - (some >> 8 & 3) : total;
    return copy_of(packet, *length);
}

/*
 * A packet: length (2 bytes), how many bytes of it are given (1), these; the rest repeats them, for fuzzers
 * prefer short inputs. With the highest bit of the length it is one of make_packet(). The caller frees.
 */
static inline uint8_t *take_packet(struct input *in, uint32_t longest, uint32_t *length) {
    uint32_t size = take(in, 2), given;
    if (size & 0x8000) return make_packet(in, length);
    *length = size % (longest + 1);
    given = take(in, 1);
    if (given > in->size) given = (uint32_t)in->size;
    if (given > *length) given = *length;
    uint8_t *packet = malloc(*length ? *length : 1);
    CHECK(packet);
    for (uint32_t i = 0; i < *length; i++)
        packet[i] = given ? in->data[i % given] : 0;
    in->data += given;
    in->size -= given;
    return packet;
}

/* Lengths as the header wants them, and the addresses of two hosts. */
static inline void make_likely(uint8_t *packet, uint32_t length, const uint8_t from[16],
                               const uint8_t to[16]) {
    if (length >= 20 && packet[0] >> 4 == 4) {
        put16(packet + 2, length);
        memcpy(packet + 12, from + 12, 4);
        memcpy(packet + 16, to + 12, 4);
    } else if (length >= 40 && packet[0] >> 4 == 6) {
        put16(packet + 4, length - 40);
        memcpy(packet + 8, from, 16);
        memcpy(packet + 24, to, 16);
    }
}

#endif
