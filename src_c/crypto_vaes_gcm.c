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

/* One key's worth of a stream of vectors; everything here is public but what the key points to. */
struct packet {
    const struct ipc_vaes_key *key;
    uint8_t *at;          /* the next vector; the first one begins with the ESP header */
    const uint8_t *power; /* its powers of H */
    uint32_t blocks;      /* of AAD and text */
    __mmask64 mask;       /* bytes of the last vector */
};

INLINE __m512i zero(void) {
    return _mm512_setzero_si512();
}

/* An intrinsic would do, but gcc likes to load 16 bytes and shuffle, and shuffles are scarce. */
INLINE __m512i round_key(const struct ipc_vaes_key *key, unsigned i) {
    __m512i x;
    __asm__("vbroadcasti32x4 %1, %0" : "=v"(x) : "m"(key->round[i]));
    return x;
}

INLINE struct packet packet_of(const struct ipc_crypto_op *op) {
    unsigned rest = (HEADER + op->text_length) % VECTOR;
    return (struct packet){
        .key = op->key,
        .at = op->text - HEADER,
        .blocks = 1 + (op->text_length + 15) / 16,
        .mask = _bzhi_u64(~0ull, rest ? rest : VECTOR),
    };
}

/* Counter block without the counter, round key 0 added. */
INLINE __m512i start_of(const struct packet *p) {
    /* 4 bytes behind the header's begin the IV is where the nonce has it. */
    __m128i nonce = _mm_maskz_loadu_epi32(6, p->at + 4);
    return _mm512_xor_si512(_mm512_broadcast_i32x4(nonce), round_key(p->key, 0));
}

/* Points to the powers for `vectors` vectors, of which the last is the packet's last if `final`. */
INLINE const uint8_t *powers(const struct packet *p, unsigned done, unsigned vectors, int final) {
    return p->key->power[IPC_VAES_POWERS - (final ? p->blocks + 1 - 4 * done : 4 * vectors)];
}

/* Counters 1 to 4; the one of block i in a lane of its own, host byte order. */
INLINE __m512i first_counter(void) {
    return _mm512_set_epi32(0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1);
}

INLINE __m512i counter_block(__m512i counter) {
    return _mm512_shuffle_epi8(counter, _mm512_broadcast_i32x4(_mm_set_epi32(0x00010203, -1, -1, -1)));
}

INLINE __m512i four(void) {
    return _mm512_set_epi32(0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4);
}

/* Takes a vector of the packet, leaves what GHASH wants of it. The header's block is hashed, but not encrypted. */
INLINE __m512i absorb(uint8_t *at, __mmask64 mask, int masked, int header, __m512i stream,
                      enum direction direction, int esn, uint32_t sequence_high) {
    __m512i in = masked ? _mm512_maskz_loadu_epi8(mask, at) : _mm512_loadu_si512(at);
    __m512i out = header ? _mm512_mask_xor_epi64(in, 0xfc, in, stream) : _mm512_xor_si512(in, stream);
    if (masked) {
        out = _mm512_maskz_mov_epi8(mask, out);
        _mm512_mask_storeu_epi8(at, mask, out);
    } else {
        _mm512_storeu_si512(at, out);
    }
    __m512i x = direction == ENCRYPT ? out : in;
    if (!header) return _mm512_shuffle_epi8(x, reversed());
    x = _mm512_shuffle_epi8(x, reversed_header(esn));
    return _mm512_mask_set1_epi32(x, esn ? 4 : 0, (int)sequence_high);
}

INLINE void finish(struct ipc_crypto_op *op, __m128i tag, enum direction direction, unsigned icv_length) {
    const __mmask16 mask = (__mmask16)((1u << icv_length) - 1);
    if (direction == ENCRYPT) {
        _mm_mask_storeu_epi8(op->icv, mask, tag);
        op->ok = 1;
    } else {
        __m128i received = _mm_maskz_loadu_epi8(mask, op->received);
        op->ok = !_mm_mask_cmpneq_epu8_mask(mask, tag, received);
    }
}

#    define EACH(i, n) _Pragma("GCC unroll 4") for (unsigned i = 0; i < (n); i++)

/* --- four short packets side by side --- */

