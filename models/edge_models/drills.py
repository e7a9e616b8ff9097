"""Faults put into normal histories, for the network to learn from what they do to the surprises of the experts.

A third of the stretches of a history has faults of one kind (:mod:`edge_models.faults`), a third has several sensors at
fault at once, the rest none. ``replay`` is left out: so the replay suite of the evaluation is of a kind never seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_models.faults import KINDS, SEVERITIES, inject

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

UNSEEN = "replay"
_ONE_KIND = tuple(kind for kind in KINDS if kind != UNSEEN)
_TOGETHER = ("bias", "drift", "noise", "gain", "stuck", "oscillation", "clipping", "intermittent")
_SHARES = (0.17, 0.5, 0.33)  # of stretches with none, with one kind, with several sensors at once
_STRETCH = (330, 900)
_LENGTH = (6, 50)
_GAP = (40, 120)
_EPISODE = (4.0, 120.0)
_SEVERITY = (0.7, 10.0)
_STRONG_SHARE, _STRONGEST = 0.4, 4.0
_CALM_TICKS = 400
_CALM_SHARE = 0.25
_RECENT_TICKS = 1_500
_ALIKE_ROWS = 2_000
_LARGEST_SHARE = 0.7


def drilled(values: Values, generator: np.random.Generator) -> tuple[Values, Flags]:
    """``values`` [T, N] with faults, and where they act [T, N]. Short histories get none."""
    return _Drill(values, generator).run()


class _Drill:
    def __init__(self, values: Values, generator: np.random.Generator) -> None:
        self._clean, self._generator = values, generator
        self._faulty, self._label = values.copy(), np.zeros(values.shape, np.bool_)

    def run(self) -> tuple[Values, Flags]:
        ticks = len(self._clean)
        tick = min(_CALM_TICKS, int(ticks * _CALM_SHARE))
        while ticks - tick >= _STRETCH[0]:
            stop = min(tick + int(self._generator.integers(*_STRETCH)), ticks)
            what = self._generator.choice(len(_SHARES), p=_SHARES)
            if what == 1:
                self._one_kind(tick, stop)
            elif what == 2:
                self._together(tick, stop)
            tick = stop
        return self._faulty, self._label

    def _one_kind(self, start: int, stop: int) -> None:
        kind = str(self._generator.choice(_ONE_KIND))
        severity = None
        if kind != "dropout" and self._generator.random() < _STRONG_SHARE:
            severity = SEVERITIES[kind][1] * float(self._generator.uniform(1.0, _STRONGEST))
        if np.isfinite(self._clean[start:stop]).any():
            found = inject(
                self._clean[start:stop],
                kind,
                self._generator,
                normal=self._clean,
                length=_LENGTH,
                gap=_GAP,
                severity=severity,
            )
            self._faulty[start:stop] = found.values
            for fault in found.faults:
                self._label[start + fault.start : start + fault.stop, list(fault.sensors)] = True

    def _together(self, start: int, stop: int) -> None:
        """One episode after another in which several sensors are at fault, alike or each in its own way."""
        tick = start + int(self._generator.integers(*_GAP))
        while True:
            length = int(np.exp(self._generator.uniform(*np.log(_EPISODE))))
            if tick + length > stop:
                return
            common = str(self._generator.choice(_TOGETHER)) if self._generator.random() < 0.5 else None
            severity = float(np.exp(self._generator.uniform(*np.log(_SEVERITY))))
            for sensor in self._sensors():
                kind = common or str(self._generator.choice(_TOGETHER))
                self._put(kind, int(sensor), tick, length, severity * float(self._generator.uniform(0.4, 1.0)))
            tick += length + int(self._generator.integers(*_GAP))

    def _sensors(self) -> NDArray[np.int64]:
        """Few or many sensors: those that move most like the first, or any."""
        count = self._clean.shape[1]
        most = max(1.0, _LARGEST_SHARE * count)
        wanted = round(float(np.exp(self._generator.uniform(0.0, np.log(most)))))
        if self._generator.random() < 0.5:
            return np.asarray(self._generator.choice(count, wanted, replace=False), np.int64)
        readings = np.nan_to_num(self._clean[-_ALIKE_ROWS:])
        z = (readings - readings.mean(0)) / (readings.std(0) + 1e-12)
        alike = np.abs(z.T @ z[:, int(self._generator.integers(count))])
        return np.asarray(np.argsort(-alike, kind="stable")[:wanted], np.int64)

    def _put(self, kind: str, sensor: int, start: int, length: int, severity: float) -> None:
        """One fault of one sensor, unless the kind would not show on it."""
        start = max(0, start - int(self._generator.integers(4)))
        place = (slice(start, start + length + 3), slice(sensor, sensor + 1))
        recent = self._clean[max(0, start - _RECENT_TICKS) : start + length + 3, sensor : sensor + 1]
        if not np.isfinite(self._clean[place]).any() or len(self._clean[place]) < length + 3:
            return
        found = inject(
            self._clean[place],
            kind,
            self._generator,
            normal=recent,
            episodes=1,
            length=(length, length + 1),
            gap=(1, 2),
            severity=severity,
        )
        self._faulty[place] = found.values
        for fault in found.faults:
            self._label[start + fault.start : start + fault.stop, sensor] = True
