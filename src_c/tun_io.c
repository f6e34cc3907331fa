/* The packet loop of a live computer; see tun.h. The sockets and the device are the only things that it waits
 * for. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipsec_core/frag.h"
#include "internal.h"
#include "ipsec_core/path_mtu.h"
#include "tun.h"

#define BURST 64u
/* Datagrams of port 4500 at once, of which each may be 64 KiB of joined ones: then few, for the cache's sake.
 */
#define DATAGRAMS        32u
#define JOINED_DATAGRAMS 4u
#define UP_BYTES         (256u << 10)
#define GSO_BYTES        65000u /* of one message: an IP packet with its headers */

#define FRAGMENTED_MAX 16u /* datagrams of the host that are put together at once */
#define FRAGMENT_TIME  (30ull * 1000000000)

struct control {
    _Alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(int)) * 2];
};

struct ipc_tun {
    struct ipc_tun_config config;
    int epoll;
    int release; /* packets may have waited for an SA */
    /* to the network */
    struct ipc_burst *out;
    uint32_t sent;  /* of `out` */
    int blocked_on; /* the socket whose queue is full, or -1 */
    struct ipc_tun_large large;
    uint8_t *read_buffer;
    ipc_reassembler *fragments;
    /* to the host */
    struct ipc_burst *in;
    uint8_t *datagrams;
    unsigned datagrams_at_once;
    struct ipc_tun_merge merge;
    uint8_t *up;
    uint32_t up_at, up_end;
    struct ipc_tun_statistics statistics;
    /* system calls */
    struct mmsghdr raw_messages[BURST], messages[BURST];
    struct iovec raw_slots[BURST], parts[BURST];
    struct sockaddr_in addresses[BURST];
    struct control controls[BURST];
    uint32_t begins[BURST + 1]; /* the packet that a message begins with */
};

/* --- set-up --- */

static int watch(const ipc_tun *t, int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data = {.fd = fd}};
    return epoll_ctl(t->epoll, operation, fd, &event);
}

static int allocate(ipc_tun *t) {
    int code = ipc_burst_create(BURST, IPC_PACKET_MAX, &t->out);
    if (code == 0) code = ipc_burst_create(BURST, IPC_PACKET_MAX, &t->in);
    if (code == 0) code = ipc_reassembler_create(FRAGMENTED_MAX, FRAGMENT_TIME, &t->fragments);
    if (code < 0) return code;
    t->read_buffer = malloc(IPC_PACKET_MAX + 1u);
    t->datagrams = malloc((size_t)DATAGRAMS * IPC_PACKET_MAX);
    t->up = malloc(UP_BYTES);
    return t->read_buffer && t->datagrams && t->up ? 0 : IPC_E(NO_MEMORY);
}

int ipc_tun_create(const struct ipc_tun_config *config, ipc_tun **out) {
    ipc_tun *t = calloc(1, sizeof *t);
    if (!t) return IPC_E(NO_MEMORY);
    t->config = *config;
    t->blocked_on = -1;
    t->datagrams_at_once = DATAGRAMS;
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    int code = t->epoll < 0 ? IPC_E(IO) : allocate(t);
    const int sources[] = {config->tun, config->udp, config->esp, config->ah, config->control};
    for (unsigned i = 0; code == 0 && i < sizeof sources / sizeof *sources; i++)
        if (watch(t, EPOLL_CTL_ADD, sources[i], EPOLLIN) < 0) code = IPC_E(IO);
    if (code == 0 && watch(t, EPOLL_CTL_ADD, config->raw, 0) < 0) code = IPC_E(IO);
    if (code < 0) {
        ipc_tun_destroy(t);
        return code;
    }
    for (uint32_t i = 0; i < BURST; i++) {
        t->raw_slots[i] =
            (struct iovec){t->in->arena + (size_t)i * t->in->stride + IPC_BURST_HEADROOM, IPC_PACKET_MAX};
        t->raw_messages[i].msg_hdr = (struct msghdr){.msg_iov = &t->raw_slots[i], .msg_iovlen = 1};
    }
    *out = t;
    return 0;
}

