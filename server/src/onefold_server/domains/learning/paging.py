"""Pages of a list: newest first, each ending where the next begins."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, literal, tuple_

from onefold.core.cursor import decode_cursor, encode_cursor
from onefold.ports.tables import Instant
from onefold_server.domains.learning.values import wrong
from onefold_server.domains.page import Page

T = TypeVar("T")
MAX_PAGE: Final = 1000  # rows


class PagePosition(NamedTuple):
    """Where a page ended."""

    at: datetime
    id: UUID


def read_place(cursor: str | None) -> PagePosition | None:
    """The place that *cursor* names; `InvalidInput` when it is not one of ours."""
    return decode_cursor(cursor, PagePosition) if cursor else None


def page_size(limit: int) -> int:
    """*limit*, when it is 1 to 1000 rows; else `InvalidInput`."""
    if not 1 <= limit <= MAX_PAGE:
        raise wrong("limit", "bounds", f"expected 1 to {MAX_PAGE}")
    return limit


def newest(
    query: Select[Any],
    at: ColumnElement[Any],
    id_: ColumnElement[Any],
    *,
    after: PagePosition | None,
    limit: int,
) -> Select[Any]:
    """*query* from *after* on, the newest first, one row more than *limit*."""
    if after is not None:
        place = tuple_(literal(after.at, Instant), literal(after.id, Uuid))
        query = query.where(tuple_(at, id_) < place)
    return query.order_by(at.desc(), id_.desc()).limit(page_size(limit) + 1)


def page(rows: Sequence[T], places: Sequence[PagePosition], limit: int) -> Page[T]:
    """The page of *rows*, of which one more than *limit* was asked for."""
    more = len(rows) > limit
    return Page(rows=rows[:limit], next_cursor=encode_cursor(places[limit - 1]) if more else None)
