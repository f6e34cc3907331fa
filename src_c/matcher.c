/*
 * Tuple space search (Srinivasan, Suri, Varghese, SIGCOMM 1999). A filter is a pair of bit patterns, mask and
 * value; the filters of a direction with the same mask, a shape, go into one hash table that is keyed with
 * the masked packet. The search takes the shapes by their first filter and ends when it has a match in front
 * of all that remain.
 */
#include "matcher.h"

#include "hash.h"

#include <stdlib.h>
#include <string.h>

/* Tests make keys collide. */
#ifndef IPC_MATCHER_HASH
#    define IPC_MATCHER_HASH(h) (h)
#endif

#define NONE  UINT32_MAX
#define WORDS 5u
/* Fewer filters of a shape than this are compared one by one, which costs less than the hash. */
#define TABLE_MIN 4u
/* With more tables than TABLES_FEW the first HEAD filters of every shape are compared before its table is
 * asked: the walk, too, would have compared them by then, so that many tables never cost much more than it.
 */
#define TABLES_FEW 32u
#define HEAD       8u

/* Low words of both addresses; family, protocol and ports; high words, which tell the least apart. */
struct pattern {
    uint64_t word[WORDS];
};

struct slot {
    uint32_t tag; /* low half of the hash */
    uint32_t filter;
};

struct table {
    struct pattern mask;
    struct slot *slots;
    uint8_t *hints; /* of a home slot: one bit for each value of the top bits of the hashes that live there */
    uint32_t last;  /* slots - 1; slots are a power of two */
};

/* One filter, or a table with the bits that all its filters have in common: many tables need not be asked. */
struct step {
    struct pattern mask, value;
    uint32_t first; /* index of its first filter; NONE: end of the search */
    uint32_t table; /* NONE: one filter */
};

struct side {
    struct step *steps; /* by `first`, ascending */
    struct table *tables;
    struct slot *slots; /* of all tables */
    uint8_t *hints;
};

struct ipc_matcher {
    struct side side[2];    /* enum ipc_direction */
    struct pattern *values; /* of all filters */
    uint64_t seed[6];
};

struct shape {
    struct pattern mask;
    uint32_t alone;  /* the first of its filters, which are steps of their own */
    uint32_t hashed; /* the others */
    uint32_t step;   /* of its table */
};

struct scratch {
    struct shape *shapes; /* in the order of their first filter */
    uint32_t *shape_of;   /* filter -> shape */
    uint32_t *index;      /* hash of the mask -> shape */
    uint32_t last;        /* of `index` */
    uint32_t shape_count;
};

static inline struct pattern pattern(ipc_address source, ipc_address destination, uint64_t family,
                                     uint64_t protocol, uint64_t source_port, uint64_t destination_port) {
    return (struct pattern){{source.low, destination.low,
                             family << 40 | protocol << 32 | source_port << 16 | destination_port,
                             source.high, destination.high}};
}

static struct pattern mask_of(const struct ipc_filter *f) {
    return pattern(f->source_mask, f->destination_mask, f->family ? 0xff : 0, f->protocol ? 0xff : 0,
                   f->source_port ? 0xffff : 0, f->destination_port ? 0xffff : 0);
}

static struct pattern value_of(const struct ipc_filter *f) {
    return pattern(f->source, f->destination, f->family, f->protocol, f->source_port, f->destination_port);
}

static inline struct pattern masked(const struct pattern *p, const struct pattern *mask) {
    struct pattern r;
    for (unsigned i = 0; i < WORDS; i++)
        r.word[i] = p->word[i] & mask->word[i];
    return r;
}

static inline int agree(const struct pattern *a, const struct pattern *b, const struct pattern *mask) {
    const uint64_t *x = a->word, *y = b->word, *m = mask->word;
    if (((x[0] ^ y[0]) & m[0]) | ((x[1] ^ y[1]) & m[1])) return 0;
    return (((x[2] ^ y[2]) & m[2]) | ((x[3] ^ y[3]) & m[3]) | ((x[4] ^ y[4]) & m[4])) == 0;
}

