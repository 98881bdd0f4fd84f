"""The queries of cards and reviews, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, bindparam, func, literal, select, tuple_, update

from onefold.ports.tables import Instant, Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.learning.paging import PagePosition, page_size
from onefold_server.domains.learning.reviews.scheduling import KNOWN_DAYS
from onefold_server.domains.learning.reviews.tables import cards, reviews

_MOVING = ("memory", "due_at", "strength_days", "reviews", "lapses", "met")


async def lock(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> dict[UUID, Row]:
    """Those of *ids* that exist, held until the commit, taken in their order."""
    query = (
        select(cards)
        .where(cards.c.school_id == school_id, cards.c.id.in_(ids))
        .order_by(cards.c.id)
        .with_for_update()
    )
    return {row["id"]: row for row in rows_of(await tx.execute(query))}


async def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> set[UUID]:
    """Insert the cards that are not there yet; the ids of those."""
    return {id_ for _, id_ in await tx.insert_new(cards, rows)}


async def save(tx: Transaction, changed: Iterable[Mapping[str, Any]]) -> None:
    """Write back cards that `lock` holds. One statement, whatever their number."""
    rows = [
        {"_school": card["school_id"], "_id": card["id"]}
        | {f"_{name}": card[name] for name in _MOVING}
        for card in changed
    ]
    if rows:
        mine = (cards.c.school_id == bindparam("_school")) & (cards.c.id == bindparam("_id"))
        moved: dict[str, Any] = {name: bindparam(f"_{name}") for name in _MOVING}
        await tx.execute(update(cards).where(mine).values(moved), rows)


async def review(tx: Transaction, school_id: UUID, review_id: UUID) -> Row | None:
    """One answer that was given."""
    query = select(reviews).where(reviews.c.school_id == school_id, reviews.c.id == review_id)
    return row_of(await tx.execute(query))


async def card(tx: Transaction, school_id: UUID, card_id: UUID) -> Row | None:
    """One card."""
    query = select(cards).where(cards.c.school_id == school_id, cards.c.id == card_id)
    return row_of(await tx.execute(query))


async def page(
    tx: Transaction,
    school_id: UUID,
    student_id: UUID,
    *,
    language: str | None,
    due_by: datetime | None,
    after: PagePosition | None,
    limit: int,
) -> Sequence[Row]:
    """A learner's cards, the longest due first, one more than *limit*."""
    query = select(cards).where(cards.c.school_id == school_id, cards.c.student_id == student_id)
    if language is not None:
        query = query.where(cards.c.language == language)
    if due_by is not None:
        query = query.where(cards.c.due_at <= due_by)
    if after is not None:
        place = tuple_(literal(after.at, Instant), literal(after.id, Uuid))
        query = query.where(tuple_(cards.c.due_at, cards.c.id) > place)
    ordered = query.order_by(cards.c.due_at, cards.c.id).limit(page_size(limit) + 1)
    return rows_of(await tx.execute(ordered))


async def all_cards(
    tx: Transaction, school_id: UUID, student_id: UUID, *, language: str | None = None
) -> Sequence[Row]:
    """All of a learner's cards, the oldest first."""
    query = select(cards).where(cards.c.school_id == school_id, cards.c.student_id == student_id)
    if language is not None:
        query = query.where(cards.c.language == language)
    return rows_of(await tx.execute(query.order_by(cards.c.created_at, cards.c.id)))


async def history(tx: Transaction, school_id: UUID, card_id: UUID) -> Sequence[Row]:
    """Every answer to a card, the newest first."""
    query = select(reviews).where(reviews.c.school_id == school_id, reviews.c.card_id == card_id)
    return rows_of(await tx.execute(query.order_by(reviews.c.at.desc(), reviews.c.id)))


async def answers(
    tx: Transaction, school_id: UUID, student_id: UUID, *, since: datetime | None = None
) -> Sequence[Row]:
    """A learner's answers, the earliest first."""
    query = select(reviews).where(
        reviews.c.school_id == school_id, reviews.c.student_id == student_id
    )
    if since is not None:
        query = query.where(reviews.c.at >= since)
    return rows_of(await tx.execute(query.order_by(reviews.c.at, reviews.c.id)))


async def due_times(
    tx: Transaction, school_id: UUID, student_id: UUID, *, language: str | None, before: datetime
) -> Sequence[datetime]:
    """When a learner's cards are due, as far as that is before *before*."""
    query = select(cards.c.due_at).where(
        cards.c.school_id == school_id, cards.c.student_id == student_id, cards.c.due_at < before
    )
    if language is not None:
        query = query.where(cards.c.language == language)
    return list((await tx.execute(query)).scalars())


async def word_counts(
    tx: Transaction, school_id: UUID, student_ids: Collection[UUID], *, now: datetime
) -> Sequence[Row]:
    """How many words each of these learners has met, knows and is due to review."""
    query = (
        select(
            cards.c.student_id,
            func.count().label("learnt"),
            func.count().filter(cards.c.strength_days >= KNOWN_DAYS).label("known"),
            func.count().filter(cards.c.due_at <= now).label("due"),
        )
        .where(cards.c.school_id == school_id, cards.c.student_id.in_(student_ids))
        .group_by(cards.c.student_id)
    )
    return rows_of(await tx.execute(query))
