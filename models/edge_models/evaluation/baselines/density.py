"""Detectors that ask how far a tick lies from where normal ticks lie."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from edge_models.evaluation.baselines.base import Score, Values, lagged, spread, with_past

_WINDOW = 20
_CLUSTERS = 10
_NEIGHBOURS = 5
_MOST_ROWS = 5_000


def window_k_means(train: Values, held_out: Values, seed: int) -> Score:
    """Distance of the last 20 ticks to the nearest of ten cluster centres (Yairi et al., 2001)."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(_CLUSTERS, random_state=seed, n_init=3).fit(_windows(train[:1], train))
    return lambda history, values: np.asarray(model.transform(_windows(history, values)).min(1)[:, None] ** 2)


def netdata_k_means(train: Values, held_out: Values, seed: int) -> Score:
    """As Netdata does by default: for each metric, two clusters of five lags of smoothed differences."""
    from sklearn.cluster import KMeans

    models = []
    for rows in np.moveaxis(_changes(train[:1], train), 2, 0):
        clusters = min(2, len(np.unique(rows, axis=0)))  # a sensor that never moves has one
        models.append(KMeans(clusters, random_state=seed, n_init=1).fit(rows))

    def distance(history: Values, values: Values) -> Values:
        rows = np.moveaxis(_changes(history, values), 2, 0)
        return np.stack([model.transform(part).min(1) for model, part in zip(models, rows, strict=True)], 1)

    scale = spread(distance(train, held_out))
    return lambda history, values: np.asarray((distance(history, values) / scale) ** 2, np.float64)


def nearest_neighbours(train: Values, held_out: Values, seed: int) -> Score:
    """Mean distance to the five nearest of 5,000 normal ticks."""
    from sklearn.neighbors import NearestNeighbors

    rows = np.random.default_rng(seed).permutation(len(train))[:_MOST_ROWS]
    model = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(rows))).fit(train[rows])
    return lambda _history, values: np.asarray(model.kneighbors(values)[0].mean(1)[:, None] ** 2, np.float64)


def isolation_forest(train: Values, held_out: Values, seed: int) -> Score:
    """Isolation forest (Liu et al., 2008), 100 trees."""
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(random_state=seed).fit(train)
    return lambda _history, values: np.asarray(-model.score_samples(values)[:, None], np.float64)


def ecod(train: Values, held_out: Values, seed: int) -> Score:
    """Tail probabilities of each sensor's empirical distribution (ECOD, Li et al., TKDE 2022).

    PyOD's own ranks the rows to be judged among themselves, which looks into the future; here train rows alone count.
    """
    from scipy.stats import skew

    ordered, n = np.sort(train, axis=0), len(train)
    lean = np.sign(np.nan_to_num(skew(train, axis=0)))

    def score(_history: Values, values: Values) -> Values:
        below = np.stack([np.searchsorted(ordered[:, j], v, "right") for j, v in enumerate(values.T)], 1)
        above = n - np.stack([np.searchsorted(ordered[:, j], v, "left") for j, v in enumerate(values.T)], 1)
        left, right = (-np.log((count + 1.0) / (n + 1.0)) for count in (below, above))
        skewed = np.where(lean < 0, left, np.where(lean > 0, right, left + right))
        return np.asarray(np.maximum(np.maximum(left, right), skewed) + 1e-9, np.float64)

    return score


def half_space_trees(train: Values, held_out: Values, seed: int) -> Score:
    """Half-space trees on line (Tan et al., 2011; river): scores a tick, then learns from it."""
    from river.anomaly import HalfSpaceTrees

    low, high = train.min(0), train.max(0)
    width = np.where(high > low, high - low, 1.0)

    def rows(values: Values) -> list[dict[int, float]]:
        return [dict(enumerate(row)) for row in np.clip((values - low) / width, 0.0, 1.0).tolist()]

    learned = HalfSpaceTrees(seed=seed)
    for row in rows(train):
        learned.learn_one(row)

    def score(_history: Values, values: Values) -> Values:
        model, found = deepcopy(learned), np.zeros((len(values), 1))
        for tick, row in enumerate(rows(values)):
            found[tick] = model.score_one(row) + 1e-6
            model.learn_one(row)
        return found

    return score


def _windows(history: Values, values: Values) -> Values:
    return lagged(with_past(history, values, _WINDOW - 1), _WINDOW - 1, first=0)


def _changes(history: Values, values: Values) -> Values:
    """[T, 6, N]: differences, smoothed over three ticks, of now and the five ticks before."""
    whole = with_past(history, values, 8)
    change = np.diff(whole, axis=0)
    smooth = (change[2:] + change[1:-1] + change[:-2]) / 3.0
    return np.stack([smooth[5 - lag : len(smooth) - lag] for lag in range(6)], 1)
