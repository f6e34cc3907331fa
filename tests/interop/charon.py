"""strongSwan's charon in a namespace, with everything that it writes in a folder of its own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from namespaces import OUR_ADDRESS, PEER_ADDRESS, Namespace, Namespaces, Program, wait_until

CHARON = Path("/usr/lib/ipsec/charon")
PRESHARED_KEY = "a key for the peers"
PLUGINS = (
    "random nonce pem pkcs1 pkcs8 x509 pubkey constraints openssl hmac kdf xcbc gcm drbg revocation {kernel}"
    "kernel-netlink socket-default vici updown"
)


@dataclass(frozen=True)
class Connection:
    """One entry of swanctl.conf: `settings` of the connection, of its `child`, of the two ends.

    Values are text as in the file.
    """

    settings: Mapping[str, str]
    child: Mapping[str, str]
    local: Mapping[str, str] = field(default_factory=lambda: {"auth": "psk", "id": PEER_ADDRESS})
    remote: Mapping[str, str] = field(default_factory=lambda: {"auth": "psk", "id": OUR_ADDRESS})
    preshared_key: str = PRESHARED_KEY


def connection(ike: str, esp: str = "", *, ah: str = "", mode: str = "transport", **rest: Any) -> Connection:
    """`ike`, `esp` and `ah` are strongSwan's proposals; tunnels are between the hosts behind the two ends."""
    child = {"mode": mode, **rest.pop("child", {})}
    child |= {name: value for name, value in (("esp_proposals", esp), ("ah_proposals", ah)) if value}
    settings = {"version": "1", "local_addrs": PEER_ADDRESS, "remote_addrs": OUR_ADDRESS, "proposals": ike}
    return Connection(settings | rest.pop("settings", {}), child, **rest)


def _section(name: str, content: Mapping[str, Any]) -> str:
    lines = [
        _section(key, value) if isinstance(value, Mapping) else f'{key} = "{value}"' for key, value in content.items()
    ]
    return "\n".join([f"{name} {{", *lines, "}"])


@dataclass(frozen=True)
class KernelSa:
    """An SA as the daemon handed it to the kernel."""

    spi: int
    protocol: int
    source: str
    destination: str
    tunnel: bool
    encryption: str
    encryption_key: bytes
    integrity: str
    integrity_key: bytes
    integrity_bits: int
    udp: tuple[int, int] | None


def kernel_sas(log: Path) -> dict[tuple[int, int], KernelSa]:
    """What the netlink shim wrote down, by (protocol, SPI), without those deleted since."""
    found: dict[tuple[int, int], KernelSa] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        entry = json.loads(line)
        name = entry["protocol"], entry["spi"]
        if entry["event"] == "delete":
            found.pop(name, None)
            continue
        nothing = {"name": "", "key": "", "icv_bits": 0}
        encryption, integrity = entry.get("encryption", nothing), entry.get("integrity", nothing)
        found[name] = KernelSa(
            entry["spi"],
            entry["protocol"],
            entry["source"],
            entry["destination"],
            entry["tunnel"],
            encryption["name"],
            bytes.fromhex(encryption["key"]),
            integrity["name"],
            bytes.fromhex(integrity["key"]),
            integrity["icv_bits"],
            tuple(entry["udp"]) if "udp" in entry else None,
        )
    return found