void ipc_tun_destroy(ipc_tun *t) {
    if (!t) return;
    if (t->epoll >= 0) close(t->epoll);
    ipc_burst_destroy(t->out);
    ipc_burst_destroy(t->in);
    ipc_reassembler_destroy(t->fragments);
    free(t->read_buffer);
    free(t->datagrams);
    free(t->up);
    free(t);
}

void ipc_tun_statistics(const ipc_tun *t, struct ipc_tun_statistics *statistics) {
    *statistics = t->statistics;
}

const char *ipc_tun_statistic_name(unsigned index) {
    static const char *const names[] = {
#define X(name, text) #name,
        IPC_TUN_STATISTICS(X)
#undef X
    };
    return index < sizeof names / sizeof *names ? names[index] : NULL;
}

/* The next slot of a burst, for a packet that is written there. */
static uint8_t *slot(struct ipc_burst *b, ipc_time now) {
    (void)ipc_burst_add(b, NULL, 0, now);
    return ipc_burst_packet(b, b->count - 1);
}

/* --- to the host --- */

static void write_tun(ipc_tun *t, const struct iovec *parts, uint32_t count) {
    if (writev(t->config.tun, parts, (int)count) < 0)
        t->statistics.write_errors++;
    else
        t->statistics.writes++;
}

static void write_merged(ipc_tun *t) {
    if (t->merge.count == 0) return;
    ipc_tun_merge_finish(&t->merge);
    write_tun(t, t->merge.parts, t->merge.count);
    t->merge.count = 0;
}

static void hand_up(ipc_tun *t, const uint8_t *packet, uint32_t length) {
    if (t->up_end + 4 + length > UP_BYTES) {
        t->statistics.lost_up++;
        return;
    }
    memcpy(t->up + t->up_end, &length, 4);
    memcpy(t->up + t->up_end + 4, packet, length);
    t->up_end += 4 + length;
}

uint32_t ipc_tun_up(ipc_tun *t, const uint8_t **packet) {
    uint32_t length;
    if (t->up_at == t->up_end) {
        t->up_at = t->up_end = 0;
        return 0;
    }
    memcpy(&length, t->up + t->up_at, 4);
    *packet = t->up + t->up_at + 4;
    t->up_at += 4 + length;
    return length;
}

/* What stands in `in` goes through the driver and up. */
static void finish_inbound(ipc_tun *t) {
    struct ipc_burst *b = t->in;
    if (b->count == 0) return;
    ipc_inbound(t->config.driver, b);
    for (uint32_t i = 0; i < b->count; i++) {
        uint8_t *packet = ipc_burst_packet(b, i);
        if (b->status[i] == IPC_EXEMPT) hand_up(t, packet, b->length[i]);
        if (b->status[i] != IPC_PROTECTED) continue;
        if (ipc_tun_merge_add(&t->merge, packet, b->length[i])) continue;
        write_merged(t);
        (void)ipc_tun_merge_add(&t->merge, packet, b->length[i]);
    }
    write_merged(t);
    ipc_burst_reset(b);
}

/* Packets that came in clear and were led here: what the driver lets pass, the kernel gets. */
static void finish_clear(ipc_tun *t) {
    struct ipc_burst *b = t->in;
    if (b->count == 0) return;
    t->statistics.clear += b->count;
    ipc_inbound(t->config.driver, b);
    for (uint32_t i = 0; i < b->count; i++) {
        static const struct virtio_net_hdr plain;
        if (!ipc_passes((enum ipc_status)b->status[i])) continue;
        struct iovec parts[2] = {{(void *)&plain, sizeof plain}, {ipc_burst_packet(b, i), b->length[i]}};
        write_tun(t, parts, 2);
    }
    ipc_burst_reset(b);
}

/* ESP or AH, with the IP header, straight into the slots. Returns whether there may be more. */
static int receive_raw(ipc_tun *t, int fd, ipc_time now) {
    int count = recvmmsg(fd, t->raw_messages, BURST, MSG_DONTWAIT, NULL);
    if (count <= 0) return 0;
    for (int i = 0; i < count; i++) {
        (void)slot(t->in, now);
        t->in->length[i] = t->raw_messages[i].msg_len;
    }
    t->statistics.receives += (unsigned)count;
    finish_inbound(t);
    return 1;
}

