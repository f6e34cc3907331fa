/* Security associations: creation, deletion, look-up, SPI allocation. */
#include "internal.h"

#include <stdlib.h>

int ipc_sa_valid(const ipc_driver *d, ipc_sa handle) {
    uint32_t index = IPC_SA_INDEX(handle), generation = (uint32_t)(handle >> 32);
    return index < d->sa_limit && (generation & 1) && ipc_ctl(d, index)->generation == generation;
}

static int grow(ipc_driver *d) {
    uint32_t chunks = d->sa_limit / IPC_CHUNK;
    if (d->sa_limit > UINT32_MAX / 2) return IPC_E(FULL);
    struct ipc_sa_hot **hot = realloc(d->hot, (chunks + 1) * sizeof *hot);
    if (!hot) return IPC_E(NO_MEMORY);
    d->hot = hot;
    struct ipc_sa_ctl **ctl = realloc(d->ctl, (chunks + 1) * sizeof *ctl);
    if (!ctl) return IPC_E(NO_MEMORY);
    d->ctl = ctl;
    hot[chunks] = aligned_alloc(64, IPC_CHUNK * sizeof **hot);
    ctl[chunks] = calloc(IPC_CHUNK, sizeof **ctl);
    if (!hot[chunks] || !ctl[chunks]) {
        free(hot[chunks]);
        free(ctl[chunks]);
        return IPC_E(NO_MEMORY);
    }
    memset(hot[chunks], 0, IPC_CHUNK * sizeof **hot);
    for (uint32_t i = IPC_CHUNK; i-- > 0;) {
        ctl[chunks][i].next = d->sa_free;
        d->sa_free = d->sa_limit + i;
    }
    d->sa_limit += IPC_CHUNK;
    return 0;
}

static int engine_for(ipc_driver *d, const struct ipc_crypto_backend *backend, void **engine) {
    for (unsigned i = 0; i < sizeof d->engine / sizeof *d->engine; i++)
        if (ipc_crypto_backend(i) == backend) {
            if (!d->engine[i]) d->engine[i] = backend->engine_create();
            *engine = d->engine[i];
            return *engine ? 0 : IPC_E(NO_MEMORY);
        }
    return IPC_E(UNSUPPORTED);
}

/* The driver's record of a suite; SAs of the same one share it. */
static int suite_for(ipc_driver *d, const struct ipc_crypto_suite *crypto, const struct ipc_suite **suite) {
    const struct ipc_crypto_backend *backend = ipc_crypto_choose(crypto, d->backend);
    if (!backend) return IPC_E(UNSUPPORTED);
    for (uint32_t i = 0; i < d->suite_count; i++) {
        const struct ipc_crypto_suite *known = &d->suites[i].crypto;
        if (d->suites[i].backend == backend && known->encryption == crypto->encryption &&
            known->integrity == crypto->integrity && known->esn == crypto->esn && known->ah == crypto->ah) {
            *suite = &d->suites[i];
            return 0;
        }
    }
    if (d->suite_count == IPC_SUITES_MAX) return IPC_E(FULL);
    void *engine;
    int rc = engine_for(d, backend, &engine);
    if (rc < 0) return rc;
    d->suites[d->suite_count] = (struct ipc_suite){backend, engine, *crypto};
    *suite = &d->suites[d->suite_count++];
    return 0;
}

static uint8_t wire_protocol(const struct ipc_sa_config *c) {
    return c->service == IPC_SERVICE_AH ? IPC_PROTO_AH : IPC_PROTO_ESP;
}

static int init_window(struct ipc_window *w, const struct ipc_sa_config *c) {
    uint32_t words = ipc_window_words(c->replay_window);
    w->size = (uint16_t)c->replay_window;
    w->top = c->sequence;
    w->mask = (uint16_t)(words - 1);
    w->bits = words == 2 ? w->small : calloc(words, sizeof *w->bits);
    if (!w->bits) return IPC_E(NO_MEMORY);
    if (w->top) {
        /* Which numbers up to a given right edge were seen is not known: none of them is taken again. */
        memset(w->bits, 0xff, words * sizeof *w->bits);
        w->bits[w->top >> 6 & w->mask] = UINT64_MAX >> (63 - (w->top & 63));
    }
    return 0;
}

