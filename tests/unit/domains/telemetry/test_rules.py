"""What an event must be, and what a session's events say about it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from onefold.errors import InvalidInput
from onefold_server.domains.telemetry.rules import (
    MAX_DATA_BYTES,
    VOCABULARY,
    Profile,
    Summary,
    TelemetryEvent,
    features,
    read_event,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENT_ID = "8c4d6f0e-0000-4000-8000-000000000001"
STUDENT_ID = "8c4d6f0e-0000-4000-8000-000000000002"
SESSION_ID = "8c4d6f0e-0000-4000-8000-000000000003"


def raw(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": EVENT_ID,
        "student_id": STUDENT_ID,
        "session_id": SESSION_ID,
        "event_type": "mission_start",
        "timestamp": NOW.isoformat(),
    } | fields


def read(max_age: timedelta | None = timedelta(days=30), **fields: Any) -> TelemetryEvent:
    return read_event(raw(**fields), now=NOW, max_age=max_age)


def codes(given: Any, max_age: timedelta | None = timedelta(days=30)) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        read_event(given, now=NOW, max_age=max_age)
    return [(p.field, p.code) for p in refused.value.problems]


def nested(levels: int, inner: Any = 1) -> Any:
    """An object in an object …, *levels* deep in all."""
    for _ in range(levels):
        inner = {"a": inner}
    return inner


# --- the fields -----------------------------------------------------------------------------


def test_a_whole_event_is_read_field_by_field() -> None:
    """What was sent is what is known."""
    event = read(data={"level": 3}, mission_id="harbour", game_version="1.4.0")

    assert event == TelemetryEvent(
        event_id=UUID(EVENT_ID),
        student_id=UUID(STUDENT_ID),
        session_id=UUID(SESSION_ID),
        event_type="mission_start",
        timestamp=NOW,
        data={"level": 3},
        mission_id="harbour",
        game_version="1.4.0",
    )


def test_only_five_fields_are_required() -> None:
    """Data is an empty object, mission and version unknown, unless told."""
    event = read()

    assert (event.data, event.mission_id, event.game_version) == ({}, None, None)


def test_a_uuid_may_be_written_without_hyphens_or_in_capitals() -> None:
    """Every spelling names the same event."""
    assert read(event_id=EVENT_ID.replace("-", "").upper()).event_id == UUID(EVENT_ID)


@pytest.mark.parametrize("name", ["event_id", "student_id", "session_id"])
@pytest.mark.parametrize("value", ["", "session-001", EVENT_ID + "0", 17, None, True, [], {}])
def test_an_id_is_a_uuid(name: str, value: Any) -> None:
    """The earlier system's texts like session-001 are refused."""
    assert codes(raw(**{name: value})) == [(name, "not_a_uuid")]


@pytest.mark.parametrize("value", ["a", "a" * 100, "0", "_", "mission_2_start"])
def test_an_event_type_is_1_to_100_lower_case_letters_digits_underscores(value: str) -> None:
    """At the bounds it is accepted."""
    assert read(event_type=value).event_type == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a" * 101,
        "Mission",
        "a b",
        "a-b",
        "a.b",
        "größe",
        "a\n",
        "\na",
        "a\0",
        "\u0665",
        None,
        1,
        True,
        ["a"],
    ],
)
def test_other_event_types_are_refused(value: Any) -> None:
    """Neither other letters nor a line end at the end slip through."""
    assert codes(raw(event_type=value)) == [("event_type", "event_type")]


@pytest.mark.parametrize(("name", "longest"), [("mission_id", 100), ("game_version", 20)])
def test_optional_texts_have_a_longest_length_in_characters(name: str, longest: int) -> None:
    """Characters, not bytes: an accent costs no length."""
    exact: Any = {name: "é" * longest}

    assert getattr(read(**exact), name) == "é" * longest
    assert codes(raw(**{name: "é" * (longest + 1)})) == [(name, "too_long")]


@pytest.mark.parametrize("name", ["mission_id", "game_version"])
@pytest.mark.parametrize(("text", "code"), [("a\0", "nul_character"), ("\ud800", "not_unicode")])
def test_optional_texts_can_be_stored(name: str, text: str, code: str) -> None:
    """What only a database would refuse is refused here, and costs one event."""
    assert codes(raw(**{name: text})) == [(name, code)]


