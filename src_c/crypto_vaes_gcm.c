/*
 * AES-GCM (SP 800-38D, RFC 4106) on vectors of four blocks. One AES round takes 4 cycles from start to end,
 * but another can start every cycle, and the multiplications of GHASH fit in between. So everything is done
 * for four vectors at a time (struct lanes): one of each of four packets, or four neighbours of one packet;
 * and while these go through the rounds, the four before them are hashed. Bursts of equal packets cost what
 * the AES and multiplication units cost, not the way from a packet's first byte to its ICV.
 *
 * A packet is cut in vectors from its ESP header on: header and IV are just one block, so that the stream of
 * counter blocks J0, J0+1.. and the stream of GHASH's blocks AAD, C1, C2.. lie side by side. The block of J0
 * is not used on text, but hides the hash in the end. The products with H^n .. H^2 (and of the lengths with
 * H) are only added up; the sum is reduced once a packet, or once in 24 vectors. Every vector of a packet but
 * the last has its 64 bytes; the last is loaded and stored under a mask.
 */
#include "crypto_vaes.h"

#ifdef IPC_HAVE_VAES
#    include <immintrin.h>
#    include <string.h>

#    define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,sse4.1")))
#    define INLINE TARGET static inline __attribute__((always_inline))
/* Arrays of vectors stay in registers only when every index is known. */
#    define EACH(i, n) _Pragma("GCC unroll 4") for (unsigned i = 0; i < (n); i++)

#    define LANES  IPC_VAES_LANES
#    define SPAN   IPC_VAES_SPAN
#    define HEADER 16 /* SPI, sequence number, IV */
#    define VECTOR 64

INLINE __m512i zero(void) {
    return _mm512_setzero_si512();
}

INLINE __m512i load(const void *at) {
    return _mm512_loadu_si512(at);
}

INLINE __m512i xor3(__m512i a, __m512i b, __m512i c) {
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}

/* --- GHASH --- */

/* Products before reduction, 256 bits a lane: `middle` lies across `low` and `high`. */
struct sum {
    __m512i low, middle, high;
};

/* For shuffles: the bytes of every block backwards. GCM numbers bits from the other end (SP 800-38D 6.3). */
INLINE __m512i backwards(void) {
    return _mm512_broadcast_i32x4(_mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f));
}

/* The same, but the first block goes from header and IV to the AAD (RFC 4106 5): SPI, sequence number, zeros;
 * with ESN a gap between the two. */
INLINE __m512i backwards_to_aad(int esn) {
    const long long zeros = (long long)0x8080808080808080;
    __m128i aad = esn ? _mm_set_epi64x(0x0001020380808080, 0x0405060780808080)
                      : _mm_set_epi64x(0x0001020304050607, zeros);
    return _mm512_inserti32x4(backwards(), aad, 0);
}

INLINE void multiply_add(struct sum *sum, __m512i x, __m512i power) {
    sum->middle =
        xor3(sum->middle, _mm512_clmulepi64_epi128(x, power, 0x01), _mm512_clmulepi64_epi128(x, power, 0x10));
    sum->low = _mm512_xor_si512(sum->low, _mm512_clmulepi64_epi128(x, power, 0x00));
    sum->high = _mm512_xor_si512(sum->high, _mm512_clmulepi64_epi128(x, power, 0x11));
}

/* Modulo x^128 + x^7 + x^2 + x + 1, its bits backwards, 64 bits at a time. */
INLINE __m512i reduce(struct sum sum) {
    const __m512i polynomial = _mm512_set1_epi64((long long)0xc200000000000000);
    __m512i x = xor3(sum.middle, _mm512_shuffle_epi32(sum.low, 0x4e),
                     _mm512_clmulepi64_epi128(sum.low, polynomial, 0x00));
    return xor3(sum.high, _mm512_shuffle_epi32(x, 0x4e), _mm512_clmulepi64_epi128(x, polynomial, 0x00));
}

/* The four blocks of x added up, in every block. */
INLINE __m512i fold(__m512i x) {
    x = _mm512_xor_si512(x, _mm512_shuffle_i64x2(x, x, 0x4e));
    return _mm512_xor_si512(x, _mm512_shuffle_i64x2(x, x, 0xb1));
}

