"""The descriptors of a live computer: the TUN device, UDP sockets of IKE, raw sockets of ESP and AH."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from ipsec_core.errors import AgentError

IKE_PORT = 500
NAT_T_PORT = 4500
# The packets of our own sockets bear it, and the rule that leads traffic into the TUN device makes an exception of it.
MARK = 0x1F4

# ESP, AH, and IPPROTO_RAW to send both.
RAW_PROTOCOLS = (50, 51, socket.IPPROTO_RAW)

_TUN = Path("/dev/net/tun")
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
# Checksums, TCP segmentation with ECN; the second set, of kernel 6.2, adds UDP segmentation.
_OFFLOADS = 0x01 | 0x02 | 0x08
_UDP_OFFLOADS = 0x20 | 0x40
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_UDP_GRO = 104
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_SOL_RAW, _ICMP_FILTER, _UNREACHABLE = 255, 1, 3
# What TCP may have under way (tcp_rmem) has to fit, or a busy moment of ours costs its packets.
_RECEIVE_BYTES = 32 << 20
_SEND_BYTES = 4 << 20
_CAPABILITIES = "CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE"


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """The errors of the system as one line each."""
    try:
        yield
    except PermissionError:
        raise AgentError(f"{what}: not permitted; accepted: root, or {_CAPABILITIES}") from None
    except OSError as error:
        raise AgentError(f"{what}: {error.strerror}") from None


def open_tun(name: str) -> int:
    """A TUN device with virtio headers and the kernel's offloads; it is gone when the descriptor is closed."""
    if not 0 < len(name.encode()) < 16 or name in (".", "..") or any(c.isspace() or c in "/:%" for c in name):
        raise AgentError(f"TUN device {name!r}: no name of a device; accepted: 1 to 15 characters, no space, / : %")
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise AgentError(f"{_TUN}: there is no such device; accepted: a kernel with TUN (modprobe tun)") from None
    except OSError as error:
        raise AgentError(f"{_TUN}: {error.strerror}; accepted: a TUN device that this user may open") from None
    try:
        with _refused(f"TUN device {name}"):
            try:
                request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
                fcntl.ioctl(fd, _TUNSETIFF, request)
            except OSError as error:
                if error.errno in (errno.EBUSY, errno.EINVAL, errno.EEXIST):
                    raise AgentError(f"TUN device {name}: the name is taken; accepted: another --tun NAME") from None
                raise
            try:
                fcntl.ioctl(fd, _TUNSETOFFLOAD, _OFFLOADS | _UDP_OFFLOADS)
            except OSError:
                fcntl.ioctl(fd, _TUNSETOFFLOAD, _OFFLOADS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_udp(address: IPv4Address, port: int) -> socket.socket:
    """IKE's socket; that of port 4500 takes ESP in UDP as well, joined by the kernel where it can (UDP_GRO)."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        with _refused(f"UDP port {port} of {address}"):
            _prepare(made)
            # A message of IKE may be longer than a packet, and ESP in UDP is to arrive by any way (RFC 3948 appendix).
            made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
            if port == NAT_T_PORT:
                made.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
            try:
                made.bind((str(address), port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise AgentError(
                        f"UDP port {port} of {address}: in use; accepted: no other IKE service on this address"
                    ) from None
                if error.errno == errno.EADDRNOTAVAIL:
                    raise AgentError(
                        f"address {address}: not one of this computer; accepted: an address of an interface"
                    ) from None
                raise
    except BaseException:
        made.close()
        raise
    return made


def open_raw(address: IPv4Address, protocol: int) -> socket.socket:
    """Packets of an IP protocol to us, with their headers; what is sent brings its headers along.

    While it is open the kernel does not refuse packets of the protocol by ICMP.
    """
    with _refused(f"raw socket on {address}"):
        made = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        try:
            _prepare(made)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
            made.bind((str(address), 0))
        except BaseException:
            made.close()
            raise
    return made


def open_icmp(address: IPv4Address) -> socket.socket:
    """ICMP messages "destination unreachable" to us."""
    made = open_raw(address, socket.IPPROTO_ICMP)
    made.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << _UNREACHABLE) & 0xFFFFFFFF))
    return made


def _prepare(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
    made.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BYTES)
