/*
 * libFuzzer target for captures (Linux: the file is one in memory). Loads, maps all of 10/8 and the busiest
 * pair with rewriting and reassembly, reads every byte, and counts every frame.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "ipsec_core/trace.h"
#include "kit.h"

static void map_and_read(ipc_trace *t) {
    struct ipc_conversation pair = {0};
    size_t pairs = ipc_trace_conversations(t, &pair, 1), count;
    const struct ipc_host_map maps[] = {
        {pair.a, UINT32_MAX, 0xc0a84dc8, 0, 1},
        {pair.b, UINT32_MAX, 0xac1ffffe, 1, 1},
        {0x0a000000, 0xff000000, 0, 2, 0},
    };
    CHECK(pairs == 0 || pair.a < pair.b);
    CHECK(ipc_trace_map(t, pairs ? maps : maps + 2, pairs ? 3 : 1, 1) == 0);
    const struct ipc_trace_frame *frames = ipc_trace_frames(t, &count);
    const uint8_t *bytes = ipc_trace_bytes(t);
    struct ipc_trace_stats stats;
    ipc_trace_stats(t, &stats);
    uint64_t total = 0;
    volatile unsigned seen = 0;
    for (size_t i = 0; i < count; i++) {
        const struct ipc_trace_frame *f = &frames[i];
        uint32_t length = f->l2_length + f->l3_length;
        CHECK(f->l2_length >= 14 && f->l2_length <= IPC_TRACE_MAX_L2 && f->l3_length <= stats.max_l3);
        CHECK(i == 0 || (f->time >= f[-1].time && f->number > f[-1].number));
        CHECK(f->from < 3 && f->to < 3);
        for (uint32_t k = 0; k < length; k++)
            seen += bytes[f->offset + k];
        total += length;
    }
    (void)seen;
    uint64_t left = stats.mapped + stats.unmapped + stats.unsendable;
    CHECK(count == stats.mapped && total == stats.bytes && stats.max_l3 <= 65535);
    /* A datagram has two fragments at least. */
    CHECK(left <= stats.frames && left + stats.reassembled >= stats.frames);
    CHECK(left + stats.reassembled - stats.frames <= stats.reassembled / 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64], error[IPC_TRACE_ERROR_SIZE];
    int file = memfd_create("capture", 0);
    if (file < 0) return 0;
    CHECK(write(file, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    ipc_trace *t = NULL;
    int code = ipc_trace_load(path, &t, error);
    if (code == 0) {
        CHECK(error[0] == 0);
        map_and_read(t);
        ipc_trace_destroy(t);
    } else {
        CHECK(code == IPC_E(FORMAT) && error[0] && memchr(error, 0, sizeof error) && !strchr(error, '\n'));
    }
    close(file);
    return 0;
}
