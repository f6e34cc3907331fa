/*
 * From the wire to the host: look up, check the window, crypt, check again and count (RFC 2401 5.2, RFC
 * 2402 3.4, RFC 2406 3.4).
 */
#include "decapsulate.h"

#define AHEAD    4u
#define TOGETHER 512u /* SAs whose hot records fill 96 KiB */

static enum ipc_status clear_packet(ipc_driver *d, struct ipc_burst *b, uint32_t i,
                                    struct ipc_decision decision) {
    b->filter[i] = decision.filter;
    if (decision.filter != IPC_NONE) d->filters[decision.filter].packets++;
    if (decision.status != IPC_SOFT) return (enum ipc_status)decision.status;
    b->sa[i] = decision.sa;
    enum ipc_status status = ipc_soft(d, decision.sa, b->length[i], b->time[i]);
    return status;
}

/* Where the ICV of an AH packet lies, and the packet as its sender saw it; see crypto.h. */
static enum ipc_status open_ah(ipc_driver *d, const struct ipc_sa_hot *sa, uint8_t *packet, uint8_t *ah,
                               uint32_t length, unsigned k) {
    struct ipc_crypto_op *op = &d->ops[k];
    struct ipc_ah_saved *saved = &d->ah[k];
    if (ah[1] != (IPC_AH_HEADER + sa->icv_field) / 4 - 2) return IPC_MALFORMED;
    if (!ipc_ah_hide(packet, (uint32_t)(ah - packet), saved)) return IPC_MALFORMED;
    op->aad = op->text = packet;
    op->text_length = length;
    op->iv = ah + IPC_AH_HEADER;
    op->icv = op->iv + sa->iv_length;
    op->received = saved->icv;
    memcpy(saved->icv, op->icv, sa->icv_length);
    /* What fills the field up is covered, though of no meaning (RFC 4302 2.6). */
    memset(op->icv, 0, sa->icv_length);
    return IPC_PROTECTED;
}

static enum ipc_status refuse(const ipc_driver *d, uint8_t *packet, uint8_t protocol, unsigned k,
                              enum ipc_status status) {
    if (protocol == IPC_PROTO_AH) ipc_ah_restore(packet, &d->ah[k]);
    return status;
}

/* Everything about an IPsec packet that can be said without its key; `at` is where its IPsec header begins.
 */
static inline enum ipc_status prepare(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index,
                                      uint32_t at, uint8_t protocol, unsigned k) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    uint8_t *packet = ipc_burst_packet(b, i);
    uint32_t length = b->length[i] - at;
    uint8_t *ipsec = packet + at;
    struct ipc_crypto_op *restrict op = &d->ops[k];
    b->sa[i] = index;
    uint32_t low;
    if (IPC_LIKELY(protocol == IPC_PROTO_ESP)) {
        uint32_t around = IPC_ESP_HEADER + sa->iv_length + sa->icv_length;
        if (IPC_UNLIKELY(length < around + IPC_ESP_TRAILER || ((length - around) & sa->pad_mask)))
            return IPC_MALFORMED;
        low = ipc_load32(ipsec + 4);
    } else {
        if (length < IPC_AH_HEADER + sa->icv_field) return IPC_MALFORMED;
        enum ipc_status status = open_ah(d, sa, packet, ipsec, b->length[i], k);
        if (status != IPC_PROTECTED) return status;
        low = ipc_load32(ipsec + 8);
    }
    uint64_t number = low;
    op->sequence_high = 0;
    if (IPC_UNLIKELY(sa->esn)) {
        number = ipc_window_extend(&sa->got.window, low);
        op->sequence_high = (uint32_t)(number >> 32);
    }
    if (!ipc_window_check(&sa->got.window, number)) return refuse(d, packet, protocol, k, IPC_REPLAYED);
    /* Its hard lifetime in seconds is for commit(): the end is that of later packets alone. */
    if (IPC_UNLIKELY(sa->dead)) return refuse(d, packet, protocol, k, IPC_EXPIRED);
    if (IPC_LIKELY(protocol == IPC_PROTO_ESP)) {
        op->aad = ipsec;
        op->iv = ipsec + IPC_ESP_HEADER;
        op->text = op->iv + sa->iv_length;
        op->text_length = length - IPC_ESP_HEADER - sa->iv_length - sa->icv_length;
        op->icv = op->text + op->text_length;
        op->received = op->icv;
    }
    op->key = sa->key;
    d->op_suite[k] = sa->suite;
    d->op_packet[k] = (uint16_t)i;
    d->op_sa[k] = index;
    d->op_at[k] = at;
    if (IPC_UNLIKELY(sa->offload)) ipc_offload_receive(d, b, i, index, k);
    return IPC_PROTECTED;
}

