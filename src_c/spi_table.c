#include "spi_table.h"

#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#    include <sys/mman.h>
#endif

/* Tests build the portable code on x86-64, too. */
#if defined(__SSE2__) && !defined(IPC_SPI_PORTABLE)
#    include <emmintrin.h>
#    define HAVE_SSE2
#endif

#define LINE       IPC_SPI_LINE
#define LINE_BYTES 64
#define HUGE_PAGE  ((size_t)2 << 20)
#define BLOCKED    UINT32_MAX /* tag of what is no slot */
/* Lines asked for before the first of them is looked at; twice as many are about what a core waits for at
 * once. */
#define CHUNK 16

static inline uint32_t lesser(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint32_t home_line(const struct ipc_spi_table *t, uint32_t spi, uint32_t word, uint32_t tag) {
    return (uint32_t)((uint64_t)ipc_spi_hash(t->seed, spi, word, tag) * ipc_spi_lines(t) >> 32);
}

/* Random accesses to a large table cost more in the TLB than in the caches. */
static void *allocate(size_t bytes) {
    size_t unit = bytes >= HUGE_PAGE ? HUGE_PAGE : LINE_BYTES;
    size_t whole = (bytes + unit - 1) / unit * unit;
    void *memory = aligned_alloc(unit, whole);
#ifdef MADV_HUGEPAGE
    if (memory && unit == HUGE_PAGE) (void)madvise(memory, whole, MADV_HUGEPAGE);
#endif
    return memory;
}

int ipc_spi_table_create(struct ipc_spi_table *t, uint32_t size, const uint64_t seed[2]) {
    if (size < 2 || size > 1u << 31) return IPC_E(INVALID);
    struct ipc_spi_table new = {.size = size, .seed = {seed[0], seed[1] | 1}};
    size_t whole = (size_t)ipc_spi_lines(&new) * LINE;
    new.slots = allocate(whole * sizeof *new.slots);
    if (!new.slots) return IPC_E(NO_MEMORY);
    memset(new.slots, 0, whole * sizeof *new.slots);
    for (size_t i = size; i < whole; i++)
        new.slots[i].tag = BLOCKED;
    *t = new;
    return 0;
}

void ipc_spi_table_destroy(struct ipc_spi_table *t) {
    free(t->slots);
    t->slots = NULL;
    t->size = t->used = 0;
}

int ipc_spi_table_insert(struct ipc_spi_table *t, uint32_t spi, uint32_t word, uint32_t tag, uint32_t index) {
    if (t->used + 1 >= t->size) return IPC_E(FULL);
    size_t at = (size_t)home_line(t, spi, word, tag) * LINE, whole = (size_t)ipc_spi_lines(t) * LINE;
    while (t->slots[at].tag != 0)
        if (++at == whole) at = 0;
    t->slots[at] = (struct ipc_spi_slot){spi, word, index, tag};
    t->used++;
    return 0;
}

int ipc_spi_table_delete(struct ipc_spi_table *t, uint32_t spi, uint32_t word, uint32_t tag, uint32_t index) {
    if (t->used == 0) return IPC_E(NOT_FOUND);
    size_t at = (size_t)home_line(t, spi, word, tag) * LINE, whole = (size_t)ipc_spi_lines(t) * LINE;
    for (;; at = at + 1 == whole ? 0 : at + 1) {
        const struct ipc_spi_slot *slot = &t->slots[at];
        if (slot->tag == 0) return IPC_E(NOT_FOUND);
        if (slot->spi == spi && slot->word == word && slot->tag == tag && slot->index == index) break;
    }
    /* Pull back every later slot of the run that the gap would cut off from its home (Knuth, 6.4 algorithm
     * R). */
    size_t gap = at;
    for (;;) {
        at = at + 1 == whole ? 0 : at + 1;
        struct ipc_spi_slot slot = t->slots[at];
        if (slot.tag == 0) break;
        if (slot.tag == BLOCKED) continue;
        size_t home = (size_t)home_line(t, slot.spi, slot.word, slot.tag) * LINE;
        size_t from_home = at >= home ? at - home : at + whole - home;
        size_t from_gap = at >= gap ? at - gap : at + whole - gap;
        if (from_home >= from_gap) {
            t->slots[gap] = slot;
            gap = at;
        }
    }
    t->slots[gap] = (struct ipc_spi_slot){0};
    t->used--;
    return 0;
}

int ipc_spi_table_reserve(struct ipc_spi_table *t) {
    if (t->used < t->size / 2) return 0;
    if (t->size > 1u << 30) return IPC_E(FULL);
    struct ipc_spi_table bigger;
    int rc = ipc_spi_table_create(&bigger, t->size * 2, t->seed);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < t->size; i++) {
        const struct ipc_spi_slot *slot = &t->slots[i];
        if (slot->tag) (void)ipc_spi_table_insert(&bigger, slot->spi, slot->word, slot->tag, slot->index);
    }
    free(t->slots);
    *t = bigger;
    return 0;
}

/*
 * The index in the slot of a line that has the key, or IPC_SPI_NONE. Without a branch: whether this line
 * decides is for many loads of the tables as good as random.
 */
