"""The ISAKMP codec: identity of encode and parse, bounds, and every real ISAKMP message at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.utils import PcapReader

from ipsec_core.ike import wire
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Flags, Notify, PayloadType

byte = st.integers(0, 255)
word = st.integers(0, 0xFFFF)
blob = st.binary(max_size=40)
attributes = st.one_of(
    st.builds(wire.Attribute, st.integers(0, 0x7FFF), st.binary(min_size=2, max_size=2), st.just(False)),
    st.builds(wire.Attribute, st.integers(0, 0x7FFF), blob, st.just(True)),
)
transforms = st.builds(wire.Transform, byte, byte, st.lists(attributes, max_size=6).map(tuple))
proposals = st.builds(wire.Proposal, byte, byte, st.binary(max_size=16), st.lists(transforms, max_size=4).map(tuple))
NAT_TYPES = (PayloadType.NAT_D, PayloadType.NAT_D_DRAFT), (PayloadType.NAT_OA, PayloadType.NAT_OA_DRAFT)
opaque_types = st.integers(14, 255).filter(lambda kind: kind not in (*NAT_TYPES[0], *NAT_TYPES[1], 129))
payloads = st.one_of(
    st.builds(wire.SecurityAssociation, st.lists(proposals, max_size=3).map(tuple)),
    st.builds(wire.KeyExchange, blob),
    st.builds(wire.Identification, byte, byte, word, blob),
    st.builds(wire.Certificate, byte, blob),
    st.builds(wire.CertificateRequest, byte, blob),
    st.builds(wire.HashData, blob),
    st.builds(wire.Signature, blob),
    st.builds(wire.GssToken, blob),
    st.builds(wire.NatDetection, st.sampled_from(NAT_TYPES[0]), blob),
    st.builds(wire.NatOriginalAddress, st.sampled_from(NAT_TYPES[1]), byte, blob),
    st.builds(wire.Nonce, st.binary(min_size=8, max_size=256)),
    st.builds(wire.Notification, byte, st.binary(max_size=16), word, blob, st.integers(0, 0xFFFF_FFFF)),
    st.integers(0, 16).flatmap(
        lambda size: st.builds(
            wire.Delete, byte, st.just(size), st.lists(st.binary(min_size=size, max_size=size), max_size=4).map(tuple)
        )
    ),
    st.builds(wire.VendorId, blob),
    st.builds(wire.Opaque, opaque_types, blob),
)
chains = st.lists(payloads, min_size=1, max_size=5).map(tuple)
cookies = st.binary(min_size=8, max_size=8)


@given(chains, st.binary(max_size=15))
def test_payloads_survive_and_padding_is_left_alone(chain: tuple[wire.Payload, ...], padding: bytes) -> None:
    data = wire.encode_payloads(chain)
    assert wire.parse_payloads(wire.first_type(chain), data + padding) == (chain, len(data))


@given(cookies.filter(any), cookies, byte, st.sampled_from([0, 1, 2, 3, 7]), st.integers(0, 0xFFFF_FFFF), chains)
def test_messages_survive(
    initiator: bytes, responder: bytes, exchange: int, flags: int, message_id: int, chain: tuple[wire.Payload, ...]
) -> None:
    header = wire.Header(initiator, responder, exchange, Flags(flags), message_id, wire.first_type(chain))
    data = wire.encode_clear(header, chain)
    assert wire.parse_header(data) == header
    assert wire.parse_clear(header, data) == chain


@given(byte, st.binary(max_size=200))
def test_what_parses_encodes_to_the_same_bytes(first: int, data: bytes) -> None:
    try:
        chain, end = wire.parse_payloads(first, data)
    except MalformedMessage:
        return
    assert wire.encode_payloads(chain) == data[:end]


def header(**changes: int) -> bytearray:
    fields = {"length": 28, "version": 0x10, "flags": 0, "next": 0} | changes
    return bytearray(
        b"\x01" * 8 + bytes(8) + bytes((fields["next"], fields["version"], 2, fields["flags"])) + bytes(4)
    ) + fields["length"].to_bytes(4)


@pytest.mark.parametrize(
    ("data", "notify"),
    [
        (header()[:27], Notify.PAYLOAD_MALFORMED),
        (header(length=29), Notify.UNEQUAL_PAYLOAD_LENGTHS),
        (header(length=0xFFFFFFFF), Notify.UNEQUAL_PAYLOAD_LENGTHS),
        (header(version=0x20), Notify.INVALID_MAJOR_VERSION),
        (header(version=0x11), Notify.INVALID_MINOR_VERSION),
        (header(flags=8), Notify.INVALID_FLAGS),
        (bytes(8) + header()[8:], Notify.INVALID_COOKIE),
    ],
)
def test_bad_headers(data: bytes, notify: Notify) -> None:
    with pytest.raises(MalformedMessage) as caught:
        wire.parse_header(bytes(data))
    assert caught.value.notify == notify


SA = bytes.fromhex("00000001 00000001")
TRANSFORM = bytes.fromhex("00000008 01010000")


def payload(body: bytes, following: int = 0, length: int | None = None) -> bytes:
    return bytes((following, 0)) + (len(body) + 4 if length is None else length).to_bytes(2) + body


@pytest.mark.parametrize(
    ("kind", "data", "notify"),
    [
        (13, payload(b"", length=0), Notify.PAYLOAD_MALFORMED),
        (13, payload(b"", length=3), Notify.PAYLOAD_MALFORMED),
        (13, payload(b"ab", length=7), Notify.PAYLOAD_MALFORMED),
        (13, payload(b"ab", following=13), Notify.PAYLOAD_MALFORMED),
        (13, b"\0\1\0\4", Notify.PAYLOAD_MALFORMED),
        (13, payload(b"", following=13) * (wire.MAX_PAYLOADS + 1), Notify.PAYLOAD_MALFORMED),
        (10, payload(b"1234567"), Notify.PAYLOAD_MALFORMED),
        (10, payload(bytes(257)), Notify.PAYLOAD_MALFORMED),
        (12, payload(bytes.fromhex("00000001 0304ffff 00000000")), Notify.PAYLOAD_MALFORMED),
        (12, payload(bytes.fromhex("00000001 03040001 00000000 00")), Notify.PAYLOAD_MALFORMED),
        (11, payload(bytes.fromhex("00000001 03ff0001")), Notify.PAYLOAD_MALFORMED),
        (1, payload(bytes.fromhex("00000002 00000001")), Notify.DOI_NOT_SUPPORTED),
        (1, payload(bytes.fromhex("00000001 00000002")), Notify.SITUATION_NOT_SUPPORTED),
        # One transform announced, none there; one there, none announced; wrong link; wrong length.
        (1, payload(SA + bytes.fromhex("00000008 01010001")), Notify.BAD_PROPOSAL_SYNTAX),
        (1, payload(SA + bytes.fromhex("00000010 01010000") + TRANSFORM), Notify.BAD_PROPOSAL_SYNTAX),
        (1, payload(SA + bytes.fromhex("00000010 01010001 03") + TRANSFORM[1:]), Notify.BAD_PROPOSAL_SYNTAX),
        (1, payload(SA + bytes.fromhex("00000010 01010001 00000007 01010000")), Notify.BAD_PROPOSAL_SYNTAX),
        (1, payload(SA + bytes.fromhex("02000008 01010000")), Notify.BAD_PROPOSAL_SYNTAX),
        (1, payload(SA + bytes.fromhex("05000008 01010000")), Notify.BAD_PROPOSAL_SYNTAX),
        # An attribute longer than its transform.
        (1, payload(SA + bytes.fromhex("00000014 01010001 0000000c 01010000 000cffff")), Notify.BAD_PROPOSAL_SYNTAX),
    ],
)
def test_bad_payloads(kind: int, data: bytes, notify: Notify) -> None:
    with pytest.raises(MalformedMessage) as caught:
        wire.parse_payloads(kind, data)
    assert caught.value.notify == notify


def test_counts_are_bounded() -> None:
    attributes = (wire.Attribute.basic(1, 1),)
    for sa in (
        wire.SecurityAssociation((wire.Proposal(1, 1, b"", ()),) * (wire.MAX_PROPOSALS + 1)),
        wire.SecurityAssociation((wire.Proposal(1, 1, b"", (wire.Transform(1, 1),) * (wire.MAX_TRANSFORMS + 1)),)),
        wire.SecurityAssociation((wire.Proposal(1, 1, b"", (wire.Transform(1, 1, attributes * 33),)),)),
    ):
        with pytest.raises(MalformedMessage, match="more than"):
            wire.parse_payloads(PayloadType.SA, wire.encode_payloads((sa,)))


def test_reader_cannot_go_back() -> None:
    reader = wire.Reader(b"abc")
    for length in (-1, 4):
        with pytest.raises(MalformedMessage):
            reader.take(length)
    assert reader.rest() == b"abc"


FOLDERS = (
    "tcpdump/*isakmp*.pcap",
    "corelight-spicy-ipsec/*p",
    "sample-captures/community/ipsec/*.pcap",
    "libreswan/**/*.pcap",
    "openswan/**/*.pcap",
    "wireshark/ikev1*",
)


def real_messages(captures: Path) -> list[tuple[str, bytes]]:
    """Every UDP payload on port 500 or, behind the non-ESP marker, 4500."""
    found: list[tuple[str, bytes]] = []
    for pattern in FOLDERS:
        for path in sorted(captures.glob(pattern)):
            with PcapReader(str(path)) as packets:
                for number, packet in enumerate(packets, 1):
                    udp = packet.getlayer(UDP)
                    if udp is None or not {udp.sport, udp.dport} & {500, 4500}:
                        continue
                    data = bytes(udp.payload)
                    if 4500 in (udp.sport, udp.dport) and data[:4] == bytes(4):
                        data = data[4:]
                    found.append((f"{path.name}:{number}", data))
    found += [(path.name, path.read_bytes()) for path in sorted(captures.glob("ike-scan/*.dat"))]
    found += [(path.name, path.read_bytes()) for path in sorted(captures.glob("libreswan/**/*.raw"))]
    for packet in json.loads((captures / "scapy/isakmp_packets.json").read_text())["packets"]:
        data = bytes.fromhex(packet["hex"])
        found.append((packet["name"], data[8:] if packet["layer"] == "UDP" else data))
    return found


def test_real_messages_parse_or_are_malformed(captures: Path) -> None:
    parsed = []
    for name, data in real_messages(captures):
        try:
            header = wire.parse_header(data)
            if header.encrypted:
                parsed.append(name)
                continue
            chain = wire.parse_clear(header, data)
        except MalformedMessage:
            continue
        parsed.append(name)
        assert wire.encode_payloads(chain) == data[28:][: len(wire.encode_payloads(chain))]
        assert header.encode(len(data) - 28) == data[:28]
    names = {name.split(":")[0] for name in parsed}
    assert len(parsed) > 80
    # These are sound IKEv1 all the way, the others of their folders on purpose not.
    for sound in ("ikev1-certs.pcap", "ipsec_ikev1_main_mode.pcap", "ipsec-ikev1-isakmp-main-mode.pcap"):
        assert sound in names
    assert {"ipsec-ikev1-payload-bad-length.pcap", "ipsec-ikev1-zero-length.pcap", "pkt-ikev2.dat"}.isdisjoint(names)


def test_clear_messages_of_a_real_main_mode(captures: Path) -> None:
    expected = json.loads((captures / "wireshark/keys/ikev1_decrypted_expected.shared.json").read_text())
    with PcapReader(str(captures / "wireshark/ikev1-certs.pcap")) as packets:
        messages = [bytes(packet[UDP].payload) for packet in packets]
    frames = expected["captures"]["ikev1-certs.pcap"]
    for frame in frames[:4]:
        data = messages[frame["frame"] - 1]
        header = wire.parse_header(data)
        assert header.initiator_cookie.hex() == frame["ispi"]
        assert header.responder_cookie.hex() == frame["rspi"]
        chain = wire.parse_clear(header, data)
        # The SA payload is given by its length in the table, the others in full.
        assert [(item.TYPE, len(item.body())) for item in chain] == [(p[0], p[2]) for p in frame["payloads"]]
