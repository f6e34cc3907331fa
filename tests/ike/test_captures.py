"""Every IKE message of every real capture: what parses, what is refused and why, and what is in the encrypted ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from udp_captures import all_messages, ike_datagrams, ike_messages, tshark_fields, write_pcap

from ipsec_core.ike import keys, wire
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Encryption, ExchangeType, Flags, Hash, Notify, PayloadType

# What no Windows 2000 could read, by file. IKEv2 (version 2.0) is refused wherever it is, and is not listed.
REFUSED: dict[str, dict[Notify, str]] = {
    "ike-scan/pkt-custom-proposal.dat": {Notify.PAYLOAD_MALFORMED: "a reserved field is not zero"},
    "corelight-spicy-ipsec/ipsec-ikev1-payload-bad-length.pcap": {
        Notify.PAYLOAD_MALFORMED: "-1 bytes wanted"  # a payload length of 3, shorter than its own header
    },
    "corelight-spicy-ipsec/ipsec-ikev1-zero-length.pcap": {Notify.UNEQUAL_PAYLOAD_LENGTHS: "length 0 in a datagram"},
    "tcpdump/isakmp-delete-segfault.pcap": {Notify.INVALID_MAJOR_VERSION: "version 11.14"},
    # Probes of ike-scan: DOI 2 and a header length 20 bytes too long.
    "lab/pcaps/ike-scan-charon.pcap": {
        Notify.DOI_NOT_SUPPORTED: "unknown DOI",
        Notify.UNEQUAL_PAYLOAD_LENGTHS: "length 104 in a datagram of 84",
    },
}
# Payload type 15 is NAT-D of an older draft to its senders and something else to tshark.
TSHARK_MISREADS = 15


@pytest.fixture(scope="module")
def messages(captures: Path) -> dict[str, list[bytes]]:
    return all_messages(captures)


def is_ikev2(data: bytes) -> bool:
    return len(data) >= wire.HEADER_LENGTH and data[17] == 0x20


def test_every_message_parses_or_is_refused_for_a_known_reason(messages: dict[str, list[bytes]]) -> None:
    kinds: Counter[str] = Counter()
    for name, datagrams in messages.items():
        refused: dict[Notify, str] = {}
        for data in datagrams:
            try:
                header = wire.parse_header(data)
                payloads = () if header.encrypted else wire.parse_clear(header, data)
                kinds["encrypted" if header.encrypted else "clear"] += 1
                kinds["payloads"] += len(payloads)
            except MalformedMessage as error:
                if is_ikev2(data) and error.notify is Notify.INVALID_MAJOR_VERSION:
                    kinds["IKEv2"] += 1
                else:
                    refused[error.notify] = str(error)
        expected = REFUSED.get(name, {})
        assert refused.keys() == expected.keys(), f"{name}: {refused}"
        assert all(expected[notify] in refused[notify] for notify in expected), f"{name}: {refused}"
    assert set(kinds) == {"encrypted", "clear", "payloads", "IKEv2"}
    assert kinds["payloads"] > kinds["clear"]


def clear_messages(
    messages: dict[str, list[bytes]],
) -> Iterator[tuple[str, bytes, wire.Header, tuple[wire.Payload, ...]]]:
    for name, datagrams in messages.items():
        for data in datagrams:
            try:
                header = wire.parse_header(data)
                if not header.encrypted:
                    yield name, data, header, wire.parse_clear(header, data)
            except MalformedMessage:
                continue


def test_encoding_gives_the_same_bytes(messages: dict[str, list[bytes]]) -> None:
    for name, data, header, payloads in clear_messages(messages):
        assert wire.first_type(payloads) == header.next_payload
        again = wire.encode_clear(header, payloads)
        padding = data[len(again) :]
        assert again[:24] + len(data).to_bytes(4) + again[28:] + padding == data, name
        assert len(padding) < 4
        # Each body by itself, too: the HASH computations take it from there.
        for payload in payloads:
            chain, end = wire.parse_payloads(payload.TYPE, wire.encode_payloads((payload,)))
            assert (chain, end) == ((payload,), 4 + len(payload.body()))


def types_of(payloads: tuple[wire.Payload, ...]) -> list[int]:
    """With proposals and transforms, as tshark lists them."""
    found: list[int] = []
    for payload in payloads:
        found.append(int(payload.TYPE))
        if isinstance(payload, wire.SecurityAssociation):
            for proposal in payload.proposals:
                found += [PayloadType.PROPOSAL] + [PayloadType.TRANSFORM] * len(proposal.transforms)
    return found


FIELDS = ("isakmp.typepayload", "isakmp.nonce", "isakmp.key_exchange.data", "isakmp.hash", "isakmp.vid_bytes")


def values_of(payloads: tuple[wire.Payload, ...]) -> list[list[str]]:
    """What FIELDS must be."""
    texts = [
        [payload.body().hex() for payload in wire.every(payloads, kind)]
        for kind in (wire.Nonce, wire.KeyExchange, wire.HashData, wire.VendorId)
    ]
    return [[str(number) for number in types_of(payloads)], *texts]


def test_tshark_reads_the_same(messages: dict[str, list[bytes]], tmp_path: Path) -> None:
    """tshark on all clear messages at once: the payloads, nested ones too, and the values of the plain ones."""
    clear = [
        (name, data, payloads)
        for name, data, _, payloads in clear_messages(messages)
        if TSHARK_MISREADS not in {int(payload.TYPE) for payload in payloads}
        # A fragment is shown with what it is a fragment of.
        and not any(payload.TYPE == PayloadType.FRAGMENT for payload in payloads)
    ]
    rows = tshark_fields(write_pcap(tmp_path / "clear.pcap", ((bytes(4), data) for _, data, _ in clear)), FIELDS)
    for (name, _, payloads), row in zip(clear, rows, strict=True):
        assert row == values_of(payloads), name
    assert len(rows) > 50


# Encrypted messages, with the keys that lie beside the captures


@dataclass
class Eavesdropper:
    """Reads a Main Mode and all under it from one side of the wire, with the cipher key alone (RFC 2409 appendix B)."""

    cipher: keys.PhaseOneCipher
    hash: Hash
    publics: list[bytes] = field(default_factory=list)
    last_block: bytes = b""
    ivs: dict[int, bytes] = field(default_factory=dict)
    seen: dict[bytes, tuple[wire.Payload, ...]] = field(default_factory=dict)
    fragments: list[bytes] = field(default_factory=list)

    def read(self, data: bytes) -> tuple[wire.Payload, ...] | None:
        """The payloads of a message; None of a fragment that is not the last."""
        if data in self.seen:
            return self.seen[data]  # a retransmission does not move the IV
        header = wire.parse_header(data)
        if not header.encrypted:
            payloads = wire.parse_clear(header, data)
            self.publics += [payload.data for payload in wire.every(payloads, wire.KeyExchange)]
            if len(self.publics) == 2 and not self.last_block:
                self.last_block = keys.phase_one_iv(self.hash, self.publics[0], self.publics[1], self.cipher.block)
            if wire.first_type(payloads) != PayloadType.FRAGMENT:
                self.seen[data] = payloads
                return payloads
            # Fragment id, number, whether it is the last ([MS-IKEE] 2.2.3.1).
            self.fragments.append(payloads[0].body()[4:])
            if not payloads[0].body()[3] & 1:
                return None
            whole, self.fragments = b"".join(self.fragments), []
            return self.read(whole)
        main = header.exchange in (ExchangeType.MAIN_MODE, ExchangeType.AGGRESSIVE)
        iv = self.last_block if main else self.ivs.get(header.message_id)
        if iv is None:
            iv = keys.phase_two_iv(self.hash, self.last_block, header.message_id)
        clear = self.cipher.open(iv, data[wire.HEADER_LENGTH :])
        payloads, end = wire.parse_payloads(header.next_payload, clear)
        assert len(clear) - end < 256
        assert self.cipher.seal(iv, wire.encode_payloads(payloads) + clear[end:]) == data[wire.HEADER_LENGTH :]
        if main:
            self.last_block = data[-self.cipher.block :]
        else:
            self.ivs[header.message_id] = data[-self.cipher.block :]
        self.seen[data] = payloads
        return payloads


CIPHERS = {"DES_CBC": Encryption.DES_CBC, "3DES_CBC": Encryption.TRIPLE_DES_CBC, "AES_CBC": Encryption.AES_CBC}
PRFS = {"MD5": Hash.MD5, "SHA1": Hash.SHA1, "SHA2_256": Hash.SHA256, "SHA2_384": Hash.SHA384, "SHA2_512": Hash.SHA512}


@dataclass
class Log:
    """What FILE.keys.md of the lab says of FILE.pcap."""

    name: str
    cookie: str
    key: str
    eavesdropper: Eavesdropper


def lab_logs(captures: Path) -> list[Log]:
    logs = []
    for path in sorted((captures.parent / "lab" / "pcaps").glob("*.keys.md")):
        text = path.read_text()
        words = re.search(r"IKE: `IKE:(\w+?_CBC)(?:_\d+)?/[^/`]+/PRF_HMAC_(\w+)/.*initiator `(\w+)`", text)
        key = re.search(r"\| encryption key Ka \| `(\w+)`", text)
        if words and key:
            cipher = keys.PhaseOneCipher(CIPHERS[words[1]], bytes.fromhex(key[1]))
            logs.append(Log(path.name.removesuffix(".keys.md"), words[3], key[1], Eavesdropper(cipher, PRFS[words[2]])))
    if not logs:
        pytest.skip("no lab captures with keys")
    return logs


def test_lab_captures_decrypt_to_what_tshark_sees(captures: Path, tmp_path: Path) -> None:
    """strongSwan and racoon: preshared keys, certificates with fragments, Kerberos, NAT-T, ESP and AH, deletes."""
    logs = lab_logs(captures)
    datagrams: list[tuple[bytes, bytes]] = []
    expected: list[tuple[str, int, list[list[str]]]] = []
    kinds: dict[str, set[int]] = {}
    for log in logs:
        folder = captures.parent / "lab" / "pcaps"
        for source, data in ike_datagrams(folder / f"{log.name}.pcap"):
            assert data[:8].hex() == log.cookie
            payloads = log.eavesdropper.read(data)
            datagrams.append((source, data))
            if payloads is None:
                continue
            kinds.setdefault(log.name, set()).update(types_of(payloads))
            if data[18] != ExchangeType.MAIN_MODE or data[19] & Flags.ENCRYPTION:
                expected.append((log.name, len(datagrams) - 1, values_of(payloads)))
    rows = tshark_fields(write_pcap(tmp_path / "lab.pcap", datagrams), FIELDS, [(log.cookie, log.key) for log in logs])
    assert len(rows) == len(datagrams)
    for name, number, values in expected:
        assert rows[number] == values, name
    assert {PayloadType.CERTIFICATE, PayloadType.SIGNATURE} <= kinds["ss-rsa_3des-sha1-1024_3des-sha1"]
    assert all({PayloadType.HASH, PayloadType.IDENTIFICATION, PayloadType.SA} <= seen for seen in kinds.values())


@pytest.mark.parametrize("capture", ["ikev1-certs.pcap", "ikev1-bug-12620.pcapng.gz"])
def test_wireshark_captures_decrypt_to_the_expected_payloads(captures: Path, capture: str) -> None:
    """Clear and encrypted messages, in one go and in their order, from the key of Wireshark's own table."""
    folder = captures / "wireshark" / "keys"
    frames = json.loads((folder / "ikev1_decrypted_expected.shared.json").read_text())["captures"][capture]
    table = dict(line.split(",") for line in (folder / "ikev1_decryption_table.shared.csv").read_text().split())
    algorithms = next(frame["alg"] for frame in frames if "alg" in frame)
    cookie = frames[0]["ispi"]
    cipher = keys.PhaseOneCipher(Encryption(algorithms["enc"]), bytes.fromhex(table[cookie]))
    eavesdropper = Eavesdropper(cipher, Hash(algorithms["hash"]))
    datagrams = [data for data in ike_messages(captures / "wireshark" / capture) if data[:8].hex() == cookie]
    for frame, data in zip(frames, datagrams, strict=True):
        payloads = eavesdropper.read(data)
        assert payloads is not None
        assert (len(data), data[18], data[20:24].hex()) == (frame["length"], frame["exchange"], frame["msgid"])
        want = [(kind, rest[-1]) for kind, _, *rest in frame["payloads"]]
        sizes = [(int(payload.TYPE), len(payload.body())) for payload in payloads]
        bodies = [(int(payload.TYPE), payload.body().hex()) for payload in payloads]
        assert want == (bodies if data[19] & Flags.ENCRYPTION else sizes)
