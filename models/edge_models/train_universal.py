"""Train the universal model: ``python -m edge_models.train_universal --data DIR --out DIR --seed 0``.

Train parts of wsn_suthaharan, tep, asd and smd, three hours of the simulated plant without attacks, and random plants,
with faults put into them. Test parts are never read.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from edge_agent.errors import EdgeAgentError
from edge_models.datasets import DATA_VARIABLE, data_folder, read_table, training_files
from edge_models.neighbours import choose_neighbours, partial_correlations
from edge_models.network import HybridNetwork
from edge_models.random_plants import random_plant
from edge_models.state import NEIGHBOURS
from edge_models.training import History, Prepared, Progress, fit, prepare

RECENT_TICKS = 8_000
"""Of a longer recording only the last part is used, so that no source outweighs the others by length."""
PLANT_SECONDS = 10_800.0
DEFAULT_STEPS = 400
RANDOM_PLANTS = 10
"""In each of the copies."""
COPIES = 3
"""Times that each recording is used, with other faults."""
HELD_OUT = ("asd/omi-6", "smd/machine-2-8", "wsn_suthaharan/multihop", "random plant 0")
"""Plants that only decide which weights are kept."""
VERSION = "2026.11.21"
CARD = Path(__file__).parent / "universal-card.md"


def histories(folder: Path, seed: int) -> list[History]:
    """All normal recordings the universal model learns from."""
    from edge_agent.demo.recording import generate

    found = []
    for path in training_files(folder):
        values = read_table(path).values[-RECENT_TICKS:]
        found.append(history(path.parent.relative_to(folder).as_posix(), values))
    found.append(history("simulated plant", generate(PLANT_SECONDS, seed).values))
    return found


def history(name: str, values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> History:
    """A history with neighbours from its own partial correlations."""
    return History(name, values, choose_neighbours(partial_correlations(values), NEIGHBOURS))


def prepared(sources: Sequence[History], seed: int, copies: int = COPIES) -> list[Prepared]:
    """``sources`` and random plants with faults, several times; every second time damaged as well."""
    generator = np.random.default_rng(seed + 2)
    found = []
    for copy in range(copies):
        plants = [history(f"random plant {n}", random_plant(generator)) for n in range(RANDOM_PLANTS)]
        found += prepare([*sources, *plants], generator, damaged=copy % 2 == 1)
    return found


def train(
    plants: Sequence[Prepared],
    seed: int,
    most_steps: int,
    budget_s: float = math.inf,
    report: Callable[[Progress], None] | None = None,
) -> tuple[HybridNetwork, float]:
    """A trained network, and its loss on the plants of ``HELD_OUT`` relative to knowing nothing."""
    torch.manual_seed(seed)
    network = HybridNetwork()
    learned = [plant for plant in plants if plant.name not in HELD_OUT]
    held_out = [plant for plant in plants if plant.name in HELD_OUT]
    best = fit(network, learned, held_out=held_out, seed=seed, most_steps=most_steps, budget_s=budget_s, report=report)
    return network, best


def write(network: HybridNetwork, out: Path, folder: Path, seed: int, best: float, card: str) -> None:
    """The bundle of ``network`` in ``out``; golden ticks come from the simulated plant."""
    from edge_agent.demo.recording import generate
    from edge_models.bundling import Origin, golden_inputs, write_model_bundle
    from edge_models.datasets import data_digest
    from edge_models.hybrid import HybridStep
    from edge_models.state import CONTEXT_WIDTH

    values = generate(400.0, seed + 100).values
    table = history("golden", values).neighbour
    inputs = golden_inputs(values, table, np.zeros((values.shape[1], CONTEXT_WIDTH), np.float32))
    origin = Origin("universal", VERSION, data_digest(training_files(folder)), seed)
    write_model_bundle(out, HybridStep(network).eval(), inputs, origin, card.format(best=best, seed=seed))


def main() -> None:
    """Command line of this module."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m edge_models.train_universal", description=__doc__)
    parser.add_argument("--data", type=Path, help=f"folder of recordings (default: ${DATA_VARIABLE})")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write; must be empty or new")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--steps", type=int, default=DEFAULT_STEPS, help="training steps; the same seed and steps give the same weights"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; more may change the last bits")
    options = parser.parse_args()
    console = Console(stderr=True)
    torch.set_num_threads(options.threads)
    try:
        folder = data_folder(options.data)
        console.print("Putting faults into the recordings and running them through the linear experts …")
        plants = prepared(histories(folder, options.seed), options.seed)

        def report(p: Progress) -> None:
            console.print(
                f"step {p.step:5d}  held-out loss {p.relative_loss:.4f} of knowing nothing  ({p.elapsed_s:.0f} s)"
            )

        network, best = train(plants, options.seed, options.steps, report=report)
        write(network, options.out, folder, options.seed, best, CARD.read_text())
    except EdgeAgentError as error:
        console.print(f"[red]{error}[/red]")
        raise SystemExit(2) from error
    console.print(f"Wrote {options.out}")


if __name__ == "__main__":
    main()
