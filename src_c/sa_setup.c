/* What a configuration means for packets: checks, the hot record, the overhead. */
#include "internal.h"

#define TUNNEL_TTL 128u /* as the hosts of the time sent; RFC 2401 5.1.2.1 leaves it open */

struct ipc_crypto_suite ipc_sa_suite(const struct ipc_sa_config *c) {
    return (struct ipc_crypto_suite){c->encryption, c->integrity, c->esn, c->service == IPC_SERVICE_AH};
}

static int one_family(const struct ipc_sa_config *c) {
    return !ipc_address_is_none(c->source) && !ipc_address_is_none(c->destination) &&
           ipc_address_is_ipv4(c->source) == ipc_address_is_ipv4(c->destination);
}

static int check_algorithms(const struct ipc_sa_config *c) {
    const struct ipc_encryption_info *e = ipc_encryption_info(c->encryption);
    const struct ipc_integrity_info *a = ipc_integrity_info(c->integrity);
    struct ipc_crypto_suite suite = ipc_sa_suite(c);
    if (!e || !a || !ipc_crypto_suite_valid(&suite)) return IPC_E(INVALID);
    /* ESP without integrity is open to chosen-ciphertext attacks (Paterson and Yau 2006). */
    if (e->icv_length == 0 && a->icv_length == 0 && !c->allow_unauthenticated) return IPC_E(INVALID);
    if (c->encryption_key_length != e->key_length || c->integrity_key_length != a->key_length)
        return IPC_E(KEY_LENGTH);
    return 0;
}

static int check_numbers(const struct ipc_sa_config *c) {
    uint32_t window = c->replay_window;
    if (window != 0 && (window < IPC_WINDOW_MIN || window > IPC_WINDOW_MAX || window % 32))
        return IPC_E(INVALID);
    /* Without a window nothing tells the high half of a received number (RFC 4303 3.3.3). */
    if (c->esn && c->direction == IPC_INBOUND && window == 0) return IPC_E(INVALID);
    if (!c->esn && c->sequence > UINT32_MAX) return IPC_E(INVALID);
    if (c->hard_bytes && c->soft_bytes > c->hard_bytes) return IPC_E(INVALID);
    if (c->hard_time && c->soft_time > c->hard_time) return IPC_E(INVALID);
    if (!ipc_path_mtu_valid(c->path_mtu)) return IPC_E(INVALID);
    return 0;
}

static int check_outer(const ipc_driver *d, const struct ipc_sa_config *c) {
    ipc_sa outer = c->outer;
    for (unsigned depth = 1; outer; depth++) {
        if (depth == IPC_NESTED_MAX) return IPC_E(FULL);
        if (!ipc_sa_valid(d, outer)) return IPC_E(NOT_FOUND);
        const struct ipc_sa_config *o = &ipc_ctl(d, IPC_SA_INDEX(outer))->config;
        if (o->direction != c->direction || o->service == IPC_SERVICE_SOFT) return IPC_E(INVALID);
        outer = o->outer;
    }
    return 0;
}

int ipc_sa_check(const ipc_driver *d, const struct ipc_sa_config *c) {
    if (c->direction > IPC_INBOUND || c->mode > IPC_TUNNEL || c->service > IPC_SERVICE_SOFT ||
        c->df > IPC_DF_CLEAR || c->esn > 1 || (c->family != 0 && c->family != 4 && c->family != 6))
        return IPC_E(INVALID);
    int rc = check_numbers(c);
    if (rc < 0) return rc;
    if (c->service == IPC_SERVICE_SOFT)
        return c->spi || c->outer || c->encryption_key_length || c->integrity_key_length || c->esn
                   ? IPC_E(INVALID)
                   : 0;
    int encapsulated = c->encapsulation_source || c->encapsulation_destination;
    if (c->spi < 256 || !one_family(c) ||
        (encapsulated &&
         (c->service != IPC_SERVICE_ESP || !c->encapsulation_source || !c->encapsulation_destination)))
        return IPC_E(INVALID);
    rc = check_algorithms(c);
    return rc < 0 ? rc : check_outer(d, c);
}

/* AH's ICV with its IV, filled up so that the header is whole 32-bit words, 64-bit words under IPv6 (RFC 4302
 * 2.6). */
