"""What every command prints: a table for people, JSON with `--json`, errors in one line."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from onefold.errors import OnefoldError, StoreUnavailable

if TYPE_CHECKING:
    from onefold_server.installation import Installation

P = ParamSpec("P")
T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database", help="Instead of ONEFOLD_DATABASE_URL.", show_default=False),
]


def command(run: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an async command; one of our errors ends it in one line with exit code 1."""

    @wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return asyncio.run(run(*args, **kwargs))
        except OnefoldError as error:
            print(f"onefold: {error}", file=sys.stderr)
            raise typer.Exit(1) from None

    return wrapped


@asynccontextmanager
async def opened(database: str | None, **how: Any) -> AsyncIterator["Installation"]:
    """The parts over the database that is set, or over *database*; ready to use."""
    from onefold_server.installation import build
    from onefold_server.settings import Settings

    overrides = {"database_url": database} if database else {}
    settings = Settings.load(**overrides)
    onefold = build(settings, **how)
    try:
        await _prepared(onefold)
        yield onefold
    finally:
        await onefold.aclose()


async def _prepared(onefold: "Installation") -> None:
    try:
        await onefold.prepare()
    except StoreUnavailable as error:
        advice = error.advice or "look at --database or ONEFOLD_DATABASE_URL"
        raise StoreUnavailable(error.reason, advice) from error


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print *rows*: all that they hold as JSON, or the *columns* as a table."""
    if as_json:
        show_json([dict(row) for row in rows])
        return
    from rich.console import Console
    from rich.table import Column, Table

    # Folded, never cut: an id is there to be copied. Where no terminal sets a width, none is.
    heads = [Column(name.replace("_", " "), overflow="fold") for name in columns]
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    width = None if sys.stdout.isatty() else 1000
    # What is shown was named by others: it is text, and no markup.
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(timespec="seconds"))
    text = ", ".join(map(_listed, value)) if isinstance(value, list) else str(value)
    # Nor may it move the cursor, or turn the direction of writing.
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _listed(value: Any) -> str:
    return "=".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def show_fields(record: Mapping[str, Any]) -> None:
    """Print *record* as a table with one row for each field."""
    rows = [{"field": name, "value": value} for name, value in record.items()]
    show(rows, ["field", "value"], as_json=False)


def show_json(value: Any) -> None:
    """Print *value* as indented JSON."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value)).decode())