INLINE struct sum fold_sum(struct sum sum) {
    return (struct sum){fold(sum.low), fold(sum.middle), fold(sum.high)};
}

/* The four blocks of a added up, then those of b, c, d. */
INLINE __m512i fold_each(__m512i a, __m512i b, __m512i c, __m512i d) {
    a = _mm512_xor_si512(_mm512_shuffle_i64x2(a, b, 0x44), _mm512_shuffle_i64x2(a, b, 0xee));
    c = _mm512_xor_si512(_mm512_shuffle_i64x2(c, d, 0x44), _mm512_shuffle_i64x2(c, d, 0xee));
    return _mm512_xor_si512(_mm512_shuffle_i64x2(a, c, 0x88), _mm512_shuffle_i64x2(a, c, 0xdd));
}

INLINE struct sum fold_sums(const struct sum s[LANES]) {
    return (struct sum){fold_each(s[0].low, s[1].low, s[2].low, s[3].low),
                        fold_each(s[0].middle, s[1].middle, s[2].middle, s[3].middle),
                        fold_each(s[0].high, s[1].high, s[2].high, s[3].high)};
}

/* H^first and those below. */
INLINE const uint8_t *powers(const struct ipc_vaes_key *key, unsigned first) {
    return key->power[IPC_VAES_POWERS - first];
}

INLINE __m128i h_of(const struct ipc_vaes_key *key) {
    return _mm_load_si128((const __m128i *)powers(key, 1));
}

/* --- packets --- */

/* Known when compiling: each makes a kernel of its own. */
struct kind {
    int encrypt;
    int one;      /* the lanes are of one packet, not of four */
    int same_key; /* the packets have the same key */
};

struct lanes {
    const struct ipc_vaes_key *key[LANES];
    uint8_t *at[LANES];          /* vector to encrypt */
    const uint8_t *power[LANES]; /* for `pending` */
    __m512i start[LANES];        /* counter blocks with a counter of zero, first round key added */
    __m512i counter;             /* one in every block, host byte order */
    __m512i pending[LANES];      /* encrypted, yet to be hashed */
    struct sum sum[LANES];       /* all in the first if `one` */
    __m128i mask[LANES];         /* E(K, J0) */
};

INLINE unsigned blocks_of(const struct ipc_crypto_op *op) {
    return 1 + (op->text_length + 15) / 16;
}

/* Bytes of the packet in its last vector. */
INLINE __mmask64 tail_of(const struct ipc_crypto_op *op) {
    return ~0ull >> (63 - (HEADER + op->text_length - 1) % VECTOR);
}

INLINE __mmask16 icv_bytes(struct ipc_vaes_shape shape) {
    return (__mmask16)((1u << shape.icv_length) - 1);
}

/* To be read before the text is written: a load must not wait for a masked store that ends near it. */
INLINE __m128i received_of(const struct ipc_crypto_op *op, struct ipc_vaes_shape shape, struct kind kind) {
    return kind.encrypt ? _mm_setzero_si128() : _mm_maskz_loadu_epi8(icv_bytes(shape), op->received);
}

/* The IV is where the nonce of RFC 4106 4 has it when the salt takes the place of the sequence number. */
INLINE __m512i start_of(const struct ipc_crypto_op *op) {
    const struct ipc_vaes_key *key = op->key;
    __m128i iv = _mm_maskz_loadu_epi32(6, op->text - HEADER + 4);
    return _mm512_xor_si512(_mm512_broadcast_i32x4(iv), load(key->round[0]));
}

INLINE __m512i first_counter(void) {
    return _mm512_set_epi32(0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1);
}

INLINE __m512i next_counter(__m512i counter) {
    return _mm512_add_epi32(counter, _mm512_broadcast_i32x4(_mm_set_epi32(0, 0, 0, 4)));
}

INLINE __m512i counter_block(__m512i counter) {
    return _mm512_shuffle_epi8(counter, _mm512_broadcast_i32x4(_mm_set_epi32(0x00010203, -1, -1, -1)));
}

INLINE void hash(struct lanes *l, unsigned i, struct kind kind) {
    multiply_add(&l->sum[kind.one ? 0 : i], l->pending[i], load(l->power[i]));
    l->power[i] += kind.one ? LANES * VECTOR : VECTOR;
}

