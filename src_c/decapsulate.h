/* Taking IPsec headers off packets whose ICV was good. Private to inbound.c and decapsulate.c. */
#ifndef IPC_DECAPSULATE_H
#define IPC_DECAPSULATE_H

#include "internal.h"

/* Fragments of an IPsec packet (RFC 2401 B.2): PROTECTED when packet `i` is the whole datagram now. */
enum ipc_status ipc_reassemble(ipc_driver *d, struct ipc_burst *b, uint32_t i);
/* RFC 3948 3.1.2: puts the TCP or UDP checksum right that the peer computed over other addresses. */
void ipc_correct_checksum(const struct ipc_burst *b, uint32_t i, uint32_t delta);
/* RFC 3947 7: a peer behind a NAT is where its last good packet came from. `at`: where the ESP header is. */
void ipc_follow_peer(ipc_driver *d, const struct ipc_burst *b, uint32_t i, uint32_t index, uint32_t at);
/* The header moves up to its payload, `size` bytes on; `at`: where the IPsec header was, `udp`: bytes of UDP
 * in front of it. */
enum ipc_status ipc_close_gap(struct ipc_burst *b, uint32_t i, uint32_t at, uint32_t udp, uint32_t size,
                              uint8_t next_header, uint32_t carried);
enum ipc_status ipc_take_off_ah(struct ipc_burst *b, uint32_t i, const struct ipc_sa_hot *sa, uint32_t at,
                                uint32_t *carried);

/* Length of what is in front of the trailer, or -1. Pad bytes count up from 1 (RFC 2406 2.4). */
static inline int64_t ipc_strip_trailer(const struct ipc_crypto_op *op) {
    uint32_t pad = op->text[op->text_length - 2];
    if (IPC_UNLIKELY(pad + IPC_ESP_TRAILER > op->text_length)) return -1;
    uint32_t payload = op->text_length - IPC_ESP_TRAILER - pad;
    if (IPC_LIKELY(pad < 8)) {
        /* The last 8 bytes in front of the pad length; an ESP header is before the text at least. */
        static const uint64_t wanted[8] = {0,          0x01,         0x0102,         0x010203,
                                           0x01020304, 0x0102030405, 0x010203040506, 0x01020304050607};
        uint64_t found = ipc_load64(op->text + op->text_length - IPC_ESP_TRAILER - 8);
        return ((found & ((UINT64_C(1) << 8 * pad) - 1)) ^ wanted[pad]) ? -1 : (int64_t)payload;
    }
    uint8_t wrong = 0;
    for (uint32_t i = 0; i < pad; i++)
        wrong |= (uint8_t)(op->text[payload + i] ^ (uint8_t)(i + 1));
    return wrong ? -1 : (int64_t)payload;
}

/* Tunnel mode: what is inside must be a packet of the family that the next header names. */
static inline int ipc_packet_inside(const uint8_t *p, uint32_t length, uint8_t next_header) {
    return length != 0 && ((next_header == IPC_PROTO_IPV4 && p[0] >> 4 == 4) ||
                           (next_header == IPC_PROTO_IPV6 && p[0] >> 4 == 6));
}

static inline enum ipc_status ipc_take_off_esp(struct ipc_burst *b, uint32_t i, const struct ipc_sa_hot *sa,
                                               uint32_t at, const struct ipc_crypto_op *op,
                                               uint32_t *carried) {
    int64_t stripped = ipc_strip_trailer(op);
    uint8_t next_header = op->text[op->text_length - 1];
    if (IPC_UNLIKELY(stripped < 0)) return IPC_NOT_DECRYPTED;
    *carried = (uint32_t)stripped;
    if (IPC_UNLIKELY(next_header == IPC_PROTO_NONE)) return IPC_DUMMY; /* RFC 4303 2.6 */
    if (!sa->outer_header)
        return ipc_close_gap(b, i, at, sa->udp, (uint32_t)(op->text - op->aad), next_header, *carried);
    if (IPC_UNLIKELY(!ipc_packet_inside(op->text, *carried, next_header))) return IPC_NOT_DECRYPTED;
    b->offset[i] = (uint32_t)(op->text - b->arena);
    b->length[i] = *carried;
    return IPC_PROTECTED;
}

#endif
