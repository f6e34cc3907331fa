// Preloaded into an IKE daemon where the kernel has no ESP and no AH: every netlink message that would change
// an SA or a policy becomes a no-op that the kernel itself acknowledges. What the daemon wanted is appended
// to the file named by XFRM_SHIM_LOG, a JSON object a line, so that a test sees the keys and another program
// can carry the packets.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/udp.h>
#include <linux/xfrm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

typedef struct {
    char text[4096];
    size_t used;
} line;

__attribute__((format(printf, 2, 3))) static void add(line *l, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(l->text + l->used, sizeof l->text - l->used, format, arguments);
    va_end(arguments);
    if (written > 0 && l->used + (size_t)written < sizeof l->text) {
        l->used += (size_t)written;
    }
}

static void add_algorithm(line *l, const char *member, const char *name, const char *key, unsigned bits,
                          unsigned icv) {
    add(l, ", \"%s\": {\"name\": \"%s\", \"icv_bits\": %u, \"key\": \"", member, name, icv);
    for (unsigned i = 0; i < bits / 8; i++) {
        add(l, "%02x", (unsigned char)key[i]);
    }
    add(l, "\"}");
}

static void add_address(line *l, const char *member, unsigned family, const xfrm_address_t *address) {
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop((int)family, address, text, sizeof text);
    add(l, ", \"%s\": \"%s\"", member, text);
}

// struct xfrm_usersa_info, then attributes (linux/xfrm.h).
static void add_sa(line *l, const struct nlmsghdr *message) {
    const struct xfrm_usersa_info *sa = NLMSG_DATA(message);
    add(l, "{\"event\": \"add\", \"spi\": %u, \"protocol\": %u, \"tunnel\": %s, \"reqid\": %u",
        ntohl(sa->id.spi), sa->id.proto, sa->mode == XFRM_MODE_TUNNEL ? "true" : "false", sa->reqid);
    add_address(l, "source", sa->family, &sa->saddr);
    add_address(l, "destination", sa->family, &sa->id.daddr);
    size_t left = message->nlmsg_len - NLMSG_SPACE(sizeof *sa);
    const struct nlattr *item = (const struct nlattr *)((const char *)message + NLMSG_SPACE(sizeof *sa));
    while (left >= sizeof *item && item->nla_len >= sizeof *item && item->nla_len <= left) {
        const void *value = (const char *)item + NLA_HDRLEN;
        switch (item->nla_type & NLA_TYPE_MASK) {
        case XFRMA_ALG_CRYPT: {
            const struct xfrm_algo *a = value;
            add_algorithm(l, "encryption", a->alg_name, a->alg_key, a->alg_key_len, 0);
            break;
        }
        case XFRMA_ALG_AUTH: { // without a length, the kernel cuts to 96 bits what IPsec had before RFC 4868
            const struct xfrm_algo *a = value;
            add_algorithm(l, "integrity", a->alg_name, a->alg_key, a->alg_key_len, 96);
            break;
        }
        case XFRMA_ALG_AEAD: {
            const struct xfrm_algo_aead *a = value;
            add_algorithm(l, "encryption", a->alg_name, a->alg_key, a->alg_key_len, a->alg_icv_len);
            break;
        }
        case XFRMA_ALG_AUTH_TRUNC: {
            const struct xfrm_algo_auth *a = value;
            add_algorithm(l, "integrity", a->alg_name, a->alg_key, a->alg_key_len, a->alg_trunc_len);
            break;
        }
        case XFRMA_ENCAP: {
            const struct xfrm_encap_tmpl *e = value;
            add(l, ", \"udp\": [%u, %u]", ntohs(e->encap_sport), ntohs(e->encap_dport));
            break;
        }
        }
        size_t step = NLA_ALIGN(item->nla_len);
        if (step >= left) {
            break;
        }
        left -= step;
        item = (const struct nlattr *)((const char *)item + step);
    }
    add(l, "}\n");
}

static void write_down(const struct nlmsghdr *message) {
    line l = {.used = 0};
    if (message->nlmsg_type == XFRM_MSG_NEWSA || message->nlmsg_type == XFRM_MSG_UPDSA) {
        add_sa(&l, message);
    } else if (message->nlmsg_type == XFRM_MSG_DELSA) {
        const struct xfrm_usersa_id *id = NLMSG_DATA(message);
        add(&l, "{\"event\": \"delete\", \"spi\": %u, \"protocol\": %u", ntohl(id->spi), id->proto);
        add_address(&l, "destination", id->family, &id->daddr);
        add(&l, "}\n");
    } else {
        return;
    }
    const char *path = getenv("XFRM_SHIM_LOG");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file >= 0) {
        ssize_t ignored =
            REAL(write)(file, l.text, l.used); // one call, so that lines of two threads never mix
        (void)ignored;
        close(file);
    }
}

static int is_xfrm(int fd) {
    int domain = 0, protocol = -1;
    socklen_t length = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_NETLINK) {
        return 0;
    }
    length = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == NETLINK_XFRM;
}

// The daemons send one message a call and do not look at it again, so it is changed where it is.
static void disarm(int fd, const void *data, size_t length) {
    struct nlmsghdr *message = (struct nlmsghdr *)data;
    if (length < sizeof *message || message->nlmsg_len > length || !is_xfrm(fd)) {
        return;
    }
    switch (message->nlmsg_type) {
    case XFRM_MSG_NEWSA:
    case XFRM_MSG_UPDSA:
    case XFRM_MSG_DELSA:
    case XFRM_MSG_FLUSHSA:
    case XFRM_MSG_NEWPOLICY:
    case XFRM_MSG_UPDPOLICY:
    case XFRM_MSG_DELPOLICY:
    case XFRM_MSG_FLUSHPOLICY:
        write_down(message);
        message->nlmsg_type = NLMSG_NOOP;
        message->nlmsg_flags |= NLM_F_ACK;
    }
}

ssize_t write(int fd, const void *data, size_t length) {
    disarm(fd, data, length);
    return REAL(write)(fd, data, length);
}

ssize_t send(int fd, const void *data, size_t length, int flags) {
    disarm(fd, data, length);
    return REAL(send)(fd, data, length, flags);
}

ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to,
               socklen_t to_length) {
    disarm(fd, data, length);
    return REAL(sendto)(fd, data, length, flags, to, to_length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (message->msg_iovlen == 1) {
        disarm(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
    }
    return REAL(sendmsg)(fd, message, flags);
}

// With UDP_ENCAP the kernel would take ESP in UDP for itself and refuse it with an ICMP message.
int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    return level == IPPROTO_UDP && option == UDP_ENCAP ? 0
                                                       : REAL(setsockopt)(fd, level, option, value, length);
}
