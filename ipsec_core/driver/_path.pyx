# cython: freethreading_compatible=False
"""What happens to packets on either side of a driver: src_c/include/ipsec_core/{icmp,path_mtu,steer}.h."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t, uint32_t

import numpy as np

from ipsec_core.driver cimport _c
from ipsec_core.driver._core cimport Burst, Driver, _direction, address, address_object, check, ranged
from ipsec_core.driver.types import PathMtu

PATH_MTU_LEAST = _c.IPC_PATH_MTU_LEAST


def icmp_too_big(packet, mtu, source):
    """The IP packet that tells the source of an IP packet that `mtu` bytes can be taken (RFC 792, RFC 1191 4; RFC 4443 3.2).

    `source` is the address that answers, of the packet's family. An MTU under 68 (IPv4) or 1280 (IPv6) is told as that. None: the
    packet must not be answered (RFC 1122 3.2.2, RFC 4443 2.4 e). Raises DriverError when the packet is malformed or fits.
    """
    cdef uint8_t out[_c.IPC_ICMP_MAX]
    cdef uint32_t most = ranged("mtu", mtu, 0, 0xffffffff)
    cdef const uint8_t[::1] view = packet
    cdef const uint8_t *start = &view[0] if view.shape[0] else NULL
    cdef _c.ipc_address answering = address("source", source)
    cdef int length = _c.ipc_icmp_too_big(start, <uint32_t>min(view.shape[0], _c.IPC_PACKET_MAX), most, answering, out, sizeof(out))
    check(length, f"icmp_too_big: {view.shape[0]} bytes, mtu {mtu}, source {source}")
    return PyBytes_FromStringAndSize(<char *>out, length) if length else None


def icmp_path_mtu(packet):
    """What an ICMP message that came to us says about an IPsec packet of ours, as a PathMtu; None: it is nothing of the kind.

    None also for a message that is malformed, has a wrong checksum, or did not come to the source of the packet that it quotes. The
    checksum of the IPv4 header is the caller's business. Anybody can send such a message (RFC 5927): see `learn_path_mtu`.
    """
    cdef _c.ipc_path_mtu found
    cdef const uint8_t[::1] view = packet
    cdef const uint8_t *start = &view[0] if view.shape[0] else NULL
    if _c.ipc_icmp_path_mtu(start, <uint32_t>min(view.shape[0], _c.IPC_PACKET_MAX), &found) < 0:
        return None
    return PathMtu(address_object(found.source), address_object(found.destination), address_object(found.router), found.protocol,
                   found.spi, found.source_port, found.destination_port, found.mtu)


def learn_path_mtu(Driver driver not None, found, least=PATH_MTU_LEAST):
    """Lowers the path MTU of the outbound SAs that a PathMtu is about, and of those inside of them (RFC 2401 6.1.2).

    Returns the handles of those that the message is about, no more than 64; an empty list: there is none, or it knew of a path as
    narrow. A value under `least` (68..65535) counts as `least`, so that a forged message does not end the traffic.
    """
    cdef _c.ipc_sa handles[64]
    cdef _c.ipc_path_mtu c
    cdef uint32_t bound = ranged("least", least, 68, _c.IPC_PACKET_MAX), count
    c.source = address("source", found.source)
    c.destination = address("destination", found.destination)
    c.router = address("router", found.router)
    c.spi = ranged("spi", found.spi, 0, 0xffffffff)
    c.mtu = ranged("mtu", found.mtu, 0, 0xffffffff)
    c.source_port = ranged("source_port", found.source_port, 0, 0xffff)
    c.destination_port = ranged("destination_port", found.destination_port, 0, 0xffff)
    c.protocol = ranged("protocol", found.protocol, 0, 0xff)
    driver.enter()
    with nogil:
        count = _c.ipc_learn_path_mtu(driver.c, &c, bound, handles, 64)
    driver.leave()
    return [handles[i] for i in range(min(count, 64))]


def burst_too_big(Driver driver not None, Burst burst not None, i, source):
    """The ICMP message for packet `i` of a burst that the driver has just refused with EXCEEDS_MTU, with the MTU that then works.

    None: it must not be answered (see `icmp_too_big`), an SA around the first one refused it, or every link takes its length.
    Raises DriverError when the verdict is another one or `source` is not of the packet's family.
    """
    cdef uint8_t out[_c.IPC_ICMP_MAX]
    cdef uint32_t index = ranged("i", i, 0, 0xffffffff)
    cdef _c.ipc_address answering = address("source", source)
    cdef int length = _c.ipc_burst_too_big(driver.c, burst.c, index, answering, out, sizeof(out))
    check(length, f"burst_too_big: packet {i}, source {source}")
    return PyBytes_FromStringAndSize(<char *>out, length) if length else None


def shard_of_spi(spi, count):
    """The driver of `count` that an inbound SA with this SPI belongs to: SPI modulo count."""
    return _c.ipc_shard_of_spi(ranged("spi", spi, 0, 0xffffffff), ranged("count", count, 1, 0x7fffffff))


def steer(packets, direction, count, nat_traversal=False):
    """Which of `count` drivers each packet is for, as an array of int32; `packets`: a Burst, or a sequence of bytes-like IP packets.

    "in": ESP and AH by their SPI (see `shard_of_spi`), under UDP only with `nat_traversal`. The rest, and all that goes "out", by a
    hash of addresses, protocol and the ports of TCP and UDP (of fragments without ports), the same in both directions.
    `count` itself stands for a fragment of an IPsec packet that comes in: it has no driver before it is whole.
    """
    cdef int way = _direction(direction), natt = bool(nat_traversal)
    cdef uint32_t shards = ranged("count", count, 1, 0x7fffffff)
    cdef int32_t[::1] found = np.empty(len(packets), np.int32)
    cdef const uint8_t[::1] one
    cdef Burst burst
    cdef Py_ssize_t i
    if isinstance(packets, Burst):
        burst = packets
        for i in range(found.shape[0]):
            found[i] = _c.ipc_steer(burst.c.arena + burst.c.offset[i], burst.c.length[i], way, natt, shards)
    else:
        for i, packet in enumerate(packets):
            one = packet
            found[i] = _c.ipc_steer(&one[0] if one.shape[0] else NULL, <uint32_t>min(one.shape[0], _c.IPC_PACKET_MAX), way, natt, shards)
    return np.asarray(found)
