"""A table or query of any database that SQLAlchemy has a driver for, wide or long, fetched in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.errors import DataFileError
from edge_models.histories.block import Rows
from edge_models.histories.cells import rows_of
from edge_models.histories.header import TIME, read_header
from edge_models.histories.long_form import Readings, is_long, readings_of

_FETCHED = 4_096


class SqlSource:
    """``select`` is the name of a table (ordered by its time) or a SELECT statement (ordered as it says)."""

    notes: tuple[str, ...] = ()

    def __init__(self, url: str, select: str | None) -> None:
        if select is None:
            raise DataFileError(f"{_shown(url)}: name a table or give a SELECT statement with --select")
        self.where = f"{_shown(url)}: {select}"
        _refuse_missing_file(url)
        self._url, self._select = url, select
        with self._result() as result:
            self.names = list(result.keys())
        self.long = is_long(self.names)

    def chunks(self, most: int) -> Iterator[tuple[int, Sequence[Any]]]:
        """The number of rows before, and some rows."""
        first = 0
        with self._result() as result:
            for part in result.partitions(most):
                yield first, part
                first += len(part)

    @contextmanager
    def _result(self) -> Iterator[Any]:
        import sqlalchemy as sa

        engine = None
        try:
            engine = sa.create_engine(self._url)
            with engine.connect() as connection:
                statement = _statement(sa, connection, self._select)
                yield connection.execution_options(yield_per=_FETCHED).execute(statement)
        except sa.exc.NoSuchTableError as error:
            tables = ", ".join(sa.inspect(engine).get_table_names()) or "none"
            raise DataFileError(f"{self.where}: no such table, found {tables}") from error
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise DataFileError(f"{self.where}: {str(error).splitlines()[0]}") from error
        finally:
            if engine is not None:
                engine.dispose()


class SqlTable:
    """A wide table or query: one row a tick."""

    notes: tuple[str, ...] = ()

    def __init__(self, source: SqlSource, run_column: str | None, units: Mapping[str, str]) -> None:
        self.where = source.where
        self._source = source
        self._header = read_header(self.where, source.names, run_column, units)
        self.sensors, self.units = self._header.sensors, self._header.units

    def rows(self, most: int) -> Iterator[Rows]:
        for first, part in self._source.chunks(most):
            columns = dict(zip(self._source.names, zip(*part, strict=True), strict=True))
            yield rows_of(self.where, self._header, columns, lambda row, at=first: f"row {at + row + 1}")  # type: ignore[misc]


def sql_readings(source: SqlSource) -> Iterator[Readings]:
    """All readings of a long table or query, in its order."""
    for first, part in source.chunks(_FETCHED):
        objects = [dict(zip(source.names, row, strict=True)) for row in part]
        yield readings_of(source.where, objects, lambda row, at=first: f"row {at + row + 1}")  # type: ignore[misc]


def _statement(sa: Any, connection: Any, select: str) -> Any:
    if select.lstrip().lower().startswith(("select", "with")):
        return sa.text(select)
    schema, _, name = select.rpartition(".")
    table = sa.Table(name, sa.MetaData(), autoload_with=connection, schema=schema or None)
    time = next((table.c[column] for column in (TIME, "time") if column in table.c), None)
    return sa.select(table) if time is None else sa.select(table).order_by(time)


def _refuse_missing_file(url: str) -> None:
    """SQLite would make an empty database of a wrong name. Its own ``file:`` names are left to it."""
    import sqlalchemy as sa

    parsed = sa.engine.make_url(url)
    name = parsed.database or ":memory:"
    in_a_file = parsed.get_backend_name() == "sqlite" and name != ":memory:" and not name.startswith("file:")
    if in_a_file and not Path(name).is_file():
        raise DataFileError(f"{name}: no such file, expected a SQLite database")


def _shown(url: str) -> str:
    import sqlalchemy as sa

    try:
        return str(sa.engine.make_url(url).render_as_string(hide_password=True))
    except sa.exc.ArgumentError as error:
        raise DataFileError(
            "the history is not a database URL that SQLAlchemy understands, expected one such as"
            " postgresql+psycopg://user:password@host/database"
        ) from error
