#include "crypto_vaes.h"

#ifdef IPC_HAVE_VAES
#    include <immintrin.h>
#    include <string.h>

#    define INLINE IPC_VAES_TARGET static inline __attribute__((always_inline))
#    define TOGETHER IPC_VAES_TOGETHER
#    define SPAN     IPC_VAES_SPAN
#    define HEADER   16 /* SPI, sequence number, IV: the block in front of the text */
#    define VECTOR   64

enum direction { DECRYPT, ENCRYPT };
enum part { FIRST, MIDDLE, LAST };

/* --- GHASH --- */

/* A sum of products before reduction: 256 bits a lane, of which `middle` lies across the two halves. */
struct sum {
    __m512i low, middle, high;
};

/* Bytes of every lane backwards: GCM numbers bits from the other end (SP 800-38D 6.3). */
INLINE __m512i reversed(void) {
    return _mm512_broadcast_i32x4(_mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f));
}

/* As reversed(), and lane 0 goes from the ESP header and IV to the AAD (RFC 4106 5): SPI, sequence number, zeros.
 * With ESN the high half, still to be inserted, goes between the two. */
INLINE __m512i reversed_header(int esn) {
    __m128i lane = esn ? _mm_set_epi64x((long long)0x0001020380808080, (long long)0x0405060780808080)
                       : _mm_set_epi64x((long long)0x0001020304050607, (long long)0x8080808080808080);
    return _mm512_inserti32x4(reversed(), lane, 0);
}

INLINE void multiply(struct sum *sum, __m512i x, __m512i power) {
    __m512i a = _mm512_clmulepi64_epi128(x, power, 0x01), b = _mm512_clmulepi64_epi128(x, power, 0x10);
    sum->low = _mm512_xor_si512(sum->low, _mm512_clmulepi64_epi128(x, power, 0x00));
    sum->high = _mm512_xor_si512(sum->high, _mm512_clmulepi64_epi128(x, power, 0x11));
    sum->middle = _mm512_ternarylogic_epi64(sum->middle, a, b, 0x96);
}

/* Modulo x^128 + x^7 + x^2 + x + 1, bits reversed, in two steps of 64 bits. */
INLINE __m512i reduce(struct sum sum) {
    const __m512i polynomial = _mm512_set1_epi64((long long)0xc200000000000000);
    __m512i folded = _mm512_clmulepi64_epi128(sum.low, polynomial, 0x00);
    __m512i rest = _mm512_ternarylogic_epi64(sum.middle, folded, _mm512_shuffle_epi32(sum.low, 0x4e), 0x96);
    folded = _mm512_clmulepi64_epi128(rest, polynomial, 0x00);
    return _mm512_ternarylogic_epi64(sum.high, folded, _mm512_shuffle_epi32(rest, 0x4e), 0x96);
}

/* All lanes become the sum of the lanes. */
INLINE __m512i fold(__m512i x) {
    x = _mm512_xor_si512(x, _mm512_shuffle_i64x2(x, x, 0x4e));
    return _mm512_xor_si512(x, _mm512_shuffle_i64x2(x, x, 0xb1));
}

/* Lane i becomes the sum of the lanes of the i-th. */
INLINE __m512i fold4(__m512i a, __m512i b, __m512i c, __m512i d) {
    a = _mm512_xor_si512(_mm512_shuffle_i64x2(a, b, 0x44), _mm512_shuffle_i64x2(a, b, 0xee));
    c = _mm512_xor_si512(_mm512_shuffle_i64x2(c, d, 0x44), _mm512_shuffle_i64x2(c, d, 0xee));
    return _mm512_xor_si512(_mm512_shuffle_i64x2(a, c, 0x88), _mm512_shuffle_i64x2(a, c, 0xdd));
}

/* --- packets --- */

struct packet {
    const struct ipc_vaes_key *key;
    uint8_t *at; /* from the ESP header on, a vector at a time */
    const uint8_t *power;
    uint32_t blocks; /* of AAD and text */
    __mmask64 mask;  /* of the last vector */
    __m512i start;   /* counter block but for the counter, round key 0 added */
    __m128i last;    /* E(K, J0) */
    struct sum sum;
};

