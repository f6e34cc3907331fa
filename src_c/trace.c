/* pcap.h uses the BSD names of types. */
#define _DEFAULT_SOURCE 1

#include "ipsec_core/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <pcap/pcap.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"
#include "trace_private.h"

#define READ_BUFFER (1u << 20)
#define MAX_L3      65535u
#define ETHERNET    14u
#define TAG         4u
#define MAX_TAGS    2
#define SLL         16u
#define SLL2        20u
#define IPV6_HEADER 40u

enum { TYPE_IPV6 = 0x86dd, TYPE_VLAN = 0x8100, TYPE_SERVICE_VLAN = 0x88a8 };
enum { SLL_BROADCAST = 1 };
/* LINKTYPE_RAW of the file format, and OpenBSD's DLT_RAW. */
enum { RAW_LINKTYPE = 101, RAW_OPENBSD = 14 };

static int fail(char error[IPC_TRACE_ERROR_SIZE], int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, IPC_TRACE_ERROR_SIZE, format, arguments);
    va_end(arguments);
    /* libpcap's texts may hold bytes of the file. */
    for (char *p = error; *p; p++) {
        if ((unsigned char)*p < ' ') *p = ' ';
    }
    return code;
}

void *ipc_trace_grow(void *memory, size_t *room, size_t need, size_t item) {
    if (need <= *room && memory) return memory;
    size_t size = *room ? *room : 4096;
    while (size < need) {
        if (size > SIZE_MAX / 2) return NULL;
        size *= 2;
    }
    void *grown = size <= SIZE_MAX / item ? realloc(memory, size * item) : NULL;
    if (grown) *room = size;
    return grown;
}

static size_t table_slot(const struct ipc_table *table, uint64_t key) {
    uint64_t hash = key * 0x9e3779b97f4a7c15u;
    size_t at = (size_t)(hash >> 32 ^ hash) & (table->size - 1);
    while (table->entries[at].key && table->entries[at].key != key)
        at = (at + 1) & (table->size - 1);
    return at;
}

uint32_t ipc_table_get(const struct ipc_table *table, uint64_t key) {
    const struct ipc_table_entry *entry = table->size ? &table->entries[table_slot(table, key)] : NULL;
    return entry && entry->key ? entry->value : IPC_TABLE_NONE;
}

uint32_t *ipc_table_at(struct ipc_table *table, uint64_t key) {
    if (table->used * 2 >= table->size) {
        struct ipc_table larger = {.size = table->size ? table->size * 2 : 64, .used = table->used};
        larger.entries = calloc(larger.size, sizeof *larger.entries);
        if (!larger.entries) return NULL;
        for (size_t i = 0; i < table->size; i++) {
            uint64_t old = table->entries[i].key;
            if (old) larger.entries[table_slot(&larger, old)] = table->entries[i];
        }
        free(table->entries);
        *table = larger;
    }
    struct ipc_table_entry *entry = &table->entries[table_slot(table, key)];
    if (!entry->key) {
        *entry = (struct ipc_table_entry){key, IPC_TABLE_NONE};
        table->used++;
    }
    return &entry->value;
}

/* What the link header says of the packet behind it. */
struct link {
    uint32_t skip; /* bytes before the layer-3 packet, or before the tags */
    uint32_t ethertype;
    int broadcast;
};

