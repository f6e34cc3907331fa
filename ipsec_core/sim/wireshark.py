"""Keys for Wireshark, in the formats of its own tables.

Those are `esp_sa` and `ikev1_decryption_table` of its configuration folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ipsec_core.computer.associations import KeyRecord


def write_esp_sa(path: Path, records: Iterable[KeyRecord]) -> None:
    """One line an SA; each SA once, although both ends know it."""
    lines: dict[str, None] = {}
    for sa in records:
        key = f"0x{sa.integrity_key.hex()}" if sa.integrity_key else ""
        fields = (
            "IPv4",
            str(sa.source),
            str(sa.destination),
            f"0x{sa.spi:08x}",
            sa.encryption,
            f"0x{sa.encryption_key.hex()}",
            sa.integrity,
            key,
        )
        lines[",".join(f'"{field}"' for field in fields)] = None
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def write_ikev1_table(path: Path, keys: Iterable[tuple[bytes, bytes]]) -> None:
    """Initiator cookie and cipher key of each Main Mode, hexadecimal and unquoted as Wireshark wants them."""
    lines = dict.fromkeys(f"{cookie.hex()},{key.hex()}" for cookie, key in keys)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
