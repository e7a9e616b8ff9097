"""Snapshots made by hand, and a plant of rules that is told what its sensors read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_agent.graph.snapshot import Snapshot
from edge_agent.rules.incidents import RuleIncidents
from edge_agent.rules.options import RuleOptions
from edge_agent.rules.rules import Rules
from edge_agent.sample import Quality
from edge_agent.verdict import Incident

T0_NS = 1_760_000_000 * 10**9


def snapshot(
    tick: int,
    values: Mapping[str, float | None],
    *,
    period_s: float = 1.0,
    flags: Mapping[str, Quality] | None = None,
    ages: Mapping[str, float] | None = None,
    neighbours: Mapping[str, tuple[str, ...]] | None = None,
    sensors: tuple[str, ...] | None = None,
) -> Snapshot:
    """None: never heard of. ``flags`` make a value unusable; ``ages`` in ticks."""
    names = tuple(values) if sensors is None else sensors
    known = np.array([values[name] is not None for name in names], np.bool_)
    quality = np.array([int((flags or {}).get(name, 0)) for name in names], np.int32)
    age = [float((ages or {}).get(name, 0)) if there else 1e9 for name, there in zip(names, known, strict=True)]
    rows = [[names.index(other) for other in (neighbours or {}).get(name, ())] for name in names]
    return Snapshot(
        tick=tick,
        time_ns=T0_NS + round(tick * period_s * 1e9),
        topology=0,
        sensors=names,
        value=np.array([values[name] or 0.0 for name in names]),
        age=np.array(age, np.float32),
        quality=quality,
        usable=known & (quality == 0),
        neighbour=np.array([[*row, -1, -1][:2] for row in rows], np.int64).reshape(len(names), 2),
    )


class Units:
    """Every sensor reads in millimetres."""

    def unit(self, sensor: int) -> str | None:
        return "mm"


class Plant:
    """Rules and their incidents on ticks of one second."""

    def __init__(
        self,
        rules: Mapping[str, Mapping[str, object]],
        *,
        period_s: float = 1.0,
        clear_after_s: float = 0.0,
        states: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.states = dict(states or {})
        self.rules = Rules(options(rules), period_s, clear_after_s, lambda name: self.states.get(name, {}))
        self.incidents = RuleIncidents(self._new_id, 8)
        self.period_s = period_s
        self.ticks = 0
        self._made = 0
        self._sensors: tuple[str, ...] = ()

    def _new_id(self, wall_ns: int) -> str:
        self._made += 1
        return f"rule-{self._made}"

    def see(self, values: Mapping[str, float | None], **more: object) -> Snapshot:
        """One tick of the rules alone."""
        names = tuple(values)
        self._sensors = self._sensors if names == self._sensors else names
        seen = snapshot(self.ticks, values, period_s=self.period_s, sensors=self._sensors, **more)  # type: ignore[arg-type]
        self.rules.update(seen, round(self.ticks * self.period_s * 1e9))
        self.ticks += 1
        return seen

    def tick(
        self, values: Mapping[str, float | None], process: tuple[Incident, ...] = (), **more: object
    ) -> list[Incident]:
        """One tick of rules and incidents; what is told."""
        return self.incidents.update(self.rules.holding, self.see(values, **more), Units(), process)

    def held(self, series: list[float | None], sensor: str = "x", **fixed: float | None) -> str:
        """For each tick whether the only rule holds: ``-`` no, ``#`` yes."""
        shown = ""
        for value in series:
            self.see({sensor: value, **fixed})
            shown += "#" if self.rules.holding else "-"
        return shown


def options(rules: Mapping[str, Mapping[str, object]]) -> dict[str, RuleOptions]:
    """Rules as the file would give them."""
    return {name: RuleOptions.model_validate(dict(rule)) for name, rule in rules.items()}
