"""The agent's side of the probe: start a child, ask, wait so long and no longer, say what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge_agent
from edge_agent.errors import BundleError, OtaError
from edge_agent.ota.one_shot import end
from edge_agent.ota.ports import Probed
from edge_agent.ota.probe.question import GATE, MAX_LINE, PROBE, Question
from edge_agent.ota.ring import Limits

MAX_SENTENCE = 600
_MEASURED = ("p50_ms", "p99_ms", "rss_mb", "deviation")
_KEPT_FROM_ENVIRONMENT = ("LD_LIBRARY_PATH",)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a probe may cost. Times in seconds.

    ``memory_bytes``: address space beyond that of an idle child, to which four times the size of the file is added;
    None where it cannot be limited, because a driver reserves more than it uses (CUDA). ``cpu_s``: processor time.
    ``wall_s``: from the start of the child to its answer.
    """

    memory_bytes: int | None = 256 << 20
    cpu_s: float = 30.0
    wall_s: float = 90.0


class ChildProber:
    """A :class:`~edge_agent.ota.ports.Prober` that opens every candidate in a child process of its own."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()

    async def gate(self, path: Path) -> str:
        """Read the bundle at ``path`` (tar or folder) and check all that can be checked without running it.

        Gives its sha256. :raises OtaError: ``gate``: it must not be used; ``internal``, ``starved``: this machine
            could not do it now.
        """
        return str((await self._ask(GATE, path, Limits())).get("bundle"))

    async def probe(self, path: Path, limits: Limits) -> Probed:
        """Load and run it on its golden ticks; ``limits`` replace what the bundle says where they are given.

        :raises OtaError: ``probe``: it must not be used; ``internal``, ``starved``: this machine could not do it now.
        """
        found = await self._ask(PROBE, path, limits)
        try:
            return Probed(str(found["bundle"]), *(float(found[name]) for name in _MEASURED))
        except (KeyError, TypeError, ValueError) as error:
            raise OtaError(PROBE, _sentence(path, "its probe gave no measurements")) from error

    async def try_out(self, path: Path) -> Probed:
        """Gate and probe in one, for what an operator brings.

        :raises BundleError: it must not be used, or could not be tried.
        """
        try:
            return await self.probe(path, Limits())
        except OtaError as error:
            raise BundleError(str(error)) from error

    async def _ask(self, action: str, path: Path, limits: Limits) -> dict[str, Any]:
        question = Question(
            action, str(path.absolute()), self._budget.memory_bytes, self._budget.cpu_s, limits.p99_ms, limits.rss_mb
        )
        try:
            # Of its own session, so that all of it can be ended; nothing of our environment, where secrets may be.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "edge_agent.ota.probe"),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                limit=MAX_LINE,
            )
        except OSError as error:
            raise OtaError("internal", f"the probe cannot be started: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(self._budget.wall_s):
                line = await _exchange(process, question)
        except TimeoutError as error:
            message = f"took longer than {self._budget.wall_s:g} s, and was ended"
            # A model that computes for ever is ended by its processor time: this machine had no time for it.
            raise OtaError("starved", _sentence(path, message)) from error
        except ValueError as error:
            raise OtaError(action, _sentence(path, f"its probe answered with more than {MAX_LINE} bytes")) from error
        finally:
            await end(process)
        return _judge(action, path, line, process.returncode, self._budget)


async def _exchange(process: Process, question: Question) -> bytes:
    """Ask and read one line. :raises ValueError: it is longer than :data:`MAX_LINE` bytes."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a child without pipes")
    with contextlib.suppress(ConnectionError):  # it has ended already; what it was is seen below
        process.stdin.write(question.to_json())
        await process.stdin.drain()
    line = await process.stdout.readline()
    await process.wait()
    return line


def _judge(action: str, path: Path, line: bytes, code: int | None, budget: Budget) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        if "passed" in answer and code == 0:
            return dict(answer["passed"])
        if "refused" in answer:
            raise OtaError(action, _sentence(path, str(answer["refused"])))
        trouble = str(answer["trouble"])
    except (ValueError, KeyError, TypeError):
        if code is not None and code < 0:
            # Nobody but the system ends it so, when memory is short; what a model may take is limited before that.
            reason = "starved" if -code == signal.SIGKILL else action
            raise OtaError(reason, _sentence(path, _death(-code, budget))) from None
        trouble = f"it ended with code {code} and without an answer"
    raise OtaError("internal", f"the probe could not be made: {trouble}")


def _sentence(path: Path, message: str) -> str:
    """One line with the path in front; what ONNX Runtime says may have many."""
    line = " ".join(message.split())
    line = line if len(line) <= MAX_SENTENCE else f"{line[: MAX_SENTENCE - 3]}..."
    return line if line.startswith("bundle ") else f"bundle {path}: {line}"


def _death(number: int, budget: Budget) -> str:
    if number == signal.SIGXCPU:
        return f"used more than {budget.cpu_s:g} s of processor time, and was ended"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = "; the system may be short of memory" if number == signal.SIGKILL else ""
    return f"the process that tried it died of {name}{hint}"


def _environment() -> dict[str, str]:
    """What Python and ONNX Runtime need, and that they use one thread and report to nobody."""
    package = Path(edge_agent.__file__).parent.parent
    kept = {name: os.environ[name] for name in _KEPT_FROM_ENVIRONMENT if name in os.environ}
    return kept | {
        "PYTHONPATH": str(package),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }
