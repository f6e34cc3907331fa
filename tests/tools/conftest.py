"""A state directory as a run leaves it, and the two ways to call the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ipsec_core.computer import eventlog
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.state import Association, State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS
from ipsec_core.policy.compile import compile_policy
from ipsec_core.policy.toml import policy_from_table
from ipsec_core.tools.main import main

# Makes secpol_kit.py importable (the tests run in importlib mode).
sys.path.insert(0, str(Path(__file__).parent))

Call = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

MINE = IPv4Address("10.0.0.1")
POLICY = policy_from_table(
    {
        "name": "Lab [policy]",
        "rules": [
            {
                "name": "to BOB",
                "filters": [{"source": "me", "destination": "10.0.0.2"}],
                "action": {"negotiate": ["ESP[3DES,SHA1]"], "allow_unsecured": True},
                "authentication": [{"preshared_key": "s3cret"}],
            },
            {
                "filters": [{"source": "any", "destination": "me", "protocol": "udp", "destination_port": 1434}],
                "action": "block",
            },
        ],
    },
    "x",
)
HARD = Association(
    "Lab [policy]", "ESP[3DES,SHA1]", "to BOB", "10.0.0.1", "10.0.0.2", 0, 0, 0, None, "outbound", 0x12345678,
    "10.0.0.2", 123456, 99, False, 1.5,
)  # fmt: skip
TUNNEL = replace(
    HARD,
    security="ESP[AES-128-GCM]",
    filter_name="branch",
    source_address="10.1.0.0/16",
    destination_address="10.2.0.0/16",
    protocol=6,
    source_port=1234,
    destination_port=443,
    tunnel_endpoint="192.0.2.2",
)
SOFT = replace(
    HARD, security="None", filter_name="soft one", destination_address="10.0.0.9", spi=0, soft=True, established=None
)


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    """ALICE: a policy, three associations, counters 101, 102, ... and one event in each log but Application."""
    audit = AuditPolicy.from_table({"logon_events": ["success", "failure"]}, "x")
    with State.create(tmp_path / "ALICE", "ALICE") as state:
        state.set_meta("time", 2.5)
        state.set_meta("ip_security_enabled", True)
        state.save_policy(POLICY)
        state.save_filters((item, 7 * number) for number, item in enumerate(compile_policy(POLICY, [MINE])))
        state.save_associations([HARD, TUNNEL, SOFT])
        keys = [item.key for item in (*IPSEC_STATISTICS, *OAKLEY_STATISTICS)]
        state.save_counters({key: 101 + number for number, key in enumerate(keys)})
        log = state.event_log(audit)
        log.report(0.0, "PolicyAgent", 279, ("An IPsec policy is in effect.",))
        identity = eventlog.preshared_key_identity("10.0.0.2")
        parameters = eventlog.main_mode_parameters("3DES", "SHA1", 28800)
        log.report(0.25, "Security", 541, eventlog.main_mode_established(identity, "Source IP Address x", parameters))
        log.report(1.5, "IPSEC", 4283, eventlog.dropped_packets(7, "10.0.0.2"))
    return tmp_path / "ALICE"


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    """BOB: no policy, nothing happened, nothing audited."""
    State.create(tmp_path / "BOB", "BOB").close()
    return tmp_path / "BOB"


@pytest.fixture
def call() -> Call:
    """Runs the command line in this process; the width of the screen may be given."""

    def run(*words: object, columns: int = 80) -> Result:
        return CliRunner(env={"COLUMNS": str(columns)}).invoke(main, [str(word) for word in words])

    return run


@pytest.fixture
def refused(call: Call) -> Callable[..., str]:
    """Runs the command line with wrong input: the one line on stderr, after exit status 2 and nothing on stdout."""

    def run(*words: object) -> str:
        result = call(*words)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.endswith("\n")
        assert result.stderr.count("\n") == 1
        return result.stderr.strip()

    return run


@pytest.fixture
def program() -> list[str]:
    """The first words of a real process of the command line."""
    return [sys.executable, "-c", "from ipsec_core.tools.main import main; main()"]


@pytest.fixture
def run(program: list[str]) -> Run:
    """Runs the command line as a process of its own."""

    def start(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *map(str, words)],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "80"} | environment,
            timeout=60,
        )

    return start
