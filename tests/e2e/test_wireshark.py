"""The main job as tshark sees it, with the exported tables in its configuration folder and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from link_oracles import ALICE, BOB, CLIENT, COMPUTERS, ETHERTYPE_ARP, SERVER, Lab, Row, replayed, tshark

MAIN_MODE, QUICK_MODE = "2", "32"
SA, PROPOSAL, TRANSFORM, KE, ID, HASH, NONCE, NOTIFY, VENDOR_ID = "1", "2", "3", "4", "5", "8", "10", "11", "13"
NAT_D = "20"
COMMIT_FLAGS = [False, True, False, False]
WINDOWS_2000 = "1e2b516905991c7d7c96fcbfb587e46100000002"
INITIAL_CONTACT = "24578"
NO_COOKIE = "00" * 8
SHA1_HEX = 40
TRUE = ("1", "True")
ESP_TRANSFORMS = {"3DES": "3", "AES-GCM": "20"}  # RFC 2407 4.4.4, RFC 4106 8
HMAC_SHA = {"3DES": ["2"], "AES-GCM": []}  # RFC 2407 4.5
TUNNEL_MODE, TRANSPORT_MODE = ["1"], ["2"]


def messages(lab: Lab) -> list[tuple[str, str, bool, list[str]]]:
    """RFC 2409 5 (preshared key) and 5.5: sender, exchange, encrypted, payloads.

    The modern profile announces two dialects of NAT traversal, of which the answer has one, and fragments, and looks
    for a NAT; Windows 2000 has none of that, but the commit bit, to which CONNECTED belongs (RFC 2408 3.1).
    """
    announced, agreed = ([VENDOR_ID] * 3, [VENDOR_ID] * 2) if lab.modern else ([], [])
    detection = [NAT_D] * 2 if lab.modern else []
    connected = [] if lab.modern else [(BOB, QUICK_MODE, True, [HASH, NOTIFY])]
    return [
        (ALICE, MAIN_MODE, False, [SA, PROPOSAL, TRANSFORM, VENDOR_ID, *announced]),
        (BOB, MAIN_MODE, False, [SA, PROPOSAL, TRANSFORM, VENDOR_ID, *agreed]),
        (ALICE, MAIN_MODE, False, [KE, NONCE, *detection]),
        (BOB, MAIN_MODE, False, [KE, NONCE, *detection]),
        (ALICE, MAIN_MODE, True, [ID, HASH, NOTIFY]),
        (BOB, MAIN_MODE, True, [ID, HASH]),
        (ALICE, QUICK_MODE, True, [HASH, SA, PROPOSAL, TRANSFORM, NONCE, ID, ID]),
        (BOB, QUICK_MODE, True, [HASH, SA, PROPOSAL, TRANSFORM, NONCE, ID, ID]),
        (ALICE, QUICK_MODE, True, [HASH]),
        *connected,
    ]


def is_true(row: Row, field: str) -> bool:
    return row[field][0] in TRUE


def test_every_ike_message_is_readable(lab: Lab) -> None:
    seen = [
        (row["ip.src"][0], row["isakmp.exchangetype"][0], is_true(row, "isakmp.flag_e"), row["isakmp.typepayload"])
        for row in lab.ike_rows
    ]
    assert seen == messages(lab)
    assert not any(row["_ws.malformed"] for row in lab.rows)


def test_one_main_mode_and_one_quick_mode(lab: Lab) -> None:
    main, quick = ([r for r in lab.ike_rows if r["isakmp.exchangetype"] == [kind]] for kind in (MAIN_MODE, QUICK_MODE))
    assert (len(main), len(quick)) == (6, 3 if lab.modern else 4)
    assert {row["isakmp.messageid"][0] for row in main} == {"0x00000000"}
    (message_id,) = {row["isakmp.messageid"][0] for row in quick}
    assert int(message_id, 16) != 0
    # Who answers sets the commit bit.
    assert [is_true(row, "isakmp.flag_c") for row in quick] == ([False] * 3 if lab.modern else COMMIT_FLAGS)


def test_cookies_are_those_of_the_table(lab: Lab) -> None:
    (line,) = lab.tables[1].read_text().splitlines()
    cookie, key = line.split(",")
    assert len(bytes.fromhex(key)) == 24
    assert {row["isakmp.ispi"][0] for row in lab.ike_rows} == {cookie}
    assert cookie != NO_COOKIE
    first, *others = [row["isakmp.rspi"][0] for row in lab.ike_rows]
    assert first == NO_COOKIE
    (answer,) = set(others)
    assert answer not in (NO_COOKIE, cookie)


def test_vendor_id_is_that_of_windows_2000(lab: Lab) -> None:
    first, second, *others = [row["isakmp.vid_bytes"] for row in lab.ike_rows]
    assert first[0] == second[0] == WINDOWS_2000
    assert lab.modern or first == second == [WINDOWS_2000]
    assert not any(others)


def test_main_mode_identities_and_hashes(lab: Lab) -> None:
    fifth, sixth = lab.ike_rows[4:6]
    assert fifth["isakmp.id.data.ipv4_addr"] == [ALICE]
    assert sixth["isakmp.id.data.ipv4_addr"] == [BOB]
    assert fifth["isakmp.notify.msgtype"] == [INITIAL_CONTACT]
    hashes = [value for row in lab.ike_rows for value in row["isakmp.hash"]]
    assert [len(value) for value in hashes] == [SHA1_HEX] * len(hashes)
    assert len(set(hashes)) == len(hashes) == (5 if lab.modern else 6)


def test_quick_mode_proposes_what_the_policy_says(lab: Lab) -> None:
    offer, answer = lab.ike_rows[6:8]
    for row, sender_of_the_sa in ((offer, BOB), (answer, ALICE)):
        assert row["isakmp.id.data.ipv4_addr"] == ([CLIENT, SERVER] if lab.tunnel else [ALICE, BOB])
        assert row["isakmp.prop.protoid"] == ["3"]
        assert row["isakmp.trans.id"] == [ESP_TRANSFORMS[lab.cipher]]
        assert row["isakmp.ipsec.attr.auth_algorithm"] == HMAC_SHA[lab.cipher]
        assert row["isakmp.ipsec.attr.encap_mode"] == (TUNNEL_MODE if lab.tunnel else TRANSPORT_MODE)
        # Each names the SPI that it wants to receive.
        assert row["isakmp.spi"] == [f"{lab.sas[sender_of_the_sa].spi:08x}"]


def test_every_esp_packet_has_a_good_icv(lab: Lab) -> None:
    rows = [row for sender in COMPUTERS.values() for row in lab.esp_rows(sender)]
    assert len(rows) == sum(len(lab.esp(sender)) for sender in COMPUTERS.values())
    assert len(rows) > 1500
    assert {(is_true(row, "esp.icv_good"), is_true(row, "esp.icv_bad")) for row in rows} == {(True, False)}
    assert all(row["esp.contained_data"] for row in rows)


@pytest.mark.parametrize("sender", COMPUTERS.values(), ids=COMPUTERS)
def test_sequence_numbers_have_no_gap(lab: Lab, sender: str) -> None:
    rows = lab.esp_rows(sender)
    assert {int(row["esp.spi"][0], 16) for row in rows} == {lab.sas[sender].spi}
    assert [int(row["esp.sequence"][0]) for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("sender", COMPUTERS.values(), ids=COMPUTERS)
def test_the_capture_is_inside(lab: Lab, sender: str) -> None:
    assert lab.opened_by_tshark(sender) == [each.data for each in replayed(sender, lab.tunnel)]


def test_repeated_twice_the_capture_is_inside_two_times(twice: Lab) -> None:
    for sender in COMPUTERS.values():
        assert twice.opened_by_tshark(sender) == [each.data for each in replayed(sender, False)] * 2
        assert [int(row["esp.sequence"][0]) for row in twice.esp_rows(sender)] == list(
            range(1, 2 * len(replayed(sender, False)) + 1)
        )
    assert len(twice.ike_rows) == len(messages(twice))


def test_tshark_needs_the_tables(transport: Lab, tmp_path: Path) -> None:
    """Nothing is readable without them, with a wrong key every ICV of its direction is bad: these tests can fail."""
    capture = transport.folder / "link.pcapng"
    bare = tshark(capture, [], tmp_path / "bare")
    assert not any(row["esp.contained_data"] or row["esp.icv_good"] for row in bare)
    assert not any(row["isakmp.id.data.ipv4_addr"] for row in bare)
    assert all("esp" in row["frame.protocols"][0].split(":")[-1] for row in bare if row["esp.spi"])

    esp_sa = tmp_path / "esp_sa"
    lines = transport.tables[0].read_text().splitlines(keepends=True)
    lines = [line if f'"{ALICE}","{BOB}"' not in line else f'{line[:-3]}{int(line[-3], 16) ^ 1:x}"\n' for line in lines]
    esp_sa.write_text("".join(lines))
    rows = [row for row in tshark(capture, [esp_sa], tmp_path / "wrong") if row["esp.spi"]]
    assert {(row["ip.src"][0], is_true(row, "esp.icv_bad")) for row in rows} == {(ALICE, True), (BOB, False)}


def test_tshark_and_scapy_see_the_same_frames(lab: Lab) -> None:
    stamps = [int(row["frame.time_epoch"][0].replace(".", "")) for row in lab.rows]
    assert stamps == [frame.start for frame in lab.frames]
    arp = [frame.ethertype == ETHERTYPE_ARP for frame in lab.frames]
    assert arp == ["arp" in row["frame.protocols"][0].split(":") for row in lab.rows]
