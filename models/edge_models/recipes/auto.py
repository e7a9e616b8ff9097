"""``--recipe auto``: several recipes within a time budget, and the best of them without a single label.

The defaults of all recipes come first, the cheap ones before the costly ones; what time is left goes to a study by
Optuna (tree-structured Parzen estimator, Bergstra et al., NeurIPS 2011) over recipe and hyper-parameters. In the end
the best three of different recipes are tried as an ensemble. All are compared by :attr:`Judged.quality`.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_agent.bundle.store import read_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.errors import ConfigError
from edge_models.places import check_new_folder
from edge_models.recipes.build import ENSEMBLE, HYBRID, TUNABLE, build, default_options
from edge_models.recipes.ensemble import EnsembleMember
from edge_models.recipes.fitting import Say, Settings
from edge_models.recipes.judging import Judged, judged
from edge_models.recipes.members import Member
from edge_models.recipes.plant import Plant, read_plant
from edge_models.recipes.train import RecipeReport, report_of, write
from edge_models.reporting.record import Setting
from edge_models.site import SiteOptions, train_site

_ORDER = ("linear", "pyod:GMM", "pyod:KNN", "gdn", HYBRID, "transformer", "lstm-ae")
_LARGEST_SHARE = 0.25
_TOGETHER = 3
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One line of the leaderboard; ``quality`` as :attr:`~edge_models.recipes.judging.Judged.quality`."""

    recipe: str
    settings: Mapping[str, Setting]
    quality: float
    fault_auroc: float | None
    likelihood: float
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class AutoReport:
    """The bundle that was kept, and all that were tried, best first."""

    kept: RecipeReport
    leaderboard: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class _Tried:
    line: Candidate
    judged: Judged
    options: Any
    model: Member | Bundle


def train_auto(
    data: str | Path,
    edges: Path | None,
    out: Path,
    options: SiteOptions,
    progress: Say | None = None,
    clock: Clock = time.monotonic,
) -> AutoReport:
    """Try recipes for about ``options.time_budget_s`` and write the best one to ``out``.

    The same seed draws the same candidates; how many there are depends on the time. Raises as
    :func:`~edge_models.recipes.train.train_recipe` does.
    """
    begun = clock()
    check_new_folder(out)
    say = progress or (lambda what, share: None)
    say("reading", 0.0)
    plant = read_plant(data, edges, options)
    with tempfile.TemporaryDirectory() as folder:
        search = _Search(data, edges, plant, options, Path(folder), clock, begun, say)
        search.run()
        search.together()
        ranked = sorted(search.tried, key=lambda tried: -tried.line.quality)
        best = ranked[0]
        say(f"writing {best.line.recipe}", 0.95)
        kept = replace(_kept(best, plant, out, search.hybrid, options), elapsed_s=clock() - begun)
    return AutoReport(kept, tuple(tried.line for tried in ranked))


def _kept(best: _Tried, plant: Plant, out: Path, hybrid: Path, options: SiteOptions) -> RecipeReport:
    recipe, elapsed_s = best.line.recipe, best.line.elapsed_s
    if isinstance(best.model, Member):
        return write(out, recipe, best.options, best.model, plant, best.judged, options, elapsed_s)
    shutil.copytree(hybrid, out, dirs_exist_ok=True)
    return report_of(out, recipe, plant, best.judged, best.model, elapsed_s)


class _Search:
    """All that was tried so far, within the time."""

    def __init__(
        self,
        data: str | Path,
        edges: Path | None,
        plant: Plant,
        options: SiteOptions,
        folder: Path,
        clock: Clock,
        begun: float,
        say: Say,
    ) -> None:
        self.tried: list[_Tried] = []
        self.hybrid = folder / HYBRID
        self._data, self._edges, self._plant, self._options = data, edges, plant, options
        self._clock, self._begun, self._say = clock, begun, say

    def run(self) -> None:
        """The defaults, then a study until the time is over; the first default is tried whatever the time."""
        try:
            import optuna
        except ImportError as error:
            raise ConfigError(
                "--recipe auto: Optuna is not installed: pip install 'edge-graph-agent[train]'"
            ) from error
        for recipe in _ORDER:
            if not self.tried or self._left_s() > 0.0:
                self._try(recipe, default_options(recipe))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=self._options.seed))
        for done in self.tried:
            if done.line.recipe in TUNABLE:
                study.enqueue_trial({"recipe": done.line.recipe} | _named(done.line))
        # What has been measured is asked for first, and answered from memory.
        while self._left_s() > 0.0:
            trial = study.ask()
            recipe = trial.suggest_categorical("recipe", list(TUNABLE))
            study.tell(trial, self._measured(recipe, TUNABLE[recipe].suggest(trial)))

    def together(self) -> None:
        """The best members of different recipes as one."""
        best: dict[str, _Tried] = {}
        for tried in sorted(self.tried, key=lambda one: -one.line.quality):
            if isinstance(tried.model, Member):
                best.setdefault(tried.line.recipe, tried)
        chosen = list(best.items())[:_TOGETHER]
        if len(chosen) < 2:
            return
        self._say("trying an ensemble", 0.9)
        begun = self._clock()
        members = [tried.model for _, tried in chosen if isinstance(tried.model, Member)]
        name = f"{ENSEMBLE}:{'+'.join(recipe for recipe, _ in chosen)}"
        self._add(name, None, EnsembleMember.measured(members, self._plant), begun)

    def _left_s(self) -> float:
        """Until nine tenths of the budget are spent; the rest is for the ensemble and for writing."""
        return 0.9 * self._options.time_budget_s - (self._clock() - self._begun)

    def _measured(self, recipe: str, options: Any) -> float:
        known = next((one for one in self.tried if (one.line.recipe, one.options) == (recipe, options)), None)
        return (known or self._try(recipe, options)).line.quality

    def _try(self, recipe: str, options: Any) -> _Tried:
        share = 1.0 - self._left_s() / (0.9 * self._options.time_budget_s)
        best = max((one.line.quality for one in self.tried), default=0.0)
        self._say(f"trying {recipe}; best so far {best:.3f}", min(0.9, max(0.0, 0.9 * share)))
        begun = self._clock()
        most_s = max(1.0, min(self._left_s(), _LARGEST_SHARE * self._options.time_budget_s))
        if recipe == HYBRID:
            train_site(self._data, self._edges, self.hybrid, replace(self._options, time_budget_s=most_s))
            return self._add(recipe, None, read_bundle(self.hybrid), begun)
        return self._add(
            recipe, options, build(recipe, self._plant, Settings(self._options.seed, most_s), options), begun
        )

    def _add(self, recipe: str, options: Any, model: Member | Bundle, begun: float) -> _Tried:
        found = judged(model, self._plant, self._options.seed)
        settings = {} if options is None else asdict(options)
        elapsed_s = self._clock() - begun
        line = Candidate(recipe, settings, found.quality, found.fault_auroc, found.likelihood, elapsed_s)
        self.tried.append(_Tried(line, found, options, model))
        return self.tried[-1]


def _named(line: Candidate) -> dict[str, Setting]:
    """Hyper-parameters by the names they have in a study."""
    return {f"{line.recipe}.{name}": value for name, value in line.settings.items()}
