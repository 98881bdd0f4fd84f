"""
A program that writes files by the file sink, and dies at each of its calls of the system.

For each death a child is forked, which sends one parcel and is killed by SIGKILL before or
after its n-th such call. Prints what each left, as a line of JSON. With `many` it sends three
in one call; with `straight` the sink is a twin that writes straight to the file's place.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from onefold.adapters.sinks import file
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome
from onefold.testing.contracts.sinks import NOON, parcel

CALLS = {"mkdir", "open", "write", "flush", "fsync", "close", "replace", "rename", "__exit__"}


class Straight(file.FileSink):
    """Twin: half a file is there while it is written."""

    def __init__(self, config: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
        super().__init__(config, secrets)
        self._place = Path(config["path"])

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        await asyncio.to_thread(self._straight, parcel)
        return SendOutcome(OutcomeKind.DELIVERED, "written")

    def _straight(self, parcel: Parcel) -> None:
        self._place.mkdir(parents=True, exist_ok=True)
        with (self._place / f"{parcel.message_id}.json").open("wb", buffering=0) as place:
            place.write(parcel.body)
            place.write(b"\n")


class Deadly:
    """A profile function that counts the sink's calls of the system, and kills at one."""

    def __init__(self, fatal: int, pipe: int) -> None:
        self._fatal, self._pipe, self._calls = fatal, pipe, 0

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        if event not in {"c_call", "c_return"} or called.__name__ not in CALLS:
            return
        if not _of_the_sink(frame):
            return
        self._calls += 1
        if self._calls == self._fatal:
            moment = "before" if event == "c_call" else "after"
            os.write(self._pipe, f"{called.__name__}#{self._calls}:{moment}".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def _of_the_sink(frame: FrameType | None) -> bool:
    """Whether a sink's module called, itself or by the standard library."""
    while frame is not None:
        if frame.f_code.co_filename in {file.__file__, __file__}:
            return frame.f_code.co_name != "__call__"
        frame = frame.f_back
    return False


def send(kind: type[file.FileSink], home: Path, count: int = 1) -> bool:
    """Deliver so many parcels in one call of a sink of its own."""

    async def sent() -> bool:
        sink = kind({"path": str(home)}, {})
        if count == 1:
            return (await sink.send(parcel(), now=NOON)).kind is OutcomeKind.DELIVERED
        outcomes = await sink.send_many([parcel(n) for n in range(count)], now=NOON)
        return {one.kind for one in outcomes} == {OutcomeKind.DELIVERED}

    return asyncio.run(sent())


def dies(kind: type[file.FileSink], home: Path, fatal: int, count: int) -> str:
    """The name of the death of a child that sends; empty when it lived."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        deadly = Deadly(fatal, writing)
        threading.setprofile(deadly)  # the sink writes in a thread
        os._exit(0 if send(kind, home, count) else 1)
    os.close(writing)
    with os.fdopen(reading) as told:
        name = told.read()
    _, status = os.waitpid(child, 0)
    assert name or status == 0, status
    return name


def left(home: Path) -> list[str]:
    """What stands where readers look."""
    return sorted(one.read_text() for one in home.rglob("*.json"))


def main(folder: Path, kind: type[file.FileSink], count: int) -> None:
    """Die everywhere, each time over a folder of its own."""
    fatal = 1
    while True:
        home = folder / str(fatal)
        name = dies(kind, home, fatal, count)
        after = left(home)
        again = send(kind, home, count)
        print(json.dumps({"death": name, "left": after, "again": again, "then": left(home)}))  # noqa: T201 (a program)
        if not name:
            return
        fatal += 1


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Straight if "straight" in sys.argv else file.FileSink,
        3 if "many" in sys.argv else 1,
    )