INLINE void four_step(struct packet p[4], const __m512i start[4], struct sum sum[4], __m512i counter, int header,
                      int masked, __m128i last[4], enum direction direction, struct ipc_vaes_shape shape,
                      struct ipc_crypto_op *const *ops) {
    __m512i x[4];
    EACH(i, 4) x[i] = _mm512_xor_si512(start[i], counter);
#    pragma GCC unroll 16
    for (unsigned r = 1; r < shape.rounds; r++)
        EACH(i, 4) x[i] = _mm512_aesenc_epi128(x[i], round_key(p[i].key, r));
    EACH(i, 4) x[i] = _mm512_aesenclast_epi128(x[i], round_key(p[i].key, shape.rounds));
    if (header) EACH(i, 4) last[i] = _mm512_castsi512_si128(x[i]);
    EACH(i, 4) {
        __mmask64 mask = header && p[i].blocks > 4 ? ~0ull : p[i].mask;
        x[i] = absorb(p[i].at, mask, masked, header, x[i], direction, shape.esn, ops[i]->sequence_high);
        p[i].at += VECTOR;
    }
    EACH(i, 4) {
        multiply(&sum[i], x[i], _mm512_loadu_si512(p[i].power));
        p[i].power += VECTOR;
    }
}

INLINE void crypt_four(struct ipc_crypto_op *const *ops, enum direction direction, struct ipc_vaes_shape shape) {
    struct packet p[4];
    __m512i start[4];
    struct sum sum[4];
    __m128i last[4];
    const unsigned vectors = ipc_vaes_vectors(ops[0]->text_length);
    __m512i counter = first_counter();
    EACH(i, 4) {
        p[i] = packet_of(ops[i]);
        start[i] = start_of(&p[i]);
        p[i].power = powers(&p[i], 0, 0, 1);
        sum[i] = (struct sum){zero(), zero(), zero()};
    }
    four_step(p, start, sum, counter_block(counter), 1, 1, last, direction, shape, ops);
    if (vectors > 1) {
        counter = _mm512_add_epi32(counter, four());
        for (unsigned left = vectors - 2; left; left--) {
            four_step(p, start, sum, counter_block(counter), 0, 0, last, direction, shape, ops);
            counter = _mm512_add_epi32(counter, four());
        }
        four_step(p, start, sum, counter_block(counter), 0, 1, last, direction, shape, ops);
    }

    struct sum all;
    all.low = fold4(sum[0].low, sum[1].low, sum[2].low, sum[3].low);
    all.middle = fold4(sum[0].middle, sum[1].middle, sum[2].middle, sum[3].middle);
    all.high = fold4(sum[0].high, sum[1].high, sum[2].high, sum[3].high);
    __m512i h = zero(), mask = zero(), lengths = zero();
    h = _mm512_castsi128_si512(*(const __m128i *)p[0].key->power[IPC_VAES_POWERS - 1]);
    h = _mm512_inserti32x4(h, *(const __m128i *)p[1].key->power[IPC_VAES_POWERS - 1], 1);
    h = _mm512_inserti32x4(h, *(const __m128i *)p[2].key->power[IPC_VAES_POWERS - 1], 2);
    h = _mm512_inserti32x4(h, *(const __m128i *)p[3].key->power[IPC_VAES_POWERS - 1], 3);
    mask = _mm512_castsi128_si512(last[0]);
    mask = _mm512_inserti32x4(mask, last[1], 1);
    mask = _mm512_inserti32x4(mask, last[2], 2);
    mask = _mm512_inserti32x4(mask, last[3], 3);
    const long long aad = shape.esn ? 96 : 64;
    lengths = _mm512_set_epi64(aad, 8ll * ops[3]->text_length, aad, 8ll * ops[2]->text_length, aad,
                               8ll * ops[1]->text_length, aad, 8ll * ops[0]->text_length);
    multiply(&all, lengths, h);
    __m512i tags = _mm512_xor_si512(_mm512_shuffle_epi8(reduce(all), reversed()), mask);
    finish(ops[0], _mm512_castsi512_si128(tags), direction, shape.icv_length);
    finish(ops[1], _mm512_extracti32x4_epi32(tags, 1), direction, shape.icv_length);
    finish(ops[2], _mm512_extracti32x4_epi32(tags, 2), direction, shape.icv_length);
    finish(ops[3], _mm512_extracti32x4_epi32(tags, 3), direction, shape.icv_length);
}

/* --- one packet, four vectors side by side --- */

