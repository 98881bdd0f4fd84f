"""`onefold ingest`, `sessions`, `features`: logs in, and what became of them."""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from onefold.errors import FieldProblem, InvalidInput, OnefoldError
from onefold_server.cli.output import DatabaseUrl, Json, command, opened, show, show_json

if TYPE_CHECKING:
    from onefold_server.cli.ingest.interrupt import Interrupt
    from onefold_server.cli.ingest.loader import Load
    from onefold_server.cli.ingest.sinks import IngestTarget
    from onefold_server.cli.ingest.sources import RowSource
    from onefold_server.installation import Installation

# 0: every row counts. 1: one of our errors. 2: the command was not understood. The rest:
EXIT_REFUSED: Final = 3  # loaded, but some rows do not count: the rejects file says why
EXIT_INTERRUPTED: Final = 130  # as shells have it: 128 + SIGINT

School = Annotated[str | None, typer.Option(help="Id or name; not needed while there is only one.")]
Server = Annotated[
    str | None,
    typer.Option("--to", "--server", metavar="URL", help="A server, instead of a database."),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="ONEFOLD_API_KEY", help="The server's API key.", show_envvar=True),
]


@command
async def ingest(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSONL, CSV or TSV, or - for stdin.")
    ],
    mapping: Annotated[
        Path | None, typer.Option("--map", help="TOML file that says which column is what.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the one file, from which ids are made.")
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="Where rows go that do not count; written only if there are any.",
            show_default="rejects.jsonl",
        ),
    ] = None,
    school: School = None,
    create_school: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Into this school, made if missing, pupils enrolled."),
    ] = None,
    max_age_days: Annotated[
        int | None, typer.Option(min=1, help="Refuse older events.", show_default="any age")
    ] = None,
    close_idle: Annotated[
        bool, typer.Option(help="At the end, close sessions that are over: features come of it.")
    ] = True,
    database: DatabaseUrl = None,
    to: Server = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """
    Load event logs; loading them again, or going on after a stop, counts nothing twice.

    Exit code 0: every row counts; 3: some do not, see the rejects file; 130: stopped.
    """
    from onefold_server.cli.ingest.interrupt import Interrupt
    from onefold_server.cli.ingest.loader import Load
    from onefold_server.cli.ingest.rejects import DEFAULT, Rejects
    from onefold_server.cli.ingest.spec import read_spec

    _check_choice(to, create_school, school, database=database, max_age_days=max_age_days)
    spec = read_spec(mapping) if mapping else None
    inputs = _Inputs(files, source)
    rejects = rejects or DEFAULT
    inputs.check(rejects)
    target = (
        _server(to, key, school) if to else _database(database, school, create_school, max_age_days)
    )
    async with target as (sink, school_id, onefold):
        inputs.try_out(spec, school_id)
        with Rejects(rejects) as rejected, Interrupt() as interrupt:
            load = Load(sink, rejected, spec, school_id, interrupt)
            error = await _load_all(load, inputs)
            closed = None
            if onefold and close_idle and error is None:
                closed = await _close_idle(onefold, interrupt)
    _tell(load, closed=closed, error=error, as_json=json)


def _check_choice(
    to: str | None,
    create_school: str | None,
    school: str | None,
    *,
    database: str | None,
    max_age_days: int | None,
) -> None:
    if create_school and school:
        raise _unusable("--school", "say it or --create-school, not both")
    if to is None:
        return
    if database or create_school or max_age_days:
        reason = "a server has its own; leave out --database, --create-school and --max-age-days"
        raise _unusable("--to", reason)


def _unusable(field: str, reason: str) -> InvalidInput:
    return InvalidInput([FieldProblem(field, "unusable", reason)])