/* The size of the datagrams that UDP_GRO has joined. */
static uint32_t joined_size(struct msghdr *message, uint32_t length) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO) continue;
        int size;
        memcpy(&size, CMSG_DATA(c), sizeof size);
        if (size > 0) return (uint32_t)size;
    }
    return length;
}

/* A datagram of port 4500 as the packet that it was: the driver takes IP packets. */
static void add_datagram(ipc_tun *t, const struct sockaddr_in *from, const uint8_t *data, uint32_t length,
                         ipc_time now) {
    uint32_t total = IPC_IPV4_HEADER + IPC_UDP_HEADER + length;
    const uint32_t words[5] = {0x45000000u | total, 0, 64u << 24 | IPC_PROTO_UDP << 16,
                               ntohl(from->sin_addr.s_addr), t->config.local};
    uint8_t *packet = slot(t->in, now);
    ipc_store_header(packet, words);
    ipc_store32(packet + 20, (uint32_t)ntohs(from->sin_port) << 16 | IPC_PORT_NAT_T);
    ipc_store32(packet + 24, (IPC_UDP_HEADER + length) << 16);
    memcpy(packet + 28, data, length);
    t->in->length[t->in->count - 1] = total;
}

static int receive_udp(ipc_tun *t, ipc_time now) {
    struct mmsghdr *m = t->messages;
    for (unsigned i = 0; i < t->datagrams_at_once; i++) {
        t->parts[i] = (struct iovec){t->datagrams + (size_t)i * IPC_PACKET_MAX, IPC_PACKET_MAX};
        m[i].msg_hdr = (struct msghdr){.msg_name = &t->addresses[i],
                                       .msg_namelen = sizeof t->addresses[i],
                                       .msg_iov = &t->parts[i],
                                       .msg_iovlen = 1,
                                       .msg_control = t->controls[i].bytes,
                                       .msg_controllen = sizeof t->controls[i].bytes};
    }
    int count = recvmmsg(t->config.udp, m, t->datagrams_at_once, MSG_DONTWAIT, NULL);
    if (count <= 0) return 0;
    t->datagrams_at_once = DATAGRAMS;
    for (int i = 0; i < count; i++) {
        const uint8_t *data = t->parts[i].iov_base;
        uint32_t length = m[i].msg_len, size = joined_size(&m[i].msg_hdr, length);
        uint32_t pieces = size ? (length + size - 1) / size : 0;
        if (pieces > 1) t->datagrams_at_once = JOINED_DATAGRAMS;
        /* What was joined on the way stays together here, so that it can be joined again. */
        if (t->in->count + pieces > BURST) finish_inbound(t);
        for (uint32_t at = 0; at < length; at += size) {
            if (t->in->count == BURST) finish_inbound(t);
            uint32_t left = length - at;
            add_datagram(t, &t->addresses[i], data + at, left < size ? left : size, now);
        }
    }
    t->statistics.receives += (unsigned)count;
    finish_inbound(t);
    return 1;
}

/* --- to the network --- */

/* RFC 2401 6.1: the host hears that its packet is too long, as if its destination said so. An address of our
 * own would be refused as a source. */
static void tell_too_big(ipc_tun *t, uint32_t i) {
    uint8_t message[IPC_ICMP_MAX];
    static const struct virtio_net_hdr plain;
    const uint8_t *packet = ipc_burst_packet(t->out, i);
    ipc_address from = ipc_address_of_ipv4(ipc_load32(packet + 16));
    int length = packet[0] >> 4 != 4
                     ? 0
                     : ipc_burst_too_big(t->config.driver, t->out, i, from, message, sizeof message);
    if (length <= 0) return;
    struct iovec parts[2] = {{(void *)&plain, sizeof plain}, {message, (size_t)length}};
    write_tun(t, parts, 2);
    t->statistics.too_big++;
}

/* Fragments go in clear to nobody: a host joins them before IPsec (RFC 2401 B.2), the kernel has cut them
 * already. Of those that come in clear only the first one says what it is. */
