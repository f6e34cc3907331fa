#include "crypto_vaes.h"

#ifdef IPC_HAVE_VAES
#    include <immintrin.h>
#    include <string.h>

#    define INLINE IPC_VAES_TARGET static inline __attribute__((always_inline))
#    define TOGETHER IPC_VAES_TOGETHER
#    define SPAN     IPC_VAES_SPAN
#    define HEADER   16 /* SPI, sequence number, IV: the block in front of the text */
#    define VECTOR   64


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

/* --- four vectors at a time --- */

/* What the compiler is to make a function of its own of. */
struct kind {
    int encrypt;
    int one;      /* the vectors are neighbours in one packet; otherwise each is of another packet */
    int same_key; /* all packets have the key of the first */
};

struct lanes {
    const struct ipc_vaes_key *key[4];
    uint8_t *at[4];          /* the next vector; the first one of a packet begins with the ESP header */
    const uint8_t *power[4]; /* for `hashed` */
    __m512i start[4];        /* counter block without the counter, round key 0 added */
    __m512i hashed[4];       /* vectors that are still to go in the sum */
    struct sum sum[4];
    __m128i last[4]; /* E(K, J0), which hides the hash */
    __m512i counter;
};

#    define EACH(i, n) _Pragma("GCC unroll 4") for (unsigned i = 0; i < (n); i++)

INLINE __m512i zero(void) {
    return _mm512_setzero_si512();
}

INLINE __m512i round_key(const struct ipc_vaes_key *key, unsigned i) {
    return _mm512_load_si512(key->round[i]);
}

/* Blocks of AAD and text. */
INLINE unsigned blocks_of(const struct ipc_crypto_op *op) {
    return 1 + (op->text_length + 15) / 16;
}

/* Bytes of the last vector. */
INLINE __mmask64 mask_of(const struct ipc_crypto_op *op) {
    return ~0ull >> (63 - (HEADER + op->text_length - 1) % VECTOR);
}

INLINE __m512i start_of(const struct ipc_crypto_op *op) {
    /* 4 bytes behind the header's begin the IV is where the nonce has it. */
    __m128i nonce = _mm_maskz_loadu_epi32(6, op->text - HEADER + 4);
    return _mm512_xor_si512(_mm512_broadcast_i32x4(nonce), round_key(op->key, 0));
}

/* `first` powers and those below. */
INLINE const uint8_t *powers(const struct ipc_vaes_key *key, unsigned first) {
    return key->power[IPC_VAES_POWERS - first];
}

INLINE __m512i first_counter(void) {
    return _mm512_set_epi32(0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1);
}

INLINE __m512i counter_block(__m512i counter) {
    return _mm512_shuffle_epi8(counter, _mm512_broadcast_i32x4(_mm_set_epi32(0x00010203, -1, -1, -1)));
}

INLINE __m512i add_four(__m512i counter) {
    return _mm512_add_epi32(counter, _mm512_set_epi32(0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4));
}

/* Takes a vector of the packet, leaves what GHASH wants of it. The header's block is hashed, but not encrypted. */
INLINE __m512i absorb(uint8_t *at, __m512i stream, int encrypt, int masked, __mmask64 mask, int header, int esn,
                      uint32_t sequence_high) {
    __m512i in = masked ? _mm512_maskz_loadu_epi8(mask, at) : _mm512_loadu_si512(at);
    __m512i out = header ? _mm512_mask_xor_epi64(in, 0xfc, in, stream) : _mm512_xor_si512(in, stream);
    if (masked) {
        out = _mm512_maskz_mov_epi8(mask, out);
        _mm512_mask_storeu_epi8(at, mask, out);
    } else {
        _mm512_storeu_si512(at, out);
    }
    __m512i x = encrypt ? out : in;
    if (!header) return _mm512_shuffle_epi8(x, reversed());
    x = _mm512_shuffle_epi8(x, reversed_header(esn));
    return _mm512_mask_set1_epi32(x, esn ? 4 : 0, (int)sequence_high);
}

INLINE void hash(struct lanes *l, unsigned i, const struct kind kind) {
    multiply(&l->sum[kind.one ? 0 : i], l->hashed[i], _mm512_loadu_si512(l->power[i]));
    l->power[i] += kind.one ? 4 * VECTOR : VECTOR;
}

INLINE void round_of(const struct lanes *l, __m512i x[4], unsigned n, unsigned r, const struct kind kind, int last) {
    __m512i k = round_key(l->key[0], r);
    EACH(i, n) {
        if (i && !kind.one && !kind.same_key) k = round_key(l->key[i], r);
        x[i] = last ? _mm512_aesenclast_epi128(x[i], k) : _mm512_aesenc_epi128(x[i], k);
    }
}

/* The key stream for n vectors; `l->hashed` is hashed on the way if `hashing`. */
INLINE void stream(struct lanes *l, __m512i x[4], unsigned n, unsigned rounds, const struct kind kind, int hashing) {
    EACH(i, n) {
        x[i] = _mm512_xor_si512(l->start[i], counter_block(l->counter));
        if (kind.one || i == n - 1) l->counter = add_four(l->counter);
    }
    round_of(l, x, n, 1, kind, 0);
    round_of(l, x, n, 2, kind, 0);
    if (hashing) hash(l, 0, kind);
    round_of(l, x, n, 3, kind, 0);
    round_of(l, x, n, 4, kind, 0);
    if (hashing) hash(l, 1, kind);
    round_of(l, x, n, 5, kind, 0);
    round_of(l, x, n, 6, kind, 0);
    if (hashing) hash(l, 2, kind);
    round_of(l, x, n, 7, kind, 0);
    round_of(l, x, n, 8, kind, 0);
    if (hashing) hash(l, 3, kind);
    round_of(l, x, n, 9, kind, 0);
    for (unsigned r = 10; r < rounds; r++)
        round_of(l, x, n, r, kind, 0);
    round_of(l, x, n, rounds, kind, 1);
}

INLINE void finish(struct ipc_crypto_op *op, __m128i tag, __m128i received, int encrypt, __mmask16 mask) {
    if (encrypt) {
        _mm_mask_storeu_epi8(op->icv, mask, tag);
        op->ok = 1;
    } else {
        op->ok = !_mm_mask_cmpneq_epu8_mask(mask, tag, received);
    }
}

