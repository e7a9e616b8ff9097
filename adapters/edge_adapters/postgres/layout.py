# ruff: noqa: S608 - the names put into statements are constants of this module and the checked option `namespace`
"""The tables: how they are made, and how a table of somebody else is told from ours before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_agent.errors import AdapterError

VERSION: Final = 1
_LOCK: Final = 0x65646765  # "edge": gateways that begin at the same time make the tables one after the other
_TEXT, _FLOAT, _TIME = "text", "double precision", "timestamp with time zone"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of ours: columns and their types, the key that makes a row the same row, and whether it is a series."""

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    series: bool = False
    index: tuple[str, ...] = ()

    def create(self, namespace: str) -> str:
        """The statement that makes the table."""
        columns = ", ".join(
            f"{name} {kind}{' NOT NULL' if name in self.key else ''}" for name, kind in self.columns.items()
        )
        return f"CREATE TABLE {namespace}.{self.name} ({columns}, PRIMARY KEY ({', '.join(self.key)}))"

    def insert(self, namespace: str) -> str:
        """The statement that adds rows, one array a column; rows that are there already stay as they are."""
        arrays = ", ".join(
            f"${place}::{_CAST.get(kind, kind)}[]" for place, kind in enumerate(self.columns.values(), 1)
        )
        wanted = ", ".join(f"{name}::jsonb" if kind == "jsonb" else name for name, kind in self.columns.items())
        names = ", ".join(self.columns)
        return (
            f"INSERT INTO {namespace}.{self.name} ({names}) SELECT {wanted} FROM unnest({arrays}) AS given({names}) "
            "ON CONFLICT DO NOTHING"
        )


_CAST: Final = {"jsonb": "text"}

READING: Final = Table(
    "reading",
    {"time": _TIME, "agent": _TEXT, "sensor": _TEXT, "value": _FLOAT, "unit": _TEXT},
    ("agent", "sensor", "time"),
    series=True,
)
SCORE: Final = Table(
    "score",
    {"time": _TIME, "agent": _TEXT, "sensor": _TEXT, "value": _FLOAT},
    ("agent", "sensor", "time"),
    series=True,
)
PLANT: Final = Table(
    "plant",
    {"time": _TIME, "agent": _TEXT, "tick": "bigint", "score": _FLOAT, "p_value": _FLOAT, "alarm": "boolean"},
    ("agent", "time"),
    series=True,
)
INCIDENT_EVENT: Final = Table(
    "incident_event",
    {
        "id": _TEXT,
        "time": _TIME,
        "agent": _TEXT,
        "incident": _TEXT,
        "kind": _TEXT,
        "state": _TEXT,
        "severity": _TEXT,
        "summary": _TEXT,
        "p_value": _FLOAT,
        "score": _FLOAT,
        "body": "jsonb",
    },
    ("id",),
    index=("incident", "time"),
)
STATUS_EVENT: Final = Table(
    "status_event",
    {"id": _TEXT, "time": _TIME, "agent": _TEXT, "what": _TEXT, "message": _TEXT, "body": "jsonb"},
    ("id",),
    index=("time",),
)
TABLES: Final = (READING, SCORE, PLANT, INCIDENT_EVENT, STATUS_EVENT)
_MARK: Final = Table("layout", {"made_by": _TEXT, "version": "integer"}, ("made_by",))
_VIEW: Final = "incident"
_MADE_BY: Final = "edge-agent"


async def prepare(connection: Any, namespace: str) -> bool:
    """Make the tables, all or none, or find that ours are there; True when they were made.

    :raises AdapterError: there are others under these names, or they are of another version; nothing was changed.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        found = await _columns(connection, namespace)
        if _MARK.name in found:
            await _check(connection, namespace, found)
            return False
        strangers = [name for name in (*(table.name for table in TABLES), _VIEW) if name in found]
        if strangers:
            raise AdapterError(_foreign(namespace, strangers[0], found[strangers[0]]))
        await _create(connection, namespace)
        return True


async def _columns(connection: Any, namespace: str) -> dict[str, dict[str, str]]:
    """Columns and their types of every table and view in ``namespace``."""
    rows = await connection.fetch(
        "SELECT class.relname, attribute.attname, format_type(attribute.atttypid, NULL) AS kind "
        "FROM pg_class class JOIN pg_namespace space ON space.oid = class.relnamespace "
        "LEFT JOIN pg_attribute attribute "
        "ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped "
        "WHERE space.nspname = $1 AND class.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY attribute.attnum",
        namespace,
    )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        columns = found.setdefault(row["relname"], {})
        if row["attname"] is not None:
            columns[row["attname"]] = row["kind"]
    return found


async def _check(connection: Any, namespace: str, found: Mapping[str, Mapping[str, str]]) -> None:
    """Ours, and as this version of the agent knows them."""
    if found[_MARK.name] != _MARK.columns:
        raise AdapterError(_foreign(namespace, _MARK.name, found[_MARK.name]))
    version = await connection.fetchval(f"SELECT version FROM {namespace}.{_MARK.name} WHERE made_by = $1", _MADE_BY)
    if version != VERSION:
        raise AdapterError(
            f"the tables in the schema {namespace!r} are of version {version}, expected {VERSION}; use the agent that "
            "made them, or another `namespace`"
        )
    for table in TABLES:
        columns = found.get(table.name)
        # Columns that others have added do not matter, as long as ours are there.
        if columns is None or any(columns.get(name) != kind for name, kind in table.columns.items()):
            raise AdapterError(_foreign(namespace, table.name, columns or {}))


def _foreign(namespace: str, name: str, columns: Mapping[str, str]) -> str:
    has = ", ".join(f"{column} {kind}" for column, kind in columns.items()) or "nothing"
    expected = next((table.columns for table in (*TABLES, _MARK) if table.name == name), None)
    wanted = ", ".join(f"{column} {kind}" for column, kind in expected.items()) if expected else "nothing"
    return (
        f"{namespace}.{name} is not a table of this agent: got {has}, expected {wanted}; choose another `namespace`, "
        "or rename that table. Nothing was written"
    )


async def _create(connection: Any, namespace: str) -> None:
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {namespace}")
    for table in (*TABLES, _MARK):
        await connection.execute(table.create(namespace))
        if table.index:
            await connection.execute(
                f"CREATE INDEX {table.name}_by_{table.index[-1]} ON {namespace}.{table.name} ({', '.join(table.index)})"
            )
    await connection.execute(
        f"CREATE VIEW {namespace}.{_VIEW} AS SELECT DISTINCT ON (incident) * FROM {namespace}.{INCIDENT_EVENT.name} "
        "ORDER BY incident, time DESC, id DESC"
    )
    await connection.execute(
        f"INSERT INTO {namespace}.{_MARK.name} (made_by, version) VALUES ($1, $2)",
        _MADE_BY,
        VERSION,
    )
    if await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'create_hypertable' AND pg_function_is_visible(oid))"
    ):
        for table in TABLES:
            if table.series:
                await connection.execute(
                    f"SELECT create_hypertable('{namespace}.{table.name}'::regclass, 'time'::name, "
                    "chunk_time_interval => INTERVAL '1 day')"
                )
