"""Which fields of a decoded JSON object are wrong, all of them, and what would be right. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from onefold.errors import FieldProblem

Flaw = tuple[str, str]  # stable code, what is wrong or would be right
Expected = Mapping[str, Flaw]

_MAX_UNKNOWN: Final = 10  # unknown fields that are named; an answer is no echo of its request
_SHOWN: Final = 40  # characters of an unknown field's name


def wrong_fields(raw: Any, shape: type[msgspec.Struct], expected: Expected) -> list[FieldProblem]:
    """
    What keeps *raw* from being a *shape*: each field by itself, then the unknown ones.

    For the answer to a request that `msgspec.convert` has refused, which names one only.

    Args:
        raw: A decoded JSON value; anything may be in it.
        shape: A struct that forbids unknown fields.
        expected: For each field of *shape* the code and the words of its problem.
    """
    if not isinstance(raw, dict):
        return [FieldProblem("", "not_an_object", "expected a JSON object")]
    fields = {f.encode_name: f for f in msgspec.structs.fields(shape)}
    known = [_wrong_field(raw, field, expected[name]) for name, field in fields.items()]
    unknown = (name for name in raw if name not in fields)
    return [problem for problem in known if problem] + [
        FieldProblem(_printable(str(name)), "unknown_field", "is not known here")
        for name in islice(unknown, _MAX_UNKNOWN)
    ]


def _printable(name: str) -> str:
    """As much of a stranger's text as can be stored and shown anywhere."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name[:_SHOWN])


def _wrong_field(
    raw: Mapping[str, Any], field: msgspec.structs.FieldInfo, expected: Flaw
) -> FieldProblem | None:
    name = field.encode_name
    if name not in raw:
        return FieldProblem(name, "missing", "is required") if field.required else None
    try:
        msgspec.convert(raw[name], field.type)
    except ValueError:
        if expected[0] == "timestamp" and _is_naive(raw[name]):
            return FieldProblem(name, "naive_timestamp", "has no offset; add Z or +hh:mm")
        return FieldProblem(name, *expected)
    return None


def _is_naive(value: Any) -> bool:
    try:
        return msgspec.convert(value, datetime).tzinfo is None
    except ValueError:
        return False


def text_flaw(text: str) -> Flaw | None:
    """What keeps *text* from being stored by every database, or None."""
    if "\0" in text:
        return "nul_character", "holds the character U+0000, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not_unicode", "holds half of a surrogate pair, which is no character"
    return None


def list_problems(problems: Sequence[FieldProblem]) -> str:
    """All problems in one line, for a log or a rejects file."""
    return "; ".join(f"{p.field} {p.reason}".strip() for p in problems)
