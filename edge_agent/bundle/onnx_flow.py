"""How values flow through a graph: every name is given once, before it is used, and sizes never depend on data. Pure.

The second is what makes a trial worth something: when the shapes of all tensors follow from shapes and constants alone,
then what a tick costs depends on the number of sensors and on nothing that a plant may send, today or in a year.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.bundle.onnx_wire import refused

_AXES = (1,)
_SHAPING = {
    "Expand": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Squeeze": _AXES,
    "Unsqueeze": _AXES,
    "ReduceL1": _AXES,
    "ReduceL2": _AXES,
    "ReduceLogSumExp": _AXES,
    "ReduceMax": _AXES,
    "ReduceMean": _AXES,
    "ReduceMin": _AXES,
    "ReduceProd": _AXES,
    "ReduceSum": _AXES,
    "ReduceSumSquare": _AXES,
}
"""Inputs, by operator, whose content decides the shape of an output."""
_OF_SHAPES = ("Shape", "Size")


class Flow:
    """The names of one graph, in the order of its nodes."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._fixed: set[str] = set()

    def give(self, name: str, fixed: bool) -> None:
        """A name gets a value. ``fixed``: its content does not depend on data."""
        if not name:
            raise refused("got a value without a name")
        if name in self._given:
            raise refused(f"the value {_short(name)} is given twice, expected each name once")
        self._given.add(name)
        if fixed:
            self._fixed.add(name)

    def need(self, name: str, where: str) -> None:
        """A name is used."""
        if name not in self._given:
            raise refused(
                f"{where} needs {_short(name)}, which nothing before it gives (a cycle, or a part is missing)"
            )

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """An operator takes and gives values; an empty name leaves one out."""
        for name in inputs:
            if name:
                self.need(name, f"a node {operator}")
        for place in _SHAPING.get(operator, ()):
            if place < len(inputs) and inputs[place] and inputs[place] not in self._fixed:
                raise refused(
                    f"the size of what {operator} gives depends on data ({_short(inputs[place])}),"
                    " expected it to depend on shapes and constants only"
                )
        fixed = operator in _OF_SHAPES or all(not name or name in self._fixed for name in inputs)
        for name in outputs:
            if name:
                self.give(name, fixed)


def _short(name: str) -> str:
    return repr(name if len(name) <= 64 else f"{name[:61]}...")