INLINE void crypt_four(struct ipc_crypto_op *const *ops, struct ipc_vaes_shape shape, const struct kind kind) {
    struct lanes l;
    __m512i x[4];
    const unsigned vectors = ipc_vaes_vectors(ops[0]->text_length);
    const __mmask16 icv_mask = (__mmask16)((1u << shape.icv_length) - 1);
    __m128i received[4];
    l.counter = first_counter();
    EACH(i, 4) {
        l.key[i] = ops[kind.same_key ? 0 : i]->key;
        l.at[i] = ops[i]->text - HEADER;
        l.power[i] = powers(l.key[i], blocks_of(ops[i]) + 1);
        l.start[i] = start_of(ops[i]);
        l.sum[i] = (struct sum){zero(), zero(), zero()};
        if (!kind.encrypt) received[i] = _mm_maskz_loadu_epi8(icv_mask, ops[i]->received);
    }
    stream(&l, x, 4, shape.rounds, kind, 0);
    EACH(i, 4) {
        __mmask64 mask = vectors == 1 ? mask_of(ops[i]) : ~0ull;
        l.last[i] = _mm512_castsi512_si128(x[i]);
        l.hashed[i] = absorb(l.at[i], x[i], kind.encrypt, 1, mask, 1, shape.esn, ops[i]->sequence_high);
    }
    if (vectors > 1) {
        for (unsigned left = vectors - 2; left; left--) {
            stream(&l, x, 4, shape.rounds, kind, 1);
            EACH(i, 4) l.hashed[i] = absorb(l.at[i] += VECTOR, x[i], kind.encrypt, 0, 0, 0, 0, 0);
        }
        stream(&l, x, 4, shape.rounds, kind, 1);
        EACH(i, 4) l.hashed[i] = absorb(l.at[i] += VECTOR, x[i], kind.encrypt, 1, mask_of(ops[i]), 0, 0, 0);
    }
    EACH(i, 4) hash(&l, i, kind);

    struct sum all;
    all.low = fold4(l.sum[0].low, l.sum[1].low, l.sum[2].low, l.sum[3].low);
    all.middle = fold4(l.sum[0].middle, l.sum[1].middle, l.sum[2].middle, l.sum[3].middle);
    all.high = fold4(l.sum[0].high, l.sum[1].high, l.sum[2].high, l.sum[3].high);
    __m512i h = _mm512_castsi128_si512(*(const __m128i *)powers(l.key[0], 1));
    if (kind.same_key) {
        h = _mm512_broadcast_i32x4(_mm512_castsi512_si128(h));
    } else {
        h = _mm512_inserti32x4(h, *(const __m128i *)powers(l.key[1], 1), 1);
        h = _mm512_inserti32x4(h, *(const __m128i *)powers(l.key[2], 1), 2);
        h = _mm512_inserti32x4(h, *(const __m128i *)powers(l.key[3], 1), 3);
    }
    __m512i last = _mm512_castsi128_si512(l.last[0]);
    last = _mm512_inserti32x4(last, l.last[1], 1);
    last = _mm512_inserti32x4(last, l.last[2], 2);
    last = _mm512_inserti32x4(last, l.last[3], 3);
    const long long aad = shape.esn ? 96 : 64;
    __m512i lengths = _mm512_set_epi64(aad, 8ll * ops[3]->text_length, aad, 8ll * ops[2]->text_length, aad,
                                       8ll * ops[1]->text_length, aad, 8ll * ops[0]->text_length);
    multiply(&all, lengths, h);
    __m512i tags = _mm512_xor_si512(_mm512_shuffle_epi8(reduce(all), reversed()), last);
    finish(ops[0], _mm512_castsi512_si128(tags), received[0], kind.encrypt, icv_mask);
    finish(ops[1], _mm512_extracti32x4_epi32(tags, 1), received[1], kind.encrypt, icv_mask);
    finish(ops[2], _mm512_extracti32x4_epi32(tags, 2), received[2], kind.encrypt, icv_mask);
    finish(ops[3], _mm512_extracti32x4_epi32(tags, 3), received[3], kind.encrypt, icv_mask);
}

INLINE void absorb_one(struct lanes *l, __m512i x[4], unsigned n, __mmask64 mask, int header, const struct kind kind,
                       struct ipc_vaes_shape shape, uint32_t sequence_high) {
    EACH(i, 4 - n) l->hashed[i] = zero();
    EACH(i, n)
    l->hashed[4 - n + i] = absorb(l->at[0] + VECTOR * i, x[i], kind.encrypt, i == n - 1, mask, header && i == 0,
                                  shape.esn, sequence_high);
    l->at[0] += VECTOR * n;
}

INLINE void first_one(struct lanes *l, unsigned n, __mmask64 mask, const struct kind kind, struct ipc_vaes_shape shape,
                      uint32_t sequence_high) {
    __m512i x[4];
    stream(l, x, n, shape.rounds, kind, 0);
    l->last[0] = _mm512_castsi512_si128(x[0]);
    absorb_one(l, x, n, mask, 1, kind, shape, sequence_high);
}

