"""
What content is, when two are the same, and what a search finds. Pure.

**Same content.** Two texts are one for a learner when they are equal in NFC with runs of
white space taken for one space. Title, kind, language and source are not part of it: saving
again with others changes them.

**Search.** Found is what holds every word of the query, in title or body; case and accents
do not matter; a word ending in `*` stands for all that begin so. Hits in titles come first,
then the newest. That is the same on every database, because both index the same spelling
(`search_words`), in which no database finds anything to split, stem or stop.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from onefold.core.ids import derived_id
from onefold_server.domains.learning.values import (
    check_language,
    check_object,
    check_text,
    word_key,
    words_of,
    wrong,
)

MAX_BODY_BYTES: Final = 256 * 1024  # UTF-8
MAX_MATERIAL_BYTES: Final = 64 * 1024
MAX_MATERIALS: Final = 50
MAX_TOPICS: Final = 20
MAX_TOPIC: Final = 50  # characters
MAX_QUERY: Final = 200  # characters
_LONGEST_WORD: Final = 64  # characters that count
_AROUND: Final = 80  # characters beside a hit in an excerpt
# Of a text, in which an excerpt looks for its hit: a whole one takes 0.3 s, and a page a hundred.
LOOKED_THROUGH: Final = 8000


class ContentKind(StrEnum):
    """What was studied."""

    DOCUMENT = "document"
    TRANSCRIPT = "transcript"
    LINK = "link"
    NOTE = "note"


class MaterialKind(StrEnum):
    """What was made of it."""

    SUMMARY = "summary"
    FLASHCARDS = "flashcards"
    QUIZ = "quiz"
    NOTES = "notes"
    MIND_MAP = "mind_map"
    KEY_CONCEPTS = "key_concepts"
    PRACTICE_QUESTIONS = "practice_questions"


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to learn with; kind and title name it within its content."""

    kind: MaterialKind
    title: str
    body: dict[str, Any]


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """Content as a caller saves it."""

    kind: ContentKind
    title: str
    language: str
    body: str
    source_url: str | None = None
    topics: tuple[str, ...] = ()
    materials: tuple[Material, ...] = ()


def check_content(given: Given) -> Given:
    """*given* with its topics trimmed, folded and each once; else `InvalidInput`."""
    check_text(given.title, "title", longest=500)
    check_language(given.language)
    check_text(given.body, "body", longest=MAX_BODY_BYTES)
    if len(given.body.encode()) > MAX_BODY_BYTES:
        raise wrong("body", "too_large", f"is over {MAX_BODY_BYTES} bytes")
    if given.source_url is not None:
        check_text(given.source_url, "source_url", longest=1000)
    if len(given.materials) > MAX_MATERIALS:
        raise wrong("materials", "length", f"expected at most {MAX_MATERIALS}")
    for n, material in enumerate(given.materials):
        check_text(material.title, f"materials[{n}].title", longest=500)
        check_object(material.body, f"materials[{n}].body", limit_bytes=MAX_MATERIAL_BYTES)
    return msgspec.structs.replace(given, topics=check_topics(given.topics))


def check_topics(topics: Iterable[str]) -> tuple[str, ...]:
    """Topics by which content is filtered, exactly: `gram` does not match `grammar`."""
    named = {check_topic(topic, "topics") for topic in topics}
    if "" in named or len(named) > MAX_TOPICS:
        raise wrong("topics", "length", f"expected at most {MAX_TOPICS}, none of them blank")
    return tuple(sorted(named))


def check_topic(topic: str, field: str) -> str:
    """
    By which two topics are the same: NFC, case folded, single spaces; accents stay.

    Raises:
        InvalidInput: it is over 50 characters, before or after folding, or cannot be stored.
    """
    folded = word_key(check_text(topic, field, longest=MAX_TOPIC))
    return check_text(folded, field, longest=MAX_TOPIC, shortest=0)


def content_hash(body: str) -> bytes:
    """SHA-256 of the text that tells whether two contents are one."""
    return hashlib.sha256(" ".join(unicodedata.normalize("NFC", body).split()).encode()).digest()


