"""Trainings as runs in MLflow, where a site compares them. Optional: ``pip install 'edge-graph-agent[mlflow]'``.

Three kinds of stores: a server (``https://...``), a database (``sqlite:///runs.db``; needs sqlalchemy and alembic), or
a folder (``file:runs``; MLflow keeps it in maintenance only). Artefacts of a local store are put beside it.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ConfigError
from edge_models.reporting.record import TrainingRecord
from edge_models.reporting.report import write_report

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # on by default; nothing is reported to anybody but the store that was named
    "MLFLOW_ALLOW_FILE_STORE": "true",  # refused by default since MLflow 3.7; whoever names a folder wants one
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # seven, with growing pauses, by default
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_BATCH = 100
"""MLflow takes no more settings at a time."""
_PASSWORD = re.compile(r"(://)[^/@\s]*@")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./ -]")


def track(record: TrainingRecord, uri: str, experiment: str) -> str:
    """Log settings, metrics, the loss curve and the report of one training; returns the id of the run.

    :raises ConfigError: MLflow is not installed, or the store cannot be used.
    """
    try:
        client = _client(uri)
        run = client.create_run(_experiment(client, uri, experiment), run_name=record.name).info.run_id
        for metrics in _batches(_metrics(record)):
            client.log_batch(run, metrics=metrics)
        for params in _batches(_params(record)):
            client.log_batch(run, params=params)
        with tempfile.TemporaryDirectory() as folder:
            write_report(record, Path(folder))
            client.log_artifacts(run, folder)
        client.set_terminated(run)
    except _store_errors() as error:
        raise _unusable(uri, error) from error
    return str(run)


def check_tracking(uri: str) -> None:
    """Open the store once, so that a mistake is known before a training and not after it.

    :raises ConfigError: as :func:`track`.
    """
    try:
        _client(uri).search_experiments(max_results=1)
    except _store_errors() as error:
        raise _unusable(uri, error) from error


def _client(uri: str) -> MlflowClient:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # MLflow reads them when it is imported and when it is called
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ConfigError("tracking: needs MLflow: pip install 'edge-graph-agent[mlflow]'") from error
    return MlflowClient(tracking_uri=uri)


def _store_errors() -> tuple[type[Exception], ...]:
    """What a store may raise; only the packages that are there can raise anything."""
    found: list[type[Exception]] = [OSError, ImportError]
    try:
        from mlflow.exceptions import MlflowException

        found.append(MlflowException)
    except ImportError:
        pass
    return tuple(found)


def _unusable(uri: str, error: Exception) -> ConfigError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    message = (
        f"tracking: {uri!r} cannot be used: {first}; expected a server (https://...), a database"
        " (sqlite:///runs.db; needs sqlalchemy and alembic) or a folder (file:runs)"
    )
    return ConfigError(_PASSWORD.sub(r"\1***@", message))


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name, _artifacts(uri)) if found is None else found.experiment_id)


def _artifacts(uri: str) -> str | None:
    """Where files go: beside a database file, which would otherwise have them in the working directory."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "artifacts").as_uri()


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    source = iter(items)
    while batch := list(islice(source, _BATCH)):
        yield batch


def _params(record: TrainingRecord) -> Iterator[Any]:
    from mlflow.entities import Param

    fixed = {
        "recipe": record.recipe,
        "seed": record.seed,
        "data": record.data.source,
        "data sha256": record.data.sha256,
        "rows": record.data.used_rows,
        "sensors": len(record.data.sensors),
    }
    for name, value in (fixed | dict(record.settings)).items():
        yield Param(_name(name), str(value))


def _metrics(record: TrainingRecord) -> Iterator[Any]:
    from mlflow.entities import Metric

    now_ms = time.time_ns() // 10**6
    for name, value in _measured(record).items():
        yield Metric(_name(name), float(value), now_ms, 0)
    for point in record.loss:
        for part, loss in (("loss", point.training), ("held-out loss", point.held_out)):
            if loss is not None:
                yield Metric(part, float(loss), now_ms, point.step)


def _measured(record: TrainingRecord) -> dict[str, float]:
    found = dict(record.metrics)
    if record.likelihood is not None:
        found["held-out likelihood"] = record.likelihood
    if record.elapsed_s is not None:
        found["elapsed_s"] = record.elapsed_s
    if record.scores is not None and record.scores.size:
        median, late = np.quantile(record.scores, (0.5, 0.99))
        found |= {"score median": float(median), "score p99": float(late)}
    return found | {f"auroc.{one.kind}": one.auroc for one in record.faults if one.auroc is not None}


def _name(text: str) -> str:
    """MLflow takes letters, digits, and a few signs in names."""
    return _NOT_IN_NAMES.sub("_", text)
