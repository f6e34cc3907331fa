/* The queue of control events: a binary heap ordered by time, then by order of entry. Private. */
#ifndef IPC_EVENTQ_H
#define IPC_EVENTQ_H

#include "ipsec_core/world.h"

struct ipc_queued {
    struct ipc_event event;
    uint64_t serial;
    uint8_t *bytes; /* of event.packet; the queue's */
};

struct ipc_eventq {
    struct ipc_queued *heap;
    size_t count, size;
    size_t timers; /* among them */
    uint64_t serial;
};

/* Copies event->packet. */
int ipc_eventq_push(struct ipc_eventq *q, const struct ipc_event *event);
/* Takes the earliest; the caller frees ->bytes. The queue must not be empty. */
struct ipc_queued ipc_eventq_pop(struct ipc_eventq *q);
void ipc_eventq_destroy(struct ipc_eventq *q);

static inline ipc_time ipc_eventq_next(const struct ipc_eventq *q) {
    return q->count ? q->heap[0].event.time : IPC_NEVER;
}

#endif
