"""Whether what is seen satisfies a condition of a pattern. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edge_agent.patterns.options import Condition
from edge_agent.patterns.sight import Scene, Sight
from edge_agent.patterns.words import Where, Who


def satisfied(condition: Condition, scene: Scene, period_s: float, before: Collection[str]) -> list[Sight]:
    """The sensors by which ``condition`` holds; none: it does not. ``before``: sensors of the stage before."""
    origin = [sight for sight in scene.sights if sight.sensor in (before or (scene.first,))]
    since = next((sight.since_tick for sight in scene.sights if sight.sensor == scene.first), scene.tick)
    found = [sight for sight in scene.sights if _fits(condition, sight, scene, period_s, since)]
    found = [sight for sight in found if _there(condition.where, sight, origin)]
    if condition.together is not None:
        found = _together(found, round(condition.together / period_s))
    if condition.part is not None:
        found = _part_of_area(found, condition.part, scene, condition.least)
    return found if len(found) >= condition.least else []


def _fits(condition: Condition, sight: Sight, scene: Scene, period_s: float, since: int) -> bool:
    after_s = (sight.since_tick - since) * period_s
    return (
        _is_one(condition.who, sight, scene.first)
        and (not sight.signs.isdisjoint(condition.does) if condition.does else sight.out or bool(condition.also))
        and sight.signs.issuperset(condition.also)
        and (condition.lasting is None or (scene.tick - sight.since_tick) * period_s >= condition.lasting)
        and (not condition.of or sight.quantity in condition.of)
        and (condition.after is None or after_s >= condition.after)
        and (condition.within is None or after_s <= condition.within)
    )


def _is_one(who: Who, sight: Sight, first: str) -> bool:
    if who is Who.COMMANDS:
        return sight.command
    if sight.command:
        return False
    return who is Who.ANY or (sight.sensor == first) == (who is Who.FIRST)


def _there(where: Where, sight: Sight, origin: Sequence[Sight]) -> bool:
    names = {one.sensor for one in origin}
    areas = {one.area for one in origin if one.area is not None}
    if where is Where.SAME:
        return sight.sensor in names
    if where is Where.NEIGHBOUR:
        return any(sight.sensor in one.near or one.sensor in sight.near for one in origin)
    if where is Where.AREA:
        return sight.area in areas
    if where is Where.OTHER_AREA:
        return bool(areas) and sight.area is not None and sight.area not in areas
    return True


def _together(found: list[Sight], ticks: int) -> list[Sight]:
    """The most sensors that began within ``ticks`` of each other."""
    best: list[Sight] = []
    for start in found:
        group = [sight for sight in found if 0 <= sight.since_tick - start.since_tick <= ticks]
        if len(group) > len(best):
            best = group
    return best


def _part_of_area(found: list[Sight], part: float, scene: Scene, least: int) -> list[Sight]:
    """Sensors of the area in which they are the largest part of those that usually move, where that is enough."""
    best: list[Sight] = []
    for area in {sight.area for sight in found}:
        group = [sight for sight in found if sight.area == area]
        if len(group) >= max(least, part * scene.lively.get(area, 0), len(best) + 1):
            best = group
    return best
