"""SASL GSSAPI for LDAP (RFC 4752): Kerberos V5 that signs and seals, as Windows asks its directory."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ipsec_core.errors import DirectoryError
from ipsec_core.live.ldap_channel import LARGEST_SEALED, Channel

_NO_LAYER, _SEALED = 1, 4


def sasl_bind(
    channel: Channel, host: str, principal: str, keytab: Path | None, exchange: Callable[[bytes], bytes]
) -> None:
    """Bind as `principal`, or if that is empty as whoever has tickets; key from `keytab`, or tickets that are there.

    `exchange` sends one SASL token and returns the server's. Without TLS the channel is sealed afterwards. Realms are
    those of the system's krb5.conf; the library waits for the key distribution centre as long as that says. `host` is
    the name that the directory's account has ("ldap/HOST"). DirectoryError without the package gssapi, OSError if the
    server or the centre does not agree.
    """
    try:
        gssapi: Any = import_module("gssapi")
    except ImportError as error:
        raise DirectoryError(
            f"Kerberos: the package gssapi is missing ({error}); install ipsec_core[kerberos] (needs libkrb5-dev)"
        ) from error
    flag = gssapi.RequirementFlag
    tls = isinstance(channel.stream, ssl.SSLSocket)
    try:
        context = gssapi.SecurityContext(
            usage="initiate",
            name=gssapi.Name(f"ldap@{host}", gssapi.NameType.hostbased_service),
            mech=gssapi.MechType.kerberos,
            creds=_credentials(gssapi, principal, keytab),
            flags=flag.mutual_authentication | flag.out_of_sequence_detection | flag.confidentiality | flag.integrity,
            channel_bindings=_binding(channel.stream) if isinstance(channel.stream, ssl.SSLSocket) else None,
        )
        answer: bytes | None = None
        while not context.complete:
            answer = exchange(context.step(answer) or b"")
        # RFC 4752 3.1: the server offers layers and the size that it takes; the client chooses, as itself.
        offer = context.unwrap(answer or exchange(b"")).message
        if len(offer) != 4:
            raise OSError("the server's offer of security layers is malformed")
        wanted = _NO_LAYER if tls else _SEALED
        if not offer[0] & wanted:
            raise OSError(f"the server does not offer {'GSSAPI inside of TLS' if tls else 'to seal'}")
        size = 0 if tls else LARGEST_SEALED
        exchange(context.wrap(bytes((wanted,)) + size.to_bytes(3, "big"), False).message)
        if not tls:
            channel.seal(context, int.from_bytes(offer[1:], "big"))
    except gssapi.exceptions.GSSError as error:
        raise OSError(str(error)) from error


def _credentials(gssapi: Any, principal: str, keytab: Path | None) -> Any:
    name = gssapi.Name(principal, gssapi.NameType.kerberos_principal) if principal else None
    store = None if keytab is None else {"client_keytab": f"FILE:{keytab}", "ccache": f"MEMORY:{keytab} {principal}"}
    return gssapi.Credentials(name=name, usage="initiate", mechs=[gssapi.MechType.kerberos], store=store)


def _binding(stream: ssl.SSLSocket) -> Any:
    """tls-server-end-point (RFC 5929 4.1), which a domain controller may insist on."""
    der = stream.getpeercert(True)
    assert der is not None
    algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    weak = algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    digest = hashes.Hash(hashes.SHA256() if algorithm is None or weak else algorithm)
    digest.update(der)
    return import_module("gssapi.raw").ChannelBindings(application_data=b"tls-server-end-point:" + digest.finalize())