/* n vectors; on the way, the four before them are hashed. Those that come out stand right in `x`, zeros before. */
INLINE __m512i one_step(struct packet *p, __m512i start, struct sum *sum, __m512i counter, __m512i x[4], unsigned n,
                        int header, __mmask64 mask, __m128i *last, enum direction direction,
                        struct ipc_vaes_shape shape, uint32_t sequence_high) {
    __m512i y[4];
    EACH(i, n) {
        y[i] = _mm512_xor_si512(start, counter_block(counter));
        counter = _mm512_add_epi32(counter, four());
    }
#    pragma GCC unroll 16
    for (unsigned r = 1; r < shape.rounds; r++) {
        __m512i k = round_key(p->key, r);
        EACH(i, n) y[i] = _mm512_aesenc_epi128(y[i], k);
        if (!header && r % 2 == 0 && r <= 8) {
            multiply(sum, x[r / 2 - 1], _mm512_loadu_si512(p->power));
            p->power += VECTOR;
        }
    }
    __m512i k = round_key(p->key, shape.rounds);
    EACH(i, n) y[i] = _mm512_aesenclast_epi128(y[i], k);
    if (header) *last = _mm512_castsi512_si128(y[0]);
    EACH(i, 4 - n) x[i] = zero();
    EACH(i, n)
    x[4 - n + i] = absorb(p->at + VECTOR * i, mask, i == n - 1, header && i == 0, y[i], direction, shape.esn,
                          sequence_high);
    p->at += VECTOR * n;
    return counter;
}

INLINE void crypt_one(struct ipc_crypto_op *op, enum direction direction, struct ipc_vaes_shape shape) {
    struct packet p = packet_of(op);
    struct sum sum = {zero(), zero(), zero()};
    __m128i last;
    const unsigned vectors = ipc_vaes_vectors(op->text_length), high = op->sequence_high;
    const __m512i start = start_of(&p);
    __m512i counter = first_counter();
    __m512i x[4];
    unsigned n = (vectors - 1) % 4 + 1, groups = (vectors + 3) / 4;
    unsigned blocks = p.blocks + 4 * (4 - n);
    unsigned span = groups <= SPAN / 4 ? groups : SPAN / 4;
    p.power = p.key->power[IPC_VAES_POWERS - (span == groups ? blocks + 1 : 4 * SPAN)];
    __mmask64 mask = groups == 1 ? p.mask : ~0ull;
    if (n == 1)
        counter = one_step(&p, start, &sum, counter, x, 1, 1, mask, &last, direction, shape, high);
    else if (n == 2)
        counter = one_step(&p, start, &sum, counter, x, 2, 1, mask, &last, direction, shape, high);
    else if (n == 3)
        counter = one_step(&p, start, &sum, counter, x, 3, 1, mask, &last, direction, shape, high);
    else
        counter = one_step(&p, start, &sum, counter, x, 4, 1, mask, &last, direction, shape, high);
    for (unsigned done = 1; done < groups; done++) {
        mask = done + 1 == groups ? p.mask : ~0ull;
        counter = one_step(&p, start, &sum, counter, x, 4, 0, mask, &last, direction, shape, high);
        if (done == span) {
            span = groups - done <= SPAN / 4 ? groups : done + SPAN / 4;
            p.power = p.key->power[IPC_VAES_POWERS - (span == groups ? blocks - 16 * done + 1 : 4 * SPAN)];
            struct sum folded = {fold(sum.low), fold(sum.middle), fold(sum.high)};
            /* The hash so far counts as a block that is added to the next one. */
            __m512i hash = _mm512_maskz_mov_epi64(0x03, reduce(folded));
            sum = (struct sum){zero(), zero(), zero()};
            x[0] = _mm512_xor_si512(x[0], hash);
        }
    }
    EACH(i, 4) multiply(&sum, x[i], _mm512_loadu_si512(p.power + VECTOR * i));
    sum = (struct sum){fold(sum.low), fold(sum.middle), fold(sum.high)};
    __m128i lengths = _mm_set_epi64x(shape.esn ? 96 : 64, 8ll * op->text_length);
    __m128i h = _mm_load_si128((const __m128i *)p.key->power[IPC_VAES_POWERS - 1]);
    multiply(&sum, _mm512_zextsi128_si512(lengths), _mm512_zextsi128_si512(h));
    __m128i tag = _mm512_castsi512_si128(_mm512_shuffle_epi8(reduce(sum), reversed()));
    finish(op, _mm_xor_si128(tag, last), direction, shape.icv_length);
}

#    define VARIANT(direction, rounds_)                                                                      \
        shape.rounds = rounds_;                                                                              \
        if (count == 1)                                                                                      \
            crypt_one(ops[0], direction, shape);                                                                 \
        else                                                                                                 \
            crypt_four(ops, direction, shape);

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
