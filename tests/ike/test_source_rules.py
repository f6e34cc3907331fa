"""Rules of the house that no type checker knows: what is secret, or proves something, is compared in constant time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ipsec_core"
FILES = sorted(
    [*(PACKAGE / "ike").glob("*.py"), *(PACKAGE / "live").glob("*.py"), *(PACKAGE / "computer").glob("*.py")]
)
# Parts of names. `hash` alone is the number of an algorithm; message_hash and main_mode_hash give values.
SECRET = {
    "proof",
    "digest",
    "signature",
    "skeyid",
    "skeyids",
    "secret",
    "preshared",
    "psk",
    "icv",
    "mac",
    "keymat",
    "checksum",
}
SECRET_ENDINGS = ("_hash", "hash_i", "hash_r", "hash_data")
# NAT detection hashes what everybody on the way sees (RFC 3947 section 3.2).
PUBLIC = {"detection_hash"}
COMPARISONS = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def names(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def secret(expression: ast.expr) -> bool:
    if isinstance(expression, ast.Constant) and not expression.value:
        return False  # whether there is one at all
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == "len":
        return False
    found = {name for name in names(expression) if not name.isupper()} - PUBLIC  # names of numbers are in capitals
    return any(name.endswith(SECRET_ENDINGS) or SECRET & set(name.lower().split("_")) for name in found)


def leaks(source: str) -> list[str]:
    """The comparisons that stop at the first byte which differs, where that tells something."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, COMPARISONS) for operator in node.ops)
        and not any(isinstance(side, ast.Constant) and not side.value for side in (node.left, *node.comparators))
        and any(secret(side) for side in (node.left, *node.comparators))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_secrets_are_compared_in_constant_time(path: Path) -> None:
    assert leaks(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "proof == expected",
        "opened.proof != keys.message_hash(a, b, c, d)",
        "keys.main_mode_hash(a) == data",
        "if signature in seen: pass",
        "return self._skeyids.root == other",
        "x = a == self.preshared_key",
        "while their_digest != ours: pass",
    ],
)
def test_the_rule_finds(line: str) -> None:
    assert leaks(f"def f():\n {line}")


@pytest.mark.parametrize(
    "line",
    [
        "compare_digest(proof, expected)",
        "offer.hash == Hash.MD5",
        "len(signature) != size",
        "proof is None",
        "preshared_key != b''",
        "header.initiator_cookie == NO_COOKIE",
    ],
)
def test_the_rule_leaves_alone(line: str) -> None:
    assert not leaks(line)


def test_compare_digest_is_where_a_hash_is_checked() -> None:
    """Of HASH_I and HASH_R, and of HASH(1), HASH(2), HASH(3) and of Informational messages."""
    users = {path.stem for path in FILES if "compare_digest(" in path.read_text()}
    assert "protected" in users
    assert users & {"main_mode", "authentication"}


def test_nothing_below_live_takes_the_time_or_chance_from_the_system() -> None:
    """Time and random bytes are arguments: a conversation can be repeated bit for bit."""
    forbidden = {"time", "random", "secrets", "socket", "asyncio", "os"}
    for path in PACKAGE.glob("ike/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {module.split(".")[0] for module in modules} & forbidden, path.name
