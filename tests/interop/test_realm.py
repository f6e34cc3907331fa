"""The realm of virtual time against MIT's Kerberos library, in both roles. The library reads the real clock, so the
realm's begins now."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.ike.credentials import CredentialRefused
from ipsec_core.sim.kerberos_messages import Ticket, encode, fill
from ipsec_core.sim.realm import Member, Realm

pytestmark = pytest.mark.interop


NAME = "EXAMPLE.COM"
PROOF = hashlib.sha1(b"HASH_I").digest()
RC4_HMAC = 23

# Reads one JSON line, steps or wraps, writes one.
LIBRARY = """
import base64, json, sys, gssapi
role, target = sys.argv[1:]
if role == "initiate":
    flag = gssapi.RequirementFlag
    context = gssapi.SecurityContext(
        name=gssapi.Name(target, gssapi.NameType.kerberos_principal), usage="initiate",
        mech=gssapi.MechType.kerberos,
        flags=flag.mutual_authentication | flag.out_of_sequence_detection | flag.confidentiality | flag.integrity)
else:
    context = gssapi.SecurityContext(usage="accept")
for line in sys.stdin:
    what, data = json.loads(line)
    data = base64.b64decode(data)
    if what == "step":
        answer = context.step(data or None) or b""
    elif what == "wrap":
        answer = context.wrap(data, True).message
    elif what == "unwrap":
        answer = context.unwrap(data).message
    else:
        answer = str(context.initiator_name).encode()
    print(json.dumps(base64.b64encode(answer).decode()), flush=True)
"""


class Library:
    """MIT's context, in a process of its own with files of its own."""

    def __init__(self, folder: Path, role: str, target: str = "") -> None:
        config = folder / "krb5.conf"
        config.write_text(f"[libdefaults]\n default_realm = {NAME}\n dns_lookup_kdc = false\n rdns = false\n")
        names = {"KRB5_CONFIG": "krb5.conf", "KRB5_KTNAME": "keytab", "KRB5CCNAME": "ccache"}
        environment = os.environ | {name: str(folder / file) for name, file in names.items()}
        environment["KRB5RCACHENAME"] = f"file2:{folder / 'rcache'}"
        self._process = subprocess.Popen(
            [sys.executable, "-c", LIBRARY, role, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __call__(self, what: str, data: bytes = b"") -> bytes:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([what, base64.b64encode(data).decode()]), file=self._process.stdin, flush=True)
        return base64.b64decode(json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def counted(data: bytes, size: str = ">I") -> bytes:
    return struct.pack(size, len(data)) + data


def write_keytab(folder: Path, member: Member) -> None:
    """The key of an account as MIT keeps it (keytab(5), version 5.2)."""
    entry = struct.pack(">H", 1) + counted(NAME.encode(), ">H") + counted(member.account.encode(), ">H")
    entry += struct.pack(">IIBH", 1, 0, 1, RC4_HMAC) + counted(member.realm.key(member.account), ">H")
    (folder / "keytab").write_bytes(b"\5\2" + counted(entry))


def write_ccache(folder: Path, client: Member, service: Member) -> None:
    """A ticket of the client as MIT keeps it (ccache(5), version 4)."""
    session, fields = client.realm.ticket(client.account, service.name)

    def principal(account: str) -> bytes:
        return struct.pack(">II", 1, 1) + counted(NAME.encode()) + counted(account.encode())

    now = int(client.realm.now.timestamp())
    data = b"\5\4" + struct.pack(">H", 0) + principal(client.account) + principal(client.account)
    data += principal(service.account) + struct.pack(">H", RC4_HMAC) + counted(session)
    data += struct.pack(">IIIIBIII", now, now, now + 36000, 0, 0, 0, 0, 0)
    (folder / "ccache").write_bytes(data + counted(encode(fill(Ticket(), fields))) + counted(b""))


@pytest.fixture
def realm() -> Realm:
    pytest.importorskip("gssapi")
    return Realm(NAME, lambda: 0.25, os.urandom, datetime.now(UTC))


def test_the_library_accepts(tmp_path: Path, realm: Realm) -> None:
    alice, bob = realm.join("ALICE"), realm.join("BOB")
    write_keytab(tmp_path, bob)
    ours = alice.initiate(bob.name)
    with Library(tmp_path, "accept") as theirs:
        assert ours.step(theirs("step", ours.step(None) or b"")) is None
        assert ours.complete
        assert theirs("name").decode() == alice.name
        assert theirs("unwrap", ours.wrap(PROOF)) == PROOF
        sealed = theirs("wrap", PROOF)
        assert PROOF not in sealed
        with pytest.raises(CredentialRefused):
            ours.unwrap(sealed[:-1] + bytes([sealed[-1] ^ 1]))
        assert ours.unwrap(sealed) == PROOF


def test_the_library_begins(tmp_path: Path, realm: Realm) -> None:
    alice, bob = realm.join("ALICE"), realm.join("BOB")
    write_ccache(tmp_path, alice, bob)
    ours = bob.accept()
    with Library(tmp_path, "initiate", bob.name) as theirs:
        assert theirs("step", ours.step(theirs("step")) or b"") == b""
        assert (ours.complete, ours.peer) == (True, alice.name)
        assert ours.unwrap(theirs("wrap", PROOF)) == PROOF
        assert theirs("unwrap", ours.wrap(PROOF)) == PROOF


def test_another_key(tmp_path: Path, realm: Realm) -> None:
    alice, bob = realm.join("ALICE"), realm.join("BOB")
    write_ccache(tmp_path, alice, bob)
    stranger: Any = Realm(NAME, lambda: 0.25, os.urandom, realm.now)
    stranger.join("ALICE")
    with Library(tmp_path, "initiate", bob.name) as theirs, pytest.raises(CredentialRefused, match="another key"):
        stranger.join("BOB").accept().step(theirs("step"))
