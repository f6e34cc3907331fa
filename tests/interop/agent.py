"""`ipsec-core agent` in a namespace."""

from __future__ import annotations

import sys
import tomllib

from namespaces import OUR_ADDRESS, Namespace, Namespaces, Program, wait_until

from ipsec_core.computer.eventlog import Event
from ipsec_core.computer.state import State

WRITE_SECONDS = "0.2"
MAIN = "from ipsec_core.tools.main import main; main()"


class Agent:
    """Runs from `start` to `stop` or to the end of the namespaces."""

    def __init__(self, lab: Namespaces, space: Namespace, name: str, *, address: str = OUR_ADDRESS) -> None:
        self.lab, self.space, self.name, self.address = lab, space, name, address
        self.state = lab.folder / name
        self.program: Program

    def start(self, policy: str, *options: str) -> None:
        """`policy` is the text of a policy file."""
        tomllib.loads(policy)
        file = self.lab.folder / f"{self.name}.toml"
        file.write_text(policy)
        command = [sys.executable, "-c", MAIN, "agent", "--state", self.state, "--policy", file]
        settings = {"--listen": self.address, "--name": self.name, "--tun": "ipsec9", "--interval": WRITE_SECONDS}
        words = [*command, *(word for item in settings.items() for word in item), *options]
        self.program = self.lab.start(self.space, words, f"agent-{self.name}")
        wait_until(lambda: self.program.said("listening on") or self.program.ended, "the agent")
        assert not self.program.ended, self.program.output

    def events(self) -> tuple[Event, ...]:
        with State.open(self.state) as state:
            return state.event_log().events()

    def audits(self, number: int) -> list[str]:
        return [event.text for event in self.events() if event.event_id == number]


def tunnel_policy(
    main_mode: str, quick_mode: str, preshared_key: str, *, hosts: tuple[str, str], gateways: tuple[str, str]
) -> str:
    """A tunnel between the hosts behind two gateways, each pair (ours, the peer's)."""
    ways = (("Out", *hosts, gateways[1]), ("In", *reversed(hosts), gateways[0]))
    rules = "".join(
        f"""
[[rules]]
name = "{name}"
filters = [{{ source = "{source}", destination = "{destination}" }}]
action = {{ negotiate = ["{quick_mode}"] }}
authentication = [{{ preshared_key = "{preshared_key}" }}]
tunnel_endpoint = "{gateway}"
"""
        for name, source, destination, gateway in ways
    )
    return f'name = "Tunnel"\nkey_exchange = {{ methods = ["{main_mode}"] }}\n{rules}'
