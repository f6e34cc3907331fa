"""Main Mode credentials of Kerberos V5 against a real MIT key distribution centre on the loopback interface."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from random import Random

import pytest

from ipsec_core.computer.kerberos import MachineKerberos
from ipsec_core.errors import NegotiationError
from ipsec_core.ike import (
    Acquire,
    AuthAlgorithm,
    AuthMethod,
    CredentialRefused,
    Encapsulation,
    Encryption,
    EspTransform,
    Event,
    FailureReason,
    Group,
    GssContext,
    Hash,
    IkeEngine,
    MainModeEstablished,
    MainModeOffer,
    MainModePolicy,
    NegotiationFailed,
    QuickModeEstablished,
    QuickModeOffer,
    QuickModePolicy,
    TrafficSelector,
)

pytestmark = pytest.mark.interop

REALM = "LAB.TEST"
ALICE, BOB = f"host/alice.lab.test@{REALM}", f"host/bob.lab.test@{REALM}"
# A computer's account as Windows names it.
CAROL = f"CAROL$@{REALM}"
ESP = QuickModeOffer(EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_SHA1, Encapsulation.TRANSPORT)
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local")
PATH = os.environ.get("PATH", "") + ":/usr/sbin"

CLIENT = """
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{port}
  }}
"""
SERVER = """
[kdcdefaults]
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
[realms]
  {realm} = {{
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
    acl_file = {folder}/acl
    supported_enctypes = {encryption}
  }}
