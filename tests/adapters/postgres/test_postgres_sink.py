"""The PostgreSQL sink against Debian's PostgreSQL: what is stored, what is there once, what is refused."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pytest
import yaml
from postgres_rig import NOW_NS, Postgres, S, incident, opened, options, readings, scores, status
from pydantic import ValidationError

from edge_adapters.postgres import SINK
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.verdict import Event, EventKind

pytestmark = [pytest.mark.counterpart, pytest.mark.timeout(60)]
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


async def count(reader: Any, namespace: str, *tables: str) -> list[int]:
    return [await reader.fetchval(f"SELECT count(*) FROM {namespace}.{table}") for table in tables]


async def test_every_event_is_stored_once_however_often_it_comes(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="once") as sink:
        for _ in range(2):  # as after an acknowledgement that was lost
            await sink.deliver([readings(), scores(), incident(), status()])
            await sink.deliver([])
    assert await count(reader, "once", "reading", "score", "plant", "incident_event", "status_event") == [2, 1, 1, 1, 1]
    found = await reader.fetch("SELECT * FROM once.reading ORDER BY sensor")
    assert [tuple(row) for row in found] == [(NOW, "gw", "LIT301", 812.5, "mm"), (NOW, "gw", "P101", 1.0, None)]
    assert tuple(await reader.fetchrow("SELECT * FROM once.plant")) == (NOW, "gw", 7, 0.25, 0.5, False)
    row = await reader.fetchrow("SELECT id, incident, kind, state, severity, score, body FROM once.incident_event")
    assert tuple(row)[:6] == ("i", "01K", "process", "open", "high", 7.0)
    assert json.loads(row["body"])["summary"] == "rises"
    assert tuple(await reader.fetchrow("SELECT what, message FROM once.status_event")) == ("clock_jump", "it jumped")


async def test_a_digest_is_stored_beside_status_events(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="digest") as sink:
        await sink.deliver([Event("d", EventKind.DIGEST, NOW_NS, {"what": "digest", "message": "two"})])
    assert await reader.fetchval("SELECT what FROM digest.status_event") == "digest"


async def test_the_view_shows_incidents_as_they_stand(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="stand") as sink:
        closed = incident("i2", NOW_NS + 5 * S, "closed")
        await sink.deliver([closed, incident("i1", NOW_NS), incident("j1", NOW_NS, id="02K")])
    found = await reader.fetch("SELECT incident, state FROM stand.incident ORDER BY incident")
    assert [tuple(row) for row in found] == [("01K", "closed"), ("02K", "open")]


async def test_tables_are_made_once_and_found_again(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="again") as sink:
        await sink.deliver([readings()])
    await reader.execute("ALTER TABLE again.reading ADD COLUMN site text")  # others may add to them
    async with opened(server, namespace="again") as sink:
        await sink.deliver([readings(time_ns=NOW_NS + S)])
    assert await count(reader, "again", "reading") == [4]


async def test_gateways_that_begin_together_make_the_tables_once(server: Postgres) -> None:
    async def begin(number: int) -> None:
        async with opened(server, namespace="together") as sink:
            await sink.deliver([incident(f"i{number}")])

    await asyncio.gather(*(begin(number) for number in range(6)))


@pytest.mark.parametrize(
    ("namespace", "statement", "expected"),
    [
        (
            "foreign1",
            "CREATE TABLE foreign1.reading (id integer, payload text)",
            r"foreign1\.reading is not a table of this agent: got id integer, payload text, expected time",
        ),
        ("foreign2", "CREATE VIEW foreign2.incident AS SELECT 1 AS one", r"foreign2\.incident is not a table of this"),
        ("foreign3", "CREATE TABLE foreign3.layout (page integer)", r"foreign3\.layout is not .* got page integer"),
    ],
)
async def test_tables_of_somebody_else_are_left_alone(
    server: Postgres, reader: Any, namespace: str, statement: str, expected: str
) -> None:
    await reader.execute(f"CREATE SCHEMA {namespace}")
    await reader.execute(statement)
    before = await reader.fetch("SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace", namespace)
    with pytest.raises(AdapterError, match=expected) as raised:
        async with opened(server, namespace=namespace):
            pass
    assert "Nothing was written" in str(raised.value)
    assert before == await reader.fetch("SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace", namespace)


@pytest.mark.parametrize(
    ("namespace", "statement", "expected"),
    [
        ("other1", "UPDATE other1.layout SET version = 7", "are of version 7, expected 1"),
        ("other2", "ALTER TABLE other2.score ALTER value TYPE integer", r"other2\.score is not .* value integer"),
        ("other3", "DROP TABLE other3.plant", r"other3\.plant is not a table of this agent: got nothing"),
    ],
)
async def test_tables_that_were_changed_are_told(
    server: Postgres, reader: Any, namespace: str, statement: str, expected: str
) -> None:
    async with opened(server, namespace=namespace):
        pass
    await reader.execute(statement)
    with pytest.raises(AdapterError, match=expected):
        async with opened(server, namespace=namespace):
            pass


async def test_series_become_hypertables_where_timescaledb_is(server: Postgres, reader: Any) -> None:
    """A function that answers to the same call as TimescaleDB's; what it does with a table is not ours to test."""
    await reader.execute("CREATE TABLE public.made (relation text, of text)")
    await reader.execute(
        "CREATE FUNCTION public.create_hypertable(relation regclass, of name, chunk_time_interval interval) "
        "RETURNS void LANGUAGE sql AS 'INSERT INTO public.made VALUES (relation::text, of)'"
    )
    try:
        async with opened(server, namespace="scale"):
            pass
        found = await reader.fetch("SELECT relation, of FROM public.made ORDER BY relation")
        assert [tuple(row) for row in found] == [(f"scale.{name}", "time") for name in ("plant", "reading", "score")]
    finally:
        await reader.execute("DROP FUNCTION public.create_hypertable; DROP TABLE public.made")