static enum ipc_status bad_spi(ipc_driver *d) {
    d->counters.bad_spi_packets++;
    return IPC_BAD_SPI;
}

/* The SA was looked up: prepares; `udp`: the packet came under UDP (RFC 3948), which its SA must expect. */
static inline enum ipc_status found(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index,
                                    uint32_t at, uint8_t protocol, int udp, unsigned k) {
    if (IPC_UNLIKELY(index == IPC_NO_SA || !ipc_hot(d, index)->udp != !udp)) return bad_spi(d);
    if (IPC_UNLIKELY(ipc_hot(d, index)->outer != IPC_NONE)) {
        b->sa[i] = index;
        return IPC_WRONG_SELECTOR; /* its bundle wants another SA around it */
    }
    return prepare(d, b, i, index, at, protocol, k);
}

static enum ipc_status ipsec_packet(ipc_driver *d, struct ipc_burst *b, uint32_t i, ipc_address destination,
                                    uint32_t at, uint8_t protocol, int udp, unsigned k) {
    const uint8_t *ipsec = ipc_burst_packet(b, i) + at;
    uint32_t length = b->length[i] - at;
    if (length < (protocol == IPC_PROTO_ESP ? IPC_ESP_HEADER : IPC_AH_HEADER)) return IPC_MALFORMED;
    uint32_t spi = ipc_load32(ipsec + (protocol == IPC_PROTO_ESP ? 0 : 4));
    return found(d, b, i, ipc_spi_lookup(d, spi, destination, protocol), at, protocol, udp, k);
}

/* UDP to port 4500: IKE behind a marker, a keep-alive, or ESP (RFC 3948 2). */
static enum ipc_status encapsulated(ipc_driver *d, struct ipc_burst *b, uint32_t i, ipc_address destination,
                                    uint32_t udp, unsigned k) {
    const uint8_t *p = ipc_burst_packet(b, i) + udp;
    uint32_t length = b->length[i] - udp;
    if (length <= IPC_UDP_HEADER || ipc_load16(p + 4) != length) return IPC_MALFORMED;
    if (length == IPC_UDP_HEADER + 1 && p[IPC_UDP_HEADER] == 0xff) return IPC_KEEPALIVE;
    if (length < IPC_UDP_HEADER + 4) return IPC_MALFORMED;
    if (ipc_load32(p + IPC_UDP_HEADER) == 0) return IPC_EXEMPT;
    return ipsec_packet(d, b, i, destination, udp + IPC_UDP_HEADER, IPC_PROTO_ESP, 1, k);
}

static int carries_ipsec(const ipc_driver *d, uint8_t protocol) {
    return protocol == IPC_PROTO_ESP || protocol == IPC_PROTO_AH ||
           (d->nat_traversal && protocol == IPC_PROTO_UDP);
}

static enum ipc_status classify_slow(ipc_driver *d, struct ipc_burst *b, uint32_t i, unsigned k) {
    struct ipc_flow flow;
    struct ipc_layout layout;
    for (;;) {
        switch (ipc_parse(ipc_burst_packet(b, i), &b->length[i], &flow, &layout)) {
        case IPC_PARSE_NOT_IP: return IPC_NOT_IP;
        case IPC_PARSE_MALFORMED: return IPC_MALFORMED;
        default: break;
        }
        /* A Fragment header goes first, even that of a whole packet (RFC 8200 4.5): AH never sees one (RFC
         * 4302 appendix A2). */
        if ((!(flow.rest & IPC_MARK_FRAGMENT) && !layout.fragment) ||
            !carries_ipsec(d, ipc_protocol(flow.rest)))
            break;
        enum ipc_status status = ipc_reassemble(d, b, i);
        if (status != IPC_PROTECTED) return status;
        d->rebuilt = i;
    }
    uint8_t protocol = ipc_protocol(flow.rest);
    if (protocol == IPC_PROTO_ESP || protocol == IPC_PROTO_AH)
        return ipsec_packet(d, b, i, flow.destination, layout.upper, protocol, 0, k);
    if (d->nat_traversal && protocol == IPC_PROTO_UDP && ipc_destination_port(flow.rest) == IPC_PORT_NAT_T)
        return encapsulated(d, b, i, flow.destination, layout.upper, k);
    return clear_packet(d, b, i, ipc_decide(d, IPC_INBOUND, &flow));
}

