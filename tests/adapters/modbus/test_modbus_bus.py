from __future__ import annotations

import asyncio

import pytest
from modbus_stand import ScriptedServer, registers_reply

from edge_adapters.modbus.blocks import Block
from edge_adapters.modbus.bus import Bus
from edge_adapters.modbus.options import LineOptions
from edge_adapters.modbus.registers import Table
from edge_agent.errors import RetryableAdapterError

BLOCK = Block(Table.HOLDING, 0, 1, ())


async def test_cancelling_is_obeyed_also_at_the_moment_the_answer_arrives() -> None:
    async with ScriptedServer(registers_reply) as server:
        bus = Bus(LineOptions(host="127.0.0.1", port=server.port))
        await bus.connect()
        answered = 0
        for steps in range(40):
            task = asyncio.create_task(bus.read(1, BLOCK))
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.done():
                answered += 1
                continue
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.cancelled(), f"cancelled after {steps} steps of the loop"
        assert 0 < answered < 40
        bus.close()


async def test_reading_without_a_connection_says_so() -> None:
    bus = Bus(LineOptions(host="127.0.0.1", port=1))
    with pytest.raises(RetryableAdapterError, match=r"tcp 127\.0\.0\.1:1: connection lost"):
        await bus.read(1, BLOCK)
    bus.close()
