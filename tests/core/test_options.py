"""Units in values, and secrets that stay secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.options import Secret, format_duration, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("2m", 120), ("2min", 120), ("1h", 3600), ("7d", 604800), ("1w", 604800), (0, 0)],
)
def test_durations_are_read_with_their_unit(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", 5, "5 parsecs", "-1s", "", None, True, "1e3s", "5S"])
def test_a_duration_without_a_known_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration with its unit"):
        parse_duration(text)


@given(st.integers(0, 10**9))
def test_a_formatted_duration_reads_back_as_the_same(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, rel=1e-5)


@pytest.mark.parametrize(("text", "size"), [("512kB", 512_000), ("10MB", 10_000_000), ("1GiB", 2**30), ("7B", 7)])
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["1 per week", "1.0 per week"])
def test_rates_are_events_per_second(text: str) -> None:
    assert parse_rate(text) == pytest.approx(1 / 604800)


@pytest.mark.parametrize("text", ["weekly", "0 per day", "-1 per day", "1 per fortnight", 3])
def test_a_rate_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a rate such as"):
        parse_rate(text)


def test_a_secret_does_not_show() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret!r} {secret!s} {[secret]}"
    assert secret.reveal() == "hunter2"
