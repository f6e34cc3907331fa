"""Two agents in two network namespaces, as processes: traffic, signals, a crash, and what is left of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipsec_core.computer.state import State
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_catalogue, save
from ipsec_core.policy.toml import policy_from_table

pytestmark = pytest.mark.interop

SPACES = ("ipc_live_a", "ipc_live_b")
OUTER = ("10.90.0.1", "10.90.0.2")
INNER = ("10.91.0.1", "10.92.0.1")
AGENT = (sys.executable, "-c", "from ipsec_core.tools.main import main; main()", "agent")


def need(there: bool, what: str) -> None:
    if not there and "CI" in os.environ:
        pytest.fail(f"{what} is missing")
    if not there:
        pytest.skip(f"no {what}")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def policy(side: int, mode: str, method: str, key: str = "the tests' key") -> str:
    here, there = side, 1 - side
    rule = (
        '[[rules]]\nname = "{name}"\nfilters = [{{ source = "{source}", destination = "{destination}" }}]\n'
        f'action = {{{{ negotiate = ["{method}"] }}}}\nauthentication = [{{{{ preshared_key = "{key}" }}}}]\n'
    )
    if mode == "transport":
        rules = rule.format(name="Peer", source="me", destination=OUTER[there])
    else:
        end = 'tunnel_endpoint = "{end}"\n'
        ways = (("There", here, there), ("Here", there, here))
        rules = "".join(
            (rule + end).format(name=n, source=INNER[a], destination=INNER[b], end=OUTER[b]) for n, a, b in ways
        )
    return f'name = "Test"\nkey_exchange = {{ methods = ["3DES-SHA1-2"] }}\n{rules}'


class Lab:
    """The namespaces, and the agents in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agents: dict[int, subprocess.Popen[bytes]] = {}

    def up(self) -> None:
        for space in SPACES:
            run("ip", "netns", "add", space)
        run(
            "ip",
            "link",
            "add",
            "ipcl0",
            "netns",
            SPACES[0],
            "type",
            "veth",
            "peer",
            "name",
            "ipcl1",
            "netns",
            SPACES[1],
        )
        for side, space in enumerate(SPACES):
            run("ip", "-n", space, "address", "add", f"{OUTER[side]}/24", "dev", f"ipcl{side}")
            run("ip", "-n", space, "address", "add", f"{INNER[side]}/32", "dev", "lo")
            for device in ("lo", f"ipcl{side}"):
                run("ip", "-n", space, "link", "set", device, "up")

    def down(self) -> None:
        for side in list(self.agents):
            self.stop(side, signal.SIGKILL)
        for space in SPACES:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)

    def command(self, side: int, *arguments: str) -> list[str]:
        """The agent's own; ip makes the namespace its own and is replaced by it."""
        state, file = self.folder / f"state{side}", self.folder / f"policy{side}.toml"
        own = ["--state", str(state), "--listen", OUTER[side], "--name", f"SIDE{side}"]
        own += ["--policy", str(file)] * file.exists()
        return ["ip", "netns", "exec", SPACES[side], *AGENT, *own, "--interval", "0.2", *arguments]

    def start(self, side: int, text: str, *arguments: str) -> None:
        """Without a text there is no policy file."""
        if text:
            (self.folder / f"policy{side}.toml").write_text(text)
        with self.log(side).open("w") as log:
            agent = self.agents[side] = subprocess.Popen(self.command(side, *arguments), stderr=log)
        self.wait(lambda: "listening" in self.said(side) or agent.poll() is not None)
        assert agent.poll() is None, self.said(side)

    def log(self, side: int) -> Path:
        return self.folder / f"log{side}"

    def said(self, side: int) -> str:
        return self.log(side).read_text()

    def start_both(self, mode: str, method: str, *arguments: str) -> None:
        for side in (0, 1):
            self.start(side, policy(side, mode, method), *arguments)

    def stop(self, side: int, number: int = signal.SIGTERM) -> int:
        agent = self.agents.pop(side)
        agent.send_signal(number)
        return agent.wait(15)

    def refused(self, side: int, *arguments: str, text: str = policy(0, "transport", "ESP[3DES,SHA1]")) -> str:
        """The one line of an agent that does not start."""
        (self.folder / f"policy{side}.toml").write_text(text)
        done = subprocess.run(self.command(side, *arguments), capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    @staticmethod
    def wait(ready: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def net(self, side: int, *words: str) -> str:
        """The tool needs the directory, not the namespace."""
        return run(*AGENT[:-1], "net", *words, "--state", str(self.folder / f"state{side}"))

    def inside(self, side: int, *command: str) -> str:
        return run("ip", "netns", "exec", SPACES[side], *command)

    def ping(self, mode: str, side: int = 0, *options: str) -> bool:
        """Whether every packet of a ping is answered."""
        ends = OUTER if mode == "transport" else INNER
        command = ["ping", "-q", "-c", "2", "-i", "0.05", "-W", "2", "-I", ends[side], *options, ends[1 - side]]
        done = subprocess.run(
            ["ip", "netns", "exec", SPACES[side], *command], capture_output=True, text=True, check=False
        )
        return " 0% packet loss" in done.stdout

    def counters(self, side: int) -> dict[str, int]:
        with State.open(self.folder / f"state{side}") as state:
            return state.counters()

    def traces(self, side: int) -> tuple[str, ...]:
        """What an agent changes in its namespace."""
        space = ("-n", SPACES[side])
        devices = run("ip", *space, "-brief", "link").split("@")[0]
        return run("ip", *space, "rule"), devices, run("tc", *space, "qdisc", "show", "dev", f"ipcl{side}")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    need(os.geteuid() == 0 and Path("/dev/net/tun").exists(), "root with /dev/net/tun, for network namespaces,")
    for program in ("ip", "ping"):
        need(shutil.which(program) is not None, program)
    made = Lab(tmp_path)
    made.down()
    made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.mark.parametrize("method", ["ESP[3DES,SHA1]", "AH[SHA1]", "AH[SHA1]+ESP[3DES,MD5]"])
@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_traffic(lab: Lab, mode: str, method: str) -> None:
    """Small packets, and those that are fragmented: before IPsec by the host, after it by us. Nothing goes in clear."""
    before = lab.traces(0)
    lab.start_both(mode, method)
    assert lab.ping(mode)
    assert lab.ping(mode, 1)
    assert lab.ping(mode, 0, "-s", "5000")
    for size in (1400, 1430):
        assert lab.ping(mode, 0, "-s", str(size))
    assert not lab.ping(mode, 0, "-s", "1472", "-M", "do")
    lab.wait(lambda: lab.counters(0)["authenticated_bytes_received"] > 15000)
    counters = lab.counters(0)
    assert counters["bad_spi_packets"] == counters["packets_not_authenticated"] == 0
    assert "out_no_filter" not in counters
    assert lab.stop(0) == 0
    # The peer is told; both leave nothing behind.
    lab.wait(lambda: lab.counters(1)["active_associations"] == 0)
    assert lab.stop(1) == 0
    assert lab.traces(0) == before
    with State.open(lab.folder / "state1") as state:
        ended = {event.event_id for event in state.event_log().events()}
    assert ended >= {279, 541, 542, 543}


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_tcp(lab: Lab, mode: str) -> None:
    """A transfer of some megabytes arrives whole, over rekeys by bytes."""
    lab.start_both(mode, "ESP[AES-128-GCM]:20480k/3600s", "--profile", "modern")
    assert lab.ping(mode)
    ends = OUTER if mode == "transport" else INNER
    size = 60 << 20
    serve = "import hashlib, socket, sys\ns = socket.create_server((sys.argv[1], 5001)); c = s.accept()[0]\n"
    serve += (
        "h = hashlib.sha256(); n = 0\nwhile d := c.recv(1 << 16): h.update(d); n += len(d)\nprint(n, h.hexdigest())"
    )
    send = "import hashlib, random, socket, sys\nd = random.Random(1).randbytes(1 << 20)\n"
    send += "c = socket.create_connection((sys.argv[1], 5001)); h = hashlib.sha256()\n"
    send += "for _ in range(int(sys.argv[2]) >> 20): c.sendall(d); h.update(d)\n"
    send += "c.close(); print(sys.argv[2], h.hexdigest())"
    server = subprocess.Popen(
        ["ip", "netns", "exec", SPACES[1], sys.executable, "-c", serve, ends[1]], stdout=subprocess.PIPE, text=True
    )
    with server:
        time.sleep(0.5)
        sent = lab.inside(0, sys.executable, "-c", send, ends[1], str(size))
        assert server.communicate(timeout=30)[0] == sent
    lab.wait(lambda: lab.counters(0)["confidential_bytes_sent"] > size)
    lab.wait(lambda: lab.counters(1)["confidential_bytes_received"] > size)
    assert lab.counters(0)["key_additions"] > 2


def test_a_killed_agent_begins_anew(lab: Lab) -> None:
    """Its state directory is whole, what it left in the network is taken over, and its peer learns that it is new."""
    lab.start_both("tunnel", "ESP[3DES,SHA1]")
    assert lab.ping("tunnel")
    lab.wait(lambda: lab.counters(0)["active_associations"] == 2)
    lab.stop(0, signal.SIGKILL)
    assert lab.counters(0)["active_associations"] == 2
    lab.start(0, policy(0, "tunnel", "ESP[3DES,SHA1]"))
    assert lab.ping("tunnel")
    lab.wait(lambda: lab.counters(1)["key_deletions"] == 2)
    assert lab.ping("tunnel", 1)
    with State.open(lab.folder / "state0") as state:
        assert [event.event_id for event in state.event_log().events()].count(279) == 2
    assert lab.stop(0) == 0
    assert "fwmark" not in lab.traces(0)[0]


def test_another_policy(lab: Lab) -> None:
    lab.start_both("tunnel", "ESP[3DES,SHA1]")
    assert lab.ping("tunnel")
    for side in (0, 1):
        (lab.folder / f"policy{side}.toml").write_text("no policy")
        lab.agents[side].send_signal(signal.SIGHUP)
    lab.wait(lambda: all("stays as it was" in lab.said(side) for side in (0, 1)))
    assert lab.ping("tunnel")
    for side in (0, 1):
        (lab.folder / f"policy{side}.toml").write_text(policy(side, "transport", "ESP[DES,MD5]"))
        lab.agents[side].send_signal(signal.SIGHUP)
    lab.wait(lambda: all("is in effect" in lab.said(side) for side in (0, 1)))
    assert lab.ping("transport")
    assert not lab.ping("tunnel")
    lab.wait(lambda: lab.counters(0)["active_associations"] == 2)
    with State.open(lab.folder / "state0") as state:
        assert {item.security for item in state.associations()} == {"ESP[DES,MD5]"}


def test_net(lab: Lab) -> None:
    """stop opens what was protected, in driver and network; start protects it again, with statistics at 0."""
    before = lab.traces(0)
    lab.start(0, policy(0, "transport", "ESP[3DES,SHA1]"))
    lab.start(1, policy(1, "transport", "ESP[3DES,SHA1]"))
    socket = lab.folder / "state0" / "control"
    assert socket.stat().st_mode & 0o777 == 0o600
    assert lab.ping("transport")
    assert "IPSEC Policy Agent" in lab.net(0, "start")
    for side in (0, 1):
        assert "was stopped successfully" in lab.net(side, "stop", "policyagent")
    assert lab.net(0, "start") == "No service runs.\n"
    assert lab.inside(0, "ip", "route", "show", "table", "all").count("ipsec0") == 0
    with State.open(lab.folder / "state0") as state:
        assert state.associations() == ()
        assert state.meta("ip_security_enabled") is False
    assert lab.ping("transport")
    assert "Policy 'Test' is in effect." in lab.net(0, "START", "PolicyAgent")
    assert not lab.ping("transport"), "the peer does not speak IKE"
    lab.net(1, "start", "policyagent")
    assert lab.ping("transport", 1)
    lab.wait(lambda: lab.counters(0)["active_associations"] == 2)
    assert lab.counters(0)["oakley_main_modes"] == 1
    assert json.loads(lab.net(0, "status", "--json"))["source"] == "local"
    (lab.folder / "policy0.toml").write_text("no policy")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        lab.net(0, "restart", "policyagent")
    assert refused.value.returncode == 2
    assert "policy0.toml" in refused.value.stderr
    assert lab.ping("transport")
    for side in (0, 1):
        assert lab.stop(side) == 0
    assert not socket.exists()
    assert lab.traces(0) == before


def test_the_registry_decides(lab: Lab) -> None:
    """Without a policy file: what somebody assigns in the state directory of the running agent, after an update."""
    lab.start(0, "", "--domain", "ldap://127.0.0.1:9")
    assert "no IPsec policy is in effect" in lab.said(0)
    lab.wait(lambda: "the domain cannot be asked, what is in effect stays" in lab.said(0))
    assert lab.ping("transport")
    with State.open(lab.folder / "state0", readonly=False) as state:
        store = RegistryStore(state.registry)
        catalogue = read_catalogue(store)
        table = tomllib.loads(policy(0, "transport", "ESP[3DES,SHA1]"))
        catalogue.add_policy(policy_from_table(table, "test"))
        catalogue.assign("Test")
        save(catalogue, store, 0)
    lab.net(0, "update", "policyagent")
    assert not lab.ping("transport")
    lab.start(1, policy(1, "transport", "ESP[3DES,SHA1]"))
    assert lab.ping("transport", 1)
    status = lab.net(0, "status")
    assert "local computer policy" in status
    assert "127.0.0.1:9: " in status
    with State.open(lab.folder / "state0") as state:
        assert [event.event_id for event in state.event_log().events(source="PolicyAgent")] == [279, 284, 279]


def test_dynamic_rules(lab: Lab) -> None:
    """ipsecpol without -w: rules of the running agents, until they are deleted or the service stops."""

    def ipsecpol(side: int, *words: str) -> str:
        return run(*AGENT[:-1], "secpol", "--state", str(lab.folder / f"state{side}"), "ipsecpol", *words)

    for side in (0, 1):
        lab.start(side, "")
        script = lab.folder / "secure.cmd"
        script.write_text(f'ipsecpol -u\nipsecpol -f 0+{OUTER[1 - side]} -n ESP[DES,MD5] -a P:"a key" -1s DES-MD5-1\n')
        assert ipsecpol(side, "--file", str(script)) == f"{script} is carried out.\n"
    assert lab.ping("transport")
    lab.wait(lambda: lab.counters(0)["active_associations"] == 2)
    with State.open(lab.folder / "state0") as read:
        assert {item.security for item in read.associations()} == {"ESP[DES,MD5]"}
    ipsecpol(0, "-f", f"[0+{OUTER[1]}::ICMP]")
    assert "Beside it   2 dynamic rules" in lab.net(0, "status")
    assert not lab.ping("transport"), "the more specific filter blocks"
    ipsecpol(0, "-u", "-f", f"(0+{OUTER[1]}::ICMP)")
    ipsecpol(1, "-u")
    assert lab.ping("transport")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        ipsecpol(0, "-f", "0+*", "-n", "ESP[3DES,SHA]", "-1s", "3DES-SHA-2048")
    assert refused.value.returncode == 2
    assert json.loads(lab.net(0, "status", "--json"))["dynamic_rules"] == 1
    lab.net(0, "restart", "policyagent")
    assert json.loads(lab.net(0, "status", "--json"))["dynamic_rules"] == 0


def test_others_write_while_an_agent_runs(lab: Lab) -> None:
    """It writes its directory every ten minutes, and yet nobody waits for that."""
    lab.start(0, policy(0, "transport", "ESP[3DES,SHA1]"), "--interval", "600")
    assert not lab.ping("transport"), "what is said of the failure is not committed yet"
    state = str(lab.folder / "state0")
    run(*AGENT[:-1], "reg", "add", r"HKLM\SOFTWARE\Test", "/v", "x", "/d", "why", "--state", state)
    assert "why" in run(*AGENT[:-1], "reg", "query", r"HKLM\SOFTWARE\Test", "--state", state)


def test_a_client_responds(lab: Lab) -> None:
    """A computer with nothing but the default response rule: its own packets go protected while the peer's SAs live."""
    before = lab.traces(1)
    respond = '[[rules]]\ndefault_response = true\nauthentication = [{ preshared_key = "the tests\' key" }]\n'
    lab.start(1, f'name = "Respond"\nkey_exchange = {{ methods = ["3DES-SHA1-2"] }}\n{respond}')
    assert lab.ping("transport", 1), "it asks for nothing itself"
    lab.start(0, policy(0, "transport", "ESP[3DES,SHA1]"))
    assert lab.ping("transport", 0)
    lab.wait(lambda: OUTER[0] in run("ip", "-n", SPACES[1], "route", "show", "table", "all"))
    assert lab.ping("transport", 1, "-s", "5000")
    lab.wait(lambda: lab.counters(1)["confidential_bytes_sent"] > 10000)
    lab.wait(lambda: lab.counters(0)["confidential_bytes_received"] > 10000)
    assert lab.counters(1)["out_protected"] >= 4
    with State.open(lab.folder / "state1") as state:
        assert {item.name for item, _ in state.filters()} == {"<Dynamic>"}
    assert lab.stop(0) == 0
    lab.wait(lambda: lab.counters(1)["active_associations"] == 0)
    assert lab.ping("transport", 1)
    with State.open(lab.folder / "state1") as state:
        assert not state.filters()
    assert lab.stop(1) == 0
    assert lab.traces(1) == before


def test_clear_packets_of_a_peer_need_the_policy(lab: Lab) -> None:
    """The peer has no agent. What it sends is refused, or accepted in clear (fall back to it), or blocked."""
    before = lab.traces(0)
    assert lab.ping("transport", 1)
    secure = policy(0, "transport", "ESP[3DES,SHA1]")
    lab.start(0, secure)
    assert not lab.ping("transport", 1)
    assert not lab.ping("transport", 1, "-s", "3000")
    lab.wait(lambda: lab.counters(0).get("in_should_be_secured") == 4)
    clear = secure.replace('SHA1]"] }', 'SHA1]"], inbound_passthrough = true, allow_unsecured = true }')
    blocking = secure.replace('{ negotiate = ["ESP[3DES,SHA1]"] }', '"block"')
    for number, (text, answered) in enumerate(((clear, True), (blocking, False))):
        (lab.folder / "policy0.toml").write_text(text)
        lab.agents[0].send_signal(signal.SIGHUP)
        lab.wait(lambda done=number: lab.said(0).count("is in effect") > done)  # type: ignore[misc]
        if answered:
            lab.wait(lambda: lab.ping("transport", 1))  # a soft association comes after 3 s
            assert lab.ping("transport", 1, "-s", "3000")
        else:
            assert not lab.ping("transport", 1)
    lab.wait(lambda: lab.counters(0).get("in_blocked", 0) > 0)
    assert lab.stop(0) == 0
    assert lab.traces(0) == before
    assert lab.ping("transport", 1)


def test_a_device_that_is_taken_away(lab: Lab) -> None:
    lab.start(0, policy(0, "tunnel", "ESP[3DES,SHA1]"))
    run("ip", "-n", SPACES[0], "link", "del", "ipsec0")
    assert lab.agents[0].wait(15) == 2
    assert "somebody has removed it" in lab.said(0)
    del lab.agents[0]
    assert "fwmark" not in lab.traces(0)[0]


def test_keys_for_wireshark(lab: Lab) -> None:
    lab.start_both("tunnel", "ESP[3DES,SHA1]", "--key-log", "--trace")
    assert lab.ping("tunnel")
    assert lab.stop(0) == 0
    files = {path.name: path for path in (lab.folder / "state0").iterdir()}
    assert files["esp_sa"].stat().st_mode & 0o777 == 0o600
    assert len(files["esp_sa"].read_text().splitlines()) == 2
    assert len(files["ikev1_decryption_table"].read_text().splitlines()) == 1
    assert "Main mode established" in files["oakley.log"].read_text()
    assert "Main mode established" in lab.said(0)


def test_a_path_mtu_that_a_router_tells(lab: Lab) -> None:
    """A message about an ESP packet of ours makes the host's packets shorter; it forgets that only much later."""
    from scapy.layers.inet import ICMP, IP
    from scapy.packet import Raw

    lab.start_both("tunnel", "ESP[3DES,SHA1]")
    assert lab.ping("tunnel")
    lab.wait(lambda: lab.counters(0)["active_associations"] == 2)
    with State.open(lab.folder / "state0") as state:
        [spi] = [item.spi for item in state.associations() if item.direction == "outbound"]
    about = IP(src=OUTER[0], dst=OUTER[1], proto=50, len=1500) / Raw(spi.to_bytes(4) + (9).to_bytes(4))
    message = bytes(IP(src=OUTER[1], dst=OUTER[0]) / ICMP(type=3, code=4, nexthopmtu=1000) / about)
    send = "import socket, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
    send += f"s.sendto(bytes.fromhex(sys.argv[1]), ({OUTER[0]!r}, 0))"
    assert lab.ping("tunnel", 0, "-M", "do", "-s", "1200")
    lab.inside(1, sys.executable, "-c", send, message.hex())
    lab.wait(lambda: not lab.ping("tunnel", 0, "-M", "do", "-s", "1200"))
    assert lab.ping("tunnel", 0, "-s", "1200")
    assert lab.ping("tunnel", 0, "-M", "do", "-s", "800")


def test_what_it_lacks_it_says_in_one_line(lab: Lab) -> None:
    assert "address 203.0.113.9: not one of this computer" in lab.refused(0, "--listen", "203.0.113.9")
    assert "policy0.toml" in lab.refused(0, text="name = 1")
    assert "AES-128-GCM" in lab.refused(0, text=policy(0, "tunnel", "ESP[AES-128-GCM]"))
    assert "1 to 15 characters" in lab.refused(0, "--tun", "a name that is too long")
    assert "ipcl0: the name is taken" in lab.refused(0, "--tun", "ipcl0")
    assert "'x'; accepted: an IPv4 address" in lab.refused(0, "--listen", "x")
    assert "127.0.0.1; accepted: an address that peers can reach" in lab.refused(0, "--listen", "127.0.0.1")
    assert "'ipcl%d': no name of a device" in lab.refused(0, "--tun", "ipcl%d")
    assert "accepted: a folder with the folders own and roots" in lab.refused(0, "--certificates", str(lab.folder))
    lab.start(0, policy(0, "tunnel", "ESP[3DES,SHA1]"))
    assert "UDP port 500 of 10.90.0.1: in use" in lab.refused(0)
    run("ip", "-n", SPACES[0], "address", "add", "10.90.0.7/24", "dev", "ipcl0")
    assert "another agent keeps its state" in lab.refused(0, "--listen", "10.90.0.7")
    other = ("--listen", "10.90.0.7", "--state", str(lab.folder / "other"))
    assert "ipsec0: the name is taken" in lab.refused(0, *other)
    nobody = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-all"]
    done = subprocess.run(
        [*nobody, *AGENT, *lab.command(0)[8:], "--state", str(lab.folder / "third"), "--listen", "192.0.2.1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "not permitted; accepted: root, or CAP_NET_ADMIN" in done.stderr
    assert lab.stop(0) == 0
