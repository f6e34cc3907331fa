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

/*
 * An address of either family, in host byte order. IPv4 addresses are the IPv4-mapped ones of RFC
 * 4291 2.5.5.2
 * (::ffff:a.b.c.d), which no IPv6 packet may carry, so that one comparison serves both. All zero: none.
 */
typedef struct {
    uint64_t high, low;
} ipc_address;

static inline ipc_address ipc_address_of_ipv4(ipc_ipv4 address) {
    ipc_address a = {0, (uint64_t)0xffff << 32 | address};
    return a;
}
static inline int ipc_address_is_ipv4(ipc_address a) {
    return a.high == 0 && a.low >> 32 == 0xffff;
}
static inline int ipc_address_is_none(ipc_address a) {
    return (a.high | a.low) == 0;
}
static inline int ipc_address_equal(ipc_address a, ipc_address b) {
    return ((a.high ^ b.high) | (a.low ^ b.low)) == 0;
}
/* Whether `a` lies in the network; bits outside the mask do not count. */
static inline int ipc_address_in(ipc_address a, ipc_address network, ipc_address mask) {
    return (((a.high ^ network.high) & mask.high) | ((a.low ^ network.low) & mask.low)) == 0;
}

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