static void free_window(struct ipc_window *w) {
    if (w->bits != w->small) free(w->bits);
    w->bits = NULL;
}

static int enter_spi(ipc_driver *d, const struct ipc_sa_config *c, uint32_t index) {
    uint8_t protocol = wire_protocol(c);
    uint32_t word = ipc_spi_word(&d->spi, c->destination), tag = ipc_spi_tag(protocol, c->destination);
    if (ipc_spi_lookup(d, c->spi, c->destination, protocol) != IPC_NO_SA) return IPC_E(DUPLICATE);
    /* A table that is half full is still quick to say no; further SAs go to a second one. */
    if (d->spi.used < d->spi.size / 2) return ipc_spi_table_insert(&d->spi, c->spi, word, tag, index);
    int rc = d->spi_overflow.slots ? ipc_spi_table_reserve(&d->spi_overflow)
                                   : ipc_spi_table_create(&d->spi_overflow, d->spi.size, d->seed);
    return rc < 0 ? rc : ipc_spi_table_insert(&d->spi_overflow, c->spi, word, tag, index);
}

static void leave_spi(ipc_driver *d, const struct ipc_sa_config *c, uint32_t index) {
    uint32_t word = ipc_spi_word(&d->spi, c->destination),
             tag = ipc_spi_tag(wire_protocol(c), c->destination);
    if (ipc_spi_table_delete(&d->spi, c->spi, word, tag, index) < 0)
        (void)ipc_spi_table_delete(&d->spi_overflow, c->spi, word, tag, index);
}

static int prepare_ah(ipc_driver *d) {
    if (!d->ah) d->ah = malloc(IPC_BURST_MAX * sizeof *d->ah);
    return d->ah ? 0 : IPC_E(NO_MEMORY);
}

/* Suite, key, window and SPI of a hard SA. On an error nothing is left behind. */
static int arm(ipc_driver *d, const struct ipc_sa_config *c, uint32_t index) {
    struct ipc_sa_hot *hot = ipc_hot(d, index);
    const struct ipc_crypto_suite crypto = ipc_sa_suite(c);
    int rc = suite_for(d, &crypto, &hot->suite);
    if (rc == 0 && c->service == IPC_SERVICE_AH) rc = prepare_ah(d);
    if (rc < 0) return rc;
    const struct ipc_suite *suite = hot->suite;
    hot->key = suite->backend->key_create(suite->engine, &suite->crypto, c->encryption_key, c->integrity_key);
    if (!hot->key) return IPC_E(NO_MEMORY);
    if (c->direction == IPC_INBOUND) {
        rc = init_window(&hot->got.window, c);
        if (rc == 0 && (rc = enter_spi(d, c, index)) < 0) free_window(&hot->got.window);
    } else {
        hot->sent.sequence = c->sequence;
    }
    if (rc < 0) suite->backend->key_destroy(hot->key);
    return rc;
}

static ipc_time first_deadline(const struct ipc_sa_config *c) {
    ipc_time first = c->hard_time ? c->hard_time : IPC_NEVER;
    if (c->soft_time && c->soft_time < first) first = c->soft_time;
    return c->idle && c->idle < first && c->created + c->idle < first ? c->created + c->idle : first;
}

/* Soft SAs of both directions and hard outbound ones are found through their filter. */
static int by_filter(const struct ipc_sa_config *c) {
    return c->direction == IPC_OUTBOUND || c->service == IPC_SERVICE_SOFT;
}

static void link_to_filter(ipc_driver *d, uint32_t index) {
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    uint32_t filter = ipc_filter_find(d, ctl->config.filter, ctl->config.direction);
    if (filter == IPC_NONE) return;
    ctl->next = d->filters[filter].newest;
    d->filters[filter].newest = index;
}

static void unlink_from_filter(ipc_driver *d, uint32_t index) {
    const struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    uint32_t filter = ipc_filter_find(d, ctl->config.filter, ctl->config.direction);
    if (filter == IPC_NONE) return;
    uint32_t *link = &d->filters[filter].newest;
    while (*link != IPC_NONE && *link != index)
        link = &ipc_ctl(d, *link)->next;
    if (*link == index) *link = ctl->next;
}