INLINE __m512i round_key(const struct packet *p, unsigned i) {
    return _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)p->key->round[i]));
}

INLINE void open(struct packet *p, const struct ipc_crypto_op *op) {
    p->key = op->key;
    p->at = op->text - HEADER;
    p->blocks = 1 + (op->text_length + 15) / 16;
    unsigned rest = (HEADER + op->text_length) % VECTOR;
    p->mask = _bzhi_u64(~0ull, rest ? rest : VECTOR);
    /* 4 bytes earlier the IV is where the nonce has it. */
    __m128i nonce = _mm_maskz_loadu_epi32(6, p->at + 4);
    p->start = _mm512_xor_si512(_mm512_broadcast_i32x4(nonce), round_key(p, 0));
    p->sum = (struct sum){_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
}

/* Points to the powers for a span of vectors that begins after `done` ones. */
INLINE void open_span(struct packet *p, unsigned done, int final) {
    unsigned first = final ? p->blocks + 1 - 4 * done : 4 * SPAN;
    p->power = p->key->power[IPC_VAES_POWERS - first];
}

/* The hash so far counts as a block that is added to the next one. */
INLINE void carry(struct packet *p, unsigned done, int final) {
    struct sum sum = {fold(p->sum.low), fold(p->sum.middle), fold(p->sum.high)};
    __m512i hash = _mm512_maskz_mov_epi64(0x03, reduce(sum));
    open_span(p, done, final);
    p->sum = (struct sum){_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    multiply(&p->sum, hash, _mm512_loadu_si512(p->power));
}

/* One vector of every packet. */
INLINE void step(struct packet *packets, unsigned count, enum direction direction, enum part part,
                 struct ipc_vaes_shape shape, __m512i counter, struct ipc_crypto_op *const *ops) {
    __m512i stream[TOGETHER];
    for (unsigned i = 0; i < count; i++)
        stream[i] = _mm512_xor_si512(packets[i].start, counter);
#    pragma GCC unroll 16
    for (unsigned r = 1; r < shape.rounds; r++)
        for (unsigned i = 0; i < count; i++)
            stream[i] = _mm512_aesenc_epi128(stream[i], round_key(&packets[i], r));
    for (unsigned i = 0; i < count; i++)
        stream[i] = _mm512_aesenclast_epi128(stream[i], round_key(&packets[i], shape.rounds));

    for (unsigned i = 0; i < count; i++) {
        struct packet *p = &packets[i];
        __mmask64 mask = part == LAST || p->blocks <= 4 ? p->mask : ~0ull;
        __m512i in = part == MIDDLE ? _mm512_loadu_si512(p->at) : _mm512_maskz_loadu_epi8(mask, p->at);
        __m512i out;
        if (part == FIRST) {
            /* The block in front of the text is hashed, but not encrypted. */
            p->last = _mm512_castsi512_si128(stream[i]);
            out = _mm512_mask_xor_epi64(in, 0xfc, in, stream[i]);
        } else {
            out = _mm512_xor_si512(in, stream[i]);
        }
        if (part == MIDDLE) {
            _mm512_storeu_si512(p->at, out);
        } else {
            out = _mm512_maskz_mov_epi8(mask, out);
            _mm512_mask_storeu_epi8(p->at, mask, out);
        }
        __m512i x = direction == ENCRYPT ? out : in;
        if (part == FIRST) {
            x = _mm512_shuffle_epi8(x, reversed_header(shape.esn));
            x = _mm512_mask_set1_epi32(x, shape.esn ? 4 : 0, (int)ops[i]->sequence_high);
        } else {
            x = _mm512_shuffle_epi8(x, reversed());
        }
        multiply(&p->sum, x, _mm512_loadu_si512(p->power));
        p->at += VECTOR;
        p->power += VECTOR;
    }
}

/* The tags, one a lane. */
INLINE __m512i close_packets(struct packet *p, unsigned count, struct ipc_vaes_shape shape,
                             struct ipc_crypto_op *const *ops) {
    struct sum sum;
    __m512i lengths, h, last;
    const long long aad = shape.esn ? 96 : 64;
#    define H(i)       _mm_load_si128((const __m128i *)p[i].key->power[IPC_VAES_POWERS - 1])
#    define LENGTH(i)  ((long long)ops[i]->text_length * 8)
#    define LANES(of)                                                                                        \
        _mm512_inserti32x4(                                                                                  \
            _mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(of(0)), of(1), 1), of(2), 2), of(3), 3)
#    define LASTS(i) p[i].last
    if (count == TOGETHER) {
        sum.low = fold4(p[0].sum.low, p[1].sum.low, p[2].sum.low, p[3].sum.low);
        sum.middle = fold4(p[0].sum.middle, p[1].sum.middle, p[2].sum.middle, p[3].sum.middle);
        sum.high = fold4(p[0].sum.high, p[1].sum.high, p[2].sum.high, p[3].sum.high);
        h = LANES(H);
        last = LANES(LASTS);
        lengths = _mm512_set_epi64(aad, LENGTH(3), aad, LENGTH(2), aad, LENGTH(1), aad, LENGTH(0));
    } else {
        sum = (struct sum){fold(p[0].sum.low), fold(p[0].sum.middle), fold(p[0].sum.high)};
        h = _mm512_zextsi128_si512(H(0));
        last = _mm512_zextsi128_si512(p[0].last);
        lengths = _mm512_zextsi128_si512(_mm_set_epi64x(aad, LENGTH(0)));
    }
    multiply(&sum, lengths, h);
    return _mm512_xor_si512(_mm512_shuffle_epi8(reduce(sum), reversed()), last);
}

