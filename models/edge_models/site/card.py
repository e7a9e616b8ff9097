"""The model card of a site bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_CARD = """# Site model {name}

Fine-tuned from the universal model on `{source}`: {used} of {rows} ticks of {sensors} sensors ({known} of them heard
often enough to have constants). Seed {seed}.

## Measured

On held-out readings ({ticks} ticks), which nothing was fitted on, the score of a sensor and tick has median
{median:.2f} and 99th percentile {p99:.2f}. Telling faults that were put into the history from none: loss {loss:.3f} of
what knowing nothing gives. Nothing is known about real faults: the history holds no labelled ones.

## The history

{sampling}

{odd}

## Limits

* It takes the history for normal. Rare faults in it do little harm; a fault that fills it is learned as normal.
* Operating conditions that the history does not hold look anomalous.
* A change that lasts several thousand ticks is slowly accepted as the new normal.
"""
_WHOLE = "All of it: the first three quarters were learned from, the last one held out."
_SAMPLED = (
    "Windows at random places of equal strata of it, so that all times of day and all seasons that it holds are"
    " there; of every four windows one was held out."
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card says; ``ticks`` are those held out, ``known`` sensors have constants."""

    name: str
    source: str
    rows: int
    used: int
    whole: bool
    sensors: int
    known: int
    seed: int
    loss: float
    ticks: int
    median: float
    p99: float
    constant: Sequence[str]
    empty: Sequence[str]
    warnings: Sequence[str]


def card(facts: Facts) -> str:
    """The card as Markdown."""
    odd = [f"* {len(facts.constant)} sensors never changed: {', '.join(facts.constant)}"] if facts.constant else []
    odd += [f"* {len(facts.empty)} sensors never had a value: {', '.join(facts.empty)}"] if facts.empty else []
    odd += [f"* {one}" for one in facts.warnings]
    return _CARD.format(
        name=facts.name,
        source=facts.source,
        rows=facts.rows,
        used=facts.used,
        sensors=facts.sensors,
        known=facts.known,
        seed=facts.seed,
        ticks=facts.ticks,
        median=facts.median,
        p99=facts.p99,
        loss=facts.loss,
        sampling=_WHOLE if facts.whole else _SAMPLED,
        odd="\n".join(odd) or "* nothing unusual in the history",
    )
