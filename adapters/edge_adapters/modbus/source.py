"""The Modbus source: polls the groups one after the other and hands each block's readings over as one batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_adapters.modbus.blocks import split
from edge_adapters.modbus.bus import ADDRESS_EXCEPTIONS, Bus, ExceptionAnswerError, NoAnswerError
from edge_adapters.modbus.options import ModbusOptions
from edge_adapters.modbus.polling import BlockPoll, Group, groups_of
from edge_agent.clock import NS_PER_S
from edge_agent.contract import AdapterContext, Emitter
from edge_agent.errors import PayloadError, RetryableAdapterError
from edge_agent.sample import Batch, Quality

_FIRST_RECONNECT_S = 0.5


class ModbusSource:
    """All units of one bus. There is one request in flight, as a serial line demands and cheap TCP devices prefer."""

    def __init__(self, options: ModbusOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._bus = Bus(options)
        self._groups = groups_of(options)
        self._units = {id(group.unit): group.unit for group in self._groups}.values()
        self._answered = False
        self._silent_polls = 0

    async def run(self, emit: Emitter) -> None:
        """Poll until cancelled; a lost connection is opened again here, as the state learned of the units is kept.

        :raises RetryableAdapterError: the first connection cannot be opened.
        """
        try:
            await self._bus.connect()
            now = self._context.clock.monotonic_ns()
            for group in self._groups:
                group.start(now, self._context.random)
            attempt = 0
            while True:
                try:
                    await self._poll(emit)
                except RetryableAdapterError as error:
                    self._context.disconnected(str(error))
                    attempt = await self._reconnect(0 if self._answered else attempt + 1)
        finally:
            self._bus.close()

    async def _reconnect(self, attempt: int) -> int:
        """Open the connection again, with full jitter between attempts; returns the number of attempts so far."""
        if self._answered:
            for unit in self._units:
                unit.give_another_chance()
        self._answered = False
        self._silent_polls = 0
        while True:
            longest = min(self._options.retry_max, _FIRST_RECONNECT_S * 2.0 ** min(attempt, 30))
            pause_ns = int(self._context.random.uniform(0.0, longest) * NS_PER_S)
            await self._context.clock.sleep_until(self._context.clock.monotonic_ns() + pause_ns)
            try:
                await self._bus.connect()
            except RetryableAdapterError as error:
                self._context.disconnected(str(error))
                attempt += 1
            else:
                now = self._context.clock.monotonic_ns()
                for group in self._groups:
                    group.forget_missed(now)
                return attempt

    async def _poll(self, emit: Emitter) -> None:
        """Poll what is due, for ever. :raises RetryableAdapterError: the connection is lost or seems half open."""
        clock = self._context.clock
        while True:
            group = min(self._groups, key=lambda group: group.ready_ns)
            group.forget_missed(group.unit.paused_until_ns)
            await clock.sleep_until(group.ready_ns)
            await self._poll_group(group, emit)
            missed = group.next_poll(clock.monotonic_ns())
            if missed:
                self._context.reject(
                    "poll_skipped",
                    f"{group.unit.label}: skipped {missed} polls because the bus, or who takes the readings, is "
                    f"slower than the interval of {group.interval_ns / NS_PER_S:g} s; poll less, or less often",
                    missed,
                )

    async def _poll_group(self, group: Group, emit: Emitter) -> None:
        time_ns: int | None = None
        answered = False
        queue = [poll for poll in reversed(group.blocks) if poll.take_turn()]
        while queue:
            poll = queue.pop()
            try:
                # A unit that has been silent gets one chance only: others wait for the bus.
                words = await self._bus.read(group.unit.number, poll.block, retries=0 if group.unit.failures else None)
            except NoAnswerError as error:
                if not answered:
                    group.postpone(poll)
                    self._unit_failed(group, error)
                    return
                # The unit lives: it passes over this block in silence, as some do instead of an exception.
                poll.refused()
                self._context.reject(error.reason, str(error))
            except ExceptionAnswerError as error:
                answered = True
                self._unit_answered(group)
                parts = split(poll.block) if error.code in ADDRESS_EXCEPTIONS else None
                if parts is not None:
                    queue += reversed(group.replace(poll, parts))
                else:
                    await self._refused(poll, error, emit)
            except PayloadError as error:
                self._context.reject(error.reason, str(error))
            else:
                answered = True
                self._unit_answered(group)
                poll.accepted()
                time_ns = poll.decoder.time_ns(words) or time_ns
                await self._emit(poll, words, time_ns, emit)

    async def _emit(self, poll: BlockPoll, words: NDArray[np.uint16], time_ns: int | None, emit: Emitter) -> None:
        sensors = poll.decoder.sensors
        if sensors:
            arrival_ns = self._context.clock.monotonic_ns()
            values, quality = poll.decoder.decode(words)
            await emit.send(Batch(sensors, values, arrival_ns, time_ns, quality))

    async def _refused(self, poll: BlockPoll, error: ExceptionAnswerError, emit: Emitter) -> None:
        """The device says that it cannot give these readings: they are bad, and asked for less and less often."""
        poll.refused()
        sensors = poll.decoder.sensors
        named = ", ".join(sensors[:5]) + (f" and {len(sensors) - 5} more" if len(sensors) > 5 else "")
        self._context.reject(error.reason, f"{error}; affects {named or 'the time of measurement'}")
        if sensors:
            arrival_ns = self._context.clock.monotonic_ns()
            await emit.send(Batch(sensors, np.full(len(sensors), np.nan), arrival_ns, None, int(Quality.BAD)))

    def _link_works(self) -> None:
        self._silent_polls = 0
        if not self._answered:
            self._answered = True
            self._context.connected(self._options.where)

    def _unit_answered(self, group: Group) -> None:
        self._link_works()
        if group.unit.failures > 1:
            self._context.log.info("%s answers again", group.unit.label)
        group.unit.answered()

    def _unit_failed(self, group: Group, error: NoAnswerError) -> None:
        """Pause the unit. When none answers, the connection is taken for dead: TCP would not say so for hours."""
        self._context.reject(error.reason, str(error))
        self._silent_polls += 1
        if error.by_gateway:
            self._link_works()
        pause = group.unit.failed(self._context.clock.monotonic_ns(), self._context.random)
        if pause is not None and group.unit.failures == 2:
            self._context.log.warning("%s does not answer; next attempt in %.1f s", group.unit.label, pause)
        if self._silent_polls >= 2 and all(unit.failures for unit in self._units):
            raise RetryableAdapterError(f"{self._options.where}: connected, but no unit answers")
