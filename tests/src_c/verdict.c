/* ipc_status_verdict alone: names.c, which has it, brings the whole driver along. */
#include "ipsec_core/status.h"

enum ipc_verdict ipc_status_verdict(int status) {
    static const enum ipc_verdict verdicts[] = {
#define X(name, verdict, text) IPC_VERDICT_##verdict,
        IPC_STATUS_LIST(X)
#undef X
    };
    return status >= 0 && status < IPC_STATUS_COUNT ? verdicts[status] : IPC_VERDICT_DROP;
}
