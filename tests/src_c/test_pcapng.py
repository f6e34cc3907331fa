"""pcapng files of ipc_pcapng_* read back by scapy, tshark and capinfos."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

FRAMES = [  # interface, ns, flags, head length, rest length
    (0, 0, 0, 14, 46),
    (1, 1, 1, 14, 47),
    (0, 1_000_000_007, 2, 18, 48),
    (1, 0x1_0000_0000_1234, 1, 22, 65513),  # scapy reads no longer ones
    (0, 1_700_000_000_123_456_789, 2, 60, 0),
    (0, 1_700_000_000_123_456_789, 2, 0, 61),
]


def write(library: Any, path: Path, application: bytes | None = b"ipsec-core test") -> list[bytes]:
    """The frames' bytes."""
    c, handle, frames = library.c, ctypes.c_void_p(), []
    assert c.ipc_pcapng_create(bytes(path), application, ctypes.byref(handle)) == 0
    assert c.ipc_pcapng_interface(handle, b"ALICE", 10**9) == 0
    assert c.ipc_pcapng_interface(handle, b"BOB link", 10**11) == 1
    for number, (interface, time, flags, head, rest) in enumerate(FRAMES):
        data = random.Random(number).randbytes(head + rest)
        code = c.ipc_pcapng_frame(handle, interface, time, flags, data[:head], head, data[head:], rest)
        assert code == 0
        frames.append(data)
    assert c.ipc_pcapng_close(handle) == 0
    return frames


def run(*command: str | Path) -> str:
    program = str(command[0])
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    # A sanitizer that was loaded into Python is no business of the program.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, env=environment).stdout


def test_scapy_reads_it(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    frames = write(library, path)
    with RawPcapNgReader(str(path)) as reader:
        read = list(reader)
    assert [data for data, _ in read] == frames
    stamps = [(meta.tshigh << 32 | meta.tslow) for _, meta in read]
    assert stamps == [time for _, time, *_ in FRAMES]
    assert {meta.tsresol for _, meta in read} == {10**9}
    assert {meta.linktype for _, meta in read} == {1}
    assert [meta.wirelen for _, meta in read] == list(map(len, frames))


def test_tshark_reads_it(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    frames = write(library, path)
    fields = [
        "frame.interface_id",
        "frame.interface_name",
        "frame.time_epoch",
        "frame.len",
        "frame.packet_flags_direction",
    ]
    text = run("tshark", "-r", path, "-T", "fields", *(x for f in fields for x in ("-e", f)))
    rows = [line.split("\t") for line in text.splitlines()]
    names = ["ALICE", "BOB link"]
    for row, frame, (interface, time, flags, *_) in zip(rows, frames, FRAMES, strict=True):
        assert row[:2] == [str(interface), names[interface]]
        assert row[2] == f"{time // 10**9}.{time % 10**9:09d}"
        assert row[3] == str(len(frame))
        assert (int(row[4], 0) if row[4] else 0) == flags


def test_capinfos_reads_it(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    write(library, path)
    text = run("capinfos", path)
    assert "Wireshark/... - pcapng" in text
    assert "Capture application: ipsec-core test" in text
    assert "Number of packets:   6" in text
    assert "Number of interfaces in file: 2" in text
    assert text.count("Time precision = nanoseconds (9)") == 2
    assert "Speed = 1000000000" in text


def test_same_calls_same_bytes(library: Any, tmp_path: Path) -> None:
    write(library, tmp_path / "1")
    write(library, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("application", [None, b"", b"a", b"ab", b"abc", b"abcd"])
def test_padding_of_texts(library: Any, tmp_path: Path, application: bytes | None) -> None:
    path = tmp_path / "x.pcapng"
    frames = write(library, path, application)
    with RawPcapNgReader(str(path)) as reader:
        assert [data for data, _ in reader] == frames
    assert path.stat().st_size % 4 == 0


def test_own_reader_reads_it(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    write(library, path)
    assert library.trace(path).code == 0


def test_refusals(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    c, handle = library.c, ctypes.c_void_p()
    missing = bytes(tmp_path / "no folder" / "x")
    assert c.ipc_pcapng_create(missing, None, ctypes.byref(handle)) == names.IO
    assert ctypes.get_errno() == errno.ENOENT
    assert c.ipc_pcapng_create(bytes(tmp_path / "x"), b"a" * 65536, ctypes.byref(handle)) == names.INVALID
    assert c.ipc_pcapng_create(bytes(tmp_path / "x"), None, ctypes.byref(handle)) == 0
    assert c.ipc_pcapng_frame(handle, 0, 0, 0, b"", 0, b"", 0) == names.INVALID
    assert c.ipc_pcapng_interface(handle, b"a" * 65536, 1) == names.INVALID
    assert c.ipc_pcapng_interface(handle, None, 1) == 0
    assert c.ipc_pcapng_frame(handle, 1, 0, 0, b"", 0, b"", 0) == names.INVALID
    assert c.ipc_pcapng_frame(handle, 0, 0, 0, b"", 262145, b"", 0) == names.INVALID
    assert c.ipc_pcapng_frame(handle, 0, 0, 0, b"", 1, b"", 0xFFFFFFFF) == names.INVALID
    assert c.ipc_pcapng_close(handle) == 0


def test_full_disk_is_reported(library: Any, names: SimpleNamespace) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    c, handle = library.c, ctypes.c_void_p()
    assert c.ipc_pcapng_create(b"/dev/full", None, ctypes.byref(handle)) == 0
    assert c.ipc_pcapng_interface(handle, b"A", 1) == 0
    data = b"x" * 65000
    codes = [c.ipc_pcapng_frame(handle, 0, 0, 0, data, len(data), b"", 0) for _ in range(40)]
    assert codes[0] == 0
    assert codes[-1] == names.IO
    assert codes == sorted(codes, reverse=True)
    assert c.ipc_pcapng_close(handle) == names.IO
    assert ctypes.get_errno() == errno.ENOSPC


def test_closing_reports_what_only_the_last_write_shows(library: Any, names: SimpleNamespace) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    handle = ctypes.c_void_p()
    assert library.c.ipc_pcapng_create(b"/dev/full", None, ctypes.byref(handle)) == 0
    assert library.c.ipc_pcapng_close(handle) == names.IO
    assert ctypes.get_errno() == errno.ENOSPC
