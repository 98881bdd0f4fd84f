"""
One file a delivery, named by its id: delivering it again writes the same file again.

Written beside its place, synced, renamed, and the folder synced: at every instant the file
is not there or whole, whatever dies. `compact` makes the daily files that people read.
"""

import os
import re
import secrets as secrets_
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from onefold.adapters.sinks.reading import opened, read
from onefold.adapters.sinks.threads import Threads
from onefold.core.fields import text_flaw
from onefold.core.published import Envelope, require
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_PART: Final = ".part"
_LONGEST: Final = 255  # bytes of a path: so any part of it is a name that a file system takes
_LEFT_S: Final = 3600.0  # no writer takes so long: what is older is of one that died


class FileConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to write: below the operator's folder, when there is one."""

    path: str


class FileSink:
    """
    See `ports.sink.SinkOfMany`. The only files it makes are its own, readable by its user alone.

    Args:
        config: `path`, a folder.
        secrets: None.
        folder: Below which *path* must be, and is named from; made when it is missing. Without
            one, *path* is a whole path: for those who make a sink in code of their own.
    """

    most_at_once = 100  # at 10 ms for a file's sync, a second

    def __init__(
        self,
        config: Mapping[str, Any],
        secrets: Mapping[str, Any],
        *,
        folder: Path | None = None,
    ) -> None:
        if secrets:
            raise InvalidInput([FieldProblem("secrets", "config", "a folder has none")])
        path = Path(read(config, FileConfig, "config").path)
        self._threads = Threads("file")
        self._below: tuple[str, ...] = ()
        if folder is None:
            if not path.is_absolute():
                raise _refused("expected a whole path")
            self._base = path
            return
        self._base, self._below = folder.absolute(), _below(path)
        place = self._base
        for part in self._below:
            place /= part
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise _refused(f"{part} is not a folder, and links are not followed")

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """Write the delivery's file; the same one again changes nothing."""
        (outcome,) = await self.send_many([parcel], now=now)
        return outcome

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        """Write each delivery's file, and sync each day's folder once for all of its files."""
        del now
        refused = {n: why for n, one in enumerate(parcels) if (why := _refusal(one)) is not None}
        days: dict[str, list[tuple[int, str, bytes]]] = {}
        for number, one in enumerate(parcels):
            if number not in refused:
                day = one.occurred_at.astimezone(UTC).date().isoformat()
                # Of a path that an id decides nothing but a name may come.
                file = number, f"{one.message_id}.json", one.body + b"\n"
                days.setdefault(day, []).append(file)
        try:
            written = await self._threads.run(self._write, days) if days else {}
        except TimeoutError:
            written = {}
        late = SendOutcome(OutcomeKind.RETRY, "timeout")
        return [refused.get(n) or written.get(n, late) for n in range(len(parcels))]

    def _write(
        self, days: Mapping[str, Sequence[tuple[int, str, bytes]]]
    ) -> dict[int, SendOutcome]:
        """What became of each file, by its number."""
        outcomes: dict[int, SendOutcome] = {}
        for day, files in days.items():
            try:
                with _folder(self._base, (*self._below, day)) as folder:
                    outcomes |= _written(folder, day, files)
            except OSError as error:  # what is in the folder is not known to outlast a power cut
                outcomes |= {number: _failed(error) for number, _, _ in files}
        return outcomes

    async def aclose(self) -> None:
        """Nothing is kept open."""


def _refusal(parcel: Parcel) -> SendOutcome | None:
    found = opened(parcel)
    if isinstance(found, SendOutcome):
        return found
    return None if _ID.fullmatch(parcel.message_id) else SendOutcome(OutcomeKind.PERMANENT, "name")


def _failed(error: OSError) -> SendOutcome:
    return SendOutcome(OutcomeKind.RETRY, f"os_{error.errno}")


def _written(
    folder: int, day: str, files: Sequence[tuple[int, str, bytes]]
) -> dict[int, SendOutcome]:
    """Put *files* into an open folder; one that fails is its own affair."""
    outcomes: dict[int, SendOutcome] = {}
    for number, name, body in files:
        try:
            _put(folder, name, body)
        except OSError as error:
            outcomes[number] = _failed(error)
        else:
            outcomes[number] = SendOutcome(
                OutcomeKind.DELIVERED, "written", remote_ref=f"{day}/{name}"
            )
    os.fsync(folder)
    return outcomes


def _refused(reason: str) -> InvalidInput:
    return InvalidInput([FieldProblem("config.path", "config", reason)])


def _below(path: Path) -> tuple[str, ...]:
    """The parts of a path that leads nowhere but down."""
    if path.is_absolute() or not path.parts:
        raise _refused("expected a folder below ONEFOLD_TRACE_FOLDER, such as journal")
    if ".." in path.parts or "\0" in str(path):
        raise _refused("must not lead out of ONEFOLD_TRACE_FOLDER")
    if text_flaw(str(path)) or len(os.fsencode(path)) > _LONGEST:
        raise _refused(f"expected at most {_LONGEST} bytes of Unicode")
    return path.parts


@contextmanager
def _folder(base: Path, below: Sequence[str]) -> Iterator[int]:
    """
    A handle of the folder *below* base, made where it is missing, for the block.

    Each part is opened from the one above it and no link is followed, so that nobody who can
    write below *base* leads a later write out of it.
    """
    _made(base)
    handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in below:
            with suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=handle)
                os.fsync(handle)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            inner = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _made(base: Path) -> None:
    """Make the folders of *base* that are missing, each for its user alone."""
    missing = [one for one in (base, *base.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(one.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(folder: int, name: str, body: bytes) -> None:
    """Put *body* into an open folder: all of it or nothing, and still there after a power cut."""
    _put(folder, name, body)
    os.fsync(folder)


def _put(folder: int, name: str, body: bytes) -> None:
    """The same, until a power cut: whoever calls syncs the folder."""
    temporary = f".{secrets_.token_hex(8)}{_PART}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    handle = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def compact(home: Path, *, now: datetime) -> dict[str, int]:
    """
    Make `trades-YYYY-MM-DD.jsonl` of each day's files: one line a delivery, tests left out.

    Made anew from the files at each call, whole or not at all; how many lines each has. What a
    writer that died an hour ago or longer left half written is removed.

    Raises:
        InvalidInput: there is no such folder, a file in it is no delivery, or it cannot be read
            or written; the days before it are made.
    """
    if not home.is_dir():
        raise InvalidInput([FieldProblem("folder", "folder", "there is no such folder")])
    try:
        return _compacted(home, now)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise InvalidInput([FieldProblem("folder", "folder", reason)]) from None


def _compacted(home: Path, now: datetime) -> dict[str, int]:
    made: dict[str, int] = {}
    for folder in sorted(one for one in home.iterdir() if _DAY.fullmatch(one.name)):
        _sweep(folder, before=now.timestamp() - _LEFT_S)
        lines = [body for file in sorted(folder.glob("*.json")) if (body := _line(file))]
        if lines:
            name = f"trades-{folder.name}.jsonl"
            with _folder(home, ()) as handle:
                write_whole(handle, name, b"\n".join(lines) + b"\n")
            made[name] = len(lines)
    return made


def _sweep(folder: Path, *, before: float) -> None:
    for left in folder.glob(f".*{_PART}"):
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < before:
                left.unlink()


def _line(file: Path) -> bytes | None:
    body = file.read_bytes().rstrip(b"\n")
    try:
        envelope: Envelope = require(body)[0]
    except InvalidInput:
        raise InvalidInput([FieldProblem(file.name, "folder", "is not a delivery")]) from None
    return None if envelope.type == "trade.test" else body
