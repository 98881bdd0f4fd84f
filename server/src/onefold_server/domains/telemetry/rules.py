"""What an event must be, and what a session's events say about it. Pure: no clock, no SQL."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from onefold.core.fields import Expected, Flaw, text_flaw, wrong_fields
from onefold.core.identity import fingerprint
from onefold.core.json_value import MAX_DIGITS
from onefold.errors import FieldProblem, InvalidInput

MAX_BATCH: Final = 1000  # events
MAX_DATA_BYTES: Final = 10 * 1024  # UTF-8 JSON without spaces
MAX_DATA_DEPTH: Final = 20  # objects and lists inside each other, `data` itself included
MAX_FUTURE: Final = timedelta(minutes=5)  # how far a client's clock may run ahead
# asyncpg stores Python's first instant as -infinity and reads it back without a zone
# (test_b08_the_first_instant_of_all_is_refused).
_EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)
_INT_BOUND: Final = 10**MAX_DIGITS


class TelemetryEvent(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True
):
    """One event as a game reports it; reading it checks every field but `data`'s inside."""

    event_id: UUID
    student_id: UUID
    session_id: UUID
    event_type: Annotated[str, Meta(pattern=r"\A[a-z0-9_]{1,100}\Z")]
    timestamp: Annotated[datetime, Meta(tz=True)]
    data: dict[str, Any] = {}
    mission_id: Annotated[str, Meta(max_length=100)] | None = None
    game_version: Annotated[str, Meta(max_length=20)] | None = None

    @cached_property
    def content(self) -> bytes:
        """SHA-256 of all that a repeat must have in common; the id is not part of it."""
        said = {name: getattr(self, name) for name in self.__struct_fields__ if name != "event_id"}
        said |= {"student_id": str(self.student_id), "session_id": str(self.session_id)}
        return fingerprint(said | {"timestamp": self.timestamp.isoformat()})


# What each field must be, in words for whoever sent something else.
_EXPECTED: Final[Expected] = MappingProxyType(
    {
        "event_id": ("not_a_uuid", "expected a UUID"),
        "student_id": ("not_a_uuid", "expected a UUID"),
        "session_id": ("not_a_uuid", "expected a UUID"),
        "event_type": (
            "event_type",
            "expected 1 to 100 lower case letters, digits and underscores",
        ),
        "timestamp": (
            "timestamp",
            "expected an RFC 3339 time with its offset, such as 2026-01-31T12:00:00+01:00",
        ),
        "data": ("data", "expected an object"),
        "mission_id": ("too_long", "expected at most 100 characters"),
        "game_version": ("too_long", "expected at most 20 characters"),
    }
)


def read_event(raw: Any, *, now: datetime, max_age: timedelta | None) -> TelemetryEvent:
    """
    The event that *raw* describes, its timestamp in UTC.

    Args:
        raw: A decoded JSON value; anything may be in it.
        now: What the server's clock says, for the bounds of `timestamp`.
        max_age: How old the event may be; None for any age.

    Raises:
        InvalidInput: naming every wrong field. Its first problem is the event's `code`.
    """
    try:
        event = msgspec.convert(raw, TelemetryEvent)
    except (msgspec.ValidationError, UnicodeError):
        raise InvalidInput(wrong_fields(raw, TelemetryEvent, _EXPECTED)) from None
    problems = [*_time_problems(event.timestamp, now, max_age), *_text_problems(event)]
    if problems:
        raise InvalidInput(problems)
    return msgspec.structs.replace(event, timestamp=event.timestamp.astimezone(UTC))


def _time_problems(
    timestamp: datetime, now: datetime, max_age: timedelta | None
) -> Iterable[FieldProblem]:
    try:
        early = timestamp.astimezone(UTC) < _EARLIEST
    except OverflowError:
        early = True
    if early:
        yield FieldProblem("timestamp", "timestamp", "is outside the years 1 to 9999 in UTC")
        return
    age = now - timestamp
    if -age > MAX_FUTURE:
        reason = f"is {_span(-age)} in the future; is the clock right?"
        yield FieldProblem("timestamp", "in_the_future", reason)
    if max_age is not None and age > max_age:
        reason = f"is {_span(age)} old; at most {_span(max_age)} are accepted here"
        yield FieldProblem("timestamp", "too_old", reason)


