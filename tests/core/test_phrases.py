"""Numbers, rates, spans and times in words: cases by table."""

from __future__ import annotations

import pytest

from edge_agent.decision import phrases

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (812.34, "812.3"),
        (0.00012345, "0.0001234"),
        (5.0, "5"),
        (1234567.0, "1235000"),
        (float("nan"), "?"),
        (float("inf"), "?"),
        (0.0, "0"),
        (-0.0, "0"),
        (1e-300, "1e-300"),
        (-2.5e15, "-2.5e+15"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    assert phrases.number(value) == text


@pytest.mark.parametrize(
    ("seen", "expected", "scale", "unit", "text"),
    [
        (5.0, 1.0, 0.1, "mm", "read 5 mm at noon, expected 1 ± 0.1 mm"),
        (812.345, 650.02, 5.04, "mm", "read 812.3 mm at noon, expected 650 ± 5 mm"),
        (1013.4217, 1013.3104, 0.021, "hPa", "read 1013.422 hPa at noon, expected 1013.31 ± 0.021 hPa"),
        (0.0, 1.0, 0.0, None, "read 0 at noon, expected 1"),
        (-0.0, 3.0, 0.5, "%", "read 0 % at noon, expected 3 ± 0.5 %"),
        (2_000_003.0, 2_000_001.0, 0.5, None, "read 2000003 at noon, expected 2000001 ± 0.5"),
        (123456.0, 3000.0, 1500.0, "W", "read 123500 W at noon, expected 3000 ± 1500 W"),
        (1.0, 1.0, 0.0, "V", "read 1 V at noon, expected 1 V"),
        (3.7e-9, 1.2e-9, 1e-10, "A", "read 3.7e-09 A at noon, expected 1.2e-09 ± 1e-10 A"),
        (2.5e15, 1.0e15, 1e14, None, "read 2.5e+15 at noon, expected 1e+15 ± 1e+14"),
        (4.0, float("nan"), 1.0, "V", "read 4 V at noon, expected ? V"),
        (4.0, 2.0, float("inf"), "V", "read 4 V at noon, expected 2 V"),
    ],
)
def test_both_values_have_the_digits_in_which_they_differ(
    seen: float, expected: float, scale: float, unit: str | None, text: str
) -> None:
    assert phrases.comparison(seen, expected, scale, unit, "noon") == text


@pytest.mark.parametrize("difference", [10.0**power for power in range(-6, 7)])
@pytest.mark.parametrize("level", [0.0, 0.37, 1013.25, 98_765.4])
def test_values_that_differ_are_never_told_to_be_the_same(level: float, difference: float) -> None:
    text = phrases.comparison(level + difference, level, difference / 3, None, "noon")
    seen, expected = text.removeprefix("read ").split(" ±")[0].split(" at noon, expected ")
    if difference >= 1e-8 * max(level, difference):
        assert float(seen) - float(expected) == pytest.approx(difference, rel=0.1)


@pytest.mark.parametrize(
    ("per_second", "unit", "period_s", "text"),
    [
        (4.1234, "mm", 1.0, "4.1 mm/s"),
        (-4.1234, "mm", 1.0, "4.1 mm/s"),
        (123.4, "mm", 0.1, "120 mm/s"),
        (0.05, "mm", 1.0, "3 mm/min"),
        (0.0005, "mm", 1.0, "1.8 mm/h"),
        (2e-6, "mm", 1.0, "0.17 mm/d"),
        (4.0, "mm", 300.0, "240 mm/min"),
        (4.0, "mm", 3600.0, "14000 mm/h"),
        (0.05, "m³/h", 1.0, "3 m³/h per min"),
        (2.0, None, 1.0, "2 per second"),
        (0.0, "%", 1.0, "0 %/s"),
        (3.0, "%", 60.0, "180 %/min"),
    ],
)
def test_rates_are_told_per_the_time_in_which_they_show(
    per_second: float, unit: str | None, period_s: float, text: str
) -> None:
    assert phrases.rate(per_second, unit, period_s) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.25, "0.2 s"),
        (3.0, "3 s"),
        (34.4, "34 s"),
        (119.0, "119 s"),
        (720.0, "12 min"),
        (12_600.0, "3.5 h"),
        (36_000.0, "10 h"),
        (181_440.0, "2.1 days"),
    ],
)
def test_spans_have_the_digits_that_matter(seconds: float, text: str) -> None:
    assert phrases.span(seconds) == text


@pytest.mark.parametrize(
    ("ago_ns", "text"),
    [
        (0, "10:42:07 UTC"),
        (11 * HOUR_NS, "23:42:07 UTC"),
        (13 * HOUR_NS, "2026-11-19 21:42:07 UTC"),
        (-13 * HOUR_NS, "2026-11-20 23:42:07 UTC"),
    ],
)
def test_times_are_utc_and_have_the_date_when_it_may_be_another_day(ago_ns: int, text: str) -> None:
    now_ns = 1_795_171_327 * SECOND_NS
    assert phrases.time_of(now_ns - ago_ns, now_ns) == text


@pytest.mark.parametrize(
    ("names", "of", "text"),
    [
        (["A"], None, "A"),
        (["A", "B"], 2, "A and B"),
        (["A", "B", "C"], None, "A, B and C"),
        (["A", "B", "C"], 5, "A, B, C and 2 more"),
        (["A"], 2, "A and 1 more"),
    ],
)
def test_lists_end(names: list[str], of: int | None, text: str) -> None:
    assert phrases.listed(names, of) == text
