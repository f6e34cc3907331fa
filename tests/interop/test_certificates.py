"""RSA signatures with certificates between our IKE and strongSwan's: names, IKE fragments, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import wireshark
from charon import Charon, connection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from esp_peer import EspPeer
from namespaces import OUR_ADDRESS, PEER_ADDRESS, Namespaces
from our_computer import OurComputer, converse, policy, run

from ipsec_core.computer.certificates import MachineStore
from ipsec_core.computer.profiles import MODERN

pytestmark = pytest.mark.interop
IKE, ESP = "3des-sha1-modp1024", "3des-sha1"
ROOT = "CN=Interop root,O=Interop,C=XX"
Make = Callable[..., OurComputer]


class Authority:
    """A root that issues; files in `folder`."""

    def __init__(self, folder: Path, name: str = "Interop root") -> None:
        self.folder = folder
        self._name = self._full(name)
        self._key = rsa.generate_private_key(65537, 2048)
        self.certificate = self._write(name, self._name, self._key, x509.BasicConstraints(True, None))

    @staticmethod
    def _full(name: str) -> x509.Name:
        oids = (x509.NameOID.COUNTRY_NAME, "XX"), (x509.NameOID.ORGANIZATION_NAME, "Interop")
        parts = (*oids, (x509.NameOID.COMMON_NAME, name))
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])

    def _write(
        self, file: str, subject: x509.Name, key: rsa.RSAPrivateKey, *extensions: x509.ExtensionType, days: int = 30
    ) -> Path:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, isinstance(extension, x509.BasicConstraints))
        path = self.folder / f"{file}.pem"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path

    def issue(self, file: str, address: str, *, days: int = 30) -> tuple[Path, Path]:
        """Certificate and key for the computer at `address`; its common name is `file`."""
        key = rsa.generate_private_key(65537, 2048)
        # So many names that the messages with certificates need fragments.
        others = [x509.DNSName(f"{number:040}.interop.test") for number in range(20)]
        names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address)), *others])
        certificate = self._write(file, self._full(file), key, names, days=days)
        path = self.folder / f"{file}.key"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def ends(authority: Authority) -> dict[str, tuple[Path, Path]]:
    return {"ours": authority.issue("ours", OUR_ADDRESS), "peer": authority.issue("peer", PEER_ADDRESS)}


def store(own: Path, root: Path) -> MachineStore:
    return MachineStore.load(epoch=datetime.fromtimestamp(0, UTC), own=[own], roots=[root])


def start(charon: Charon, end: tuple[Path, Path], root: Path, remote: str = "ours", **settings: str) -> None:
    charon.credentials(*end, root)
    local = {"auth": "pubkey", "certs": "own.pem"}
    expected = {"auth": "pubkey", "id": f"C=XX, O=Interop, CN={remote}"}
    charon.start(connection(IKE, ESP, local=local, remote=expected, settings=settings))


@pytest.mark.parametrize("fragmentation", ["yes", "no"])
@pytest.mark.parametrize("initiator", ["ours", "charon"])
def test_rsa_signatures(
    initiator: str,
    fragmentation: str,
    lab: Namespaces,
    charon: Charon,
    esp_peer: EspPeer,
    our_computer: Make,
    authority: Authority,
    ends: dict[str, tuple[Path, Path]],
) -> None:
    start(charon, ends["peer"], authority.certificate, fragmentation=fragmentation)
    ours = our_computer(
        policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], {"certificate": ROOT}),
        certificates=store(ends["ours"][0], authority.certificate),
        options=replace(MODERN.options, fragmentation=fragmentation == "yes"),
    )
    if initiator == "charon":
        swanctl = charon.initiate()
        run([ours, esp_peer], lambda: swanctl.ended, "swanctl --initiate")
        assert "completed successfully" in swanctl.output
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    assert "CN=peer" in ours.audits(541)[0]
    assert charon.said("authentication of 'C=XX, O=Interop, CN=ours' with RSA_EMSA_PKCS1_NULL successful")
    assert charon.said("splitting IKE message") == (fragmentation == "yes")
    wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")


@pytest.mark.parametrize("initiator", ["ours", "charon"])
def test_our_fragments_get_through(
    initiator: str,
    lab: Namespaces,
    charon: Charon,
    esp_peer: EspPeer,
    our_computer: Make,
    authority: Authority,
    ends: dict[str, tuple[Path, Path]],
) -> None:
    """On a way that loses every large datagram, as routers do that drop the fragments of IP."""
    start(charon, ends["peer"], authority.certificate)
    ours = our_computer(
        policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], {"certificate": ROOT}),
        certificates=store(ends["ours"][0], authority.certificate),
    )
    ours.loses = lambda data: len(data) > 1200
    if initiator == "charon":
        # No ping before the end: our Quick Mode before message 6 has got through is more than tshark can read.
        swanctl = charon.initiate()
        run([ours, esp_peer], lambda: swanctl.ended, "swanctl --initiate")
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS, seconds=15.0)
    assert charon.said("received fragment #")
    if initiator == "ours":  # tshark takes the fragments that charon sends again for new ones
        wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")


@pytest.mark.parametrize("initiator", ["ours", "charon"])
@pytest.mark.parametrize("fault", ["another root", "expired"])
def test_certificate_of_the_peer_is_refused(
    fault: str,
    initiator: str,
    charon: Charon,
    our_computer: Make,
    tmp_path: Path,
    authority: Authority,
    ends: dict[str, tuple[Path, Path]],
) -> None:
    if fault == "expired":
        wrong = authority.issue("expired", PEER_ADDRESS, days=-1)
    else:
        wrong = Authority(tmp_path, "Another root").issue("stranger", PEER_ADDRESS)
    start(charon, wrong, authority.certificate)
    ours = our_computer(
        policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], {"certificate": ROOT}),
        certificates=store(ends["ours"][0], authority.certificate),
    )
    if initiator == "ours":
        ours.ping()
    else:
        charon.initiate()
    run([ours], lambda: ours.audits(544) and charon.said("received AUTHENTICATION_FAILED"), "both ends' logs")
    assert f"CN={wrong[0].stem}" in ours.audits(544)[0]
    assert not ours.audits(541)


@pytest.mark.parametrize("fault", ["no root in common", "not the one"])
def test_ours_is_refused(
    fault: str,
    charon: Charon,
    our_computer: Make,
    tmp_path: Path,
    authority: Authority,
    ends: dict[str, tuple[Path, Path]],
) -> None:
    common = fault == "not the one"
    root = authority.certificate if common else Authority(tmp_path, "Another root").certificate
    start(charon, ends["peer"], root, remote="somebody else" if common else "ours")
    ours = our_computer(
        policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], {"certificate": ROOT}),
        certificates=store(ends["ours"][0], authority.certificate),
    )
    ours.ping()
    run([ours], lambda: ours.audits(545) or ours.audits(547), "the audit")
    text = (ours.audits(545) + ours.audits(547))[0]
    if common:
        assert "the peer could not be authenticated" in text
        assert charon.said("no peer config found")
        assert charon.said(r"generating INFORMATIONAL_V1 request \d+ \[ HASH N\(AUTH_FAILED\) \]")
    else:
        assert "Failure Point:\nMe" in text
        assert "No valid machine certificate was found" in text
        run([ours], lambda: charon.said(r"parsed INFORMATIONAL_V1 request \d+ \[ N\(AUTH_FAILED\) \]"), "charon's log")
    assert not ours.audits(541)
