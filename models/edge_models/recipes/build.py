"""From a recipe's name to a trained member."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from edge_agent.errors import ConfigError
from edge_models.recipes import gdn, linear, lstm, outliers, transformer
from edge_models.recipes.ensemble import EnsembleMember
from edge_models.recipes.fitting import Settings
from edge_models.recipes.members import Member
from edge_models.recipes.plant import Plant

HYBRID, ENSEMBLE, AUTO, PYOD = "hybrid", "ensemble", "auto", "pyod:"
DEFAULT_MEMBERS = ("linear", "lstm-ae", "gdn")

_NETWORKS: dict[str, tuple[Callable[[Plant, Any, Settings], Member], Any]] = {
    "linear": (linear.train, linear.LinearOptions),
    "lstm-ae": (lstm.train, lstm.LstmOptions),
    "transformer": (transformer.train, transformer.TransformerOptions),
    "gdn": (gdn.train, gdn.GdnOptions),
}
TUNABLE: Mapping[str, Any] = {name: options for name, (_, options) in _NETWORKS.items()}
"""Option classes of the recipes that have hyper-parameters."""


def names() -> tuple[str, ...]:
    """All recipes that ``--recipe`` takes."""
    single = (HYBRID, *_NETWORKS, *(f"{PYOD}{name}" for name in outliers.exportable()))
    return (*single, ENSEMBLE, AUTO)


def check(recipe: str) -> str:
    """The recipe in its usual spelling. :raises ConfigError: there is none of this name, or it cannot be exported."""
    kind, _, rest = recipe.partition(":")
    if kind == "pyod" and rest:
        return PYOD + outliers.named(rest)
    if kind == ENSEMBLE and rest:
        members = [check(member) for member in rest.split("+")]
        wrong = next((member for member in members if member in (HYBRID, AUTO) or member.startswith(ENSEMBLE)), None)
        if wrong is not None or len(set(members)) < 2 or len(set(members)) < len(members):
            raise ConfigError(
                f"--recipe {recipe}: expected two or more different recipes joined by '+', none of them {HYBRID},"
                f" {ENSEMBLE} or {AUTO}"
            )
        return f"{ENSEMBLE}:{'+'.join(members)}"
    if recipe in (HYBRID, ENSEMBLE, AUTO, *_NETWORKS):
        return recipe
    near = get_close_matches(recipe, names(), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"--recipe: got {recipe!r}, {hint}expected one of {', '.join(names())}")


def default_options(recipe: str) -> Any:
    """The hyper-parameters of a checked recipe, None where it has none of its own."""
    return _NETWORKS[recipe][1]() if recipe in _NETWORKS else None


def build(recipe: str, plant: Plant, settings: Settings, options: Any = None) -> Member:
    """Train the member of a checked recipe other than ``hybrid`` and ``auto``; ``options`` None: its defaults."""
    if recipe.startswith(PYOD):
        return outliers.train(plant, recipe.removeprefix(PYOD), settings)
    if recipe.partition(":")[0] == ENSEMBLE:
        chosen = recipe.partition(":")[2].split("+") if ":" in recipe else DEFAULT_MEMBERS
        share = replace(settings, time_budget_s=settings.time_budget_s / len(chosen))
        return EnsembleMember.measured([build(member, plant, share) for member in chosen], plant)
    train, defaults = _NETWORKS[recipe]
    return train(plant, options or defaults(), settings)
