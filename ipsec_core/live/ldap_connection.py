"""One authenticated, protected and bounded connection to a directory, over `ldap3`."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

import ldap3
from ldap3.protocol.sasl.sasl import send_sasl_negotiation

from ipsec_core.errors import DirectoryError
from ipsec_core.live.ldap_channel import Channel
from ipsec_core.live.ldap_kerberos import sasl_bind

_Result = TypeVar("_Result")
Attributes = Mapping[str, Sequence[bytes]]

_PAGE = 500
_START_TLS_NAME = "StartTLS"
_START_TLS = "1.3.6.1.4.1.1466.20037"
_PAGED_RESULTS = "1.2.840.113556.1.4.319"
_SUCCESS, _REFERRAL, _SASL_IN_PROGRESS = 0, 10, 14
# strongerAuthRequired and confidentialityRequired (RFC 4511 A.2).
_ASKS_FOR_PROTECTION = (8, 13)
NO_SUCH_OBJECT, ALREADY_EXISTS = 32, 68


class Protection(Enum):
    """Of an ldap:// connection; ldaps:// is TLS.

    AUTO: a password goes under StartTLS, Kerberos signs and seals, who has no name asks in the clear and under StartTLS
    when the server wants that. START_TLS: always. NONE: in the clear, passwords too.
    """

    AUTO = "auto"
    START_TLS = "starttls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class DirectoryServer:
    """Where the directory is and who asks.

    `url` is ldap://HOST[:PORT][/DN] or ldaps://...; DN is that of the domain ("DC=example,DC=com"), without it the
    server's own. `user` with `password` is a simple bind (DN, user@domain or DOMAIN\\user), with `kerberos` a principal
    whose key is in `keytab`, or whoever has tickets; without any, anonymous. The server's certificate has to be valid
    for HOST, issued by one of `ca_file` (PEM) or of the system. `service_host` is the name in the server's Kerberos
    account if HOST is another. No connection lasts longer than `timeout` seconds, but for the
    resolver, Kerberos and further addresses of HOST.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    kerberos: bool = False
    keytab: Path | None = None
    service_host: str = ""
    ca_file: Path | None = None
    protection: Protection = Protection.AUTO
    timeout: float = 30.0

    def __post_init__(self) -> None:
        accepted = "accepted: ldap://HOST[:PORT][/DN] or ldaps://HOST[:PORT][/DN]"
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("ldap", "ldaps") and parts.hostname and parts.port != 0
        except ValueError:
            known = None
        if not known or parts.query or parts.fragment or parts.username is not None:
            raise DirectoryError(f"{self.url!r} is not the address of a directory; {accepted}")
        if self.user and not self.password and not self.kerberos:
            raise DirectoryError(f"{self.place}: {self.user!r} has no password; accepted: a password, or Kerberos")
        if self.password and not self.user:
            raise DirectoryError(f"{self.place}: a password without a user; accepted: both, or neither")
        if not 0 < self.timeout <= 3600:
            raise DirectoryError(f"{self.place}: timeout {self.timeout} s; accepted: above 0 to 3600")

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "ldaps"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (636 if self.tls else 389)

    @property
    def domain(self) -> str:
        """The DN of the URL, "" without."""
        return unquote(urlsplit(self.url).path.lstrip("/"))

    @property
    def place(self) -> str:
        """As errors name it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.tls else 'ldap'}://{host}:{self.port}"


class Refusal(DirectoryError):
    """The server answered with a result code (RFC 4511 A.1)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def one_line(text: object, most: int = 300) -> str:
    """What a server or a library says, fit for one line: printable, and not endless."""
    words = "".join(char if char.isprintable() else " " for char in str(text))
    return re.sub(" +", " ", words).strip()[:most] or "no reason given"


