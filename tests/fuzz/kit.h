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

/*
 * A packet: length (2 bytes), how many bytes of it are given (1), these; the rest repeats them, for fuzzers
 * prefer short inputs. The caller frees.
 */
static inline uint8_t *take_packet(struct input *in, uint32_t longest, uint32_t *length) {
    uint32_t given;
    *length = take(in, 2) % (longest + 1);
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

static inline void put16(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
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
