/* Life of an SA: soft and hard limits in bytes, seconds and sequence numbers; the idle timer (RFC
 * 2401 4.4.3). */
#include "internal.h"

/* Rekey 2^20 numbers before the end: at a million packets a second still a second to negotiate in. */
#define NUMBERS_LEFT (UINT64_C(1) << 20)

static uint64_t last_number(const struct ipc_sa_hot *sa) {
    return sa->esn ? UINT64_MAX : UINT32_MAX;
}

static ipc_time earlier(ipc_time a, ipc_time b) {
    return a && a < b ? a : b;
}

void ipc_sa_set_limits(struct ipc_sa_hot *sa, const struct ipc_sa_ctl *ctl) {
    const struct ipc_sa_config *c = &ctl->config;
    uint64_t past_hard = c->hard_bytes && c->hard_bytes != UINT64_MAX ? c->hard_bytes + 1 : UINT64_MAX;
    int reported = ctl->rekeying || ctl->retired;
    sa->byte_limit = !reported && c->soft_bytes ? c->soft_bytes : past_hard;
    sa->time_limit = earlier(c->hard_time, IPC_NEVER);
    if (!reported) sa->time_limit = earlier(c->soft_time, sa->time_limit);
    sa->sequence_limit = UINT64_MAX;
    if (sa->direction == IPC_OUTBOUND && sa->service != IPC_SERVICE_SOFT)
        sa->sequence_limit = reported ? last_number(sa) : last_number(sa) - NUMBERS_LEFT;
}

/* An upcall that finds the ring full is made up for by ipc_driver_tick. */
static void report(ipc_driver *d, enum ipc_upcall_kind kind, uint32_t index, ipc_time now) {
    if (ipc_upcall_sa(d, kind, index, now)) return;
    ipc_ctl(d, index)->owed |= (uint8_t)(1u << kind);
    if (now < d->next_tick) d->next_tick = now;
}

static void die(ipc_driver *d, uint32_t index, ipc_time now) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    sa->dead = 1;
    sa->byte_limit = 0;
    d->counters.expirations++;
    report(d, IPC_UPCALL_EXPIRED, index, now);
    /* The filters may have an older SA, or must ask for a new one. */
    ipc_cache_invalidate(d);
}

static void ask_for_successor(ipc_driver *d, uint32_t index, ipc_time now) {
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    if (ctl->rekeying || ctl->retired) return;
    ctl->rekeying = 1;
    ipc_sa_set_limits(ipc_hot(d, index), ctl);
    d->counters.rekeys++;
    report(d, IPC_UPCALL_REKEY, index, now);
}

enum ipc_status ipc_sa_limit(ipc_driver *d, uint32_t index, uint64_t bytes, ipc_time now) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    const struct ipc_sa_config *c = &ipc_ctl(d, index)->config;
    if (sa->dead) return IPC_EXPIRED;
    if ((c->hard_bytes && bytes > c->hard_bytes) || (c->hard_time && now >= c->hard_time)) {
        die(d, index, now);
        return IPC_EXPIRED;
    }
    int numbered = sa->direction == IPC_OUTBOUND && sa->service != IPC_SERVICE_SOFT;
    if ((c->soft_bytes && bytes >= c->soft_bytes) || (c->soft_time && now >= c->soft_time) ||
        (numbered && sa->sent.sequence >= last_number(sa) - NUMBERS_LEFT))
        ask_for_successor(d, index, now);
    return numbered && sa->sent.sequence == last_number(sa) ? IPC_SEQUENCE_EXHAUSTED : IPC_PROTECTED;
}

int ipc_sa_retire(ipc_driver *d, ipc_sa handle, ipc_time hard_time) {
    if (!ipc_sa_valid(d, handle)) return IPC_E(NOT_FOUND);
    struct ipc_sa_ctl *ctl = ipc_ctl(d, IPC_SA_INDEX(handle));
    if (ipc_hot(d, IPC_SA_INDEX(handle))->dead) return 0; /* new limits would wake it */
    if (hard_time == 0) hard_time = 1;                    /* 0 stands for no limit */
    ctl->retired = 1;
    ctl->config.hard_time = earlier(ctl->config.hard_time, hard_time);
    ipc_sa_set_limits(ipc_hot(d, IPC_SA_INDEX(handle)), ctl);
    if (hard_time < d->next_tick) d->next_tick = hard_time;
    return 0;
}

/* When this SA is to be looked at again; what is due is done. */
static ipc_time tick_one(ipc_driver *d, uint32_t index, ipc_time now) {
    struct ipc_sa_hot *sa = ipc_hot(d, index);
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    const struct ipc_sa_config *c = &ctl->config;
    if (sa->dead) return IPC_NEVER;
    if (c->hard_time && now >= c->hard_time) {
        die(d, index, now);
        return IPC_NEVER;
    }
    if (c->soft_time && now >= c->soft_time) ask_for_successor(d, index, now);
    if (!c->idle) return sa->time_limit;
    ipc_time idle_at = sa->last > IPC_NEVER - c->idle ? IPC_NEVER : sa->last + c->idle;
    if (now < idle_at) {
        ctl->idle = 0;
        return earlier(idle_at, sa->time_limit);
    }
    if (!ctl->idle) {
        ctl->idle = 1;
        d->counters.idle_expirations++;
        report(d, IPC_UPCALL_IDLE, index, now);
    }
    return earlier(now + c->idle, sa->time_limit);
}

/* Reports what an SA is owed; 0: the ring is still full. */
static int make_up(ipc_driver *d, uint32_t index, ipc_time now) {
    struct ipc_sa_ctl *ctl = ipc_ctl(d, index);
    for (unsigned kind = 0; ctl->owed; kind++) {
        if (!(ctl->owed >> kind & 1)) continue;
        if (!ipc_upcall_sa(d, (enum ipc_upcall_kind)kind, index, now)) return 0;
        ctl->owed &= (uint8_t) ~(1u << kind);
    }
    return 1;
}

ipc_time ipc_driver_tick(ipc_driver *d, ipc_time now) {
    if (now < d->next_tick) return d->next_tick;
    ipc_time next = IPC_NEVER;
    for (uint32_t i = 0; i < d->sa_limit; i++) {
        if (!(ipc_ctl(d, i)->generation & 1)) continue;
        next = earlier(tick_one(d, i, now), next);
        /* With the ring full again the caller takes the upcalls out and asks once more. */
        if (ipc_ctl(d, i)->owed && !make_up(d, i, now)) next = earlier(now ? now : 1, next);
    }
    d->next_tick = next;
    return next;
}
