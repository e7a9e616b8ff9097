"""Damaged models, the same ones for the same seed: bits, bytes, lengths and whole pieces of a good one changed."""

from __future__ import annotations

import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_agent.bundle import Bundle, verify_bundle
from edge_agent.bundle.store import seal
from edge_agent.bundle.verify import INPUTS
from edge_agent.errors import BundleError
from edge_agent.inference.detector import DetectorError
from edge_agent.inference.step import ModelStep

GATE_REFUSED, RUNS, REFUSED_LATER = range(3)
_MEMORY = 4 << 30
_TELLING = (0, 1, 2, 5, 8, 0x0A, 0x12, 0x3A, 0x42, 0x7F, 0x80, 0xFF)


def mutants(model: bytes, seed: int, most: int = 4) -> Iterator[bytes]:
    """Without an end; one to ``most`` changes each."""
    chance = random.Random(seed)
    while True:
        raw = bytearray(model)
        for _ in range(chance.randint(1, most)):
            chance.choice(_CHANGES)(raw, chance)
        yield bytes(raw)


def _place(raw: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(raw)) if raw else 0


def _flip(raw: bytearray, chance: random.Random) -> None:
    if raw:
        raw[_place(raw, chance)] ^= 1 << chance.randrange(8)


def _set(raw: bytearray, chance: random.Random) -> None:
    if raw:
        raw[_place(raw, chance)] = chance.choice(_TELLING)


def _step(raw: bytearray, chance: random.Random) -> None:
    place = _place(raw, chance)
    if raw:
        raw[place] = (raw[place] + chance.choice((-1, 1))) % 256


def _insert(raw: bytearray, chance: random.Random) -> None:
    place = _place(raw, chance)
    raw[place:place] = chance.randbytes(chance.randint(1, 12))


def _delete(raw: bytearray, chance: random.Random) -> None:
    place = _place(raw, chance)
    del raw[place : place + chance.randint(1, 12)]


def _copy(raw: bytearray, chance: random.Random) -> None:
    source, target = _place(raw, chance), _place(raw, chance)
    raw[target:target] = raw[source : source + chance.randint(1, 200)]


def _swap(raw: bytearray, chance: random.Random) -> None:
    size = chance.randint(1, 40)
    one, other = sorted((_place(raw, chance), _place(raw, chance)))
    if one + size <= other and other + size <= len(raw):
        raw[one : one + size], raw[other : other + size] = raw[other : other + size], raw[one : one + size]


def _cut(raw: bytearray, chance: random.Random) -> None:
    del raw[_place(raw, chance) :]


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _set, _set, _step, _step, _insert, _delete, _copy, _swap, _cut),
)


@dataclass
class Ends:
    """How mutants ended that were run in forked workers: refused or not by the gate, and by ONNX Runtime."""

    tried: int = 0
    gate_refused: int = 0
    run: int = 0
    run_refused: int = 0
    killed: int = 0


def run_in_workers(candidates: Iterator[bytes], count: int, judge: Callable[[bytes], int], each: int = 50) -> Ends:
    """Fork for every ``each`` candidates, so that one that kills its worker costs the agent's process nothing.

    ``judge`` gives one of :data:`GATE_REFUSED`, :data:`RUNS` and :data:`REFUSED_LATER`.
    """
    ends = Ends()
    while ends.tried < count:
        batch = [next(candidates) for _ in range(min(each, count - ends.tried))]
        while batch:
            codes, killed = _worker(batch, judge)
            for code in codes:
                ends.gate_refused += code == GATE_REFUSED
                ends.run += code == RUNS
                ends.run_refused += code == REFUSED_LATER
            ends.killed += killed
            ends.tried += len(codes) + killed
            batch = batch[len(codes) + killed :] if killed else []
    return ends


def _worker(batch: list[bytes], judge: Callable[[bytes], int]) -> tuple[bytes, int]:
    """The codes of those that were judged, and 1 when the next one killed the worker."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(source)
            signal.alarm(60)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            for raw in batch:
                os.write(sink, bytes([judge(raw)]))
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as answers:
        codes = answers.read()
    os.waitpid(child, 0)
    return codes, int(len(codes) < len(batch))


def judge_of(bundle: Bundle) -> Callable[[bytes], int]:
    """How a model ends when it is taken for the bundle's own: gate, load, one tick of its golden inputs."""
    others = {name: content for name, content in bundle.files.items() if name != "manifest.json"}

    def judge(raw: bytes) -> int:
        try:
            found = verify_bundle(seal(bundle.manifest, others | {"model.onnx": raw}))
        except BundleError:
            return GATE_REFUSED
        try:
            step = ModelStep(found.model, found.manifest)
            step.resize(bundle.golden.sensors, None)
            for name in INPUTS:
                getattr(step, name)[:] = bundle.golden.inputs[name][0]
            step.run()
        except (BundleError, DetectorError, MemoryError):
            return REFUSED_LATER
        return RUNS

    return judge
