"""How the agent does under a configuration that came over the air, beside how it did before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.ota.config_gate import Footing, config_troubles
from edge_agent.ota.ring import Trial

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon


class ConfigHealth:
    """Remembers what the agent stood on when its configuration was changed, until it is changed again."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._before: Footing | None = None
        self._told: dict[str, str] = {}

    def changed(self, before: Footing) -> None:
        """The configuration has changed; ``before``: :meth:`footing` just before that."""
        self._before = before
        self._told = {}

    def troubles(self) -> list[str]:
        """What is worse than before, one sentence each; nothing when the configuration has not changed since the start.

        Some of it passes: a source that was exchanged needs a moment to connect. A trouble that lasts stays the same
        sentence, with the numbers it began with, so that it can be seen how long it lasts.
        """
        if self._before is None:
            return []
        found = config_troubles(self._trial(), self._before, self.footing())
        self._told = {word: self._told.get(word, sentence) for word, sentence in found.items()}
        return list(self._told.values())

    def _trial(self) -> Trial:
        """What the release that is worked on allows; without one what most do."""
        updates = self._daemon.updates
        release = None if updates is None else updates.release
        return Trial() if release is None else release.trial

    def footing(self) -> Footing:
        """What the agent stands on now."""
        daemon = self._daemon
        pipeline, metrics = daemon.pipeline, daemon.metrics
        assert pipeline is not None
        report = pipeline.last_report
        return Footing(
            ticks=pipeline.ticks,
            missed=int(metrics.ticks_missed.labels().value),
            incidents=round(sum(child.value for _, child in metrics.incidents.series())),
            usable=0 if report is None else int(report.snapshot.usable.sum()),
            connected=frozenset(
                name for name, runner in daemon.runners.sources.items() if runner.context.state == "connected"
            ),
            silent=frozenset(pipeline.rules.status()["unknown"]),
        )