static inline int equal(const struct pattern *a, const struct pattern *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static inline uint64_t hash(const ipc_matcher *m, const struct pattern *p) {
    const uint64_t *w = p->word, *s = m->seed;
    uint64_t h = ipc_fold_product(w[0] ^ s[0], w[1] ^ s[1]) + ipc_fold_product(w[3] ^ s[2], w[4] ^ s[3]) +
                 ipc_fold_product(w[2] ^ s[4], s[5]);
    return IPC_MATCHER_HASH(h);
}

static inline uint32_t home(uint64_t h, uint32_t last) {
    return (uint32_t)(h >> 32) & last;
}

static inline uint8_t hint(uint64_t h) {
    return (uint8_t)(1u << (h >> 61));
}

/* No word of the seed may be 0, for the products' sake. */
static uint64_t mixed(uint64_t x) {
    return ipc_random(&x);
}

/* The least power of two that leaves half of the slots empty, less one. */
static uint32_t last_slot(uint32_t used) {
    uint32_t size = 2;
    while (size / 2 < used)
        size *= 2;
    return size - 1;
}

/* The slot of the value, or the empty one where it belongs. */
static inline struct slot *probe(const ipc_matcher *m, const struct table *t, const struct pattern *value,
                                 uint64_t h) {
    for (uint32_t at = home(h, t->last);; at = (at + 1) & t->last) {
        struct slot *slot = &t->slots[at];
        if (slot->filter == NONE) return slot;
        if (slot->tag == (uint32_t)h && equal(&m->values[slot->filter], value)) return slot;
    }
}

uint32_t ipc_matcher_find(const ipc_matcher *m, enum ipc_direction direction,
                          const struct ipc_match_key *key) {
    const struct side *side = &m->side[direction];
    struct pattern packet = pattern(key->source, key->destination, key->family, key->protocol,
                                    key->source_port, key->destination_port);
    uint32_t best = NONE;
    for (const struct step *s = side->steps; s->first < best; s++) {
        if (!agree(&packet, &s->value, &s->mask)) continue;
        if (s->table == NONE) return s->first;
        const struct table *t = &side->tables[s->table];
        struct pattern value = masked(&packet, &t->mask);
        uint64_t h = hash(m, &value);
        if (!(t->hints[home(h, t->last)] & hint(h))) continue;
        uint32_t found = probe(m, t, &value, h)->filter;
        if (found < best) best = found;
    }
    return best;
}

static uint32_t shape_of(const ipc_matcher *m, struct scratch *b, const struct pattern *mask) {
    uint32_t at = home(hash(m, mask), b->last);
    while (b->index[at] != NONE && !equal(&b->shapes[b->index[at]].mask, mask))
        at = (at + 1) & b->last;
    if (b->index[at] == NONE) {
        b->index[at] = b->shape_count;
        b->shapes[b->shape_count++] = (struct shape){*mask, 0, 0, NONE};
    }
    return b->index[at];
}

static void find_shapes(ipc_matcher *m, enum ipc_direction direction, const struct ipc_filter *filters,
                        uint32_t count, struct scratch *b) {
    b->shape_count = 0;
    memset(b->index, 0xff, ((size_t)b->last + 1) * sizeof *b->index);
    for (uint32_t i = 0; i < count; i++) {
        if (filters[i].direction != direction) continue;
        struct pattern mask = mask_of(&filters[i]), value = value_of(&filters[i]);
        m->values[i] = masked(&value, &mask);
        b->shape_of[i] = shape_of(m, b, &mask);
        b->shapes[b->shape_of[i]].hashed++;
    }
    uint32_t tables = 0;
    for (uint32_t i = 0; i < b->shape_count; i++)
        tables += b->shapes[i].hashed >= TABLE_MIN;
    uint32_t head = tables > TABLES_FEW ? HEAD : 0;
    for (uint32_t i = 0; i < b->shape_count; i++) {
        struct shape *shape = &b->shapes[i];
        shape->alone = shape->hashed < head + TABLE_MIN ? shape->hashed : head;
        shape->hashed -= shape->alone;
    }
}

static int side_create(struct side *side, const struct scratch *b) {
    size_t steps = 1, tables = 0, slots = 0;
    for (uint32_t i = 0; i < b->shape_count; i++) {
        const struct shape *shape = &b->shapes[i];
        steps += shape->alone;
        if (!shape->hashed) continue;
        steps++;
        tables++;
        slots += (size_t)last_slot(shape->hashed) + 1;
    }
    side->steps = malloc(steps * sizeof *side->steps);
    side->tables = malloc((tables + 1) * sizeof *side->tables);
    side->slots = malloc((slots + 1) * sizeof *side->slots);
    side->hints = calloc(slots + 1, 1);
    if (!side->steps || !side->tables || !side->slots || !side->hints) return IPC_E(NO_MEMORY);
    memset(side->slots, 0xff, slots * sizeof *side->slots);
    return 0;
}

static void side_fill(const ipc_matcher *m, enum ipc_direction direction, const struct ipc_filter *filters,
                      uint32_t count, struct scratch *b) {
    const struct side *side = &m->side[direction];
    struct step *end = side->steps;
    uint32_t tables = 0;
    size_t slots = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (filters[i].direction != direction) continue;
        struct shape *shape = &b->shapes[b->shape_of[i]];
        const struct pattern *value = &m->values[i];
        if (shape->alone) {
            shape->alone--;
            *end++ = (struct step){shape->mask, *value, i, NONE};
            continue;
        }
        if (shape->step == NONE) {
            shape->step = (uint32_t)(end - side->steps);
            *end++ = (struct step){shape->mask, *value, i, tables};
            side->tables[tables++] = (struct table){shape->mask, side->slots + slots, side->hints + slots,
                                                    last_slot(shape->hashed)};
            slots += (size_t)last_slot(shape->hashed) + 1;
        }
        struct step *step = &side->steps[shape->step];
        for (unsigned w = 0; w < WORDS; w++)
            step->mask.word[w] &= ~(value->word[w] ^ step->value.word[w]);
        const struct table *t = &side->tables[step->table];
        uint64_t h = hash(m, value);
        struct slot *slot = probe(m, t, value, h);
        /* Of equal filters the first one stays. */
        if (slot->filter == NONE) *slot = (struct slot){(uint32_t)h, i};
        t->hints[home(h, t->last)] |= hint(h);
    }
    *end = (struct step){.first = NONE, .table = NONE};
}

