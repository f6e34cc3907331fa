"""The automatic policy of L2TP over IPsec (KB 248750), and rules beside the policy in general."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from lan_kit import Lan, datagram, segment

from ipsec_core.computer.certificates import MachineCertificate, MachineStore
from ipsec_core.driver import Status
from ipsec_core.errors import PolicyError
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.model import AuthenticationKind, AuthenticationMethod, Policy
from ipsec_core.policy.toml import policy_from_table
from ipsec_core.tools.netdiag import Diagnosis

CLIENT, OTHER, SERVER = "10.0.0.1", "10.0.0.3", "10.0.0.2"
KEY = (AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "in place of certificates"),)
L2TP = (1701, 1701)
CLEAR = (Status.NO_FILTER, Status.NO_FILTER)
SECURED = (Status.PROTECTED, Status.PROTECTED)


def assigned(*rules: dict[str, object], name: str = "Assigned") -> Policy:
    return policy_from_table({"name": name, "rules": list(rules)}, "test")


def block(port: int) -> dict[str, object]:
    filters = [{"source": "me", "destination": "any", "protocol": "udp", "destination_port": port}]
    return {"filters": filters, "action": "block"}


def dialled(*others: str, policy: Policy | None = None, **options: object) -> Lan:
    """A server of L2TP, and clients that have dialled it."""
    lan = Lan({CLIENT: policy, SERVER: policy} | dict.fromkeys(others, policy), **options)
    lan[SERVER].start_rras(lan.now, KEY)
    for client in (CLIENT, *others):
        lan[client].dial(lan.now, IPv4Address(SERVER), KEY)
    return lan


def flags(lan: Lan, address: str) -> list[str]:
    """Each filter as netdiag has it."""
    return [
        f"{item.name} {item.flags} {item.source}:{item.source_port} {item.destination}:{item.destination_port}"
        for item, _ in lan[address].snapshot(lan.now).filters()
        if item.protocol == 17
    ]


def talk(lan: Lan, client: str = CLIENT) -> None:
    """The client opens the tunnel of L2TP."""
    assert lan.send(datagram(client, SERVER, L2TP))[0] is Status.HELD
    assert lan.sent == [Status.HELD, Status.PROTECTED]
    assert lan.arrived[-1][1] is Status.PROTECTED
    assert lan.send(datagram(SERVER, client, L2TP)) == SECURED


def test_the_filters_are_those_of_the_article() -> None:
    lan = dialled()
    assert flags(lan, SERVER) == [
        f"L2TP Server Outbound Negotiate {SERVER}/32:0 0.0.0.0/0:1701",
        f"L2TP Server Inbound Negotiate 0.0.0.0/0:1701 {SERVER}/32:0",
    ]
    assert flags(lan, CLIENT) == [
        f"L2TP Client Outbound Negotiate {CLIENT}/32:1701 {SERVER}/32:0",
        f"L2TP Client Inbound Negotiate {SERVER}/32:0 {CLIENT}/32:1701",
    ]


def test_l2tp_is_protected_and_nothing_else() -> None:
    lan = dialled(OTHER)
    for client in (CLIENT, OTHER):
        talk(lan, client)
        for packet in (segment(client, SERVER), datagram(client, SERVER), segment(SERVER, client)):
            assert lan.send(packet) == CLEAR
    assert [item.filter_name for item in lan[CLIENT].associations()] == ["L2TP Client"] * 2
    assert {item.security for item in lan[SERVER].associations()} == {"ESP[3DES,SHA1]"}
    assert lan.send(datagram(CLIENT, OTHER, L2TP)) == CLEAR, "a connection is with its server alone"


def test_l2tp_in_clear_is_refused() -> None:
    lan = dialled()
    lan.computers[OTHER] = Lan({OTHER: None})[OTHER]
    assert lan.send(datagram(OTHER, SERVER, L2TP)) == (Status.NO_FILTER, Status.SHOULD_BE_SECURED)


def test_the_server_may_begin_as_well() -> None:
    lan = dialled()
    assert lan.send(datagram(SERVER, CLIENT, L2TP))[0] is Status.HELD
    assert lan.send(datagram(CLIENT, SERVER, L2TP)) == SECURED


def test_netdiag_shows_the_filters_and_no_policy() -> None:
    lan = dialled()
    lines = list(Diagnosis.read(lan[SERVER].snapshot(lan.now)).lines(debug=True, verbose=True))
    assert lines[1] == "    IPSec policy service is active, but no policy is assigned."
    assert "    There are 2 filters" in lines
    assert lines.count("    L2TP Server") == 2
    assert not any("Policy settings" in line for line in lines)


def test_beside_a_policy() -> None:
    """Its filters are in one order with those of the policy, which is shown as it is."""
    policy = assigned(block(9), {"filters": [{"source": "me", "destination": "any"}], "action": "permit"})
    lan = dialled(policy=policy)
    talk(lan)
    assert lan.send(datagram(CLIENT, SERVER, (5, 9)))[0] is Status.BLOCKED
    assert lan.send(segment(CLIENT, SERVER)) == (Status.PERMITTED, Status.PERMITTED)
    shown = lan[CLIENT].snapshot(lan.now).policy()
    assert shown == policy
    assert {item.policy_name for item in lan[CLIENT].associations()} == {"Assigned"}


def test_another_policy_leaves_l2tp_as_it_is() -> None:
    lan = dialled()
    talk(lan)
    before = [item.spi for item in lan[CLIENT].associations()]
    for policy in (assigned(block(9)), assigned(block(10)), None):
        lan[CLIENT].update_policy(lan.now, policy)
        lan.settle()
        assert [item.spi for item in lan[CLIENT].associations()] == before
        assert lan.send(datagram(CLIENT, SERVER, L2TP)) == SECURED
    assert len(flags(lan, CLIENT)) == 2


def test_hanging_up_ends_that_connection_only() -> None:
    lan = Lan(dict.fromkeys((CLIENT, SERVER, OTHER)))
    for server in (SERVER, OTHER):
        lan[server].start_rras(0.0, KEY)
        lan[CLIENT].dial(0.0, IPv4Address(server), KEY)
        assert lan.send(datagram(CLIENT, server, L2TP))[0] is Status.HELD
    lan[CLIENT].hang_up(lan.now, IPv4Address(SERVER))
    lan[CLIENT].hang_up(lan.now, IPv4Address("10.0.0.99"))
    lan.settle()
    assert [len(lan[address].associations()) for address in (CLIENT, SERVER, OTHER)] == [2, 0, 2]
    assert lan.send(datagram(CLIENT, OTHER, L2TP)) == SECURED
    assert lan.send(datagram(CLIENT, SERVER, L2TP)) == (Status.NO_FILTER, Status.SHOULD_BE_SECURED)


def test_stopping_rras() -> None:
    lan = dialled()
    talk(lan)
    lan[SERVER].stop_rras(lan.now)
    lan[SERVER].stop_rras(lan.now)
    lan.settle()
    assert (flags(lan, SERVER), lan[CLIENT].associations()) == ([], [])
    lan[SERVER].start_rras(lan.now, KEY)
    lan.until(lan.now + 60.0)
    talk(lan)


@pytest.mark.parametrize("restart", [True, False])
def test_a_restart_of_the_policy_agent_loses_it(restart: bool) -> None:
    lan = dialled()
    talk(lan)
    if restart:
        lan[SERVER].restart_agent(lan.now)
    else:
        lan[SERVER].stop(lan.now)
        lan.settle()
        lan[SERVER].start(lan.now)
    lan.settle()
    assert (flags(lan, SERVER), lan[CLIENT].associations()) == ([], [])
    assert lan.send(datagram(SERVER, CLIENT, L2TP)) == (Status.NO_FILTER, Status.SHOULD_BE_SECURED)
    lan[SERVER].dial(lan.now, IPv4Address(OTHER), KEY)
    assert {text.partition(" Out")[0] for text in flags(lan, SERVER) if "Out" in text} == {"L2TP Client"}
    lan[SERVER].start_rras(lan.now, KEY)
    talk(lan)


def test_prohibited() -> None:
    lan = dialled(registry={"ProhibitIpSec": 1})
    assert flags(lan, SERVER) == flags(lan, CLIENT) == []
    assert lan.send(datagram(CLIENT, SERVER, L2TP)) == CLEAR
    assert lan.ike() == 0


def test_without_a_policy_agent() -> None:
    lan = Lan({SERVER: None})
    lan[SERVER].stop(0.0)
    for attempt in (lan[SERVER].start_rras, lambda now, method: lan[SERVER].dial(now, IPv4Address(CLIENT), method)):
        with pytest.raises(PolicyError, match=r"^the Policy Agent is not running$"):
            attempt(0.0, KEY)
    lan[SERVER].stop_rras(0.0)


def test_without_a_certificate() -> None:
    lan = Lan({SERVER: assigned(block(9))})
    before = flags(lan, SERVER)
    with pytest.raises(
        PolicyError, match=r"^L2TP: the computer has no certificate; accepted: one under a trusted root$"
    ):
        lan[SERVER].start_rras(0.0)
    named = [AuthenticationMethod(AuthenticationKind.CERTIFICATE, "CN=Root")]
    with pytest.raises(PolicyError, match=r"^policy 'Assigned', rule 'L2TP Server': no authentication method can be"):
        lan[SERVER].start_rras(0.0, named)
    assert flags(lan, SERVER) == before
    lan[SERVER].update_policy(0.0, assigned(block(10)))
    assert len(flags(lan, SERVER)) == 2


# With certificates


def certificate(
    subject: str, key: rsa.RSAPrivateKey, signer: rsa.RSAPrivateKey, *extensions: x509.ExtensionType
) -> x509.Certificate:
    own, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (subject, "Root"))
    start = datetime(2001, 9, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(own).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(len(subject)).not_valid_before(start).not_valid_after(start + timedelta(days=90))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def store() -> MachineStore:
    """One certificate, of either computer."""
    root_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    root = certificate("Root", root_key, root_key, x509.BasicConstraints(ca=True, path_length=None))
    own = MachineCertificate(certificate("Host", key, root_key), key)
    lonely = certificate("Lonely", key, key, x509.BasicConstraints(ca=True, path_length=None))
    return MachineStore(epoch=datetime(2001, 9, 11, tzinfo=UTC), own=[own], roots=[lonely, root])


def test_by_certificate_under_any_root_that_there_is(store: MachineStore) -> None:
    assert store.usable_roots() == ("CN=Root",)
    lan = Lan(dict.fromkeys((CLIENT, SERVER)), certificates=store)
    lan[SERVER].start_rras(0.0)
    lan[CLIENT].dial(0.0, IPv4Address(SERVER))
    talk(lan)
    main, _ = lan[SERVER].log.events(log="Security")
    assert "Host" in main.text


# Rules beside the policy, whoever pushes them


def test_a_name_stands_for_its_last_rules() -> None:
    lan = Lan({SERVER: None})
    service = lan[SERVER].service
    service.push(0.0, "one", DynamicRules(assigned(block(7)).rules, delete=True))
    service.push(0.0, "two", DynamicRules(assigned(block(8)).rules, delete=True))
    service.push(0.0, "one", DynamicRules(assigned(block(9)).rules, delete=True))
    outbound = [text.rpartition(":")[2] for text in flags(lan, SERVER) if "Outbound" in text]
    assert outbound == ["9", "8"]
    service.withdraw(0.0, "one")
    service.withdraw(0.0, "nobody")
    assert [text.rpartition(":")[2] for text in flags(lan, SERVER) if "Outbound" in text] == ["8"]
    assert [event.event_id for event in lan[SERVER].log.events(source="PolicyAgent")] == [279]


def test_what_cannot_be_used_changes_nothing() -> None:
    response = {"default_response": True, "authentication": [{"preshared_key": "k"}]}
    lan = Lan({SERVER: assigned(response)})
    service = lan[SERVER].service
    service.push(0.0, "one", DynamicRules(assigned(block(7)).rules, delete=True))
    before = flags(lan, SERVER)
    with pytest.raises(PolicyError, match=r"^a policy has one default response rule at most$"):
        service.push(0.0, "one", DynamicRules(assigned(response).rules * 2))
    assert flags(lan, SERVER) == before
    lan[SERVER].update_policy(0.0, None)
    assert flags(lan, SERVER) == before
    service.push(0.0, "two", DynamicRules(assigned(response).rules, delete=True))
    view = lan[SERVER]._view
    assert view is not None
    assert view.main_mode(SERVER, CLIENT) is not None, "the default response rule may be one of those"


def test_the_same_filters_with_another_key() -> None:
    """They are other rules: nothing of the former ones lives on."""
    lan = dialled()
    talk(lan)
    other = (AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "another key"),)
    lan[CLIENT].dial(lan.now, IPv4Address(SERVER), other)
    lan.settle()
    assert lan[CLIENT].associations() == lan[SERVER].associations() == []
    lan[SERVER].start_rras(lan.now, other)
    lan.until(lan.now + 60.0)
    talk(lan)