INLINE void crypt(struct ipc_crypto_op *const *ops, unsigned count, enum direction direction,
                  struct ipc_vaes_shape shape) {
    struct packet packets[TOGETHER];
    const unsigned vectors = ipc_vaes_vectors(ops[0]->text_length);
    unsigned span = vectors < SPAN ? vectors : SPAN;
    __m512i counter = _mm512_set_epi32(0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1);
    const __m512i next = _mm512_set_epi32(0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4);
    const __m512i order = _mm512_broadcast_i32x4(
        _mm_set_epi8(0, 1, 2, 3, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128));
    for (unsigned i = 0; i < count; i++) {
        open(&packets[i], ops[i]);
        open_span(&packets[i], 0, span == vectors);
    }
    step(packets, count, direction, FIRST, shape, _mm512_shuffle_epi8(counter, order), ops);
    unsigned done = 1;
    for (; done < vectors; done++) {
        counter = _mm512_add_epi32(counter, next);
        __m512i block = _mm512_shuffle_epi8(counter, order);
        if (done == span) {
            span = vectors - done < SPAN ? vectors : done + SPAN;
            for (unsigned i = 0; i < count; i++)
                carry(&packets[i], done, span == vectors);
        }
        if (done + 1 == vectors) {
            step(packets, count, direction, LAST, shape, block, ops);
            break;
        }
        step(packets, count, direction, MIDDLE, shape, block, ops);
    }
    uint8_t tags[VECTOR];
    _mm512_storeu_si512(tags, close_packets(packets, count, shape, ops));
    const __mmask16 mask = (__mmask16)((1u << shape.icv_length) - 1);
    for (unsigned i = 0; i < count; i++) {
        __m128i tag = _mm_loadu_si128((const __m128i *)(tags + 16 * i));
        if (direction == ENCRYPT) {
            _mm_mask_storeu_epi8(ops[i]->icv, mask, tag);
            ops[i]->ok = 1;
        } else {
            __m128i received = _mm_maskz_loadu_epi8(mask, ops[i]->received);
            ops[i]->ok = !_mm_mask_cmpneq_epu8_mask(mask, tag, received);
        }
    }
}

