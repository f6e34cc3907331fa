"""libreswan's pluto in a namespace. Its Debian package conflicts with strongSwan's, so it is only unpacked."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from charon import KernelSa, kernel_sas
from namespaces import OUR_ADDRESS, PEER_ADDRESS, Namespace, Namespaces, Program, wait_until

PRESHARED_KEY = "a key for the peers"
ROOT = Path(os.environ.get("LIBRESWAN_ROOT", Path(__file__).resolve().parents[2] / "build" / "libreswan"))
PROGRAMS = ROOT / "usr" / "libexec" / "ipsec"


class Pluto:
    """One connection, named "link", with our computer. Runs from `start` to the end of the namespaces.

    The SAs go nowhere but into `sas` (`shim`: xfrm_shim.c as a shared object).
    """

    def __init__(self, lab: Namespaces, space: Namespace, folder: Path, shim: Path) -> None:
        self.lab, self.space, self.folder, self.shim = lab, space, folder, shim
        self._commands = 0
        self._program: Program

    def start(self, connection: Mapping[str, str], preshared_key: str = PRESHARED_KEY) -> None:
        """`connection`: settings of ipsec.conf beyond those of every test here."""
        for name in ("nss", "d"):
            (self.folder / name).mkdir()
        settings = {
            "ikev2": "no",
            "authby": "secret",
            "left": PEER_ADDRESS,
            "right": OUR_ADDRESS,
            "auto": "add",
            "rekey": "no",
            "leftupdown": "%disabled",
            **connection,
        }
        setup = {"protostack": "xfrm", "ikev1-policy": "accept"}
        configuration = self.folder / "ipsec.conf"
        sections = [("config setup", setup), ("conn link", settings)]
        configuration.write_text(
            "".join(
                f"{head}\n" + "".join(f"\t{name}={value}\n" for name, value in entries.items())
                for head, entries in sections
            )
        )
        secrets = self.folder / "ipsec.secrets"
        secrets.write_text(f'{PEER_ADDRESS} {OUR_ADDRESS} : PSK "{preshared_key}"\n')
        self.lab.run(self.space, "certutil", "-N", "-d", f"sql:{self.folder}/nss", "--empty-password")
        pluto = [
            *(str(PROGRAMS / "pluto"), "--nofork", "--stderrlog", "--config", str(configuration)),
            *("--rundir", "/run/pluto", "--ipsecdir", str(self.folder / "d"), "--nssdir", str(self.folder / "nss")),
            *(
                "--secretsfile",
                str(secrets),
                "--no-dnssec",
                "--use-xfrm",
                "--nhelpers",
                "0",
                "--debug",
                "crypt,private",
            ),
        ]
        # It looks for its helpers in /usr/libexec, and its /run is nobody else's.
        script = (
            "mount -t tmpfs tmpfs /run && mkdir /run/pluto && "
            f"mount -t overlay overlay -o lowerdir={shlex.quote(str(ROOT / 'usr' / 'libexec'))}:/usr/libexec "
            f"/usr/libexec && LD_PRELOAD={shlex.quote(str(self.shim))} exec {shlex.join(pluto)}"
        )
        log = {"XFRM_SHIM_LOG": str(self.folder / "sas.jsonl")}
        self._program = self.lab.start(self.space, ("sh", "-c", script), "pluto", **log)
        wait_until(lambda: self.said("listening for IKE messages|adding UDP interface") or self._ready(), "pluto")
        assert "listening" in self.whack("--listen")
        added = self._inside(
            PROGRAMS / "addconn", "--config", configuration, "--ctlsocket", "/run/pluto/pluto.ctl", "link"
        )
        wait_until(lambda: self.said('"link": added'), f"pluto's connection ({added})")

    def _ready(self) -> bool:
        """Whether the control socket is there, in the program's own /run."""
        return Path(f"/proc/{self._program.process.pid}/root/run/pluto/pluto.ctl").exists()

    def _command(self, *words: str | Path) -> list[str]:
        return ["nsenter", "-t", str(self._program.process.pid), "-m", *map(str, words)]

    def _inside(self, *words: str | Path) -> str:
        return self.lab.run(self.space, *self._command(*words))

    def whack(self, *words: str) -> str:
        return self._inside(PROGRAMS / "whack", *words)

    def initiate(self) -> Program:
        self._commands += 1
        words = self._command(PROGRAMS / "whack", "--initiate", "--name", "link")
        return self.lab.start(self.space, words, f"whack{self._commands}")

    @property
    def log(self) -> str:
        return self._program.output

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.log) is not None

    @property
    def sas(self) -> dict[tuple[int, int], KernelSa]:
        return kernel_sas(self.folder / "sas.jsonl")