static uint32_t icv_field(const struct ipc_sa_config *c) {
    const struct ipc_integrity_info *a = ipc_integrity_info(c->integrity);
    uint32_t unit = ipc_address_is_ipv4(c->destination) ? 4 : 8;
    return (IPC_AH_HEADER + a->iv_length + a->icv_length + unit - 1) / unit * unit - IPC_AH_HEADER;
}

static uint32_t outer_header(const struct ipc_sa_config *c) {
    if (c->mode != IPC_TUNNEL) return 0;
    return ipc_address_is_ipv4(c->destination) ? IPC_IPV4_HEADER : IPC_IPV6_HEADER;
}

static uint32_t front(const struct ipc_sa_config *c) {
    if (c->service == IPC_SERVICE_AH) return outer_header(c) + IPC_AH_HEADER + icv_field(c);
    return outer_header(c) + (c->encapsulation_source ? IPC_UDP_HEADER : 0) + IPC_ESP_HEADER +
           ipc_encryption_info(c->encryption)->iv_length + ipc_integrity_info(c->integrity)->iv_length;
}

static uint32_t icv_length(const struct ipc_sa_config *c) {
    uint32_t combined = ipc_encryption_info(c->encryption)->icv_length;
    return combined ? combined : ipc_integrity_info(c->integrity)->icv_length;
}

uint32_t ipc_overhead(const struct ipc_sa_config *c, uint32_t length, uint32_t header) {
    if (c->service == IPC_SERVICE_SOFT || c->service > IPC_SERVICE_SOFT ||
        !ipc_encryption_info(c->encryption) || !ipc_integrity_info(c->integrity) || header > length)
        return 0;
    if (c->service == IPC_SERVICE_AH) return front(c);
    uint32_t carried = c->mode == IPC_TUNNEL ? length : length - header;
    uint32_t pad =
        (0u - (carried + IPC_ESP_TRAILER)) & (ipc_encryption_info(c->encryption)->block_length - 1u);
    return front(c) + pad + IPC_ESP_TRAILER + icv_length(c);
}

uint32_t ipc_sa_overhead(const ipc_driver *d, ipc_sa handle, uint32_t length, uint32_t header) {
    uint32_t total = length;
    while (ipc_sa_valid(d, handle)) {
        const struct ipc_sa_config *c = &ipc_ctl(d, IPC_SA_INDEX(handle))->config;
        total += ipc_overhead(c, total, header);
        if (c->mode == IPC_TUNNEL) header = outer_header(c);
        handle = c->outer;
    }
    return total - length;
}

/* What stays the same in the outer headers of all packets (RFC 2401 5.1.2.1). */
static void fill_headers(struct ipc_sa_hot *h, const struct ipc_sa_config *c) {
    uint8_t *p = h->out.headers;
    uint8_t protocol = h->udp ? IPC_PROTO_UDP : c->service == IPC_SERVICE_AH ? IPC_PROTO_AH : IPC_PROTO_ESP;
    if (h->outer_header == IPC_IPV4_HEADER) {
        p[0] = 0x45;
        p[8] = TUNNEL_TTL;
        p[9] = protocol;
        ipc_store32(p + 12, (uint32_t)c->source.low);
        ipc_store32(p + 16, (uint32_t)c->destination.low);
        h->out.header_sum = ipc_fold(ipc_sum(p, IPC_IPV4_HEADER, 0));
    } else if (h->outer_header) {
        p[0] = 0x60;
        p[6] = protocol;
        p[7] = TUNNEL_TTL;
        ipc_store_ipv6(p + 8, c->source);
        ipc_store_ipv6(p + 24, c->destination);
    }
    if (h->udp) {
        ipc_store16(p + h->outer_header, c->encapsulation_source);
        ipc_store16(p + h->outer_header + 2, c->encapsulation_destination);
    }
}

