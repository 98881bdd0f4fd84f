"""Where a page ended, as opaque text: the sort key of its last row. Pure."""

import base64
from typing import Any, TypeVar

import msgspec

from onefold.errors import FieldProblem, InvalidInput

T = TypeVar("T")


def encode_cursor(key: tuple[Any, ...]) -> str:
    """Text that `decode_cursor` turns back into *key*: instants, UUIDs, numbers, text."""
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
        return msgspec.json.decode(base64.urlsafe_b64decode(padded.encode()), type=shape)
    except (ValueError, UnicodeError) as error:
        reason = "not a cursor of this list; take `next_cursor` of the previous page"
        raise InvalidInput([FieldProblem("cursor", "cursor", reason)]) from error
