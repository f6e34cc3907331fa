"""Rates and durations: exact, with units, or one clear line."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.errors import ScenarioError
from ipsec_core.sim.units import parse_duration, parse_rate

RATES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
TIMES = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
RATE = re.compile(r"\s*[0-9.]+\s*[kMGT]?bit/s\s*")
DURATION = re.compile(r"\s*[0-9.]+\s*(ns|us|ms|s|min|h)\s*")
DECIMALS = st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,6})?", fullmatch=True)


@given(DECIMALS, st.sampled_from(sorted(RATES)), st.sampled_from(["", " "]))
def test_rates_are_exact(number: str, prefix: str, space: str) -> None:
    text = f"{number}{space}{prefix}bit/s"
    value = Fraction(number) * RATES[prefix]
    if value.denominator == 1 and 1 <= value <= 10**13:
        assert parse_rate(text, "x") == value
    else:
        with pytest.raises(ScenarioError, match=r"^link\.rate: "):
            parse_rate(text, "link.rate")


@given(DECIMALS, st.sampled_from(sorted(TIMES)), st.sampled_from(["", " "]))
def test_durations_are_exact(number: str, unit: str, space: str) -> None:
    text = f"{number}{space}{unit}"
    value = Fraction(number) * TIMES[unit]
    if value.denominator == 1 and value <= 10**18:
        assert parse_duration(text, "x") == value
    else:
        with pytest.raises(ScenarioError, match=r"^link\.delay: "):
            parse_duration(text, "link.delay")


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none()))
def test_anything_else_is_one_line(value: object) -> None:
    for parse, pattern in ((parse_rate, RATE), (parse_duration, DURATION)):
        if isinstance(value, str) and pattern.fullmatch(value):
            continue
        with pytest.raises(ScenarioError, match=r"^here: ") as raised:
            parse(value, "here")
        assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1bit/s", 1), ("9.6kbit/s", 9600), ("2.5Gbit/s", 2_500_000_000), ("10Tbit/s", 10**13), (" 10 Mbit/s ", 10**7)],
)
def test_rates(text: str, value: int) -> None:
    assert parse_rate(text, "x") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0s", 0),
        ("250ns", 250),
        ("1.5ms", 1_500_000),
        ("3min", 180 * 10**9),
        ("0.000000001s", 1),
        ("277777h", 277777 * 3600 * 10**9),
    ],
)
def test_durations(text: str, value: int) -> None:
    assert parse_duration(text, "x") == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "0bit/s", "0.5bit/s", "1gbit/s", "1Gbit", "1Gb/s", "-1Mbit/s"),
        *("1e9bit/s", "1,5Gbit/s", "10.1Tbit/s", "\u0661Gbit/s", 10**9),
    ],
)
def test_wrong_rates(text: object) -> None:
    with pytest.raises(ScenarioError) as raised:
        parse_rate(text, "link.rate")
    assert str(raised.value) == (
        f"link.rate: {text!r} is not a rate; accepted: 1bit/s to 10Tbit/s, such as 100Mbit/s, 1Gbit/s, 2.5Gbit/s"
    )


@pytest.mark.parametrize("text", ["", "5", "us", "-1s", "0.5ns", "1 day", "1S", ".5s", "1.s", "277778h", 5, None])
def test_wrong_durations(text: object) -> None:
    with pytest.raises(ScenarioError) as raised:
        parse_duration(text, "link.delay")
    assert str(raised.value) == (
        f"link.delay: {text!r} is not a duration; accepted: whole nanoseconds, "
        "such as 0s, 250ns, 5us, 1.5ms, 2s, 3min, 1h"
    )
