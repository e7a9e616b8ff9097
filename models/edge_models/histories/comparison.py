"""What lies between a history to train on and one to judge with: other sensors, other units, the same rows."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from edge_models.histories.checks import is_dated, moment
from edge_models.histories.findings import Finding, error, warning
from edge_models.histories.history import History
from edge_models.histories.profile import Profile
from edge_models.histories.unit_changes import scale_changes

_LEAKED_SHARE = 0.01
_LEAST_LEAKED = 3
_NAMED = 5
_CLOSE = 0.6


def shared_sensors(train: History, test: History) -> list[str]:
    """Names that both have, sorted: both are sketched over these columns in this order."""
    return sorted(set(train.sensors) & set(test.sensors))


def compared(train: Profile, test: Profile) -> tuple[Finding, ...]:
    """Findings between two profiles that were made over the same columns, errors first."""
    checks = (_columns, _order, _told_units, _scales, _leaked_times, _leaked_rows)
    findings = [finding for check in checks for finding in check(train, test)]
    return tuple(sorted(findings, key=lambda one: one.severity.value))


def _columns(train: Profile, test: Profile) -> Iterator[Finding]:
    ours, theirs = train.history.sensors, test.history.sensors
    missing = [name for name in ours if name not in set(theirs)]
    added = [name for name in theirs if name not in set(ours)]
    if missing:
        most = len(missing) * 2 > len(ours)
        yield (error if most else warning)(
            "missing_columns",
            test.history.where,
            f"{len(missing)} of {len(ours)} sensors are not there" + _suggestions(missing, added),
            f"the sensors of {train.history.where}",
            "give renamed columns their old names" if most else "without them their neighbours are judged less well",
            missing,
        )
    if added:
        yield warning(
            "added_columns",
            test.history.where,
            "not in the history to train on",
            f"the sensors of {train.history.where}",
            "the model will know nothing of them",
            added,
        )


def _suggestions(missing: list[str], added: list[str]) -> str:
    close = [(name, difflib.get_close_matches(name, added, n=1, cutoff=_CLOSE)) for name in missing]
    renamed = [f"{name!r} may be {found[0]!r} now" for name, found in close if found]
    return f" ({'; '.join(renamed[:_NAMED])})" if renamed else ""


def _order(train: Profile, test: Profile) -> Iterator[Finding]:
    both = set(train.history.sensors) & set(test.history.sensors)
    ours = [name for name in train.history.sensors if name in both]
    theirs = [name for name in test.history.sensors if name in both]
    if ours != theirs:
        first = next(place for place, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        yield warning(
            "reordered_columns",
            test.history.where,
            f"another order of columns, from {theirs[first]!r} on",
            f"{ours[first]!r} there, as in {train.history.where}",
            "nothing has to be done: columns are matched by name",
        )


def _told_units(train: Profile, test: Profile) -> Iterator[Finding]:
    ours = dict(zip(train.history.sensors, train.history.units, strict=True))
    for name, unit in zip(test.history.sensors, test.history.units, strict=True):
        before = ours.get(name)
        if unit is not None and before is not None and unit != before:
            yield error(
                "unit_changed",
                test.history.where,
                f"is in {unit}",
                f"{before} as in {train.history.where}",
                "convert it",
                [name],
            )


def _scales(train: Profile, test: Profile) -> Iterator[Finding]:
    columns = {name: place for place, name in enumerate(test.history.sensors)}
    moved: list[str] = []
    for place, name in enumerate(train.history.sensors):
        if name not in columns:
            continue
        change = scale_changes(train.sample[:, place], test.sample[:, columns[name]])
        if change is None:
            continue
        if change.conversion is None:
            moved.append(name)
            continue
        yield error(
            "unit_changed",
            test.history.where,
            f"median {change.test_median:.4g}, spread {change.test_spread:.4g}: {change.conversion} of the other file",
            f"median {change.train_median:.4g}, spread {change.train_spread:.4g} as in {train.history.where}",
            "convert it if the unit was changed",
            [name],
        )
    if moved:
        yield warning(
            "other_level",
            test.history.where,
            "level or spread far from what it was",
            f"about that of {train.history.where}",
            "look for another unit, calibration or operating point",
            moved,
        )


def _leaked_times(train: Profile, test: Profile) -> Iterator[Finding]:
    ours, theirs = train.timing, test.timing
    if not (is_dated(ours.first_ns) and is_dated(theirs.first_ns)):
        return
    assert ours.first_ns is not None
    assert ours.last_ns is not None
    assert theirs.first_ns is not None
    assert theirs.last_ns is not None
    begin, end = max(ours.first_ns, theirs.first_ns), min(ours.last_ns, theirs.last_ns)
    if begin > end:
        return
    shared = theirs.keys.shared(ours.keys)
    both = f"{moment(begin)} to {moment(end)} is in both"
    if shared.share > _LEAKED_SHARE:
        yield error(
            "overlapping_times",
            test.history.where,
            f"{both}, and {100 * shared.share:.0f} % of the timestamps",
            f"times that {train.history.where} does not hold",
            "cut one of them: what was trained on cannot be a test",
        )
    else:
        yield warning(
            "interleaved_times",
            test.history.where,
            both,
            f"times before or after {train.history.where}",
            "rows next to those trained on are easier than the future will be",
        )


def _leaked_rows(train: Profile, test: Profile) -> Iterator[Finding]:
    shared = test.blocks.keys.shared(train.blocks.keys)
    if shared.count >= _LEAST_LEAKED and shared.share > _LEAKED_SHARE:
        yield error(
            "identical_rows",
            test.history.where,
            f"{100 * shared.share:.0f} % of its blocks of rows are also in {train.history.where}, first at tick"
            f" {shared.first_tick}",
            "readings that were not trained on",
            "take the test out of the training history",
        )
