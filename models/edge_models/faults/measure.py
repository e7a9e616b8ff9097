"""How well simple detectors see each kind: what keeps the default severities neither trivial nor invisible.

``python -m edge_models.faults.measure --data DIR`` prints one line of a table per kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_agent.errors import DataFileError
from edge_models.datasets import Entity, LabelledRun, Values, data_folder
from edge_models.evaluation.baselines import BASELINES
from edge_models.evaluation.streams import smoothed
from edge_models.evaluation.suites import Case, cases
from edge_models.faults.injection import inject
from edge_models.faults.kinds import KINDS

SETS = ("asd", "tep")
DETECTORS = ("max |z|", "AR(5)", "PCA residual", "VAR(5) ridge", "cross-linear lag 2")


def visibility(case: Case, seeds: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """AUROC by detector and kind, one for each seed in which a place for a fault was found.

    Faults are put into normal readings: the faultless test, or the last quarter of the history without one.
    """
    from sklearn.metrics import roc_auc_score

    normal, clean = _parts(case.entity)
    tests = [
        LabelledRun(f"{kind} {seed}", made.values, made.label)
        for kind in KINDS
        for seed in seeds
        if (made := inject(clean, kind, np.random.default_rng(seed), normal=normal)).faults
    ]
    injected = replace(case, entity=replace(case.entity, normal=normal, tests=tuple(tests)))
    found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in DETECTORS}
    for baseline in BASELINES:
        if baseline.name in DETECTORS:
            streams = smoothed(baseline.run(injected, 0))
            for test in tests:
                kind = test.name.partition(" ")[0]
                found[baseline.name][kind].append(float(roc_auc_score(test.label, streams.tests[test.name].plant)))
    return found


def table(folder: Path, sets: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown: for each kind, means over plants and seeds by set and detector."""
    found = {name: [visibility(case, seeds) for case in cases(folder, name)] for name in sets}
    columns = [(name, detector) for name in sets for detector in DETECTORS]
    yield f"| kind | {' | '.join(f'{name}: {detector}' for name, detector in columns)} |".replace("|z|", "z")
    yield "|---" * (1 + len(columns)) + "|"
    for kind in KINDS:
        pooled = [[a for plant in found[name] for a in plant[detector][kind]] for name, detector in columns]
        yield f"| `{kind}` | {' | '.join(f'{np.mean(a):.2f}' if a else '-' for a in pooled)} |"


def _parts(entity: Entity) -> tuple[Values, Values]:
    calm = [test.values for test in entity.tests if not test.label.any()]
    border = len(entity.normal) * 3 // 4
    return (entity.normal, calm[0]) if calm else (entity.normal[:border], entity.normal[border:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How well simple detectors see each kind of synthetic fault.")
    parser.add_argument("--data", type=Path, help="folder of recordings; EDGE_AGENT_DATA where not given")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=30)
    given = parser.parse_args()
    try:
        for line in table(data_folder(given.data), given.sets, range(given.seeds)):
            print(line)
    except DataFileError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
