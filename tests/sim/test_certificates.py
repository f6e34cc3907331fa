"""Scenarios whose computers have certificates."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sim_kit import SCENARIO, write_scenario

from ipsec_core.computer.state import State
from ipsec_core.errors import ScenarioError
from ipsec_core.sim.run import simulate

START = datetime(2026, 11, 1, tzinfo=UTC)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certificate(subject: str, key: rsa.RSAPrivateKey, root_key: rsa.RSAPrivateKey) -> bytes:
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("Root"))
        .public_key(key.public_key())
        .serial_number(1 + len(subject))
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=subject == "Root", path_length=None), True)
        .sign(root_key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each computer, in one folder."""
    folder = tmp_path_factory.mktemp("certificates")
    keys = {who: rsa.generate_private_key(65537, 2048) for who in ("Root", "Alice", "Bob")}
    for who in ("Alice", "Bob"):
        for part in ("own", "roots"):
            (folder / who / part).mkdir(parents=True)
        (folder / who / "roots" / "root.pem").write_bytes(certificate("Root", keys["Root"], keys["Root"]))
        own = keys[who].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / who / "own" / "own.pem").write_bytes(certificate(who, keys[who], keys["Root"]) + own)
    return folder


def scenario(folder: Path, stores: Path, epoch: str) -> Path:
    text = SCENARIO.replace("seed = 1\n", f"seed = 1\n{epoch}")
    text = text.replace('{ preshared_key = "a preshared key that must not be seen" }', '{ certificate = "CN=Root" }')
    for number, who in enumerate(("Alice", "Bob"), 1):
        address = f'address = "10.0.0.{number}"\n'
        text = text.replace(address, f'{address}certificates = "{stores / who}"\n')
    return write_scenario(folder, text)


def audits(folder: Path, number: int) -> list[str]:
    with State.open(folder) as state:
        return [event.text for event in state.event_log().events(event_id=number)]


def test_computers_that_trust_each_other(tmp_path: Path, stores: Path) -> None:
    path = scenario(tmp_path, stores, "epoch = 2026-11-23T12:00:00Z\n")
    simulate(path, tmp_path / "out")
    assert "Peer Subject CN=Bob" in audits(tmp_path / "out" / "ALICE", 541)[0]
    assert "Peer Subject CN=Alice" in audits(tmp_path / "out" / "BOB", 541)[0]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["traffic"]["delivered"] == result["traffic"]["packets"] == 61
    assert result["scenario"]["epoch"] == "2026-11-23T12:00:00+00:00"
    simulate(path, tmp_path / "again")
    for file in ("link.pcapng", "result.json"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_certificates_that_are_over(tmp_path: Path, stores: Path) -> None:
    simulate(scenario(tmp_path, stores, "epoch = 2027-11-23T12:00:00Z\n"), tmp_path / "out")
    assert not audits(tmp_path / "out" / "ALICE", 541)
    assert any(audits(tmp_path / "out" / who, 544) for who in ("ALICE", "BOB"))


@pytest.mark.parametrize(
    ("epoch", "store", "message"),
    [
        ("", "", "computers.ALICE.certificates: the scenario has no epoch; accepted: beside an epoch at which"),
        ("epoch = 2026-11-23\n", "", "epoch: datetime.date(2026, 11, 23) is not a date and time with its zone"),
        ("epoch = 2026-11-23T12:00:00\n", "", "epoch: 2026-11-23 12:00:00 is not a date and time with its zone"),
        ("epoch = 2026-11-23T12:00:00Z\n", "none", "none; accepted: a folder with the folders own and roots"),
    ],
)
def test_wrong(tmp_path: Path, stores: Path, epoch: str, store: str, message: str) -> None:
    path = scenario(tmp_path, stores, epoch)
    if store:
        path.write_text(path.read_text().replace(str(stores / "Alice"), store))
    with pytest.raises(ScenarioError) as caught:
        simulate(path, tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
