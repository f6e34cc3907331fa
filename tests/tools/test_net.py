"""`net`: against an agent's socket, with a Policy Agent behind it that needs neither root nor a device."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsec_core.live.control import Control

LISTED = "These services run on ALICE:\n   IPSEC Policy Agent\n"


class Agent:
    """As `live.agent` answers."""

    def __init__(self) -> None:
        self.running = True
        self.orders: list[str] = []
        self.dynamic_rules = 0
        self.domain: dict[str, object] = {"domain": None, "next_poll": None, "domain_failure": None}

    async def obey(self, order: dict[str, Any]) -> dict[str, object]:
        do = order["do"]
        self.orders.append(do)
        if do == "status":
            policy = {"policy": "Lab", "source": "domain" if self.domain["domain"] else "local", "since": 1e9}
            off = {"policy": None, "source": None, "since": None}
            who = {"name": "ALICE", "running": self.running, "dynamic_rules": self.dynamic_rules}
            return {**who, **(policy if self.running else off), **self.domain}
        if do in ("start", "stop") and self.running is (do == "start"):
            return {"error": f"the Policy Agent is {'running already' if self.running else 'not running'}"}
        self.running = do != "stop"
        return {"text": "policy 'Lab' is in effect" if self.running else "the Policy Agent is stopped"}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """Its state directory is the current folder."""
    monkeypatch.chdir(tmp_path)
    made, loop, ready = Agent(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        control = Control(tmp_path, made.obey)
        await control.open()
        ready.set()
        await ended.wait()
        await control.close()

    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    yield made
    loop.call_soon_threadsafe(ended.set)
    thread.join(20)
    loop.close()


@pytest.mark.parametrize("words", [["stop", "policyagent"], ["STOP", "PolicyAgent"], ["stop", "IPSEC Policy Agent"]])
def test_stop(call: Any, agent: Agent, words: list[str]) -> None:
    result = call("net", *words)
    assert result.exit_code == 0
    assert result.stdout == ("The IPSEC Policy Agent service was stopped successfully.\nThe Policy Agent is stopped.\n")
    assert agent.orders == ["stop"]
    assert not agent.running
    assert call("net", "start", "POLICYAGENT").stdout.startswith(
        "The IPSEC Policy Agent service was started successfully.\nPolicy 'Lab' is in effect."
    )


@pytest.mark.parametrize(("do", "done"), [("restart", "was restarted successfully"), ("update", "has read its policy")])
def test_restart_and_update(call: Any, agent: Agent, do: str, done: str) -> None:
    assert done in call("net", do, "policyagent").stdout
    assert agent.orders == [do]


def test_what_runs(call: Any, agent: Agent) -> None:
    assert call("net", "start").stdout == LISTED
    assert json.loads(call("net", "start", "--json").stdout) == {"services": ["IPSEC Policy Agent"]}
    agent.running = False
    assert call("net", "start").stdout == "No service runs.\n"
    assert json.loads(call("net", "start", "--json").stdout) == {"services": []}


def test_status(call: Any, agent: Agent) -> None:
    for words in (["status"], ["STATUS", "policyagent"]):
        lines = call("net", *words).stdout.splitlines()
        assert lines[:4] == [
            "Service     IPSEC Policy Agent of ALICE",
            "State       running",
            "Policy      Lab",
            "Source      local computer policy",
        ]
        assert lines[4].startswith("Since       2001-09-09 ")
        assert len(lines) == 5
    agent.dynamic_rules = 1
    assert call("net", "status").stdout.splitlines()[4] == "Beside it   1 dynamic rule"
    agent.dynamic_rules = 0
    agent.domain = {"domain": "ldap://dc", "next_poll": 1e9, "domain_failure": "no answer within 30 s"}
    lines = call("net", "status").stdout.splitlines()
    assert lines[3] == "Source      Group Policy from Active Directory"
    assert lines[5] == "Domain      ldap://dc"
    assert lines[6].startswith("Asked next  2001-09-09 ")
    assert lines[7] == "Failure     no answer within 30 s"
    assert json.loads(call("net", "status", "--json").stdout)["domain_failure"] == "no answer within 30 s"
    agent.running = False
    assert "State       stopped" in call("net", "status").stdout


def test_as_json(call: Any, agent: Agent) -> None:
    assert json.loads(call("net", "stop", "policyagent", "--json").stdout) == {"text": "the Policy Agent is stopped"}


def test_a_wrong_moment(refused: Callable[..., str], agent: Agent) -> None:
    assert refused("net", "start", "policyagent") == "ipsec-core: the Policy Agent is running already"
    agent.running = False
    assert refused("net", "stop", "policyagent") == "ipsec-core: the Policy Agent is not running"


def test_wrong_words(refused: Callable[..., str], agent: Agent) -> None:
    accepted = "accepted: start, stop, restart, update, status, each with policyagent"
    assert refused("net") == f"ipsec-core net: {accepted}"
    assert refused("net", "pause", "policyagent") == f"ipsec-core net: 'pause' is no command; {accepted}"
    assert refused("net", "stop", "spooler") == "ipsec-core net: 'spooler' is no service; accepted: policyagent"
    assert refused("net", "stop") == "ipsec-core net: stop needs a service; accepted: policyagent"
    assert agent.orders == []


def test_nothing_runs_there(refused: Callable[..., str], alice: Path) -> None:
    line = f"ipsec-core: {alice}: no agent runs there; accepted: the state directory of a running agent"
    for words in (["stop", "policyagent"], ["start"], ["status"]):
        assert refused("net", *words, "--state", alice) == line
