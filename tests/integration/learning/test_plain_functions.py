"""The plain functions for embedding, sync and async."""

from uuid import uuid4

import pytest

from onefold.errors import NotFound
from onefold_server.embed.learning import aio, sync
from onefold_server.installation import build
from onefold_server.settings import Settings


async def _school(url: str) -> None:
    onefold = build(Settings.load(database_url=url))
    await onefold.directory.create_school("Embedded", auto_enrol=True)
    await onefold.aclose()


def test_sessions_are_kept_without_an_event_loop(sqlite_url: str) -> None:
    """Start, update and complete block their caller and answer what was committed."""
    import asyncio

    asyncio.run(_school(sqlite_url))
    with sync.open_learning(sqlite_url, school="Embedded") as learning:
        begun = sync.start_learning_session(learning, uuid4(), "conversation", "es")
        once = uuid4()
        for _ in range(2):
            sync.update_learning_session(
                learning, begun.id, add={"items_correct": 4}, change_id=once
            )
        sync.update_learning_session(learning, begun.id, add={"items_incorrect": 1})
        done = sync.complete_learning_session(learning, begun.id)

        with pytest.raises(NotFound):
            sync.complete_learning_session(learning, uuid4())

    assert (done.accuracy_rate, done.version) == (0.8, 4)


async def test_sessions_are_kept_from_an_async_program(sqlite_url: str) -> None:
    """The async functions do the same, over the very same database."""
    await _school(sqlite_url)
    async with aio.open_learning(sqlite_url) as learning:
        begun = await aio.start_learning_session(
            learning, uuid4(), "content_study", "fr", source_id="page 3", metadata={"a": 1}
        )
        changed = await aio.update_learning_session(
            learning,
            begun.id,
            set={"items_studied": 3},
            expected_version=begun.version,
            metadata={"a": None, "b": 2},
        )
        done = await aio.complete_learning_session(learning, begun.id)

    assert (changed.items_studied, done.metadata) == (3, {"b": 2})
