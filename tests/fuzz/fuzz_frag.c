/*
 * libFuzzer target for fragments. The first byte chooses: fragments in any order with any content into a
 * small table, or one packet that is split and joined again, which must give the packet back.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -Isrc_c/include tests/fuzz/fuzz_frag.c src_c/frag.c -o
 * fuzz_frag
 */
#include <stdlib.h>
#include <string.h>

#include "ipsec_core/frag.h"

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) abort();                                                                           \
    } while (0)

static unsigned sum(const uint8_t *p, uint32_t length) {
    unsigned total = 0;
    for (uint32_t i = 0; i < length; i++)
        total = total * 31 + p[i];
    return total;
}

struct split {
    ipc_reassembler *table;
    uint32_t mtu;
    int complete; /* in how many fragments the datagram was complete */
    uint8_t joined[65535];
    uint32_t length;
};

static int take(void *context, const uint8_t *fragment, uint32_t length) {
    struct split *s = context;
    const uint8_t *datagram;
    uint32_t datagram_length;
    CHECK(length <= s->mtu);
    int code = ipc_reassembler_input(s->table, fragment, length, 0, &datagram, &datagram_length);
    CHECK(code >= 0);
    if (code == 1) {
        s->complete++;
        s->length = datagram_length;
        memcpy(s->joined, datagram, datagram_length);
    }
    return 0;
}

/* The payload is repeated up to the length that the data ask for: fuzzers prefer short inputs. */
static void split_and_join(const uint8_t *data, size_t size) {
    static uint8_t packet[65535];
    static struct split s;
    if (size < 24) return;
    uint32_t mtu = (uint32_t)data[0] << 8 | data[1], length = (uint32_t)data[2] << 8 | data[3];
    data += 4;
    size -= 4;
    for (size_t i = 0; i < length; i++)
        packet[i] = data[i < size ? i : i % size];
    if (length < 20) return;
    packet[0] = 0x40 | (packet[0] & 15);
    packet[2] = (uint8_t)(length >> 8);
    packet[3] = (uint8_t)length;
    packet[6] = packet[7] = 0;
    s.mtu = mtu;
    s.complete = 0;
    CHECK(ipc_reassembler_create(2, 1, &s.table) == 0);
    int count = ipc_fragment(packet, length, mtu, take, &s);
    if (count > 0) {
        CHECK(s.complete == 1 && s.length == length);
        /* All but the checksum, which is put right. */
        CHECK(memcmp(s.joined, packet, 10) == 0 && memcmp(s.joined + 12, packet + 12, length - 12) == 0);
    }
    ipc_reassembler_destroy(s.table);
}

static int ignore(void *context, const uint8_t *fragment, uint32_t length) {
    *(unsigned *)context += sum(fragment, length);
    return 0;
}

static void any_fragments(const uint8_t *data, size_t size) {
    ipc_reassembler *table;
    ipc_time now = 0;
    unsigned seen = 0;
    uint64_t complete = 0;
    struct ipc_reassembler_stats stats;
    CHECK(ipc_reassembler_create(3, 20, &table) == 0);
    while (size >= 2) {
        uint32_t length = data[0];
        now += data[1] & 7;
        data += 2;
        size -= 2;
        if (length > size) length = (uint32_t)size;
        /* A copy of its own: reading beyond the fragment is seen. */
        uint8_t *fragment = malloc(length ? length : 1);
        if (!fragment) break;
        memcpy(fragment, data, length);
        if (length >= 20) {
            /* Mostly well-formed, of few datagrams. */
            if (fragment[0] & 16) fragment[0] = 0x40 | (fragment[0] & 15);
            fragment[2] = 0;
            fragment[3] = (uint8_t)length;
            fragment[5] &= 3;
            memset(fragment + 12, 0, 8);
        }
        const uint8_t *datagram;
        uint32_t datagram_length;
        if (ipc_reassembler_input(table, fragment, length, now, &datagram, &datagram_length) == 1) {
            CHECK(datagram_length >= 20 && datagram_length <= 65535);
            CHECK(((uint32_t)datagram[2] << 8 | datagram[3]) == datagram_length);
            CHECK(((datagram[6] & 0x3f) | datagram[7]) == 0);
            seen += sum(datagram, datagram_length);
            complete += datagram != fragment;
        }
        (void)ipc_fragment(fragment, length, 68, ignore, &seen);
        free(fragment);
        data += length;
        size -= length;
    }
    ipc_reassembler_stats(table, &stats);
    CHECK(stats.datagrams == complete);
    CHECK(stats.fragments >= stats.datagrams * 2);
    ipc_reassembler_destroy(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    (data[0] & 1 ? split_and_join : any_fragments)(data + 1, size - 1);
    return 0;
}
