"""Where a page ended, as opaque text: the sort key of its last row. Pure."""

import base64
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from onefold.errors import FieldProblem, InvalidInput

T = TypeVar("T", bound=tuple[Any, ...])


def encode_cursor(key: tuple[Any, ...]) -> str:
    """Text that `decode_cursor` turns back into *key*: instants in UTC, UUIDs, numbers, text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(text: str, shape: type[T]) -> T:
    """
    The sort key in *text*.

    Args:
        text: What `encode_cursor` gave; it comes back from outside and is not trusted.
        shape: The key's type, such as `tuple[datetime, UUID]`.

    Raises:
        InvalidInput: it is not one of ours.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        key: T = msgspec.json.decode(base64.urlsafe_b64decode(padded.encode()), type=shape)
    except ValueError:
        raise InvalidInput([_NOT_OURS]) from None
    # A forged one without offset, or beyond year 9999 in UTC, would fail in the database.
    if any(isinstance(part, datetime) and part.utcoffset() != timedelta(0) for part in key):
        raise InvalidInput([_NOT_OURS])
    return key


_NOT_OURS = FieldProblem(
    "cursor", "cursor", "not a cursor of this list; take `next_cursor` of the previous page"
)
