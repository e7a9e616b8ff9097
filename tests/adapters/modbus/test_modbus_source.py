from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest
from modbus_stand import ScriptedServer, make_context, mbap, registers_reply, rtu, running_source

from edge_adapters.modbus import SOURCE
from edge_agent.errors import RetryableAdapterError
from edge_agent.sample import Quality

FAST = {"interval": "20ms", "timeout": "300ms", "retries": 0, "unit_pause": "5s", "retry_max": "50ms"}


def registers(*addresses: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"r{address}", "address": address, **more} for address in addresses]


def one_device(port: int, *addresses: int, **device: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "devices": [{"registers": registers(*addresses), **device}], **FAST}


def refuses(code: int, *missing: int) -> Any:
    """A device on which the addresses ``missing`` do not exist."""

    def reply(request: bytes) -> bytes:
        first, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
        if any(first <= address < first + count for address in missing):
            return mbap(request, bytes([request[7] | 0x80, code]))
        return registers_reply(request)

    return reply


def spans(server: ScriptedServer) -> list[tuple[int, int]]:
    return [(int.from_bytes(r[8:10], "big"), int.from_bytes(r[10:12], "big")) for r in server.requests]


async def test_refused_connection_is_said_at_the_first_attempt() -> None:
    async with ScriptedServer(registers_reply) as server:
        port = server.port
    options = SOURCE.options.model_validate({"type": "modbus", **one_device(port, 0)})
    with pytest.raises(RetryableAdapterError, match=rf"tcp 127\.0\.0\.1:{port}: cannot connect: .*refused"):
        await SOURCE.build(options, make_context()).run(None)  # type: ignore[arg-type]


async def test_neighbours_are_read_by_one_request_and_batches_share_their_sensors() -> None:
    async with ScriptedServer(registers_reply) as server, running_source(**one_device(server.port, 0, 3, 9, 50)) as run:
        batches = await run.batches(4)
    assert spans(server)[:2] == [(0, 10), (50, 1)]
    assert batches[0].sensors == ("r0", "r3", "r9")
    assert batches[0].sensors is batches[2].sensors
    assert list(batches[0].values) == [7.0, 7.0, 7.0]
    assert batches[0].quality == 0
    assert batches[0].source_time_ns is None


async def test_source_is_connected_once_a_unit_has_answered() -> None:
    async with ScriptedServer(registers_reply) as server, running_source(**one_device(server.port, 0)) as run:
        await run.batches(1)
        assert run.context.state == "connected"
        assert run.context.metrics.source_up.labels("bus").value == 1


async def test_one_missing_register_does_not_lose_the_others() -> None:
    async with ScriptedServer(refuses(2, 5)) as server, running_source(**one_device(server.port, *range(12))) as run:
        await run.until(lambda: len(run.taken.latest()) == 12)
        values = run.taken.latest()
        bad = [batch for batch in run.taken.batches if batch.quality == Quality.BAD]
        assert [batch.sensors for batch in bad][:1] == [("r5",)]
        assert math.isnan(values.pop("r5"))
        assert set(values.values()) == {7.0}
        assert run.rejected("exception_02") >= 1


async def test_missing_address_in_a_gap_costs_no_register() -> None:
    async with ScriptedServer(refuses(2, 5)) as server, running_source(**one_device(server.port, 0, 1, 8, 9)) as run:
        await run.until(lambda: len(run.taken.latest()) == 4)
        assert set(run.taken.latest().values()) == {7.0}
        assert run.rejected("exception_02") == 0
        server.requests.clear()
        await run.until(lambda: len(server.requests) >= 4)
        assert set(spans(server)) == {(0, 2), (8, 2)}


async def test_register_that_stays_missing_is_asked_for_less_and_less() -> None:
    async with ScriptedServer(refuses(2, 1)) as server, running_source(**one_device(server.port, 0, 1)) as run:
        await run.until(lambda: spans(server).count((0, 1)) >= 14)
    assert 2 <= spans(server).count((1, 1)) <= 5


async def test_blocks_shrink_for_a_device_that_takes_only_short_ones() -> None:
    def reply(request: bytes) -> bytes:
        return mbap(request, b"\x83\x03") if int.from_bytes(request[10:12], "big") > 16 else registers_reply(request)

    async with ScriptedServer(reply) as server, running_source(**one_device(server.port, *range(60))) as run:
        await run.until(lambda: len(run.taken.latest()) == 60)
        assert set(run.taken.latest().values()) == {7.0}


