"""The notify sink: each event one notification, sent by a process that runs only as long as it sends."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson

from edge_adapters.http.status import may_pass
from edge_adapters.notify.options import NotifyOptions
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.templates import EventText, plain_text, title
from edge_agent.verdict import Event, EventKind

_CHILD: Final = Path(__file__).with_name("child.py")
_START_S: Final = 30.0
"""Longest time until Apprise has loaded: a second on a server, several on a small gateway that is busy."""
_STATUS: Final = re.compile(r"\berror=([34]\d\d)\b")
_REMEMBERED: Final = 10_000
_BATCH: Final = 5
"""Apprise waits some seconds between two notifications; what is urgent must not wait behind a hundred of them."""
_TYPES: Final = {"low": "info", "medium": "warning", "high": "failure", "critical": "failure"}
_LINE_LIMIT: Final = 2**16
_GO_ON: Final = b"\n"


class NotifySink:
    """See :class:`edge_agent.contract.Sink`."""

    def __init__(self, options: NotifyOptions, context: AdapterContext) -> None:
        if find_spec("apprise") is None:
            raise ModuleNotFoundError("No module named 'apprise'", name="apprise")
        self._options = options
        self._context = context
        self._title = EventText("title", options.title, title, context.template_failed)
        self._body = EventText("body", options.body, plain_text, context.template_failed)
        # Known still when the agent builds the sink anew, as it does after each failure.
        self._sent: set[str] = context.carried if isinstance(context.carried, set) else set()
        context.carried = self._sent
        context.batch = _BATCH

    async def open(self) -> None:
        """See whether Apprise understands the URL; the service itself is met at the first event.

        :raises AdapterError: it does not. :raises RetryableAdapterError: no process could be started.
        """
        async with self._sender([]):
            pass

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when the service has taken a notification for every event.

        :raises RetryableAdapterError: it cannot now. :raises AdapterError: it refuses one; all others have been sent.
        """
        if len(self._sent) > _REMEMBERED:
            self._sent.clear()
        waiting = [event for event in events if event.id not in self._sent]
        refused = await self._send(waiting) if waiting else None
        self._context.connected(self._options.service)
        if refused is not None:
            raise refused
        self._sent.difference_update(event.id for event in events)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _send(self, events: Sequence[Event]) -> AdapterError | None:
        """Send one by one; the last refusal, if any."""
        refused: AdapterError | None = None
        async with self._sender(events) as (answers, stdin):
            for event in events:
                answer = await self._answer(answers, self._options.timeout)
                if answer.get("sent") is True:
                    self._sent.add(event.id)
                    continue
                failure = self._failure(event, str(answer.get("said") or "no reason given"))
                if isinstance(failure, RetryableAdapterError):
                    self._context.disconnected(str(failure))
                    raise failure
                refused = failure
                stdin.write(_GO_ON)
        return refused

    @asynccontextmanager
    async def _sender(
        self, events: Sequence[Event]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """The process, with everything it is to send: its answers and its input. It has ended when this has."""
        order = {
            "url": self._options.url.reveal(),
            "format": self._options.format.value,
            "messages": [self._message(event) for event in events],
        }
        try:
            # -P: its own folder is no place to import from. The URL goes by a pipe: arguments can be seen by others.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", str(_CHILD),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, limit=_LINE_LIMIT,
            )  # fmt: skip
        except OSError as error:
            raise RetryableAdapterError(f"no process to send with could be started: {error.strerror}") from error
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            writing = asyncio.create_task(_hand_over(process.stdin, orjson.dumps(order)), name="notify: hand over")
            try:
                first = await self._answer(process.stdout, _START_S)
                if "unusable" in first:
                    raise AdapterError(f"url: not usable for {self._options.service}://: {first['unusable']}")
                yield process.stdout, process.stdin
            finally:
                writing.cancel()
                await asyncio.wait([writing])
        finally:
            await _end(process)

    async def _answer(self, answers: asyncio.StreamReader, timeout_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                line = await answers.readline()
            document = orjson.loads(line)
        except TimeoutError as error:
            raise self._broken(f"no answer within {timeout_s:g} s") from error
        except ValueError as error:  # it has ended, or says something else
            raise self._broken("the process that sends has ended without an answer") from error
        return document if isinstance(document, dict) else {}

    def _broken(self, reason: str) -> RetryableAdapterError:
        error = RetryableAdapterError(f"{self._options.service}: {reason}")
        self._context.disconnected(str(error))
        return error

    def _failure(self, event: Event, said: str) -> AdapterError:
        """A refusal is final when the service says so by an HTTP status; anything else may pass."""
        status = _STATUS.search(said)
        if status is not None and not may_pass(int(status[1])):
            return AdapterError(f"event {event.id}: {self._options.service}: {said}")
        return RetryableAdapterError(f"{self._options.service}: {said}")

    def _message(self, event: Event) -> dict[str, str]:
        return {"title": " ".join(self._title.of(event).split()), "body": self._body.of(event), "type": _type(event)}


def _type(event: Event) -> str:
    """The colour that services show: green for an incident that is over."""
    if event.kind is not EventKind.INCIDENT:
        return "info"
    if event.body.get("state") == "closed":
        return "success"
    return _TYPES.get(str(event.body.get("severity")), "warning")


async def _hand_over(stdin: asyncio.StreamWriter, order: bytes) -> None:
    try:
        stdin.write(order + _GO_ON)
        await stdin.drain()
    except OSError:
        return  # it has ended; reading its answer says so


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()
