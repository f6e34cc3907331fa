/* The middle pass: operations of a burst go to the back ends in runs of one suite. */
#include "internal.h"

void ipc_crypt(ipc_driver *d, unsigned count, enum ipc_direction direction) {
    for (unsigned from = 0; from < count;) {
        const struct ipc_suite *suite = d->op_suite[from];
        unsigned to = from + 1;
        while (to < count && d->op_suite[to] == suite)
            to++;
        (direction == IPC_OUTBOUND ? suite->backend->encrypt : suite->backend->decrypt)(
            suite->engine, &suite->crypto, &d->ops[from], to - from);
        from = to;
    }
}
