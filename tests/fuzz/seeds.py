"""Seeds of the fuzz targets, made of real captures where there are any (IPSEC_CORE_CAPTURES, else ../shared/captures
beside the checkout) and of a few plain packets: `seeds.py FOLDER` writes FOLDER/TARGET/*. Needs the standard library
alone, so that fuzzing needs no more than a compiler."""

from __future__ import annotations

import base64
import os
import random
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

ETHERNET, RAW_IP = 1, (12, 101, 228, 229)  # link types (pcap-linktype(7)); others are not worth a seed
LONGEST_FILE = 32768
PACKETS, CAPTURES = 1200, 40


def captures_folder() -> Path | None:
    named = os.environ.get("IPSEC_CORE_CAPTURES")
    if named:
        return Path(named)
    beside = (parent / "shared" / "captures" for parent in Path(__file__).resolve().parents)
    return next((folder for folder in beside if folder.is_dir()), None)


def packets_of(capture: bytes) -> Iterator[bytes]:
    """The IP packets of a capture in pcap format; of anything else none."""
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(capture[:4])
    if order is None or len(capture) < 24:
        return
    link = struct.unpack_from(order + "I", capture, 20)[0]
    at = 24
    while at + 16 <= len(capture):
        length = struct.unpack_from(order + "I", capture, at + 8)[0]
        frame = capture[at + 16 : at + 16 + length]
        at += 16 + length
        if link == ETHERNET and frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
            yield frame[14:]
        elif link in RAW_IP:
            yield frame


def plain_packets() -> Iterator[bytes]:
    """One of each kind that the data plane treats in its own way."""
    udp, tcp, icmp = struct.pack(">HHHH", 53, 53, 16, 0) + bytes(8), struct.pack(">HH16x", 88, 80), b"\x08\0\0\0ping"
    natt = struct.pack(">HHHHI", 4500, 4500, 20, 0, 0x1040) + bytes(8)
    esp, ah = struct.pack(">II", 0x1040, 1) + bytes(40), struct.pack(">BBHII", 17, 4, 0, 0x1040, 1) + bytes(32)
    for protocol, payload in ((17, udp), (6, tcp), (1, icmp), (17, natt), (50, esp), (51, ah)):
        for options, fragment in ((b"", 0), (b"\x94\x04\0\0", 0), (b"", 0x2000), (b"", 0x4000)):
            ihl, total = 5 + len(options) // 4, 20 + len(options) + len(payload)
            header = struct.pack(">BBHHHBBH", 0x40 | ihl, 0, total, 7, fragment, 64, protocol, 0)
            yield header + bytes([10, 1, 0, 1, 10, 1, 0, 2]) + options + payload
    addresses = bytes([0xFD]) + bytes(14) + b"\1" + bytes([0xFD]) + bytes(14) + b"\2"
    chains: tuple[tuple[tuple[int, bytes], ...], ...] = (
        (),
        ((0, b"\1\4\0\0\0\0"),),
        ((43, b"\0\0\0\0\0\0"),),
        ((60, b"\1\4\0\0\0\0"),),
        ((0, b"\1\4\0\0\0\0"), (60, b"\1\4\0\0\0\0"), (43, b"\0\0\0\0\0\0"), (44, bytes(6)), (60, b"\1\4\0\0\0\0")),
        ((44, b"\0\1\0\0\0\7"),),
    )
    for protocol, payload in ((17, udp), (6, tcp), (58, b"\x80\0\0\0ping"), (17, natt), (50, esp), (51, ah)):
        for chain in chains:
            kinds = [kind for kind, _ in chain] + [protocol]
            headers = b"".join(bytes([kinds[i + 1], 0]) + rest for i, (_, rest) in enumerate(chain))
            length = len(headers) + len(payload)
            yield struct.pack(">IHBB", 0x60000000, length, kinds[0], 64) + addresses + headers + payload


def capture_of(packets: list[bytes]) -> bytes:
    records = (struct.pack("<IIII", i, 0, len(p), len(p)) + p for i, p in enumerate(packets))
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP[1]) + b"".join(records)


def made(rng: random.Random) -> bytes:
    """As make_packet() of kit.h reads it, which makes packets of headers that captures rarely show."""
    bits = rng.randbytes(3)
    count = bits[2] >> 1 & 7
    more = count if bits[2] & 1 else 2 if count & 4 else 0
    return b"\x80\0" + bits + rng.randbytes(more + 2)


