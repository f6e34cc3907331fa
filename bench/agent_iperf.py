"""iperf3 through two agents, beside two strongSwan charons with kernel-libipsec, in the same namespaces and run.

    sudo .venv/bin/python bench/agent_iperf.py [--seconds 5] [--rounds 3] [--json]

Two network namespaces joined by a veth pair; a tunnel between 10.81.0.1 and 10.82.0.1, one TCP stream from the first to
the second. kernel-libipsec knows ESP in UDP only; ours is measured with it, and with plain ESP. The three take turns,
and the round with the median ratio is reported. Needs root, iperf3 and the packages strongswan-charon,
strongswan-swanctl and libcharon-extra-plugins.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SPACES = ("lva_left", "lva_right")
OUTER = ("10.80.0.1", "10.80.0.2")
INNER = ("10.81.0.1", "10.82.0.1")
CHARON = "/usr/lib/ipsec/charon"
SECRET = "a preshared key of the bench"
# Name, IKE and ESP in strongSwan's words, main mode and security method in ours.
SUITES = {
    "AES-128-GCM": ("3des-sha1-modp1024", "aes128gcm16", "3DES-SHA1-2", "ESP[AES-128-GCM]"),
    "3DES-SHA1": ("3des-sha1-modp1024", "3des-sha1", "3DES-SHA1-2", "ESP[3DES,SHA1]"),
}
PLUGINS = (
    "random nonce pem pkcs1 x509 pubkey openssl hmac kdf gcm drbg kernel-libipsec kernel-netlink socket-default vici"
)


@dataclass(frozen=True)
class Flow:
    """What iperf3 says: Mbit/s that arrived, TCP segments sent again."""

    mbits: float
    retransmissions: int


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return str(done.stdout)


def inside(side: int, *command: str) -> list[str]:
    return ["ip", "netns", "exec", SPACES[side], *command]


@contextlib.contextmanager
def namespaces() -> Iterator[None]:
    for space in SPACES:
        subprocess.run(["ip", "netns", "del", space], capture_output=True)
        run("ip", "netns", "add", space)
    try:
        run("ip", "link", "add", "lva0", "netns", SPACES[0], "type", "veth", "peer", "name", "lva1", "netns", SPACES[1])
        for side, space in enumerate(SPACES):
            run("ip", "-n", space, "address", "add", f"{OUTER[side]}/24", "dev", f"lva{side}")
            run("ip", "-n", space, "address", "add", f"{INNER[side]}/32", "dev", "lo")
            for device in ("lo", f"lva{side}"):
                run("ip", "-n", space, "link", "set", device, "up")
        yield
    finally:
        for space in SPACES:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


@contextlib.contextmanager
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield started
    finally:
        for one in started:
            one.send_signal(signal.SIGTERM)
        for one in started:
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def wait_for(what: str, ready: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        if time.monotonic() > end:
            sys.exit(f"{what}: not ready after {seconds:.0f} s")
        time.sleep(0.05)


def measure(seconds: int) -> Flow:
    """One TCP stream between the inner addresses, when they can reach each other."""
    wait_for(
        "tunnel",
        lambda: (
            not subprocess.run(
                inside(0, "ping", "-c", "1", "-W", "1", "-I", INNER[0], INNER[1]), capture_output=True
            ).returncode
        ),
    )
    with processes() as started:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(inside(1, "iperf3", "-s", "-B", INNER[1]), **quiet))
        time.sleep(0.5)
        text = run(*inside(0, "iperf3", "-c", INNER[1], "-B", INNER[0], "-t", str(seconds), "-J"))
    end = json.loads(text)["end"]
    return Flow(round(end["sum_received"]["bits_per_second"] / 1e6, 1), end["sum_sent"]["retransmits"])


# --- ours ---


def policy(side: int, exchange: str, method: str) -> str:
    here, there = side, 1 - side
    rule = """
