/*
 * Around the matcher for its tests: the walk through the list, many packets in one call, counted allocations
 * of which one can be made to fail, and a main that compares both searches for lists from standard input.
 */
#include "matcher.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *block);

static uint32_t blocks, countdown; /* countdown: the allocation that fails, 0: none does */
static uint64_t bytes;

static void *counted(void *block) {
    blocks += block != NULL;
    bytes += malloc_usable_size(block);
    return block;
}
void *__wrap_malloc(size_t size) {
    return countdown && --countdown == 0 ? NULL : counted(__real_malloc(size));
}
void *__wrap_calloc(size_t count, size_t size) {
    return countdown && --countdown == 0 ? NULL : counted(__real_calloc(count, size));
}
void __wrap_free(void *block) {
    blocks -= block != NULL;
    bytes -= malloc_usable_size(block);
    __real_free(block);
}

void test_fail_allocation(uint32_t number) {
    countdown = number;
}
uint32_t test_blocks(void) {
    return blocks;
}
uint64_t test_bytes(void) {
    return bytes;
}

struct packet {
    struct ipc_match_key key;
    uint32_t direction;
};

size_t test_sizes(unsigned which) {
    return which ? sizeof(struct packet) : sizeof(struct ipc_filter);
}

void test_walk(const struct ipc_filter *filters, uint32_t count, const struct packet *packets, uint32_t many,
               uint32_t *found) {
    for (uint32_t i = 0; i < many; i++) {
        found[i] = 0;
        while (found[i] < count &&
               !ipc_filter_matches(&filters[found[i]], packets[i].direction, &packets[i].key))
            found[i]++;
        if (found[i] == count) found[i] = UINT32_MAX;
    }
}

void test_find(const ipc_matcher *m, const struct packet *packets, uint32_t many, uint32_t *found) {
    for (uint32_t i = 0; i < many; i++)
        found[i] = ipc_matcher_find(m, packets[i].direction, &packets[i].key);
}

static int take(void *to, size_t size, size_t count) {
    return fread(to, size, count, stdin) == count;
}

/* Lists one after the other: two seed words, numbers of filters and of packets, filters, packets. Prints for
 * each how many packets have another answer than the walk's. */
int main(void) {
    uint64_t seed[2];
    while (take(seed, sizeof seed, 1)) {
        uint32_t count, many;
        if (!take(&count, sizeof count, 1) || !take(&many, sizeof many, 1)) return 2;
        struct ipc_filter *filters = malloc(count * sizeof *filters);
        struct packet *packets = malloc(many * sizeof *packets);
        uint32_t *walked = malloc(many * sizeof *walked), *found = malloc(many * sizeof *found);
        ipc_matcher *m;
        if (!take(filters, sizeof *filters, count) || !take(packets, sizeof *packets, many)) return 2;
        if (ipc_matcher_create(filters, count, seed, &m) < 0) return 2;
        test_walk(filters, count, packets, many, walked);
        free(filters);
        test_find(m, packets, many, found);
        uint32_t different = 0;
        for (uint32_t i = 0; i < many; i++)
            different += walked[i] != found[i];
        printf("%u\n", different);
        ipc_matcher_destroy(m);
        free(packets);
        free(walked);
        free(found);
    }
    return blocks != 0;
}