def given(packet: bytes) -> bytes:
    """As take_packet() of kit.h reads it."""
    return struct.pack(">HB", min(len(packet), 9216), min(len(packet), 255)) + packet[:255]


def chain(rng: random.Random) -> bytes:
    """As read_chain() of chain.h reads it: mostly one SA, mostly without limits; some with as much as can be behind the
    packet."""
    levels, heavy = rng.choice([1, 1, 1, 2, 3, 4]), rng.randrange(4) == 0
    seed = bytes([1 if levels == 1 else (levels - 1) << 2])
    for _ in range(levels):
        bits, suite = rng.randbytes(2), rng.randbytes(2)
        seed += bytes([bits[0], bits[1] & ~2]) + b"\5\5" if heavy else bits + suite  # ESP, AES-256-CBC, SHA-512
    return seed + (rng.randbytes(2) if rng.randrange(3) == 0 else bytes(2))


def scene(rng: random.Random, packets: list[bytes]) -> bytes:
    """An input of fuzz_inbound: options, chains, filters, steps."""
    seed = rng.randbytes(3) + chain(rng) + chain(rng)
    seed += b"\0" if rng.randrange(2) else bytes([2]) + rng.randbytes(6)
    for packet in rng.choices(
        packets, k=2 * len(packets)
    ):  # flows come again: after changes the cache must not know them
        kind, likely = rng.choice([0, 1, 1, 1, 2, 2]), rng.choice([0, 4, 4, 4])
        way = rng.choice([0, 0, 8, 16, 32, 64, 128])
        seed += bytes([kind | likely | way])
        seed += rng.randbytes(1) if way == 128 else b""
        seed += given(packet) if rng.randrange(3) else made(rng)
        if kind == 1:
            seed += rng.randbytes(3) if way == 16 else rng.randbytes(1) if way == 32 else b""
        if rng.randrange(4) == 0:
            seed += b"\3" + rng.randbytes(3)
    return seed


def ike_messages(packets: list[bytes]) -> list[bytes]:
    """What is in UDP on ports 500 and 4500 of IPv4 packets, without the non-ESP marker."""
    messages = []
    for packet in packets:
        datagram = packet[4 * (packet[0] & 15) :] if packet[:1] > b"\x40" and packet[9:10] == b"\x11" else b""
        ports = struct.unpack(">HH", datagram[:4]) if len(datagram) > 8 else ()
        if 500 in ports:
            messages.append(datagram[8:])
        elif 4500 in ports and datagram[8:12] == bytes(4):
            messages.append(datagram[12:])
    return messages


def reads(messages: list[bytes]) -> Iterator[bytes]:
    """Inputs of fuzz_isakmp: whole messages, and payload chains by themselves."""
    for message in messages:
        yield b"\0" + message
        yield b"\2" + message
        if len(message) > 28 and not message[19] & 1:
            yield b"\1" + message[16:17] + message[28:]


def conversations(rng: random.Random) -> Iterator[bytes]:
    """Inputs of fuzz_responder and fuzz_initiator: all messages as they are (step 0), and one other step in between."""
    for options in (0, 1, 2, 7, 8, 16, 33, 63, 64, 68, 101, 128, 133, 161):
        yield bytes([options]) + bytes(12)
    for step in range(1, 17):
        for before in range(10):
            yield (
                bytes([rng.choice([0, 0, 0, 1, 4, 8, 16, 33, 64, 101, 128, 161])])
                + bytes(before)
                + bytes([step])
                + rng.randbytes(8)
            )