def new_ids(school_id: UUID, student_id: UUID, hashed: bytes) -> tuple[UUID, int]:
    """The content's id, and the number under which it is indexed (63 bits)."""
    id_ = derived_id("learning.content", str(student_id), hashed.hex())
    return id_, derived_id("learning.search", str(school_id), str(id_)).int >> 65


def material_id(content_id: UUID, material: Material) -> UUID:
    """The id of the content's material of that kind and title."""
    return derived_id("learning.material", str(content_id), material.kind.value, material.title)


def _spell(word: str) -> str:
    """One word as letters and digits that every full-text parser takes for one token."""
    # Composed: taken apart, 256 KiB of Korean are more than PostgreSQL's index takes of a text.
    word = unicodedata.normalize("NFC", word)[:_LONGEST_WORD]
    return f"w{word}" if word.isascii() else f"u{word.encode().hex()}"


def search_words(text: str) -> str:
    """The words of *text* as they are indexed."""
    return " ".join(map(_spell, words_of(text)))


def _asked(query: str) -> list[list[str]]:
    """For each word of the query, the spellings of which one must occur; `*` ends a prefix."""
    asked = []
    for part in query.split():
        words = words_of(part)
        for n, word in enumerate(words):
            if part.endswith("*") and n == len(words) - 1:
                cut = unicodedata.normalize("NFC", word)[:_LONGEST_WORD]
                spelled = [f"u{cut.encode().hex()}*"]  # of a word that goes on in another script
                asked.append([f"w{cut}*", *spelled] if cut.isascii() else spelled)
            else:
                asked.append([_spell(word)])
    return asked


def check_query(query: str) -> list[list[str]]:
    """The query's words; `InvalidInput` when there are none, or too many characters."""
    asked = _asked(check_text(query, "q", longest=MAX_QUERY))
    if not asked:
        raise wrong("q", "length", "expected at least one word")
    return asked


def fts5_query(asked: list[list[str]], column: str | None = None) -> str:
    """The query in the words of SQLite's FTS5, for one column or for all."""
    all_of = " AND ".join(f"({' OR '.join(one)})" for one in asked)
    return f"{column} : ({all_of})" if column else all_of


def tsquery(asked: list[list[str]]) -> str:
    """The query in the words of PostgreSQL's `to_tsquery`."""
    return " & ".join(f"({' | '.join(w.replace('*', ':*') for w in one)})" for one in asked)


def excerpt(body: str, asked: list[list[str]]) -> str:
    """The piece of *body* around its first hit; its beginning when there is none."""
    exact = {word for one in asked for word in one}
    prefixes = tuple(word[:-1] for word in exact if word.endswith("*"))
    at = 0
    for piece in body.split():
        start = body.index(piece, at)
        spelled = search_words(piece).split()
        if any(word in exact or word.startswith(prefixes or ("\0",)) for word in spelled):
            break
        at = start + len(piece)
    else:
        start = 0
    begin, end = max(start - _AROUND, 0), start + _AROUND
    text = " ".join(body[begin:end].split())
    return f"{'…' if begin else ''}{text}{'…' if end < len(body) else ''}"


def content_row(school_id: UUID, student_id: UUID, given: Given, *, now: Any) -> dict[str, Any]:
    """The row of *given*."""
    hashed = content_hash(given.body)
    id_, search_id = new_ids(school_id, student_id, hashed)
    return {
        "school_id": school_id,
        "id": id_,
        "student_id": student_id,
        "content_hash": hashed,
        "kind": given.kind.value,
        "title": given.title,
        "language": given.language,
        "source_url": given.source_url,
        "body": given.body,
        "word_count": len(words_of(given.body)),
        "created_at": now,
        "changed_at": now,
        "search_id": search_id,
        "title_words": search_words(given.title),
        "body_words": search_words(given.body),
    }


def statistics(rows: Iterable[Mapping[str, Any]], materials: int) -> dict[str, Any]:
    """Counts by kind and language; zeros and empty maps when there is nothing."""
    total: dict[str, Any] = {"contents": 0, "words": 0, "by_kind": {}, "by_language": {}}
    for row in rows:
        total["contents"] += row["n"]
        total["words"] += int(row["words"])
        for name, key in (("by_kind", row["kind"]), ("by_language", row["language"])):
            total[name][key] = total[name].get(key, 0) + row["n"]
    return total | {"materials": materials}