INLINE __m512i round_key(const struct lanes *l, unsigned i, unsigned r, struct kind kind) {
    return load(l->key[kind.one || kind.same_key ? 0 : i]->round[r]);
}

INLINE void aes_round(const struct lanes *l, __m512i x[LANES], unsigned n, unsigned r, struct kind kind) {
    EACH(i, n) x[i] = _mm512_aesenc_epi128(x[i], round_key(l, i, r, kind));
}

/* All rounds but the last of the first n lanes; the pending vectors of all lanes are hashed on the way. */
INLINE void aes_rounds(struct lanes *l, __m512i x[LANES], unsigned n, unsigned rounds, struct kind kind,
                       int pending) {
    __m512i counter = l->counter;
    EACH(i, n) {
        x[i] = _mm512_xor_si512(l->start[i], counter_block(counter));
        if (kind.one) counter = next_counter(counter);
    }
    l->counter = kind.one ? counter : next_counter(counter);
    EACH(i, LANES) {
        aes_round(l, x, n, 2 * i + 1, kind);
        aes_round(l, x, n, 2 * i + 2, kind);
        if (pending) hash(l, i, kind);
    }
    for (unsigned r = 2 * LANES + 1; r < rounds; r++)
        aes_round(l, x, n, r, kind);
}

/* A vector of text: encrypted or decrypted where it is, and returned as GHASH takes it. The last round ends
 * with adding its key; with the text added to that key, the key stream need not be waited for. */
INLINE __m512i crypt_text(uint8_t *at, __m512i x, __m512i last, struct kind kind) {
    __m512i in = load(at), out = _mm512_aesenclast_epi128(x, _mm512_xor_si512(in, last));
    _mm512_storeu_si512(at, out);
    return _mm512_shuffle_epi8(kind.encrypt ? out : in, backwards());
}

INLINE __m512i crypt_tail(uint8_t *at, __mmask64 tail, __m512i x, __m512i last, struct kind kind) {
    __m512i in = _mm512_maskz_loadu_epi8(tail, at);
    __m512i out = _mm512_aesenclast_epi128(x, _mm512_xor_si512(in, last));
    out = _mm512_maskz_mov_epi8(tail, out);
    _mm512_mask_storeu_epi8(at, tail, out);
    return _mm512_shuffle_epi8(kind.encrypt ? out : in, backwards());
}

/* The first vector: header and IV stay as they are, and are hashed as AAD. */
INLINE __m512i crypt_head(uint8_t *at, __mmask64 tail, __m512i stream, struct kind kind,
                          struct ipc_vaes_shape shape, uint32_t sequence_high) {
    __m512i in = _mm512_maskz_loadu_epi8(tail, at);
    __m512i out = _mm512_maskz_mov_epi8(tail, _mm512_mask_xor_epi64(in, 0xfc, in, stream));
    _mm512_mask_storeu_epi8(at, tail, out);
    __m512i x = _mm512_shuffle_epi8(kind.encrypt ? out : in, backwards_to_aad(shape.esn));
    return _mm512_mask_set1_epi32(x, shape.esn ? 4 : 0, (int)sequence_high);
}

INLINE __m128i lengths_of(const struct ipc_crypto_op *op, struct ipc_vaes_shape shape) {
    return _mm_set_epi64x(shape.esn ? 96 : 64, 8 * (long long)op->text_length);
}

INLINE void finish(struct ipc_crypto_op *op, __m128i icv, __m128i received, struct ipc_vaes_shape shape,
                   struct kind kind) {
    if (kind.encrypt) {
        _mm_mask_storeu_epi8(op->icv, icv_bytes(shape), icv);
        op->ok = 1;
    } else {
        op->ok = _mm_mask_cmpneq_epu8_mask(icv_bytes(shape), icv, received) == 0;
    }
}

/* --- four packets side by side --- */

INLINE __m512i gather(__m128i a, __m128i b, __m128i c, __m128i d) {
    __m512i x = _mm512_inserti32x4(_mm512_castsi128_si512(a), b, 1);
    return _mm512_inserti32x4(_mm512_inserti32x4(x, c, 2), d, 3);
}

