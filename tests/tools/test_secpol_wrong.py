"""secpol: every wrong input is one line with what is accepted, exit status 2, and changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from secpol_kit import KEY, catalogue_of, objects_of, run

from ipsec_core.policy.model import AuthenticationKind

SECURE = "Secure Server (Require Security)"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "ALICE"
    for words in (
        ["create", "policy", "Lab"],
        ["create", "filterlist", "L"],
        ["create", "filter", "L", "--from", "me", "--to", "10.0.0.1", "--name", "twin"],
        ["create", "filter", "L", "--from", "me", "--to", "10.0.0.2", "--name", "twin"],
        ["create", "filteraction", "A", "--method", "ESP[3DES,SHA1]"],
        ["create", "rule", "Lab", "R", "--filterlist", "L", "--filteraction", "A"],
        ["create", "rule", "Lab", "S", "--filterlist", "L", "--filteraction", "A"],
    ):
        assert run("--state", home, *words).exit_code == 0
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "ALICE")


RULE = ["create", "rule", "Lab", "N", "--filterlist", "L", "--filteraction", "A"]
FILTER = ["create", "filter", "L", "--from", "me", "--to", "any"]
WRONG = [
    (["list", "nonsense"], "'nonsense' is not one of 'policies', 'filterlists', 'filteractions', 'all'"),
    (["nonsense"], "'nonsense' is not a command; accepted: create, edit, delete, list, show, assign, "),
    (["create"], "a command is missing; accepted: policy, filterlist, filter, filteraction, rule"),
    (["create", "nonsense"], "'nonsense' is not a command; accepted: policy, filterlist, filter, filteraction, rule"),
    (["show"], "no policy is assigned; accepted: the name of one: "),
    (["show", "nobody"], "there is no policy 'nobody'; accepted: "),
    (["show", "rule", "R"], "'rule R'; accepted: NAME, or policy, filterlist, filteraction and a NAME (in quotes)"),
    (["show", "filterlist", "x"], "there is no filter list 'x'; accepted: "),
    (["assign", "nobody"], "there is no policy 'nobody'; accepted: "),
    (["unassign"], "no policy is assigned"),
    (["create", "policy"], "Missing argument 'NAME'"),
    (["create", "policy", ""], "policy '': a policy needs a name"),
    (["create", "policy", "LAB"], "policy 'LAB': there is a policy 'LAB' already"),
    (
        ["create", "policy", "x", "--poll", "0"],
        "Invalid value for '--poll' / '--pollinginterval': 0 is not in the range",
    ),
    (["create", "policy", "x", "--method", "AES-14"], "'AES-14' is not a key exchange method; accepted: 3DES-SHA1-2"),
    (["create", "policy", "x", "--method", "3DES-SHA1-77"], "77 is not a Diffie-Hellman group here; accepted: 1, 2, "),
    (["create", "policy", "x", "--method", ""], "'' is not a key exchange method; accepted: "),
    (["create", "policy", "x", "--mirrored"], "No such option"),
    (["create", "filterlist", " "], "the name is empty; accepted: a text"),
    (["create", "filterlist", "l"], "there is a filter list 'l' already"),
    (["create", "filter", "L", "--from", "me"], "--to is missing"),
    (["create", "filter", "L", "--to", "me"], "--from is missing"),
    (["create", "filter", "L", "--from", "me", "--to", "me"], "source and destination cannot both be me"),
    ([*FILTER, "--to", "10.0.0.1/33"], "'10.0.0.1/33' is not an address; accepted: any, me, a.b.c.d"),
    ([*FILTER, "--to", "10.0.0.1/24"], "'10.0.0.1/24' has bits set beyond its mask; the subnet is 10.0.0.0/24"),
    ([*FILTER, "--to-port", "80"], "filter list 'L': a port needs protocol tcp or udp, not any"),
    ([*FILTER, "--to-port", "65536"], "65536 is not in the range 0<=x<=65535"),
    ([*FILTER, "--protocol", "sctp"], "'sctp' is not a protocol; accepted: any, icmp, tcp, udp, 0 to 255"),
    (["create", "filter", "x", "--from", "me", "--to", "any"], "there is no filter list 'x'; accepted: "),
    (["create", "filteraction", "B"], "filter action 'B': negotiate needs at least one security method"),
    (
        ["create", "filteraction", "B", "--method", "ROT13"],
        "'ROT13' is not a security method; accepted: ESP[3DES,SHA1]",
    ),
    (["create", "filteraction", "B", "--action", "allow"], "'allow' is not one of 'permit', 'block', 'negotiate'"),
    (["create", "filteraction", "B", "--action", "block", "--pfs"], "block takes no security methods and no options"),
    (
        ["create", "filteraction", "B", "--method", "AH[MD5]", "--pfs", "--pfs-group", "two"],
        "is not a Diffie-Hellman group here; accepted: 1, 2, 5",
    ),
    (["create", "filteraction", "B", "--method", "AH[MD5]", "--pfs-group", "2"], "a group for PFS without PFS"),
    (["create", "rule", "Lab", "N", "--filterlist", "L"], "--filteraction is missing"),
    (["create", "rule", "Lab", "N", "--filteraction", "A"], "--filterlist is missing"),
    (["create", "rule", "Lab", "r", "--filterlist", "L", "--filteraction", "A"], "has a rule 'r' already"),
    (["create", "rule", "Lab", "N", "--filterlist", "x", "--filteraction", "A"], "there is no filter list 'x'"),
    ([*RULE, "--tunnel", "gateway"], "'gateway' is not a tunnel endpoint; accepted: a.b.c.d"),
    ([*RULE, "--tunnel", "224.0.0.1"], "rule 'N': 224.0.0.1 is not a tunnel endpoint; accepted: the address of a host"),
    ([*RULE, "--connection", "wifi"], "'wifi' is not one of 'all', 'lan', 'dialup', 'remote_access'"),
    ([*RULE, "--auth", KEY], "not an authentication method; accepted: kerberos, certificate:ROOT CA, preshared"),
    ([*RULE, "--auth", "certificate:"], "the name of a root CA must not be empty"),
    ([*RULE, "--auth", "preshared", "--auth", "preshared"], "a rule has one preshared key"),
    ([*RULE, "--auth", "kerberos", "--psk-file", "-"], "--psk-file without --auth preshared; accepted: both, or"),
    ([*RULE, "--psk-file", "/nowhere/key"], "/nowhere/key: No such file or directory; accepted: a file with one line"),
    (["edit", "policy", "Lab"], "nothing to change; accepted: one option or more, see --help"),
    (["edit", "policy", "Lab", "--name", SECURE], f"policy 'Lab': there is a policy {SECURE!r} already"),
    (["edit", "policy", "Lab", "--name", ""], "policy 'Lab': the name is empty; accepted: a text"),
    (["edit", "policy", "nobody", "--pfs"], "there is no policy 'nobody'"),
    (["edit", "filterlist", "L"], "nothing to change"),
    (["edit", "filterlist", "L", "--name", "All IP Traffic"], "there is a filter list 'All IP Traffic' already"),
    (["edit", "filter", "L", "1"], "nothing to change"),
    (
        ["edit", "filter", "L", "3", "--mirrored"],
        "'L' has no filter '3'; accepted: 1 to 2, a name of one, a GUID in braces",
    ),
    (["edit", "filter", "L", "twin", "--mirrored"], "2 filters of 'L' have the name 'twin'; accepted: 1 to 2, "),
    (["edit", "filteraction", "A"], "nothing to change"),
    (["edit", "filteraction", "A", "--action", "permit", "--soft"], "permit takes no security methods"),
    (["edit", "filteraction", "Permit", "--soft"], "permit takes no security methods"),
    (["edit", "rule", "Lab", "R"], "nothing to change"),
    (["edit", "rule", "Lab", "7", "--inactive"], "has no rule '7'; accepted: 'R', 'S', 1 to 3, a GUID in braces"),
    (["edit", "rule", "Lab", "R", "--name", "s"], "the policy 'Lab' has a rule 's' already"),
    (
        ["edit", "rule", "Lab", "R", "--tunnel", "192.0.2.1", "--no-tunnel"],
        "--tunnel and --no-tunnel exclude each other",
    ),
    (["edit", "rule", "Lab", "default", "--filterlist", "L"], "makes its own filters; leave --filterlist out"),
    (["edit", "rule", "Lab", "default", "--filteraction", "Permit"], "the default response rule negotiates"),
    (["delete", "policy", "nobody"], "there is no policy 'nobody'"),
    (["delete", "filterlist", "L"], "the filter list 'L' is in use: 'Lab' rule 'R', 'Lab' rule 'S'"),
    (["delete", "filteraction", "A"], "the filter action 'A' is in use: 'Lab' rule 'R', 'Lab' rule 'S'"),
    (["delete", "filter", "L", "nine"], "'L' has no filter 'nine'; accepted: 1 to 2"),
    (["delete", "rule", "Lab", "default"], "the default response rule cannot be deleted"),
    (["delete", "rule", "Lab", "4"], "has no rule '4'; accepted: "),
    (["delete", "object", "R"], "'R' is not the name of a policy object; accepted: ipsecPolicy{GUID}, "),
    (["delete", "object", "ipsecNFA{00000000-0000-0000-0000-000000000001}"], "there is no ipsecNFA{0"),
    (["import", "x.toml", "--replac"], "No such option"),
    (["import", "x.reg", "--replace"], "--replace is for .toml and .json"),
    (["netsh", "/nowhere/x"], "/nowhere/x: No such file or directory; accepted: a script of netsh ipsec static"),
    (["netsh", "--write", "nobody"], "there is no policy 'nobody'"),
]


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[" ".join(words).replace(KEY, "key") for words, _ in WRONG])
def test_wrong_input_is_one_line_and_changes_nothing(template: Path, words: list[str], expected: str) -> None:
    before = objects_of(template)
    result = run("--state", template, *words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("ipsec-core")
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr
    assert objects_of(template) == before
    assert catalogue_of(template).assigned is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list"], "--state DIR, --ldap URL or --file FILE is missing: where the policies are"),
        (["create", "policy", "x"], "--state DIR, --ldap URL or --file FILE is missing: where the policies are"),
        (["--state", "a", "--file", "b.reg", "list"], "--state, --ldap and --file exclude each other"),
        (["--state", "a"], "a command is missing; accepted: create, "),
        (["--state", "a", "--user", "x", "list"], "--user goes with --ldap"),
        (["--state", "a", "--ca-file", "x", "list"], "--ca-file goes with --ldap"),
        (["--file", "a.reg", "--gpo", "x", "list"], "--gpo goes with --ldap"),
        (["--ldap", "http://x", "list"], "'http://x' is not the address of a directory; accepted: ldap://HOST"),
        (["--ldap", "ldap://x", "--gpo", "x", "list"], "'x' is not a GUID; accepted: {"),
        (["--ldap", "ldap://x", "--password-file", "x", "list"], "--password-file goes with --user"),
        (["--ldap", "ldap://x", "--user", "u", "--password-file", "/nowhere/x", "list"], "/nowhere/x: No such file"),
        (
            ["--file", "/nowhere/x.reg", "list"],
            "/nowhere/x.reg: No such file or directory; accepted: a file of the Reg",
        ),
        (
            ["--file", "x.netsh", "list"],
            "x.netsh: the suffix says what the file is; accepted: .reg, .ldif, .toml, .json",
        ),
        (["--state", "/nowhere/x", "list"], "/nowhere/x: there is no such directory"),
        (["--state", "/nowhere/x", "check"], "/nowhere/x: there is no such directory"),
    ],
)
def test_where_the_policies_are(words: list[str], expected: str) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr


def test_what_is_no_state_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for words in (["list"], ["assign", SECURE]):
        line = run("--state", tmp_path, *words).stderr
        assert line == f"ipsec-core: {tmp_path}: not a state directory (no state.sqlite in it)\n"
        assert run("--state", tmp_path / "file", *words).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- preshared keys -------------------------------------------------------------------------------------------------


def _key_of(home: Path) -> str:
    (method,) = catalogue_of(home).rule("Lab", "N").authentication_methods
    assert method.kind is AuthenticationKind.PRESHARED_KEY
    return method.value


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"{KEY}\r\n", f"\ufeff{KEY}\n"])
def test_a_key_of_a_file_or_of_stdin(home: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_bytes(text.encode())
    assert run("--state", home, *RULE, "--psk-file", tmp_path / "key").exit_code == 0
    assert _key_of(home) == KEY
    run("--state", home, "delete", "rule", "Lab", "N")
    assert run("--state", home, *RULE, "--psk-file", "-", stdin=text.encode()).exit_code == 0
    assert _key_of(home) == KEY


def test_a_key_that_is_asked_for(home: Path) -> None:
    result = run("--state", home, *RULE, "--auth", "preshared", stdin=f"{KEY}\n{KEY}\n")
    assert result.exit_code == 0
    assert "Preshared key" in result.stderr
    assert _key_of(home) == KEY
    result = run("--state", home, "edit", "rule", "Lab", "N", "--auth", "preshared", stdin="")
    assert result.exit_code == 2
    assert "Preshared key: nobody answers; accepted: --psk-file FILE" in result.stderr
    assert _key_of(home) == KEY


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "0 lines; accepted: one line, the preshared key"),
        (b"\n", "1 lines; accepted"),
        (f"{KEY}\n{KEY}\n".encode(), "2 lines; accepted"),
        (KEY.encode() + b"\xff", "not UTF-8 text; accepted: one line, the preshared key"),
    ],
)
def test_what_is_no_key(home: Path, tmp_path: Path, data: bytes, expected: str) -> None:
    before = objects_of(home)
    (tmp_path / "key").write_bytes(data)
    result = run("--state", home, *RULE, "--psk-file", tmp_path / "key")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ipsec-core: {tmp_path}/key: {expected}")
    assert objects_of(home) == before


def test_a_short_key_is_advised_against(home: Path) -> None:
    result = run("--state", home, *RULE, "--psk-file", "-", stdin="short")
    assert result.stderr == (
        "warning: policy 'Lab', rule 'N': preshared key of 5 characters; advised against guessing: at least 20\n"
    )
