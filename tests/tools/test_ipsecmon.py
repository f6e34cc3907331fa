"""The screen of IP Security Monitor: boxes, order and words of KB 257225, at every width."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.computer.state import State
from ipsec_core.tools.monitor_screen import COLUMNS

IPSEC = (
    "Active Associations",
    "Confidential Bytes Sent",
    "Confidential Bytes Received",
    "Authenticated Bytes Sent",
    "Authenticated Bytes Received",
    "Bad SPI Packets",
    "Packets Not Decrypted",
    "Packets Not Authenticated",
    "Key Additions",
)
OAKLEY = ("Oakley main modes", "Oakley quick mode", "Soft Associations", "Authentication failures")

SCREEN = """\
╭─ IP Security Monitor: ALICE at 2.500000 s ───────────────────────────────────╮
│ Policy Name      Security            Source Address               Src. Port  │
│ Filter Name      Tunnel Endpoint     Dest. Address     Protocol   Dest. Port │
│ ──────────────────────────────────────────────────────────────────────────── │
│ Lab [policy]     ESP[3DES,SHA1]      10.0.0.1          any        any        │
│ to BOB           none                10.0.0.2                     any        │
│                                                                              │
│ Lab [policy]     ESP[AES-128-GCM]    10.1.0.0/16       tcp        1234       │
│ branch           192.0.2.2           10.2.0.0/16                  443        │
│                                                                              │
│ Lab [policy]     None                10.0.0.1          any        any        │
│ soft one         none                10.0.0.9                     any        │
╰──────────────────────────────────────────────────────────────────────────────╯
╭─ IPSEC Statistics ───────────────────────────╮╭─ ISAKMP/Oakley Statistics ───╮
│ Active Associations                      101 ││ Oakley main modes        110 │
│ Confidential Bytes Sent                  102 ││ Oakley quick mode        111 │
│ Confidential Bytes Received              103 ││ Soft Associations        112 │
│ Authenticated Bytes Sent                 104 ││ Authentication failures  113 │
│ Authenticated Bytes Received             105 ││                              │
│ Bad SPI Packets                          106 ││                              │
│ Packets Not Decrypted                    107 ││                              │
│ Packets Not Authenticated                108 ││                              │
│ Key Additions                            109 ││ IP Security is enabled       │
╰──────────────────────────────────────────────╯╰──────────────────────────────╯
"""


def _narrow(screen: str) -> str:
    """Without the width of the gaps, which is rich's to choose."""
    return re.sub(" +", " ", screen)


def _words(screen: str) -> list[list[str]]:
    """The cells of each line: what two spaces or a frame separate."""
    return [re.split(r"\s*[│╮╭]+\s*|\s{2,}", line.strip("│╭╮╰╯ ")) for line in screen.splitlines()]


def test_the_screen_at_80_columns(call: Any, alice: Path) -> None:
    assert _narrow(call("ipsecmon", alice, "--once").stdout) == _narrow(SCREEN)


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_no_line_is_longer_than_the_screen(call: Any, alice: Path, columns: int) -> None:
    lines = call("ipsecmon", alice, columns=columns).stdout.splitlines()
    assert {len(line) for line in lines} == {columns}


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_order_and_words_are_those_of_the_article(call: Any, alice: Path, columns: int) -> None:
    text = call("ipsecmon", alice, columns=columns).stdout
    for number, label in enumerate(IPSEC + OAKLEY, 101):
        assert re.search(rf"│ {label} +{number} │", text), label
    for box in (IPSEC, OAKLEY):
        places = [text.index(f"│ {label} ") for label in box]
        assert places == sorted(places)


def test_nine_columns_in_order_where_they_fit(call: Any, alice: Path) -> None:
    lines = _words(call("ipsecmon", alice, columns=140).stdout)
    assert lines[1] == list(COLUMNS)
    assert lines[3] == ["Lab [policy]", "ESP[3DES,SHA1]", "to BOB", "10.0.0.1", "10.0.0.2", *["any"] * 3, "none"]
    assert lines[4][5:] == ["tcp", "1234", "443", "192.0.2.2"]
    assert lines[5][1] == "None"


def test_long_names_are_cut_and_nothing_else(call: Any, alice: Path) -> None:
    with State.open(alice, readonly=False) as state:
        state.save_associations([replace(item, policy_name="A very long name " * 5) for item in state.associations()])
    text = call("ipsecmon", alice).stdout
    assert len(re.findall(r"│ A very long [a-zA-Z ]*… ", text)) == 3
    for whole in ("ESP[AES-128-GCM]", "192.0.2.2", "10.1.0.0/16", "10.2.0.0/16"):
        assert whole in text


def test_a_computer_without_policy(call: Any, bob: Path) -> None:
    text = call("ipsecmon", bob, "--once").stdout
    assert "No security associations." in text
    assert "IP Security is not enabled" in text
    assert re.search(r"Key Additions +0 │", text)


def test_json(call: Any, alice: Path) -> None:
    document = json.loads(call("ipsecmon", alice, "--json").stdout)
    assert list(document) == [
        "computer",
        "time",
        "ip_security_enabled",
        "associations",
        "ipsec_statistics",
        "oakley_statistics",
    ]
    assert (document["computer"], document["time"], document["ip_security_enabled"]) == ("ALICE", 2.5, True)
    assert list(document["ipsec_statistics"].values()) == list(range(101, 110))
    assert list(document["oakley_statistics"].values()) == list(range(110, 114))
    hard, tunnel, soft = document["associations"]
    assert hard["security"] == "ESP[3DES,SHA1]"
    assert tunnel["tunnel_endpoint"] == "192.0.2.2"
    assert (soft["security"], soft["soft"], soft["spi"]) == ("None", True, 0)


@pytest.mark.parametrize("interval", ["0", "-1", "soon", "nan"])
def test_wrong_intervals(refused: Callable[..., str], alice: Path, interval: str) -> None:
    assert refused("ipsecmon", alice, "--interval", interval).startswith("ipsec-core ipsecmon: Invalid value for '--in")


def test_on_a_terminal_it_follows_the_state_until_interrupted(program: list[str], alice: Path) -> None:
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "23"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*program, "ipsecmon", str(alice), "--interval", "0.1"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
        # A shell without job control starts what runs in its background with SIGINT ignored, and so all below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(slave)
    try:
        first = _until(master, "Key Additions")
        assert "and 1 more associations" in first, "23 lines have no room for three"
        assert "Authentication failures" in first
        with State.open(alice, readonly=False) as state:
            state.save_counters({"key_additions": 54321})
        _until(master, "54 321")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _until(terminal: int, text: str) -> str:
    """What the terminal shows up to a text; fails when nothing more comes."""
    shown = ""
    while text not in shown:
        assert select.select([terminal], [], [], 30)[0], f"{text!r} did not come after {shown!r}"
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
