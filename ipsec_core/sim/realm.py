"""A Kerberos V5 realm in virtual time, for computers that authenticate as members of one domain do.

The tokens are the real ones: AP-REQ and AP-REP of RFC 4120 in GSS-API frames (RFC 1964 1.1), encrypted with RC4-HMAC as
Windows 2000 does it (RFC 4757). What a member gets from the key distribution centre on the wire, it gets here from the
`Realm` itself: Kerberos is exempt from IPsec on Windows 2000. Times are those of the simulation.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher

from ipsec_core.ike.credentials import CredentialRefused
from ipsec_core.ike.failures import FailureReason
from ipsec_core.sim.kerberos_messages import (
    AP_REPLY,
    AP_REQUEST,
    VERSION,
    ApReply,
    ApRequest,
    Authenticator,
    EncApReplyPart,
    EncTicketPart,
    decode,
    encode,
    fill,
)

TICKET_SECONDS = 36_000
SKEW_SECONDS = 300
# A realm without a date begins when Windows 2000 came out.
DEFAULT_EPOCH = datetime(2000, 2, 17, tzinfo=UTC)

_RC4_HMAC = 23
_NAME_PRINCIPAL = 1
_GSS_CHECKSUM = 0x8003
_GSS_FLAGS = 0x02 | 0x04 | 0x08 | 0x10 | 0x20  # mutual, replay, sequence, confidentiality, integrity (RFC 1964 1.1.1)
_MUTUAL_REQUIRED = "00100000000000000000000000000000"
_MECHANISM = bytes.fromhex("06092a864886f712010202")
_AP_REQ, _AP_REP = b"\x01\x00", b"\x02\x00"
# TOK_ID, SGN_ALG HMAC-MD5, SEAL_ALG RC4, filler (RFC 4757 7.3).
_WRAP_HEADER = bytes.fromhex("020111001000ffff")
# Key usages (RFC 4120 7.5.1); RFC 4757 7.3 for Wrap.
_TICKET, _AUTHENTICATOR, _AP_REP_PART, _WRAP_CHECKSUM = 2, 11, 12, 13


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "md5")


def _rc4(key: bytes, data: bytes) -> bytes:
    return Cipher(ARC4(key), None).encryptor().update(data)


def seal(key: bytes, usage: int, confounder: bytes, plain: bytes) -> bytes:
    """RC4-HMAC encryption (RFC 4757 4) with a confounder of 8 bytes."""
    local = _mac(key, usage.to_bytes(4, "little"))
    checksum = _mac(local, confounder + plain)
    return checksum + _rc4(_mac(local, checksum), confounder + plain)


def unseal(key: bytes, usage: int, data: bytes) -> bytes:
    """The plain text of `seal`; ValueError when it was changed or the key is another."""
    local = _mac(key, usage.to_bytes(4, "little"))
    plain = _rc4(_mac(local, data[:16]), data[16:])
    if len(data) < 24 or not hmac.compare_digest(_mac(local, plain), data[:16]):
        raise ValueError("a Kerberos message was changed, or is for another key")
    return plain[8:]


class Realm:
    """A realm and its key distribution centre. `clock` tells seconds since `epoch`, `random` gives bytes."""

    def __init__(
        self, name: str, clock: Callable[[], float], random: Callable[[int], bytes], epoch: datetime = DEFAULT_EPOCH
    ) -> None:
        self.name = name
        self.random = random
        self._clock = clock
        self._epoch = epoch
        self._keys: dict[str, bytes] = {}

    def join(self, computer: str) -> Member:
        """The account of a computer, "alice$@REALM" for ALICE."""
        account = f"{computer.lower()}$"
        self._keys[account] = self.random(16)
        return Member(self, account)

    @property
    def now(self) -> datetime:
        return self._epoch + timedelta(seconds=self._clock())

    def key(self, account: str) -> bytes:
        """The long-term key of an account; CredentialRefused when the realm has none of that name."""
        name, at, realm = account.partition("@")
        if name not in self._keys or (at and realm != self.name):
            raise CredentialRefused(FailureReason.KERBEROS, f"{account!r} is not in the realm {self.name}")
        return self._keys[name]

    def ticket(self, client: str, service: str) -> tuple[bytes, dict[str, Any]]:
        """A session key, and the fields of the ticket that carries it to the service."""
        session, now = self.random(16), self.now
        part = fill(
            EncTicketPart(),
            {
                "flags": "0" * 32,
                "key": _key(session),
                "crealm": self.name,
                "cname": _principal(client),
                "transited": {"tr-type": 1, "contents": b""},
                "authtime": _time(now),
                "endtime": _time(now + timedelta(seconds=TICKET_SECONDS)),
            },
        )
        sealed = seal(self.key(service), _TICKET, self.random(8), encode(part))
        name = service.partition("@")[0]
        ticket = {"tkt-vno": VERSION, "realm": self.name, "sname": _principal(name), "enc-part": _encrypted(sealed)}
        return session, ticket


class Member:
    """A computer's account (`ike.Kerberos`)."""

    def __init__(self, realm: Realm, account: str) -> None:
        self.realm = realm
        self.account = account
        self._seen: dict[bytes, datetime] = {}  # authenticators, for as long as the clocks may differ

    @property
    def name(self) -> str:
        return f"{self.account}@{self.realm.name}"

    def initiate(self, peer: str) -> Context:
        return Context(self, peer)

    def accept(self) -> Context:
        return Context(self, None)

    def refuse_again(self, authenticator: bytes) -> None:
        """A second use of an authenticator is a replay (RFC 4120 3.2.3)."""
        now = self.realm.now
        self._seen = {known: end for known, end in self._seen.items() if end > now}
        digest = hashlib.sha256(authenticator).digest()
        if digest in self._seen:
            raise ValueError("a Kerberos authenticator came a second time")
        self._seen[digest] = now + timedelta(seconds=2 * SKEW_SECONDS)