/* ESP under IPv4; `together`: all SAs of the burst were looked up at once. */
static inline enum ipc_status esp_ipv4(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t destination,
                                       uint32_t header, unsigned k, int together) {
    if (IPC_UNLIKELY(b->length[i] - header < IPC_ESP_HEADER)) return IPC_MALFORMED;
    uint32_t spi = ipc_load32(ipc_burst_packet(b, i) + header);
    uint32_t index = together ? d->spi_found[i] : ipc_spi_lookup_ipv4(d, spi, destination, IPC_PROTO_ESP);
    return found(d, b, i, index, header, IPC_PROTO_ESP, 0, k);
}

static inline enum ipc_status classify(ipc_driver *d, struct ipc_burst *b, uint32_t i, unsigned k,
                                       int together) {
    const uint8_t *packet = ipc_burst_packet(b, i);
    struct ipc_words words;
    uint32_t header;
    if (IPC_UNLIKELY(!b->length[i] || packet[0] >> 4 != 4)) return classify_slow(d, b, i, k);
    if (ipc_parse_ipv4(packet, &b->length[i], &words, &header) != IPC_PARSE_OK) return IPC_MALFORMED;
    uint8_t protocol = ipc_protocol(words.rest);
    if (IPC_LIKELY(protocol == IPC_PROTO_ESP && !(words.rest & IPC_MARK_FRAGMENT)))
        return esp_ipv4(d, b, i, (uint32_t)words.addresses, header, k, together);
    if (carries_ipsec(d, protocol)) return classify_slow(d, b, i, k);
    return clear_packet(d, b, i, ipc_decide_ipv4(d, IPC_INBOUND, words));
}

/* RFC 2401 5.2.1: an IPsec packet inside, for this host: its SA, or IPC_NO_SA. */
static uint32_t inner_sa(const ipc_driver *d, const struct ipc_burst *b, uint32_t i,
                         const struct ipc_flow *flow, uint32_t at) {
    uint8_t protocol = ipc_protocol(flow->rest);
    if ((protocol != IPC_PROTO_ESP && protocol != IPC_PROTO_AH) || (flow->rest & IPC_MARK_FRAGMENT) ||
        b->length[i] - at < 8)
        return IPC_NO_SA;
    uint32_t spi = ipc_load32(ipc_burst_packet(b, i) + at + (protocol == IPC_PROTO_AH ? 4 : 0));
    return ipc_spi_lookup(d, spi, flow->destination, protocol);
}

/* What came out against the SA: the selectors, or the SA that is to take it on. */
static enum ipc_status check_inside(ipc_driver *d, struct ipc_burst *b, uint32_t i, uint32_t index,
                                    unsigned level, struct ipc_again *again) {
    struct ipc_layout layout;
    struct ipc_flow flow;
    if (ipc_parse(ipc_burst_packet(b, i), &b->length[i], &flow, &layout) != IPC_PARSE_OK)
        return IPC_NOT_DECRYPTED;
    int covered = ipc_sa_covers(d, index, &flow);
    again->protocol = ipc_protocol(flow.rest);
    if (again->protocol != IPC_PROTO_ESP && again->protocol != IPC_PROTO_AH)
        return covered ? IPC_PROTECTED : IPC_WRONG_SELECTOR;
    uint32_t inner = inner_sa(d, b, i, &flow, layout.upper);
    if (inner == IPC_NO_SA) {
        if (!ipc_hot(d, index)->outer_header) return bad_spi(d);
        return covered ? IPC_PROTECTED : IPC_WRONG_SELECTOR; /* somebody else's, that we carry */
    }
    ipc_sa wanted = ipc_ctl(d, inner)->config.outer;
    if (wanted) covered = wanted == ipc_handle(index, ipc_ctl(d, index)->generation);
    if (!covered || level + 1 == IPC_NESTED_MAX || ipc_hot(d, inner)->udp) return IPC_WRONG_SELECTOR;
    again->sa = inner;
    again->at = layout.upper;
    return IPC_PROTECTED;
}

/* The common case of the same: IPv4, selectors in the hot record, no IPsec inside. */
static inline int plain_inside(const struct ipc_burst *b, uint32_t i, const struct ipc_sa_hot *sa,
                               int *covered) {
    const uint8_t *packet = ipc_burst_packet(b, i);
    struct ipc_words words;
    uint32_t length = b->length[i], header;
    if (sa->cold_selectors || packet[0] >> 4 != 4 ||
        ipc_parse_ipv4(packet, &length, &words, &header) != IPC_PARSE_OK)
        return 0;
    uint8_t protocol = ipc_protocol(words.rest);
    if (protocol == IPC_PROTO_ESP || protocol == IPC_PROTO_AH) return 0;
    b->length[i] = length;
    *covered = (((words.addresses ^ sa->in.value.addresses) & sa->in.mask.addresses) |
                ((words.rest ^ sa->in.value.rest) & sa->in.mask.rest)) == 0;
    return 1;
}

