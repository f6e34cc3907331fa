#include "bench_spi.h"

#include <stdlib.h>
#include <time.h>

#include "spi_table.h"

#define BURST        64
#define DESTINATIONS 8
/* Look-ups prepared; more than these go through them again. No predictor learns so many. */
#define ORDER (1u << 20)

struct bench {
    struct ipc_spi_table table, overflow;
    uint32_t *spi, *word; /* of the SAs, then of the look-ups */
    uint32_t *expected;
    uint64_t random, seeds[2];
};

static uint32_t below(struct bench *b, uint32_t limit) {
    return (uint32_t)((ipc_random(&b->random) >> 32) * limit >> 32);
}

static int fill(struct bench *b, uint32_t sas) {
    for (uint32_t i = 0; i < sas; i++) {
        uint32_t spi, word;
        do {
            spi = (uint32_t)ipc_random(&b->random);
            word = 0x0a010001 + below(b, DESTINATIONS);
        } while (ipc_spi_find(&b->table, spi, word, 50) != IPC_SPI_NONE ||
                 ipc_spi_find(&b->overflow, spi, word, 50) != IPC_SPI_NONE);
        b->spi[i] = spi;
        b->word[i] = word;
        struct ipc_spi_table *t = &b->table;
        if (t->used >= t->size / 2) {
            t = &b->overflow;
            int rc =
                t->slots ? ipc_spi_table_reserve(t) : ipc_spi_table_create(t, b->table.size * 2, b->seeds);
            if (rc < 0) return rc;
        }
        int rc = ipc_spi_table_insert(t, spi, word, 50, i);
        if (rc < 0) return rc;
    }
    return 0;
}

static void look_up(const struct bench *b, uint32_t sas, uint32_t burst, uint32_t *index) {
    const uint32_t *spi = b->spi + sas, *word = b->word + sas;
    ipc_spi_find_burst(&b->table, &b->overflow, spi + burst * BURST, word + burst * BURST, 50, BURST, index);
}

static int run(struct bench *b, uint32_t sas, uint32_t rounds, double *seconds) {
    int rc = fill(b, sas);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < ORDER; i++) {
        uint32_t sa = b->expected[i] = below(b, sas);
        b->spi[sas + i] = b->spi[sa];
        b->word[sas + i] = b->word[sa];
    }
    uint32_t index[BURST];
    for (uint32_t i = 0; i < ORDER; i++) {
        if (i % BURST == 0) look_up(b, sas, i / BURST, index);
        if (index[i % BURST] != b->expected[i]) return IPC_E(NOT_FOUND);
    }
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (uint32_t i = 0; i < rounds; i++)
        look_up(b, sas, i % (ORDER / BURST), index);
    clock_gettime(CLOCK_MONOTONIC, &to);
    *seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
    return 0;
}

int ipc_bench_spi(uint32_t sas, uint32_t slots, uint32_t rounds, uint64_t seed, double *seconds) {
    struct bench b = {.random = seed};
    b.seeds[0] = ipc_random(&b.random);
    b.seeds[1] = ipc_random(&b.random);
    if (sas == 0 || rounds == 0 || slots < 4 || slots > 1u << 30) return IPC_E(INVALID);
    int rc = ipc_spi_table_create(&b.table, slots, b.seeds);
    if (rc < 0) return rc;
    size_t keys = (size_t)sas + ORDER;
    b.spi = malloc(keys * sizeof *b.spi);
    b.word = malloc(keys * sizeof *b.word);
    b.expected = malloc(ORDER * sizeof *b.expected);
    rc = b.spi && b.word && b.expected ? run(&b, sas, rounds, seconds) : IPC_E(NO_MEMORY);
    free(b.spi);
    free(b.word);
    free(b.expected);
    ipc_spi_table_destroy(&b.table);
    ipc_spi_table_destroy(&b.overflow);
    return rc;
}
