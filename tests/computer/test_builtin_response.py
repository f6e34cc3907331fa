"""The built-in policies as they are, with Kerberos: who only responds, with who requests and who requires security."""

from __future__ import annotations

from itertools import count

import pytest
from lan_kit import Lan, echo, segment

from ipsec_core.driver import Status
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_policy
from ipsec_core.sim.realm import Realm

A, B = "10.0.0.1", "10.0.0.2"
CLIENT, SERVER, SECURE = BUILTIN_NAMES
SECURED = (Status.PROTECTED, Status.PROTECTED)


def between(here: str, there: str) -> Lan:
    numbers = count(1)
    realm = Realm("EXAMPLE.COM", lambda: 0.0, lambda size: next(numbers).to_bytes(size))
    policies = {A: builtin_policy(here), B: builtin_policy(there)}
    return Lan(policies, {A: {"kerberos": realm.join("HOST0")}, B: {"kerberos": realm.join("HOST1")}})


@pytest.mark.parametrize("there", [SERVER, SECURE])
def test_a_client_and_a_server(there: str) -> None:
    lan = between(CLIENT, there)
    assert lan.send(segment(A, B)) == (Status.NO_FILTER, Status.PASSED_THROUGH)
    assert lan.send(segment(B, A))[0] is Status.HELD
    assert lan.send(segment(A, B)) == lan.send(segment(B, A)) == SECURED
    assert [item.filter_name for item in lan[A].associations()] == ["<Dynamic>"] * 2
    assert {item.security for item in lan[A].associations()} == {"ESP[3DES,SHA1]"}
    assert lan.send(echo(B, A)) == (Status.PERMITTED, Status.PASSED_THROUGH), "a ping of the server, and its answer"
    assert lan.send(echo(A, B)) == SECURED


def test_two_clients_stay_in_clear() -> None:
    lan = between(CLIENT, CLIENT)
    assert lan.send(segment(A, B)) == lan.send(segment(B, A)) == (Status.NO_FILTER, Status.NO_FILTER)
    assert lan.ike() == 0


@pytest.mark.parametrize("there", [SERVER, SECURE])
def test_two_servers_need_no_dynamic_filter(there: str) -> None:
    lan = between(SERVER, there)
    assert lan.send(segment(A, B))[0] is Status.HELD
    assert lan.send(segment(B, A)) == SECURED
    assert "<Dynamic>" not in {item.filter_name for item in lan[A].associations()}