def _tls_context(file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        said = error.strerror or error
        raise DirectoryError(f"{file}: {said}; accepted: certificates of authorities, PEM") from error


class DirectoryConnection:
    """Open and bound on entry of a `with` block. Raises DirectoryError only; the server is named in its text."""

    def __init__(self, server: DirectoryServer) -> None:
        self.server = server
        self._end = time.monotonic() + server.timeout
        self._channel: Channel
        protection = server.protection
        protected = protection is Protection.START_TLS or (
            protection is Protection.AUTO and bool(server.password) and not server.kerberos
        )
        try:
            self._open(start_tls=protected and not server.tls)
        except Refusal as refusal:
            again = refusal.code in _ASKS_FOR_PROTECTION and protection is Protection.AUTO
            if not again or protected or server.tls or server.kerberos:
                raise
            self._open(start_tls=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        try:
            self._ldap.unbind()
        except Exception:
            # Whatever it says about the farewell: what was asked for is done or has been refused.
            self._channel.close()

    @property
    def domain(self) -> str:
        """The DN of the domain: that of the URL, else what the server names."""
        if self.server.domain:
            return self.server.domain
        names = ("defaultNamingContext", "namingContexts")
        (entry,) = self.search("", "base", "(objectClass=*)", names) or (("", {}),)
        for name in names:
            for value in entry[1].get(name.casefold(), ()):
                return value.decode("utf-8", "replace")
        raise DirectoryError(f"{self.server.place} names no domain; accepted: {self.server.place}/DC=example,DC=com")

    # --- operations ---

    def search(
        self, base: str, scope: str, condition: str, attributes: Sequence[str]
    ) -> list[tuple[str, dict[str, list[bytes]]]]:
        """DN and attributes (names in lower case) of all entries, in pages. `scope`: base, level or subtree."""
        found: list[tuple[str, dict[str, list[bytes]]]] = []
        cookie: bytes | None = None
        options: dict[str, Any] = {
            "search_scope": {"base": ldap3.BASE, "level": ldap3.LEVEL, "subtree": ldap3.SUBTREE}[scope],
            "attributes": list(attributes),
        }
        if scope != "base":
            options["paged_size"] = _PAGE
        while True:
            if cookie:
                options["paged_cookie"] = cookie
            self._carry_out(f"search {base or 'of the root'}", lambda: self._ldap.search(base, condition, **options))
            cookie = self._call("search", partial(self._take, found))
            if not cookie:
                return found

    def _take(self, found: list[tuple[str, dict[str, list[bytes]]]]) -> bytes | None:
        """Adds the entries that came, and gives the cookie for the next page."""
        for answer in self._ldap.response or ():
            # Continuation references lead to other servers, which hold no part of this container.
            if answer["type"] == "searchResEntry":
                attributes = answer["raw_attributes"].items()
                found.append((answer["dn"], {name.casefold(): list(values or ()) for name, values in attributes}))
        paged = (self._ldap.result.get("controls") or {}).get(_PAGED_RESULTS)
        return paged["value"]["cookie"] or None if paged else None

    def add(self, dn: str, attributes: Attributes) -> None:
        words = {name: list(values) for name, values in attributes.items()}
        self._carry_out(f"add {dn}", lambda: self._ldap.add(dn, attributes=words))

    def modify(self, dn: str, attributes: Attributes) -> None:
        """Replaces the attributes; one without values goes."""
        words = {name: [(ldap3.MODIFY_REPLACE, list(values))] for name, values in attributes.items()}
        self._carry_out(f"modify {dn}", lambda: self._ldap.modify(dn, words))

    def delete(self, dn: str) -> None:
        self._carry_out(f"delete {dn}", lambda: self._ldap.delete(dn))

    # --- underneath ---

    def _open(self, *, start_tls: bool) -> None:
        server = self.server
        context = _tls_context(server.ca_file) if start_tls or server.tls else None
        simple = {"user": server.user, "password": server.password} if server.password and not server.kerberos else {}
        target = ldap3.Server(server.host, server.port, get_info=ldap3.NONE)
        self._ldap = ldap3.Connection(target, **simple, auto_referrals=False, check_names=False)
        self._call("connect", self._connect)
        try:
            if start_tls:
                self._carry_out(_START_TLS_NAME, lambda: self._ldap.extended(_START_TLS))
            if context is not None:
                self._call("TLS", partial(self._wrap, context))
            if server.kerberos:
                self._call("Kerberos bind", self._bind_kerberos)
            else:
                self._carry_out("bind", lambda: self._ldap.bind(read_server_info=False))
        except BaseException:
            self._channel.close()
            raise

    def _connect(self) -> None:
        """In place of ldap3's open(), which leaves sockets behind and lets Nagle's algorithm wait."""
        stream = socket.create_connection((self.server.host, self.server.port), self._left())
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._attach(stream)
        self._ldap.closed, self._ldap.listening, self._ldap.strategy._outstanding = False, True, {}

    def _left(self) -> float:
        return max(0.01, self._end - time.monotonic())

    def _attach(self, stream: socket.socket) -> None:
        self._channel = Channel(stream, self._end)
        self._ldap.socket = self._channel

    def _wrap(self, context: ssl.SSLContext) -> None:
        file = self.server.ca_file
        try:
            context = ssl.create_default_context(cafile=file)
        except OSError as error:
            raise DirectoryError(
                f"{file}: {error.strerror or error}; accepted: certificates of authorities, PEM"
            ) from error
        stream = self._channel.stream
        stream.settimeout(self._left())
        self._attach(context.wrap_socket(stream, server_hostname=self.server.host))

    def _bind_kerberos(self) -> None:
        server = self.server
        self._ldap.authentication, self._ldap.sasl_mechanism = ldap3.SASL, ldap3.GSSAPI
        self._ldap.sasl_in_progress = True
        try:
            host = server.service_host or server.host
            sasl_bind(self._channel, host, server.user, server.keytab, self._token)
        finally:
            self._ldap.sasl_in_progress = False

    def _token(self, token: bytes) -> bytes:
        result = send_sasl_negotiation(self._ldap, None, token)
        self._judge("Kerberos bind", result, (_SUCCESS, _SASL_IN_PROGRESS))
        return bytes(result.get("saslCreds") or b"")

    def _carry_out(self, what: str, operation: Callable[[], object]) -> None:
        def all_of_it() -> None:
            operation()
            self._judge(what, self._ldap.result, (_SUCCESS,))

        self._call(what, all_of_it)

    def _call(self, what: str, operation: Callable[[], _Result]) -> _Result:
        try:
            return operation()
        except DirectoryError:
            raise
        except Exception as error:
            # ldap3 decodes what a server sends without expecting lies: anything may come out of it.
            reason = f"no answer within {self.server.timeout:g} s" if "timed out" in str(error) else one_line(error)
            raise DirectoryError(f"{self.server.place}: {what}: {reason}") from error

    def _judge(self, what: str, result: Mapping[str, Any], accepted: Sequence[int]) -> None:
        code = result["result"]
        if code in accepted:
            return
        said = f"{result.get('description')} ({code})"
        if code == _REFERRAL:
            others = ", ".join(one_line(url, 60) for url in (result.get("referrals") or ["nobody"])[:3])
            said = f"refers to {others}, which is not followed"
        elif result.get("message"):
            said += f": {result['message']}"
        if what == _START_TLS_NAME:
            said += "; accepted: a server with StartTLS, ldaps://, or protection NONE"
        raise Refusal(f"{self.server.place}: {what}: {one_line(said)}", code)
