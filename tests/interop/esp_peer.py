"""The data plane of a daemon whose netlink messages go nowhere: scapy carries ESP and AH with the keys it wanted.

Answers echo requests that come protected, and sends its own. AH is done here (RFC 2402 section 3.3 with hmac), because
scapy's own does not look at packets that carry ESP.
"""

from __future__ import annotations

import hmac
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charon import KernelSa, kernel_sas
from namespaces import OUR_ADDRESS, PEER_ADDRESS, Namespace
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.ipsec import ESP as EspLayer
from scapy.layers.ipsec import SecurityAssociation
from scapy.packet import Raw

ESP, AH = 50, 51
NAT_T_PORT = 4500
ECHO_ID, ECHO_DATA = 9, bytes(100)
CIPHERS = {
    "des3_ede": "3DES",
    "cbc(des3_ede)": "3DES",
    "des": "DES",
    "cbc(des)": "DES",
    "aes": "AES-CBC",
    "cbc(aes)": "AES-CBC",
    "rfc4106(gcm(aes))": "AES-GCM",
    "ecb(cipher_null)": "NULL",
    "cipher_null": "NULL",
    "": "NULL",
}
MACS = {"md5": "HMAC-MD5-96", "sha1": "HMAC-SHA1-96", "sha256": "SHA2-256-128", "": "NULL"}


def hash_name(name: str) -> str:
    """hashlib's name for what the kernel calls "sha1" or "hmac(sha1)"."""
    return name.removeprefix("hmac(").removesuffix(")")


def _esp(sa: KernelSa) -> SecurityAssociation:
    more: dict[str, Any] = {}
    if sa.tunnel:
        more["tunnel_header"] = IP(src=sa.source, dst=sa.destination)
    if sa.udp:
        more["nat_t_header"] = UDP(sport=sa.udp[0], dport=sa.udp[1])
    return SecurityAssociation(
        EspLayer,
        sa.spi,
        crypt_algo=CIPHERS[sa.encryption],
        crypt_key=sa.encryption_key,
        auth_algo=MACS[hash_name(sa.integrity)],
        auth_key=sa.integrity_key,
        **more,
    )


