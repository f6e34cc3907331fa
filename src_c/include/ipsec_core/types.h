/* Base types shared by every public header: addresses, time, error codes of control calls. */
#ifndef IPSEC_CORE_TYPES_H
#define IPSEC_CORE_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the C interface; equal to the Python package's __version__ (a test holds them equal). */
#define IPC_VERSION "0.1.0"

/* Virtual or real time in nanoseconds since the start of the world. Always an argument, never read here. */
typedef uint64_t ipc_time;
#define IPC_NEVER UINT64_MAX

/* IPv4 addresses, masks and ports are in host byte order everywhere in the interface; on the wire in network
 * order. */
typedef uint32_t ipc_ipv4;

/* Control calls return 0 (or a non-negative value) on success and one of these on failure. X(name, text) */
#define IPC_ERROR_LIST(X)                                                                                    \
    X(NO_MEMORY, "out of memory")                                                                            \
    X(INVALID, "value out of range")                                                                         \
    X(UNSUPPORTED, "no crypto back end of this build supports the algorithms")                               \
    X(KEY_LENGTH, "key length does not fit the algorithm")                                                   \
    X(DUPLICATE, "an SA with this SPI, destination and protocol exists")                                     \
    X(NOT_FOUND, "no such object")                                                                           \
    X(FULL, "table full")                                                                                    \
    X(IO, "file cannot be read or written")                                                                  \
    X(FORMAT, "malformed input")

enum ipc_error {
    IPC_ERROR_NONE_ = 0,
#define X(name, text) IPC_ERROR_##name##_ORDINAL_,
    IPC_ERROR_LIST(X)
#undef X
        IPC_ERROR_COUNT_
};
#define IPC_E(name) (-(int)IPC_ERROR_##name##_ORDINAL_)

/* One line of text for a code returned by a control call (0 or negative). */
const char *ipc_strerror(int code);

#ifdef __cplusplus
}
#endif
#endif
