"""Recipes ``pyod:<name>``: detectors of PyOD, fitted by it and rewritten in the operators that a bundle may hold.

Converters of skl2onnx were tried first: isolation forest and one-class SVM need the domain ``ai.onnx.ml`` and LOF
needs ``Scan``, which no bundle may hold, so each detector here is rewritten from its fitted parameters. All other
detectors of PyOD can be evaluated but not exported.

They judge the readings of one tick as a point and know no time. The plant's score is shared among the sensors by
occlusion: how much of it goes away when the sensor is put back to its mean.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_agent.errors import ConfigError
from edge_models.recipes.fitting import Settings
from edge_models.recipes.members import Judgement, Member
from edge_models.recipes.plant import LEVEL_LIMIT, Plant, Values

_POINT_LIMIT = 50.0
_MOST_ROWS = 2_000
_LOW = 0.01
_LEAST_SHARE = 1e-3


def train(plant: Plant, name: str, settings: Settings) -> OutlierMember:
    """Fit on rows drawn from training and validation parts; the usual range of scores from the held-out part."""
    key = named(name)
    rows = np.concatenate((*plant.training, *plant.validation)).clip(-_POINT_LIMIT, _POINT_LIMIT)
    generator = np.random.default_rng(settings.seed)
    chosen = np.sort(generator.choice(len(rows), min(len(rows), _MOST_ROWS), replace=False))
    detector = _fitted(key, rows[chosen], settings.seed)
    points = _CONVERTERS[key](detector).eval()
    held_out = np.concatenate(plant.held_out).clip(-_POINT_LIMIT, _POINT_LIMIT)
    with torch.no_grad():
        usual = points(torch.tensor(held_out, dtype=torch.float64)).numpy()
    return OutlierMember(points, usual, plant.normal.limit)


def named(name: str) -> str:
    """PyOD's own spelling of ``name``. :raises ConfigError: PyOD has none of this name, or it cannot be exported."""
    found = next((key for key in _CONVERTERS if key.lower() == name.lower()), None)
    if found is None and not _in_pyod(name):
        raise ConfigError(
            f"--recipe pyod:{name}: PyOD has no detector of this name; expected one of"
            f" {', '.join(f'pyod:{key}' for key in _CONVERTERS)}"
        )
    if found is None:
        raise ConfigError(
            f"--recipe pyod:{name}: evaluation only, since it has no form in the operators of a bundle; expected one of"
            f" {', '.join(f'pyod:{key}' for key in _CONVERTERS)}"
        )
    return found


def _in_pyod(name: str) -> bool:
    """Whether a module of PyOD says that it defines this class; without PyOD nobody can tell, and it may."""
    if find_spec("pyod") is None:
        return True
    pattern = re.compile(rf"^class {re.escape(name)}\(", re.IGNORECASE | re.MULTILINE)
    modules = (resources.files("pyod") / "models").iterdir()
    return any(pattern.search(module.read_text("utf-8")) for module in modules if module.name.endswith(".py"))


def exportable() -> tuple[str, ...]:
    """Names of the detectors that can become a bundle, in PyOD's spelling."""
    return tuple(_CONVERTERS)


class OutlierMember(Member):
    """``points`` [B, S] -> [B] is the detector; its score above the usual low end, squared, is about 1 on normal."""

    limit: Tensor

    def __init__(self, points: nn.Module, usual: Values, limit: Values) -> None:
        super().__init__()
        self.points = points
        self._low = float(np.quantile(usual, _LOW))
        self._unit = float(np.sqrt(np.mean(np.maximum(usual - self._low, 0.0) ** 2))) + 1e-6
        self.register_buffer("limit", torch.tensor(limit, dtype=torch.float32))

    def forward(self, level: Tensor, past: Tensor, hidden: Tensor) -> tuple[Judgement, Tensor]:
        """Judge the point, then the point with each sensor put back to its mean."""
        point = torch.clamp(level, -_POINT_LIMIT, _POINT_LIMIT)
        kept = 1.0 - torch.eye(level.shape[1])
        without = (point.unsqueeze(1) * kept).flatten(0, 1)
        # In double precision: what one sensor adds is a small difference of large scores.
        whole = self.points(point.double()).unsqueeze(-1)
        gone = torch.relu(whole - self.points(without.double()).reshape(point.shape))
        share = gone + _LEAST_SHARE * self._unit
        share = share / share.mean(-1, keepdim=True)
        plant = torch.relu((whole - self._low) / self._unit) ** 2
        score = torch.clamp(plant * share, max=LEVEL_LIMIT).float()
        zero = torch.zeros_like(level)
        return Judgement(torch.minimum(score, self.limit), zero, zero + 1.0), hidden


