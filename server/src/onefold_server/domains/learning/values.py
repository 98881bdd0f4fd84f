"""What text, ids and JSON of this domain must be; each refusal names its field. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

from onefold.core.json_value import encode_json, refuse
from onefold.errors import FieldProblem, InvalidEvent, InvalidInput

MAX_COUNT: Final = 2**31 - 1  # a database's integer
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")  # RFC 5646, its usual part
_WORD: Final = re.compile(r"\w+", re.UNICODE)


def wrong(field: str, code: str, reason: str) -> InvalidInput:
    """The refusal of one field."""
    return InvalidInput([FieldProblem(field, code, reason)])


def check_text(value: Any, field: str, *, longest: int, shortest: int = 1) -> str:
    """
    *value*, when it is text of that many characters that every database can store.

    Raises:
        InvalidInput: too short or long, no text, NUL, or half of a surrogate pair.
    """
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise wrong(field, "length", f"expected {shortest} to {longest} characters")
    if not _storable(value):
        raise wrong(field, "character", "holds U+0000 or half of a surrogate pair")
    return value


def check_language(value: Any, field: str = "language") -> str:
    """*value*, when it is a language tag such as `es` or `pt-BR`; else `InvalidInput`."""
    if not isinstance(value, str) or not _LANGUAGE.fullmatch(value):
        raise wrong(field, "language", "expected a language tag such as es or pt-BR")
    return value


def check_count(value: Any, field: str, *, least: int = 0) -> int:
    """*value*, when it is a whole number from *least* to 2**31 - 1; else `InvalidInput`."""
    if type(value) is not int or not least <= value <= MAX_COUNT:
        raise wrong(field, "bounds", f"expected a whole number from {least} to {MAX_COUNT}")
    return value


def check_object(
    value: Any, field: str, *, limit_bytes: int, max_depth: int = 20
) -> dict[str, Any]:
    """
    A JSON object that every database can store.

    Raises:
        InvalidInput: not an object, over *limit_bytes* of compact JSON, nested too deeply,
            NaN, NUL, or half of a surrogate pair.
    """
    if type(value) is not dict:
        raise wrong(field, "not_an_object", "expected a JSON object")
    try:
        refuse(value, field, max_depth=max_depth)
    except InvalidEvent as error:
        raise wrong(field, "json", str(error)) from None
    if any("\0" in text for text in _texts(value)):
        raise wrong(field, "character", "holds U+0000, which PostgreSQL cannot store")
    if len(encode_json(value)) > limit_bytes:
        raise wrong(field, "too_large", f"is over {limit_bytes} bytes of JSON")
    return value


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def merge_patch(target: Any, patch: Any) -> Any:
    """
    *target* with *patch* merged in (RFC 7386): a new value; neither argument is changed.

    Objects merge member by member, null removes a member, anything else replaces whole:
    a list is replaced, never appended to.
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def word_key(word: str) -> str:
    """
    By which two spellings are the same word: NFC, case folded, single spaces, trimmed.

    Accents stay: Spanish `si` and `sí` are two words.
    """
    return " ".join(unicodedata.normalize("NFC", word).casefold().split())


def fold(text: str) -> str:
    """*text* for comparing what a person typed: case and accents do not matter."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words_of(text: str) -> list[str]:
    """The words of *text*, folded, in order; punctuation parts them, `'` and `_` too."""
    return _WORD.findall(fold(text).replace("_", " "))
