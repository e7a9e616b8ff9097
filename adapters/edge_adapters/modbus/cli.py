"""The commands of the Modbus adapter, found by `edge-agent` through the entry points `edge_agent.commands`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import click
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_adapters.modbus.options import Parity, Transport
from edge_adapters.modbus.probe import ProbeOptions, ProbeRow, probe
from edge_adapters.modbus.registers import Kind, Order, Table
from edge_agent.errors import EdgeAgentError

_ORDERS = {
    "ABCD": (Order.BIG, Order.BIG),
    "CDAB": (Order.BIG, Order.LITTLE),
    "BADC": (Order.LITTLE, Order.BIG),
    "DCBA": (Order.LITTLE, Order.LITTLE),
}


@click.group("modbus", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look at Modbus devices. Nothing is ever written to them."""


@command.command("probe")
@click.argument("target", metavar="HOST[:PORT]|DEVICE")
@click.option("--unit", default=1, show_default=True, help="Unit (slave) id.")
@click.option(
    "--table",
    type=click.Choice([str(table) for table in Table]),
    default="holding",
    show_default=True,
    help="Which of the four tables.",
)
@click.option("--address", default=0, show_default=True, help="First address, counted from 0 (40001 is 0).")
@click.option("--count", default=10, show_default=True, help="Registers or bits to read.")
@click.option("--rtu-over-tcp", is_flag=True, help="The host is a serial server that passes RTU frames on.")
@click.option("--baudrate", default=19_200, show_default=True, help="Of a serial device.")
@click.option(
    "--parity",
    type=click.Choice([str(parity) for parity in Parity]),
    default="even",
    show_default=True,
    help="Of a serial device.",
)
@click.option("--stopbits", type=click.Choice(["1", "2"]), default="1", show_default=True, help="Of a serial device.")
@click.option("--timeout", default="1s", show_default=True, help="Time to wait for the answer.")
@click.option("--all", "show_all", is_flag=True, help="Show implausible readings too.")
@click.option("--json", "as_json", is_flag=True, help="Every reading as JSON, one list.")
def probe_command(target: str, show_all: bool, as_json: bool, **given: Any) -> None:
    """Read a range once and show all plausible decodings.

    TARGET is HOST, HOST:PORT, [IPv6]:PORT, or the path of a serial device. The columns are the byte orders ABCD
    (byte_order big, word_order big), CDAB (word_order little), BADC (byte_order little) and DCBA (both little).

    \b
    Exit codes: 0 the range was read, 1 it could not be read, 2 wrong arguments.
    """
    options = options_from(target, given)
    try:
        rows = asyncio.run(probe(options))
    except ImportError as error:
        raise click.UsageError("needs pymodbus: pip install 'edge-graph-agent[modbus]'") from error
    except EdgeAgentError as error:
        message = str(error)
        where = "" if message.startswith(options.where) else f"{options.where}: "
        raise click.ClickException(where + message) from error
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], indent=1))
    else:
        _print_table(options, rows, show_all)


def options_from(target: str, given: dict[str, Any]) -> ProbeOptions:
    """What the command line asks for. :raises click.UsageError: it cannot be."""
    rtu_over_tcp = given.pop("rtu_over_tcp")
    if target.startswith("/"):
        where: dict[str, Any] = {"transport": Transport.RTU, "device": target}
    else:
        host, port = _host_and_port(target)
        where = {"transport": Transport.RTU_OVER_TCP if rtu_over_tcp else Transport.TCP, "host": host, "port": port}
    try:
        return ProbeOptions.model_validate({**given, "stopbits": int(given["stopbits"]), **where})
    except ValidationError as error:
        problems = map(_told, error.errors())
        raise click.UsageError("\n".join(problems)) from error


def _told(problem: ErrorDetails) -> str:
    """A mistake in the words of our other messages."""
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
    else:
        expected = problem["msg"].replace("Input should be", "expected").replace("String should have", "expected")
        message = f"got {problem['input']!r}, {expected}"
    return ": ".join((*map(str, problem["loc"]), message))


def _host_and_port(target: str) -> tuple[str, int]:
    host, separator, port = target.rpartition(":")
    if not separator or (":" in host and not host.startswith("[")):
        return target.strip("[]"), 502
    if not port.isdigit():
        raise click.UsageError(f"target: got {target!r}, expected HOST, HOST:PORT, [IPv6]:PORT or a serial device")
    return host.strip("[]"), int(port)


def _print_table(options: ProbeOptions, rows: Sequence[ProbeRow], show_all: bool) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    table = RichTable(title=f"{options.where}, unit {options.unit}, {options.table}")
    for column in ("address", "raw", "type"):
        table.add_column(column)
    for order in _ORDERS:
        table.add_column(order, justify="right")
    lines: dict[tuple[int, Kind], list[ProbeRow]] = {}
    for row in rows:
        lines.setdefault((row.address, row.type), []).append(row)
    for (address, kind), readings in lines.items():
        cells = [_cell(readings, orders, show_all) for orders in _ORDERS.values()]
        if any(cells):
            table.add_row(str(address), readings[0].raw, str(kind), *cells)
    console = Console()
    console.print(table)
    if not show_all and any(row.doubt for row in rows):
        console.print("Implausible readings (not finite, denormal, huge, not decimal) are left out; --all shows them.")


def _cell(readings: Sequence[ProbeRow], orders: tuple[Order, Order], show_all: bool) -> str:
    for row in readings:
        if (row.byte_order, row.word_order) == orders and (show_all or row.doubt is None):
            text = "-" if row.value is None else f"{row.value:.10g}"
            return f"{text} ({row.doubt})" if row.doubt else text
    return ""
