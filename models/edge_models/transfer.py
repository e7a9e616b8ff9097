"""How well the universal model does on plants it has never seen: ``python -m edge_models.transfer --data DIR``.

The network is trained without one of the recordings that the shipped one has learned from (all plants of that set left
out) and judged on it, alone and with companions, in the daemon's pipeline; beside it the shipped model, which knows the
set's normal part, and for some plants a site model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge_agent.companions import MEMBERS, MODEL
from edge_agent.errors import DataFileError, EdgeAgentError
from edge_models.datasets import DATA_VARIABLE, data_folder
from edge_models.evaluation.ablation import WHOLE, judged, kept, member, member_levels, ways
from edge_models.evaluation.agent import TrainedAgent
from edge_models.evaluation.suites import Case, cases
from edge_models.network import HybridNetwork
from edge_models.recipes.build import HYBRID
from edge_models.train_universal import CARD, DEFAULT_STEPS, histories, prepared, train, write
from edge_models.training import Prepared

SETS = ("wsn_suthaharan", "tep", "asd", "smd")
SHIPPED, LEFT_OUT, SITE = "shipped", "left out", "site"
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Quality:
    """VUS-PR of the model alone, and of model and companions."""

    alone: float
    joined: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One plant: how good which model is on it."""

    set: str
    plant: str
    by: dict[str, Quality]


class LeaveOneOut:
    """Networks trained without a set. All recordings are run through the experts once."""

    def __init__(self, folder: Path, seed: int, most_steps: int) -> None:
        self._folder, self._seed, self._most_steps = folder, seed, most_steps
        self._prepared = prepared(histories(folder, seed), seed)

    def bundle(self, name: str, out: Path) -> float:
        """Train without the set ``name`` and write the bundle to ``out``; held-out loss relative to the experts'."""
        network, best = trained_without(self._prepared, name, self._seed, self._most_steps)
        write(network, out, self._folder, self._seed, best, CARD.read_text())
        return best


def trained_without(plants: Sequence[Prepared], name: str, seed: int, most_steps: int) -> tuple[HybridNetwork, float]:
    """As the shipped network is trained, without recordings of the set ``name``; network and held-out loss."""
    return train([one for one in plants if one.name.partition("/")[0] != name], seed, most_steps)


def quality(case: Case, bundle: Path | None, cache: Path | None, model: str) -> Quality:
    """Of the bundle (None: the shipped universal model) on ``case``; levels are kept under the name of ``model``."""
    name = f"members {case.set} {case.entity.name}" if bundle is None else f"{model} {case.set} {case.entity.name}"
    levels = kept(cache, name, lambda: member_levels(case, bundle))
    joined = next(make for _, name, make in ways() if name == WHOLE)
    return Quality(
        judged(case, levels, member(MEMBERS.index(MODEL))),
        judged(case, levels, joined),
    )


def judge_all(
    chosen: dict[str, list[Case]],
    train: LeaveOneOut,
    site: Sequence[str],
    budget_s: float,
    cache: Path | None,
    told: Told,
) -> list[Judged]:
    """All plants by the shipped model and the one that never saw their set; those in ``site`` by a site model too."""
    found = []
    for name, plants in chosen.items():
        with tempfile.TemporaryDirectory() as place:
            left_out = Path(place) / "left-out"
            told(f"{name}: held-out loss {train.bundle(name, left_out):.3f} of linear")
            for case in plants:
                by = {
                    SHIPPED: quality(case, None, cache, SHIPPED),
                    LEFT_OUT: quality(case, left_out, cache, LEFT_OUT),
                }
                if f"{name}/{case.entity.name}" in site:
                    folder = Path(place) / case.entity.name
                    folder.mkdir()
                    trained = TrainedAgent(HYBRID, budget_s).trained(case, 0, folder)
                    by[SITE] = quality(case, trained.bundle, cache, SITE)
                told(f"{name}/{case.entity.name}: {by}")
                found.append(Judged(name, case.entity.name, by))
    return found


def markdown(found: Sequence[Judged]) -> str:
    """A line for each set, mean over its plants, and one for each plant that has a site model."""
    models = (SHIPPED, LEFT_OUT, SITE)
    lines = [
        f"| | {' | '.join(models)} | {' | '.join(f'{name} + companions' for name in models)} |",
        "|" + "---|" * (2 * len(models) + 1),
    ]
    for name in dict.fromkeys(one.set for one in found):
        plants = [one for one in found if one.set == name]
        lines.append(_line(f"{name} ({len(plants)})", plants, (SHIPPED, LEFT_OUT)))
    lines += [_line(f"{one.set}/{one.plant}", [one], models) for one in found if SITE in one.by]
    return "\n".join(lines) + "\n"


def _line(title: str, plants: Sequence[Judged], models: Sequence[str]) -> str:
    cells = [
        f"{np.mean([getattr(one.by[model], read) for one in plants]):.3f}" if model in models else ""
        for read in ("alone", "joined")
        for model in (SHIPPED, LEFT_OUT, SITE)
    ]
    return f"| {title} | {' | '.join(cells)} |"


def _chosen(folder: Path, names: Sequence[str], most: int | None, site: Sequence[str]) -> dict[str, list[Case]]:
    found = {name: cases(folder, name)[:most] for name in names}
    known = [f"{name}/{case.entity.name}" for name, plants in found.items() for case in plants]
    for plant in site:
        if plant not in known:
            raise DataFileError(f"--site: got {plant!r}, expected one of {', '.join(known)}")
    return found


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m edge_models.transfer", description=__doc__)
    parser.add_argument("--data", type=Path, help=f"folder of recordings (default: ${DATA_VARIABLE})")
    parser.add_argument("--set", action="append", choices=SETS, help="only this set; may be given several times")
    parser.add_argument("--plants", type=int, help="judge at most so many plants of each set")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="training steps of each network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--site", action="append", default=[], help="also a site model of this plant, such as asd/omi-1"
    )
    parser.add_argument("--time-budget", type=float, default=60.0, help="seconds for each site model")
    parser.add_argument("--cache", type=Path, help="folder to keep levels in; empty it when code or model changed")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def told(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    try:
        folder = data_folder(options.data)
        chosen = _chosen(folder, options.set or SETS, options.plants, options.site)
        train = LeaveOneOut(folder, options.seed, options.steps)
        found = judge_all(chosen, train, options.site, options.time_budget, options.cache, told)
    except EdgeAgentError as error:
        told(str(error))
        raise SystemExit(2) from error
    print(markdown(found), end="")


if __name__ == "__main__":
    main()
