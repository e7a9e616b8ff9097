"""Windows of time that come again and again."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import datetime

import pytest

from edge_agent.clock import NS_PER_S
from edge_agent.schedule import WindowOptions, Windows, check_times


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * NS_PER_S


def window(begins: str, duration: str, timezone: str = "UTC") -> WindowOptions:
    return WindowOptions.model_validate({"begins": begins, "duration": duration, "timezone": timezone})


@pytest.fixture
def no_time_zones_of_the_system() -> Iterator[None]:
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(before)
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("no_time_zones_of_the_system")
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
def test_time_zones_are_known_where_the_system_has_none(timezone: str) -> None:
    check_times("begins", "0 6 * * *", timezone)


def test_windows_are_open_from_their_first_to_before_their_last_nanosecond() -> None:
    morning, always = window("0 6 * * *", "1h"), window("0 * * * *", "1h")
    windows = Windows([morning, always])
    six, seven = ns("2026-11-20T06:00:00+00:00"), ns("2026-11-20T07:00:00+00:00")
    found = [windows.open_at(at) for at in (six - 1, six, seven - 1, seven)]
    assert found == [(always,), (morning, always), (morning, always), (always,)]


def test_the_answer_is_the_same_object_until_it_changes() -> None:
    windows = Windows([window("0 * * * *", "1h")])
    first = windows.open_at(ns("2026-11-20T06:59:59+00:00"))
    assert windows.open_at(ns("2026-11-20T07:00:01+00:00")) is first