def reg_files() -> Iterator[bytes]:
    """Inputs of fuzz_reg: bodies behind a byte that stands for the head (reg_reader.py), and whole files."""
    policy = (
        r"[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\IPSec\Policy\Local]",
        r'"ActivePolicy"="SOFTWARE\\Policies\\ipsecPolicy{7238523c-70fa-11d1-864c-14a300000000}"',
        "; of a comment \u20ac",
        '@="\u00e4 \\"quoted\\""',
        '"ipsecData"=hex:b8,20,dc,80,\\',
        "  c8,2e,d1,11",
        '"whenChanged"=dword:3a1b2c3d',
        '"ipsecNFAReference"=hex(7):61,00,62,00,00,00,63,00,00,00,00,00',
        '"ImagePath"=hex(2):25,00,00,00',
        '"lines"=hex(1):61,00,0d,00,0a,00,00,00',
        '"wide"=hex(b):00,00,00,00,00,00,00,80',
        '"none"=hex(0):',
        '"gone"=-',
        r"[-HKEY_LOCAL_MACHINE\SOFTWARE\Policies]",
        r"[HKEY_USERS\.DEFAULT]",
    )
    driver = (r"[HKLM\SYSTEM\CurrentControlSet\Services\IPSEC]", '"SAIdleTime"=dword:0000012c', '"x"="two', 'lines"')
    version, old = "Windows Registry Editor Version 5.00", "REGEDIT4"
    for lines in (policy, driver):
        text = "\r\n".join((version, "", *lines, ""))
        yield text.encode()
        yield b"\xef\xbb\xbf" + text.encode()
        yield b"\xff\xfe" + text.encode("utf-16-le")
        yield text.replace(version, old).encode("cp1252")
    bodies = (
        *policy[1:],
        '"SAIdleTime"=dword:1',
        "@=-",
        r"[-HKLM\x]",
        '"x"=hex(4):01,00,00,00',
        '"x"=hex(6):00,00',
        '"x',
    )
    for body in bodies:
        yield b"\1" + body.encode()
        yield b"\3" + body.encode("cp1252")
        yield b"\2" + body.encode("utf-16-le")
    yield b"\4" + "\r\n".join(driver).encode()


def policy_blobs() -> Iterator[bytes]:
    """Inputs of fuzz_blobs: each object of blob_reader.py as it is, plain blobs, and those of a real domain."""
    for number in range(11):
        yield bytes([128 + number])
    policy, permit = "632120224c4fd111863b00a0248d3021", "b920dc80c82ed111a89e00a0248d3021"
    rule, filters = "00acbb118d49d111863900a0248d3021", "b520dc80c82ed111a89e00a0248d3021"
    host, web, kerberos = "0a000001ffffffff", "060000000000500000000000", "01000000 05000000 02000000 0000"
    plain = (
        (0, policy, "302a0000"),
        (5, permit, "00000000"),
        (8, permit, "01000000" + "00000000" * 4 + "01000000 03000000 02000000 02000000" + "00" * 48),
        (2, rule, kerberos + "fdffffff 02000000 0000 0a000001 01000000 01000000 02000000 0000"),
        (2, rule, "01000000 01000000 06000000 610062000000" + "feffffff 02000000 0000" + "00" * 12 + "02000000 0000"),
        (9, filters, "01000000" + "02000000 0000" * 3 + "00" * 16 + "01000000" + host * 2 + "00" * 4 + web),
    )
    for number, kind, text in plain:
        body = bytes.fromhex(text)
        yield bytes([number]) + bytes.fromhex(kind) + struct.pack("<I", len(body)) + body + b"\0"
    root = captures_folder()
    path = root.parent / "reference" / "data" / "ad-ip-security.ldif" if root else None
    if path is not None and path.exists():
        for blob in re.findall(r"^ipsecData:: (\S+)$", path.read_text().replace("\n ", ""), re.MULTILINE):
            for number in (0, 1, 2, 8, 9):
                yield bytes([number]) + base64.b64decode(blob)


def netsh_scripts() -> Iterator[bytes]:
    """Inputs of fuzz_netsh: the commands one by one on what language_reader.py has made, and together."""
    lines = (
        'pushd ipsec static\r\nadd policy name="New" desc="d \\\'q\\\'" mmpfs=yes mmlif=60s assign=y\r\npopd',
        'set policy P newname=N activatedefaultrule=no pollinginterval=5 mmsec="3DES-SHA1-3:600s AES-128-SHA256-19"',
        "set policy Q softsaexpirationtime=600s assign=no\ndelete policy Q",
        "netsh ipsec static add filterlist name=M description=x\nset filterlist M newname=L unique=no",
        "add filter M srca=10.0.0.0 srcmask=255.0.0.0 dsta=me prot=TCP mirr=no srcport=1 dstport=80 dstname=a.example",
        "add filter L host.example any description=n protocol=raw\ndelete filter L me any",
        'add filteraction C qmpfs=y qmpfsgroup=14 inpass=y qmsec="ESP[None,MD5]:5k/9s AH[SHA1]+ESP[AES-256-GCM]"',
        'set filteraction A action=block\nset filteraction B action=negotiate newname=""\ndelete filteraction all',
        'add rule T P L A tunnel=192.0.2.1 conntype=lan description=d kerberos=yes psk=k rootca="CN=x certmap:yes"',
        "set rule R P newname=S tunnel=none\nset rule id=1 policy=P activate=no\ndelete rule all policy=Q",
        "set defaultrule P qmpfs=y activate=n qmsec=AH[MD5] psk=k name=n soft=y actionname=a\nadd rule U P L A",
        "add policy Z\nadd rule V Z L B\nset defaultrule Z\ndelete defaultrule P\nset policy P activatedefaultrule=yes",
        "# comment\nshow all\nset store location=local\nset batch mode=enable\nexit\nrest",
        "set policy Q assign=no\ndelete all\nadd policy P\nset policy {GUID} guid=x",
        "exportpolicy file=x",
        "add rule R P L A",
    )
    for line in lines:
        yield line.encode()
    yield "\n".join(lines[:12]).encode()


