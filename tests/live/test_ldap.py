"""The LDAP store against servers that are down, slow, or lie. What real directories do is in tests/interop."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ldap_liar import ADD, BIND, EXTENDED, SEARCH, Answer, Request, liar

from ipsec_core.errors import DirectoryError
from ipsec_core.live.ldap import LdapStore
from ipsec_core.live.ldap_channel import LARGEST_MESSAGE, MOST_MESSAGES
from ipsec_core.live.ldap_connection import DirectoryServer, Protection
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, StoredObject

NAME = ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=1))
DN = f"CN={NAME},CN=IP Security,CN=System,DC=lab"
GOOD: Mapping[str, Sequence[bytes]] = {
    "objectClass": [b"top", b"IPSECfilter"],
    "IPSECDATATYPE": [b"598"],
    "ipsecdata": [b"blob"],
    "whenChanged": [b"20001231235959.0Z"],
}
TIMEOUT = 5.0
SHORT = 0.2


def answer(search: Callable[[Request], bytes | None]) -> Answer:
    """A server that accepts everything, and answers searches as told."""
    return lambda request: search(request) if request.operation == SEARCH else request.result()


def read(url: str, timeout: float = TIMEOUT) -> tuple[StoredObject, ...]:
    return LdapStore(DirectoryServer(url, timeout=timeout)).objects()


def refusal(served: Answer, timeout: float = TIMEOUT, drip: float = 0.0) -> str:
    """The one line, without the name of the server."""
    with liar(served, drip) as server:
        with pytest.raises(DirectoryError) as caught:
            read(server.url, timeout)
        text = str(caught.value)
        place = server.url.removesuffix("/DC=lab")
    assert text.startswith(place + ": ")
    assert "\n" not in text
    assert len(text) < 500
    return text.removeprefix(place + ": ")


def test_honest_server() -> None:
    """Names of attributes and of classes in any case; references to other servers are nobody's objects."""
    served = answer(
        lambda request: request.entry(DN, GOOD) + request.reference("ldap://elsewhere.test/") + request.result()
    )
    with liar(served) as server:
        assert read(server.url) == (StoredObject(NAME, b"blob", 598, when_changed=978307199),)


def test_server_that_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(DirectoryError, match=rf"^ldap://127\.0\.0\.1:{port}: connect: .*refused$"):
        read(f"ldap://127.0.0.1:{port}/DC=lab")


def test_silent_server() -> None:
    assert refusal(lambda request: b"", SHORT) == "bind: no answer within 0.2 s"
    assert "no answer within" in refusal(answer(lambda request: b""), SHORT)


def test_server_that_hangs_up() -> None:
    assert "terminated" in refusal(lambda request: None)
    assert "terminated" in refusal(answer(lambda request: None))


def test_drops_of_an_answer() -> None:
    """Each octet comes in time, all of them do not."""
    assert "no answer within" in refusal(lambda request: request.result(text="x" * 1000), SHORT, 0.01)


def test_endless_pages() -> None:
    numbers = count()

    def page(request: Request) -> bytes:
        dn = DN.replace(f"{NAME}", f"ipsecFilter{{{uuid.UUID(int=next(numbers))}}}")
        return request.entry(dn, GOOD) + request.result(cookie=b"more")

    assert "no answer within" in refusal(answer(page), SHORT)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "sends something that is not LDAP"),
        (b"\x30\x80\x02\x01\x01\x00\x00", "sends something that is not LDAP"),
        (b"\x30\x00", "sends something that is not LDAP"),
        (b"\x30\x84\xff\xff\xff\xff", f"sends a message of 4294967295 octets; accepted: up to {LARGEST_MESSAGE}"),
    ],
)
def test_not_ldap(data: bytes, text: str) -> None:
    for served in (lambda request: data, answer(lambda request: data)):
        assert refusal(served).endswith(text)


def test_too_many_messages() -> None:
    served = answer(lambda request: request.entry(DN, {}) * (MOST_MESSAGES + 1) + request.result())
    assert refusal(served).endswith(f"sends more than {MOST_MESSAGES} messages at once")


def test_referral_is_not_followed() -> None:
    urls = ["ldap://attacker.test/\n" + "x" * 1000]
    text = refusal(answer(lambda request: request.result(10, referrals=urls)))
    assert "refers to ldap://attacker.test/" in text
    assert "not followed" in text


def test_refusal_in_words() -> None:
    """What a server says is cut, and stays one line."""
    text = refusal(answer(lambda request: request.result(53, "no\r\nsuch\x1b[31m thing " + "x" * 1000)))
    assert text.startswith("search CN=IP Security,CN=System,DC=lab: unwillingToPerform (53): no such [31m thing xxx")


def test_answer_to_another_question() -> None:
    assert "search" in refusal(answer(lambda request: Request(b"\x70", SEARCH, "").result()))