#ifdef HAVE_SSE2
/* Four slots at once; AVX2 and AVX-512 are not faster here, what counts is the wait for the line. */
static inline uint32_t index_in_line(const struct ipc_spi_slot *line, uint32_t spi, uint32_t word,
                                     uint32_t tag) {
    const __m128i key = _mm_set_epi32((int)tag, 0, (int)word, (int)spi);
    const __m128i *slot = (const void *)line;
    __m128i low = _mm_packs_epi32(_mm_cmpeq_epi32(slot[0], key), _mm_cmpeq_epi32(slot[1], key));
    __m128i high = _mm_packs_epi32(_mm_cmpeq_epi32(slot[2], key), _mm_cmpeq_epi32(slot[3], key));
    /* A bit for each word of the line; of a slot, words 0, 1 and 3 are the key. */
    uint32_t equal = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
    equal &= equal >> 1 & equal >> 3 & 0x1111;
    uint32_t index = ((const uint32_t *)line)[(unsigned)__builtin_ctz(equal | 1u << 12) + 2];
    return index | (0 - (uint32_t)(equal == 0));
}
#else
static inline uint32_t index_in_line(const struct ipc_spi_slot *line, uint32_t spi, uint32_t word,
                                     uint32_t tag) {
    uint32_t index = IPC_SPI_NONE;
    for (unsigned s = 0; s < LINE; s++) {
        uint32_t other = (line[s].spi ^ spi) | (line[s].word ^ word) | (line[s].tag ^ tag);
        uint32_t keep = 0 - (uint32_t)(other != 0);
        index = (index & keep) | (line[s].index & ~keep);
    }
    return index;
}
#endif

static inline int has_empty(const struct ipc_spi_slot *line) {
    return (line[0].tag == 0) | (line[1].tag == 0) | (line[2].tag == 0) | (line[3].tag == 0);
}

struct burst {
    const struct ipc_spi_table *tables[2];
    uint64_t lines[2];
    const uint32_t *spi, *word;
    uint32_t tag;
};

/* Look-ups that are not decided yet: which of the burst, and the line to look at next in which of the tables.
 */
struct searches {
    const struct ipc_spi_slot *line[IPC_SPI_BURST];
    uint32_t which[IPC_SPI_BURST], table[IPC_SPI_BURST];
};

static inline const struct ipc_spi_slot *home(const struct burst *b, uint32_t table, uint32_t i) {
    const struct ipc_spi_table *t = b->tables[table];
    uint64_t hash = ipc_spi_hash(t->seed, b->spi[i], b->word[i], b->tag);
    return &t->slots[(hash * b->lines[table] >> 32) * LINE];
}

/* Begins searches from..to: their lines are on their way. */
static inline void start(const struct burst *b, struct searches *s, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        s->line[i] = home(b, 0, i);
        s->which[i] = i;
        s->table[i] = 0;
        __builtin_prefetch(s->line[i]);
    }
}

/*
 * Looks at the lines of searches from..to. Those that found nothing and have somewhere to go (from a full
 * line to the next one, from one with an empty slot to the other table) are kept from place `left` on: the
 * new `left`.
 */
static inline uint32_t step(const struct burst *b, struct searches *s, uint32_t from, uint32_t to,
                            uint32_t left, uint32_t *index) {
    uint32_t missing = left;
    for (uint32_t k = from; k < to; k++) {
        const struct ipc_spi_slot *line = s->line[k];
        uint32_t i = s->which[k], table = s->table[k];
        uint32_t found = index_in_line(line, b->spi[i], b->word[i], b->tag);
        index[i] = found;
        s->line[missing] = line;
        s->which[missing] = i;
        s->table[missing] = table;
        missing += found == IPC_SPI_NONE;
    }
    for (uint32_t k = left; k < missing; k++) {
        const struct ipc_spi_slot *line = s->line[k];
        uint32_t i = s->which[k], table = s->table[k];
        if (!has_empty(line)) {
            const struct ipc_spi_slot *slots = b->tables[table]->slots;
            line += LINE;
            if (line == slots + b->lines[table] * LINE) line = slots;
        } else if (table == 0 && b->tables[1]) {
            table = 1;
            line = home(b, 1, i);
        } else {
            continue;
        }
        __builtin_prefetch(line);
        s->line[left] = line;
        s->which[left] = i;
        s->table[left++] = table;
    }
    return left;
}

void ipc_spi_find_burst(const struct ipc_spi_table *main, const struct ipc_spi_table *overflow,
                        const uint32_t *spi, const uint32_t *word, uint32_t tag, uint32_t count,
                        uint32_t *index) {
    if (overflow && overflow->used == 0) overflow = NULL;
    /* First the table that has more of the SAs: most searches end there. */
    int swap = overflow && overflow->used > main->used;
    const struct ipc_spi_table *first = swap ? overflow : main, *second = swap ? main : overflow;
    if (first->used == 0) {
        for (uint32_t i = 0; i < count; i++)
            index[i] = IPC_SPI_NONE;
        return;
    }
    const struct burst b = {.tables = {first, second},
                            .lines = {ipc_spi_lines(first), second ? ipc_spi_lines(second) : 0},
                            .spi = spi,
                            .word = word,
                            .tag = tag};
    struct searches s;
    uint32_t left = 0;
    start(&b, &s, 0, lesser(CHUNK, count));
    for (uint32_t from = 0, to; from < count; from = to) {
        to = lesser(from + CHUNK, count);
        start(&b, &s, to, lesser(to + CHUNK, count));
        left = step(&b, &s, from, to, left, index);
    }
    while (left)
        left = step(&b, &s, 0, left, 0, index);
}