@pytest.mark.parametrize("code", [1, 4, 6])
async def test_other_exceptions_make_the_whole_block_bad(code: int) -> None:
    async with ScriptedServer(refuses(code, 1)) as server, running_source(**one_device(server.port, 0, 1, 2)) as run:
        batch = (await run.batches(1))[0]
        assert batch.quality == Quality.BAD
        assert all(math.isnan(value) for value in batch.values)
        assert run.rejected(f"exception_{code:02x}") >= 1


async def test_unknown_exception_codes_share_one_reason() -> None:
    async with ScriptedServer(refuses(0xEC, 1)) as server, running_source(**one_device(server.port, 0, 1)) as run:
        await run.until(lambda: run.rejected("exception_other") >= 1)


async def test_silent_unit_is_paused_and_the_others_go_on() -> None:
    def reply(request: bytes) -> bytes | None:
        return None if request[6] == 2 else registers_reply(request)

    devices = [{"unit": unit, "name": f"u{unit}", "registers": registers(0)} for unit in (1, 2, 3)]
    async with (
        ScriptedServer(reply) as server,
        running_source(host="127.0.0.1", port=server.port, devices=devices, **FAST) as run,
    ):
        await run.until(lambda: sum(r[6] == 3 for r in server.requests) >= 20)
        assert sum(r[6] == 2 for r in server.requests) == 2
        assert run.rejected("timeout") == 2
        assert run.context.state == "connected"


async def test_block_that_a_unit_passes_over_in_silence_does_not_stop_the_others() -> None:
    def reply(request: bytes) -> bytes | None:
        return None if request[8:10] == b"\0\0" else registers_reply(request)

    async with ScriptedServer(reply) as server, running_source(**one_device(server.port, 0, 50, 90)) as run:
        await run.until(lambda: spans(server).count((90, 1)) >= 20)
        assert spans(server).count((0, 1)) <= 6
        assert run.context.state == "connected"
        assert set(run.taken.latest()) == {"r50", "r90"}


async def test_paused_unit_comes_back() -> None:
    silent = True

    def reply(request: bytes) -> bytes | None:
        return None if silent and request[6] == 2 else registers_reply(request)

    devices = [{"unit": unit, "name": f"u{unit}", "registers": registers(0)} for unit in (1, 2)]
    options = {"host": "127.0.0.1", "devices": devices, **FAST, "unit_pause": "100ms"}
    async with ScriptedServer(reply) as server, running_source(port=server.port, **options) as run:
        await run.until(lambda: run.rejected("timeout") >= 3)
        silent = False
        await run.until(lambda: "u2.r0" in run.taken.latest())


async def test_gateway_that_reports_a_dead_unit_counts_as_a_working_connection() -> None:
    def reply(request: bytes) -> bytes:
        return mbap(request, bytes([request[7] | 0x80, 0x0B]))

    async with ScriptedServer(reply) as server, running_source(**one_device(server.port, 0)) as run:
        await run.until(lambda: run.rejected("exception_0b") >= 1)
        assert run.context.state == "connected"
        assert not run.taken.batches


async def test_half_open_connection_is_opened_again() -> None:
    half_open = False
    async with (
        ScriptedServer(lambda request: None if half_open else registers_reply(request)) as server,
        running_source(**{**one_device(server.port, 0), "unit_pause": "50ms"}) as run,
    ):
        await run.batches(1)
        half_open = True
        await run.until(lambda: server.connections >= 2)
        assert "no unit answers" in run.context.state
        half_open = False
        run.taken.batches.clear()
        await run.batches(1)
        assert run.context.state == "connected"


async def test_lost_connection_is_opened_again_and_outage_is_not_counted_as_late() -> None:
    async with ScriptedServer(registers_reply) as server, running_source(**one_device(server.port, 0)) as run:
        await run.batches(2)
        server.drop_connections()
        await run.until(lambda: server.connections == 2)
        run.taken.batches.clear()
        await run.batches(2)
        assert run.rejected("poll_skipped") == 0