def _span(span: timedelta) -> str:
    return f"{span.days} days" if span.days else f"{span.seconds // 60} minutes"


def _text_problems(event: TelemetryEvent) -> Iterable[FieldProblem]:
    for name in ("mission_id", "game_version"):
        flaw = _json_flaw(getattr(event, name), depth=0)
        if flaw:
            yield FieldProblem(name, *flaw)
    flaw = _json_flaw(event.data, depth=0)
    if flaw:
        yield FieldProblem("data", *flaw)
    elif len(msgspec.json.encode(event.data)) > MAX_DATA_BYTES:
        yield FieldProblem("data", "too_large", f"is over {MAX_DATA_BYTES} bytes of JSON")


def _json_flaw(value: Any, depth: int) -> Flaw | None:
    """What keeps *value* from being stored as JSON by every database, or None."""
    if isinstance(value, str):
        return text_flaw(value)
    if isinstance(value, int) and not -_INT_BOUND < value < _INT_BOUND:
        return "number_too_large", f"holds a whole number of over {MAX_DIGITS} digits"
    if isinstance(value, float) and not math.isfinite(value):
        return "not_finite", "holds NaN or Infinity, which JSON has no number for"
    if isinstance(value, dict | list):
        if depth == MAX_DATA_DEPTH:
            return "too_deep", f"is nested over {MAX_DATA_DEPTH} levels deep"
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        return next((f for item in inside if (f := _json_flaw(item, depth + 1))), None)
    return None


class Profile(StrEnum):
    """Which definitions are used where a ratio has nothing to divide by, or goes over 1."""

    STANDARD = "standard"
    COMPAT = "compat"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """
    All that the features depend on: how often each type occurred, and the first and last time.

    Adding two summaries is commutative and associative, hence features depend neither on
    the order of arrival nor on how events were batched.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None

    @classmethod
    def of(cls, events: Iterable[TelemetryEvent]) -> "Summary":
        """The summary of *events*, each of which must be there once."""
        total = cls()
        for event in events:
            once = cls(
                counts={event.event_type: 1}, first_at=event.timestamp, last_at=event.timestamp
            )
            total += once
        return total

    def __add__(self, other: "Summary") -> "Summary":
        types = {*self.counts, *other.counts}
        firsts = [at for at in (self.first_at, other.first_at) if at]
        lasts = [at for at in (self.last_at, other.last_at) if at]
        return Summary(
            counts={t: self.counts.get(t, 0) + other.counts.get(t, 0) for t in types},
            first_at=min(firsts, default=None),
            last_at=max(lasts, default=None),
        )

    @property
    def event_count(self) -> int:
        return sum(self.counts.values())

    @property
    def minutes(self) -> float:
        """From the first to the last event, by the game's clock."""
        if self.first_at is None or self.last_at is None:
            return 0.0
        return (self.last_at - self.first_at).total_seconds() / 60


# Formulas and vocabulary below have this version; it is stored with every revision.
FEATURES_VERSION: Final = 1

# What a type of event counts as. The first names of each line are those of the earlier
# system (research note telemetry, 4.4), which `compat` knows alone; the others are what its
# written game specification calls the same thing (4.6).
_COMPAT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "start": frozenset({"mission_start", "task_start"}),
        "completion": frozenset({"mission_complete", "task_complete"}),
        "retry": frozenset({"retry", "restart"}),
        "failure": frozenset({"failure", "mistake"}),
        "recovery": frozenset({"recovery", "success_after_failure"}),
        "distraction": frozenset({"distraction", "pause"}),
        "collaboration": frozenset({"collaboration", "help_given", "help_received"}),
        "leadership": frozenset({"initiative", "leadership", "decision_made"}),
    }
)
_ALIASES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "start": frozenset({"mission_started", "task_started", "mini_game_started"}),
        "completion": frozenset({"mission_completed", "task_completed", "mini_game_completed"}),
        "retry": frozenset({"retry_attempted"}),
        "failure": frozenset({"failure_occurred", "setback_encountered", "task_failed"}),
        "recovery": frozenset({"recovery_achieved"}),
        "distraction": frozenset({"context_switch", "session_paused"}),
        "collaboration": frozenset({"help_peer", "share_resource", "team_decision"}),
        "leadership": frozenset({"task_delegated", "delegate_task", "lead_discussion"}),
    }
)
VOCABULARY: Final[Mapping[Profile, Mapping[str, frozenset[str]]]] = MappingProxyType(
    {
        Profile.COMPAT: _COMPAT,
        Profile.STANDARD: {kind: _COMPAT[kind] | _ALIASES[kind] for kind in _COMPAT},
    }
)

