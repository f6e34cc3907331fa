"""The IKE benchmark: what its rows hold, and that the calls it makes again are those of a negotiation."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import Group, keys
from ipsec_core.ike.groups import DiffieHellman
from ipsec_core.tools import bench_ike
from ipsec_core.tools.bench_ike import SUITES, Negotiation, by_cryptography, record


def test_rows(call: Any) -> None:
    rows = json.loads(call("bench", "ike", "--json", "--seconds", "0.001", "--pairs", "2").stdout)
    kinds = (
        ("ike negotiation", "negotiations/s"),
        ("ike negotiation beside cryptography", "negotiations/s"),
        ("ike diffie hellman", "% of the time"),
        ("ike hashes and ciphers", "% of the time"),
    )
    groups = ("MODP_1024", "MODP_2048", "ECP_256")
    assert [(row["params"]["group"], row["name"], row["unit"]) for row in rows] == [
        (g, *k) for g in groups for k in kinds
    ]
    for rate, beside, *shares in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True):
        assert math.isclose(rate["ratio"], rate["value"] / rate["peer_value"])
        assert math.isclose(beside["ratio"], beside["value"] / beside["peer_value"])
        assert rate["peer"] != beside["peer"]
        assert all(share["value"] > 0 and share["peer"] == "none" for share in shares)


@pytest.mark.parametrize(("suite", "main", "quick"), SUITES, ids=lambda value: str(value)[:12])
def test_recorded_calls(suite: str, main: Any, quick: Any) -> None:
    before = DiffieHellman.__init__, DiffieHellman.shared, keys.prf, keys.digest, keys.PhaseOneCipher.open
    calls = record(main, quick)
    assert before == (DiffieHellman.__init__, DiffieHellman.shared, keys.prf, keys.digest, keys.PhaseOneCipher.open)
    secrets = [value for one in calls.diffie_hellman if (value := one()) is not None]
    assert len(calls.diffie_hellman) == 4
    assert len(secrets) == 2
    assert secrets[0] == secrets[1], "both ends, with the private values that they drew"
    results = [one() for one in calls.hashes_and_ciphers]
    assert results == [one() for one in calls.hashes_and_ciphers]
    # SKEYID and its three children, HASH_I, HASH_R, HASH(1), HASH(2), HASH(3), KEYMAT twice; at both ends.
    assert len(results) >= 2 * 11
    # Five encrypted messages, sealed once and opened once.
    functions = [one.func for one in calls.hashes_and_ciphers]  # type: ignore[attr-defined]
    assert functions.count(keys.PhaseOneCipher.seal) == functions.count(keys.PhaseOneCipher.open) == 5


@pytest.mark.parametrize("group", [main.group for _, main, _ in SUITES], ids=lambda group: group.name)
def test_calls_of_cryptography(group: Group) -> None:
    """A new private key for each end, as they come from the library, and the same secret at both."""
    one, other, *secrets = [call() for call in by_cryptography(group)]
    assert one.public_key() != other.public_key()
    assert len(set(secrets)) == 1
    assert len(secrets) == 2
    assert len(secrets[0]) == (32 if group is Group.ECP_256 else DiffieHellman(group, bytes).length)


def test_a_negotiation_that_fails_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    _, main, quick = SUITES[0]
    with pytest.raises(NegotiationError, match="without a pair of SAs"):
        Negotiation(main, quick, 1).check()
    monkeypatch.setattr(bench_ike.Negotiation, "run", lambda self: None)
    with pytest.raises(NegotiationError, match="without a pair of SAs"):
        bench_ike.measure(main, quick, 0.001, 1)


def test_groups_of_the_suites() -> None:
    assert [main.group for _, main, _ in SUITES] == [Group.MODP_1024, Group.MODP_2048, Group.ECP_256]
