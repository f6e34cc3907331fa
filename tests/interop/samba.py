"""A Samba domain controller (Active Directory) in a namespace, with its own default IPsec policies."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from interop_kit import need
from namespaces import PEER_ADDRESS, Namespaces, wait_until
from tls_files import TlsFiles

HOST, DOMAIN, REALM = "dc1.ad.lab.test", "DC=ad,DC=lab,DC=test", "AD.LAB.TEST"
ADMINISTRATOR, PASSWORD = f"CN=Administrator,CN=Users,{DOMAIN}", "Lab-Passw0rd!"
PRINCIPAL = f"Administrator@{REALM}"
SERVICES = "ldap,cldap,kdc,rpc,drepl,winbindd,ntp_signd"
CLIENT = f"""
[libdefaults]
  default_realm = {REALM}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  {REALM} = {{
    kdc = {PEER_ADDRESS}
  }}
[domain_realm]
  .ad.lab.test = {REALM}
"""


class Samba:
    """Made and running after `start`; ends with the namespaces. `keytab` has the key of PRINCIPAL."""

    def __init__(self, lab: Namespaces, tls: TlsFiles) -> None:
        need(shutil.which("samba") is not None and shutil.which("samba-tool") is not None, "Samba")
        self.lab, self.tls = lab, tls
        self.folder = lab.folder / "samba"
        self.keytab = lab.folder / "administrator.keytab"
        self.krb5 = lab.folder / "krb5.conf"
        self.krb5.write_text(CLIENT)

    def start(self) -> None:
        # Nothing of it has to survive.
        self._tool("domain", "provision", "--option=ldb:nosync=true",
                   f"--targetdir={self.folder}", f"--realm={REALM}", "--domain=ADLAB",
                   "--server-role=dc", "--host-name=dc1", f"--host-ip={PEER_ADDRESS}", "--dns-backend=NONE",
                   f"--adminpass={PASSWORD}", f"--option=interfaces=lo {PEER_ADDRESS}/24",
                   "--option=bind interfaces only=yes")  # fmt: skip
        self._tool("spn", "add", f"ldap/{HOST}", "DC1$", *self._database())
        self._tool("domain", "exportkeytab", self.keytab, f"--principal={PRINCIPAL}", "-s", self._configuration)
        for name, file in (("ca", self.tls.authority), ("cert", self.tls.certificate), ("key", self.tls.key)):
            shutil.copy2(file, self.folder / "private" / "tls" / f"{name}.pem")
        options = {"server services": SERVICES, "server role check:inhibit": "yes", "ldb:nosync": "true"}
        words = ["samba", "-i", "-M", "single", "-s", self._configuration]
        words += [f"--option={name}={value}" for name, value in options.items()]
        # Of /run it wants a folder of its own; `ip netns exec` has given us mounts of our own.
        script = 'mount -t tmpfs tmpfs /run && mkdir -p /run/samba && exec "$@"'
        program = self.lab.start(self.lab.peers, ["sh", "-c", script, "sh", *words], "samba")
        wait_until(lambda: program.ended or self._listens(), "Samba", 30.0)
        assert not program.ended, program.output

    @property
    def _configuration(self) -> str:
        return str(self.folder / "etc" / "smb.conf")

    def _database(self) -> tuple[str, ...]:
        return "-s", self._configuration, "-H", str(self.folder / "private" / "sam.ldb")

    def _listens(self) -> bool:
        listening = self.lab.run(self.lab.peers, "ss", "-ltnH")
        return all(f":{port} " in listening for port in (88, 389, 636))

    def _tool(self, *words: str | Path) -> None:
        done = subprocess.run(["samba-tool", *map(str, words)], capture_output=True, text=True, env=dict(os.environ))
        assert done.returncode == 0, done.stdout + done.stderr
