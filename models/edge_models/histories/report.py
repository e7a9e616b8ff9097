"""Checking a history, alone or beside a test."""

from __future__ import annotations

from edge_models.histories.checks import checked, checked_test
from edge_models.histories.comparison import compared, shared_sensors
from edge_models.histories.findings import Report, error
from edge_models.histories.history import History
from edge_models.histories.profile import Profile, profile


def check_history(train: History, test: History | None = None) -> tuple[Report, Profile]:
    """Findings about ``train``, and about what lies between it and ``test``; one pass over each, bounded memory.

    Also gives the profile of ``train``. :raises DataFileError: a history cannot be read to its end.
    """
    if test is None:
        found = profile(train)
        return Report(checked(found)), found
    columns = shared_sensors(train, test)
    if not columns:
        ours, theirs = ", ".join(train.sensors[:5]), ", ".join(test.sensors[:5])
        foreign = error(
            "missing_columns",
            test.where,
            f"none of its sensors ({theirs}) is in {train.where}",
            f"the same sensors ({ours})",
            "compare recordings of one plant",
        )
        found = profile(train)
        return Report((*checked(found), foreign)), found
    found, judged = profile(train, columns), profile(test, columns)
    return Report((*checked(found), *checked_test(judged), *compared(found, judged))), found