def ipsecpol_lines() -> Iterator[bytes]:
    """Inputs of fuzz_ipsecpol: command lines, and the same as a batch file."""
    lines = (
        'ipsecpol -w REG -p "Block UDP 1434:15" -r "In" -f *=0:1434:UDP -n BLOCK -x',
        '-w REG -p P -r R -f 0+10.*::6 (0=host.example) [*=0::1] -n ESP[3DES,SHA]36S/50KP2 AH[MD5]P2 -a P:"k \\"q" C:x',
        "-w REG -p P -r R -t 192.0.2.1 -soft -lan\n-w REG -p P -r R -f 0+10.0.0.1",
        "-w REG -p N -1s 3DES-SHA-3 DES-MD5-1 -1k 10Q/3600S -1e 600 -1p",
        "-w REG -p P -r D -f DEFAULT -n INPASS AH[SHA] -dialup",
        "-w REG -y\n-w REG -p Q -o\n-w REG -p P -x",
        "-f 10.1.0.0/16:500+10.2.0.0/255.255.0.0:500:UDP [0=*] -n PASS -u -confirm",
        "\\\\SRV -w DS:example.com -p P",
        "-w REG -p P -o -f x",
    )
    for line in lines:
        yield line.encode()
        yield b"\1" + "\r\n".join(f"ipsecpol {one}" for one in line.removeprefix("ipsecpol ").split("\n")).encode()
    yield b'\1@echo off\nrem x\n:: y\nipsecpol -w REG -p "50%% ^" -r R ^\n -f 0+* -a P:a^&b >nul 2>&1\npause\nexit\nz'


def write(folder: Path, seeds: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds):
        (folder / f"seed-{i:04}").write_bytes(seed)


def main(folder: Path) -> None:
    rng = random.Random(257225)
    packets = list(plain_packets())
    captures = [capture_of(packets)]
    root = captures_folder()
    for path in sorted(root.rglob("*.[pc]*ap*")) if root else []:
        if path.stat().st_size <= LONGEST_FILE:
            captures.append(path.read_bytes())
            packets += packets_of(captures[-1])
    messages = list(dict.fromkeys(ike_messages(packets)))
    if len(packets) > PACKETS:
        packets = rng.sample(packets, PACKETS)
    fragments = [p for p in packets if len(p) > 7 and (p[6] & 0x3F or p[0] >> 4 == 6)]
    kinds = [bytes([kind]) + rng.randbytes(6) + p[:250] for kind in (1, 2) for p in packets[:: 1 + len(packets) // 100]]
    joined = [
        b"".join(bytes([min(len(p), 255), 1]) + p[:255] for p in fragments[i : i + 4])
        for i in range(0, len(fragments), 4)
    ]
    write(folder / "inbound", [scene(rng, packets[i : i + 4]) for i in range(0, len(packets), 4)])
    write(folder / "frag", kinds + [b"\0" + seed for seed in joined])
    write(folder / "icmp", [bytes([mtu]) + given(p) for mtu in (0, 9) for p in packets[:: 1 + len(packets) // 150]])
    write(folder / "matcher", [rng.randbytes(n) for n in (40, 80, 160, 320, 640)])
    write(folder / "isakmp", list(reads(messages)))
    write(folder / "responder", list(conversations(rng)))
    write(folder / "initiator", list(conversations(rng)))
    write(folder / "blobs", list(policy_blobs()))
    write(folder / "reg", list(reg_files()))
    write(folder / "netsh", list(netsh_scripts()))
    write(folder / "ipsecpol", list(ipsecpol_lines()))
    write(folder / "trace", captures if len(captures) <= CAPTURES else rng.sample(captures, CAPTURES))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