static void add_fragment(ipc_tun *t, struct ipc_burst *b, ipc_time now) {
    const uint8_t *datagram;
    uint32_t length;
    if (ipc_reassembler_input(t->fragments, t->large.packet, t->large.length, now, &datagram, &length) == 1)
        (void)ipc_burst_add(b, datagram, length, now);
    t->large.packet = NULL;
}

static int is_fragment(const struct ipc_tun_large *large) {
    return !large->protocol && large->length >= IPC_IPV4_HEADER && large->packet[0] >> 4 == 4 &&
           (ipc_load16(large->packet + 6) & IPC_FRAGMENT_BITS);
}

/* Reads the host's next packet; 0: there is none. */
static int read_tun(ipc_tun *t) {
    struct virtio_net_hdr header;
    struct iovec parts[2] = {{&header, sizeof header}, {t->read_buffer, IPC_PACKET_MAX}};
    ssize_t got = readv(t->config.tun, parts, 2);
    if (got <= (ssize_t)sizeof header) return 0;
    t->statistics.reads++;
    uint32_t length = (uint32_t)got - (uint32_t)sizeof header;
    if (ipc_tun_large_begin(&t->large, &header, t->read_buffer, length) < 0) {
        t->large.packet = NULL;
        t->statistics.malformed++;
    }
    return 1;
}

/* Segments that the packet in hand still gives. */
static uint32_t segments_left(const struct ipc_tun_large *large) {
    uint32_t left = large->length - large->data - large->at;
    return large->size && left ? (left + large->size - 1) / large->size : 1;
}

/* Whether the packet was not sent by the host, but came to it in clear. */
static int comes_in(const ipc_tun *t) {
    return t->large.length >= IPC_IPV4_HEADER && t->large.packet[0] >> 4 == 4 &&
           ipc_load32(t->large.packet + 16) == t->config.local;
}

static void fill(ipc_tun *t, ipc_time now) {
    struct ipc_burst *b = t->out;
    ipc_burst_reset(b);
    t->sent = 0;
    if (t->release && ipc_release(t->config.driver, b, now) == 0) t->release = 0;
    while (b->count < BURST) {
        if (ipc_tun_large_done(&t->large)) {
            if (!read_tun(t)) return;
            if (ipc_tun_large_done(&t->large)) continue;
            /* A large packet stays together if it can: the sockets join what has one size. */
            if (b->count && b->count + segments_left(&t->large) > BURST) return;
        }
        struct ipc_burst *to = comes_in(t) ? t->in : b;
        if (to->count == BURST) return;
        if (is_fragment(&t->large)) {
            add_fragment(t, to, now);
            continue;
        }
        uint8_t *packet = slot(to, now);
        to->length[to->count - 1] = ipc_tun_large_next(&t->large, packet);
    }
}

/* ESP in UDP of ours: it goes through the socket of port 4500, which makes outer headers of its own. */
static int is_datagram(const struct ipc_burst *b, uint32_t i) {
    const uint8_t *packet = ipc_burst_packet(b, i);
    return b->status[i] == IPC_PROTECTED && b->length[i] > 28 && packet[0] == 0x45 &&
           packet[9] == IPC_PROTO_UDP && ipc_load16(packet + 20) == IPC_PORT_NAT_T;
}

/* Whether packet `i` may follow those from `first` on in one message, of which the last has `length` bytes.
 */
static int joins(const ipc_tun *t, uint32_t first, uint32_t i, uint32_t last, uint32_t bytes) {
    const struct ipc_burst *b = t->out;
    const uint8_t *p = ipc_burst_packet(b, first), *q = ipc_burst_packet(b, i);
    return is_datagram(b, i) && p[1] == q[1] && ipc_load32(p + 16) == ipc_load32(q + 16) &&
           ipc_load32(p + 20) == ipc_load32(q + 20) && b->length[last] == b->length[first] &&
           b->length[i] <= b->length[first] && b->length[first] <= t->config.mtu &&
           bytes + b->length[i] <= GSO_BYTES;
}

