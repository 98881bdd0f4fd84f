"""The queries of content, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, delete, func, select, text, update

from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.learning.content.rules import LOOKED_THROUGH, fts5_query, tsquery
from onefold_server.domains.learning.content.tables import content, materials, topics
from onefold_server.domains.learning.paging import PagePosition, newest, page_size

_HIDDEN: Final = {"content_hash", "search_id", "title_words", "body_words"}
_SHOWN: Final = [c for c in content.c if c.name not in _HIDDEN]
_LISTED: Final = [c for c in _SHOWN if c.name != "body"]
_MOVING: Final = (
    "kind", "title", "language", "source_url", "body", "changed_at", "title_words", "body_words",
)  # fmt: skip

# What differs between the databases, and nothing else does: how an index is asked.
_FOUND: Final = {
    "sqlite": "learning_content.search_id IN (SELECT rowid FROM learning_content_search"
    " WHERE learning_content_search MATCH :anywhere)",
    "postgresql": "to_tsvector('simple', learning_content.title_words || ' ' ||"
    " learning_content.body_words) @@ to_tsquery('simple', :anywhere)",
}
_IN_TITLE: Final = {
    "sqlite": "learning_content.search_id IN (SELECT rowid FROM learning_content_search"
    " WHERE learning_content_search MATCH :in_title)",
    "postgresql": "to_tsvector('simple', learning_content.title_words)"
    " @@ to_tsquery('simple', :in_title)",
}


async def save(tx: Transaction, row: Mapping[str, Any]) -> bool:
    """Insert content, or bring what is there up to date; whether it is new."""
    if await tx.insert_new(content, [row]):
        return True
    mine = (content.c.school_id == row["school_id"]) & (content.c.id == row["id"])
    await tx.execute(update(content).where(mine).values({name: row[name] for name in _MOVING}))
    return False


async def set_topics(
    tx: Transaction, school_id: UUID, content_id: UUID, named: Sequence[str]
) -> None:
    """Let the content have these topics and no others."""
    mine = (topics.c.school_id == school_id) & (topics.c.content_id == content_id)
    await tx.execute(delete(topics).where(mine, topics.c.topic.not_in(named)))
    rows = [{"school_id": school_id, "content_id": content_id, "topic": t} for t in named]
    await tx.insert_new(topics, rows)


async def save_materials(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert materials; those that are there are replaced."""
    new = await tx.insert_new(materials, rows)
    for row in rows:
        if (row["school_id"], row["id"]) not in new:
            mine = (materials.c.school_id == row["school_id"]) & (materials.c.id == row["id"])
            changed = {"body": row["body"], "changed_at": row["changed_at"]}
            await tx.execute(update(materials).where(mine).values(changed))


async def get(tx: Transaction, school_id: UUID, content_id: UUID) -> Row | None:
    """One content with its whole text."""
    query = select(*_SHOWN).where(content.c.school_id == school_id, content.c.id == content_id)
    return row_of(await tx.execute(query))


async def topics_of(
    tx: Transaction, school_id: UUID, content_ids: Sequence[UUID]
) -> dict[UUID, list[str]]:
    """The topics of each content, in alphabetical order."""
    query = select(topics.c.content_id, topics.c.topic).where(
        topics.c.school_id == school_id, topics.c.content_id.in_(content_ids)
    )
    found: dict[UUID, list[str]] = {id_: [] for id_ in content_ids}
    for row in await tx.execute(query.order_by(topics.c.topic)):
        found[row.content_id].append(row.topic)
    return found


async def materials_of(tx: Transaction, school_id: UUID, content_id: UUID) -> Sequence[Row]:
    """The materials of one content, by kind and title."""
    query = select(materials).where(
        materials.c.school_id == school_id, materials.c.content_id == content_id
    )
    return rows_of(await tx.execute(query.order_by(materials.c.kind, materials.c.title)))


def _narrowed(
    query: Select[Any],
    school_id: UUID,
    *,
    student_id: UUID | None,
    kind: str | None,
    language: str | None,
    topic: str | None,
) -> Select[Any]:
    query = query.where(content.c.school_id == school_id)
    asked = {"student_id": student_id, "kind": kind, "language": language}
    for name, value in asked.items():
        if value is not None:
            query = query.where(content.c[name] == value)
    if topic is not None:
        having = select(topics.c.content_id).where(
            topics.c.school_id == school_id, topics.c.topic == topic
        )
        query = query.where(content.c.id.in_(having))
    return query


async def page(
    tx: Transaction, school_id: UUID, *, after: PagePosition | None, limit: int, **filters: Any
) -> Sequence[Row]:
    """Content that matches, without its text, the newest first, one more than *limit*."""
    query = _narrowed(select(*_LISTED), school_id, **filters)
    return rows_of(
        await tx.execute(
            newest(query, content.c.created_at, content.c.id, after=after, limit=limit)
        )
    )


async def search(
    tx: Transaction,
    school_id: UUID,
    asked: list[list[str]],
    *,
    skip: int,
    limit: int,
    **filters: Any,
) -> Sequence[Row]:
    """Content that holds every word, with its beginning: hits in titles first, then the newest."""
    dialect = tx.features.name
    if dialect == "sqlite":
        words = {"anywhere": fts5_query(asked), "in_title": fts5_query(asked, "title_words")}
    else:
        words = {"anywhere": tsquery(asked), "in_title": tsquery(asked)}
    beginning = func.substr(content.c.body, 1, LOOKED_THROUGH).label("body")
    query = _narrowed(select(*_LISTED, beginning), school_id, **filters)
    query = query.where(text(_FOUND[dialect]).bindparams(anywhere=words["anywhere"])).order_by(
        text(f"CASE WHEN {_IN_TITLE[dialect]} THEN 0 ELSE 1 END").bindparams(
            in_title=words["in_title"]
        ),
        content.c.created_at.desc(),
        content.c.id.desc(),
    )
    return rows_of(await tx.execute(query.offset(skip).limit(page_size(limit) + 1)))


async def remove(tx: Transaction, school_id: UUID, content_id: UUID) -> None:
    """Delete content; its topics and materials go along."""
    mine = (content.c.school_id == school_id) & (content.c.id == content_id)
    await tx.execute(delete(content).where(mine))


async def counts(tx: Transaction, school_id: UUID, student_id: UUID) -> tuple[Sequence[Row], int]:
    """A learner's contents by kind and language, and how many materials they have."""
    mine = (content.c.school_id == school_id) & (content.c.student_id == student_id)
    by_kind = (
        select(
            content.c.kind,
            content.c.language,
            func.count().label("n"),
            func.sum(content.c.word_count).label("words"),
        )
        .where(mine)
        .group_by(content.c.kind, content.c.language)
        .order_by(content.c.kind, content.c.language)
    )
    made = (
        select(func.count())
        .select_from(materials)
        .where(
            materials.c.school_id == school_id,
            materials.c.content_id.in_(select(content.c.id).where(mine)),
        )
    )
    return rows_of(await tx.execute(by_kind)), (await tx.execute(made)).scalar_one()