struct tally {
    uint64_t both, confidential, authenticated; /* bytes: `both` are confidential and authenticated */
    unsigned again;                             /* packets whose next SA is to be asked */
};

static inline __attribute__((always_inline)) enum ipc_status
commit(ipc_driver *d, struct ipc_burst *b, uint32_t i, unsigned k, unsigned level, struct tally *tally) {
    uint32_t index = d->op_sa[k];
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    const struct ipc_crypto_op *restrict op = &d->ops[k];
    int ah = sa->service == IPC_SERVICE_AH;
    if (IPC_UNLIKELY(ah)) ipc_ah_restore(ipc_burst_packet(b, i), &d->ah[k]);
    const uint8_t *ipsec = ipc_burst_packet(b, i) + d->op_at[k];
    uint64_t number = (uint64_t)op->sequence_high << 32 | ipc_load32(ipsec + (ah ? 8 : 4));
    /* Earlier packets of the burst may have taken the same number or ended the SA, so both are asked again.
     * The window first, as in prepare(), for it never takes back a refusal: what becomes of a packet does not
     * depend on how packets are put into bursts. */
    if (IPC_UNLIKELY(!ipc_window_check(&sa->got.window, number))) return IPC_REPLAYED;
    enum ipc_status status;
    if (IPC_UNLIKELY(sa->dead || b->time[i] >= sa->time_limit)) {
        status = ipc_sa_limit(d, index, sa->bytes, b->time[i]);
        if (status != IPC_PROTECTED) return status;
    }
    if (IPC_UNLIKELY(!op->ok)) return sa->offload ? ipc_offload_failure(sa, op) : IPC_NOT_AUTHENTICATED;
    uint64_t lost = 0;
    ipc_window_advance(&sa->got.window, number, &lost);
    if (IPC_UNLIKELY(lost)) ipc_ctl(d, index)->lost += lost;
    /* Not a late packet, whose way may be an old one. */
    if (IPC_UNLIKELY(sa->in.peer_port) && number == sa->got.window.top)
        ipc_follow_peer(d, b, i, index, d->op_at[k]);
    uint32_t carried;
    status = ah ? ipc_take_off_ah(b, i, sa, d->op_at[k], &carried)
                : ipc_take_off_esp(b, i, sa, d->op_at[k], op, &carried);
    if (IPC_UNLIKELY(status != IPC_PROTECTED)) return status;
    struct ipc_again again = {(uint16_t)i, 0, IPC_NO_SA, 0};
    int covered;
    if (IPC_LIKELY(plain_inside(b, i, sa, &covered))) {
        if (IPC_UNLIKELY(!covered)) return IPC_WRONG_SELECTOR;
    } else {
        status = check_inside(d, b, i, index, level, &again);
        if (status != IPC_PROTECTED) return status;
    }
    uint64_t bytes = sa->bytes + carried;
    if (IPC_UNLIKELY(bytes >= sa->byte_limit)) {
        status = ipc_sa_limit(d, index, bytes, b->time[i]);
        if (status != IPC_PROTECTED) return status;
    }
    if (IPC_UNLIKELY(sa->in.checksum_delta)) ipc_correct_checksum(b, i, sa->in.checksum_delta);
    sa->bytes = bytes;
    sa->last = b->time[i];
    sa->got.packets++;
    if (IPC_LIKELY(sa->confidential & sa->authenticated)) {
        tally->both += carried;
    } else {
        tally->confidential += sa->confidential ? carried : 0;
        tally->authenticated += sa->authenticated ? carried : 0;
    }
    if (IPC_UNLIKELY(!sa->authenticated)) d->counters.unauthenticated_packets++;
    if (IPC_UNLIKELY(again.sa != IPC_NO_SA)) d->again[tally->again++] = again;
    return IPC_PROTECTED;
}

static enum ipc_status commit_again(ipc_driver *d, struct ipc_burst *b, unsigned k, unsigned level,
                                    struct tally *tally) {
    return commit(d, b, d->op_packet[k], k, level, tally);
}