class AuthenticationHeader:
    """One AH SA over IPv4 without options."""

    def __init__(self, sa: KernelSa) -> None:
        self.sa = sa
        self.sequence = 0

    @property
    def _icv(self) -> int:
        return self.sa.integrity_bits // 8

    def seal(self, packet: bytes) -> bytes:
        self.sequence += 1
        if self.sa.tunnel:
            packet = bytes(IP(src=self.sa.source, dst=self.sa.destination, proto=4) / Raw(packet))
        header = struct.pack(">BBHII", packet[9], (12 + self._icv) // 4 - 2, 0, self.sa.spi, self.sequence)
        outer = IP(packet[:20])
        outer.proto, outer.len = AH, len(packet) + 12 + self._icv
        del outer.chksum
        sealed = bytearray(bytes(outer)[:20] + header + bytes(self._icv) + packet[20:])
        sealed[32 : 32 + self._icv] = self._mac(sealed)
        return bytes(sealed)

    def open(self, packet: bytes) -> bytes:
        assert hmac.compare_digest(packet[32 : 32 + self._icv], self._mac(packet)), "the ICV of AH is wrong"
        carried = packet[32 + self._icv :]
        if self.sa.tunnel:
            return carried
        inner = IP(packet[:20])
        inner.proto, inner.len = packet[20], 20 + len(carried)
        del inner.chksum
        return bytes(inner)[:20] + carried

    def _mac(self, packet: bytes | bytearray) -> bytes:
        """Over everything that routers leave alone (RFC 2402 section 3.3.3.1)."""
        fixed = bytearray(packet)
        fixed[1], fixed[6:9], fixed[10:12] = 0, bytes(3), bytes(2)
        fixed[32 : 32 + self._icv] = bytes(self._icv)
        return hmac.digest(self.sa.integrity_key, bytes(fixed), hash_name(self.sa.integrity))[: self._icv]


class EspPeer:
    """At `address` in `space`, with the SAs that `log` of the shim tells. Driven by `our_computer.run`."""

    events: tuple[()] = ()

    def __init__(self, space: Namespace, log: Path, address: str = PEER_ADDRESS, remote: str = OUR_ADDRESS) -> None:
        self.address, self.remote = address, remote
        self._log = log
        self._size = -1
        self._inbound: dict[tuple[int, int], Callable[[bytes], bytes]] = {}
        self._sealers: dict[tuple[int, int], Callable[[bytes], bytes]] = {}
        self._outbound: dict[int, Callable[[bytes], bytes]] = {}
        self._early: list[bytes] = []
        self.received: list[IP] = []
        self._answers: set[int] = set()
        self._sequence = 0
        with space.entered():
            numbers = (ESP, AH, socket.IPPROTO_UDP)
            self._raw = [socket.socket(socket.AF_INET, socket.SOCK_RAW, number) for number in numbers]
            self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def close(self) -> None:
        for made in (*self._raw, self._out):
            made.close()

    def sockets(self) -> list[socket.socket]:
        return self._raw

    def wait_seconds(self) -> float:
        return 0.1

    def settle(self) -> None:
        """Looks for SAs that came or went."""
        size = self._log.stat().st_size if self._log.exists() else 0
        if size == self._size:
            return
        self._size = size
        sas = kernel_sas(self._log)
        self._inbound = {
            name: self._inbound.get(name) or _opener(sa) for name, sa in sas.items() if sa.destination == self.address
        }
        self._sealers = {
            name: self._sealers.get(name) or _sealer(sa) for name, sa in sas.items() if sa.source == self.address
        }
        # The latest of each protocol.
        self._outbound = {protocol: sealer for (protocol, _), sealer in self._sealers.items()}
        # The daemon's log may come a moment after the first packets of a new SA.
        early, self._early = self._early, []
        for packet in early:
            if _name(packet) in self._inbound:
                self._open(packet)
            else:
                self._early.append(packet)

    def receive(self, ready: socket.socket) -> None:
        packet = ready.recv(65_535)
        if packet[9] == socket.IPPROTO_UDP:
            port, data = int.from_bytes(packet[22:24]), packet[28:]
            if port != NAT_T_PORT or data[:4] == bytes(4) or len(data) < 8:
                return
        if _name(packet) not in self._inbound:
            self._early.append(packet)
            return
        self._open(packet)

    def _open(self, packet: bytes) -> None:
        while (name := _name(packet)) in self._inbound:
            packet = self._inbound[name](packet)
        self._deliver(IP(packet))

    def _deliver(self, packet: IP) -> None:
        self.received.append(packet)
        if ICMP not in packet:
            return
        echo = packet[ICMP]
        if echo.type == 8:
            self.send(IP(src=packet.dst, dst=packet.src) / ICMP(type=0, id=echo.id, seq=echo.seq) / echo.payload)
        elif (echo.type, echo.id, bytes(echo.payload)) == (0, ECHO_ID, ECHO_DATA):
            self._answers.add(echo.seq)

    def ping(self, source: str = PEER_ADDRESS, destination: str = OUR_ADDRESS) -> int:
        self._sequence += 1
        request = ICMP(type=8, id=ECHO_ID, seq=self._sequence) / Raw(ECHO_DATA)
        self.send(IP(src=source, dst=destination) / request)
        return self._sequence

    def answered(self, number: int) -> bool:
        return number in self._answers

    def send(self, packet: IP) -> None:
        sealed = bytes(packet)
        for number in (ESP, AH):  # of a bundle, AH is the outer one (RFC 2401 section 4.5)
            if number in self._outbound:
                sealed = self._outbound[number](sealed)
        self._out.sendto(sealed, (self.remote, 0))


def _name(packet: bytes) -> tuple[int, int]:
    """(protocol, SPI) of an IPv4 packet; of ESP in UDP too. (0, 0) for anything else."""
    if packet[9] == socket.IPPROTO_UDP:
        return ESP, int.from_bytes(packet[28:32])
    if packet[9] == ESP:
        return ESP, int.from_bytes(packet[20:24])
    if packet[9] == AH:
        return AH, int.from_bytes(packet[24:28])
    return 0, 0


def _opener(sa: KernelSa) -> Callable[[bytes], bytes]:
    if sa.protocol == AH:
        return AuthenticationHeader(sa).open
    esp = _esp(sa)
    return lambda packet: bytes(esp.decrypt(IP(packet)))


def _sealer(sa: KernelSa) -> Callable[[bytes], bytes]:
    if sa.protocol == AH:
        return AuthenticationHeader(sa).seal
    esp = _esp(sa)
    return lambda packet: bytes(esp.encrypt(IP(packet)))
