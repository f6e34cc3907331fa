# cython: freethreading_compatible=False
"""The packet loop between a TUN device and sockets: src_c/tun.h."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from ipaddress import IPv4Address

from ipsec_core.driver cimport _c
from ipsec_core.driver._core cimport Driver, check, ranged

cdef extern from "tun.h" nogil:
    struct virtio_net_hdr:
        pass
    struct iovec:
        void *iov_base
        size_t iov_len
    struct ipc_tun_large:
        pass
    int ipc_tun_large_begin(ipc_tun_large *large, const virtio_net_hdr *header, uint8_t *packet, uint32_t length)
    bint ipc_tun_large_done(const ipc_tun_large *large)
    uint32_t ipc_tun_large_next(ipc_tun_large *large, uint8_t *out)
    uint32_t ipc_tun_large_longest(const ipc_tun_large *large)
    struct ipc_tun_merge:
        iovec parts[129]
        uint32_t count, length
    bint ipc_tun_merge_add(ipc_tun_merge *merge, uint8_t *packet, uint32_t length)
    void ipc_tun_merge_finish(ipc_tun_merge *merge)
    ctypedef struct ipc_tun:
        pass
    struct ipc_tun_config:
        int tun, udp, esp, ah, raw, control
        uint64_t (*clock)(const void *context) noexcept
        const void *context
        _c.ipc_driver *driver
        uint32_t local, mtu
        bint no_gso
    struct ipc_tun_statistics:
        uint64_t reads
    int ipc_tun_create(const ipc_tun_config *config, ipc_tun **out)
    void ipc_tun_destroy(ipc_tun *t)
    enum:
        IPC_TUN_CONTROL, IPC_TUN_UP, IPC_TUN_GONE
    unsigned ipc_tun_run(ipc_tun *t, int timeout, bint release)
    uint32_t ipc_tun_up(ipc_tun *t, const uint8_t **packet)
    void ipc_tun_get "ipc_tun_statistics"(const ipc_tun *t, ipc_tun_statistics *statistics)
    const char *ipc_tun_statistic_name(unsigned index)

VNET_HEADER = sizeof(virtio_net_hdr)


cdef uint64_t unix_time(const void *offset) noexcept nogil:
    """As `Clock` of ipsec_core.live.clock rounds it: times of the two never go back."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    cdef double seconds = <double>(<uint64_t>t.tv_sec * 1000000000 + <uint64_t>t.tv_nsec) / 1e9
    return <uint64_t>(((<const double *>offset)[0] + seconds) * 1e9 + 0.5)


cdef class PacketLoop:
    """Packets between a TUN device and the network, through a driver; one thread for all three.

    The descriptors are non-blocking and stay the caller's, who keeps them open as long as the loop lives: `tun` (IFF_TUN, IFF_NO_PI,
    IFF_VNET_HDR), `udp` (port 4500 of `local`, UDP_GRO), `esp` and `ah` (raw sockets of protocols 50 and 51), `raw` (IP_HDRINCL, to
    send); `control` is whatever else the thread waits for. `mtu` of the link in bytes; `offset`: what the monotonic clock is behind
    the driver's time, in seconds. `gso` False: a message a packet.
    """

    cdef ipc_tun *c
    cdef Driver driver
    cdef double offset

    def __cinit__(self, Driver driver not None, local, *, tun, udp, esp, ah, raw, control, mtu, offset, gso=True):
        cdef ipc_tun_config config
        memset(&config, 0, sizeof(config))
        self.offset = offset
        config.tun, config.udp, config.esp, config.ah, config.raw = tun, udp, esp, ah, raw
        config.control = control
        config.clock = unix_time
        config.context = &self.offset
        config.driver = driver.c
        config.local = int(IPv4Address(local))
        config.mtu = ranged("mtu", mtu, 576, _c.IPC_PACKET_MAX)
        config.no_gso = not gso
        self.driver = driver
        check(ipc_tun_create(&config, &self.c), "PacketLoop")

    def __dealloc__(self):
        ipc_tun_destroy(self.c)

    def run(self, int timeout, bint release=False):
        """Moves packets both ways until there is something for the control level, or `timeout` ms are over (-1: for ever).

        `release`: packets that waited for an SA that has come go first. Returns (up, gone): whether IKE datagrams (`datagrams`) or
        upcalls of the driver wait, and whether the TUN device has been taken away.
        """
        cdef unsigned flags
        self.driver.enter()
        with nogil:
            flags = ipc_tun_run(self.c, timeout, release)
        self.driver.leave()
        return bool(flags & IPC_TUN_UP), bool(flags & IPC_TUN_GONE)

    def datagrams(self):
        """The IPv4 packets with IKE datagrams that have come to port 4500; each is returned once."""
        cdef const uint8_t *packet
        cdef uint32_t length
        found = []
        while True:
            length = ipc_tun_up(self.c, &packet)
            if length == 0:
                return found
            found.append(PyBytes_FromStringAndSize(<const char *>packet, length))

    def statistics(self):
        """Counters by name, as src_c/tun.h explains them."""
        cdef ipc_tun_statistics statistics
        ipc_tun_get(self.c, &statistics)
        cdef uint64_t *values = &statistics.reads
        cdef unsigned i = 0
        found = {}
        while ipc_tun_statistic_name(i) != NULL:
            found[ipc_tun_statistic_name(i).decode()] = values[i]
            i += 1
        return found


def segment(header, packet):
    """The IP packets that a packet of the kernel stands for: `header` is its virtio_net_hdr (10 bytes). ValueError: they do not fit."""
    cdef virtio_net_hdr vnet
    cdef ipc_tun_large large
    cdef bytes h = bytes(header), p = bytes(packet)
    cdef uint8_t *copy
    cdef uint8_t *out
    cdef uint32_t length
    if len(h) != sizeof(vnet) or len(p) > _c.IPC_PACKET_MAX:
        raise ValueError("a header of 10 bytes and a packet of at most 65535")
    copy = <uint8_t *>malloc(2 * _c.IPC_PACKET_MAX)
    if copy == NULL:
        raise MemoryError
    try:
        memcpy(&vnet, <const char *>h, sizeof(vnet))
        memcpy(copy, <const char *>p, len(p))
        out = copy + _c.IPC_PACKET_MAX
        if ipc_tun_large_begin(&large, &vnet, copy, len(p)) < 0:
            raise ValueError("header and packet do not fit together")
        packets = []
        while not ipc_tun_large_done(&large):
            length = ipc_tun_large_next(&large, out)
            packets.append(PyBytes_FromStringAndSize(<const char *>out, length))
        return packets
    finally:
        free(copy)


cdef object _written(ipc_tun_merge *merge):
    cdef uint32_t i
    ipc_tun_merge_finish(merge)
    parts = [PyBytes_FromStringAndSize(<const char *>merge.parts[i].iov_base, merge.parts[i].iov_len) for i in range(merge.count)]
    merge.count = 0
    return parts[0], b"".join(parts[1:])


def coalesce(packets):
    """What the host gets for packets that passed the driver one after the other: a list of (virtio_net_hdr, packet)."""
    cdef ipc_tun_merge merge
    cdef uint8_t[::1] view
    memset(&merge, 0, sizeof(merge))
    written = []
    buffers = [bytearray(packet) for packet in packets]
    for buffer in buffers:
        view = buffer
        if not ipc_tun_merge_add(&merge, &view[0], len(buffer)):
            written.append(_written(&merge))
            ipc_tun_merge_add(&merge, &view[0], len(buffer))
    if merge.count:
        written.append(_written(&merge))
    return written
