# cython: freethreading_compatible=False
"""The timed loops of the ESP benchmark: the driver and its peers over one burst, by one clock, without the GIL."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ipsec_core.driver cimport _c
from ipsec_core.driver._core cimport Burst, Driver, check

from ipsec_core.errors import DriverError


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec, tv_nsec
    enum: CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)


cdef extern from "peer.h" nogil:
    int ipc_peer_gcm_encrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                             unsigned count, unsigned rounds)
    int ipc_peer_gcm_decrypt(const uint8_t *key20, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                             unsigned count, unsigned rounds)
    int ipc_peer_cbc_sha1_jobs(const uint8_t *key36, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                               unsigned count, unsigned rounds)
    int ipc_peer_evp_3des_sha1(const uint8_t *key44, uint8_t *arena, const uint32_t *offset, const uint32_t *length,
                               unsigned count, unsigned rounds)


cdef extern from "bench_spi.h" nogil:
    int ipc_bench_spi(uint32_t sas, uint32_t slots, uint32_t rounds, uint64_t seed, double *seconds)


ctypedef int (*peer_function)(const uint8_t *, uint8_t *, const uint32_t *, const uint32_t *, unsigned, unsigned) noexcept nogil

# name: (bytes of the key, bytes of the ICV)
PEERS = {"gcm_encrypt": (20, 16), "gcm_decrypt": (20, 16), "cbc_sha1_jobs": (36, 12), "evp_3des_sha1": (44, 12)}

# of the ciphers that have no partial ones
BLOCKS = {"cbc_sha1_jobs": 16, "evp_3des_sha1": 8}

cdef peer_function _function(str name):
    if name == "gcm_encrypt":
        return ipc_peer_gcm_encrypt
    if name == "gcm_decrypt":
        return ipc_peer_gcm_decrypt
    if name == "cbc_sha1_jobs":
        return ipc_peer_cbc_sha1_jobs
    return ipc_peer_evp_3des_sha1


cdef inline double seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


def round_trips(Driver sender, Driver receiver, Burst burst, uint32_t rounds):
    """Protects and unprotects a burst of packets `rounds` times; the seconds in `ipc_outbound` and in `ipc_inbound`.

    Each way the clock is read around the one call for the whole burst. The receiver leaves the packets where and as they
    were, so the next round begins with the same ones, and sequence numbers go on: nothing is copied or restored. Raises
    DriverError when a packet does not come through, or when one of the objects is in use.
    """
    cdef double out = 0, into = 0, start, middle
    cdef uint32_t i, sent = 0, received = 0, count = burst.c.count
    if sender is receiver:
        raise DriverError("round_trips: sender and receiver are one driver")
    sender.enter()
    try:
        receiver.enter()
        try:
            burst.enter()
            with nogil:
                for i in range(rounds):
                    start = seconds()
                    sent = _c.ipc_outbound(sender.c, burst.c)
                    middle = seconds()
                    received = _c.ipc_inbound(receiver.c, burst.c)
                    into += seconds() - middle
                    out += middle - start
                    if sent != count or received != count:
                        break
            burst.leave()
        finally:
            receiver.leave()
    finally:
        sender.leave()
    if rounds and (sent != count or received != count):
        raise DriverError(f"round_trips: of {count} packets {sent} were sent and {received} came through")
    return out, into


cdef uint64_t nanoseconds_now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec


def phases(Driver sender, Driver receiver, Burst burst, uint32_t rounds):
    """`round_trips` with the time of each phase: two dicts (out, in) of classify, crypt and commit in seconds."""
    cdef _c.ipc_profile out, into
    out.clock = into.clock = nanoseconds_now
    out.classify = out.crypt = out.commit = into.classify = into.crypt = into.commit = 0
    _c.ipc_driver_profile(sender.c, &out)
    _c.ipc_driver_profile(receiver.c, &into)
    try:
        round_trips(sender, receiver, burst, rounds)
    finally:
        _c.ipc_driver_profile(sender.c, NULL)
        _c.ipc_driver_profile(receiver.c, NULL)
    return ({"classify": out.classify / 1e9, "crypt": out.crypt / 1e9, "commit": out.commit / 1e9},
            {"classify": into.classify / 1e9, "crypt": into.crypt / 1e9, "commit": into.commit / 1e9})


def passes(Driver driver, Burst burst, uint32_t rounds):
    """Seconds of `rounds` outbound calls for a burst that the filters let through as it is (DriverError otherwise)."""
    cdef uint32_t i, passed = 0, count = burst.c.count
    cdef double start, end
    driver.enter()
    try:
        burst.enter()
        with nogil:
            start = seconds()
            for i in range(rounds):
                passed = _c.ipc_outbound(driver.c, burst.c)
            end = seconds()
        burst.leave()
    finally:
        driver.leave()
    if rounds and (passed != count or any(sa != _c.IPC_NO_SA for sa in burst.sa)):
        raise DriverError(f"passes: of {count} packets {passed} went through in clear")
    return end - start


def spi_seconds(uint32_t sas, uint32_t slots, uint32_t bursts, uint64_t seed):
    """Seconds of so many bursts of 64 look-ups among `sas` SAs; see src_c/bench_spi.h."""
    cdef double taken = 0
    cdef int code
    with nogil:
        code = ipc_bench_spi(sas, slots, bursts, seed, &taken)
    check(code, f"bench spi, {sas} SAs")
    return taken


def peer_seconds(str name, bytes key, Burst burst, uint32_t text_length, uint32_t rounds):
    """Seconds of a peer for `rounds` times the burst, less its set-up; None when this build has not its library.

    `name` is one of PEERS. Each text begins where the packet of the burst begins, as it does in a tunnel; the packets are
    garbage afterwards. DriverError when a text of `text_length` bytes and its ICV do not fit a slot.
    """
    cdef peer_function function
    cdef uint32_t lengths[_c.IPC_BURST_MAX]
    cdef uint32_t i
    cdef int code
    cdef double start, middle, end
    cdef const uint8_t *key_bytes = key
    if name not in PEERS:
        raise DriverError(f"peer: {name!r} is unknown; accepted: {', '.join(PEERS)}")
    key_length, icv_length = PEERS[name]
    if len(key) != key_length:
        raise DriverError(f"peer {name}: a key of {len(key)} bytes; accepted: {key_length}")
    if burst.c.stride < _c.IPC_BURST_HEADROOM + text_length + icv_length or text_length % BLOCKS.get(name, 1):
        raise DriverError(f"peer {name}: a text of {text_length} bytes; accepted: what fits a slot, whole blocks")
    function = _function(name)
    for i in range(burst.c.count):
        lengths[i] = text_length
    burst.enter()
    with nogil:
        start = seconds()
        code = function(key_bytes, burst.c.arena, burst.c.offset, lengths, burst.c.count, 0)
        middle = seconds()
        if code == 0:
            code = function(key_bytes, burst.c.arena, burst.c.offset, lengths, burst.c.count, rounds)
        end = seconds()
    burst.leave()
    # So few rounds that the set-up, less the set-up, is all noise: next to nothing, but something to divide by.
    return None if code else max(end - middle - (middle - start), 1e-9)
