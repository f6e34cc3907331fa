"""Each cipher and each HMAC from policy to wire: tshark reads all with the exported tables alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from link_oracles import ALICE, BOB, Lab
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from ipsec_core.sim.run import simulate

UDP_HEX, QUICK_MODE, TRUE = "0x11", "32", ("1", "True")
# IANA, isakmp-registry: ESP transform identifiers (by the end of the name), authentication algorithms.
TRANSFORMS = {
    "3DES": "3",
    "DES": "2",
    "NULL": "11",
    "CBC": "12",
    "CTR": "13",
    "GCM-8": "18",
    "GCM-12": "19",
    "GCM": "20",
}
HMACS = {"MD5": "1", "SHA1": "2", "SHA256": "5", "SHA384": "6", "SHA512": "7"}
HOSTS = ("192.0.2.1", "192.0.2.2")
MACS = dict(zip(HOSTS, ("02:00:00:00:00:01", "02:00:00:00:00:02"), strict=True))
SCENARIO = """
[computers.ALICE]
address = "10.0.0.1"
policy = "Lab"
profile = "PROFILE"
[computers.BOB]
address = "10.0.0.2"
policy = "Lab"
profile = "PROFILE"
[traffic]
file = "traffic.pcap"
[[policies]]
name = "Lab"
[[policies.rules]]
filters = [{ source = "me", destination = "10.0.0.0/24" }]
action = { negotiate = ["METHOD"] }
authentication = [{ preshared_key = "lab" }]
"""
WINDOWS_2000 = ["ESP[NULL,MD5]", "ESP[NULL,SHA1]", "ESP[DES,MD5]", "ESP[DES,SHA1]", "ESP[3DES,MD5]", "ESP[3DES,SHA1]"]
MODERN = [
    *("ESP[NULL,SHA256]", "ESP[3DES,SHA384]", "ESP[AES-128-CBC,SHA512]", "ESP[AES-192-CBC,SHA256]"),
    *("ESP[AES-256-CBC,SHA1]", "ESP[AES-128-CTR,SHA256]", "ESP[AES-192-CTR,MD5]", "ESP[AES-256-CTR,SHA512]"),
    *("ESP[AES-192-GCM]", "ESP[AES-256-GCM]", "ESP[AES-128-GCM-12]", "ESP[AES-256-GCM-12]"),
    *("ESP[AES-128-GCM-8]", "ESP[AES-192-GCM-8]"),
]


def traffic() -> list[Packet]:
    """Packets both ways, a second after the first, which waits for the negotiation."""
    packets = []
    for number in range(12):
        a, b = HOSTS[:: -1 if number % 3 == 2 else 1]
        packet = (
            Ether(dst=MACS[b], src=MACS[a])
            / IP(src=a, dst=b)
            / UDP(sport=4000, dport=4001)
            / Raw(bytes(range(number * 20)))
        )
        packet.time = number * 0.001 + (number > 0)
        packets.append(packet)
    return packets


@pytest.mark.parametrize(
    ("method", "profile"), [(m, "windows-2000") for m in WINDOWS_2000] + [(m, "modern") for m in MODERN]
)
def test_tshark_reads_it(tmp_path: Path, method: str, profile: str) -> None:
    sent = traffic()
    wrpcap(str(tmp_path / "traffic.pcap"), sent)
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO.replace("METHOD", method).replace("PROFILE", profile))
    simulate(scenario, tmp_path / "out")
    lab = Lab(tmp_path / "out")
    assert lab.result["traffic"]["delivered"] == len(sent)
    for computer, host in ((ALICE, HOSTS[0]), (BOB, HOSTS[1])):
        wanted = [bytes(packet[UDP].payload) for packet in sent if packet[IP].src == host]
        rows = lab.esp_rows(computer)
        assert [bytes.fromhex(*row["esp.contained_data"])[8:] for row in rows] == wanted
        assert {tuple(row["esp.protocol"]) for row in rows} == {(UDP_HEX,)}
        assert {(row["esp.icv_good"][0] in TRUE, row["esp.icv_bad"][0] in TRUE) for row in rows} == {(True, False)}
    assert not any(row["_ws.malformed"] for row in lab.rows)
    cipher, _, hmac = method[4:-1].partition(",")
    proposals = [row for row in lab.ike_rows if row["isakmp.exchangetype"] == [QUICK_MODE] and row["isakmp.trans.id"]]
    assert len(proposals) == 2
    for row in proposals:
        assert row["isakmp.trans.id"] == [next(number for end, number in TRANSFORMS.items() if cipher.endswith(end))]
        assert row["isakmp.ipsec.attr.auth_algorithm"] == ([HMACS[hmac]] if hmac else [])
