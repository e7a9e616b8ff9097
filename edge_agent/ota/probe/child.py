"""The child's side of the probe: read one request, open the candidate under limits, answer with one line of JSON.

The answer is one of ``{"passed": {…}}``, ``{"refused": "…"}`` (the candidate must not be used) and ``{"trouble": "…"}``
(the probe itself could not be made). None at all means that the candidate ended the process.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from edge_agent.bundle import Bundle, Limits, read_bundle
from edge_agent.bundle.store import MAX_TAR_BYTES
from edge_agent.errors import BundleError
from edge_agent.inference import self_test
from edge_agent.inference.step import load_runtime
from edge_agent.ota.probe.confinement import forget_peak, limit, peak_memory
from edge_agent.ota.probe.question import GATE, Question

_MEMORY_SIGNS = ("bad_alloc", "Failed to allocate memory", "failed to allocate", "Unable to allocate")


def main() -> int:
    """Answer the request on stdin."""
    # Whatever native code prints must not pass for the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(_answer(sys.stdin.readline())), file=answer, flush=True)
    return 0


def _answer(line: str) -> dict[str, Any]:
    try:
        question = Question.from_json(line)
        path = Path(question.path)
        codecs.lookup("cp437")  # of zip files; Python loads it when it is first needed, which may be too late then
        if question.action != GATE:
            load_runtime()
        memory = None if question.memory_bytes is None else question.memory_bytes + 4 * _size(path)
        limit(memory, question.cpu_s)
    except (OSError, ValueError) as error:
        return {"trouble": f"{type(error).__name__}: {error}"}
    try:
        bundle = read_bundle(path)
        return {"passed": {"bundle": bundle.sha256} if question.action == GATE else _probe(bundle, question)}
    except MemoryError:
        return {"refused": _too_much_memory(question)}
    except BundleError as error:
        short_of_memory = any(sign in str(error) for sign in _MEMORY_SIGNS)
        return {"refused": _too_much_memory(question) if short_of_memory else str(error)}
    except Exception as error:  # no mistake of ours may let a candidate be tried again and again
        return {"refused": f"opening it failed: {type(error).__name__}: {error}"}


def _too_much_memory(question: Question) -> str:
    most = (question.memory_bytes or 0) / 1e6
    return f"it needs too much memory, expected at most {most:.0f} MB and four times the file"


def _size(path: Path) -> int:
    """Bytes that may have to be read; no more than a bundle may have, whatever sizes its files claim."""
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return min(sum(file.lstat().st_size for file in files), MAX_TAR_BYTES)
    except OSError:  # reading it will say what is wrong
        return 0


def _probe(bundle: Bundle, question: Question) -> dict[str, Any]:
    wanted = bundle.manifest.limits
    limits = Limits(question.p99_ms or wanted.p99_ms, question.rss_mb or wanted.rss_mb)
    limited = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, limits=limits))
    forget_peak()
    before = peak_memory()
    report = self_test(limited)
    rss_mb = max(0, peak_memory() - before) / 1e6
    if rss_mb > limits.rss_mb:
        raise BundleError(f"the model took {rss_mb:.1f} MB of memory, expected at most {limits.rss_mb:g}")
    return {
        "bundle": bundle.sha256,
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "rss_mb": rss_mb,
        "deviation": report.deviation,
    }
