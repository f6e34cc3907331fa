"""A computer whose policy is that of a domain, with OpenLDAP as the domain: changed, broken, slow, down, unassigned."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import slapd
from tls_files import make_tls_files

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.state import State
from ipsec_core.errors import DirectoryError
from ipsec_core.live.domain import DomainWatch
from ipsec_core.live.ldap import LdapStore
from ipsec_core.live.ldap_connection import DirectoryServer, Protection
from ipsec_core.policy.model import Policy
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName
from ipsec_core.policy.storage import read_catalogue, save
from ipsec_core.policy.toml import policy_from_table

pytestmark = pytest.mark.interop

MINE = IPv4Address("10.0.0.1")
REFERENCE = r"HKLM\SOFTWARE\Policies\Microsoft\Windows\IPsec\GPTIPSECPolicy"


def policy(method: str) -> Policy:
    rule = {
        "name": "All",
        "filters": [{"source": "me", "destination": "10.0.0.0/24"}],
        "action": {"negotiate": [method]},
        "authentication": [{"preshared_key": "a preshared key of a test"}],
    }
    return policy_from_table({"name": "Group", "polling_interval_seconds": 3600, "rules": [rule]}, "test")


@pytest.fixture
def server(captures: Path, tmp_path: Path) -> Iterator[slapd.Slapd]:
    data = captures.parent / "reference" / "data"
    if not (data / "ad-ip-security.ldif").exists():
        pytest.skip("no objects of a real domain beside the captures")
    made = slapd.Slapd(tmp_path / "slapd", data, make_tls_files(tmp_path, "localhost", "127.0.0.1"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def store(server: slapd.Slapd) -> LdapStore:
    """As an administrator and as the computer."""
    return LdapStore(
        DirectoryServer(server.plain, slapd.ADMINISTRATOR, slapd.PASSWORD, protection=Protection.NONE, timeout=0.5)
    )


def edit(store: LdapStore, made: Policy | None) -> None:
    catalogue = read_catalogue(store)
    if made is None:
        catalogue.assign(None)
    elif any(one.name == made.name for one in catalogue.policies):
        old = catalogue.policy(made.name)
        rules = tuple(
            replace(rule, filter_action=replace(rule.filter_action, methods=new.filter_action.methods))
            for rule, new in zip(old.rules, made.rules, strict=True)
        )
        catalogue.replace_policy(made.name, replace(old, rules=rules))
    else:
        catalogue.add_policy(made)
        catalogue.assign(made.name)
    save(catalogue, store, 0)


def ask(made: Computer, store: LdapStore, now: float) -> None:
    since = made.service.poll(now)
    try:
        reading = store.read(since)
    except DirectoryError as error:
        made.service.directory_failed(now, str(error))
    else:
        made.service.directory_answered(now, reading)


def in_effect(made: Computer) -> tuple[str, str]:
    active = made.agent.active
    assert active is not None
    methods = active.policy.rules[0].filter_action.methods if active.policy else ()
    return active.source, " ".join(str(one).split(":")[0] for one in methods)


def test_life_of_a_domain_policy(server: slapd.Slapd, store: LdapStore, tmp_path: Path) -> None:
    first, second = policy("ESP[3DES,SHA1]"), policy("ESP[DES,MD5]")
    with State.create(tmp_path / "A", "A") as state:
        made = Computer("A", MINE, seed=b"a", state=state, domain="ad.lab.test")
        made.start(0.0)
        ask(made, store, 0.0)
        assert in_effect(made) == ("local", ""), "nothing is assigned in a new domain"
        edit(store, first)
        ask(made, store, 10800.0)
        assert in_effect(made) == ("domain", "ESP[3DES,SHA1]")
        assert made.service.next_poll == 10800 + 3600
        path = str(state.registry.get(REFERENCE, "DSIPSECPolicyPath"))
        assert path.startswith("LDAP://CN=ipsecPolicy{")
        assert path.lower().endswith(f"}},cn=ip security,cn=system,{slapd.DOMAIN}".lower())
        before = made.agent.active
        ask(made, store, 14400.0)
        assert made.agent.active is before
        edit(store, second)
        ask(made, store, 18000.0)
        assert in_effect(made) == ("domain", "ESP[DES,MD5]")
        # Somebody deletes a filter action that is in use.
        active = made.agent.active
        assert active is not None
        assert active.policy is not None
        action = active.policy.rules[0].filter_action
        assert action.guid is not None
        name = ObjectName.of(ObjectClass.NEGOTIATION, action.guid)
        store.apply(Changes(delete=(name,)), 0)
        ask(made, store, 21600.0)
        assert in_effect(made) == ("domain", "ESP[DES,MD5]")
        assert str(name) in made.log.events(event_id=308)[-1].text
        server.stop()
        ask(made, store, 25200.0)
        assert in_effect(made) == ("domain", "ESP[DES,MD5]")
        assert len(made.log.events(event_id=284)) == 1
        made.snapshot(25200.0)
    with State.open(tmp_path / "A", readonly=False) as state:
        made = Computer("A", MINE, seed=b"a", state=state, domain="ad.lab.test")
        made.start(30000.0)
        ask(made, store, 30000.0)
        assert in_effect(made) == ("cache", "ESP[DES,MD5]")
        server.start()
        ask(made, store, 30060.0)
        assert in_effect(made) == ("cache", "ESP[DES,MD5]"), "it is still broken there"
        policy_name = ObjectName.of(ObjectClass.POLICY, store.assigned() or action.guid)
        store.apply(Changes(delete=(policy_name,), assign=None), 0)
        ask(made, store, 33660.0)
        assert in_effect(made) == ("local", "")
        assert not state.registry.exists(REFERENCE)


def test_a_server_that_stops_in_the_middle(server: slapd.Slapd, store: LdapStore) -> None:
    """The loop goes on while the directory is silent, and hears it when it speaks again."""
    edit(store, policy("ESP[3DES,SHA1]"))

    async def run() -> None:
        now = 0.0
        made = Computer("A", MINE, seed=b"a", domain="ad.lab.test")
        made.start(now)
        heard = asyncio.Event()
        lines: list[str] = []

        def settled() -> None:
            heard.set()

        watch = DomainWatch(store, made.service, lambda: now, settled, lines.append)
        server.process.send_signal(signal.SIGSTOP)
        try:
            watch.schedule()
            turns = 0
            while not heard.is_set():
                await asyncio.sleep(0.01)
                turns += 1
            assert turns > 10
            assert "the domain cannot be asked" in lines[0]
            assert in_effect(made) == ("local", "")
        finally:
            server.process.send_signal(signal.SIGCONT)
        heard.clear()
        now = made.service.next_poll or 0.0
        watch.schedule()
        await asyncio.wait_for(heard.wait(), 20)
        assert in_effect(made) == ("domain", "ESP[3DES,SHA1]")
        watch.close()

    asyncio.run(run())