async def test_strange_values_are_stored(server: Postgres, reader: Any) -> None:
    names = ["'; DROP TABLE reading; --", "Süd/°C", "zero\0byte", "", "x" * 5_000]
    event = readings(**dict.fromkeys(names, float("inf")), text="on", none=None)
    async with opened(server, namespace="strange") as sink:
        await sink.deliver(
            [event, scores(p_value=None), incident(summary="a\0b\\u0000", extra={"k\0": ["\0", {"v": 1}]})]
        )
    found = await reader.fetch("SELECT sensor, value FROM strange.reading")
    assert {row["sensor"] for row in found} == {name.replace("\0", "") for name in names}
    assert {row["value"] for row in found} == {float("inf")}
    assert await reader.fetchval("SELECT summary FROM strange.incident_event") == "ab\\u0000"


async def test_many_readings_are_one_transaction(server: Postgres, reader: Any) -> None:
    events = [readings(f"r{n}", NOW_NS + n * S, **{f"s{sensor}": float(n) for sensor in range(500)}) for n in range(30)]
    async with opened(server, namespace="many") as sink:
        await sink.deliver(events)
    assert await count(reader, "many", "reading") == [15_000]


async def test_an_event_that_the_database_refuses_is_an_error_of_its_own(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="strict") as sink:
        await reader.execute("ALTER TABLE strict.incident_event ADD CHECK (severity <> 'high')")
        with pytest.raises(AdapterError, match="CheckViolationError") as raised:
            await sink.deliver([status(), incident()])
        assert not isinstance(raised.value, RetryableAdapterError)
        assert await count(reader, "strict", "status_event") == [0]  # all or none
        await sink.deliver([status()])