INLINE void finish_four(const struct lanes *l, struct ipc_crypto_op *const *ops,
                        const __m128i received[LANES], struct ipc_vaes_shape shape, struct kind kind) {
    struct sum sum = fold_sums(l->sum);
    __m512i h = kind.same_key ? _mm512_broadcast_i32x4(h_of(l->key[0]))
                              : gather(h_of(l->key[0]), h_of(l->key[1]), h_of(l->key[2]), h_of(l->key[3]));
    multiply_add(&sum,
                 gather(lengths_of(ops[0], shape), lengths_of(ops[1], shape), lengths_of(ops[2], shape),
                        lengths_of(ops[3], shape)),
                 h);
    __m512i icv = _mm512_xor_si512(_mm512_shuffle_epi8(reduce(sum), backwards()),
                                   gather(l->mask[0], l->mask[1], l->mask[2], l->mask[3]));
    finish(ops[0], _mm512_castsi512_si128(icv), received[0], shape, kind);
    finish(ops[1], _mm512_extracti32x4_epi32(icv, 1), received[1], shape, kind);
    finish(ops[2], _mm512_extracti32x4_epi32(icv, 2), received[2], shape, kind);
    finish(ops[3], _mm512_extracti32x4_epi32(icv, 3), received[3], shape, kind);
}

INLINE void crypt_four(struct ipc_crypto_op *const *ops, struct ipc_vaes_shape shape, struct kind kind) {
    const unsigned vectors = ipc_vaes_vectors(ops[0]->text_length);
    struct lanes l;
    __m512i x[LANES];
    __m128i received[LANES];
    l.counter = first_counter();
    EACH(i, LANES) {
        l.key[i] = ops[i]->key;
        l.at[i] = ops[i]->text - HEADER;
        l.power[i] = powers(l.key[i], blocks_of(ops[i]) + 1);
        l.start[i] = start_of(ops[i]);
        l.sum[i] = (struct sum){zero(), zero(), zero()};
        received[i] = received_of(ops[i], shape, kind);
    }
    aes_rounds(&l, x, LANES, shape.rounds, kind, 0);
    EACH(i, LANES) {
        x[i] = _mm512_aesenclast_epi128(x[i], round_key(&l, i, shape.rounds, kind));
        l.mask[i] = _mm512_castsi512_si128(x[i]);
        l.pending[i] = crypt_head(l.at[i], vectors == 1 ? tail_of(ops[i]) : ~0ull, x[i], kind, shape,
                                  ops[i]->sequence_high);
    }
    for (unsigned done = 2; done < vectors; done++) {
        aes_rounds(&l, x, LANES, shape.rounds, kind, 1);
        EACH(i, LANES)
        l.pending[i] = crypt_text(l.at[i] += VECTOR, x[i], round_key(&l, i, shape.rounds, kind), kind);
    }
    if (vectors > 1) {
        aes_rounds(&l, x, LANES, shape.rounds, kind, 1);
        EACH(i, LANES)
        l.pending[i] =
            crypt_tail(l.at[i] += VECTOR, tail_of(ops[i]), x[i], round_key(&l, i, shape.rounds, kind), kind);
    }
    EACH(i, LANES) hash(&l, i, kind);
    finish_four(&l, ops, received, shape, kind);
}

/* --- one packet --- */

/* The first n vectors. What is pending stands right: in front of a packet's blocks, zeros do not count. */
INLINE void begin_one(struct lanes *l, unsigned n, __mmask64 tail, uint32_t sequence_high,
                      struct ipc_vaes_shape shape, struct kind kind) {
    __m512i x[LANES];
    aes_rounds(l, x, n, shape.rounds, kind, 0);
    x[0] = _mm512_aesenclast_epi128(x[0], round_key(l, 0, shape.rounds, kind));
    l->mask[0] = _mm512_castsi512_si128(x[0]);
    x[0] = crypt_head(l->at[0], n == 1 ? tail : ~0ull, x[0], kind, shape, sequence_high);
    EACH(i, n) {
        if (i)
            x[i] = crypt_tail(l->at[0] + VECTOR * i, i == n - 1 ? tail : ~0ull, x[i],
                              round_key(l, 0, shape.rounds, kind), kind);
    }
    EACH(i, LANES) l->pending[i] = i < LANES - n ? zero() : x[i - (LANES - n)];
    l->at[0] += VECTOR * n;
}

