"""What is wrong with one history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from edge_models.histories.findings import Finding, error, warning
from edge_models.histories.profile import Profile

LEAST_ROWS = 64
MANY_SENSORS = 2_000
_MOSTLY = 0.5
_FEW_TICKS = 10
_SHORT = 16
_SHUFFLED_SHARE = 0.01
_REPEATED_SHARE = 0.05
_ALIKE = 0.9999
_LEAST_ALIKE_ROWS = 32
_CORRELATED_AT_ONCE = 512
_DATED_NS = 631_152_000 * 10**9
"""Times before 1990 count from some start."""


def checked(found: Profile) -> tuple[Finding, ...]:
    """Findings about a history to train on, errors first."""
    return _ordered(
        found, _size, _presence, _sensors, _times, _segments, _empty_rows, _repeats, _alike, _labels, _notes
    )


def checked_test(found: Profile) -> tuple[Finding, ...]:
    """Findings about a history to judge with, which may be short, labelled, and at rest."""
    return _ordered(found, _presence, _times, _empty_rows, _notes)


def _ordered(found: Profile, *checks: Callable[[Profile], Iterator[Finding]]) -> tuple[Finding, ...]:
    findings = [finding for check in checks for finding in check(found)]
    return tuple(sorted(findings, key=lambda one: one.severity.value))


def moment(time_ns: int) -> str:
    """A time for messages: as a date, or as seconds from the start."""
    if time_ns < _DATED_NS:
        return f"{time_ns / 1e9:g} s"
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_dated(time_ns: int | None) -> bool:
    """Whether a time is a date, so that two histories can be laid side by side."""
    return time_ns is not None and time_ns >= _DATED_NS


def _size(found: Profile) -> Iterator[Finding]:
    where, rows, sensors = found.history.where, found.timing.rows, len(found.history.sensors)
    if rows < LEAST_ROWS:
        yield error(
            "too_few_rows",
            where,
            f"got {rows} rows of {sensors} sensors",
            f"at least {LEAST_ROWS} rows of normal operation",
            "record for longer, or use the universal model, which needs no training",
        )
    if sensors <= 2:
        what = "1 sensor, which has no neighbour" if sensors == 1 else "2 sensors, each the other's only neighbour"
        yield warning(
            "few_sensors",
            where,
            f"got {what}",
            "3 or more related sensors",
            "faults that only show in relations between sensors will not be found",
        )
    if sensors > MANY_SENSORS:
        yield warning(
            "many_sensors",
            where,
            f"got {sensors} sensors",
            f"up to {MANY_SENSORS}",
            "training takes time and memory with the square of their number; train a model for each part of the plant",
        )


def _presence(found: Profile) -> Iterator[Finding]:
    where = found.history.where
    if found.empty.all():
        yield error(
            "no_values", where, "no sensor has a single value", "readings of normal operation", "look at the export"
        )
        return
    if found.empty.any():
        yield warning(
            "empty_sensor", where, "never a value", "readings", "leave the column out", _names(found, found.empty)
        )
    usual = found.ticks / np.maximum(found.heard, 1)
    sparse = (found.heard < _MOSTLY * found.ticks) & ~found.empty
    mostly = sparse & (found.outage > np.maximum(_FEW_TICKS, 5 * usual))
    if mostly.any():
        worst = int(np.argmax(np.where(mostly, usual, 0)))
        yield warning(
            "mostly_missing",
            where,
            f"missing in more than half of all ticks ({found.history.sensors[worst]!r} in"
            f" {100 - 100 * found.heard[worst] / found.ticks:.0f} %)",
            "a value in most ticks",
            "leave the column out, or give a longer --tick",
            _names(found, mostly),
        )
    if found.timing.infinite:
        yield warning(
            "infinite", where, f"{found.timing.infinite} infinite readings", "numbers", "they count as missing"
        )


def _sensors(found: Profile) -> Iterator[Finding]:
    where, constant = found.history.where, found.constant
    if found.empty.all():
        return
    if (constant | found.empty).all():
        yield error(
            "all_constant",
            where,
            "no sensor ever changes",
            "readings of a plant in operation",
            "record while the plant runs",
        )
    elif constant.any():
        yield warning(
            "constant_sensor",
            where,
            "never changes",
            "readings that vary",
            "nothing is learned of it; any change will look remarkable",
            _names(found, constant),
        )


def _times(found: Profile) -> Iterator[Finding]:
    where, timing = found.history.where, found.timing
    if not found.history.timed:
        yield warning(
            "no_times",
            where,
            "no column 'timestamp'",
            "the time of every row",
            "rows are taken for consecutive ticks; give --tick",
        )
    if timing.back:
        shuffled = timing.back > _SHUFFLED_SHARE * timing.rows
        yield (error if shuffled else warning)(
            "out_of_order",
            where,
            f"timestamps go back {timing.back} times, first at row {timing.first_back}",
            "rows in the order of their times",
            "sort the rows by timestamp" if shuffled else "nothing is carried over from before each of them",
        )
    if timing.same:
        yield warning(
            "repeated_times",
            where,
            f"{timing.same} rows have the timestamp of the row before",
            "one row for each time",
            "the last reading of a tick counts; a run column tells parallel recordings apart",
        )
    if timing.gaps:
        yield warning(
            "gaps",
            where,
            f"{timing.gaps} gaps, the longest of {timing.longest_gap_s:g} s after {moment(timing.longest_gap_at_ns)}",
            f"a row every {found.history.period_s:g} s",
            "gaps are missing readings up to 60 ticks; after a longer one nothing is carried over",
        )


def _segments(found: Profile) -> Iterator[Finding]:
    if found.timing.rows >= LEAST_ROWS and found.longest_segment <= _SHORT:
        yield error(
            "only_short_runs",
            found.history.where,
            f"runs of a few rows only: {found.segments} of at most {found.longest_segment} ticks of"
            f" {found.history.period_s or 1.0:g} s",
            f"runs of at least {_SHORT + 1} rows",
            "look at the timestamps and the run column, or give a longer --tick",
        )


def _empty_rows(found: Profile) -> Iterator[Finding]:
    timing = found.timing
    if timing.empty and not found.empty.all():
        yield warning(
            "empty_rows",
            found.history.where,
            f"{timing.empty} rows without any value, the longest stretch {timing.longest_empty} from row"
            f" {timing.first_empty} on",
            "readings in every row",
            "they count as an outage of all sensors and are not learned from",
        )


def _repeats(found: Profile) -> Iterator[Finding]:
    share = found.blocks.keys.repeated_share()
    if share > _REPEATED_SHARE:
        yield warning(
            "repeated_rows",
            found.history.where,
            f"{100 * share:.0f} % of all blocks of rows occur more than once",
            "rows that do not repeat exactly",
            "look for a part that was exported or appended twice",
        )


def _alike(found: Profile) -> Iterator[Finding]:
    names, where = np.array(found.history.sensors), found.history.where
    varying = ~(found.constant | found.empty)
    equal = _equal_columns(found, varying)
    for group in equal:
        yield warning(
            "duplicated_sensor",
            where,
            "the same readings in all of them",
            "each sensor once",
            "leave all but one out: they would explain each other's faults away",
            names[group].tolist(),
        )
    twins = {place for group in equal for place in group[1:]}
    pairs = [pair for pair in _near_duplicates(found.sample, varying) if not twins & set(pair)]
    if pairs:
        shown = ", ".join(f"{names[a]} and {names[b]}" for a, b in pairs[:5])
        yield warning(
            "near_duplicates",
            where,
            f"{len(pairs)} pairs of sensors move as one (correlation above {_ALIKE:g}): {shown}",
            "sensors that measure different things",
            "leave one of each out if it is computed from the other",
        )


def _equal_columns(found: Profile, varying: NDArray[np.bool_]) -> list[list[int]]:
    groups: dict[bytes, list[int]] = {}
    for place in np.flatnonzero(varying).tolist():
        groups.setdefault(found.column_keys[place], []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _near_duplicates(sample: NDArray[np.float64], varying: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs of sensors that are one up to scale and offset, of rows in which all are known or nearly so."""
    place = np.flatnonzero(varying)
    known = np.isfinite(sample[:, place])
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, sample[:, place], 0.0).sum(0) / count
    centred = np.where(known, sample[:, place] - mean, 0.0)
    spread = np.sqrt((centred**2).sum(0))
    z = (centred / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    enough = known.sum(0) >= _LEAST_ALIKE_ROWS
    pairs = []
    for first in range(0, len(place), _CORRELATED_AT_ONCE):
        part = slice(first, first + _CORRELATED_AT_ONCE)
        correlation = np.abs(z[:, part].T @ z)
        for a, b in np.argwhere(correlation > _ALIKE).tolist():
            if a + first < b and enough[a + first] and enough[b]:
                pairs.append((int(place[a + first]), int(place[b])))
    return pairs


def _labels(found: Profile) -> Iterator[Finding]:
    if found.timing.labelled:
        yield warning(
            "labelled",
            found.history.where,
            f"{found.timing.labelled} of {found.timing.rows} rows are labelled as anomalous",
            "normal operation",
            "a model would learn them as normal: leave them out",
        )


def _notes(found: Profile) -> Iterator[Finding]:
    for note in found.history.notes:
        yield warning("source", found.history.where, note, "readings in order", "export them in order to save the time")


def _names(found: Profile, chosen: NDArray[np.bool_]) -> list[str]:
    return [name for name, this in zip(found.history.sensors, chosen, strict=True) if this]
