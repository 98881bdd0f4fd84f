"""Start, update and complete learning sessions from a program without an event loop."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from onefold_server.embed.learning import aio
from onefold_server.embed.learning.aio import Session

__all__ = [
    "Session",
    "SyncLearning",
    "complete_learning_session",
    "open_learning",
    "start_learning_session",
    "update_learning_session",
]

T = TypeVar("T")


class SyncLearning:
    """An open database with an event loop of its own, in a thread. Any thread may use it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.opened: aio.Learning

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """What *call* returns or raises; blocks the calling thread alone."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


@contextmanager
def open_learning(
    database_url: str | None = None, *, school: str | None = None
) -> Iterator[SyncLearning]:
    """Open a database for the block; see `aio.open_learning`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="onefold learning", daemon=True)
    thread.start()
    learning = SyncLearning(loop)
    context = aio.open_learning(database_url, school=school)
    try:
        learning.opened = learning.run(context.__aenter__())
        try:
            yield learning
        finally:
            learning.run(context.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def start_learning_session(
    learning: SyncLearning,
    student_id: UUID,
    session_type: str,
    language: str,
    *,
    source_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    session_id: UUID | None = None,
) -> Session:
    """Begin a session; see `SessionService.start` for arguments and errors."""
    return learning.run(
        aio.start_learning_session(
            learning.opened,
            student_id,
            session_type,
            language,
            source_id=source_id,
            metadata=metadata,
            session_id=session_id,
        )
    )


def update_learning_session(
    learning: SyncLearning,
    session_id: UUID,
    *,
    add: Mapping[str, int] | None = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 (the change's own word)
    metadata: dict[str, Any] | None = None,
    expected_version: int | None = None,
    correction: bool = False,
    change_id: UUID | None = None,
) -> Session:
    """Move counters and merge metadata; see `aio.update_learning_session`."""
    return learning.run(
        aio.update_learning_session(
            learning.opened,
            session_id,
            add=add,
            set=set,
            metadata=metadata,
            expected_version=expected_version,
            correction=correction,
            change_id=change_id,
        )
    )


def complete_learning_session(learning: SyncLearning, session_id: UUID) -> Session:
    """End a session; again answers the first result. See `SessionService.complete`."""
    return learning.run(aio.complete_learning_session(learning.opened, session_id))