/* The name, and type of service and segment size of a message of port 4500. */
static void address_datagram(ipc_tun *t, unsigned m, uint32_t first, uint32_t packets) {
    const uint8_t *packet = ipc_burst_packet(t->out, first);
    struct msghdr *message = &t->messages[m].msg_hdr;
    t->addresses[m] = (struct sockaddr_in){.sin_family = AF_INET,
                                           .sin_port = htons(ipc_load16(packet + 22)),
                                           .sin_addr.s_addr = htonl(ipc_load32(packet + 16))};
    if (packets == 1 && packet[1] == 0) return;
    message->msg_control = t->controls[m].bytes;
    message->msg_controllen = sizeof t->controls[m].bytes;
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    size_t used = 0;
    if (packets > 1) {
        uint16_t size = (uint16_t)(t->out->length[first] - 28);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof size)};
        memcpy(CMSG_DATA(c), &size, sizeof size);
        used = CMSG_SPACE(sizeof size);
        c = (struct cmsghdr *)(t->controls[m].bytes + used);
    }
    if (packet[1]) {
        int tos = packet[1];
        *c =
            (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_TOS, .cmsg_len = CMSG_LEN(sizeof tos)};
        memcpy(CMSG_DATA(c), &tos, sizeof tos);
        used += CMSG_SPACE(sizeof tos);
    }
    message->msg_controllen = used;
}

/* Messages for the packets from `*next` on that go through one socket; returns how many. `*next` becomes the
 * packet behind them. */
static unsigned build(ipc_tun *t, uint32_t *next, int datagrams) {
    struct ipc_burst *b = t->out;
    unsigned count = 0, used = 0;
    uint32_t i = *next, front = datagrams ? IPC_IPV4_HEADER + IPC_UDP_HEADER : 0;
    while (i < b->count) {
        if (!ipc_passes((enum ipc_status)b->status[i])) {
            i++;
            continue;
        }
        if (is_datagram(b, i) != datagrams || (!datagrams && b->length[i] > t->config.mtu)) break;
        uint32_t first = i, bytes = 0;
        struct iovec *parts = &t->parts[used];
        do {
            t->parts[used++] = (struct iovec){ipc_burst_packet(b, i) + front, b->length[i] - front};
            bytes += b->length[i++];
        } while (datagrams && !t->config.no_gso && i < b->count && i - first < IPC_TUN_GSO_MAX &&
                 joins(t, first, i, i - 1, bytes));
        t->begins[count] = first;
        t->messages[count].msg_hdr = (struct msghdr){.msg_name = &t->addresses[count],
                                                     .msg_namelen = sizeof t->addresses[count],
                                                     .msg_iov = parts,
                                                     .msg_iovlen = i - first};
        address_datagram(t, count, first, i - first);
        if (!datagrams) t->messages[count].msg_hdr.msg_controllen = 0;
        count++;
    }
    t->begins[count] = *next = i;
    return count;
}

struct fragments {
    ipc_tun *t;
    const struct sockaddr_in *to;
};

static int send_fragment(void *context, const uint8_t *fragment, uint32_t length) {
    const struct fragments *f = context;
    ssize_t sent = sendto(f->t->config.raw, fragment, length, MSG_DONTWAIT, (const struct sockaddr *)f->to,
                          sizeof *f->to);
    if (sent < 0) f->t->statistics.send_errors++;
    return 0;
}

/* A packet longer than the link takes, which the driver lets pass only when it may be fragmented. */
static void send_in_fragments(ipc_tun *t, uint32_t i) {
    const uint8_t *packet = ipc_burst_packet(t->out, i);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(ipc_load32(packet + 16))};
    struct fragments context = {t, &to};
    if (ipc_fragment(packet, t->out->length[i], t->config.mtu, send_fragment, &context) < 0)
        t->statistics.send_errors++;
}

static void block(ipc_tun *t, int fd) {
    t->blocked_on = fd;
    t->statistics.blocked++;
    (void)watch(t, EPOLL_CTL_MOD, fd, EPOLLOUT | (fd == t->config.udp ? EPOLLIN : 0));
    (void)watch(t, EPOLL_CTL_MOD, t->config.tun, 0);
}