def _fitted(key: str, rows: Values, seed: int) -> Any:
    try:
        from pyod.models import cblof, gmm, iforest, knn, ocsvm, pca
    except ImportError as error:
        raise ConfigError(
            f"--recipe pyod:{key}: PyOD is not installed: pip install 'edge-graph-agent[evaluate]'"
        ) from error
    build: dict[str, Callable[[], Any]] = {
        "IForest": lambda: iforest.IForest(random_state=seed),
        "KNN": knn.KNN,
        "PCA": lambda: pca.PCA(random_state=seed),
        "GMM": lambda: gmm.GMM(random_state=seed, reg_covar=1e-3),
        "CBLOF": lambda: cblof.CBLOF(random_state=seed),
        "OCSVM": ocsvm.OCSVM,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of constant sensors, which are usual in plants.
        return build[key]().fit(rows)


class _Forest(nn.Module):
    """Isolation forest: all trees walked side by side, one level at a time; leaves point to themselves."""

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    length: Tensor
    roots: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        forest = detector.detector_
        trees = [estimator.tree_ for estimator in forest.estimators_]
        columns = list(forest.estimators_features_)
        first = np.cumsum([0, *(tree.node_count for tree in trees)])
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        own = np.arange(first[-1])
        placed = list(zip(trees, first[:-1], strict=True))
        left = np.where(leaf, own, np.concatenate([tree.children_left + at for tree, at in placed]))
        right = np.where(leaf, own, np.concatenate([tree.children_right + at for tree, at in placed]))
        feature = np.concatenate([c[np.maximum(tree.feature, 0)] for tree, c in zip(trees, columns, strict=True)])
        length = np.concatenate([_path_lengths(tree) for tree in trees])
        self._depth = max(int(tree.max_depth) for tree in trees)
        self._usual = len(trees) * float(_average_path(np.array([forest.max_samples_]))[0])
        self._offset = float(forest.offset_)
        for name, values in (("feature", feature), ("left", left), ("right", right), ("roots", first[:-1])):
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64))
        threshold = np.concatenate([tree.threshold for tree in trees])
        self.register_buffer("threshold", torch.tensor(threshold, dtype=torch.float64))
        self.register_buffer("length", torch.tensor(length, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        at = self.roots.unsqueeze(0).expand(len(points), -1)
        for _ in range(self._depth):
            reading = torch.gather(points, 1, self.feature[at])
            at = torch.where(reading <= self.threshold[at], self.left[at], self.right[at])
        return torch.exp2(-self.length[at].sum(1) / self._usual) + self._offset


def _path_lengths(tree: Any) -> Values:
    """Depth of every node, and what is added for the readings that a leaf did not separate."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # Parents come before their children.
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1.0
    return depth + _average_path(tree.n_node_samples)


def _average_path(samples: Values) -> Values:
    """Mean length of an unsuccessful search in a binary tree (equation 1 of the paper on isolation forests)."""
    n = np.maximum(np.asarray(samples, np.float64), 2.0)
    long = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.select([np.asarray(samples) <= 1, np.asarray(samples) == 2], [0.0, 1.0], long)


class _Prototypes(nn.Module):
    """Euclidean distances [B, P] of points to fixed ones, which are the columns of ``places`` [S, P]."""

    places: Tensor
    sizes: Tensor

    def __init__(self, places: Values) -> None:
        super().__init__()
        columns = torch.tensor(np.asarray(places).T.copy(), dtype=torch.float64)
        self.register_buffer("places", columns)
        self.register_buffer("sizes", (columns * columns).sum(0))

    def squared(self, points: Tensor) -> Tensor:
        """Squares of the distances."""
        return torch.relu((points * points).sum(-1, keepdim=True) + self.sizes - 2.0 * (points @ self.places))

    def forward(self, points: Tensor) -> Tensor:
        return torch.sqrt(self.squared(points) + 1e-12)


class _Nearest(nn.Module):
    """Distance to the k-th nearest of the rows that were fitted on."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self._count = int(detector.n_neighbors)
        self.distance = _Prototypes(detector.neigh_._fit_X)

    def forward(self, points: Tensor) -> Tensor:
        distances = self.distance(points)
        return -torch.topk(-distances, self._count, dim=1).values[:, -1]


class _Components(nn.Module):
    """PyOD's PCA: distances to all components, each over its share of the variance."""

    mean: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.distance = _Prototypes(detector.selected_components_)
        share = 1.0 / np.maximum(detector.selected_w_components_, 1e-6)
        for name, values in (("mean", detector.scaler_.mean_), ("scale", detector.scaler_.scale_), ("weight", share)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        distances: Tensor = self.distance((points - self.mean) / self.scale)
        return distances @ self.weight


class _Mixture(nn.Module):
    """Gaussian mixture: negative log likelihood."""

    mean: Tensor
    factor: Tensor
    constant: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        mixture = detector.detector_
        factor = mixture.precisions_cholesky_
        sensors = factor.shape[1]
        logs = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
        constant = np.log(mixture.weights_) + logs - 0.5 * sensors * np.log(2.0 * np.pi)
        for name, values in (("mean", mixture.means_), ("factor", factor), ("constant", constant)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        whitened = (points.unsqueeze(0) - self.mean.unsqueeze(1)) @ self.factor
        likelihood = self.constant.unsqueeze(-1) - 0.5 * (whitened * whitened).sum(-1)
        return -torch.logsumexp(likelihood, 0)


class _Clusters(nn.Module):
    """Cluster-based local outlier factor: distance to the own large cluster, or to the nearest large one."""

    small: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.distance = _Prototypes(detector.cluster_centers_)
        small = np.isin(np.arange(len(detector.cluster_centers_)), detector.small_cluster_labels_)
        self.register_buffer("small", torch.tensor(small, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        distances = self.distance(points)
        nearest = distances.amin(-1)
        large = (distances + 1e9 * self.small).amin(-1)
        own = self.small[distances.argmin(-1)]
        return torch.where(own > 0.5, large, nearest)


class _Kernel(nn.Module):
    """One-class support vector machine with a radial kernel."""

    weight: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        machine = detector.detector_
        self.distance = _Prototypes(machine.support_vectors_)
        self._gamma, self._intercept = float(machine._gamma), float(machine.intercept_[0])
        self.register_buffer("weight", torch.tensor(machine.dual_coef_[0], dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        return -(torch.exp(-self._gamma * self.distance.squared(points)) @ self.weight + self._intercept)


_CONVERTERS: dict[str, Callable[[Any], nn.Module]] = {
    "IForest": _Forest,
    "KNN": _Nearest,
    "PCA": _Components,
    "GMM": _Mixture,
    "CBLOF": _Clusters,
    "OCSVM": _Kernel,
}
