/*
 * libFuzzer target for fragments. The first byte chooses: fragments of both families in any order with any
 * content (overlaps, truncations) into a small table; or one packet that is split and joined again in any
 * order, which must give the packet back.
 */
#include "ipsec_core/frag.h"
#include "kit.h"

#define LONGEST (40 + 65535)
#define PIECES  1400 /* of 65535 bytes with an MTU of 68 */

static unsigned sum(const uint8_t *p, uint32_t length) {
    unsigned total = 0;
    for (uint32_t i = 0; i < length; i++)
        total = total * 31 + p[i];
    return total;
}

struct pieces {
    uint32_t mtu, count;
    uint8_t *bytes[PIECES];
    uint32_t length[PIECES];
};

static int keep(void *context, const uint8_t *fragment, uint32_t length) {
    struct pieces *p = context;
    CHECK(length <= p->mtu && p->count < PIECES);
    p->bytes[p->count] = copy_of(fragment, length);
    p->length[p->count++] = length;
    return 0;
}

/* The payload is repeated up to the length that the data ask for: fuzzers prefer short inputs. */
static void split_and_join(const uint8_t *data, size_t size, int version) {
    static uint8_t packet[LONGEST];
    static struct pieces pieces;
    uint32_t least = version == 6 ? 40 : 20;
    if (size < 6 + least) return;
    uint32_t mtu = (uint32_t)data[0] << 8 | data[1], length = (uint32_t)data[2] << 8 | data[3];
    uint32_t order = (uint32_t)data[4] << 8 | data[5];
    data += 6;
    size -= 6;
    if (length < least) return;
    for (size_t i = 0; i < length; i++)
        packet[i] = data[i < size ? i : i % size];
    if (version == 6) {
        packet[0] = 0x60 | (packet[0] & 15);
        put16(packet + 4, length - 40);
    } else {
        packet[0] = 0x40 | (packet[0] & 15);
        put16(packet + 2, length);
        packet[6] = packet[7] = 0;
    }
    pieces.mtu = mtu;
    pieces.count = 0;
    int count = version == 6 ? ipc_fragment6(packet, length, mtu, order, keep, &pieces)
                             : ipc_fragment(packet, length, mtu, keep, &pieces);
    CHECK(count < 0 || (uint32_t)count == pieces.count);

    ipc_reassembler *table;
    const uint8_t *datagram;
    uint32_t datagram_length;
    CHECK(ipc_reassembler_create(2, 1, &table) == 0);
    for (uint32_t left = pieces.count; left; left--) {
        uint32_t i = order % left;
        int code =
            ipc_reassembler_input(table, pieces.bytes[i], pieces.length[i], 0, &datagram, &datagram_length);
        if (pieces.count > 1) CHECK(code == (left == 1));
        if (code == 1 && pieces.count > 1) {
            CHECK(datagram_length == length);
            /* All but the checksum of IPv4, which is put right. */
            CHECK(memcmp(datagram, packet, 10) == 0);
            CHECK(version == 4 || memcmp(datagram + 10, packet + 10, 2) == 0);
            CHECK(memcmp(datagram + 12, packet + 12, length - 12) == 0);
        }
        free(pieces.bytes[i]);
        pieces.bytes[i] = pieces.bytes[left - 1];
        pieces.length[i] = pieces.length[left - 1];
        order = order * 1103515245 + 12345;
    }
    ipc_reassembler_destroy(table);
}

static int ignore(void *context, const uint8_t *fragment, uint32_t length) {
    *(unsigned *)context += sum(fragment, length);
    return 0;
}

/* Mostly well-formed, of few datagrams. The first byte says what of it. */
static void make_fragment(uint8_t *fragment, uint32_t length) {
    if (!length || fragment[0] & 8) return;
    if (fragment[0] & 16 && length >= 20) {
        fragment[0] = 0x40 | (fragment[0] & 7);
        put16(fragment + 2, length);
        fragment[5] &= 3;
        memset(fragment + 12, 0, 8);
    } else if (length >= 48) {
        uint32_t at = 40;
        fragment[0] = 0x60 | (fragment[0] & 7);
        put16(fragment + 4, length - 40);
        memset(fragment + 8, 0, 32);
        /* One header of options or routing before the fragment header. */
        if (fragment[1] & 1 && length >= 56) {
            fragment[6] = fragment[1] & 2 ? 60 : 43;
            fragment[41] = 0;
            fragment[40] = 44;
            at = 48;
        } else {
            fragment[6] = 44;
        }
        memset(fragment + at + 4, 0, 3);
        fragment[at + 7] &= 3;
        fragment[at + 2] &= 3;
    }
}

static void check_whole(const uint8_t *datagram, uint32_t length, int joined) {
    if (datagram[0] >> 4 == 4) {
        CHECK(length >= 20 && length <= 65535 && ((uint32_t)datagram[2] << 8 | datagram[3]) == length);
        CHECK(((datagram[6] & 0x3f) | datagram[7]) == 0);
    } else {
        CHECK(datagram[0] >> 4 == 6 && length >= 40 && length <= LONGEST);
        CHECK(((uint32_t)datagram[4] << 8 | datagram[5]) == length - 40);
        if (joined) CHECK(datagram[6] != 44);
    }
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
        uint8_t *fragment = copy_of(data, length);
        make_fragment(fragment, length);
        const uint8_t *datagram;
        uint32_t datagram_length;
        if (ipc_reassembler_input(table, fragment, length, now, &datagram, &datagram_length) == 1) {
            check_whole(datagram, datagram_length, datagram != fragment);
            seen += sum(datagram, datagram_length);
            complete += ipc_reassembler_last(table) != 0;
        }
        (void)ipc_fragment(fragment, length, 68, ignore, &seen);
        (void)ipc_fragment6(fragment, length, 1280, seen, ignore, &seen);
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
    switch (data[0] & 3) {
    case 1: split_and_join(data + 1, size - 1, 4); break;
    case 2: split_and_join(data + 1, size - 1, 6); break;
    default: any_fragments(data + 1, size - 1); break;
    }
    return 0;
}
