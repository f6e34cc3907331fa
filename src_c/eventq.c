#include "eventq.h"

#include <stdlib.h>
#include <string.h>

static int before(const struct ipc_queued *a, const struct ipc_queued *b) {
    return a->event.time != b->event.time ? a->event.time < b->event.time : a->serial < b->serial;
}

int ipc_eventq_push(struct ipc_eventq *q, const struct ipc_event *event) {
    if (q->count == q->size) {
        size_t size = q->size ? q->size * 2 : 64;
        struct ipc_queued *heap = realloc(q->heap, size * sizeof *heap);
        if (!heap) return IPC_E(NO_MEMORY);
        q->heap = heap;
        q->size = size;
    }
    struct ipc_queued item = {.event = *event, .serial = q->serial++};
    if (event->length) {
        item.bytes = malloc(event->length);
        if (!item.bytes) return IPC_E(NO_MEMORY);
        memcpy(item.bytes, event->packet, event->length);
        item.event.packet = item.bytes;
    }
    q->timers += event->kind == IPC_EVENT_TIMER;
    size_t at = q->count++;
    while (at > 0 && before(&item, &q->heap[(at - 1) / 2])) {
        q->heap[at] = q->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->heap[at] = item;
    return 0;
}

struct ipc_queued ipc_eventq_pop(struct ipc_eventq *q) {
    struct ipc_queued top = q->heap[0], last = q->heap[--q->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= q->count) break;
        if (child + 1 < q->count && before(&q->heap[child + 1], &q->heap[child])) child++;
        if (!before(&q->heap[child], &last)) break;
        q->heap[at] = q->heap[child];
        at = child;
    }
    if (q->count) q->heap[at] = last;
    q->timers -= top.event.kind == IPC_EVENT_TIMER;
    return top;
}

void ipc_eventq_destroy(struct ipc_eventq *q) {
    for (size_t i = 0; i < q->count; i++)
        free(q->heap[i].bytes);
    free(q->heap);
    q->heap = NULL;
}
