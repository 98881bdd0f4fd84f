"""The rejects file: each row that does not count, and why. A run replaces the one before."""

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import msgspec

from onefold.errors import InvalidInput
from onefold_server.cli.ingest.spec import wrong

DEFAULT: Final = Path("rejects.jsonl")


class Reject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A line of the file.

    Attributes:
        source: The name of the file the row came from.
        row: The line on which it begins.
        code: Stable: what is wrong.
        reason: For people.
        raw: The row as it stands there.
    """

    source: str
    row: int
    code: str
    reason: str
    raw: str


class Rejects:
    """
    Writes rejects to *path*, which is there only when a row was rejected.

    Entering takes away what an earlier run left there; a file that is something else is
    left alone.

    Raises:
        InvalidInput: on entering: *path* is no rejects file, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.codes: Counter[str] = Counter()
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Rejects":
        try:
            if self.path.exists():
                _require_ours(self.path)
                self.path.unlink()
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, rejects: list[Reject]) -> None:
        """Write *rejects*; they are in the file when this returns."""
        if not rejects:
            return
        if self._file is None:
            try:
                self._file = self.path.open("wb")
            except OSError as error:
                raise _unwritable(self.path, error) from None
        self._file.writelines(msgspec.json.encode(reject) + b"\n" for reject in rejects)
        self._file.flush()
        self.codes.update(reject.code for reject in rejects)


def _require_ours(path: Path) -> None:
    with path.open("rb") as file:
        first = file.readline()
    try:
        msgspec.json.decode(first, type=Reject)
    except (msgspec.DecodeError, UnicodeError):
        if first:  # an empty one was begun by a run that was killed
            reason = "is there and is no rejects file; name another with --rejects"
            raise wrong(str(path), reason) from None


def _unwritable(path: Path, error: OSError) -> InvalidInput:
    return wrong(str(path), f"cannot be written: {error.strerror}; name another with --rejects")
