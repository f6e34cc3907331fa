"""OpenLDAP's slapd on the loopback, with Active Directory's IPsec schema (Microsoft's OIDs) and objects."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interop_kit import need
from namespaces import Program, wait_until
from tls_files import TlsFiles

from ipsec_core.policy.ldif import Entry, read_ldif

DOMAIN = "DC=ad,DC=lab,DC=test"
ADMINISTRATOR, PASSWORD = f"cn=admin,{DOMAIN}", "password of a test"
GPO = "{31B2F340-016D-11D2-945F-00C04FB984F9}"
SLAPD, SLAPADD = Path("/usr/sbin/slapd"), Path("/usr/sbin/slapadd")

# Active Directory's syntaxes ([MS-ADTS] 3.1.1.2.2.2): that of LDAP, and how to compare.
SYNTAXES = {
    "2.5.5.1": ("1.3.6.1.4.1.1466.115.121.1.12", "distinguishedNameMatch"),
    "2.5.5.9": ("1.3.6.1.4.1.1466.115.121.1.27", "integerMatch"),
    "2.5.5.10": ("1.3.6.1.4.1.1466.115.121.1.40", "octetStringMatch"),
    "2.5.5.12": ("1.3.6.1.4.1.1466.115.121.1.15", "caseIgnoreMatch"),
}
KINDS = {"1": "STRUCTURAL", "2": "ABSTRACT"}
CONTAINER = "objectclass ( 1.2.840.113556.1.3.23 NAME 'container' SUP top STRUCTURAL MUST cn MAY description )"
CONFIGURATION = """
include /etc/ldap/schema/core.schema
include {folder}/ipsec.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCACertificateFile {tls.authority}
TLSCertificateFile {tls.certificate}
TLSCertificateKeyFile {tls.key}
{more}
database mdb
suffix "{domain}"
rootdn "{administrator}"
rootpw "{password}"
directory {folder}/db
maxsize 67108864
dbnosync
sizelimit size.soft=1000 size.hard=1000 size.pr=500 size.prtotal=unlimited
access to * by * read
"""
TREE = (
    (DOMAIN, {"objectClass": [b"dcObject", b"organization"], "o": [b"lab"], "dc": [b"ad"]}),
    *(
        (f"{name},{DOMAIN}", {"objectClass": [b"container"]})
        for name in (
            "CN=System",
            "CN=IP Security,CN=System",
            "CN=Policies,CN=System",
            f"CN={GPO},CN=Policies,CN=System",
            f"CN=Machine,CN={GPO},CN=Policies,CN=System",
        )
    ),
)


def _single(entry: Entry, name: str) -> str:
    return entry.values[name.lower()][0].decode()


def schema(source: Path) -> str:
    """Of the attributeSchema and classSchema entries of a domain, as slapd.conf has it."""
    attributes, classes = [], []
    for entry in read_ldif(source.read_bytes()):
        name = _single(entry, "lDAPDisplayName")
        if b"attributeSchema" in entry.values["objectclass"]:
            syntax, rule = SYNTAXES[_single(entry, "attributeSyntax")]
            single = " SINGLE-VALUE" if _single(entry, "isSingleValued") == "TRUE" else ""
            oid = _single(entry, "attributeID")
            attributes.append(f"attributetype ( {oid} NAME '{name}' EQUALITY {rule} SYNTAX {syntax}{single} )")
            continue
        # In Active Directory every object may have a description.
        may = [value.decode() for value in entry.values.get("systemmaycontain", ())] + ["description"]
        kind, parent = KINDS[_single(entry, "objectClassCategory")], _single(entry, "subClassOf")
        words = f"{_single(entry, 'governsID')} NAME '{name}' SUP {parent} {kind} MUST cn MAY ( {' $ '.join(may)} )"
        classes.append((parent != "top", f"objectclass ( {words} )"))
    return "\n".join([*attributes, CONTAINER, *(text for _, text in sorted(classes)), ""])


def ldif(entries: Sequence[tuple[str, Mapping[str, Sequence[bytes]]]]) -> str:
    lines: list[str] = []
    for dn, attributes in entries:
        lines.append(f"dn: {dn}")
        for name, values in attributes.items():
            lines += [f"{name}:: {base64.b64encode(value).decode()}" for value in values]
        lines.append("")
    return "\n".join(lines)


def ip_security(source: Path) -> Iterator[tuple[str, Mapping[str, Sequence[bytes]]]]:
    """The policy objects of a domain without what only Active Directory knows."""
    for entry in read_ldif(source.read_bytes()):
        known = {name: values for name, values in entry.values.items() if name.startswith("ipsec")}
        if known:
            kept = {name: entry.values[name] for name in ("cn", "description") if name in entry.values}
            yield entry.dn, {"objectClass": [entry.values["objectclass"][-1]], **kept, **known}


class Slapd:
    """Runs from `start` to `stop`; `more` are lines of slapd.conf."""

    def __init__(self, folder: Path, data: Path, tls: TlsFiles, *more: str) -> None:
        need(SLAPD.exists(), "slapd")
        self.folder = folder
        (folder / "db").mkdir(parents=True)
        (folder / "ipsec.schema").write_text(schema(data / "ad-ipsec-schema.ldif"))
        values = {"folder": folder, "tls": tls, "domain": DOMAIN, "more": "\n".join(more)}
        names = {"administrator": ADMINISTRATOR, "password": PASSWORD}
        (folder / "slapd.conf").write_text(CONFIGURATION.format(**values, **names))
        self.load([*TREE, *ip_security(data / "ad-ip-security.ldif")])
        self.plain, self.tls = (f"{scheme}://127.0.0.1:{free_port()}" for scheme in ("ldap", "ldaps"))
        self._program: Program | None = None

    def load(self, entries: Sequence[tuple[str, Mapping[str, Sequence[bytes]]]]) -> None:
        """Before `start`."""
        file = self.folder / "entries.ldif"
        file.write_text(ldif(entries))
        command = [SLAPADD, "-q", "-f", self.folder / "slapd.conf", "-l", file]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        words = [str(SLAPD), "-f", str(self.folder / "slapd.conf"), "-h", f"{self.plain} {self.tls}", "-d", "0"]
        self._program = program = Program(words, self.folder / "slapd.log", dict(os.environ))
        wait_until(lambda: program.ended or all(map(_listens, (self.plain, self.tls))), "slapd")
        assert not program.ended, program.output

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._program is not None
        return self._program.process

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 1).close()
    except ConnectionRefusedError:
        return False
    return True