async def test_connection_closed_while_waiting_is_noticed_at_once() -> None:
    def reply(request: bytes) -> bytes | None:
        if len(server.requests) == 1:
            server.drop_connections()
            return None
        return registers_reply(request)

    async with ScriptedServer(reply) as server:
        options = {**one_device(server.port, 0), "timeout": "30s"}
        async with running_source(**options) as run:
            await run.batches(1)
            assert server.connections == 2


BAD_FRAMES = {
    "wrong transaction": (lambda r: mbap(r, b"\x03\x02\x00\x07", transaction=4711), "unexpected_frame"),
    "wrong unit": (lambda r: mbap(r, b"\x03\x02\x00\x07", unit=9), "unexpected_frame"),
    "wrong function": (lambda r: mbap(r, b"\x04\x02\x00\x07"), "wrong_function"),
    "unknown function": (lambda r: mbap(r, b"\x63\x00"), "bad_frame"),
    "too few registers": (lambda r: mbap(r, b"\x03\x00"), "short_frame"),
    "too many registers": (lambda r: mbap(r, b"\x03\x04\x00\x07\x00\x08"), "short_frame"),
    "byte count beyond the frame": (lambda r: mbap(r, b"\x03\x40\x00\x07"), "bad_frame"),
    "half a frame": (lambda r: mbap(r, b"\x03\x02\x00\x07")[:8], "short_frame"),
    "not Modbus": (lambda r: b"HTTP/1.1 400 Bad Request\r\n\r\n", "short_frame"),
    "flood": (lambda r: bytes(random.Random(0).randbytes(50_000)), None),
    "empty exception": (lambda r: mbap(r, b"\x83"), None),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
async def test_bad_frame_is_counted_and_the_next_poll_succeeds(case: str) -> None:
    bad, reason = BAD_FRAMES[case]
    answers = [bad]

    def reply(request: bytes) -> bytes:
        return answers.pop()(request) if answers else registers_reply(request)

    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with ScriptedServer(reply) as server, running_source(**one_device(server.port, 0)) as run:
        await run.batches(1)
        assert run.taken.latest() == {"r0": 7.0}
        counted = {labels[1]: counter.value for labels, counter in run.context.metrics.rejected.series()}
        counted.pop("poll_skipped", None)
        assert list(counted.values()) == [1]
        assert reason is None or run.rejected(reason) == 1
    assert problems == []


BAD_RTU_FRAMES = {
    "wrong checksum": (lambda r: r[:1] + b"\x03\x02\x00\x07\x00\x00", "unexpected_frame"),
    "wrong unit": (lambda r: rtu(b"\x09\x03\x02\x00\x07"), "unexpected_frame"),
    "half a frame": (lambda r: r[:1] + b"\x03\x02", "short_frame"),
    "wrong function": (lambda r: rtu(r[:1] + b"\x04\x02\x00\x07"), "wrong_function"),
    "too many registers": (lambda r: rtu(r[:1] + b"\x03\x04\x00\x07\x00\x08"), "short_frame"),
    "exception": (lambda r: rtu(r[:1] + b"\x83\x04"), "exception_04"),
}


@pytest.mark.parametrize("case", BAD_RTU_FRAMES)
async def test_bad_rtu_frame_is_counted_and_the_next_poll_succeeds(case: str) -> None:
    bad, reason = BAD_RTU_FRAMES[case]
    answers = [bad]

    def reply(request: bytes) -> bytes:
        return answers.pop()(request) if answers else rtu(request[:1] + b"\x03\x02\x00\x07")

    async with (
        ScriptedServer(reply) as server,
        running_source(transport="rtu_over_tcp", **one_device(server.port, 0)) as run,
    ):
        await run.until(lambda: run.taken.latest() == {"r0": 7.0})
        assert run.rejected(reason) == 1


async def test_late_rtu_answer_is_not_taken_for_that_to_the_next_request() -> None:
    def reply(request: bytes) -> bytes | None:
        """Answers with the address as value; the fourth answer is too late and gets in front of the fifth."""
        answer = rtu(request[:1] + b"\x03\x02" + request[2:4])
        delay_s = {4: 0.39, 5: 0.15}.get(len(server.requests))
        if delay_s is None:
            return answer
        asyncio.get_running_loop().call_later(delay_s, server.writers[-1].write, answer)
        return None

    server = ScriptedServer(reply)
    async with server:
        options = {**one_device(server.port, 10, 50), "unit_pause": "10ms"}
        async with running_source(transport="rtu_over_tcp", **options) as run:
            await run.batches(12)
            assert run.rejected("timeout") == 1
            pairs = {(batch.sensors[0], float(batch.values[0])) for batch in run.taken.batches}
    assert pairs == {("r10", 10.0), ("r50", 50.0)}


async def test_garbage_in_every_frame_never_ends_the_source() -> None:
    rng = random.Random(7)

    def reply(request: bytes) -> bytes:
        pdu = rng.randbytes(rng.randint(1, 20))
        return rng.choice([mbap(request, pdu), pdu, mbap(request, bytes([3]) + pdu), registers_reply(request)])

    options = {**one_device(0, 0), "timeout": "10ms", "interval": "1ms", "unit_pause": "1ms", "unit_pause_max": "2ms"}
    async with ScriptedServer(reply) as server, running_source(**{**options, "port": server.port}) as run:
        await run.until(lambda: len(server.requests) >= 300, deadline_s=20)
        assert run.taken.batches


async def test_polls_keep_their_grid_and_late_ones_are_skipped_and_counted() -> None:
    async with ScriptedServer(registers_reply) as server, running_source(**one_device(server.port, 0)) as run:
        await run.batches(2)
        run.taken.room.clear()
        await asyncio.sleep(0.3)
        before = len(server.requests)
        run.taken.room.set()
        await run.until(lambda: run.rejected("poll_skipped") >= 5)
        assert len(server.requests) - before <= 3


async def test_polls_do_not_drift() -> None:
    async with ScriptedServer(registers_reply) as server, running_source(**one_device(server.port, 0)) as run:
        batches = await run.batches(22)
    skipped = run.rejected("poll_skipped")
    spacing = (batches[21].arrival_ns - batches[1].arrival_ns) / 1e6
    assert 20 * 20 - 25 <= spacing <= (20 + skipped) * 20 + 25


async def test_registers_with_their_own_interval_are_polled_apart() -> None:
    slow = [{"name": "slow", "address": 1, "interval": "1h"}]
    options = one_device(0, 0)
    options["devices"] = [{"registers": registers(0) + slow}]
    async with ScriptedServer(registers_reply) as server, running_source(**{**options, "port": server.port}) as run:
        await run.until(lambda: spans(server).count((0, 1)) >= 10)
    assert spans(server).count((1, 1)) == 1


async def test_time_register_gives_the_source_time_of_the_whole_poll() -> None:
    def reply(request: bytes) -> bytes:
        words = {100: 0x6553, 101: 0xF100}
        first, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
        data = b"".join(words.get(a, 7).to_bytes(2, "big") for a in range(first, first + count))
        return mbap(request, bytes([3, 2 * count]) + data)

    device = {"registers": [*registers(0, 102), {"name": "clock", "address": 100, "type": "uint32", "time": "s"}]}
    async with (
        ScriptedServer(reply) as server,
        running_source(host="127.0.0.1", port=server.port, devices=[device], **FAST) as run,
    ):
        batches = await run.batches(2)
    assert {batch.sensors for batch in batches[:2]} == {("r0",), ("r102",)}
    assert {batch.source_time_ns for batch in batches[:2]} == {0x6553F100 * 10**9}


async def test_cancelled_source_leaves_no_connection() -> None:
    gone = asyncio.Event()

    async with ScriptedServer(lambda request: None) as server:
        async with running_source(**{**one_device(server.port, 0), "timeout": "30s"}) as run:
            await run.until(lambda: server.requests)
        writer = server.writers[0]
        await asyncio.wait_for(writer.wait_closed(), 5)
        gone.set()
    assert gone.is_set()


async def test_five_thousand_registers_are_polled(tmp_path: Any) -> None:
    rows = "\n".join(f"r{address},{address}" for address in range(5_000))
    (tmp_path / "map.csv").write_text(f"name,address\n{rows}\n")
    options = {"host": "127.0.0.1", "devices": [{"map": str(tmp_path / "map.csv")}], **FAST, "interval": "10s"}
    async with ScriptedServer(registers_reply) as server, running_source(port=server.port, **options) as run:
        batches = await run.batches(40)
    assert sum(len(batch) for batch in batches) == 5_000
    assert len(server.requests) == 40