"""


class Realm:
    """A key distribution centre with three computers; `keytab` gives the file with a computer's key."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        # Windows 2000 had DES and RC4; MIT's library of today has RC4 only when it is told to, and no DES.
        encryption = "aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal"
        values = {"realm": REALM, "port": self.port, "folder": folder, "encryption": encryption}
        (folder / "krb5.conf").write_text(CLIENT.format(**values))
        (folder / "kdc.conf").write_text(SERVER.format(**values))
        self.environment = {
            "PATH": PATH,
            "KRB5_CONFIG": str(folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
        }
        self._run("kdb5_util", "create", "-s", "-W", "-r", REALM, "-P", "master key of a test")
        for name in (ALICE, BOB, CAROL):
            self._run("kadmin.local", "-r", REALM, "-q", f"addprinc -randkey {name}")
            self._run("kadmin.local", "-r", REALM, "-q", f"ktadd -k {self.keytab(name)} {name}")
        self._process: subprocess.Popen[bytes] | None = None

    def keytab(self, name: str) -> Path:
        return self.folder / (name.translate(str.maketrans("/$@", "___")) + ".keytab")

    def _run(self, *command: str) -> None:
        run = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["krb5kdc", "-n", "-r", REALM],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        pytest.fail("krb5kdc does not listen")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    try:
        import gssapi  # noqa: F401
    except ImportError:
        missing.append("the Python package gssapi")
    if missing:
        text = f"{', '.join(missing)} missing (make test-interop installs it)"
        (pytest.fail if "CI" in os.environ else pytest.skip)(text)
    realm = Realm(tmp_path_factory.mktemp("krb5"))
    realm.start()
    yield realm
    realm.stop()


@pytest.fixture
def realm(_made: Realm, monkeypatch: pytest.MonkeyPatch) -> Realm:
    monkeypatch.setenv("KRB5_CONFIG", _made.environment["KRB5_CONFIG"])
    monkeypatch.setenv("KRB5RCACHENAME", f"file2:{_made.folder}/replayed")
    return _made


def establish(one: GssContext, other: GssContext) -> int:
    """Exchange tokens until both ends are complete; how many there were."""
    token = one.step(None)
    count, ends = 0, (other, one)
    while token is not None:
        token = ends[count % 2].step(token)
        count += 1
    assert one.complete
    assert other.complete
    return count


@pytest.mark.parametrize(("initiator", "responder"), [(ALICE, BOB), (ALICE, CAROL), (CAROL, BOB)])
def test_two_computers(realm: Realm, initiator: str, responder: str) -> None:
    one = MachineKerberos(initiator, realm.keytab(initiator))
    other = MachineKerberos(responder, realm.keytab(responder))
    assert (one.name, other.name) == (initiator, responder)
    mine, theirs = one.initiate(other.name), other.accept()
    assert not mine.complete
    assert establish(mine, theirs) == 2, "Kerberos with mutual authentication has one token each way"
    assert (mine.peer, theirs.peer) == (responder, initiator)
    for sender, receiver, proof in ((mine, theirs, bytes(20)), (theirs, mine, bytes(range(16)))):
        wrapped = sender.wrap(proof)
        assert proof not in wrapped
        assert receiver.unwrap(wrapped) == proof


class Rules:
    """A policy of Kerberos alone."""

    def __init__(self, account: MachineKerberos) -> None:
        offer = MainModeOffer(Encryption.TRIPLE_DES_CBC, Hash.SHA1, Group.MODP_768, auth=AuthMethod.KERBEROS)
        self._main = MainModePolicy((offer,), kerberos=account)

    def main_mode(self, local: str, remote: str) -> MainModePolicy:
        return self._main

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy:
        return QuickModePolicy((ESP,), 1)


def negotiate(accounts: dict[str, MachineKerberos]) -> dict[str, list[Event]]:
    """The first of two addresses asks for an SA with the second, without sockets."""
    random = Random(1)
    engines = {
        address: IkeEngine(
            address, Rules(account), random=random.randbytes, allocate_spi=lambda: random.randrange(256, 1 << 32)
        )
        for address, account in accounts.items()
    }
    first, second = accounts
    engines[first].acquire(0.0, Acquire(second, TrafficSelector(IPv4Network(first), IPv4Network(second)), (ESP,), 1))
    waiting = True
    while waiting:
        waiting = False
        for address, engine in engines.items():
            for datagram in engine.datagrams():
                waiting = True
                engines[datagram.destination[0]].receive_datagram(0.0, datagram.data, (address, 500))
    return {address: engine.events() for address, engine in engines.items()}


@pytest.mark.parametrize("responder", [BOB, CAROL])
def test_negotiation(realm: Realm, responder: str) -> None:
    names = {"10.0.0.1": ALICE, "10.0.0.2": responder}
    events = negotiate({address: MachineKerberos(name, realm.keytab(name)) for address, name in names.items()})
    for address, peer in (("10.0.0.1", responder), ("10.0.0.2", ALICE)):
        established = [event for event in events[address] if isinstance(event, MainModeEstablished)]
        assert [event.peer.name for event in established] == [peer]
        assert any(isinstance(event, QuickModeEstablished) for event in events[address])


def test_negotiation_with_a_computer_that_the_centre_does_not_know(realm: Realm) -> None:
    bob = MachineKerberos(BOB, realm.keytab(BOB))
    bob._name = f"host/nobody@{REALM}"
    events = negotiate({"10.0.0.1": MachineKerberos(ALICE, realm.keytab(ALICE)), "10.0.0.2": bob})
    failed = [event for event in events["10.0.0.1"] if isinstance(event, NegotiationFailed)]
    assert [event.reason for event in failed] == [FailureReason.KERBEROS]


def assert_refusal(caught: pytest.ExceptionInfo[CredentialRefused]) -> None:
    assert caught.value.reason is FailureReason.KERBEROS
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrapped_hash_is_protected(realm: Realm) -> None:
    mine = MachineKerberos(ALICE, realm.keytab(ALICE)).initiate(BOB)
    theirs = MachineKerberos(BOB, realm.keytab(BOB)).accept()
    establish(mine, theirs)
    wrapped = mine.wrap(bytes(20))
    for bad in (b"", b"rubbish", wrapped[:-1] + bytes((wrapped[-1] ^ 1,))):
        with pytest.raises(CredentialRefused) as caught:
            theirs.unwrap(bad)
        assert_refusal(caught)


def test_refusals(realm: Realm) -> None:
    alice = MachineKerberos(ALICE, realm.keytab(ALICE))
    for peer in (f"host/nobody@{REALM}", "host/bob@ELSEWHERE.TEST", "", "\ud800"):
        with pytest.raises(CredentialRefused) as caught:
            alice.initiate(peer).step(None)
        assert_refusal(caught)
    # A ticket for one computer means nothing to another; rubbish neither.
    token = alice.initiate(BOB).step(None)
    for bad in (token, b"", b"rubbish"):
        with pytest.raises(CredentialRefused) as caught:
            MachineKerberos(CAROL, realm.keytab(CAROL)).accept().step(bad)
        assert_refusal(caught)


def test_a_key_tab_of_another_computer(realm: Realm) -> None:
    with pytest.raises(NegotiationError, match="key tab"):
        MachineKerberos(ALICE, realm.keytab(BOB))


def test_replayed_token(realm: Realm) -> None:
    token = MachineKerberos(ALICE, realm.keytab(ALICE)).initiate(BOB).step(None)
    bob = MachineKerberos(BOB, realm.keytab(BOB))
    bob.accept().step(token)
    with pytest.raises(CredentialRefused, match="replay") as caught:
        bob.accept().step(token)
    assert_refusal(caught)


def test_no_centre(realm: Realm) -> None:
    """A computer that has no ticket yet and finds nobody to give it one."""
    realm.stop()
    try:
        dave = MachineKerberos(CAROL, realm.keytab(CAROL))
        with pytest.raises(CredentialRefused) as caught:
            dave.initiate(f"host/new.lab.test@{REALM}").step(None)
        assert_refusal(caught)
    finally:
        realm.start()
