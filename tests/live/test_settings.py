"""What needs neither root nor a device: routes of a policy, options, the state directory, the policy file."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from ipsec_core.computer.state import State
from ipsec_core.errors import AgentError, PolicyError, StateError
from ipsec_core.ike import NatTraversal
from ipsec_core.live import devices
from ipsec_core.live.agent import Settings, load_policy
from ipsec_core.live.directory import open_state
from ipsec_core.live.guard import guarded
from ipsec_core.live.network import Route, routes, routing_table
from ipsec_core.policy.compile import compile_policy
from ipsec_core.policy.toml import policy_from_table

ME, INSIDE = IPv4Address("192.0.2.1"), IPv4Address("10.1.0.1")


def rule(source: str, destination: str, action: object, endpoint: str | None = None) -> dict[str, object]:
    made: dict[str, object] = {
        "name": "r",
        "filters": [{"source": source, "destination": destination}],
        "action": action,
        "authentication": [{"preshared_key": "k"}],
    }
    return made if endpoint is None else made | {"tunnel_endpoint": endpoint}


def test_routes_for_what_is_protected_or_blocked() -> None:
    secure = {"negotiate": ["ESP[3DES,SHA1]"]}
    rules = [
        rule("10.1.0.0/16", "10.2.0.0/16", secure, "192.0.2.2"),
        rule("10.2.0.0/16", "10.1.0.0/16", secure, "192.0.2.1"),
        rule("me", "192.0.2.9", secure),
        rule("me", "192.0.2.7", "block"),
        rule("me", "192.0.2.8", "permit"),
    ]
    filters = compile_policy(policy_from_table({"name": "p", "rules": rules}, "test"), [ME])
    found = routes(filters, [INSIDE, ME])
    assert set(found) == {
        Route(IPv4Network("10.2.0.0/16"), INSIDE),
        Route(IPv4Network("192.0.2.9"), ME),
        Route(IPv4Network("192.0.2.7"), ME),
    }
    # Without an address in the subnet the sender's own choice stands.
    assert Route(IPv4Network("10.2.0.0/16"), None) in routes(filters, [ME])


def test_guarded_is_what_comes_to_us_in_transport_mode() -> None:
    secure = {"negotiate": ["ESP[3DES,SHA1]"]}
    open_door = secure | {"inbound_passthrough": True}
    rules = [
        rule("me", "192.0.2.9", secure),
        rule("me", "192.0.2.16/28", open_door),
        rule("me", "192.0.2.7", "block"),
        rule("me", "192.0.2.8", "permit"),
        rule("10.2.0.0/16", "10.1.0.0/16", secure, "192.0.2.1"),
        rule("10.3.0.1", "10.3.0.2", secure),
    ]
    filters = compile_policy(policy_from_table({"name": "p", "rules": rules}, "test"), [ME])
    assert {str(one) for one in guarded(filters, ME)} == {"192.0.2.9/32", "192.0.2.16/28", "192.0.2.7/32"}


def test_a_routing_table_for_each_device() -> None:
    assert routing_table("ipsec0") == routing_table("ipsec0") != routing_table("ipsec1")
    assert 255 < routing_table("ipsec0") < 2**32


def test_pretended_nat_in_every_profile(tmp_path: Path) -> None:
    plain = Settings(tmp_path, tmp_path, ME)
    assert plain.options().nat_traversal == ()
    options = Settings(tmp_path, tmp_path, ME, udp=True).options()
    assert options.pretend_nat
    assert NatTraversal.RFC_3947 in options.nat_traversal
    assert options.vendor_version == plain.options().vendor_version
    update = Settings(tmp_path, tmp_path, ME, profile="windows-2000-update", udp=True).options()
    assert update.nat_traversal == (NatTraversal.DRAFT_02,)


def test_a_state_directory_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "new" / "state"
    with open_state(place, "ALICE", None) as state:
        assert state.name == "ALICE"
        state.event_log().report(1.0, "PolicyAgent", 279, ("text",))
    with open_state(place, "", None) as state:
        assert state.name == "ALICE"
        assert len(state.event_log().events()) == 1
    with open_state(place, "BOB", None) as state:
        assert state.name == "BOB"


def test_one_agent_a_directory(tmp_path: Path) -> None:
    with (
        open_state(tmp_path / "state", "ALICE", None) as state,
        pytest.raises(StateError, match="state: another agent keeps its state there"),
        open_state(tmp_path / "state", "ALICE", None),
    ):
        pass
    assert state is not None
    with open_state(tmp_path / "state", "ALICE", None), State.open(tmp_path / "state") as reader:
        assert reader.name == "ALICE"


@pytest.mark.parametrize("what", ["file", "folder", "damaged"])
def test_what_is_no_state_directory(tmp_path: Path, what: str) -> None:
    place = tmp_path / "state"
    if what == "file":
        place.write_text("")
    else:
        place.mkdir()
        (place / ("state.sqlite" if what == "damaged" else "other")).write_text("no state")
    with pytest.raises(StateError, match=str(place)), open_state(place, "ALICE", None):
        pass


def test_lines_are_shown(tmp_path: Path) -> None:
    lines: list[str] = []
    with open_state(tmp_path / "state", "ALICE", lines.append) as state:
        state.add_line("oakley.log", "a line")
    assert lines == ["a line"]
    assert (tmp_path / "state" / "oakley.log").read_text() == "a line\n"


@pytest.mark.parametrize(("text", "error"), [(None, "No such file"), ("= 1", "not TOML"), ("a = 1", "accepted")])
def test_a_wrong_policy_file(tmp_path: Path, text: str | None, error: str) -> None:
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PolicyError, match=error) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "sixteen-letters!", "a/b", "a b", ".."])
def test_a_wrong_device_name(name: str) -> None:
    with pytest.raises(AgentError, match="1 to 15 characters"):
        devices.open_tun(name)