def test_null_is_the_same_as_absent_where_a_field_is_optional() -> None:
    """Many encoders write null for what they do not know."""
    assert read(mission_id=None, game_version=None) == read()


def test_every_missing_field_is_named() -> None:
    """An empty object lacks all five."""
    names = ("event_id", "student_id", "session_id", "event_type", "timestamp")

    assert codes({}) == [(name, "missing") for name in names]


def test_unknown_fields_are_refused() -> None:
    """A misspelt optional field would otherwise be lost in silence."""
    assert codes(raw(mision_id="harbour")) == [("mision_id", "unknown_field")]


@pytest.mark.parametrize("value", [None, [], "event", 1, 1.5, True])
def test_an_event_is_an_object(value: Any) -> None:
    """Anything else is told so."""
    assert codes(value) == [("", "not_an_object")]


# --- the time -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00+00:00",
        "2026-03-01T13:30:00+01:30",
        "2026-02-28T20:00:00-16:00",
        "2026-03-01T12:00:00.000000Z",
        "2026-03-01t12:00:00z",
    ],
)
def test_every_offset_names_the_same_instant_in_utc(text: str) -> None:
    """What is kept is UTC."""
    timestamp = read(timestamp=text).timestamp

    assert (timestamp, timestamp.tzinfo) == (NOW, UTC)


@pytest.mark.parametrize("text", ["2026-03-01T12:00:00", "2026-03-01T12:00:00.5"])
def test_a_time_without_offset_is_refused_as_naive(text: str) -> None:
    """Whose zone it is in, cannot be guessed."""
    assert codes(raw(timestamp=text)) == [("timestamp", "naive_timestamp")]


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01",
        "1772366400",
        1772366400,
        1772366400.5,
        True,
        None,
        "",
        "soon",
        "\ud800",
        "2026-02-30T12:00:00Z",
        "2026-03-01T24:00:00Z",
        "10000-01-01T00:00:00Z",
    ],
)
def test_what_is_no_rfc_3339_time_is_refused(value: Any) -> None:
    """Numbers are not guessed to be seconds or milliseconds."""
    assert codes(raw(timestamp=value)) == [("timestamp", "timestamp")]


def test_a_clock_may_run_five_minutes_ahead_and_no_more() -> None:
    """The bound itself is accepted."""
    bound = NOW + timedelta(minutes=5)
    beyond = bound + timedelta(microseconds=1)

    assert read(timestamp=bound.isoformat()).timestamp == bound
    assert codes(raw(timestamp=beyond.isoformat())) == [("timestamp", "in_the_future")]


def test_an_event_may_be_as_old_as_allowed_and_no_more() -> None:
    """The bound itself is accepted."""
    bound = NOW - timedelta(days=30)
    beyond = bound - timedelta(microseconds=1)

    assert read(timestamp=bound.isoformat()).timestamp == bound
    assert codes(raw(timestamp=beyond.isoformat())) == [("timestamp", "too_old")]


def test_an_old_event_is_accepted_where_age_does_not_matter() -> None:
    """A file of old logs can be loaded."""
    assert read(max_age=None, timestamp="1970-01-01T00:00:00Z").timestamp.year == 1970


def test_the_reason_says_how_far_off_the_clock_is() -> None:
    """Days when it is days, minutes when it is less."""
    ahead = (NOW + timedelta(minutes=7)).isoformat()
    old = (NOW - timedelta(days=40)).isoformat()

    with pytest.raises(InvalidInput, match="7 minutes in the future"):
        read(timestamp=ahead)
    with pytest.raises(InvalidInput, match="40 days old; at most 30 days"):
        read(timestamp=old)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T12:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_times_at_the_ends_of_the_calendar_are_refused(text: str) -> None:
    """No database and no zone can be trusted with them."""
    assert codes(raw(timestamp=text), max_age=None) == [("timestamp", "timestamp")]


def test_the_years_1_and_9999_are_judged_like_any_other() -> None:
    """The one is old, the other in the future."""
    assert read(max_age=None, timestamp="0001-01-02T00:00:00Z").timestamp.year == 1
    assert codes(raw(timestamp="9999-12-31T23:59:59Z")) == [("timestamp", "in_the_future")]


