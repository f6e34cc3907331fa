/* Security associations: creation, deletion, look-up, SPI allocation. */
#include "internal.h"

#include <stdlib.h>

static int valid_handle(const ipc_driver *d, ipc_sa handle) {
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

static int check(const struct ipc_sa_config *c) {
    const struct ipc_encryption_info *e = ipc_encryption_info(c->encryption);
    const struct ipc_integrity_info *a = ipc_integrity_info(c->integrity);
    if (!e || !a || c->direction > IPC_INBOUND || c->mode > IPC_TUNNEL || c->spi < 256) return IPC_E(INVALID);
    /* ESP without integrity is open to chosen-ciphertext attacks (Paterson and Yau 2006); an AEAD brings its
     * own. */
    if ((e->icv_length != 0) == (a->icv_length != 0)) return IPC_E(INVALID);
    if (c->encryption_key_length != e->key_length || c->integrity_key_length != a->key_length)
        return IPC_E(KEY_LENGTH);
    if (c->replay_window != 0 &&
        (c->replay_window < IPC_WINDOW_MIN || c->replay_window > IPC_WINDOW_MAX || c->replay_window % 32))
        return IPC_E(INVALID);
    if (c->hard_bytes && c->soft_bytes > c->hard_bytes) return IPC_E(INVALID);
    if (c->sequence > UINT32_MAX) return IPC_E(INVALID);
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

static uint32_t find_filter(const ipc_driver *d, uint32_t reference) {
    for (uint32_t i = 0; i < d->filter_count; i++)
        if (d->filters[i].filter.reference == reference && d->filters[i].filter.direction == IPC_OUTBOUND)
            return i;
    return IPC_NONE;
}

static void fill_hot(struct ipc_sa_hot *h, const struct ipc_sa_config *c) {
    const struct ipc_encryption_info *e = ipc_encryption_info(c->encryption);
    const struct ipc_integrity_info *a = ipc_integrity_info(c->integrity);
    h->hard_bytes = c->hard_bytes ? c->hard_bytes : UINT64_MAX;
    /* Without a soft limit the loops' one comparison tells when the hard one is passed. */
    h->soft_bytes = c->soft_bytes ? c->soft_bytes : h->hard_bytes + (h->hard_bytes != UINT64_MAX);
    h->spi = c->spi;
    h->mode = c->mode;
    h->encryption = c->encryption;
    h->integrity = c->integrity;
    h->iv_length = e->iv_length;
    h->pad_mask = (uint8_t)(e->block_length - 1);
    h->icv_length = e->icv_length ? e->icv_length : a->icv_length;
    h->confidential = e->key_length != 0;
    h->authenticated = h->icv_length != 0;
    h->source = c->inner_source & c->inner_source_mask;
    h->source_mask = c->inner_source_mask;
    h->destination = c->inner_destination & c->inner_destination_mask;
    h->destination_mask = c->inner_destination_mask;
    h->source_port = c->source_port;
    h->destination_port = c->destination_port;
    h->protocol = c->protocol;
    h->direction = c->direction;
    h->tunnel_source = c->source;
    h->tunnel_destination = c->destination;
}

static int init_window(struct ipc_window *w, struct ipc_sa_ctl *ctl, const struct ipc_sa_config *c) {
    w->size = c->replay_window;
    w->top = c->sequence;
    uint32_t words = ipc_window_words(w->size);
    w->mask = words - 1;
    ctl->small_window[0] = ctl->small_window[1] = 0;
    w->bits = words == 2 ? ctl->small_window : calloc(words, sizeof *w->bits);
    if (!w->bits) return IPC_E(NO_MEMORY);
    if (w->top) {
        /* Which numbers up to a given right edge were seen is not known: none of them is taken again. */
        memset(w->bits, 0xff, words * sizeof *w->bits);
        w->bits[w->top >> 6 & w->mask] = UINT64_MAX >> (63 - (w->top & 63));
    }
    return 0;
}

static int enter_spi(ipc_driver *d, const struct ipc_sa_config *c, uint32_t index) {
    if (ipc_spi_lookup(d, c->spi, c->destination, IPC_PROTO_ESP) != IPC_NO_SA) return IPC_E(DUPLICATE);
    /* Past 7/8 full, linear probing runs long: further SAs go to a second table, which the look-up asks when
     * the first has none. */
    if (d->spi.used < d->spi.size - d->spi.size / 8 - 1)
        return ipc_spi_table_insert(&d->spi, c->spi, c->destination, IPC_PROTO_ESP, index);
    int rc = d->spi_overflow.slots ? ipc_spi_table_reserve(&d->spi_overflow)
                                   : ipc_spi_table_create(&d->spi_overflow, d->spi.size * 2, d->seed);
    return rc < 0 ? rc : ipc_spi_table_insert(&d->spi_overflow, c->spi, c->destination, IPC_PROTO_ESP, index);
}

int ipc_sa_add(ipc_driver *d, const struct ipc_sa_config *c, ipc_sa *handle) {
    int rc = check(c);
    if (rc < 0) return rc;
    const struct ipc_crypto_backend *backend = ipc_crypto_choose(c->encryption, c->integrity, d->backend);
    if (!backend) return IPC_E(UNSUPPORTED);
    void *engine;
    if ((rc = engine_for(d, backend, &engine)) < 0) return rc;
    if (d->sa_free == IPC_NONE && (rc = grow(d)) < 0) return rc;
    uint32_t index = d->sa_free;
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    struct ipc_sa_hot *hot = ipc_hot(d, index);
    memset(hot, 0, sizeof *hot);
    if (c->direction == IPC_INBOUND) {
        if ((rc = init_window(&hot->in.window, ctl, c)) < 0) return rc;
        rc = enter_spi(d, c, index);
    } else {
        hot->out.sequence = c->sequence;
        hot->out.iv_state = ipc_random(&d->random);
    }
    if (rc == 0) {
        ctl->key =
            backend->key_create(engine, c->encryption, c->integrity, c->encryption_key, c->integrity_key);
        if (!ctl->key) {
            rc = IPC_E(NO_MEMORY);
            if (c->direction == IPC_INBOUND &&
                ipc_spi_table_delete(&d->spi, c->spi, c->destination, IPC_PROTO_ESP) < 0)
                (void)ipc_spi_table_delete(&d->spi_overflow, c->spi, c->destination, IPC_PROTO_ESP);
        }
    }
    if (rc < 0) {
        if (c->direction == IPC_INBOUND && hot->in.window.bits != ctl->small_window)
            free(hot->in.window.bits);
        return rc;
    }
    d->sa_free = ctl->next;
    fill_hot(hot, c);
    hot->backend = backend;
    hot->engine = engine;
    hot->key = ctl->key;
    hot->generation = ++ctl->generation;
    ctl->config = *c;
    ctl->config.encryption_key = ctl->config.integrity_key = NULL;
    ctl->config.encryption_key_length = ctl->config.integrity_key_length = 0;
    ctl->serial = ++d->sa_serial;
    ctl->next = IPC_NONE;
    if (c->direction == IPC_OUTBOUND) {
        uint32_t filter = find_filter(d, c->filter);
        if (filter != IPC_NONE) {
            ctl->next = d->filters[filter].newest;
            d->filters[filter].newest = index;
        }
        ipc_hold_ready(d, c);
    }
    ipc_cache_invalidate(d);
    d->counters.key_additions++;
    d->counters.active_associations++;
    *handle = ipc_handle(index, ctl->generation);
    return 0;
}

static void destroy(ipc_driver *d, uint32_t index) {
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    struct ipc_sa_hot *hot = ipc_hot(d, index);
    hot->backend->key_destroy(ctl->key);
    if (hot->direction == IPC_INBOUND && hot->in.window.bits != ctl->small_window) free(hot->in.window.bits);
    memset(hot, 0, sizeof *hot);
    ctl->key = NULL;
}

int ipc_sa_delete(ipc_driver *d, ipc_sa handle) {
    if (!valid_handle(d, handle)) return IPC_E(NOT_FOUND);
    uint32_t index = IPC_SA_INDEX(handle);
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    const struct ipc_sa_config *c = &ctl->config;
    if (c->direction == IPC_INBOUND) {
        if (ipc_spi_table_delete(&d->spi, c->spi, c->destination, IPC_PROTO_ESP) < 0)
            (void)ipc_spi_table_delete(&d->spi_overflow, c->spi, c->destination, IPC_PROTO_ESP);
    } else {
        uint32_t filter = find_filter(d, c->filter);
        uint32_t *link = filter == IPC_NONE ? NULL : &d->filters[filter].newest;
        while (link && *link != IPC_NONE && *link != index)
            link = &ipc_ctl(d, *link)->next;
        if (link && *link == index) *link = ctl->next;
    }
    destroy(d, index);
    ctl->generation++;
    ctl->next = d->sa_free;
    d->sa_free = index;
    ipc_cache_invalidate(d);
    d->counters.key_deletions++;
    d->counters.active_associations--;
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
        if (!(ctl->generation & 1) || ctl->config.direction != IPC_OUTBOUND) continue;
        ctl->next = IPC_NONE;
        if (ages) ages[count++] = (struct age){ctl->serial, i};
    }
    if (count > 1) qsort(ages, count, sizeof *ages, by_age);
    for (uint32_t i = 0; i < count; i++) {
        struct ipc_sa_ctl *ctl = ipc_ctl(d, ages[i].index);
        uint32_t filter = find_filter(d, ctl->config.filter);
        if (filter == IPC_NONE) continue;
        ctl->next = d->filters[filter].newest;
        d->filters[filter].newest = ages[i].index;
    }
    free(ages);
}

uint32_t ipc_spi_lookup(const ipc_driver *d, uint32_t spi, ipc_ipv4 destination, uint8_t protocol) {
    uint32_t index = ipc_spi_find(&d->spi, spi, destination, protocol);
    if (index == IPC_NO_SA && d->spi_overflow.used)
        index = ipc_spi_find(&d->spi_overflow, spi, destination, protocol);
    return index;
}

uint32_t ipc_spi_allocate(ipc_driver *d, ipc_ipv4 destination) {
    for (;;) {
        /* An odd factor makes this a permutation of the 32-bit numbers: none comes twice before all came
         * once. */
        uint32_t spi = d->spi_next++ * 0x9e3779b1u ^ (uint32_t)d->seed[0];
        if (spi >= 256 && ipc_spi_lookup(d, spi, destination, IPC_PROTO_ESP) == IPC_NO_SA) return spi;
    }
}

int ipc_sa_info(const ipc_driver *d, ipc_sa handle, struct ipc_sa_info *info) {
    if (!valid_handle(d, handle)) return IPC_E(NOT_FOUND);
    uint32_t index = IPC_SA_INDEX(handle);
    const struct ipc_sa_hot *hot = ipc_hot(d, index);
    memset(info, 0, sizeof *info);
    info->handle = handle;
    info->config = ipc_ctl(d, index)->config;
    info->backend = hot->backend->name;
    info->packets = hot->packets;
    info->bytes = hot->bytes;
    if (hot->direction == IPC_OUTBOUND) {
        info->sequence = hot->out.sequence;
    } else {
        info->sequence = hot->in.window.top;
        info->dropped = hot->in.dropped;
        info->lost = hot->in.window.lost;
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