INLINE void crypt_one(struct ipc_crypto_op *op, struct ipc_vaes_shape shape, const struct kind kind) {
    struct lanes l;
    __m512i x[4];
    const __mmask16 icv_mask = (__mmask16)((1u << shape.icv_length) - 1);
    __m128i received = kind.encrypt ? _mm_setzero_si128() : _mm_maskz_loadu_epi8(icv_mask, op->received);
    const unsigned vectors = ipc_vaes_vectors(op->text_length), high = op->sequence_high;
    unsigned n = (vectors - 1) % 4 + 1, groups = (vectors + 3) / 4;
    unsigned blocks = blocks_of(op) + 4 * (4 - n);
    unsigned span = groups <= SPAN / 4 ? groups : SPAN / 4;
    l.counter = first_counter();
    l.key[0] = op->key;
    l.at[0] = op->text - HEADER;
    l.sum[0] = (struct sum){zero(), zero(), zero()};
    EACH(i, 4) {
        l.start[i] = start_of(op);
        l.power[i] = powers(l.key[0], span == groups ? blocks + 1 : 4 * SPAN) + VECTOR * i;
    }
    __mmask64 last = mask_of(op), mask = groups == 1 ? last : ~0ull;
    if (n == 1)
        first_one(&l, 1, mask, kind, shape, high);
    else if (n == 2)
        first_one(&l, 2, mask, kind, shape, high);
    else if (n == 3)
        first_one(&l, 3, mask, kind, shape, high);
    else
        first_one(&l, 4, mask, kind, shape, high);
    for (unsigned done = 1; done < groups; done++) {
        mask = done + 1 == groups ? last : ~0ull;
        stream(&l, x, 4, shape.rounds, kind, 1);
        absorb_one(&l, x, 4, mask, 0, kind, shape, high);
        if (done == span) {
            span = groups - done <= SPAN / 4 ? groups : done + SPAN / 4;
            EACH(i, 4)
            l.power[i] = powers(l.key[0], span == groups ? blocks - 16 * done + 1 : 4 * SPAN) + VECTOR * i;
            struct sum folded = {fold(l.sum[0].low), fold(l.sum[0].middle), fold(l.sum[0].high)};
            /* The hash so far counts as a block that is added to the next one. */
            l.hashed[0] = _mm512_xor_si512(l.hashed[0], _mm512_maskz_mov_epi64(0x03, reduce(folded)));
            l.sum[0] = (struct sum){zero(), zero(), zero()};
        }
    }
    EACH(i, 4) hash(&l, i, kind);
    struct sum sum = {fold(l.sum[0].low), fold(l.sum[0].middle), fold(l.sum[0].high)};
    __m128i lengths = _mm_set_epi64x(shape.esn ? 96 : 64, 8ll * op->text_length);
    __m128i h = _mm_load_si128((const __m128i *)powers(l.key[0], 1));
    multiply(&sum, _mm512_zextsi128_si512(lengths), _mm512_zextsi128_si512(h));
    __m128i tag = _mm512_castsi512_si128(_mm512_shuffle_epi8(reduce(sum), reversed()));
    finish(op, _mm_xor_si128(tag, l.last[0]), received, kind.encrypt, icv_mask);
}

IPC_VAES_TARGET void ipc_vaes_encrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops,
                                      unsigned count) {
    if (count == 1)
        crypt_one(ops[0], shape, (struct kind){1, 1, 1});
    else if (ops[0]->key == ops[1]->key && ops[0]->key == ops[2]->key && ops[0]->key == ops[3]->key)
        crypt_four(ops, shape, (struct kind){1, 0, 1});
    else
        crypt_four(ops, shape, (struct kind){1, 0, 0});
}

IPC_VAES_TARGET void ipc_vaes_decrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops,
                                      unsigned count) {
    if (count == 1)
        crypt_one(ops[0], shape, (struct kind){0, 1, 1});
    else if (ops[0]->key == ops[1]->key && ops[0]->key == ops[2]->key && ops[0]->key == ops[3]->key)
        crypt_four(ops, shape, (struct kind){0, 0, 1});
    else
        crypt_four(ops, shape, (struct kind){0, 0, 0});
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
    uint8_t schedule[16 * (IPC_VAES_ROUNDS_MAX + 1)];
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

    for (unsigned r = 0; r <= rounds; r++)
        _mm512_store_si512(out->round[r], _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(schedule + 16 * r))));
    __m128i h = _mm_load_si128((const __m128i *)out->round[0]);
    for (unsigned r = 1; r < rounds; r++)
        h = _mm_aesenc_si128(h, _mm_load_si128((const __m128i *)out->round[r]));
    h = _mm_aesenclast_si128(h, _mm_load_si128((const __m128i *)out->round[rounds]));
    h = prepared(_mm_shuffle_epi8(h, _mm512_castsi512_si128(reversed())));
    __m128i power = h;
    for (unsigned i = IPC_VAES_POWERS; i--; power = times(power, h))
        _mm_store_si128((__m128i *)out->power[i], power);

    for (unsigned i = 0; i < 64; i++)
        if (i % 16 < 4) out->round[0][i] ^= key[key_length + i % 16];
}
#endif