@pytest.mark.parametrize(
    ("dn", "change", "text"),
    [
        (DN, {"ipsecdata": []}, "has no ipsecData"),
        (DN, {"ipsecdata": [b"1", b"2"]}, "ipsecData has 2 values; accepted: one"),
        (DN, {"IPSECDATATYPE": [b"7"]}, "ipsecDataType '7'; accepted: 256, 598"),
        (DN, {"IPSECDATATYPE": [b"\xff"]}, "ipsecDataType is not UTF-8"),
        (DN, {"objectClass": [b"ipsecNFA"]}, "objectClass is not ipsecFilter, as its name says"),
        (DN, {"ipsecOwnersReference": [b"CN=ipsecNFA{1},DC=lab"]}, "ipsecOwnersReference: '{1}' is not a GUID"),
        (DN, {"whenChanged": [b"yesterday"]}, "'yesterday' is not a time; accepted: 20001231235959.0Z"),
        ("CN=\n" + "x" * 1000, {}, "cut"),
    ],
)
def test_wrong_objects(dn: str, change: dict[str, list[bytes]], text: str) -> None:
    served = answer(lambda request: request.entry(dn, {**GOOD, **change}) + request.result())
    shown = ascii(dn[:300]) if "\n" in dn else f"{dn}: {text}"
    assert refusal(served).startswith(f"entry {shown}"[:300])


def test_same_object_twice() -> None:
    served = answer(lambda request: request.entry(DN, GOOD) * 2 + request.result())
    assert "two entries with one name" in refusal(served)


def test_damaged_answers() -> None:
    """Any octets: an error of one line or objects, soon, and nothing else."""
    sent = [b""]
    honest = Request(b"\x02", SEARCH, "")
    octets = honest.entry(DN, GOOD) + honest.result(cookie=b"more")

    @given(st.lists(st.tuples(st.integers(0, len(octets) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 20))
    @settings(max_examples=150, deadline=None)
    def damage(changes: list[tuple[int, int]], cut: int) -> None:
        damaged = bytearray(octets)
        for place, octet in changes:
            damaged[place] = octet
        sent[0] = bytes(damaged[: len(octets) - cut])
        text = ""
        try:
            read(server.url)
        except DirectoryError as error:
            text = str(error)
        assert "\n" not in text

    with liar(answer(lambda request: sent[0]), last=SEARCH) as server:
        damage()


# --- passwords ---


def test_password_stays_secret_without_starttls() -> None:
    """Under StartTLS, or not at all; in the clear only for who says so."""
    seen = []

    def served(request: Request) -> bytes:
        seen.append(request.operation)
        return request.result(2 if request.operation == EXTENDED else 0)

    secret = "pass word of a test"
    with liar(served) as server:
        guarded = DirectoryServer(server.url, "CN=a", secret)
        with pytest.raises(DirectoryError, match=r"StartTLS: .*accepted: a server with StartTLS, ldaps://") as caught:
            LdapStore(guarded).objects()
        assert secret not in str(caught.value)
        assert secret not in repr(guarded)
        assert BIND not in seen
        LdapStore(DirectoryServer(server.url, "CN=a", secret, protection=Protection.NONE)).objects()
        assert BIND in seen


@pytest.mark.parametrize(
    "words",
    [
        {"url": "http://host"},
        {"url": "ldap://"},
        {"url": "ldap://host:0"},
        {"url": "ldap://host:port"},
        {"url": "ldap://user@host"},
        {"url": "ldap://host/DC=lab?sub"},
        {"url": "ldap://host", "user": "somebody"},
        {"url": "ldap://host", "password": "something"},
        {"url": "ldap://host", "timeout": 0},
    ],
)
def test_addresses_that_are_none(words: dict[str, object]) -> None:
    with pytest.raises(DirectoryError, match="accepted: "):
        DirectoryServer(**words)  # type: ignore[arg-type]


def test_addresses() -> None:
    server = DirectoryServer("ldaps://[::1]:1636/DC=two%20words,DC=lab")
    assert (server.host, server.port, server.tls) == ("::1", 1636, True)
    assert (server.domain, server.place) == ("DC=two words,DC=lab", "ldaps://[::1]:1636")
    assert DirectoryServer("ldap://dc1.lab").port == 389
    with pytest.raises(DirectoryError, match=r"missing\.pem: No such file"):
        LdapStore(DirectoryServer("ldaps://127.0.0.1:1", ca_file=Path("missing.pem"))).objects()


# --- changes that fail ---


def test_what_remains_is_said() -> None:
    """The second addition fails, and the first one cannot be taken back."""
    names = [ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=number)) for number in (1, 2)]
    additions = count(1)

    def served(request: Request) -> bytes | None:
        if request.operation == ADD and next(additions) == 2:
            return request.result(50, "not you")
        if request.operation in (BIND, SEARCH, ADD):
            return request.result()
        return request.result(53, "stays")

    with liar(served) as server, pytest.raises(DirectoryError) as caught:
        LdapStore(DirectoryServer(server.url)).apply(Changes(put=tuple(StoredObject(name, b"") for name in names)))
    assert str(caught.value).endswith(
        f"add CN={names[1]},CN=IP Security,CN=System,DC=lab: insufficientAccessRights (50): not you; "
        f"not taken back: add CN={names[0]},CN=IP Security,CN=System,DC=lab"
    )


def test_nothing_to_do() -> None:
    """No connection for empty changes."""
    LdapStore(DirectoryServer("ldap://127.0.0.1:1/DC=lab")).apply(Changes())


def test_domain_of_the_server() -> None:
    """Without a DN in the URL."""

    def served(request: Request) -> bytes:
        if request.name == "":
            return request.entry("", {"namingContexts": [b"DC=first", b"DC=second"]}) + request.result()
        assert request.name == "CN=IP Security,CN=System,DC=first"
        return request.result()

    with liar(answer(served)) as server:
        assert read(server.url.removesuffix("DC=lab")) == ()
    with liar(answer(lambda request: request.result())) as server, pytest.raises(DirectoryError, match="no domain"):
        read(server.url.removesuffix("DC=lab"))