/* 0: the frame is too short for its link header, or holds no IP version. */
static int read_link(int type, const uint8_t *p, uint32_t length, struct link *link) {
    *link = (struct link){0, 0, 0};
    switch (type) {
    case DLT_EN10MB:
        if (length < ETHERNET) return 0;
        *link = (struct link){ETHERNET, ipc_load16(p + 12), 0};
        return 1;
    case DLT_LINUX_SLL:
        if (length < SLL) return 0;
        *link = (struct link){SLL, ipc_load16(p + 14), ipc_load16(p) == SLL_BROADCAST};
        return 1;
    case DLT_LINUX_SLL2:
        if (length < SLL2) return 0;
        *link = (struct link){SLL2, ipc_load16(p), p[10] == SLL_BROADCAST};
        return 1;
    case DLT_NULL:
    case DLT_LOOP: {
        if (length < 4) return 0;
        /* An address family in the byte order of the capturing machine (DLT_LOOP: network order). */
        uint32_t family = ipc_load32(p);
        if (family > 0xffff)
            family = (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
        int ipv6 =
            family == 10 || family == 24 || family == 28 || family == 30; /* Linux, NetBSD, FreeBSD, Darwin */
        *link = (struct link){4, family == 2 ? IPC_ETHERTYPE_IPV4 : ipv6 ? TYPE_IPV6 : 0, 0};
        return 1;
    }
    case DLT_IPV4: link->ethertype = IPC_ETHERTYPE_IPV4; return 1;
    case DLT_IPV6: link->ethertype = TYPE_IPV6; return 1;
    default:
        if (length < 1 || (p[0] >> 4 != 4 && p[0] >> 4 != 6)) return 0;
        link->ethertype = p[0] >> 4 == 4 ? IPC_ETHERTYPE_IPV4 : TYPE_IPV6;
        return 1;
    }
}

static int supported(int type) {
    switch (type) {
    case DLT_EN10MB:
    case DLT_LINUX_SLL:
    case DLT_LINUX_SLL2:
    case DLT_NULL:
    case DLT_LOOP:
    case DLT_IPV4:
    case DLT_IPV6:
    case DLT_RAW:
    case RAW_OPENBSD:
    case RAW_LINKTYPE: return 1;
    default: return 0;
    }
}

/* A MAC address for a capture that has none: locally administered for a host, RFC 1112 6.4 for a group. */
static void make_mac(uint8_t *mac, ipc_ipv4 address, int broadcast) {
    ipc_store16(mac, 0x0200);
    ipc_store32(mac + 2, address);
    if (broadcast || address == UINT32_MAX) {
        memset(mac, 0xff, 6);
    } else if (address >> 28 == 14) {
        ipc_store16(mac, 0x0100);
        ipc_store32(mac + 2, 0x5e000000u | (address & 0x7fffffu));
    }
}

/* One MAC address per IPv6 address, RFC 2464 7 for a group. */
static void make_mac_ipv6(uint8_t *mac, const uint8_t *address) {
    uint32_t folded = 0;
    for (uint32_t i = 0; i < 16; i += 4)
        folded ^= ipc_load32(address + i) * (2 * i + 1);
    ipc_store16(mac, address[0] == 0xff ? 0x3333 : 0x0206);
    ipc_store32(mac + 2, address[0] == 0xff ? ipc_load32(address + 12) : folded);
}

static int is_unicast(ipc_ipv4 address) {
    return address != 0 && address < 0xe0000000u;
}

static int count_conversation(ipc_trace *t, struct ipc_table *table, const uint8_t *packet, uint32_t length) {
    ipc_ipv4 a = ipc_load32(packet + 12), b = ipc_load32(packet + 16);
    if (!is_unicast(a) || !is_unicast(b) || a == b) return 0;
    if (a > b) {
        ipc_ipv4 other = a;
        a = b;
        b = other;
    }
    uint32_t *index = ipc_table_at(table, (uint64_t)a << 32 | b);
    if (!index) return IPC_E(NO_MEMORY);
    if (*index == IPC_TABLE_NONE) {
        void *grown = ipc_trace_grow(t->conversations, &t->pair_room, t->pairs + 1, sizeof *t->conversations);
        if (!grown) return IPC_E(NO_MEMORY);
        t->conversations = grown;
        t->conversations[t->pairs] = (struct ipc_conversation){.a = a, .b = b};
        *index = (uint32_t)t->pairs++;
    }
    t->conversations[*index].packets++;
    t->conversations[*index].bytes += length;
    return 0;
}

static int add_frame(ipc_trace *t, struct ipc_table *table, int type, const uint8_t *p, uint32_t captured,
                     uint32_t length, uint64_t time) {
    struct link link;
    if (length < captured) length = captured;
    if (!read_link(type, p, captured, &link)) goto unsendable;
    uint32_t at = link.skip, l2 = ETHERNET, ethertype = link.ethertype;
    for (int tags = 0; tags < MAX_TAGS && (ethertype == TYPE_VLAN || ethertype == TYPE_SERVICE_VLAN);
         tags++) {
        if (captured - at < TAG) goto unsendable;
        ethertype = ipc_load16(p + at + 2);
        at += TAG;
        l2 += TAG;
    }
    const uint8_t *packet = p + at;
    uint32_t here = captured - at, l3 = length - at;
    int ipv4 = ethertype == IPC_ETHERTYPE_IPV4;
    if (ipv4) {
        if (here < IPC_IPV4_HEADER || packet[0] >> 4 != 4) goto unsendable;
        uint32_t header = (packet[0] & 15u) * 4, total = ipc_load16(packet + 2);
        if (header < IPC_IPV4_HEADER || header > here || total < header || total > l3) goto unsendable;
        l3 = total;
        if (here > l3) here = l3;
    }
    if (l3 > MAX_L3) goto unsendable;

    uint8_t *grown = ipc_trace_grow(t->block, &t->room, t->used + l2 + l3, 1);
    if (!grown) return IPC_E(NO_MEMORY);
    t->block = grown;
    void *frames = ipc_trace_grow(t->frames, &t->frame_room, t->count + 1, sizeof *t->frames);
    if (!frames) return IPC_E(NO_MEMORY);
    t->frames = frames;

    uint8_t *frame = t->block + t->used;
    if (t->ethernet) {
        memcpy(frame, p, l2);
    } else if (ethertype == TYPE_IPV6 && here >= IPV6_HEADER) {
        make_mac_ipv6(frame, packet + 24);
        make_mac_ipv6(frame + 6, packet + 8);
        ipc_store16(frame + 12, link.ethertype);
        memcpy(frame + ETHERNET, p + link.skip, l2 - ETHERNET);
    } else {
        make_mac(frame, ipv4 ? ipc_load32(packet + 16) : 0, link.broadcast);
        make_mac(frame + 6, ipv4 ? ipc_load32(packet + 12) : 0, 0);
        ipc_store16(frame + 12, link.ethertype);
        memcpy(frame + ETHERNET, p + link.skip, l2 - ETHERNET);
    }
    memcpy(frame + l2, packet, here);
    memset(frame + l2 + here, 0, l3 - here);
    t->stats.padded += here < l3;
    t->others += !ipv4;
    t->frames[t->count++] = (struct ipc_trace_frame){.time = time,
                                                     .offset = t->used,
                                                     .l3_length = l3,
                                                     .ethertype = (uint16_t)ethertype,
                                                     .l2_length = (uint8_t)l2,
                                                     .number = (uint32_t)t->stats.frames};
    t->used += l2 + l3;
    /* A link-layer broadcast goes to everybody, whatever a subnet's broadcast address looks like. */
    return ipv4 && !(frame[0] & 1) ? count_conversation(t, table, packet, l3) : 0;

unsendable:
    t->stats.unsendable++;
    return 0;
}

static int busier(const void *left, const void *right) {
    const struct ipc_conversation *x = left, *y = right;
    if (x->packets != y->packets) return x->packets > y->packets ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return x->b < y->b ? -1 : x->b > y->b;
}

static int read_frames(ipc_trace *t, pcap_t *pcap, struct ipc_table *table,
                       char error[IPC_TRACE_ERROR_SIZE]) {
    int type = pcap_datalink(pcap);
    if (!supported(type)) {
        const char *name = pcap_datalink_val_to_name(type);
        return fail(error, IPC_E(FORMAT),
                    "link type %d (%s) is not supported; accepted: Ethernet, raw IP, IPv4, IPv6, Linux "
                    "cooked (SLL, SLL2), BSD "
                    "loopback (NULL, LOOP)",
                    type, name ? name : "unknown");
    }
    t->ethernet = type == DLT_EN10MB;
    uint64_t first = 0, latest = 0;
    struct pcap_pkthdr *header;
    const uint8_t *bytes;
    int code;
    while ((code = pcap_next_ex(pcap, &header, &bytes)) == 1) {
        if (t->stats.frames == UINT32_MAX)
            return fail(error, IPC_E(FORMAT), "more than %" PRIu32 " packets", UINT32_MAX);
        /* Damaged stamps may have any value: unsigned arithmetic wraps, and a stamp before the latest one
         * counts as that one. */
        uint64_t stamp = (uint64_t)header->ts.tv_sec * 1000000000u + (uint64_t)header->ts.tv_usec;
        if (t->stats.frames++ == 0) first = stamp;
        uint64_t since = stamp - first;
        if (since <= INT64_MAX && since > latest) latest = since;
        if (add_frame(t, table, type, bytes, header->caplen, header->len, latest) != 0) {
            return fail(error, IPC_E(NO_MEMORY), "out of memory in packet %" PRIu64, t->stats.frames);
        }
    }
    if (code != PCAP_ERROR_BREAK) {
        return fail(error, IPC_E(FORMAT), "packet %" PRIu64 ": %s", t->stats.frames + 1, pcap_geterr(pcap));
    }
    if (t->pairs) qsort(t->conversations, t->pairs, sizeof *t->conversations, busier);
    return 0;
}

/* Opens the capture. What libpcap would call an unknown format is told apart where a name helps. */
static int open_capture(const char *path, char *buffer, pcap_t **out, char error[IPC_TRACE_ERROR_SIZE]) {
    FILE *file = fopen(path, "rb");
    if (!file) return fail(error, IPC_E(IO), "%s", strerror(errno));
    setvbuf(file, buffer, _IOFBF, READ_BUFFER);
    int byte = getc(file), code = 0;
    if (byte == EOF) {
        code = ferror(file)
                   ? fail(error, IPC_E(IO), "%s", strerror(errno))
                   : fail(error, IPC_E(FORMAT), "the file is empty; accepted: pcap and pcapng captures");
    } else if (byte == 0x1f) {
        code = fail(error, IPC_E(FORMAT), "the file is compressed (gzip); unpack it first");
    } else {
        char text[PCAP_ERRBUF_SIZE] = "";
        ungetc(byte, file);
        *out = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, text);
        if (!*out) code = fail(error, IPC_E(FORMAT), "not a pcap or pcapng capture: %s", text);
    }
    if (code) fclose(file);
    return code;
}