class Context:
    """`ike.GssContext`: the initiator's sends AP-REQ and waits for AP-REP, the acceptor's answers."""

    def __init__(self, member: Member, target: str | None) -> None:
        self._member = member
        self._target = target
        self._peer = target or ""
        self._key = b""
        self._asked = ("", 0)
        self._send = self._receive = 0
        self.complete = False

    @property
    def peer(self) -> str:
        return self._peer

    def step(self, token: bytes | None) -> bytes | None:
        try:
            if self._target is None:
                return self._answer(_unframed(token or b"", _AP_REQ))
            if token is None:
                return self._ask(self._target)
            self._check(_unframed(token, _AP_REP))
            return None
        except ValueError as error:
            raise CredentialRefused(FailureReason.KERBEROS, str(error)) from error

    def _ask(self, target: str) -> bytes:
        realm = self._member.realm
        self._key, ticket = realm.ticket(self._member.account, target)
        self._asked = (_time(realm.now), realm.now.microsecond)
        self._send = int.from_bytes(realm.random(4)) >> 2
        bindings = (16).to_bytes(4, "little") + bytes(16) + _GSS_FLAGS.to_bytes(4, "little")
        authenticator = {
            "authenticator-vno": VERSION,
            "crealm": realm.name,
            "cname": _principal(self._member.account),
            "cksum": {"cksumtype": _GSS_CHECKSUM, "checksum": bindings},
            "cusec": self._asked[1],
            "ctime": self._asked[0],
            "seq-number": self._send,
        }
        sealed = seal(self._key, _AUTHENTICATOR, realm.random(8), encode(fill(Authenticator(), authenticator)))
        request = {
            "pvno": VERSION,
            "msg-type": AP_REQUEST,
            "ap-options": _MUTUAL_REQUIRED,
            "ticket": ticket,
            "authenticator": _encrypted(sealed),
        }
        return _framed(_AP_REQ, encode(fill(ApRequest(), request)))

    def _answer(self, token: bytes) -> bytes:
        member, realm = self._member, self._member.realm
        request = decode(ApRequest, token)
        part = decode(EncTicketPart, unseal(realm.key(member.account), _TICKET, _cipher(request["ticket"]["enc-part"])))
        session = bytes(part["key"]["keyvalue"])
        sealed = _cipher(request["authenticator"])
        asked = decode(Authenticator, unseal(session, _AUTHENTICATOR, sealed))
        client = _account(part["cname"])
        if _account(asked["cname"]) != client:
            raise ValueError("a Kerberos authenticator is of another client than its ticket")
        sent, end = asked["ctime"].asDateTime, part["endtime"].asDateTime
        if abs((sent - realm.now).total_seconds()) > SKEW_SECONDS or end < realm.now:
            raise ValueError("a Kerberos ticket has expired, or the clocks differ by more than five minutes")
        member.refuse_again(sealed)
        self._key = bytes(asked["subkey"]["keyvalue"]) if asked["subkey"].isValue else session
        self._receive = int(asked["seq-number"]) if asked["seq-number"].isValue else 0
        self._send = int.from_bytes(realm.random(4)) >> 2
        reply = {"ctime": str(asked["ctime"]), "cusec": int(asked["cusec"]), "seq-number": self._send}
        answer = seal(session, _AP_REP_PART, realm.random(8), encode(fill(EncApReplyPart(), reply)))
        self._peer = f"{client}@{part['crealm']}"
        self.complete = True
        return _framed(
            _AP_REP,
            encode(fill(ApReply(), {"pvno": VERSION, "msg-type": AP_REPLY, "enc-part": _encrypted(answer)})),
        )

    def _check(self, token: bytes) -> None:
        reply = decode(EncApReplyPart, unseal(self._key, _AP_REP_PART, _cipher(decode(ApReply, token)["enc-part"])))
        if (str(reply["ctime"]), int(reply["cusec"])) != self._asked:
            raise ValueError("a Kerberos AP-REP answers another AP-REQ")
        self._receive = int(reply["seq-number"]) if reply["seq-number"].isValue else 0
        self.complete = True

    def wrap(self, data: bytes) -> bytes:
        """A Wrap token of RFC 4757 7.3, encrypted."""
        plain = self._member.realm.random(8) + data + b"\1"
        number = self._send.to_bytes(4)
        checksum = self._checksum(plain)
        sequence = number + (b"\0" if self._target is not None else b"\xff") * 4
        self._send = (self._send + 1) & 0xFFFF_FFFF
        body = _rc4(self._sequence_key(checksum), sequence) + checksum + _rc4(self._seal_key(number), plain)
        return _framed(_WRAP_HEADER, body)

    def unwrap(self, data: bytes) -> bytes:
        try:
            body = _unframed(data, _WRAP_HEADER)
            checksum, sealed = body[8:16], body[16:]
            sequence = _rc4(self._sequence_key(checksum), body[:8])
            plain = _rc4(self._seal_key(sequence[:4]), sealed)
            direction = (b"\xff" if self._target is not None else b"\0") * 4
            if (
                len(plain) < 9
                or not hmac.compare_digest(self._checksum(plain), checksum)
                or sequence != self._receive.to_bytes(4) + direction
                or plain[-1:] != b"\1"
            ):
                raise ValueError("a GSS token was changed, or came out of its order")
        except ValueError as error:
            raise CredentialRefused(FailureReason.KERBEROS, str(error)) from error
        self._receive = (self._receive + 1) & 0xFFFF_FFFF
        return plain[8:-1]

    def _checksum(self, plain: bytes) -> bytes:
        covered = _WRAP_CHECKSUM.to_bytes(4, "little") + _WRAP_HEADER + plain
        return _mac(_mac(self._key, b"signaturekey\0"), hashlib.md5(covered, usedforsecurity=False).digest())[:8]

    def _sequence_key(self, checksum: bytes) -> bytes:
        return _mac(_mac(self._key, bytes(4)), checksum)

    def _seal_key(self, number: bytes) -> bytes:
        return _mac(_mac(bytes(byte ^ 0xF0 for byte in self._key), bytes(4)), number)