class Charon:
    """Runs from `start` to the end of the namespaces.

    With `shim` (a shared object made of xfrm_shim.c) the SAs go nowhere but into `sas`; without, kernel-libipsec
    carries ESP in UDP itself.
    """

    def __init__(self, lab: Namespaces, space: Namespace, folder: Path, shim: Path | None) -> None:
        self.lab, self.space, self.folder, self.shim = lab, space, folder, shim
        self._swanctl = folder / "swanctl"
        for name in ("x509", "x509ca", "private"):
            (self._swanctl / name).mkdir(parents=True)
        self._log = folder / "charon.log"
        self._vici = f"unix://{folder}/vici"
        self._commands = 0
        self._env: dict[str, str] = {}
        self._program: Program

    def start(self, *connections: Connection, options: Mapping[str, Any] | None = None) -> None:
        levels = {"default": "1", "ike": "4", "chd": "4", "knl": "2", "flush_line": "yes", "time_format": "%T"}
        charon: dict[str, Any] = {
            "load": PLUGINS.format(kernel="" if self.shim else "kernel-libipsec "),
            "install_virtual_ip": "no",
            "retransmit_tries": "2",
            "retransmit_timeout": "2",
            "filelog": {"log": {"path": str(self._log), **levels}},
            # The SPIs that it reserves in the kernel never become SAs there, and must not expire in a test.
            "plugins": {"vici": {"socket": self._vici}, "kernel-netlink": {"xfrm_acq_expires": "3600"}},
            **(options or {}),
        }
        tool = {"load": "pem pkcs1 x509 pkcs8 pubkey openssl random"}
        configuration = self.folder / "strongswan.conf"
        configuration.write_text("\n".join([_section("charon", charon), _section("swanctl", tool), ""]))
        self._env = {"STRONGSWAN_CONF": str(configuration), "SWANCTL_DIR": str(self._swanctl)}
        # charon's process id file is /run/charon.pid, whatever the configuration: it gets a /run of its own.
        preload = f"LD_PRELOAD={shlex.quote(str(self.shim))} " if self.shim else ""
        script = f"mount -t tmpfs tmpfs /run && {preload}exec {CHARON}"
        more = {"XFRM_SHIM_LOG": str(self.folder / "sas.jsonl")}
        self._program = self.lab.start(self.space, ("sh", "-c", script), "charon", **self._env, **more)
        wait_until((self.folder / "vici").exists, f"charon ({self._program.output})")
        self.configure(*connections)

    def configure(self, *connections: Connection) -> None:
        """Replaces all connections and secrets; the child of connection number 0 is child0, and so on."""
        ends = {
            f"connection{number}": {
                **item.settings,
                "local": item.local,
                "remote": item.remote,
                "children": {f"child{number}": item.child},
            }
            for number, item in enumerate(connections)
        }
        secrets = {
            f"ike{number}": {"id": item.remote["id"], "secret": item.preshared_key}
            for number, item in enumerate(connections)
            if item.remote["auth"] == "psk"
        }
        text = "\n".join([_section("connections", ends), _section("secrets", secrets), ""])
        (self._swanctl / "swanctl.conf").write_text(text)
        said = self.swanctl("--load-all")
        assert f"successfully loaded {len(connections)} connections" in said, said

    def credentials(self, certificate: Path, key: Path, root: Path) -> None:
        """Before `start`: PEM files."""
        for path, name in ((certificate, "x509/own.pem"), (key, "private/own.pem"), (root, "x509ca/root.pem")):
            (self._swanctl / name).write_bytes(path.read_bytes())

    def command(self, *words: str) -> Program:
        """swanctl, under way: our end has to do its part meanwhile."""
        self._commands += 1
        command = ("swanctl", *words, "--uri", self._vici)
        return self.lab.start(self.space, command, f"swanctl{self._commands}", **self._env)

    def swanctl(self, *words: str) -> str:
        """What it prints."""
        program = self.command(*words)
        wait_until(lambda: program.ended, "swanctl " + " ".join(words))
        return program.output

    def initiate(self, child: str = "child0", seconds: int = 10) -> Program:
        return self.command("--initiate", "--child", child, "--timeout", str(seconds))

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.log) is not None

    def lines(self, pattern: str) -> list[str]:
        """Those of the log in which it is found."""
        return [line for line in self.log.splitlines() if re.search(pattern, line)]

    def secret(self, name: str) -> bytes:
        """The last hexadecimal dump with this heading ("encryption key Ka", "SKEYID_d") in the log."""
        found = list(re.finditer(rf"\] {re.escape(name)} => (\d+) bytes @ .*\n((?:.*\] +\d+: .*\n)+)", self.log))
        assert found, f"no {name} in the log"
        rows = re.findall(r"\] +\d+: ((?:[0-9A-F]{2} ?)+)", found[-1][2])
        data = bytes.fromhex("".join(rows).replace(" ", ""))
        return data[: int(found[-1][1])]

    @property
    def sas(self) -> dict[tuple[int, int], KernelSa]:
        return kernel_sas(self.folder / "sas.jsonl")