int ipc_matcher_create(const struct ipc_filter *filters, uint32_t count, const uint64_t seed[2],
                       ipc_matcher **out) {
    if (count > UINT32_MAX / 4) return IPC_E(NO_MEMORY);
    size_t room = (size_t)count + 1;
    struct scratch b = {.last = last_slot(count)};
    b.shapes = malloc(room * sizeof *b.shapes);
    b.shape_of = malloc(room * sizeof *b.shape_of);
    b.index = malloc(((size_t)b.last + 1) * sizeof *b.index);
    ipc_matcher *m = calloc(1, sizeof *m);
    if (m) m->values = malloc(room * sizeof *m->values);
    int rc = m && m->values && b.shapes && b.shape_of && b.index ? 0 : IPC_E(NO_MEMORY);
    for (unsigned i = 0; rc == 0 && i < sizeof m->seed / sizeof *m->seed; i++)
        m->seed[i] = mixed(seed[i % 2] + mixed(i));
    for (unsigned direction = IPC_OUTBOUND; rc == 0 && direction <= IPC_INBOUND; direction++) {
        find_shapes(m, direction, filters, count, &b);
        rc = side_create(&m->side[direction], &b);
        if (rc == 0) side_fill(m, direction, filters, count, &b);
    }
    free(b.shapes);
    free(b.shape_of);
    free(b.index);
    if (rc == 0)
        *out = m;
    else
        ipc_matcher_destroy(m);
    return rc;
}

void ipc_matcher_destroy(ipc_matcher *m) {
    if (!m) return;
    for (unsigned direction = IPC_OUTBOUND; direction <= IPC_INBOUND; direction++) {
        struct side *side = &m->side[direction];
        free(side->steps);
        free(side->tables);
        free(side->slots);
        free(side->hints);
    }
    free(m->values);
    free(m);
}