/* Four more vectors. */
INLINE void continue_one(struct lanes *l, __mmask64 tail, struct ipc_vaes_shape shape, struct kind kind) {
    __m512i x[LANES];
    aes_rounds(l, x, LANES, shape.rounds, kind, 1);
    EACH(i, LANES - 1)
    l->pending[i] = crypt_text(l->at[0] + VECTOR * i, x[i], round_key(l, 0, shape.rounds, kind), kind);
    l->pending[LANES - 1] = crypt_tail(l->at[0] + VECTOR * (LANES - 1), tail, x[LANES - 1],
                                       round_key(l, 0, shape.rounds, kind), kind);
    l->at[0] += VECTOR * LANES;
}

/* Points to the powers for the next span. `blocks` are pending or to come. Returns the vectors of the span.
 */
INLINE unsigned begin_span(struct lanes *l, unsigned blocks) {
    const int final = blocks <= 4 * SPAN;
    EACH(i, LANES) l->power[i] = powers(l->key[0], final ? blocks + 1 : 4 * SPAN) + VECTOR * i;
    return final ? ~0u : SPAN;
}

INLINE void crypt_one(struct ipc_crypto_op *op, struct ipc_vaes_shape shape, struct kind kind) {
    const unsigned vectors = ipc_vaes_vectors(op->text_length), first = (vectors - 1) % LANES + 1;
    const __mmask64 tail = tail_of(op), first_tail = vectors == first ? tail : ~0ull;
    const __m128i received = received_of(op, shape, kind);
    unsigned blocks = blocks_of(op) + 4 * (LANES - first);
    struct lanes l;
    l.key[0] = op->key;
    l.at[0] = op->text - HEADER;
    l.counter = first_counter();
    l.sum[0] = (struct sum){zero(), zero(), zero()};
    EACH(i, LANES) l.start[i] = start_of(op);
    unsigned span = begin_span(&l, blocks);
    switch (first) {
    case 1: begin_one(&l, 1, first_tail, op->sequence_high, shape, kind); break;
    case 2: begin_one(&l, 2, first_tail, op->sequence_high, shape, kind); break;
    case 3: begin_one(&l, 3, first_tail, op->sequence_high, shape, kind); break;
    default: begin_one(&l, 4, first_tail, op->sequence_high, shape, kind); break;
    }
    for (unsigned left = vectors - first; left; left -= LANES) {
        continue_one(&l, left == LANES ? tail : ~0ull, shape, kind);
        span -= LANES;
        blocks -= 4 * LANES;
        if (span == 0) {
            /* The hash so far counts as a block that is added to the next one. */
            __m512i so_far = _mm512_maskz_mov_epi64(0x03, reduce(fold_sum(l.sum[0])));
            l.pending[0] = _mm512_xor_si512(l.pending[0], so_far);
            l.sum[0] = (struct sum){zero(), zero(), zero()};
            span = begin_span(&l, blocks);
        }
    }
    EACH(i, LANES) hash(&l, i, kind);
    struct sum sum = fold_sum(l.sum[0]);
    multiply_add(&sum, _mm512_zextsi128_si512(lengths_of(op, shape)), _mm512_zextsi128_si512(h_of(l.key[0])));
    __m128i icv = _mm512_castsi512_si128(_mm512_shuffle_epi8(reduce(sum), backwards()));
    finish(op, _mm_xor_si128(icv, l.mask[0]), received, shape, kind);
}

/* --- kernels --- */

static int same_key(struct ipc_crypto_op *const *ops) {
    return ops[0]->key == ops[1]->key && ops[0]->key == ops[2]->key && ops[0]->key == ops[3]->key;
}

/* With four keys every round loads four of them: beyond 512 bytes, packets are faster one after the other. */
static int short_enough(const struct ipc_crypto_op *op) {
    return ipc_vaes_vectors(op->text_length) <= 8;
}

TARGET void ipc_vaes_encrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops, unsigned count) {
    if (count == LANES && same_key(ops))
        crypt_four(ops, shape, (struct kind){.encrypt = 1, .same_key = 1});
    else if (count == LANES && short_enough(ops[0]))
        crypt_four(ops, shape, (struct kind){.encrypt = 1});
    else
        for (unsigned i = 0; i < count; i++)
            crypt_one(ops[i], shape, (struct kind){.encrypt = 1, .one = 1});
}

