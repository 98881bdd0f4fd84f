"""
What may happen to a learning session, and what it is then. Pure: no clock, no storage.

A session is open until it is completed or abandoned, and neither is ever undone. While it
is open its counters move in one of two ways: by *adding*, which commutes, so that any number
of devices may do it at once; or by *setting*, which needs the version that the caller saw,
so that what another device did in between is never silently overwritten. After the end only
a change that says it is a correction counts, and makes a new revision; it moves neither the
end nor the duration. Completing a completed session is the same as once.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import msgspec

from onefold.core.identity import fingerprint
from onefold.errors import IllegalTransition, Outdated
from onefold_server.domains.learning.values import (
    MAX_COUNT,
    check_count,
    check_language,
    check_object,
    check_text,
    merge_patch,
    wrong,
)

MAX_METADATA_BYTES: Final = 16 * 1024  # compact UTF-8 JSON, after merging
COUNTERS: Final = ("items_studied", "items_correct", "items_incorrect")
_TYPE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,49}")


class SessionTypes:
    """The session types of one installation: four of them, and those it registers."""

    def __init__(self, *more: str) -> None:
        self._names = {"scenario", "content_study", "vocabulary_review", "conversation"}
        for name in more:
            self.register(name)

    def register(self, name: str) -> None:
        """
        Accept sessions of this type from now on; again is the same as once.

        Raises:
            InvalidInput: a name is a lower-case letter and up to 49 letters, digits, `_`.
        """
        if not _TYPE_NAME.fullmatch(name):
            reason = "expected a lower-case letter and up to 49 letters, digits, underscores"
            raise wrong("session_type", "name", reason)
        self._names.add(name)

    def check(self, name: Any) -> str:
        """*name*, when it is registered; else `InvalidInput`."""
        if name not in self._names:
            raise wrong("session_type", "unknown", f"expected one of {', '.join(self)}")
        return str(name)

    def __iter__(self) -> Any:
        return iter(sorted(self._names))


class SessionState(StrEnum):
    """Where a session stands."""

    OPEN = "open"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A learning session as it stands: a value; changing a copy changes nothing stored."""

    school_id: UUID
    id: UUID
    student_id: UUID
    session_type: str
    source_id: str | None
    language: str
    state: SessionState
    started_at: datetime
    changed_at: datetime
    ended_at: datetime | None
    items_studied: int
    items_correct: int
    items_incorrect: int
    metadata: dict[str, Any]
    version: int
    revision: int

    @property
    def accuracy_rate(self) -> float | None:
        """correct / (correct + incorrect); None when nothing was answered."""
        return accuracy(self.items_correct, self.items_incorrect)

    @property
    def duration_s(self) -> int | None:
        """Whole seconds from start to end, cut; None while it is open."""
        if self.ended_at is None:
            return None
        return int((self.ended_at - self.started_at).total_seconds())