static void unblock(ipc_tun *t) {
    (void)watch(t, EPOLL_CTL_MOD, t->blocked_on, t->blocked_on == t->config.udp ? EPOLLIN : 0);
    (void)watch(t, EPOLL_CTL_MOD, t->config.tun, EPOLLIN);
    t->blocked_on = -1;
}

/* Sends messages 0..count; where the queue is full, t->sent says how far it got: 0. */
static int send_messages(ipc_tun *t, int fd, unsigned count) {
    for (unsigned m = 0; m < count;) {
        int sent = sendmmsg(fd, t->messages + m, count - m, MSG_DONTWAIT);
        if (sent > 0) {
            m += (unsigned)sent;
            t->statistics.sends += (unsigned)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            t->sent = t->begins[m];
            block(t, fd);
            return 0;
        } else if (errno == EIO && t->messages[m].msg_hdr.msg_iovlen > 1) {
            /* The link cannot compute checksums, without which the kernel does not cut messages. */
            t->config.no_gso = 1;
            t->sent = t->begins[m];
            return 1;
        } else if (errno != EINTR) {
            t->statistics.send_errors += t->messages[m++].msg_hdr.msg_iovlen;
        }
    }
    t->sent = t->begins[count];
    return 1;
}

/* Sends what stands in `out`; 0: a queue is full. */
static int send_burst(ipc_tun *t) {
    struct ipc_burst *b = t->out;
    while (t->sent < b->count) {
        uint32_t next = t->sent;
        while (next < b->count && !ipc_passes((enum ipc_status)b->status[next]))
            next++;
        t->sent = next;
        if (next == b->count) break;
        int datagrams = is_datagram(b, next);
        if (!datagrams && b->length[next] > t->config.mtu) {
            send_in_fragments(t, next);
            t->sent++;
            continue;
        }
        unsigned count = build(t, &next, datagrams);
        if (!send_messages(t, datagrams ? t->config.udp : t->config.raw, count)) return 0;
    }
    return 1;
}

/* Returns whether there may be more. */
static int to_network(ipc_tun *t, ipc_time now) {
    struct ipc_burst *b = t->out;
    if (!send_burst(t)) return 0;
    fill(t, now);
    int clear = t->in->count != 0;
    finish_clear(t);
    if (b->count == 0) return clear;
    if (ipc_outbound(t->config.driver, b) < b->count)
        for (uint32_t i = 0; i < b->count; i++)
            if (b->status[i] == IPC_EXCEEDS_MTU) tell_too_big(t, i);
    return send_burst(t);
}

/* Serves the descriptors that are ready; flags as ipc_tun_run, and in `*more` whether there may be more. */
static unsigned serve(ipc_tun *t, const struct epoll_event *events, int count, ipc_time now, unsigned *more) {
    unsigned flags = 0;
    *more = 0;
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd, readable = (events[i].events & EPOLLIN) != 0;
        if (fd == t->blocked_on && (events[i].events & (EPOLLOUT | EPOLLERR))) unblock(t);
        if (fd == t->config.control)
            flags |= IPC_TUN_CONTROL;
        else if (fd == t->config.tun)
            flags |= events[i].events & EPOLLERR ? IPC_TUN_GONE : 0;
        else if (readable)
            *more |= (unsigned)(fd == t->config.udp ? receive_udp(t, now) : receive_raw(t, fd, now));
    }
    if (t->blocked_on < 0) *more |= (unsigned)to_network(t, now);
    const ipc_driver *d = t->config.driver;
    return flags | (t->up_at != t->up_end || d->upcall_head != d->upcall_tail ? IPC_TUN_UP : 0);
}

unsigned ipc_tun_run(ipc_tun *t, int timeout, int release) {
    struct epoll_event events[8];
    ipc_time now = t->config.clock(t->config.context);
    ipc_time end = timeout < 0 ? IPC_NEVER : now + (ipc_time)timeout * 1000000;
    unsigned more = t->release = release;
    for (;;) {
        int wait = more ? 0 : timeout < 0 ? -1 : (int)((end - now + 999999) / 1000000);
        int count = epoll_wait(t->epoll, events, 8, wait);
        now = t->config.clock(t->config.context);
        unsigned flags = serve(t, events, count, now, &more);
        if (flags || now >= end || count < 0) return flags;
    }
}
