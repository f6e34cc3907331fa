"""tshark as the judge of a captured exchange: everything that was encrypted has to be readable with our keys."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from our_computer import OurComputer

from ipsec_core.ike.iana import PayloadType
from ipsec_core.sim.wireshark import write_esp_sa, write_ikev1_table

FIELDS = (
    "frame.number",
    "ip.src",
    "udp.srcport",
    "udp.dstport",
    "udp.payload",
    "_ws.col.Protocol",
    "isakmp.exchangetype",
    "isakmp.flag_e",
    "isakmp.typepayload",
    "esp.spi",
    "esp.icv_good",
    "_ws.malformed",
    "_ws.expert.message",
)
PREFERENCES = ("esp.enable_encryption_decode", "esp.enable_authentication_check")
# With the wrong key the bytes of these would be noise, and the chain would soon lead nowhere.
READABLE = ((PayloadType.IDENTIFICATION,), (PayloadType.HASH,))
MAIN_MODE, INFORMATIONAL, QUICK_MODE = "2", "5", "32"


@dataclass(frozen=True)
class Frame:
    """`exchange` is None for what is no IKE."""

    number: int
    source: str
    ports: tuple[int, ...]
    data: str
    exchange: str | None
    encrypted: bool
    payloads: tuple[int, ...]
    spi: str
    authentic: bool
    malformed: bool
    expert: str


TABLES = ("esp_sa", "ikev1_decryption_table")


def frames(capture: Path, folder: Path, display: str = "") -> list[Frame]:
    """The frames that pass the display filter, as tshark sees them with the tables in `folder`."""
    wanted = [word for field in FIELDS for word in ("-e", field)]
    switches = [word for name in PREFERENCES for word in ("-o", f"{name}:TRUE")]
    switches += ["-Y", display] if display else []
    done = subprocess.run(
        ["tshark", "-n", "-r", str(capture), *switches, "-T", "fields", "-E", "separator=/t", *wanted],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "WIRESHARK_CONFIG_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return [_frame(dict(zip(FIELDS, line.split("\t"), strict=True))) for line in done.stdout.splitlines()]


def _frame(row: dict[str, str]) -> Frame:
    return Frame(
        int(row["frame.number"]),
        row["ip.src"].partition(",")[0],
        tuple(int(row[name].partition(",")[0]) for name in ("udp.srcport", "udp.dstport") if row[name]),
        row["udp.payload"],
        row["isakmp.exchangetype"] or None,
        row["isakmp.flag_e"] in ("1", "True"),
        tuple(int(item) for item in row["isakmp.typepayload"].split(",") if item),
        row["esp.spi"],
        row["esp.icv_good"] in ("1", "True"),
        bool(row["_ws.malformed"]),
        row["_ws.expert.message"],
    )


def messages(seen: Iterable[Frame], exchange: str) -> int:
    """How many messages an exchange type had, those that were sent again counted once."""
    return len({frame.data for frame in seen if frame.exchange == exchange})


def check(capture: Path, computers: Iterable[OurComputer], folder: Path) -> list[Frame]:
    """With the keys of `computers`: as `readable`, for all frames. The tables are written into `folder`."""
    owners = list(computers)
    folder.mkdir()
    write_esp_sa(folder / TABLES[0], (record for owner in owners for record in owner.computer.keys))
    write_ikev1_table(folder / TABLES[1], (pair for owner in owners for pair in owner.computer.ike_keys))
    return readable(capture, folder)


def readable(capture: Path, folder: Path, display: str = "") -> list[Frame]:
    """Every IKE message makes sense, every ESP packet has a right ICV; returns the frames."""
    seen = frames(capture, folder, display)
    known: set[str] = set()
    for frame in seen:
        if frame.exchange and frame.data in known:
            continue  # tshark decrypts what is sent again with the IV of what came in between
        known.add(frame.data)
        assert not frame.malformed, frame
        if frame.encrypted:
            assert frame.payloads[:1] in READABLE, frame
            assert set(frame.payloads) <= set(PayloadType), frame
        assert frame.authentic or not frame.spi, frame
    return seen