# --- the data -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_data_is_an_object(value: Any) -> None:
    """Null is none either."""
    assert codes(raw(data=value)) == [("data", "data")]


@pytest.mark.parametrize("letter", ["a", "é", "学", "😀"])
def test_data_is_at_most_10_kib_of_utf_8(letter: str) -> None:
    """Bytes count, not characters, and no spaces of the sender's."""
    room = MAX_DATA_BYTES - len(b'{"":""}')
    size = len(letter.encode())
    filled = letter * (room // size) + "." * (room % size)

    assert read(data={"": filled}).data == {"": filled}
    assert codes(raw(data={"": filled + "."})) == [("data", "too_large")]


def test_data_is_at_most_20_levels_deep() -> None:
    """Data itself is the first of them; lists count as objects do."""
    assert read(data=nested(20)).data == nested(20)
    assert codes(raw(data=nested(21))) == [("data", "too_deep")]
    assert read(data=nested(19, inner=[])).data == nested(19, inner=[])
    assert codes(raw(data=nested(20, inner=[]))) == [("data", "too_deep")]


def test_data_beyond_any_recursion_limit_is_too_deep_like_any_other() -> None:
    """The check itself does not fall into the hole."""
    assert codes(raw(data=nested(100_000))) == [("data", "too_deep")]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(number: float) -> None:
    """JSON has no NaN, and a mean over one is none either."""
    assert codes(raw(data={"a": [{"b": number}]})) == [("data", "not_finite")]


@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_have_at_most_640_digits(sign: int) -> None:
    """Larger ones cannot be fingerprinted; an id of 40 digits is fine."""
    largest = sign * (10**640 - 1)

    assert read(data={"a": largest}).data == {"a": largest}
    assert codes(raw(data={"a": largest + sign})) == [("data", "number_too_large")]
    assert codes(raw(data={"a": sign * 10**5000})) == [("data", "number_too_large")]


@pytest.mark.parametrize("data", [{"a": "x\0y"}, {"x\0y": 1}, {"a": [{"\0": 1}]}])
def test_data_holds_no_nul_neither_in_values_nor_in_names(data: Any) -> None:
    """PostgreSQL would refuse the whole statement for it."""
    assert codes(raw(data=data)) == [("data", "nul_character")]


@pytest.mark.parametrize("data", [{"a": "\ud800"}, {"\udfff": 1}, {"a": ["\ud83d"]}])
def test_data_holds_no_half_of_a_surrogate_pair(data: Any) -> None:
    """It is no character, and UTF-8 cannot carry it."""
    assert codes(raw(data=data)) == [("data", "not_unicode")]


def test_data_keeps_every_kind_of_json_value() -> None:
    """Booleans stay booleans, null stays null."""
    data: dict[str, Any] = {
        "t": True,
        "f": False,
        "n": None,
        "i": -1,
        "d": 0.5,
        "s": "学",
        "l": [],
        "o": {},
    }

    assert read(data=data).data == data


def test_all_that_is_wrong_with_time_and_texts_is_told_at_once() -> None:
    """A client mends its event in one go."""
    given = raw(timestamp="2030-01-01T00:00:00Z", mission_id="\0", data={"a": float("nan")})

    assert codes(given) == [
        ("timestamp", "in_the_future"),
        ("mission_id", "nul_character"),
        ("data", "not_finite"),
    ]


# --- what a repeat must have in common ------------------------------------------------------


def test_the_same_content_written_otherwise_is_the_same_content() -> None:
    """Offset, order of members, spelling of numbers, null and absent make no difference."""
    one = read(data={"a": 1, "b": {"c": 2.5}})
    other = read(
        timestamp="2026-03-01T13:00:00+01:00",
        student_id=STUDENT_ID.upper(),
        data={"b": {"c": 2.50}, "a": 1.0},
        mission_id=None,
    )

    assert one.content == other.content


def test_the_id_is_no_part_of_the_content() -> None:
    """It says which event, not what it says."""
    assert read(event_id=SESSION_ID).content == read().content


@pytest.mark.parametrize(
    "other",
    [
        {"student_id": EVENT_ID},
        {"session_id": EVENT_ID},
        {"event_type": "mission_complete"},
        {"timestamp": "2026-03-01T12:00:00.000001Z"},
        {"data": {"a": None}},
        {"mission_id": ""},
        {"game_version": "1"},
    ],
)
def test_a_difference_in_any_other_field_is_other_content(other: dict[str, Any]) -> None:
    """Such an event under the same id is a conflict."""
    assert read(**other).content != read().content


# --- summaries ------------------------------------------------------------------------------


def test_a_summary_counts_types_and_keeps_first_and_last() -> None:
    """That is all the features depend on."""
    times = [NOW + timedelta(minutes=m) for m in (2, 0, 5)]
    played = [read(timestamp=at.isoformat()) for at in times]

    summary = Summary.of(played)

    assert summary == Summary(counts={"mission_start": 3}, first_at=times[1], last_at=times[2])
    assert (summary.event_count, summary.minutes) == (3, 5.0)


def test_nothing_added_changes_nothing() -> None:
    """The empty summary is neutral, on either side."""
    one = Summary(counts={"a": 1}, first_at=NOW, last_at=NOW)

    assert Summary() + one == one + Summary() == one


def test_an_empty_summary_has_no_duration() -> None:
    """There is no first and no last event."""
    assert (Summary().event_count, Summary().minutes) == (0, 0.0)


# --- features -------------------------------------------------------------------------------


def session(minutes: float = 10, **counts: int) -> Summary:
    return Summary(counts=counts, first_at=NOW, last_at=NOW + timedelta(minutes=minutes))


def metric(name: str, summary: Summary, profile: Profile = Profile.STANDARD) -> Any:
    return features(summary, profile).metrics[name]


COMPAT = Profile.COMPAT

# (feature, counts, minutes, the earlier system's value): research note telemetry, 4.4.
EARLIER: list[tuple[str, Mapping[str, int], float, float]] = [
    ("task_completion_rate", {"mission_start": 2, "mission_complete": 1}, 10, 0.5),
    ("task_completion_rate", {"task_start": 3, "task_complete": 1}, 10, 0.333),
    ("task_completion_rate", {"task_start": 1, "mission_start": 2, "task_complete": 2}, 10, 0.667),
    ("task_completion_rate", {"mission_start": 1, "mission_complete": 3}, 10, 3.0),
    ("task_completion_rate", {"mission_complete": 1}, 10, 0.0),
    ("time_efficiency", {"mission_complete": 1}, 10, 0.3),
    ("time_efficiency", {"mission_complete": 1, "task_complete": 1}, 7, 0.857),
    ("time_efficiency", {"task_complete": 9}, 1, 1.0),
    ("time_efficiency", {"task_complete": 1}, 0, 0.0),
    ("retry_count", {"retry": 2, "restart": 3, "retry_attempted": 4}, 10, 5),
    ("recovery_rate", {"failure": 2, "mistake": 2, "recovery": 1}, 10, 0.25),
    ("recovery_rate", {"failure": 1, "recovery": 1, "success_after_failure": 1}, 10, 2.0),
    ("recovery_rate", {"mission_start": 1}, 10, 1.0),
    ("distraction_resistance", {"distraction": 1, "pause": 1, "choice_made": 6}, 10, 0.75),
    ("distraction_resistance", {"pause": 41, "choice_made": 39}, 10, round(1 - 41 / 80, 3)),
    ("distraction_resistance", {"pause": 1}, 0, 0.0),
    ("focus_duration", {"choice_made": 2}, 10.0, 10.0),
    ("focus_duration", {"choice_made": 2}, 1 / 3, 0.33),
    ("focus_duration", {"choice_made": 1}, 0, 0.0),
    ("collaboration_indicators", {"collaboration": 1, "help_given": 2, "help_received": 4}, 1, 7),
    ("leadership_indicators", {"initiative": 1, "leadership": 2, "decision_made": 4}, 1, 7),
    ("event_count", {"choice_made": 3, "retry": 1}, 1, 4),
    ("session_duration_minutes", {"choice_made": 2}, 1 / 3, 20 / 60),
    # Words that it did not know.
    ("task_completion_rate", {"task_started": 1, "task_completed": 1}, 10, 0.0),
    ("recovery_rate", {"failure_occurred": 2}, 10, 1.0),
    ("distraction_resistance", {"context_switch": 1}, 10, 1.0),
]


@pytest.mark.parametrize(("name", "counts", "minutes", "expected"), EARLIER)
def test_compat_gives_what_the_earlier_system_gave(
    name: str, counts: Mapping[str, int], minutes: float, expected: float
) -> None:
    """Its formulas, its rounding, its defaults, no bound at 1, its own words alone."""
    assert metric(name, session(minutes, **counts), COMPAT) == expected


def test_compat_rounds_every_share_as_the_earlier_system_did() -> None:
    """1 - d/n and (n - d)/n differ in the last bit, and at a half in the third digit."""
    shares = [(d, n) for n in range(1, 161) for d in range(n + 1)]

    computed = [
        metric("distraction_resistance", session(pause=d, choice_made=n - d), COMPAT)
        for d, n in shares
    ]

    assert computed == [round(1 - d / n, 3) for d, n in shares]


def test_compat_gives_zeros_for_a_session_without_events() -> None:
    """Unlike for one without failures, where it gave 1."""
    empty = features(Summary(), COMPAT)

    assert empty.metrics == {
        "task_completion_rate": 0.0,
        "time_efficiency": 0.0,
        "recovery_rate": 0.0,
        "distraction_resistance": 0.0,
        "retry_count": 0,
        "focus_duration": 0.0,
        "collaboration_indicators": 0,
        "leadership_indicators": 0,
        "event_count": 0,
        "session_duration_minutes": 0.0,
    }
    assert empty.undefined == {}


def test_standard_gives_null_and_the_reason_where_there_is_nothing_to_divide_by() -> None:
    """A pupil who never failed has neither the best nor the worst recovery."""
    found = features(session(0, choice_made=1))

    assert {name for name, value in found.metrics.items() if value is None} == {
        "task_completion_rate",
        "time_efficiency",
        "recovery_rate",
    }
    assert found.undefined == {
        "task_completion_rate": "nothing was started",
        "time_efficiency": "the session has no duration",
        "recovery_rate": "nothing failed",
    }


def test_standard_has_no_share_of_no_events() -> None:
    """The fourth ratio is undefined for an empty session only."""
    found = features(Summary())

    assert found.metrics["distraction_resistance"] is None
    assert found.undefined["distraction_resistance"] == "the session has no events"


def test_standard_ratios_are_at_most_1() -> None:
    """Three completions after one start are a full rate, not three of them."""
    played = session(1, mission_start=1, mission_complete=3, failure=1, recovery=2)

    found = features(played).metrics

    assert found["task_completion_rate"] == found["recovery_rate"] == 1.0
    assert found["time_efficiency"] == 1.0


def test_standard_ratios_are_rounded_to_three_digits_and_minutes_to_two() -> None:
    """As the earlier system did."""
    played = session(100 / 7, task_start=3, task_complete=2, failure=7, recovery=3, pause=1)

    found = features(played).metrics

    assert found["task_completion_rate"] == 0.667
    assert found["time_efficiency"] == round(6 / (100 / 7), 3)
    assert found["recovery_rate"] == 0.429
    assert found["distraction_resistance"] == 0.938  # 15 of 16 events
    assert found["focus_duration"] == 14.29


@pytest.mark.parametrize("kind", sorted(VOCABULARY[Profile.STANDARD]))
def test_standard_knows_the_earlier_words_and_those_of_its_game_specification(kind: str) -> None:
    """A game that follows either is understood."""
    assert VOCABULARY[COMPAT][kind] < VOCABULARY[Profile.STANDARD][kind]


def test_no_word_counts_as_two_things() -> None:
    """Otherwise one event would move two features that exclude each other."""
    words = [word for types in VOCABULARY[Profile.STANDARD].values() for word in types]

    assert len(words) == len(set(words))


def test_unknown_types_count_as_events_and_as_nothing_else() -> None:
    """They are kept, and dilute only the share of distractions."""
    found = features(session(10, made_up=9, pause=1)).metrics

    assert (found["event_count"], found["distraction_resistance"]) == (10, 0.9)
    assert found["retry_count"] == 0