int ipc_sa_add(ipc_driver *d, const struct ipc_sa_config *c, ipc_sa *handle) {
    int rc = ipc_sa_check(d, c);
    if (rc < 0) return rc;
    if (d->sa_free == IPC_NONE && (rc = grow(d)) < 0) return rc;
    uint32_t index = d->sa_free;
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    struct ipc_sa_hot *hot = ipc_hot(d, index);
    uint32_t next_free = ctl->next, generation = ctl->generation;
    memset(hot, 0, sizeof *hot);
    if (c->service != IPC_SERVICE_SOFT && (rc = arm(d, c, index)) < 0) return rc;
    d->sa_free = next_free;
    *ctl = (struct ipc_sa_ctl){
        .config = *c, .serial = ++d->sa_serial, .next = IPC_NONE, .generation = generation + 1};
    ctl->config.encryption_key = ctl->config.integrity_key = NULL;
    ctl->config.encryption_key_length = ctl->config.integrity_key_length = 0;
    ipc_sa_fill(hot, c);
    ipc_sa_set_limits(hot, ctl);
    if (d->nic) ipc_offload_offer(d, index, c);
    if (by_filter(c)) link_to_filter(d, index);
    if (c->direction == IPC_OUTBOUND) ipc_hold_ready(d, c);
    if (first_deadline(c) < d->next_tick) d->next_tick = first_deadline(c);
    ipc_cache_invalidate(d);
    if (c->service == IPC_SERVICE_SOFT) {
        d->counters.soft_associations++;
    } else {
        d->counters.key_additions++;
        d->counters.active_associations++;
    }
    *handle = ipc_handle(index, ctl->generation);
    return 0;
}

static void destroy(ipc_driver *d, uint32_t index) {
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    struct ipc_sa_hot *hot = ipc_hot(d, index);
    if (ctl->offload) ipc_offload_withdraw(d, index);
    if (hot->service != IPC_SERVICE_SOFT) {
        hot->suite->backend->key_destroy(hot->key);
        if (hot->direction == IPC_INBOUND) free_window(&hot->got.window);
    }
    memset(hot, 0, sizeof *hot);
}

int ipc_sa_delete(ipc_driver *d, ipc_sa handle) {
    if (!ipc_sa_valid(d, handle)) return IPC_E(NOT_FOUND);
    uint32_t index = IPC_SA_INDEX(handle);
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    if (by_filter(&ctl->config)) unlink_from_filter(d, index);
    if (ctl->config.service == IPC_SERVICE_SOFT) {
        d->counters.soft_associations--;
    } else {
        if (ctl->config.direction == IPC_INBOUND) leave_spi(d, &ctl->config, index);
        d->counters.key_deletions++;
        d->counters.active_associations--;
    }
    destroy(d, index);
    ctl->generation++;
    ctl->next = d->sa_free;
    d->sa_free = index;
    ipc_cache_invalidate(d);
    return 0;
}

int ipc_sa_set_path_mtu(ipc_driver *d, ipc_sa handle, uint32_t path_mtu) {
    if (!ipc_sa_valid(d, handle)) return IPC_E(NOT_FOUND);
    struct ipc_sa_ctl *ctl = ipc_ctl(d, IPC_SA_INDEX(handle));
    if (ctl->config.direction != IPC_OUTBOUND || !ipc_path_mtu_valid(path_mtu)) return IPC_E(INVALID);
    ctl->config.path_mtu = path_mtu;
    ipc_sa_set_path_mtu_hot(ipc_hot(d, IPC_SA_INDEX(handle)), path_mtu);
    return 0;
}

void ipc_sa_destroy_all(ipc_driver *d) {
    for (uint32_t i = 0; i < d->sa_limit; i++)
        if (ipc_ctl(d, i)->generation & 1) destroy(d, i);
    for (uint32_t i = 0; i < d->sa_limit / IPC_CHUNK; i++) {
        free(d->hot[i]);
        free(d->ctl[i]);
    }
    free(d->hot);
    free(d->ctl);
}

struct age {
    uint64_t serial;
    uint32_t index;
};

static int by_age(const void *a, const void *b) {
    uint64_t x = ((const struct age *)a)->serial, y = ((const struct age *)b)->serial;
    return x < y ? -1 : x > y;
}