async def test_what_is_dropped_under_a_running_sink_is_made_again(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="dropped") as sink:
        await reader.execute("DROP SCHEMA dropped CASCADE")
        with pytest.raises(RetryableAdapterError, match="UndefinedTableError"):
            await sink.deliver([status()])
    async with opened(server, namespace="dropped") as sink:
        await sink.deliver([status()])


async def test_a_session_that_is_cut_off_can_be_tried_again(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="cut") as sink:
        await reader.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'edge-agent warehouse'"
        )
        with pytest.raises(RetryableAdapterError):
            await sink.deliver([status()])
        with pytest.raises(RetryableAdapterError, match="the connection was closed"):
            await sink.deliver([status()])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",  # accepted and ready, without saying which version it is
        b"R\0\0\0\x08\0\0\0\0K\0\0\0\x04Z\0\0\0\x05I",
    ],
)
async def test_a_server_that_speaks_nonsense_is_told_and_tried_again(answer: bytes) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        given = {"type": "postgres", "host": "127.0.0.1", "port": port, "database": "d", "user": "u", "timeout": "2s"}
        sink = SINK.build(
            SINK.options.model_validate(given), AdapterContext("x", VirtualClock(NOW_NS), random.Random(1), Metrics())
        )
        with pytest.raises(RetryableAdapterError, match=f"127.0.0.1:{port}"):
            await sink.open()
        await sink.close()


async def test_a_database_that_does_not_answer_is_left(server: Postgres, reader: Any) -> None:
    async with opened(server, namespace="slow", timeout="300ms") as sink, reader.transaction():
        await reader.execute("LOCK TABLE slow.status_event")
        with pytest.raises(RetryableAdapterError, match=r"no answer within 0\.3 s"):
            await sink.deliver([status()])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"password": "wrong"}, "InvalidPasswordError: password authentication failed"),
        ({"database": "nowhere"}, 'InvalidCatalogNameError: database "nowhere" does not exist'),
        ({"port": 1}, "ConnectionRefusedError"),
        ({"tls": {}}, "rejected SSL upgrade"),
        ({"host": "no-such-host.invalid"}, "gaierror"),
    ],
)
async def test_what_may_be_mended_is_tried_again(server: Postgres, changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(RetryableAdapterError, match=expected) as raised:
        async with opened(server, **changed):
            pass
    assert "wrong" not in str(raised.value)


async def test_a_user_who_may_not_make_a_schema_is_told(server: Postgres, reader: Any) -> None:
    await reader.execute("CREATE ROLE weak LOGIN PASSWORD 'w'")
    with pytest.raises(RetryableAdapterError, match="InsufficientPrivilegeError: permission denied for database"):
        async with opened(server, user="weak", password="w", namespace="weak"):
            pass


async def test_a_server_that_restarts_is_met_again(server: Postgres) -> None:
    async with opened(server, namespace="restart") as sink:
        await sink.deliver([status("a")])
        server.stop()
        with pytest.raises(RetryableAdapterError):
            await sink.deliver([status("b")])
        with pytest.raises(RetryableAdapterError, match="ConnectionRefusedError"):
            async with opened(server):
                pass
    server.start()
    async with opened(server, namespace="restart") as sink:
        await sink.deliver([status("a"), status("b")])
    reader = await server.connect()
    assert await count(reader, "restart", "status_event") == [2]
    await reader.close()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"namespace": "Plant; DROP"}, "String should match pattern"),
        ({"tls": {"server_name": "x"}}, "write the name of the certificate as `host`"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"dsn": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_cannot_be_are_refused(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as raised:
        SINK.options.model_validate({"type": "postgres", "database": "d", "user": "u", **changed})
    assert expected in str(raised.value)


def test_the_sample_is_accepted() -> None:
    sample = yaml.safe_load((resources.files("edge_adapters.postgres") / "sample.yaml").read_text())
    SINK.options.model_validate(sample["sinks"]["warehouse"])


def test_no_secret_is_shown(server: Postgres) -> None:
    assert "s3cret" not in repr(SINK.options.model_validate(options(server)))
