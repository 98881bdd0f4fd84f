"""The use cases of content: one call, one transaction."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import Meta

from onefold.core.clock import Clock
from onefold.core.cursor import decode_cursor, encode_cursor
from onefold.errors import NotFound
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.learning.content import rules, store
from onefold_server.domains.learning.content.rules import ContentKind, Given
from onefold_server.domains.learning.paging import PagePosition, page, read_place
from onefold_server.domains.learning.people import require_learner, require_visible
from onefold_server.domains.learning.values import MAX_COUNT, check_language
from onefold_server.domains.page import Page


class _Skipped(NamedTuple):
    """Where a page of hits ended: how many stand before the next one."""

    rows: Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class ContentService:
    """What learners study and what is made of it, within a caller's school."""

    def __init__(self, uow: UnitOfWork, *, clock: Clock) -> None:
        self._uow, self._clock = uow, clock

    async def save(self, caller: Principal, student_id: UUID, given: Given) -> Row:
        """
        Save content with its topics and materials; the same text is saved once a learner.

        Saved again, its title, kind, language, source and topics become those given, its
        materials are added or replaced by kind and title, and its id stays.

        Returns:
            The content as `get` gives it, with `created`: whether it is new.

        Raises:
            InvalidInput: naming the wrong field. Nothing was recorded.
            NotFound: no such learner for this caller.
        """
        caller.require(Scope.LEARNING_WRITE)
        checked = rules.check_content(given)
        now = self._clock.now()
        row = rules.content_row(caller.school_id, student_id, checked, now=now)
        made = {
            rules.material_id(row["id"], material): {
                "school_id": caller.school_id,
                "id": rules.material_id(row["id"], material),
                "content_id": row["id"],
                "kind": material.kind.value,
                "title": material.title,
                "body": material.body,
                "created_at": now,
                "changed_at": now,
            }
            for material in checked.materials
        }

        async def work(tx: Transaction) -> Row:
            await require_learner(tx, caller, student_id, now=now)
            created = await store.save(tx, row)
            await store.set_topics(tx, caller.school_id, row["id"], checked.topics)
            await store.save_materials(tx, list(made.values()))
            return await _whole(tx, caller, row["id"]) | {"created": created}

        return await in_transaction(self._uow, work)

    async def get(self, caller: Principal, content_id: UUID) -> Row:
        """
        One content with its text, topics and materials.

        Raises:
            NotFound: no such content for this caller.
        """
        caller.require(Scope.LEARNING_READ)
        async with self._uow.read() as tx:
            return await _whole(tx, caller, content_id)

    async def contents(
        self,
        caller: Principal,
        *,
        student_id: UUID | None = None,
        kind: ContentKind | None = None,
        language: str | None = None,
        topic: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Row]:
        """A page of content without its text, the newest first. Raises as `search`."""
        filters = _filters(caller, student_id, kind, language, topic)
        async with self._uow.read() as tx:
            found = await store.page(
                tx, caller.school_id, after=read_place(cursor), limit=limit, **filters
            )
            rows = await _with_topics(tx, caller.school_id, found)
        return page(rows, [PagePosition(row["created_at"], row["id"]) for row in rows], limit)

    async def search(
        self,
        caller: Principal,
        query: str,
        *,
        student_id: UUID | None = None,
        kind: ContentKind | None = None,
        language: str | None = None,
        topic: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Row]:
        """
        Content that holds every word of *query*; see `rules` for what that means.

        Returns:
            Rows with an `excerpt` in place of the text: around the first hit within its
            first 8,000 characters, else its beginning.

        Raises:
            NotFound: content of this learner does not exist for this caller.
            InvalidInput: no words, a wrong language, cursor or limit.
        """
        filters = _filters(caller, student_id, kind, language, topic)
        asked = rules.check_query(query)
        skip = decode_cursor(cursor, _Skipped).rows if cursor else 0
        async with self._uow.read() as tx:
            found = await store.search(
                tx, caller.school_id, asked, skip=skip, limit=limit, **filters
            )
            rows = await _with_topics(tx, caller.school_id, found[:limit])
        for row in rows:
            row["excerpt"] = rules.excerpt(row.pop("body"), asked)
        more = encode_cursor(_Skipped(skip + limit)) if len(found) > limit else None
        return Page(rows=rows, next_cursor=more)

    async def delete(self, caller: Principal, content_id: UUID) -> None:
        """
        Delete content; its topics and materials go along.

        Raises:
            NotFound: no such content for this caller.
        """
        caller.require(Scope.LEARNING_WRITE)

        async def work(tx: Transaction) -> None:
            await _whole(tx, caller, content_id)
            await store.remove(tx, caller.school_id, content_id)

        await in_transaction(self._uow, work)

    async def statistics(self, caller: Principal, student_id: UUID) -> dict[str, Any]:
        """
        How much a learner has saved, by kind and language; zeros when nothing.

        Raises:
            NotFound: content of this learner does not exist for this caller.
        """
        caller.require(Scope.LEARNING_READ)
        require_visible(caller, student_id)
        async with self._uow.read() as tx:
            return rules.statistics(*await store.counts(tx, caller.school_id, student_id))


def _filters(
    caller: Principal,
    student_id: UUID | None,
    kind: ContentKind | None,
    language: str | None,
    topic: str | None,
) -> dict[str, Any]:
    caller.require(Scope.LEARNING_READ)
    if student_id is not None:
        require_visible(caller, student_id)
    return {
        "student_id": student_id or caller.student_id,
        "kind": kind.value if kind else None,
        "language": check_language(language) if language is not None else None,
        "topic": rules.check_topic(topic, "topic") if topic is not None else None,
    }


async def _with_topics(
    tx: Transaction, school_id: UUID, rows: Sequence[Mapping[str, Any]]
) -> list[Row]:
    named = await store.topics_of(tx, school_id, [row["id"] for row in rows])
    return [dict(row) | {"topics": named[row["id"]]} for row in rows]


async def _whole(tx: Transaction, caller: Principal, content_id: UUID) -> Row:
    found = await store.get(tx, caller.school_id, content_id)
    if found is None or not caller.may_see(found["student_id"]):
        raise NotFound("content", str(content_id))
    (row,) = await _with_topics(tx, caller.school_id, [found])
    made = await store.materials_of(tx, caller.school_id, content_id)
    hidden = ("school_id", "content_id")
    shown = [{name: m[name] for name in m if name not in hidden} for m in made]
    return row | {"materials": shown}
