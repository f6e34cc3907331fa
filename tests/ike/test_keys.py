"""The key schedule against published vectors and against key logs of other implementations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from udp_captures import ike_messages

from ipsec_core.ike import keys, protected, wire
from ipsec_core.ike.failures import Unverified
from ipsec_core.ike.iana import (
    AuthAlgorithm,
    AuthMethod,
    Encapsulation,
    Encryption,
    EspTransform,
    ExchangeType,
    Group,
    Hash,
    Protocol,
)
from ipsec_core.ike.offers import MainModeOffer, QuickModeOffer, parse_main_mode
from ipsec_core.ike.proposals import choose_quick_mode

HASHES = {"md5": Hash.MD5, "sha1": Hash.SHA1, "sha256": Hash.SHA256}
unhex = bytes.fromhex


def load(path: Path) -> Any:
    return json.loads(path.read_text())


# Published vectors


def test_skeyids(captures: Path) -> None:
    vectors = load(captures / "ikev1-kdf/ikev1_skeyid.shared.json")["vectors"]
    methods = set()
    for v in vectors:
        algorithm = HASHES[v["hash"]]
        shared, cookies = unhex(v["gxy"]), unhex(v["ckyInit"] + v["ckyResp"])
        nonces = unhex(v["nInit"]), unhex(v["nResp"])
        root = unhex(v["sKeyId"])
        if v["method"] == "psk":
            assert keys.skeyid_preshared(algorithm, unhex(v["psk"]), *nonces) == root
        elif v["method"] == "dsa":
            assert keys.skeyid_signature(algorithm, *nonces, shared) == root
        ids = keys.derive_skeyids(algorithm, root, shared, cookies)
        assert (ids.derive, ids.authenticate, ids.encrypt) == tuple(unhex(v[f"sKeyId{x}"]) for x in "DAE")
        methods.add(v["method"])
    assert {"psk", "dsa"} <= methods


def test_hash_r(captures: Path) -> None:
    vectors = load(captures / "ikev1-kdf/ikev1_psk_hash_r.shared.json")["vectors"]
    for v in vectors:
        algorithm = HASHES[v["hash"]]
        skeyid = keys.skeyid_preshared(algorithm, v["psk"].encode(), unhex(v["ni_b"]), unhex(v["nr_b"]))
        assert skeyid.hex() == v["skeyid"]
        publics, cookies = unhex(v["g_xr"] + v["g_xi"]), unhex(v["cky_r"] + v["cky_i"])
        proof = keys.main_mode_hash(algorithm, skeyid, publics, cookies, unhex(v["sai_b"]), unhex(v["idir_b"]))
        assert proof.hex() == v["hash_r"]
    assert {v["hash"] for v in vectors} >= {"md5", "sha1"}


def test_openswan(captures: Path) -> None:
    vectors = load(captures / "openswan/openswan_ikev1_vectors.shared.json")
    for v in vectors["hash1"]:
        proof = keys.message_hash(Hash.MD5, unhex(v["skeyid_a"]), int(v["msgid"], 16), unhex(v["data"]))
        assert proof.hex() == v["hash"]
    for v in vectors["phase2_iv"]:
        iv = keys.phase_two_iv(HASHES[v["hash"]], unhex(v["last_phase1_block"]), int(v["msgid"], 16))
        assert iv.hex() == v["iv"]
    for v in vectors["messages"]:
        encryption = Encryption.TRIPLE_DES_CBC if v["alg"].startswith("3des") else Encryption.AES_CBC
        cipher = keys.PhaseOneCipher(encryption, unhex(v["key"]))
        iv, sealed, clear = unhex(v["iv"]), unhex(v["ciphertext"]), unhex(v["plaintext"])
        assert cipher.open(iv, sealed) == clear
        assert cipher.seal(iv, clear) == sealed


# Ciphers


def test_single_des_is_des() -> None:
    # NIST SP 500-20 known answer: key 0101..., plaintext 95F8A5E5DD31D900 gives 8000000000000000.
    cipher = keys.PhaseOneCipher(Encryption.DES_CBC, unhex("0101010101010101"))
    assert cipher.seal(bytes(8), unhex("95f8a5e5dd31d900")).hex() == "8000000000000000"
    assert cipher.open(bytes(8), unhex("8000000000000000")).hex() == "95f8a5e5dd31d900"


@pytest.mark.parametrize("length", [0, 1, 7, 9])
def test_partial_blocks_do_not_open(length: int) -> None:
    with pytest.raises(Unverified):
        keys.PhaseOneCipher(Encryption.DES_CBC, bytes(8)).open(bytes(8), bytes(length))


def test_gcm_keymat_is_key_then_salt() -> None:
    offer = QuickModeOffer(EspTransform.AES_GCM_16, None, Encapsulation.TUNNEL, key_bits=256)
    assert keys.esp_key_lengths(offer) == (32, 4, 0)
    cut = keys.split_keymat(offer, bytes(range(36)))
    assert (cut.encryption_key, cut.salt, cut.authentication_key) == (bytes(range(32)), bytes(range(32, 36)), b"")


def test_ctr_keymat_is_key_nonce_integrity_key() -> None:
    """RFC 3686 5.1 puts the nonce behind the key, RFC 2407 4.5 the integrity key behind what the cipher takes."""
    offer = QuickModeOffer(EspTransform.AES_CTR, AuthAlgorithm.HMAC_SHA1, Encapsulation.TUNNEL, key_bits=128)
    cut = keys.split_keymat(offer, bytes(range(40)))
    assert (cut.encryption_key, cut.salt) == (bytes(range(16)), bytes(range(16, 20)))
    assert cut.authentication_key == bytes(range(20, 40))


# Key logs of strongSwan, with the capture beside them


VECTORS = [
    "lab-tp-3des-md5",
    "lab-tp-3des-sha1",
    "lab-tp-aes-sha1",
    "lab-tp-des-md5",
    "lab-tp-null-sha1",
    "lab-tun-3des-sha1",
    "ss-3des-sha1-1024_pfs",
    "ss-aes128-sha1-1024_aes-sha256",
    "ss-aes128-sha256-2048_gcm",
    "ss-des-sha1-768_des-md5",
    "ss-rsa_3des-sha1-1024_3des-sha1",
]
ESP = {"3DES_CBC": EspTransform.TRIPLE_DES, "DES_CBC": EspTransform.DES, "NULL": EspTransform.NULL}
AUTH = {
    "HMAC_MD5_96": AuthAlgorithm.HMAC_MD5,
    "HMAC_SHA1_96": AuthAlgorithm.HMAC_SHA1,
    "HMAC_SHA2_256_128": AuthAlgorithm.HMAC_SHA256,
}


def vector_files(captures: Path, name: str) -> tuple[dict[str, Any], dict[str, list[str]], Path, str]:
    folder = captures.parent / "lab" / "pcaps"
    path = folder / f"{name}.vector.json"
    if not path.exists():
        pytest.skip(f"no key log {name}")
    text = (folder / f"{name}.keys.md").read_text()
    logged: dict[str, list[str]] = {}
    for key, value in re.findall(r"^\| ([^|]+?) \| `([0-9a-f]*)` \|", text, re.M):
        logged.setdefault(key, []).append(value)
    return load(path), logged, folder / f"{name}.pcap", text


def main_offer(vector: dict[str, Any]) -> MainModeOffer:
    cipher, _, _, group = vector["prop"].removeprefix("IKE:").split("/")
    encryption, bits = {
        "DES_CBC": (Encryption.DES_CBC, 0),
        "3DES_CBC": (Encryption.TRIPLE_DES_CBC, 0),
        "AES_CBC_128": (Encryption.AES_CBC, 128),
        "AES_CBC_256": (Encryption.AES_CBC, 256),
    }[cipher]
    return MainModeOffer(encryption, HASHES[vector["prf"]], Group[group], key_bits=bits)


def session_of(vector: dict[str, Any], last_block: bytes = b"") -> tuple[keys.Session, keys.Skeyids, MainModeOffer]:
    offer, mm = main_offer(vector), {k: unhex(v) for k, v in vector["mm"].items()}
    cookies = unhex(vector["cky_i"]), unhex(vector["cky_r"])
    if vector["sig_skeyid"]:
        root = keys.skeyid_signature(offer.hash, mm["ni"], mm["nr"], mm["gxy"])
    else:
        root = keys.skeyid_preshared(offer.hash, vector["psk"].encode(), mm["ni"], mm["nr"])
    ids = keys.derive_skeyids(offer.hash, root, mm["gxy"], b"".join(cookies))
    cipher = keys.phase_one_cipher(offer, ids.encrypt)
    return keys.Session(offer.hash, ids.derive, ids.authenticate, cipher, last_block, *cookies), ids, offer


@pytest.mark.parametrize("name", VECTORS)
def test_main_mode_schedule_of_strongswan(captures: Path, name: str) -> None:
    vector, _, _, _ = vector_files(captures, name)
    session, ids, offer = session_of(vector)
    want = vector["keys"]
    assert ids.root.hex() == want["SKEYID"]
    assert ids.derive.hex() == want["SKEYID_d"]
    assert ids.authenticate.hex() == want["SKEYID_a"]
    assert ids.encrypt.hex() == want["SKEYID_e"]
    assert session.cipher.key.hex() == want["encryption key Ka"]
    publics = unhex(vector["mm"]["gxi"]), unhex(vector["mm"]["gxr"])
    assert keys.phase_one_iv(offer.hash, *publics, session.cipher.block).hex() == want["initial IV"]
    for who, ordered, cookies in (
        ("i", publics, vector["cky_i"] + vector["cky_r"]),
        ("r", publics[::-1], vector["cky_r"] + vector["cky_i"]),
    ):
        # What charon logged as the input must be made of the parts in the order that ours takes them.
        front = b"".join(ordered) + unhex(cookies)
        logged = unhex(vector[f"hash_{who}_data"])
        assert logged.startswith(front)
        rest = logged[len(front) :]
        proof = keys.main_mode_hash(offer.hash, ids.root, b"".join(ordered), unhex(cookies), rest[:8], rest[8:])
        assert proof.hex() == want[f"HASH_{who.upper()}"]


@pytest.mark.parametrize("name", VECTORS)
def test_keymat_of_strongswan(captures: Path, name: str) -> None:
    vector, _, _, text = vector_files(captures, name)
    session, _, _ = session_of(vector)
    words = re.findall(r"\* CHILD `ESP:([^`/]+)/([^`/]+)", text)
    nonces = unhex(vector["qm"]["ni"] + vector["qm"]["nr"])
    assert vector["children"]
    for child, (cipher, auth) in zip(vector["children"], words, strict=True):
        bits = int(cipher.rpartition("_")[2]) if cipher.startswith("AES_CBC") else 0
        combined = "GCM" in cipher
        offer = QuickModeOffer(
            EspTransform.AES_GCM_16 if combined else ESP.get(cipher, EspTransform.AES_CBC),
            None if combined else AUTH[auth],
            Encapsulation.TUNNEL,
            key_bits=128 if combined else bits,
        )
        for who, spi in (("responder", child["spi_i"]), ("initiator", child["spi_r"])):
            material = keys.keymat(
                session.hash,
                session.skeyid_d,
                Protocol.ESP,
                unhex(spi),
                nonces,
                sum(keys.esp_key_lengths(offer)),
                unhex(child["pfs"]),
            )
            cut = keys.split_keymat(offer, material)
            # charon calls "encryption key" of GCM what is key and salt; a null cipher has none.
            assert (cut.encryption_key + cut.salt).hex() == child.get(f"encryption {who} key", "")
            assert cut.authentication_key.hex() == child.get(f"integrity {who} key", "")
    assert vector["children"][0]["pfs"] or "pfs" not in name


@pytest.mark.parametrize("name", [name for name in VECTORS if "rsa" not in name])
def test_strongswan_conversation_decrypts_and_verifies(captures: Path, name: str) -> None:
    """Main Mode 5 and 6, all of Quick Mode and the deletes, with the HASH of each and the logged IV after each."""
    vector, logged, path, _ = vector_files(captures, name)
    session, ids, offer = session_of(vector)
    publics = unhex(vector["mm"]["gxi"]), unhex(vector["mm"]["gxr"])
    iv = keys.phase_one_iv(offer.hash, *publics, session.cipher.block)
    seen: list[str] = []
    quick: dict[int, tuple[bytes, list[bytes]]] = {}
    done: set[bytes] = set()
    sa_body = b""
    for data in ike_messages(path):
        header = wire.parse_header(data)
        if data in done or header.initiator_cookie.hex() != vector["cky_i"]:
            continue
        done.add(data)
        if not header.encrypted:
            chain = wire.parse_clear(header, data)
            if header.responder_cookie == wire.NO_COOKIE:
                sa_body = wire.only(chain, wire.SecurityAssociation).body()
            else:
                for answer in wire.every(chain, wire.SecurityAssociation):
                    chosen = parse_main_mode(answer.proposals[0].transforms[0])
                    assert chosen is not None
                    assert (chosen.encryption, chosen.hash, chosen.group) == (offer.encryption, offer.hash, offer.group)
        elif header.exchange == ExchangeType.MAIN_MODE:
            chain, _ = wire.parse_payloads(header.next_payload, session.cipher.open(iv, data[28:]))
            iv = data[-session.cipher.block :]
            number = len([s for s in seen if s.startswith("main")])
            cookies = (session.initiator_cookie, session.responder_cookie)
            step = 1 if number == 0 else -1
            proof = keys.main_mode_hash(
                offer.hash,
                ids.root,
                b"".join(publics[::step]),
                b"".join(cookies[::step]),
                sa_body,
                wire.only(chain, wire.Identification).body(),
            )
            assert wire.only(chain, wire.HashData).data == proof
            seen.append(f"main{number}")
            session, _, _ = session_of(vector, last_block=iv)
        elif header.exchange == ExchangeType.QUICK_MODE:
            mid = header.message_id
            quick_iv, nonces = quick.get(mid, (session.iv(mid), []))
            opened = protected.unseal(session, header, quick_iv, data)
            if len(nonces) == 2:
                expected = keys.confirmation_hash(session.hash, session.skeyid_a, mid, b"".join(nonces))
            else:
                expected = session.message_hash(mid, b"".join(nonces) + opened.rest)
            opened.verify(expected)
            nonces = nonces + [nonce.data for nonce in wire.every(opened.payloads, wire.Nonce)]
            quick[mid] = (data[-session.cipher.block :], nonces)
            if wire.every(opened.payloads, wire.SecurityAssociation) and len(nonces) == 2:
                assert [nonce.hex() for nonce in nonces] == [vector["qm"]["ni"], vector["qm"]["nr"]]
            assert expected.hex() in logged[f"Hash({1 if len(nonces) == 1 else 2})"] + logged["Hash(3)"]
            seen.append("quick")
        elif header.exchange == ExchangeType.INFORMATIONAL:
            chain = protected.open_informational(session, header, data)
            assert wire.every(chain, wire.Delete)
            seen.append("delete")
        if header.encrypted and seen[-1] != "delete":
            assert data[-session.cipher.block :].hex() in logged[f"next IV for MID {header.message_id}"]
    assert seen[:5] == ["main0", "main1", "quick", "quick", "quick"]
    # The captures of the lab- runs end before the SAs do.
    assert "delete" in seen or name.startswith("lab-")


def test_gcm_proposal_of_strongswan_is_understood(captures: Path) -> None:
    name = "ss-aes128-sha256-2048_gcm"
    vector, _, path, _ = vector_files(captures, name)
    iv = b""
    for data in ike_messages(path):
        header = wire.parse_header(data)
        if header.exchange == ExchangeType.MAIN_MODE:
            iv = data[-16:]
        elif header.exchange == ExchangeType.QUICK_MODE:
            session, _, _ = session_of(vector, last_block=iv)
            opened = protected.unseal(session, header, session.iv(header.message_id), data)
            offer = QuickModeOffer(EspTransform.AES_GCM_16, None, Encapsulation.TUNNEL, key_bits=128)
            sa = wire.only(opened.payloads, wire.SecurityAssociation)
            # Mode 3 is UDP-encapsulated tunnel (RFC 3947), which that peer insists on.
            text = sa.body().replace(bytes.fromhex("80040003"), bytes.fromhex("80040001"))
            choice = choose_quick_mode(wire.SecurityAssociation.parse(wire.Reader(text)), (offer,))
            assert choice is not None
            assert choice.proposals[0].spi.hex() == vector["children"][0]["spi_i"]
            return
    pytest.fail("no Quick Mode in the capture")


# Wireshark's captures with keys


@pytest.mark.parametrize("capture", ["ikev1-certs.pcap", "ikev1-bug-12620.pcapng.gz"])
def test_wireshark_captures_decrypt(captures: Path, capture: str) -> None:
    """Every encrypted message; a retransmission does not move the IV."""
    frames = load(captures / "wireshark/keys/ikev1_decrypted_expected.shared.json")["captures"][capture]
    table = dict(
        line.split(",") for line in (captures / "wireshark/keys/ikev1_decryption_table.shared.csv").read_text().split()
    )
    messages = ike_messages(captures / "wireshark" / capture)
    key = unhex(table[frames[0]["ispi"]])
    by_cookie = [data for data in messages if data[:8].hex() == frames[0]["ispi"]]
    publics: list[bytes] = []
    cipher: keys.PhaseOneCipher | None = None
    ivs: dict[int, bytes] = {}
    previous = b""
    algorithm = Hash.MD5
    last_block = b""
    encrypted = 0
    for frame, data in zip(frames, by_cookie, strict=False):
        header = wire.parse_header(data)
        assert (header.exchange, header.message_id) == (frame["exchange"], int(frame["msgid"], 16))
        if not header.encrypted:
            # Aggressive Mode messages carry payloads that are parsed all the same.
            publics += [item.data for item in wire.every(wire.parse_clear(header, data), wire.KeyExchange)]
            continue
        encrypted += 1
        if cipher is None:
            algorithm = Hash(frame["alg"]["hash"])
            cipher = keys.PhaseOneCipher(Encryption(frame["alg"]["enc"]), key)
            last_block = keys.phase_one_iv(algorithm, *publics, cipher.block)
        if header.exchange == ExchangeType.MAIN_MODE:
            iv = last_block
        elif data == previous:
            iv = unhex(frame["iv"])
        else:
            iv = ivs.get(header.message_id) or keys.phase_two_iv(algorithm, last_block, header.message_id)
        assert iv.hex() == frame["iv"]
        clear = cipher.open(iv, data[28:])
        chain, end = wire.parse_payloads(header.next_payload, clear)
        assert clear[end:].hex() == frame["padding"]
        for item, (kind, _, body) in zip(chain, frame["payloads"], strict=True):
            assert kind == item.TYPE
            assert item.body().hex() == body
        assert cipher.seal(iv, clear) == data[28:]
        previous = data
        if header.exchange == ExchangeType.MAIN_MODE:
            last_block = data[-cipher.block :]
        else:
            ivs[header.message_id] = data[-cipher.block :]
    assert encrypted >= 6


def test_preshared_key_of_the_aggressive_capture(captures: Path) -> None:
    """ikev1-bug-12620 was made with the key `123`: HASH_R in its message 2 is computed from that and clear payloads."""
    messages = ike_messages(captures / "wireshark/ikev1-bug-12620.pcapng.gz")
    one, two = (wire.parse_clear(wire.parse_header(data), data) for data in messages[:2])
    header = wire.parse_header(messages[1])
    nonces = [wire.only(chain, wire.Nonce).data for chain in (one, two)]
    publics = [wire.only(chain, wire.KeyExchange).data for chain in (one, two)]
    skeyid = keys.skeyid_preshared(Hash.SHA256, b"123", *nonces)
    proof = keys.main_mode_hash(
        Hash.SHA256,
        skeyid,
        publics[1] + publics[0],
        header.responder_cookie + header.initiator_cookie,
        wire.only(one, wire.SecurityAssociation).body(),
        wire.only(two, wire.Identification).body(),
    )
    assert proof == wire.only(two, wire.HashData).data
    assert AuthMethod.PRESHARED_KEY == 1
