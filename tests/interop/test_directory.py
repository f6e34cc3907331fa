"""Policies of a domain in real directories: OpenLDAP, and Samba's Active Directory."""

from __future__ import annotations

import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import samba
import slapd
from interop_kit import need
from namespaces import PEER_ADDRESS, Namespaces
from tls_files import TlsFiles, make_tls_files

from ipsec_core.errors import DirectoryError
from ipsec_core.live.ldap import LdapStore
from ipsec_core.live.ldap_connection import DirectoryConnection, DirectoryServer, Protection
from ipsec_core.policy.directory import DEFAULT_DOMAIN_GPO, LdifStore
from ipsec_core.policy.integrity import check, repair
from ipsec_core.policy.objects import (
    DIRECTORY_DATA_TYPE,
    STANDARD_TYPE,
    Changes,
    ObjectClass,
    ObjectName,
    StoredObject,
    by_name,
)

pytestmark = pytest.mark.interop

DOMAIN_CONTROLLERS_GPO = uuid.UUID("6AC1786C-016F-11D2-945F-00C04FB984F9")
NEGOTIATE = uuid.UUID("8A171DD3-77E3-11D1-8659-A04F00000000")
LOCALHOST = "127.0.0.1"


@pytest.fixture(scope="module")
def data(captures: Path) -> Path:
    """Folder of the objects and the schema of a real domain."""
    folder = captures.parent / "reference" / "data"
    if not (folder / "ad-ip-security.ldif").exists():
        pytest.skip("no objects of a real domain beside the captures")
    return folder


@pytest.fixture(scope="module")
def local_tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls_files(tmp_path_factory.mktemp("tls"), "localhost", LOCALHOST)