void ipc_sa_link_all(ipc_driver *d) {
    struct age *ages = malloc((d->sa_limit ? d->sa_limit : 1) * sizeof *ages);
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->sa_limit; i++) {
        struct ipc_sa_ctl *ctl = ipc_ctl(d, i);
        if (!(ctl->generation & 1) || !by_filter(&ctl->config)) continue;
        ctl->next = IPC_NONE;
        if (ages)
            ages[count++] = (struct age){ctl->serial, i};
        else
            link_to_filter(d, i); /* out of memory: in any order rather than not at all */
    }
    if (count > 1) qsort(ages, count, sizeof *ages, by_age);
    for (uint32_t i = 0; i < count; i++)
        link_to_filter(d, ages[i].index);
    free(ages);
}

/* IPv6: the first of the SAs under the key whose destination is the address itself. */
static uint32_t exact(const ipc_driver *d, const struct ipc_spi_table *t, uint32_t spi,
                      ipc_address destination, uint32_t tag) {
    uint32_t cursor = 0, index, word = ipc_spi_word(t, destination);
    while ((index = ipc_spi_next(t, &cursor, spi, word, tag)) != IPC_NO_SA)
        if (ipc_address_equal(ipc_ctl(d, index)->config.destination, destination)) break;
    return index;
}

uint32_t ipc_spi_lookup(const ipc_driver *d, uint32_t spi, ipc_address destination, uint8_t protocol) {
    if (ipc_address_is_ipv4(destination))
        return ipc_spi_lookup_ipv4(d, spi, (uint32_t)destination.low, protocol);
    uint32_t tag = ipc_spi_tag(protocol, destination), index = exact(d, &d->spi, spi, destination, tag);
    return index != IPC_NO_SA ? index : exact(d, &d->spi_overflow, spi, destination, tag);
}

void ipc_spi_lookup_burst(const ipc_driver *d, const uint32_t *spi, const ipc_ipv4 *destination,
                          uint8_t protocol, uint32_t count, uint32_t *index) {
    ipc_spi_find_burst(&d->spi, d->spi_overflow.used ? &d->spi_overflow : NULL, spi, destination, protocol,
                       count, index);
}

uint32_t ipc_spi_allocate(ipc_driver *d, ipc_address destination) {
    for (;;) {
        /* An odd factor makes this a permutation of the 32-bit numbers: none comes twice before all came
         * once. */
        uint32_t spi = d->spi_next++ * 0x9e3779b1u ^ (uint32_t)d->seed[0];
        if (spi >= 256 && ipc_spi_lookup(d, spi, destination, IPC_PROTO_ESP) == IPC_NO_SA &&
            ipc_spi_lookup(d, spi, destination, IPC_PROTO_AH) == IPC_NO_SA)
            return spi;
    }
}

int ipc_sa_info(const ipc_driver *d, ipc_sa handle, struct ipc_sa_info *info) {
    if (!ipc_sa_valid(d, handle)) return IPC_E(NOT_FOUND);
    uint32_t index = IPC_SA_INDEX(handle);
    const struct ipc_sa_hot *hot = ipc_hot(d, index);
    const struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    memset(info, 0, sizeof *info);
    info->handle = handle;
    info->config = ctl->config;
    info->backend = hot->service == IPC_SERVICE_SOFT ? "" : hot->suite->backend->name;
    info->bytes = hot->bytes;
    info->last = hot->last;
    info->expired = hot->dead;
    info->offloaded = hot->offload;
    info->dropped = ctl->dropped;
    info->lost = ctl->lost;
    if (hot->service == IPC_SERVICE_SOFT) {
        info->packets = hot->got.packets;
    } else if (hot->direction == IPC_OUTBOUND) {
        info->sequence = hot->sent.sequence;
        info->packets = hot->sent.sequence - ctl->config.sequence;
    } else {
        info->packets = hot->got.packets;
        info->sequence = hot->got.window.top;
    }
    return 0;
}

uint32_t ipc_sa_list(const ipc_driver *d, ipc_sa *handles, uint32_t max) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->sa_limit; i++) {
        uint32_t generation = ipc_ctl(d, i)->generation;
        if (!(generation & 1)) continue;
        if (count < max) handles[count] = ipc_handle(i, generation);
        count++;
    }
    return count;
}