class _Inputs:
    """The files that were named, opened one after the other."""

    def __init__(self, files: Sequence[Path], name: str | None) -> None:
        if name is not None and len(files) > 1:
            raise _unusable("--source", "names one file; load several one at a time")
        self._files, self._name = files, name

    def check(self, rejects: Path) -> None:
        """Raise unless every file can be read and has a name of its own."""
        from onefold_server.cli.ingest.sources import source_name

        seen: dict[str, Path] = {}
        for file in self._files:
            name = source_name(file)
            if name in seen:
                reason = f"has the name of {seen[name]}, so its rows would have the same ids"
                raise _unusable(str(file), f"{reason}; load it alone, with another --source")
            seen[name] = file
            if rejects.resolve() == file.resolve():
                raise _unusable(str(file), "is also the rejects file; name another with --rejects")
            if not _is_pipe(file):  # whose writer would be told that nobody reads any more
                with self._open(file):
                    continue

    def try_out(self, spec: Any, school_id: UUID | None) -> None:
        """Raise before anything is loaded if a file and the mapping do not fit together."""
        from onefold_server.cli.ingest.mapping import read_events

        for file in self._files:
            if file.is_file():  # a pipe cannot be read twice
                with self._open(file) as source:
                    read_events(source, spec, school_id=school_id)

    def __iter__(self) -> Iterator["RowSource"]:
        for file in self._files:
            with self._open(file) as source:
                yield source

    @property
    def size(self) -> int | None:
        """Of all files in bytes, or None if there is one that cannot be measured."""
        if not all(file.is_file() for file in self._files):
            return None
        return sum(file.stat().st_size for file in self._files)

    @contextmanager
    def _open(self, file: Path) -> Iterator["RowSource"]:
        from onefold_server.cli.ingest.sources import RowSource

        if str(file) == "-":
            yield RowSource(self._name, sys.stdin.buffer)
            return
        source = RowSource.open(file, self._name)
        try:
            yield source
        finally:
            source.close()


def _is_pipe(file: Path) -> bool:
    return file.exists() and not (file.is_file() or file.is_dir())


@asynccontextmanager
async def _server(
    url: str, key: str | None, school: str | None
) -> AsyncIterator[tuple["IngestTarget", UUID | None, None]]:
    from onefold_server.cli.ingest.remote import connected
    from onefold_server.cli.ingest.sinks import ServerSink

    school_id = _uuid(school, "--school", "a server's school is said by its id") if school else None
    async with connected(url, key) as server:
        yield ServerSink(server), school_id, None


@asynccontextmanager
async def _database(
    url: str | None, school: str | None, create_school: str | None, max_age_days: int | None
) -> AsyncIterator[tuple["IngestTarget", UUID, "Installation"]]:
    from onefold_server.cli.ingest.sinks import DatabaseSink

    limit: dict[str, Any] = {"any_age": True}
    if max_age_days:
        limit = {"max_age": timedelta(days=max_age_days)}
    async with opened(url, **limit) as onefold:
        if create_school:
            school_id = await onefold.directory.create_school(create_school, auto_enrol=True)
        else:
            school_id = await onefold.directory.find_school(school)
        yield DatabaseSink(onefold.telemetry, school_id), school_id, onefold


async def _load_all(load: "Load", inputs: _Inputs) -> BaseException | None:
    """What stopped the load before its end, if anything did."""
    from onefold_server.cli.ingest.report import progress_bar

    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar(inputs.size))
        try:
            for source in inputs:
                await load.run(source, progress)
        except (KeyboardInterrupt, OnefoldError) as error:
            return error
    return None


async def _close_idle(onefold: "Installation", interrupt: "Interrupt") -> int:
    closed = 0
    while not interrupt.asked and (more := await onefold.telemetry.close_idle_sessions()):
        closed += more
    return closed


def _tell(load: "Load", *, closed: int | None, error: BaseException | None, as_json: bool) -> None:
    """Print what became of it all, and leave with the exit code that says it."""
    from onefold_server.cli.ingest import report

    interrupted = isinstance(error, KeyboardInterrupt)
    if as_json:
        show_json(report.as_json(load, closed=closed, interrupted=interrupted))
    else:
        print(report.summary(load))
        if closed:
            print(f"{_many(closed, 'session')} closed, being over: see onefold features SESSION")
    for line in _hints(load, error):
        print(f"onefold: {line}", file=sys.stderr)
    if error is not None:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted else 1)
    if load.total.refused:
        raise typer.Exit(EXIT_REFUSED)


def _hints(load: "Load", error: BaseException | None) -> Iterator[str]:
    again = "running the same command again goes on, and counts nothing twice"
    if isinstance(error, KeyboardInterrupt):
        yield f"stopped; {again}"
    elif error is not None:
        yield f"{error}; what the table says is recorded, and {again}"
    codes = load.rejects.codes
    if codes:
        told = ", ".join(f"{code} {count}" for code, count in sorted(codes.items()))
        yield f"not counted: {_many(load.total.refused, 'row')} ({told}), see {load.rejects.path}"
    if codes["unknown_student"]:
        yield "enrol pupils with onefold student import, or make a school with --create-school"


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'s' * (count != 1)}"


