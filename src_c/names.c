/* Texts of the X-macro lists. */
#include "ipsec_core/driver.h"
#include "ipsec_core/status.h"
#include "ipsec_core/types.h"

const char *ipc_strerror(int code) {
    static const char *const text[] = {"success",
#define X(name, line) line,
                                       IPC_ERROR_LIST(X)
#undef X
    };
    if (code > 0) code = 0;
    return -code < IPC_ERROR_COUNT_ ? text[-code] : "unknown error";
}

static const struct {
    const char *name, *text;
    enum ipc_verdict verdict;
} statuses[IPC_STATUS_COUNT] = {
#define X(name, verdict, text) {#name, text, IPC_VERDICT_##verdict},
    IPC_STATUS_LIST(X)
#undef X
};

const char *ipc_status_name(int status) {
    return status >= 0 && status < IPC_STATUS_COUNT ? statuses[status].name : NULL;
}

const char *ipc_status_text(int status) {
    return status >= 0 && status < IPC_STATUS_COUNT ? statuses[status].text : NULL;
}

enum ipc_verdict ipc_status_verdict(int status) {
    return status >= 0 && status < IPC_STATUS_COUNT ? statuses[status].verdict : IPC_VERDICT_DROP;
}

static const struct {
    const char *name, *text, *rule;
} counters[] = {
#define X(name, text, rule) {#name, text, rule},
    IPC_COUNTER_LIST(X)
#undef X
};
#define COUNTERS (sizeof counters / sizeof *counters)
_Static_assert(offsetof(struct ipc_counters, status_outbound) == COUNTERS * sizeof(uint64_t),
               "counters come first");

unsigned ipc_counter_count(void) {
    return COUNTERS;
}

const char *ipc_counter_name(unsigned index) {
    return index < COUNTERS ? counters[index].name : NULL;
}

const char *ipc_counter_text(unsigned index) {
    return index < COUNTERS ? counters[index].text : NULL;
}

const char *ipc_counter_rule(unsigned index) {
    return index < COUNTERS ? counters[index].rule : NULL;
}
