"""What is learned from the training part: the linear experts, then the network that judges what they leave."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from edge_models.hybrid import HybridStep
from edge_models.network import HybridNetwork
from edge_models.online import Pace
from edge_models.site.options import Say, SiteOptions
from edge_models.site.plant import Plant
from edge_models.site.running import learned_state
from edge_models.site.sample import Sample
from edge_models.training import History, Progress, fit, prepare

MOST_STEPS = 400
_LEARNING_RATE = 7e-4
_BUDGET_SHARE = 0.6
_BATCH_SENSORS = 600
"""Unrolled through time a sensor in a batch takes a third of a megabyte."""


def fitted_constants(network: HybridNetwork, sample: Sample, plant: Plant) -> NDArray[np.float32]:
    """Level, deviation and expert weights of each sensor as context rows.

    What the gateway learns forgets, so that it follows the plant. Over windows of a long history everything counts
    alike instead, or the last ones would decide.
    """
    ticks = float(sum(map(len, sample.training)))
    pace = Pace() if sample.whole else Pace(horizon=ticks, leak=ticks**-2)
    return plant.context(learned_state(HybridStep(network, pace).eval(), sample.training, plant.neighbour))


def fine_tuned(
    network: HybridNetwork,
    sample: Sample,
    plant: Plant,
    context: NDArray[np.float32],
    options: SiteOptions,
    begun: float,
    say: Say,
) -> float:
    """Train ``network`` in place within the time budget; its held-out loss relative to knowing nothing."""
    say("fine-tuning", 0.2)
    # A window is too short for the experts to find their level in it, so they begin with what is known.
    known = None if sample.whole else context
    histories = [History(options.name, part, plant.neighbour, known) for part in sample.training]
    prepared = prepare(histories, np.random.default_rng(options.seed))
    left_s = max(1.0, _BUDGET_SHARE * options.time_budget_s - (time.monotonic() - begun))

    def report(p: Progress) -> None:
        done = min(1.0, max(p.step / MOST_STEPS, p.elapsed_s / left_s))
        say(f"fine-tuning: held-out loss {p.relative_loss:.3f} of knowing nothing", 0.3 + 0.4 * done)

    return fit(
        network,
        prepared,
        seed=options.seed,
        budget_s=left_s,
        learning_rate=_LEARNING_RATE,
        most_steps=MOST_STEPS,
        check_every=10,
        batch_sensors=_BATCH_SENSORS,
        report=report,
    )
