"""The ends of an agent, seen by strongSwan: a clean stop, a death, and the run after it."""

from __future__ import annotations

import signal

import pytest
from agent import Agent, tunnel_policy
from charon import PRESHARED_KEY, Charon, connection
from namespaces import OUR_ADDRESS, OUR_HOST, PEER_ADDRESS, PEER_HOST, Namespaces, wait_until

pytestmark = pytest.mark.interop
SELECTORS = {"local_ts": f"{PEER_HOST}/32", "remote_ts": f"{OUR_HOST}/32"}
POLICY = tunnel_policy(
    "AES-128-SHA1-2",
    "ESP[AES-128-GCM]",
    PRESHARED_KEY,
    hosts=(OUR_HOST, PEER_HOST),
    gateways=(OUR_ADDRESS, PEER_ADDRESS),
)


@pytest.fixture
def agent(lab: Namespaces, carrying_charon: Charon) -> Agent:
    """Started, with a tunnel that carries pings."""
    for space, host in ((lab.ours, OUR_HOST), (lab.peers, PEER_HOST)):
        lab.give(space, host)
    carrying_charon.start(connection("aes128-sha1-modp1024", "aes128gcm16", mode="tunnel", child=SELECTORS))
    made = Agent(lab, lab.ours, "OURS")
    made.start(POLICY, "--profile", "modern")
    assert answered(lab)
    return made


def answered(lab: Namespaces) -> bool:
    """Whether the peer's host answers one of a few pings, the first of which may be lost."""
    return " 0 received" not in lab.run(lab.ours, "ping", "-c", "5", "-i", "0.3", "-I", OUR_HOST, PEER_HOST)


def test_a_clean_stop_is_told(lab: Namespaces, carrying_charon: Charon, agent: Agent) -> None:
    agent.program.stop()
    assert agent.program.process.returncode == 0
    wait_until(lambda: carrying_charon.said("received DELETE for IKE_SA"), "the end of the IKE_SA")
    wait_until(lambda: "INSTALLED" not in carrying_charon.swanctl("--list-sas"), "the end of the CHILD_SA")
    assert len(agent.audits(542)) == len(agent.audits(543)) == 1
    assert "ipsec9" not in lab.run(lab.ours, "ip", "link")


def test_after_a_death_the_peer_forgets_what_it_had(lab: Namespaces, carrying_charon: Charon, agent: Agent) -> None:
    agent.program.process.send_signal(signal.SIGKILL)
    agent.program.process.wait()
    agent.start(POLICY, "--profile", "modern")
    assert answered(lab)
    assert carrying_charon.said(r"\[ ID HASH N\(INITIAL_CONTACT\) \]")
    wait_until(
        lambda: carrying_charon.swanctl("--list-sas").count("ESTABLISHED") == 1, "one IKE_SA instead of two", 5.0
    )
