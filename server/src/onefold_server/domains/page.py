"""One page of a list, in every domain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """Some rows of a list; `next_cursor` is None at its end."""

    rows: Sequence[T]
    next_cursor: str | None
