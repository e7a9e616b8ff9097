"""The PostgreSQL sink: one transaction for each delivery; what is committed is delivered, and nothing is there twice.

=============================================================  ===============================================
committed                                                      delivered
data exceptions and violated constraints (class 22, 23)        ``AdapterError``: the database refuses this event
everything else: no connection, wrong password, disk full …    ``RetryableAdapterError``: delivered again later
=============================================================  ===============================================
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
from asyncpg.pgproto import pgproto

from edge_adapters.postgres.layout import Table, prepare
from edge_adapters.postgres.options import PostgresOptions
from edge_adapters.postgres.rows import Row, columns, rows
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.tls import client_context
from edge_agent.verdict import Event

_MOST_ROWS: Final = 10_000
_CLOSE_S: Final = 2.0
_Failures = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_Garbled = (
    AttributeError,
    pgproto.BufferError,
    LookupError,
    ValueError,
)  # what asyncpg stumbles over in other protocols


class PostgresSink:
    """See :class:`edge_agent.contract.Sink`."""

    def __init__(self, options: PostgresOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._connection: Any = None

    async def open(self) -> None:
        """Connect; make the tables or check them.

        :raises RetryableAdapterError: not reachable, or not allowed. :raises AdapterError: the tables are not ours.
        """
        options = self._options
        try:
            self._connection = await asyncpg.connect(
                host=options.host,
                port=options.port,
                database=options.database,
                user=options.user,
                password="" if options.password is None else options.password.reveal(),
                ssl=await self._tls(),
                timeout=options.timeout,
                command_timeout=options.timeout,
                server_settings={"application_name": f"edge-agent {self._context.name}"},
            )
            if await prepare(self._connection, options.namespace):
                self._context.log.info("%s: made the tables in the schema %s", options.address, options.namespace)
        except AdapterError as error:
            raise AdapterError(f"{options.address}: {error}") from error
        except _Failures as error:
            raise self._failure(error) from error
        except _Garbled as error:
            raise RetryableAdapterError(
                f"{options.address}: what it answers is not of PostgreSQL ({error!r})"
            ) from error
        self._context.connected(options.address)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when everything is committed. :raises RetryableAdapterError, AdapterError: nothing is."""
        found = await _gathered(events)
        if self._connection is None or self._connection.is_closed():
            raise RetryableAdapterError(f"{self._options.address}: the connection was closed")
        if not found:
            return
        try:
            async with self._connection.transaction():
                for table, table_rows in found.items():
                    statement = table.insert(self._options.namespace)
                    for start in range(0, len(table_rows), _MOST_ROWS):
                        part = table_rows[start : start + _MOST_ROWS]
                        await self._connection.execute(statement, *columns(part))
        except _Failures as error:
            raise self._failure(error) from error

    async def close(self) -> None:
        """Close the connection; what is not committed is not there."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.close(timeout=_CLOSE_S)
        except _Failures:
            connection.terminate()

    async def _tls(self) -> ssl.SSLContext | bool:
        if self._options.tls is None:
            return False
        return await asyncio.to_thread(client_context, self._options.tls)

    def _failure(self, error: BaseException) -> AdapterError:
        where = self._options.address
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self._options.timeout:g} s"
        else:
            reason = f"{type(error).__name__}: {error}"
        if isinstance(error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError):
            return AdapterError(f"{where}: {reason}")
        return RetryableAdapterError(f"{where}: {reason}")


async def _gathered(events: Sequence[Event]) -> dict[Table, list[Row]]:
    """Rows of all events by table."""
    found: dict[Table, list[Row]] = {}
    for event in events:
        for table, made in rows(event):
            if made:
                found.setdefault(table, []).extend(made)
        await asyncio.sleep(0)  # an event can hold thousands of rows: the tick comes first
    return found