/* See the rules beside the counters (driver.h). */
static void count_failure(ipc_driver *d, uint32_t index, enum ipc_status status) {
    const struct ipc_sa_hot *sa = ipc_hot(d, index);
    if (sa->service == IPC_SERVICE_SOFT || status == IPC_DUMMY) return; /* no check failed */
    ipc_ctl(d, index)->dropped++;
    if (status == IPC_NOT_AUTHENTICATED || status == IPC_EXPIRED)
        d->counters.packets_not_authenticated += sa->authenticated;
    if (status == IPC_NOT_AUTHENTICATED || status == IPC_NOT_DECRYPTED || status == IPC_EXPIRED)
        d->counters.packets_not_decrypted += sa->confidential;
}

/* Packets with one more SA inside, level by level. */
static void iterate(ipc_driver *d, struct ipc_burst *b, struct tally *tally) {
    for (unsigned level = 1; tally->again; level++) {
        unsigned ops = 0, count = tally->again;
        tally->again = 0;
        for (unsigned n = 0; n < count; n++) {
            struct ipc_again again = d->again[n];
            d->around = b->sa[again.packet];
            enum ipc_status status = prepare(d, b, again.packet, again.sa, again.at, again.protocol, ops);
            b->status[again.packet] = (uint8_t)status;
            ops += status == IPC_PROTECTED;
        }
        d->around = IPC_NONE;
        ipc_crypt(d, ops, IPC_INBOUND);
        for (unsigned k = 0; k < ops; k++)
            b->status[d->op_packet[k]] = (uint8_t)commit_again(d, b, k, level, tally);
    }
}

/* With more SAs than the caches hold, the time goes into waiting for memory: all look-ups of the burst wait
 * at once. */
static void look_up_together(ipc_driver *d, const struct ipc_burst *b) {
    uint32_t spi[IPC_BURST_MAX], destination[IPC_BURST_MAX];
    for (uint32_t i = 0; i < b->count; i++) {
        const uint8_t *packet = ipc_burst_packet(b, i);
        uint32_t header = b->length[i] < IPC_IPV4_HEADER ? 0 : (packet[0] & 15u) * 4;
        int whole = header && header + 4 <= b->length[i];
        spi[i] = whole ? ipc_load32(packet + header) : 0;
        destination[i] = whole ? ipc_load32(packet + 16) : 0;
    }
    ipc_spi_lookup_burst(d, spi, destination, IPC_PROTO_ESP, b->count, d->spi_found);
    for (uint32_t i = 0; i < b->count; i++) {
        if (d->spi_found[i] == IPC_NO_SA) continue;
        const struct ipc_sa_hot *sa = ipc_hot(d, d->spi_found[i]);
        __builtin_prefetch(sa);
        __builtin_prefetch((const char *)sa + 64);
        __builtin_prefetch((const char *)sa + 128, 1);
    }
}

uint32_t ipc_inbound(ipc_driver *d, struct ipc_burst *b) {
    struct tally tally = {0};
    unsigned ops = 0;
    uint64_t mark = d->profile ? d->profile->clock() : 0;
    int together = d->spi.used + d->spi_overflow.used > TOGETHER;
    if (IPC_UNLIKELY(together)) look_up_together(d, b);
    for (uint32_t i = 0; i < b->count; i++) {
        if (i + AHEAD < b->count) __builtin_prefetch(ipc_burst_packet(b, i + AHEAD));
        b->sa[i] = IPC_NO_SA;
        b->filter[i] = IPC_NO_FILTER_INDEX;
        enum ipc_status status = classify(d, b, i, ops, together);
        ops += status == IPC_PROTECTED;
        b->status[i] = (uint8_t)status;
    }
    IPC_PHASE(d, mark, classify);
    ipc_crypt(d, ops, IPC_INBOUND);
    IPC_PHASE(d, mark, crypt);
    for (unsigned k = 0; k < ops; k++)
        b->status[d->op_packet[k]] = (uint8_t)commit(d, b, d->op_packet[k], k, 0, &tally);
    if (IPC_UNLIKELY(tally.again)) iterate(d, b, &tally);
    if (IPC_UNLIKELY(d->nic != NULL)) ipc_offload_after_burst(d);
    d->counters.packets_inbound += b->count;
    d->counters.confidential_bytes_received += tally.confidential + tally.both;
    d->counters.authenticated_bytes_received += tally.authenticated + tally.both;
    uint32_t passed = ipc_count_verdicts(b, d->counters.status_inbound);
    if (passed < b->count)
        for (uint32_t i = 0; i < b->count; i++)
            if (!ipc_passes((enum ipc_status)b->status[i]) && b->sa[i] != IPC_NO_SA)
                count_failure(d, b->sa[i], (enum ipc_status)b->status[i]);
    IPC_PHASE(d, mark, commit);
    return passed;
}