[[rules]]
name = "{name}"
filters = [{{ source = "{source}", destination = "{destination}" }}]
action = {{ negotiate = ["{method}"] }}
authentication = [{{ preshared_key = "{secret}" }}]
tunnel_endpoint = "{end}"
"""
    ways = (("There", here, there), ("Here", there, here))
    rules = (
        rule.format(name=n, source=INNER[a], destination=INNER[b], method=method, secret=SECRET, end=OUTER[b])
        for n, a, b in ways
    )
    return f'name = "Bench"\nkey_exchange = {{ methods = ["{exchange}"] }}\n' + "".join(rules)


def ours(folder: Path, suite: str, seconds: int, *arguments: str) -> Flow:
    _, _, exchange, method = SUITES[suite]
    with processes() as started:
        for side in (0, 1):
            file = folder / f"policy{side}.toml"
            file.write_text(policy(side, exchange, method))
            state = folder / f"state{side}"
            command = [sys.executable, "-c", "from ipsec_core.tools.main import main; main()", "agent"]
            command += ["--state", str(state), "--policy", str(file), "--listen", OUTER[side], "--profile", "modern"]
            started.append(subprocess.Popen(inside(side, *command, *arguments), stderr=subprocess.PIPE))
        for one in started:
            assert one.stderr
            line = one.stderr.readline().decode()
            if "listening" not in line:
                sys.exit(line.strip())
        return measure(seconds)


# --- strongSwan's ---


def strongswan(folder: Path, suite: str, seconds: int) -> Flow:
    ike, esp, _, _ = SUITES[suite]
    with processes() as started:
        for side in (0, 1):
            place = folder / f"charon{side}"
            shutil.rmtree(place, ignore_errors=True)
            (place / "swanctl").mkdir(parents=True)
            (place / "strongswan.conf").write_text(
                f"charon {{\n  load = {PLUGINS}\n  plugins {{\n    vici {{ socket = unix://{place}/vici.sock }}\n  }}\n"
                f"  filelog {{ log {{\n    path = {place}/log\n    default = 1\n  }} }}\n}}\n"
                "swanctl { load = pem pkcs1 x509 openssl random }\n"
            )
            other = 1 - side
            (place / "swanctl" / "swanctl.conf").write_text(
                f"connections {{ bench {{\n  version = 1\n  local_addrs = {OUTER[side]}\n"
                f"  remote_addrs = {OUTER[other]}\n"
                f"  proposals = {ike}\n  local {{\n    auth = psk\n  }}\n  remote {{\n    auth = psk\n  }}\n"
                f"  children {{ net {{\n    mode = tunnel\n    esp_proposals = {esp}\n"
                f"    local_ts = {INNER[side]}/32\n    remote_ts = {INNER[other]}/32\n  }} }}\n}} }}\n"
                f'secrets {{ ike-bench {{\n  secret = "{SECRET}"\n}} }}\n'
            )
            script = f"mount -t tmpfs tmpfs /run; exec {CHARON}"
            environment = os.environ | {"STRONGSWAN_CONF": str(place / "strongswan.conf")}
            started.append(
                subprocess.Popen(
                    inside(side, "bash", "-c", script),
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        for side in (0, 1):
            wait_for("charon", (folder / f"charon{side}" / "vici.sock").exists)
            swanctl(folder, side, "--load-all")
        swanctl(folder, 0, "--initiate", "--child", "net", "--timeout", "15")
        return measure(seconds)


def swanctl(folder: Path, side: int, *arguments: str) -> None:
    place = folder / f"charon{side}"
    environment = os.environ | {
        "STRONGSWAN_CONF": str(place / "strongswan.conf"),
        "SWANCTL_DIR": str(place / "swanctl"),
    }
    run("swanctl", *arguments, "--uri", f"unix://{place}/vici.sock", env=environment)


def measure_all(folder: Path, suite: str, seconds: int) -> dict[str, Flow]:
    return {
        "ESP in UDP": ours(folder, suite, seconds, "--udp"),
        "plain ESP": ours(folder, suite, seconds),
        "strongSwan": strongswan(folder, suite, seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", choices=SUITES, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name, namespaces():
        folder = Path(name)
        for suite in options.suite or SUITES:
            rounds = [measure_all(folder, suite, options.seconds) for _ in range(options.rounds)]
            median = sorted(rounds, key=lambda flows: flows["ESP in UDP"].mbits / flows["strongSwan"].mbits)
            flows = median[(len(median) - 1) // 2]
            for name, flow in flows.items():
                ratio = round(flow.mbits / flows["strongSwan"].mbits, 2)
                rows.append({"suite": suite, "who": name, **asdict(flow), "ratio": ratio})
                if not options.json:
                    print(
                        f"{suite:12} {name:12} {flow.mbits:8.1f} Mbit/s  {flow.retransmissions:6} segments sent again  "
                        f"{ratio:5.2f} times strongSwan",
                        flush=True,
                    )
    if options.json:
        json.dump(rows, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