#    define VARIANT(direction, rounds_)                                                                      \
        shape.rounds = rounds_;                                                                              \
        if (count == 1)                                                                                      \
            crypt(ops, 1, direction, shape);                                                                 \
        else                                                                                                 \
            crypt(ops, TOGETHER, direction, shape);

IPC_VAES_TARGET void ipc_vaes_encrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops,
                                      unsigned count) {
    if (shape.rounds == 10) {
        VARIANT(ENCRYPT, 10)
    } else if (shape.rounds == 12) {
        VARIANT(ENCRYPT, 12)
    } else {
        VARIANT(ENCRYPT, 14)
    }
}

IPC_VAES_TARGET void ipc_vaes_decrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops,
                                      unsigned count) {
    if (shape.rounds == 10) {
        VARIANT(DECRYPT, 10)
    } else if (shape.rounds == 12) {
        VARIANT(DECRYPT, 12)
    } else {
        VARIANT(DECRYPT, 14)
    }
}

/* --- keys --- */

/* SubWord of FIPS 197 5.2; with `rotate`, of RotWord. */
INLINE uint32_t substitute(uint32_t word, int rotate) {
    __m128i x = _mm_aeskeygenassist_si128(_mm_set1_epi32((int)word), 0);
    return (uint32_t)(rotate ? _mm_extract_epi32(x, 1) : _mm_extract_epi32(x, 0));
}

INLINE __m128i times(__m128i x, __m128i power) {
    struct sum sum = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    multiply(&sum, _mm512_zextsi128_si512(x), _mm512_zextsi128_si512(power));
    return _mm512_castsi512_si128(reduce(sum));
}

/* H times x, the form in which a product comes out at the right place. */
INLINE __m128i prepared(__m128i h) {
    __m128i carries = _mm_srli_epi64(h, 63);
    __m128i wrapped = _mm_sub_epi64(_mm_setzero_si128(), _mm_unpackhi_epi64(carries, carries));
    __m128i shifted = _mm_or_si128(_mm_slli_epi64(h, 1), _mm_slli_si128(carries, 8));
    __m128i polynomial = _mm_set_epi64x((long long)0xc200000000000000, 1);
    return _mm_xor_si128(shifted, _mm_and_si128(wrapped, polynomial));
}

IPC_VAES_TARGET void ipc_vaes_expand(struct ipc_vaes_key *out, const uint8_t *key, unsigned key_length) {
    const unsigned words = key_length / 4, rounds = words + 6;
    uint32_t w, back, rcon = 1;
    uint8_t *schedule = &out->round[0][0];
    memcpy(schedule, key, key_length);
    for (unsigned i = words; i < 4 * (rounds + 1); i++) {
        memcpy(&w, schedule + 4 * (i - 1), 4);
        memcpy(&back, schedule + 4 * (i - words), 4);
        if (i % words == 0) {
            w = substitute(w, 1) ^ rcon;
            rcon = rcon << 1 ^ (rcon >> 7) * 0x11b;
        } else if (words > 6 && i % words == 4) {
            w = substitute(w, 0);
        }
        w ^= back;
        memcpy(schedule + 4 * i, &w, 4);
    }

    __m128i h = _mm_load_si128((const __m128i *)out->round[0]);
    for (unsigned r = 1; r < rounds; r++)
        h = _mm_aesenc_si128(h, _mm_load_si128((const __m128i *)out->round[r]));
    h = _mm_aesenclast_si128(h, _mm_load_si128((const __m128i *)out->round[rounds]));
    h = prepared(_mm_shuffle_epi8(h, _mm512_castsi512_si128(reversed())));
    __m128i power = h;
    for (unsigned i = IPC_VAES_POWERS; i--; power = times(power, h))
        _mm_store_si128((__m128i *)out->power[i], power);

    for (unsigned i = 0; i < 4; i++)
        out->round[0][i] ^= key[key_length + i];
}
#endif