int ipc_trace_load(const char *path, ipc_trace **out, char error[IPC_TRACE_ERROR_SIZE]) {
    error[0] = 0;
    struct ipc_table table = {0};
    pcap_t *pcap = NULL;
    ipc_trace *t = calloc(1, sizeof *t);
    char *buffer = malloc(READ_BUFFER);
    int code = t && buffer ? open_capture(path, buffer, &pcap, error)
                           : fail(error, IPC_E(NO_MEMORY), "out of memory");
    if (!code) code = read_frames(t, pcap, &table, error);
    if (pcap) pcap_close(pcap);
    free(buffer);
    free(table.entries);
    if (code) {
        ipc_trace_destroy(t);
        return code;
    }
    *out = t;
    return 0;
}

void ipc_trace_destroy(ipc_trace *t) {
    if (!t) return;
    free(t->block);
    free(t->frames);
    free(t->conversations);
    free(t->macs.entries);
    free(t);
}

size_t ipc_trace_conversations(const ipc_trace *t, struct ipc_conversation *out, size_t max) {
    size_t copied = max < t->pairs ? max : t->pairs;
    if (copied) memcpy(out, t->conversations, copied * sizeof *out);
    return t->pairs;
}

const struct ipc_trace_frame *ipc_trace_frames(const ipc_trace *t, size_t *count) {
    *count = t->mapped ? t->count : 0;
    return t->frames;
}

const uint8_t *ipc_trace_bytes(const ipc_trace *t) {
    return t->block;
}

void ipc_trace_stats(const ipc_trace *t, struct ipc_trace_stats *stats) {
    *stats = t->stats;
}
