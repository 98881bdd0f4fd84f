"""Which fields of a decoded JSON object are wrong, all of them, and what would be right. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from onefold.errors import FieldProblem

Expected = Mapping[str, tuple[str, str]]  # field -> stable code, what it must be


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
    unknown = [
        FieldProblem(str(name), "unknown_field", "is not known here")
        for name in raw
        if name not in fields
    ]
    return [problem for problem in known if problem] + unknown


def _wrong_field(
    raw: Mapping[str, Any], field: msgspec.structs.FieldInfo, expected: tuple[str, str]
) -> FieldProblem | None:
    name = field.encode_name
    if name not in raw:
        return FieldProblem(name, "missing", "is required") if field.required else None
    try:
        msgspec.convert(raw[name], field.type)
    except (msgspec.ValidationError, UnicodeError):
        if expected[0] == "timestamp" and _is_naive(raw[name]):
            return FieldProblem(name, "naive_timestamp", "has no offset; add Z or +hh:mm")
        return FieldProblem(name, *expected)
    return None


def _is_naive(value: Any) -> bool:
    try:
        return msgspec.convert(value, datetime).tzinfo is None
    except msgspec.ValidationError:
        return False


def list_problems(problems: Sequence[FieldProblem]) -> str:
    """All problems in one line, for a log or a rejects file."""
    return "; ".join(f"{p.field} {p.reason}".strip() for p in problems)