TARGET void ipc_vaes_decrypt(struct ipc_vaes_shape shape, struct ipc_crypto_op *const *ops, unsigned count) {
    if (count == LANES && same_key(ops))
        crypt_four(ops, shape, (struct kind){.same_key = 1});
    else if (count == LANES && short_enough(ops[0]))
        crypt_four(ops, shape, (struct kind){.encrypt = 0});
    else
        for (unsigned i = 0; i < count; i++)
            crypt_one(ops[i], shape, (struct kind){.one = 1});
}

/* --- keys --- */

/* FIPS 197 5.2: SubWord(word), or SubWord(RotWord(word)). */
INLINE uint32_t substitute(uint32_t word, int rotate) {
    __m128i x = _mm_aeskeygenassist_si128(_mm_set1_epi32((int)word), 0);
    return (uint32_t)(rotate ? _mm_extract_epi32(x, 1) : _mm_extract_epi32(x, 0));
}

/* FIPS 197 5.2, for words of 4 bytes; its Nk is `words`. */
INLINE void expand_aes(uint32_t *schedule, const uint8_t *key, unsigned words, unsigned rounds) {
    uint32_t constant = 1;
    memcpy(schedule, key, 4 * words);
    for (unsigned i = words; i < 4 * (rounds + 1); i++) {
        uint32_t word = schedule[i - 1];
        if (i % words == 0) {
            word = substitute(word, 1) ^ constant;
            constant = constant << 1 ^ (constant >> 7) * 0x11b;
        } else if (words > 6 && i % words == 4) {
            word = substitute(word, 0);
        }
        schedule[i] = schedule[i - words] ^ word;
    }
}

/* H times x: with its bits backwards, a product comes out one bit too low. */
INLINE __m128i times_x(__m128i h) {
    __m128i carry = _mm_srli_epi64(h, 63);
    __m128i shifted = _mm_or_si128(_mm_slli_epi64(h, 1), _mm_slli_si128(carry, 8));
    __m128i wrapped = _mm_sub_epi64(_mm_setzero_si128(), _mm_unpackhi_epi64(carry, carry));
    __m128i polynomial = _mm_set_epi64x((long long)0xc200000000000000, 1);
    return _mm_xor_si128(shifted, _mm_and_si128(wrapped, polynomial));
}

INLINE __m128i multiply(__m128i x, __m128i h) {
    struct sum sum = {zero(), zero(), zero()};
    multiply_add(&sum, _mm512_zextsi128_si512(x), _mm512_zextsi128_si512(h));
    return _mm512_castsi512_si128(reduce(sum));
}

TARGET void ipc_vaes_expand(struct ipc_vaes_key *out, const uint8_t *key, unsigned key_length) {
    const unsigned rounds = key_length / 4 + 6;
    uint32_t schedule[4 * (IPC_VAES_ROUNDS + 1)], salt;
    expand_aes(schedule, key, key_length / 4, rounds);
    __m128i x = _mm_setzero_si128();
    for (unsigned r = 0; r <= rounds; r++) {
        __m128i k = _mm_loadu_si128((const __m128i *)(schedule + 4 * r));
        _mm512_storeu_si512(out->round[r], _mm512_broadcast_i32x4(k));
        x = r == 0 ? k : r < rounds ? _mm_aesenc_si128(x, k) : _mm_aesenclast_si128(x, k);
    }
    ipc_wipe(schedule, sizeof schedule);

    __m128i h = times_x(_mm_shuffle_epi8(x, _mm512_castsi512_si128(backwards()))), power = h;
    for (unsigned i = IPC_VAES_POWERS; i--; power = multiply(power, h))
        _mm_store_si128((__m128i *)out->power[i], power);

    memcpy(&salt, key + key_length, sizeof salt);
    __m512i salts = _mm512_broadcast_i32x4(_mm_cvtsi32_si128((int)salt));
    _mm512_storeu_si512(out->round[0], _mm512_xor_si512(load(out->round[0]), salts));
}
#else
typedef int ipc_crypto_vaes_gcm_not_built; /* ISO C wants a declaration in every file */
#endif