TARGET_MINUTES_PER_COMPLETION: Final = 3.0  # the earlier system's pace (note, 4.4)


@dataclass(frozen=True, kw_only=True)
class SessionFeatures:
    """
    What a session's events say, by name; a name whose ratio has no meaning is None.

    Attributes:
        metrics: The value of each feature; see the function of its name in this file.
        undefined: For each None in `metrics`, why.
    """

    metrics: Mapping[str, float | int | None]
    undefined: Mapping[str, str]


def features(summary: Summary, profile: Profile = Profile.STANDARD) -> SessionFeatures:
    """
    The features of the session that *summary* sums up.

    `compat` gives what the earlier system gave: its defaults where a ratio is undefined,
    no bound at 1, its own names of events only.
    """
    compat = profile is Profile.COMPAT
    n = {
        kind: sum(summary.counts.get(t, 0) for t in types)
        for kind, types in VOCABULARY[profile].items()
    }
    ratios = {
        "task_completion_rate": task_completion_rate(n, bounded=not compat),
        "time_efficiency": time_efficiency(n, summary.minutes),
        "recovery_rate": recovery_rate(n, bounded=not compat),
        "distraction_resistance": distraction_resistance(n, summary.event_count),
    }
    undefined = {name: _NOTHING_TO_DIVIDE_BY[name] for name, v in ratios.items() if v is None}
    if compat:
        defaults = _COMPAT_DEFAULTS if summary.counts else dict.fromkeys(ratios, 0.0)
        ratios |= {name: defaults[name] for name in undefined}
        undefined = {}
    rounded = {name: v if v is None else round(v, 3) for name, v in ratios.items()}
    counted = {
        "retry_count": n["retry"],
        "focus_duration": round(summary.minutes, 2),
        "collaboration_indicators": n["collaboration"],
        "leadership_indicators": n["leadership"],
        "event_count": summary.event_count,
        "session_duration_minutes": summary.minutes,
    }
    return SessionFeatures(metrics=rounded | counted, undefined=undefined)


_NOTHING_TO_DIVIDE_BY: Final = {
    "task_completion_rate": "nothing was started",
    "time_efficiency": "the session has no duration",
    "recovery_rate": "nothing failed",
    "distraction_resistance": "the session has no events",
}
_COMPAT_DEFAULTS: Final = {
    "task_completion_rate": 0.0,
    "time_efficiency": 0.0,
    "recovery_rate": 1.0,
    "distraction_resistance": 0.0,
}


def task_completion_rate(n: Mapping[str, int], *, bounded: bool) -> float | None:
    """Completions per start, at most 1 when *bounded*; None when nothing was started."""
    return _ratio(n["completion"], n["start"], bounded=bounded)


def time_efficiency(n: Mapping[str, int], minutes: float) -> float | None:
    """Three minutes a completion over the minutes played, at most 1; None without duration."""
    return _ratio(TARGET_MINUTES_PER_COMPLETION * n["completion"], minutes, bounded=True)


def recovery_rate(n: Mapping[str, int], *, bounded: bool) -> float | None:
    """Recoveries per failure, at most 1 when *bounded*; None when nothing failed."""
    return _ratio(n["recovery"], n["failure"], bounded=bounded)


def distraction_resistance(n: Mapping[str, int], event_count: int) -> float | None:
    """The share of events that are no distraction; None when there are no events."""
    share = _ratio(n["distraction"], event_count, bounded=True)
    return None if share is None else 1 - share  # in this order: `compat` rounds the same


def _ratio(part: float, whole: float, *, bounded: bool) -> float | None:
    if not whole:
        return None
    return min(1.0, part / whole) if bounded else part / whole