static void fill_selectors(struct ipc_sa_hot *h, const struct ipc_sa_config *c) {
    int any = !c->family && !c->protocol && !c->source_port && !c->destination_port &&
              ipc_address_is_none(c->inner_source_mask) && ipc_address_is_none(c->inner_destination_mask);
    h->cold_selectors = !any && c->family != 4;
    if (any || h->cold_selectors) return;
    struct ipc_words mask = {
        c->inner_source_mask.low << 32 | (uint32_t)c->inner_destination_mask.low,
        IPC_REST(c->source_port ? 0xffffu : 0, c->destination_port ? 0xffffu : 0, c->protocol ? 0xffu : 0)};
    h->in.mask = mask;
    h->in.value.addresses = (c->inner_source.low << 32 | (uint32_t)c->inner_destination.low) & mask.addresses;
    h->in.value.rest = IPC_REST(c->source_port, c->destination_port, c->protocol);
}

static uint64_t address_sum(ipc_address a) {
    uint8_t bytes[16];
    ipc_store_ipv6(bytes, a);
    /* The words of the mapped prefix are the same in both addresses of a difference. */
    return ipc_sum(bytes, sizeof bytes, 0);
}

/* RFC 1624: what to add to a checksum computed over the original addresses. */
static uint32_t checksum_delta(const struct ipc_sa_config *c) {
    uint64_t sum = 0;
    if (c->mode == IPC_TUNNEL) return 0; /* the NAT changed nothing of what is inside */
    if (!ipc_address_is_none(c->original_source))
        sum += address_sum(c->original_source) + (uint16_t)~ipc_fold(address_sum(c->source));
    if (!ipc_address_is_none(c->original_destination))
        sum += address_sum(c->original_destination) + (uint16_t)~ipc_fold(address_sum(c->destination));
    return ipc_fold(sum);
}

static enum ipc_shape shape_of(const struct ipc_sa_hot *h) {
    if (h->service != IPC_SERVICE_ESP || !h->confidential || !h->authenticated || h->udp ||
        h->outer != IPC_NONE || h->out.path_mtu || h->offload)
        return IPC_SHAPE_ANY;
    if (h->outer_header == 0) return IPC_SHAPE_TRANSPORT;
    return h->outer_header == IPC_IPV4_HEADER && h->df == IPC_DF_COPY ? IPC_SHAPE_TUNNEL4 : IPC_SHAPE_ANY;
}

void ipc_sa_set_path_mtu_hot(struct ipc_sa_hot *h, uint32_t path_mtu) {
    h->out.path_mtu = path_mtu;
    h->out.shape = (uint8_t)shape_of(h);
}

void ipc_sa_set_offload(struct ipc_sa_hot *h, int offload) {
    h->offload = (uint8_t)offload;
    if (h->direction == IPC_OUTBOUND) h->out.shape = (uint8_t)shape_of(h);
}

void ipc_sa_fill(struct ipc_sa_hot *h, const struct ipc_sa_config *c) {
    h->spi = c->spi;
    h->service = c->service;
    h->direction = c->direction;
    h->outer = c->outer ? IPC_SA_INDEX(c->outer) : IPC_NONE;
    h->last = c->created;
    if (c->service != IPC_SERVICE_SOFT) {
        const struct ipc_encryption_info *e = ipc_encryption_info(c->encryption);
        h->esn = c->esn;
        h->df = c->df;
        h->iv_length = (uint8_t)(e->iv_length + ipc_integrity_info(c->integrity)->iv_length);
        h->pad_mask = (uint8_t)(e->block_length - 1);
        h->icv_length = (uint8_t)icv_length(c);
        h->icv_field = c->service == IPC_SERVICE_AH ? (uint8_t)icv_field(c) : 0;
        h->confidential = e->key_length != 0;
        h->authenticated = h->icv_length != 0;
        h->outer_header = (uint8_t)outer_header(c);
        h->udp = c->encapsulation_source ? IPC_UDP_HEADER : 0;
        h->front = (uint8_t)front(c);
    }
    if (c->direction == IPC_OUTBOUND) {
        fill_headers(h, c);
        ipc_sa_set_path_mtu_hot(h, c->path_mtu);
    } else {
        fill_selectors(h, c);
        h->in.checksum_delta = checksum_delta(c);
        if (h->udp && ipc_address_is_ipv4(c->source)) {
            h->in.peer = (uint32_t)c->source.low;
            h->in.peer_port = c->encapsulation_source;
        }
    }
}