def accuracy(correct: int, incorrect: int) -> float | None:
    """The share of right answers; None without answers. `items_studied` takes no part."""
    answered = correct + incorrect
    return correct / answered if answered else None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Begin a session."""

    student_id: UUID
    session_type: str
    language: str
    source_id: str | None = None
    metadata: dict[str, Any] = {}

    def fingerprint(self) -> bytes:
        """What a repeat must have in common."""
        return fingerprint(msgspec.to_builtins(self))


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    Move counters and merge metadata, once for its id.

    Attributes:
        id: Under which it counts once within its session.
        add: Counter to how much more; may be negative, the result may not.
        set: Counter to its new value; needs `expected_version`.
        metadata: An RFC 7386 merge patch.
        expected_version: Of the session as the caller saw it; another one is `Outdated`.
        correction: It is meant for a session that has ended.
    """

    id: UUID
    add: dict[str, int] = {}
    set: dict[str, int] = {}
    metadata: dict[str, Any] = {}
    expected_version: int | None = None
    correction: bool = False

    def content(self) -> dict[str, Any]:
        """What a repeat must have in common: all but the id."""
        said: dict[str, Any] = msgspec.to_builtins(self)
        del said["id"]
        return said


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Complete or abandon a session."""

    to: SessionState


def check_start(given: Start, types: SessionTypes) -> Start:
    """*given*, when all of it is right; else `InvalidInput`."""
    types.check(given.session_type)
    check_language(given.language)
    if given.source_id is not None:
        check_text(given.source_id, "source_id", longest=100)
    check_object(given.metadata, "metadata", limit_bytes=MAX_METADATA_BYTES)
    return given


def check_change(given: Change) -> Change:
    """*given*, when it makes sense by itself; else `InvalidInput`."""
    for field in ("add", "set"):
        for name, value in getattr(given, field).items():
            if name not in COUNTERS:
                raise wrong(f"{field}.{name}", "unknown", f"expected one of {', '.join(COUNTERS)}")
            check_count(value, f"{field}.{name}", least=-MAX_COUNT if field == "add" else 0)
    both = set(given.add) & set(given.set)
    if both:
        raise wrong(f"set.{min(both)}", "twice", "is added to and set in one change")
    if given.set and given.expected_version is None:
        reason = "setting a counter needs the version it was seen at; adding does not"
        raise wrong("expected_version", "missing", reason)
    check_object(given.metadata, "metadata", limit_bytes=MAX_METADATA_BYTES)
    return given


def begin(school_id: UUID, id_: UUID, given: Start, *, now: datetime) -> Session:
    """The session that *given* begins."""
    return Session(
        school_id=school_id,
        id=id_,
        student_id=given.student_id,
        session_type=given.session_type,
        source_id=given.source_id,
        language=given.language,
        state=SessionState.OPEN,
        started_at=now,
        changed_at=now,
        ended_at=None,
        items_studied=0,
        items_correct=0,
        items_incorrect=0,
        metadata=given.metadata,
        version=1,
        revision=0,
    )


def change(session: Session, given: Change, *, now: datetime) -> Session:
    """
    *session* after *given*.

    Raises:
        IllegalTransition: it has ended and this is no correction, or the reverse.
        Outdated: the caller saw another version.
        InvalidInput: a counter would leave its bounds, or the metadata its size.
    """
    if given.correction != (session.state is not SessionState.OPEN):
        fact = "correcting" if given.correction else "changing without `correction`"
        raise IllegalTransition(session.state, fact)
    if given.expected_version not in {None, session.version}:
        raise Outdated("session", str(session.id), session.version)
    counters = {name: getattr(session, name) + given.add.get(name, 0) for name in COUNTERS}
    for name, value in (counters | given.set).items():
        counters[name] = check_count(value, name)
    merged = merge_patch(session.metadata, given.metadata)
    return msgspec.structs.replace(
        session,
        **counters,
        metadata=check_object(merged, "metadata", limit_bytes=MAX_METADATA_BYTES),
        changed_at=session.changed_at if given.correction else max(session.changed_at, now),
        version=session.version + 1,
        revision=session.revision + given.correction,
    )


# What an end asked for does to a session that has ended: nothing, or it is refused.
_AFTER_END: Final[Mapping[tuple[SessionState, SessionState], bool]] = MappingProxyType(
    {
        (SessionState.COMPLETED, SessionState.COMPLETED): True,
        (SessionState.ABANDONED, SessionState.ABANDONED): True,
        (SessionState.COMPLETED, SessionState.ABANDONED): False,
        (SessionState.ABANDONED, SessionState.COMPLETED): False,
    }
)


def end(session: Session, to: SessionState, *, now: datetime) -> Session:
    """
    *session* ended: a completed one now, an abandoned one when it last changed.

    Ending it the same way again is the same as once. A clock that was set back cannot make
    a duration negative.

    Raises:
        IllegalTransition: it has ended the other way.
    """
    if session.state is not SessionState.OPEN:
        if not _AFTER_END[session.state, to]:
            raise IllegalTransition(session.state, f"becoming {to}")
        return session
    at = max(now, session.changed_at) if to is SessionState.COMPLETED else session.changed_at
    return msgspec.structs.replace(
        session, state=to, ended_at=at, changed_at=at, version=session.version + 1
    )
