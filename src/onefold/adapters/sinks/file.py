"""
One file a delivery, named by its id: delivering it again writes the same file again.

Written beside its place, synced, renamed, and the folder synced: at every instant the file
is not there or whole, whatever dies. `compact` makes the daily files that people read.
"""

import asyncio
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from onefold.adapters.sinks.reading import opened, read
from onefold.core.published import Envelope, require
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import Kind, Outcome, Parcel

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")


class FileConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to write."""

    path: str


class FileSink:
    """See `ports.sink.Sink`. The only files it makes are its own, readable by its user alone."""

    def __init__(self, config: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
        if secrets:
            raise InvalidInput([FieldProblem("secrets", "config", "a folder has none")])
        path = Path(read(config, FileConfig, "config").path)
        if not path.is_absolute():
            raise InvalidInput([FieldProblem("config.path", "config", "expected a whole path")])
        self._home = path

    async def send(self, parcel: Parcel, *, now: datetime) -> Outcome:
        """Write the delivery's file; the same one again changes nothing."""
        refused = opened(parcel)
        if isinstance(refused, Outcome):
            return refused
        if not _ID.fullmatch(parcel.message_id):
            return Outcome(Kind.PERMANENT, "name")
        day = parcel.occurred_at.astimezone(UTC).date().isoformat()
        # Of a path that an id decides nothing but a name may come.
        place = self._home / day / f"{parcel.message_id}.json"
        try:
            await asyncio.to_thread(write_whole, place, parcel.body + b"\n")
        except OSError as error:
            return Outcome(Kind.RETRY, f"os_{error.errno}")
        return Outcome(Kind.DELIVERED, "written", remote_ref=f"{day}/{parcel.message_id}.json")

    async def aclose(self) -> None:
        """Nothing is kept open."""


def write_whole(place: Path, body: bytes) -> None:
    """Put *body* at *place*: all of it or nothing, and still there after a power cut."""
    for folder in (place.parent.parent, place.parent):
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(folder.parent)
    handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".", suffix=".part")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(place)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    _sync(place.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def compact(home: Path) -> dict[str, int]:
    """
    Make `trades-YYYY-MM-DD.jsonl` of each day's files: one line a delivery, tests left out.

    Made anew from the files at each call, whole or not at all; how many lines each has.
    """
    made: dict[str, int] = {}
    for folder in sorted(one for one in home.iterdir() if _DAY.fullmatch(one.name)):
        lines = [body for file in sorted(folder.glob("*.json")) if (body := _line(file))]
        if lines:
            place = home / f"trades-{folder.name}.jsonl"
            write_whole(place, b"\n".join(lines) + b"\n")
            made[place.name] = len(lines)
    return made


def _line(file: Path) -> bytes | None:
    body = file.read_bytes().rstrip(b"\n")
    envelope: Envelope = require(body)[0]
    return None if envelope.type == "trade.test" else body