def _framed(kind: bytes, body: bytes) -> bytes:
    inner = _MECHANISM + kind + body
    size = len(inner).to_bytes(2).lstrip(b"\0")
    return b"\x60" + (size if len(inner) < 128 else bytes([0x80 | len(size)]) + size) + inner


def _unframed(token: bytes, kind: bytes) -> bytes:
    """What follows the frame of a token of that kind (RFC 2743 3.1)."""
    start = 2 + (token[1] & 0x7F if len(token) > 1 and token[1] & 0x80 else 0)
    head = _MECHANISM + kind
    if token[:1] != b"\x60" or start > 4 or token[start : start + len(head)] != head:
        raise ValueError("not a GSS token of Kerberos V5")
    return token[start + len(head) :]


def _encrypted(data: bytes) -> dict[str, Any]:
    return {"etype": _RC4_HMAC, "cipher": data}


def _cipher(part: Any) -> bytes:
    if int(part["etype"]) != _RC4_HMAC:
        raise ValueError(f"Kerberos encryption {int(part['etype'])} is not known; accepted: RC4-HMAC ({_RC4_HMAC})")
    return bytes(part["cipher"])


def _key(value: bytes) -> dict[str, Any]:
    return {"keytype": _RC4_HMAC, "keyvalue": value}


def _principal(account: str) -> dict[str, Any]:
    return {"name-type": _NAME_PRINCIPAL, "name-string": account.split("/")}


def _account(name: Any) -> str:
    return "/".join(str(part) for part in name["name-string"])


def _time(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%SZ")