@command
async def sessions(
    student: Annotated[str, typer.Argument(help="The pupil's id, or external id.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 100,
    school: School = None,
    database: DatabaseUrl = None,
    to: Server = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """List a pupil's sessions, the newest first."""
    rows = (
        await _sessions_of_server(to, key, student, school, limit)
        if to
        else await _sessions_of_database(database, student, school, limit)
    )
    if not rows:
        print(f"onefold: no sessions of {student}", file=sys.stderr)
    columns = ["session_id", "status", "started_at", "last_event_at", "event_count", "mission_id"]
    show(rows, columns, as_json=json)


async def _sessions_of_server(
    url: str, key: str | None, student: str, school: str | None, limit: int
) -> list[dict[str, Any]]:
    from onefold_server.cli.ingest.remote import connected

    school_id = _uuid(school, "--school", "a server's school is said by its id") if school else None
    async with connected(url, key) as server:
        id_ = _student_id(student, school_id)
        page = await server.get(f"/api/v1/telemetry/students/{id_}/sessions", limit=limit)
    rows: list[dict[str, Any]] = page["sessions"]
    return rows


async def _sessions_of_database(
    url: str | None, student: str, school: str | None, limit: int
) -> list[dict[str, Any]]:
    from onefold_server.domains.directory.rules import Principal
    from onefold_server.http.schemas import telemetry as schema

    async with opened(url) as onefold:
        school_id = await onefold.directory.find_school(school)
        id_ = _student_id(student, school_id)
        caller = Principal.local(school_id)
        page = await onefold.telemetry.sessions(caller, student_id=id_, limit=limit)
    return [schema.session(row) for row in page.rows]


@command
async def features(
    session: Annotated[UUID, typer.Argument(help="The session's id.")],
    school: School = None,
    database: DatabaseUrl = None,
    to: Server = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Show a session and the newest revision of its features."""
    found = (
        await _session_of_server(to, key, session)
        if to
        else await _session_of_database(database, session, school)
    )
    if json:
        show_json(found)
    else:
        _show_features(found)


async def _session_of_server(url: str, key: str | None, session: UUID) -> dict[str, Any]:
    from onefold_server.cli.ingest.remote import connected

    async with connected(url, key) as server:
        found: dict[str, Any] = await server.get(f"/api/v1/telemetry/sessions/{session}", limit=1)
    return {name: value for name, value in found.items() if name not in {"events", "next_cursor"}}


async def _session_of_database(
    url: str | None, session: UUID, school: str | None
) -> dict[str, Any]:
    from onefold_server.domains.directory.rules import Principal
    from onefold_server.http.schemas import telemetry as schema

    async with opened(url) as onefold:
        caller = Principal.local(await onefold.directory.find_school(school))
        return schema.session(await onefold.telemetry.session(caller, session))


def _show_features(found: dict[str, Any]) -> None:
    newest = found["features"] or {}
    facts = {name: value for name, value in found.items() if name != "features"}
    print("\n".join(f"{name.replace('_', ' '):28}{_shown(value)}" for name, value in facts.items()))
    if not newest:
        print("\nThe session is open: features are computed when it closes.")
        return
    undefined, types = newest.pop("undefined"), newest.pop("event_types")
    print("\nfeatures")
    for name, value in newest.items():
        reason = f"  ({undefined[name]})" if name in undefined else ""
        print(f"  {name.replace('_', ' '):26}{_shown(value)}{reason}")
    print("\nevents by type")
    for name, count in sorted(types.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {name:40}{count:>8,}")


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _uuid(text: str, field: str, reason: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _unusable(field, f"{text!r} is no UUID; {reason}") from None


def _student_id(student: str, school_id: UUID | None) -> UUID:
    """The pupil of that id, or of that external id as `onefold student import` derives it."""
    from onefold.core.ids import derived_id

    try:
        return UUID(student)
    except ValueError:
        if school_id is None:
            reason = "an external id belongs to a school: say --school with its id"
            raise _unusable(student, reason) from None
        return derived_id("student", str(school_id), student)


def add_to(app: typer.Typer) -> None:
    """Give *app* these commands."""
    for run in (ingest, sessions, features):
        app.command()(run)
