"""One Modbus bus: a connection on which one request is in flight at a time, and each answer is checked.

Built on pymodbus' client with its own reconnecting and repeating turned off: the source decides about both. What
the library leaves open is closed here: a frame it cannot decode would end up in the event loop's exception handler,
an answer to another function or with too few registers would be taken, and a lost connection would be noticed only
when the time for the answer is over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import termios
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from edge_adapters.modbus.blocks import Block
from edge_adapters.modbus.options import LineOptions, Transport
from edge_adapters.modbus.registers import Table
from edge_agent.errors import PayloadError, RetryableAdapterError

# The library logs each lost frame; we count them and report once a minute.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

T = TypeVar("T")

_REQUESTS: dict[Table, type[ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE: ReadDiscreteInputsRequest,
    Table.HOLDING: ReadHoldingRegistersRequest,
    Table.INPUT: ReadInputRegistersRequest,
}
"""Everything this package can ask: function codes 1 to 4."""

_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
"""Modbus Application Protocol V1.1b3, section 7."""

ADDRESS_EXCEPTIONS = (2, 3)
"""What devices answer when a part of the block does not exist, or the block is longer than they like."""

_GATEWAY_EXCEPTIONS = (10, 11)
_NEVER = 1 << 60
_LEAST_CONNECT_S = 3.0


class NoAnswerError(PayloadError):
    """The unit did not answer: silence, frames that could not be its answer, or a gateway says so (``by_gateway``)."""

    def __init__(self, reason: str, message: str, *, by_gateway: bool = False) -> None:
        super().__init__(reason, message)
        self.by_gateway = by_gateway


class ExceptionAnswerError(PayloadError):
    """The unit answered with an exception ``code``."""

    def __init__(self, code: int, message: str) -> None:
        # The code comes from outside: as a label it may have few values only.
        super().__init__(f"exception_{code:02x}" if code in _EXCEPTIONS else "exception_other", message)
        self.code = code


class Bus:
    """The connection. Calls never overlap. Times are those of the event loop."""

    def __init__(self, options: LineOptions) -> None:
        self._options = options
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._skipped = 0
        self._waiting = False
        self._quiet_from = 0.0
        self._gap_s = _frame_gap_s(options)
        # A new connection may take several round trips, and names have to be looked up.
        self._connect_s = max(options.timeout, _LEAST_CONNECT_S)
        # RTU frames have no number: an answer that comes too late would be taken for that to the next request.
        self._settle_s = 0.0 if options.transport is Transport.TCP else options.timeout

    async def connect(self) -> None:
        """Open the connection anew. :raises RetryableAdapterError: saying why it cannot be opened."""
        self.close()
        client = self._make_client()
        client.ctx.max_until_disconnect = _NEVER
        failure: list[str] = []
        create = client.ctx.call_create

        async def remembering_why() -> object:
            try:
                return await create()
            except (OSError, ValueError, termios.error) as error:
                failure.append(_reason(error))
                raise OSError(str(error)) from error

        client.ctx.call_create = remembering_why
        self._client = client
        if not await _cancellable(client.connect()):
            self.close()
            why = failure[0] if failure else f"no answer within {self._connect_s:g} s"
            raise RetryableAdapterError(f"{self._options.where}: cannot connect: {why}")
        client.ctx.comm_params.timeout_connect = self._options.timeout  # from here on the time for an answer

    def close(self) -> None:
        """Close the connection; nothing happens when there is none."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, unit: int, block: Block, *, retries: int | None = None) -> NDArray[np.uint16]:
        """The registers (or bits, as 0 and 1) of ``block``.

        :raises NoAnswerError: no usable answer, also not after ``retries`` more requests (default: the option).
        :raises ExceptionAnswerError: the unit refuses. :raises PayloadError: it answers with something else.
        :raises RetryableAdapterError: the connection is lost.
        """
        attempts = 1 + (self._options.retries if retries is None else retries)
        while True:
            attempts -= 1
            try:
                return await self._ask(unit, block)
            except ExceptionAnswerError:
                raise
            except PayloadError:
                if attempts == 0:
                    raise

    async def _ask(self, unit: int, block: Block) -> NDArray[np.uint16]:
        client = self._client
        if client is None or not client.connected:
            raise self._lost()
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._quiet_from - loop.time()))
        request = _REQUESTS[block.table](address=block.address, count=block.count, dev_id=unit)
        self._skipped, self._waiting = 0, True
        silence_s = self._gap_s
        try:
            answer = await _cancellable(client.ctx.execute(False, request))
        except ConnectionException as error:
            raise self._lost() from error
        except ModbusIOException as error:
            silence_s = max(self._gap_s, self._settle_s)
            raise self._no_answer(unit, block, bool(client.ctx.recv_buffer)) from error
        finally:
            self._waiting = False
            self._quiet_from = loop.time() + silence_s
        return _checked(unit, block, request, answer)

    def _lost(self) -> RetryableAdapterError:
        return RetryableAdapterError(f"{self._options.where}: connection lost")

    def _no_answer(self, unit: int, block: Block, fragment: bool) -> NoAnswerError:
        what = f"unit {unit}, {_span(block)}"
        within = f"within {self._options.timeout:g} s"
        if self._skipped:
            return NoAnswerError(
                "unexpected_frame",
                f"{what}: no answer {within}, but {self._skipped} frames of another unit or request, or damaged ones",
            )
        if fragment:
            return NoAnswerError("short_frame", f"{what}: got a part of a frame and not the rest {within}")
        return NoAnswerError("timeout", f"{what}: no answer {within}")

    def _make_client(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        options = self._options
        client: AsyncModbusTcpClient | AsyncModbusSerialClient
        if options.transport is Transport.RTU:
            client = AsyncModbusSerialClient(
                options.device or "",
                baudrate=options.baudrate,
                parity=options.parity.value[0].upper(),
                stopbits=options.stopbits,
                timeout=self._connect_s,
                retries=0,
                reconnect_delay=0,
                trace_connect=self._connection_changed,
            )
        else:
            client = AsyncModbusTcpClient(
                options.host or "",
                port=options.port,
                framer=FramerType.SOCKET if options.transport is Transport.TCP else FramerType.RTU,
                timeout=self._connect_s,
                retries=0,
                reconnect_delay=0,
                trace_connect=self._connection_changed,
            )
        framer = _TcpFramer if options.transport is Transport.TCP else _RtuFramer
        client.ctx.framer = framer(DecodePDU(False), self._frame_skipped, self._frame_damaged)
        return client

    def _connection_changed(self, connected: bool) -> None:
        if not connected:
            self._fail_request(ConnectionException("lost while waiting for an answer"))

    def _frame_skipped(self) -> None:
        self._skipped += 1

    def _frame_damaged(self) -> None:
        self._fail_request(PayloadError("bad_frame", f"{self._options.where}: got a frame that cannot be decoded"))

    def _fail_request(self, error: Exception) -> None:
        future = self._client.ctx.response_future if self._client is not None else None
        if self._waiting and future is not None and not future.done():
            future.set_exception(error)


async def _cancellable(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work``; cancelled, raise. In Python 3.11 ``asyncio.wait_for``, which pymodbus uses, returns the result and
    forgets the cancelling when both come at the same moment: the source would not stop."""
    try:
        return await work
    finally:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


class _Contained(FramerBase):
    """Keeps a frame that cannot be decoded out of the event loop's exception handler, and notices skipped ones."""

    def __init__(self, decoder: DecodePDU, skipped: Callable[[], None], damaged: Callable[[], None]) -> None:
        super().__init__(decoder)
        self._skipped = skipped
        self._damaged = damaged

    def handleFrame(  # noqa: N802 - name given by pymodbus
        self, data: bytes, exp_devid: int, exp_tid: int
    ) -> tuple[int, ModbusPDU | None]:
        try:
            used, pdu = super().handleFrame(data, exp_devid, exp_tid)
        except ModbusIOException:
            self._damaged()
            return len(data), None
        if used and pdu is None:
            self._skipped()
        return used, pdu


class _TcpFramer(_Contained, FramerSocket):
    pass


class _RtuFramer(_Contained, FramerRTU):
    pass


def _checked(unit: int, block: Block, request: ModbusPDU, answer: ModbusPDU) -> NDArray[np.uint16]:
    what = f"unit {unit}, {_span(block)}"
    if answer.function_code & 0x7F != request.function_code:
        raise PayloadError(
            "wrong_function", f"{what}: got function {answer.function_code}, expected {request.function_code}"
        )
    if answer.isError():
        code = answer.exception_code
        message = f"{what}: exception {code:02X} ({_EXCEPTIONS.get(code, 'unknown')})"
        if code in _GATEWAY_EXCEPTIONS:
            raise NoAnswerError(f"exception_{code:02x}", message, by_gateway=True)
        raise ExceptionAnswerError(code, message)
    values: Sequence[int] = answer.bits if block.table.single_bits else answer.registers
    expected = -(-block.count // 8) * 8 if block.table.single_bits else block.count
    if len(values) != expected:
        raise PayloadError("short_frame", f"{what}: got {len(values)} values, expected {expected}")
    return np.array(values[: block.count], dtype=np.uint16)


def _reason(error: Exception) -> str:
    """What the system says; asyncio puts the address there, which is named already."""
    if isinstance(error, termios.error):  # no OSError; the usual cause is a speed or parity that the device cannot do
        return f"the device refuses these settings of the line ({error.args[-1]})"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(error)


def _span(block: Block) -> str:
    last = block.address + block.count - 1
    return f"{block.table} {block.address}" if block.count == 1 else f"{block.table} {block.address} to {last}"


def _frame_gap_s(options: LineOptions) -> float:
    """Silence between two frames (Modbus over Serial Line V1.02, section 2.5.1.1): 3.5 characters of 11 bits."""
    if options.transport is not Transport.RTU:
        return 0.0
    return 0.00175 if options.baudrate > 19_200 else 3.5 * 11 / options.baudrate
