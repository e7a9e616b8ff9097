"""From :class:`~edge_models.hybrid.HybridStep` to ``model.onnx`` by the contract in ``docs/reference/bundle.md``."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_models.hybrid import HybridStep
from edge_models.state import CONTEXT_WIDTH, NEIGHBOURS, STATES, State

OPSET = 18
INPUTS = ("value", "age", "quality", "neighbour", "context", *(f"state.{name}" for name in STATES))
OUTPUTS = ("expected", "scale", "score", "attention", *(f"next_state.{name}" for name in STATES))


class _Flat(nn.Module):
    """The step with flat arguments and results, in the order of the contract."""

    def __init__(self, step: HybridStep) -> None:
        super().__init__()
        self.step = step

    def forward(
        self, value: Tensor, age: Tensor, quality: Tensor, neighbour: Tensor, context: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        verdict, after = self.step(value, age, quality, neighbour, context, State(*state))
        return (*verdict, *after)


def export_onnx(step: HybridStep) -> bytes:
    """The model as one ONNX file with a dynamic number of sensors, weights inside, checked by ``onnx.checker``."""
    return onnx_bytes(_Flat(step), _example(5), INPUTS, OUTPUTS)


def onnx_bytes(module: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """A module of five inputs and any number of states as one ONNX file, checked by ``onnx.checker``.

    ``example``: inputs and states of a few sensors; the first axis of each is left open. Weights are inside.
    """
    import onnx

    sensors = torch.export.Dim("sensors", min=1, max=1 << 20)
    shapes: Any = tuple({0: sensors} for _ in example[:5])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter's own deprecations, and what it misses of libraries that are not used here.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(*shapes, tuple({0: sensors} for _ in example[5:])),
            verbose=False,
        )
        path = Path(folder) / "model.onnx"
        assert program is not None
        program.save(path, external_data=False)
        model = onnx.load(path)
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _example(sensors: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(sensors, generator=generator),
        torch.zeros(sensors),
        torch.zeros(sensors, dtype=torch.int32),
        torch.randint(-1, sensors, (sensors, NEIGHBOURS), generator=generator),
        torch.zeros(sensors, CONTEXT_WIDTH),
        *State.start(sensors),
    )


def _forget_origin(model: Any) -> None:
    """Drop names, paths and stack traces that the exporter notes in every node: they differ between machines."""
    for item in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ):
        del item.metadata_props[:]
        if hasattr(item, "doc_string"):
            item.doc_string = ""
    for function in model.functions:
        for item in (function, *function.node):
            del item.metadata_props[:]
    del model.graph.value_info[:]