@pytest.fixture(scope="module")
def openldap(data: Path, local_tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[slapd.Slapd]:
    server = slapd.Slapd(tmp_path_factory.mktemp("slapd"), data, local_tls)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[samba.Samba]:
    need(os.geteuid() == 0, "root, for network namespaces,")
    folder = tmp_path_factory.mktemp("controller")
    with ExitStack() as stack:
        lab = Namespaces(folder)
        stack.callback(lab.close)
        server = samba.Samba(lab, make_tls_files(folder, samba.HOST, PEER_ADDRESS))
        server.start()
        yield server


@dataclass
class Directory:
    """One of both, as its administrator sees it."""

    plain: str
    tls: str
    administrator: str
    password: str
    authority: Path

    def server(self, **options: Any) -> DirectoryServer:
        mine = {"url": self.plain, "user": self.administrator, "password": self.password, "ca_file": self.authority}
        return DirectoryServer(**(mine | options))

    def store(self, *gpos: uuid.UUID, **options: Any) -> LdapStore:
        return LdapStore(self.server(**options), gpos or (DEFAULT_DOMAIN_GPO,))


@pytest.fixture
def local(openldap: slapd.Slapd, local_tls: TlsFiles) -> Directory:
    return Directory(openldap.plain, openldap.tls, slapd.ADMINISTRATOR, slapd.PASSWORD, local_tls.authority)


@pytest.fixture
def active(controller: samba.Samba, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    """The test's thread is in the namespace beside the domain controller's, and knows the controller by name."""
    ask = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **options: Any) -> Any:
        return ask(PEER_ADDRESS if host == samba.HOST else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("KRB5_CONFIG", str(controller.krb5))
    urls = f"ldap://{samba.HOST}", f"ldaps://{samba.HOST}"
    with controller.lab.ours.entered():
        yield Directory(*urls, samba.ADMINISTRATOR, samba.PASSWORD, controller.tls.authority)


@pytest.fixture(params=["openldap", "samba"])
def directory(request: pytest.FixtureRequest) -> Directory:
    found = request.getfixturevalue({"openldap": "local", "samba": "active"}[request.param])
    assert isinstance(found, Directory)
    return found


def timeless(objects: tuple[StoredObject, ...]) -> list[StoredObject]:
    return [replace(item, when_changed=0) for item in objects]


def new_policy() -> dict[ObjectClass, StoredObject]:
    """One object of each class, linked both ways. Their data is nobody's business here."""
    names = {kind: ObjectName.of(kind, uuid.uuid4()) for kind in ObjectClass}
    policy, rule = names[ObjectClass.POLICY], names[ObjectClass.NFA]
    links: dict[ObjectClass, dict[str, Any]] = {
        ObjectClass.POLICY: {"isakmp": names[ObjectClass.ISAKMP], "nfas": (rule,)},
        ObjectClass.ISAKMP: {"owners": (policy,)},
        ObjectClass.NFA: {
            "negotiation": names[ObjectClass.NEGOTIATION],
            "filters": (names[ObjectClass.FILTER],),
            "owners": (policy,),
        },
        ObjectClass.NEGOTIATION: {"owners": (rule,), "action": NEGOTIATE, "kind": STANDARD_TYPE},
        ObjectClass.FILTER: {"owners": (rule,)},
    }
    return {
        kind: StoredObject(name, bytes(range(256)), DIRECTORY_DATA_TYPE, f"Büro, {kind.value}", "a=b+c", **links[kind])
        for kind, name in names.items()
    }


@pytest.fixture
def as_before(directory: Directory) -> Iterator[None]:
    """What a test has changed in the directory is changed back."""
    store = directory.store()
    before = store.objects()
    yield
    extra = set(by_name(store.objects())) - set(by_name(before))
    store.apply(Changes(put=before, delete=tuple(extra), assign=None))
    assert timeless(store.objects()) == timeless(before)


@pytest.fixture
def policy(directory: Directory, as_before: None) -> dict[ObjectClass, StoredObject]:
    """In the directory already."""
    made = new_policy()
    directory.store().apply(Changes(put=tuple(made.values())))
    return made


def test_objects_of_a_new_domain(directory: Directory, data: Path) -> None:
    """Samba's own are those of the file, and OpenLDAP has been given them."""
    objects = directory.store().objects()
    expected = LdifStore(data / "ad-ip-security.ldif").objects()
    assert len(expected) == 22
    assert timeless(objects) == timeless(expected)
    assert all(item.when_changed > 0 for item in objects)


def test_life_of_a_policy(directory: Directory, policy: dict[ObjectClass, StoredObject]) -> None:
    store = directory.store()
    first = store.read()
    assert store.read(first) is first
    found = by_name(first.objects)
    assert [replace(found[item.name], when_changed=0) for item in policy.values()] == list(policy.values())
    assert first.assigned is None

    one = policy[ObjectClass.POLICY]
    store.apply(Changes(assign=one.guid))
    assigned = store.read(first)
    assert assigned.assigned == store.assigned() == one.guid
    assert timeless(assigned.objects) == timeless(first.objects)

    changed = replace(policy[ObjectClass.FILTER], data=bytes(300_000), display_name="", description="another")
    store.apply(Changes(put=(changed,)))
    second = store.read(assigned)
    assert second is not assigned
    assert replace(by_name(second.objects)[changed.name], when_changed=0) == changed

    store.apply(Changes(delete=tuple(item.name for item in policy.values()), assign=None))
    assert store.assigned() is None
    assert not {item.name for item in policy.values()} & set(by_name(store.objects()))


def test_highest_gpo_wins(active: Directory) -> None:
    both = active.store(DEFAULT_DOMAIN_GPO, DOMAIN_CONTROLLERS_GPO)
    low = active.store(DEFAULT_DOMAIN_GPO)
    client, server = (item.guid for item in both.objects() if item.display_name.startswith(("Client", "Server")))
    low.apply(Changes(assign=client))
    assert both.assigned() == client
    both.apply(Changes(assign=server))
    assert (low.assigned(), both.assigned()) == (client, server)
    both.apply(Changes(assign=None))
    assert both.assigned() == client
    low.apply(Changes(assign=None))
    assert both.assigned() is None
    with pytest.raises(DirectoryError, match=r"no GPO \{00000000-"):
        active.store(uuid.UUID(int=0)).apply(Changes(assign=client))


@pytest.mark.parametrize("lost", [False, True], ids=["refused", "connection lost"])
def test_failed_change_is_taken_back(
    directory: Directory, policy: dict[ObjectClass, StoredObject], monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Whichever operation fails."""
    store = directory.store()
    before = store.objects()
    other = new_policy()
    other[ObjectClass.POLICY] = replace(other[ObjectClass.POLICY], nfas=())
    changes = Changes(
        put=(*other.values(), replace(policy[ObjectClass.FILTER], description="new", owners=())),
        delete=(policy[ObjectClass.NFA].name, policy[ObjectClass.POLICY].name),
        assign=other[ObjectClass.POLICY].guid,
    )
    carry_out = DirectoryConnection._carry_out
    for fatal in range(1, 100):
        operations = count(1)

        def fail(
            connection: DirectoryConnection,
            what: str,
            operation: Callable[[], object],
            operations: Iterator[int] = operations,
            fatal: int = fatal,
        ) -> None:
            if what.startswith(("add", "modify", "delete")) and next(operations) == fatal:
                if lost:
                    connection.close()
                else:
                    connection.delete("CN=nothing," + connection.domain)
            carry_out(connection, what, operation)

        with monkeypatch.context() as patch:
            patch.setattr(DirectoryConnection, "_carry_out", fail)
            try:
                store.apply(changes)
                break
            except DirectoryError as error:
                said = str(error)
        assert "not taken back" not in said
        assert timeless(store.objects()) == timeless(before)
        assert store.assigned() is None
    assert fatal > 10
    assert store.assigned() == other[ObjectClass.POLICY].guid


def test_two_administrators(directory: Directory, as_before: None) -> None:
    """Each adds a rule to the policy that it has read: what the last one writes stays, and the other's rule hangs.

    The integrity check finds it and mends it.
    """
    store = directory.store()
    before = store.objects()
    assert check(before) == ()
    clients = [(one := directory.store(), by_name(one.objects())) for _ in range(2)]
    rules = []
    for one, seen in clients:
        policy = next(item for item in seen.values() if item.display_name.startswith("Secure Server"))
        model = seen[policy.nfas[-1]]
        rule = replace(model, name=ObjectName.of(ObjectClass.NFA, uuid.uuid4()))
        shared = [replace(seen[name], owners=(*seen[name].owners, rule.name)) for name in rule.references]
        one.apply(Changes(put=(rule, replace(policy, nfas=(*policy.nfas, rule.name)), *shared)))
        rules.append(rule)
    broken = by_name(store.objects())
    assert broken[policy.name].nfas == (*policy.nfas, rules[1].name)
    assert broken[rules[0].name].owners == (policy.name,)
    lost = f"{policy.name}: ipsecNFAReference lacks {rules[0].name}, which it owns"
    assert lost in map(str, check(broken.values()))
    store.apply(repair(broken.values()))
    mended = store.objects()
    assert check(mended) == ()
    assert set(by_name(mended)[policy.name].nfas) == {*policy.nfas, *(rule.name for rule in rules)}


def test_strong_authentication_required(active: Directory) -> None:
    """What Active Directory asks for: TLS, StartTLS, or Kerberos that signs and seals; and nothing below that."""
    for options in ({}, {"url": active.tls}, {"protection": Protection.START_TLS}):
        assert len(active.store(**options).objects()) == 22
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"protection": Protection.NONE}, r"bind: strongerAuthRequired \(8\)"),
        ({"password": "wrong"}, r"bind: invalidCredentials \(49\)"),
        ({"ca_file": None}, "TLS: .*certificate verify failed"),
        ({"url": f"ldaps://{PEER_ADDRESS[:-1]}9", "timeout": 0.3}, "connect: "),
        ({"user": "", "password": ""}, "authentication"),
    ]
    for options, text in refusals:
        with pytest.raises(DirectoryError, match=text) as caught:
            active.store(**options).objects()
        assert_one_line(caught)


def test_kerberos(active: Directory, controller: samba.Samba) -> None:
    need(find_spec("gssapi") is not None, "Python package gssapi")
    mine = {"kerberos": True, "user": samba.PRINCIPAL, "password": "", "keytab": controller.keytab}
    store = active.store(**mine)
    before = store.objects()
    assert len(before) == 22
    # More than fits into a sealed piece, both ways.
    large = StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.uuid4()), os.urandom(1 << 20), DIRECTORY_DATA_TYPE)
    store.apply(Changes(put=(large,)))
    assert by_name(store.objects())[large.name].data == large.data
    store.apply(Changes(delete=(large.name,)))
    assert store.objects() == before
    by_address = {"url": f"ldap://{PEER_ADDRESS}"}
    assert active.store(**mine, **by_address, service_host=samba.HOST).objects() == before
    refusals: list[tuple[dict[str, Any], str]] = [
        (by_address, "Kerberos bind: .*[Ss]erver not found"),
        ({"user": "Nobody@" + samba.REALM}, "Kerberos bind: "),
        ({"keytab": controller.lab.folder / "missing"}, "Kerberos bind: "),
        # Without signing and sealing even in TLS this controller takes no GSSAPI.
        ({"url": active.tls}, "Sign or Seal are required"),
    ]
    for options, text in refusals:
        with pytest.raises(DirectoryError, match=text) as caught:
            active.store(**(mine | options)).objects()
        assert_one_line(caught)


def test_nothing_in_the_clear(active: Directory, controller: samba.Samba) -> None:
    """On the wire; without TLS or Kerberos the names of the attributes would be readable."""
    lab = controller.lab
    lab.record()
    assert active.store().objects()
    if find_spec("gssapi") is not None:
        assert active.store(kerberos=True, user=samba.PRINCIPAL, password="", keytab=controller.keytab).objects()
    recorded = lab.recorded().read_bytes()
    assert b"1.3.6.1.4.1.1466.20037" in recorded, "StartTLS"
    for secret in (b"ipsecData", samba.PASSWORD.encode(), b"Secure Server"):
        assert secret not in recorded


def test_tls(local: Directory, data: Path, local_tls: TlsFiles, tmp_path: Path) -> None:
    """A server that talks to nobody in the clear: who has no name asks again under StartTLS."""
    server = slapd.Slapd(tmp_path / "strict", data, local_tls, "security tls=1")
    server.start()
    try:
        anyone = {"user": "", "password": "", "url": server.plain}
        for options in (anyone, {"url": server.plain}, {"url": server.tls}):
            assert len(local.store(**options).objects()) == 22
        with pytest.raises(DirectoryError, match=r"bind: confidentialityRequired \(13\)"):
            local.store(**anyone, protection=Protection.NONE).objects()
        other = make_tls_files(tmp_path, "elsewhere.test", "192.0.2.1")
        with pytest.raises(DirectoryError, match=r"TLS: .*verify failed"):
            local.store(**anyone, ca_file=other.authority).objects()
    finally:
        server.stop()
    server = slapd.Slapd(tmp_path / "other", data, other)
    server.start()
    try:
        with pytest.raises(DirectoryError, match="IP address mismatch"):
            local.store(url=server.tls, ca_file=other.authority).objects()
    finally:
        server.stop()


def test_more_objects_than_a_server_sends_at_once(
    local: Directory, data: Path, local_tls: TlsFiles, tmp_path: Path
) -> None:
    server = slapd.Slapd(tmp_path / "large", data, local_tls)
    filters = [StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.uuid4()), b"x" * 100) for _ in range(1500)]
    server.load(
        [
            (
                f"CN={item.name},CN=IP Security,CN=System,{slapd.DOMAIN}",
                {"objectClass": [b"ipsecFilter"], "ipsecDataType": [b"256"], "ipsecData": [item.data]},
            )
            for item in filters
        ]
    )
    server.start()
    try:
        store = local.store(url=server.plain)
        found = by_name(store.objects())
        assert len(found) == 1522
        assert {name for name, item in found.items() if item.data == b"x" * 100} == {item.name for item in filters}
    finally:
        server.stop()


def test_server_that_hangs_and_one_that_ends(local: Directory, data: Path, local_tls: TlsFiles, tmp_path: Path) -> None:
    server = slapd.Slapd(tmp_path / "slow", data, local_tls)
    server.start()
    store = local.store(url=server.tls, timeout=0.3)
    try:
        reading = store.read()
        process = server.process
        os.kill(process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(DirectoryError, match=r"no answer within 0\.3 s") as caught:
                store.read(reading)
            assert_one_line(caught)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert store.read(reading) is reading
    finally:
        server.stop()
    with pytest.raises(DirectoryError, match="refused") as caught:
        store.read(reading)
    assert_one_line(caught)


def assert_one_line(caught: pytest.ExceptionInfo[DirectoryError]) -> None:
    assert str(caught.value).startswith("ldap")
    assert "\n" not in str(caught.value)
    assert slapd.PASSWORD not in str(caught.value)
    assert samba.PASSWORD not in str(caught.value)
