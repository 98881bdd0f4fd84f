"""Start, update and complete learning sessions from an async program."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from onefold.core.ids import new_event_id
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.learning.sessions.rules import Change, Session
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

__all__ = [
    "Learning",
    "Session",
    "complete_learning_session",
    "open_learning",
    "start_learning_session",
    "update_learning_session",
]


@dataclass(frozen=True)
class Learning:
    """An open database and the school in it that sessions belong to."""

    onefold: Installation
    caller: Principal


@asynccontextmanager
async def open_learning(
    database_url: str | None = None, *, school: str | None = None
) -> AsyncIterator[Learning]:
    """
    Open the database that is set, or *database_url*, for the block.

    Args:
        database_url: `sqlite:///file.db` or `postgresql://…`; `ONEFOLD_DATABASE_URL` without.
        school: Its id or name; not needed while there is only one.

    Raises:
        NotFound: there is no such school (`onefold school create`).
        InvalidInput: there are several and none was named.
    """
    given = {"database_url": database_url} if database_url else {}
    onefold = build(Settings.load(**given))
    try:
        await onefold.prepare()
        school_id = await onefold.directory.find_school(school)
        yield Learning(onefold, Principal.local(school_id))
    finally:
        await onefold.aclose()


async def start_learning_session(
    learning: Learning,
    student_id: UUID,
    session_type: str,
    language: str,
    *,
    source_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    session_id: UUID | None = None,
) -> Session:
    """Begin a session; see `SessionService.start` for arguments and errors."""
    return await learning.onefold.learning.sessions.start(
        learning.caller,
        student_id,
        session_type,
        language,
        source_id=source_id,
        metadata=metadata,
        session_id=session_id,
    )


async def update_learning_session(
    learning: Learning,
    session_id: UUID,
    *,
    add: Mapping[str, int] | None = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 (the change's own word)
    metadata: dict[str, Any] | None = None,
    expected_version: int | None = None,
    correction: bool = False,
    change_id: UUID | None = None,
) -> Session:
    """
    Move counters and merge metadata; see `SessionService.change`.

    Give a `change_id` where the call may be repeated: it counts once. Without one, each
    call is a change of its own.
    """
    onefold = learning.onefold
    change = Change(
        id=change_id or new_event_id(onefold.clock.now(), secrets.token_bytes),
        add=dict(add or {}),
        set=dict(set or {}),
        metadata=metadata or {},
        expected_version=expected_version,
        correction=correction,
    )
    return await onefold.learning.sessions.change(learning.caller, session_id, change)


async def complete_learning_session(learning: Learning, session_id: UUID) -> Session:
    """End a session; again answers the first result. See `SessionService.complete`."""
    return await learning.onefold.learning.sessions.complete(learning.caller, session_id)
