"""The model card: what a stranger must know before trusting a model (after Mitchell et al. 2019, "Model Cards for
Model Reporting"), as Markdown of a few pages at most, however large the plant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edge_models.faults import SEVERITIES, Detection
from edge_models.reporting.record import DataSummary, TrainingRecord

_MOST_NAMES = 20
_LIMITS = (
    "It takes the history for normal. Rare faults in it do little harm; a fault that fills it is learned as normal.",
    "Operating conditions that the history does not hold look anomalous.",
)


def model_card(record: TrainingRecord) -> str:
    """The card as Markdown; what was not measured is said to be unknown. Never holds a path."""
    sections = (
        [f"# {_plain(record.name)}", "", _opening(record)],
        ["## Data", "", *_data(record.data)],
        ["## Training", "", *_training(record)],
        ["## On held-out normal readings", "", *_held_out(record)],
        ["## On synthetic faults", "", *_faults(record.faults)],
        ["## Limits", "", *(f"* {limit}" for limit in (*_LIMITS, *record.limits))],
        ["## Provenance", "", *_provenance(record)],
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _opening(record: TrainingRecord) -> str:
    return (
        f"Recipe `{record.recipe}`, trained on {record.data.used_rows:,} rows of {len(record.data.sensors):,} sensors."
        " Written by the training itself."
    )


def _data(data: DataSummary) -> Iterator[str]:
    yield f"* Source: {name(data.source)}; licence of the data: {data.licence or 'not stated'}."
    yield f"* Rows: {data.used_rows:,} used of {data.rows:,}, in {_count(data.runs, 'run')}{_tick(data)}."
    period = "unknown" if data.first is None else f"{data.first} to {data.last}"
    yield f"* Period: {period}."
    yield f"* Gaps: {_count(data.gaps, 'place')} where rows are missing; {data.missing:.2%} of readings are missing."
    yield f"* Sensors: {names(data.sensors)}."
    if data.constant:
        yield f"* Never changed: {names(data.constant)}."
    if data.empty:
        yield f"* Never had a value: {names(data.empty)}."
    yield f"* Left out: {_plain('; '.join(data.excluded)) or 'nothing'}."
    yield from (f"* Odd: {_plain(warning)}." for warning in data.warnings)


def _tick(data: DataSummary) -> str:
    return "" if data.tick_s is None else f", {data.tick_s:g} s apart"


def _training(record: TrainingRecord) -> Iterator[str]:
    yield "| setting | value |"
    yield "|---|---|"
    yield f"| seed | {record.seed} |"
    yield from (f"| {_plain(key)} | {_plain(str(value))} |" for key, value in record.settings.items())
    if record.elapsed_s is not None:
        yield f"| time | {record.elapsed_s:.1f} s |"
    if record.loss:
        last = record.loss[-1]
        yield f"| steps | {last.step:,} |"
        yield from (
            f"| last loss, {part} | {value:.4g} |"
            for part, value in (("training", last.training), ("held out", last.held_out))
            if value is not None
        )
    if record.edges:
        yield f"| edges of the graph | {len(record.edges):,} |"


def _held_out(record: TrainingRecord) -> Iterator[str]:
    if record.scores is not None and record.scores.size:
        median, late = np.quantile(record.scores, (0.5, 0.99))
        yield (
            f"* Over {len(record.scores):,} ticks that nothing was fitted on, the score of a sensor and tick has"
            f" median {median:.2f} and 99th percentile {late:.2f}."
        )
    else:
        yield "* Scores were not measured."
    if record.likelihood is not None:
        yield (
            f"* Log likelihood: {record.likelihood:.3f} nats per reading in spreads of its sensor"
            " (mean and spread alone: -1.419)."
        )
    if record.residual is not None:
        worst = np.argsort(-np.nan_to_num(record.residual), kind="stable")[:3]
        listed = ", ".join(f"{name(record.data.sensors[i])} {record.residual[i]:.2f}" for i in worst)
        yield f"* Root mean square error, in spreads: median {np.nanmedian(record.residual):.2f}; largest {listed}."
    yield from (f"* {_plain(what)}: {value:.4g}" for what, value in record.metrics.items())


def _faults(faults: Sequence[Detection]) -> Iterator[str]:
    if not faults:
        yield "Not measured: nothing is known about detection, since the history holds no labelled faults."
        return
    yield (
        "Injected into the held-out readings; severities in spreads of the sensor (dropout: share lost). This is how"
        " well such faults are seen, not how well those of the plant will be. AUROC of the plant's score: 0.5 is"
        " chance. Named: faults whose sensor had the largest score."
    )
    yield ""
    yield "| kind | severity | faults | AUROC | named |"
    yield "|---|---|---|---|---|"
    for one in faults:
        low, high = SEVERITIES[one.kind]
        yield f"| {one.kind} | {low:g} to {high:g} | {one.faults} | {_or_dash(one.auroc)} | {_or_dash(one.named)} |"
    measured = [one.auroc for one in faults if one.auroc is not None]
    if measured:
        yield ""
        yield f"Mean AUROC over {len(measured)} kinds: {np.mean(measured):.2f}."


def _provenance(record: TrainingRecord) -> Iterator[str]:
    yield f"* sha256 of the data: `{record.data.sha256}`"
    yield f"* Licence of the weights: {record.weights_licence}"
    if record.created is not None:
        yield f"* Trained: {record.created}"
    if record.commit is not None:
        yield f"* Commit of the code: `{record.commit}`"
    yield f"* Versions: {_versions(record.versions)}"


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {number}" for package, number in found.items())


def names(sensors: Sequence[str]) -> str:
    """``3: `a`, `b`, `c```, at most twenty of them by name."""
    more = len(sensors) - _MOST_NAMES
    listed = ", ".join(name(sensor) for sensor in sensors[:_MOST_NAMES])
    return f"{len(sensors):,}: {listed}" + (f" and {more:,} more" if more > 0 else "")


def name(text: str) -> str:
    """Text from outside as code, so that nothing in it is taken for Markdown."""
    return f"`{_plain(text).replace('`', chr(39))}`"


def _plain(text: str) -> str:
    """One line that does not end a cell of a table."""
    return "".join(letter if letter.isprintable() else " " for letter in text).replace("|", "/")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
