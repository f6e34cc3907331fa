"""Makes what labs/l2tp.toml needs: l2tp.pcap, and with --certificates the folder l2tp. Run it from anywhere.

The capture is an L2TP connection (RFC 2661) from 192.168.57.10, the client, to 192.168.57.20: control connection and
session, PPP until both ends have their addresses, then a ping through the tunnel and one beside it twice a second, for
ten seconds, and the end. No real program has sent it, but every message is one that the RFC has at that place. The
certificates are under a root of the lab, with keys that are worth nothing; each run makes others.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapWriter

LABS = Path(__file__).resolve().parent
CLIENT, SERVER = "192.168.57.10", "192.168.57.20"
INNER = {CLIENT: "172.16.0.2", SERVER: "172.16.0.1"}
MACS = {CLIENT: "02:00:00:00:57:10", SERVER: "02:00:00:00:57:20"}
TUNNEL = {CLIENT: 1, SERVER: 7}  # the ids that each end has given: the other end sends them
SESSION = {CLIENT: 1, SERVER: 9}
# RFC 2661 3.2 and 4.4: message types and attributes.
SCCRQ, SCCRP, SCCCN, STOP, HELLO, ICRQ, ICRP, ICCN = 1, 2, 3, 4, 6, 10, 11, 12
MESSAGE, RESULT, VERSION, FRAMING, NAME, TUNNEL_ID, WINDOW, SESSION_ID, SERIAL, SPEED, TYPE = (
    *(0, 1, 2, 3, 7, 9, 10, 14, 15, 24, 19),
)
LCP, IPCP, IPV4 = 0xC021, 0x8021, 0x0021
REQUEST, ACKNOWLEDGE = 1, 2
BEGIN = 1_800_000_000.0


def attribute(number: int, value: bytes) -> bytes:
    return struct.pack("!HHH", 0x8000 | (6 + len(value)), 0, number) + value


class Ends:
    """The two ends with the sequence numbers of their control messages."""

    def __init__(self) -> None:
        self.sent = {CLIENT: 0, SERVER: 0}

    def control(self, source: str, kind: int | None, *attributes: bytes, session: int = 0) -> Packet:
        """A control message; None: one without a body, which acknowledges alone."""
        other = SERVER if source == CLIENT else CLIENT
        body = b"" if kind is None else attribute(MESSAGE, struct.pack("!H", kind)) + b"".join(attributes)
        tunnel = 0 if kind == SCCRQ else TUNNEL[other]
        numbers = self.sent[source], self.sent[other]
        self.sent[source] += kind is not None
        return frame(source, struct.pack("!HHHHHH", 0xC802, 12 + len(body), tunnel, session, *numbers) + body)


def frame(source: str, payload: bytes) -> Packet:
    other = SERVER if source == CLIENT else CLIENT
    ends = Ether(src=MACS[source], dst=MACS[other]) / IP(src=source, dst=other)
    return ends / UDP(sport=1701, dport=1701) / Raw(payload)


def ppp(source: str, protocol: int, content: bytes) -> Packet:
    other = SERVER if source == CLIENT else CLIENT
    header = struct.pack("!HHHH", 0x4002, 12 + len(content), TUNNEL[other], SESSION[other])
    return frame(source, header + struct.pack("!HH", 0xFF03, protocol) + content)


def option(number: int, value: bytes) -> bytes:
    return struct.pack("!BB", number, 2 + len(value)) + value


def configure(source: str, protocol: int, options: bytes, answer: int = REQUEST) -> Packet:
    return ppp(source, protocol, struct.pack("!BBH", answer, 1, 4 + len(options)) + options)


def echo(source: str, sequence: int) -> Packet:
    other = SERVER if source == CLIENT else CLIENT
    ends = Ether(src=MACS[source], dst=MACS[other]) / IP(src=source, dst=other)
    return ends / ICMP(type=8 if source == CLIENT else 0, id=57, seq=sequence) / Raw(bytes(range(32)))


def inner_echo(source: str, sequence: int) -> Packet:
    other = SERVER if source == CLIENT else CLIENT
    packet = IP(src=INNER[source], dst=INNER[other]) / ICMP(type=8 if source == CLIENT else 0, id=58, seq=sequence)
    return ppp(source, IPV4, bytes(packet / Raw(bytes(range(32)))))


def conversation() -> Iterator[tuple[float, Packet]]:
    """Each frame with its second."""
    ends = Ends()
    common = (attribute(VERSION, b"\1\0"), attribute(FRAMING, struct.pack("!I", 3)), attribute(WINDOW, b"\0\10"))
    number = {end: struct.pack("!H", TUNNEL[end]) for end in TUNNEL}
    call = {end: attribute(SESSION_ID, struct.pack("!H", SESSION[end])) for end in SESSION}

    def begin(end: str, kind: int, name: bytes) -> Packet:
        return ends.control(end, kind, *common, attribute(NAME, name), attribute(TUNNEL_ID, number[end]))

    opening = [
        lambda: begin(CLIENT, SCCRQ, b"client"),
        lambda: begin(SERVER, SCCRP, b"server"),
        lambda: ends.control(CLIENT, SCCCN),
        lambda: ends.control(SERVER, None),
        lambda: ends.control(CLIENT, ICRQ, call[CLIENT], attribute(SERIAL, bytes(3) + b"\1")),
        lambda: ends.control(SERVER, ICRP, call[SERVER], session=SESSION[CLIENT]),
        lambda: ends.control(
            CLIENT, ICCN, attribute(SPEED, struct.pack("!I", 10**7)), attribute(TYPE, bytes(3) + b"\1"), session=9
        ),
        lambda: ends.control(SERVER, None),
    ]
    for protocol, options in ((LCP, {end: option(5, MACS[end].encode()[-4:]) for end in MACS}), (IPCP, {})):
        for end, other in ((CLIENT, SERVER), (SERVER, CLIENT)):
            asked = options.get(end) or option(3, bytes(map(int, INNER[end].split("."))))
            opening.append(lambda end=end, protocol=protocol, asked=asked: configure(end, protocol, asked))
            opening.append(
                lambda other=other, protocol=protocol, asked=asked: configure(other, protocol, asked, ACKNOWLEDGE)
            )
    # The first packet waits for its negotiation; a client's next copy would come after a second.
    for step, make in enumerate(opening):
        yield 0.2 * (step > 0) + 0.01 * step, make()
    for sequence in range(20):
        second = 0.5 + 0.5 * sequence
        for at, make_echo in ((0.0, inner_echo), (0.1, echo)):
            yield second + at, make_echo(CLIENT, sequence)
            yield second + at + 0.005, make_echo(SERVER, sequence)
    stop = attribute(TUNNEL_ID, number[CLIENT]), attribute(RESULT, b"\0\1")
    yield 10.5, ends.control(CLIENT, STOP, *stop)
    yield 10.505, ends.control(SERVER, None)


def write_capture(path: Path) -> None:
    with PcapWriter(str(path), linktype=1) as out:
        for second, packet in conversation():
            packet.time = BEGIN + second
            out.write(packet)


def certificate(
    subject: str, key: rsa.RSAPrivateKey, signer: rsa.RSAPrivateKey, *extensions: x509.ExtensionType
) -> x509.Certificate:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    own, root = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (subject, "Root of the lab"))
    builder = x509.CertificateBuilder().subject_name(own).issuer_name(root).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(days=3650))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(signer, hashes.SHA256())


def write_certificates(folder: Path) -> None:
    """A folder for each computer, as a scenario's `certificates` names it."""
    root_key = rsa.generate_private_key(65537, 2048)
    authority = x509.BasicConstraints(ca=True, path_length=None)
    root = certificate("Root of the lab", root_key, root_key, authority).public_bytes(Encoding.PEM)
    for name in ("client", "server"):
        key = rsa.generate_private_key(65537, 2048)
        for part in ("own", "roots"):
            (folder / name / part).mkdir(parents=True, exist_ok=True)
        own = certificate(f"{name}.lab.example", key, root_key).public_bytes(Encoding.PEM)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / name / "own" / f"{name}.pem").write_bytes(own + secret)
        (folder / name / "roots" / "root.pem").write_bytes(root)


if __name__ == "__main__":
    write_capture(LABS / "l2tp.pcap")
    if "--certificates" in sys.argv[1:]:
        write_certificates(LABS / "l2tp")
