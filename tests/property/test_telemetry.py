"""Features depend on which events there are, and on nothing else; no input is a surprise."""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.support import new_school, rows

from onefold.errors import InvalidInput
from onefold.testing.clock import ManualClock
from onefold_server.domains.telemetry.rules import (
    VOCABULARY,
    Profile,
    Summary,
    TelemetryEvent,
    features,
    read_event,
)
from onefold_server.domains.telemetry.tables import events
from onefold_server.http.replies import Reply
from onefold_server.installation import build
from onefold_server.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RATIOS = (
    "task_completion_rate",
    "time_efficiency",
    "recovery_rate",
    "distraction_resistance",
)
TYPES = sorted(name for names in VOCABULARY[Profile.STANDARD].values() for name in names)

# --- pure -----------------------------------------------------------------------------------

types = st.sampled_from([*TYPES, "choice_made", "unheard_of"])
offsets_s = st.integers(0, 7200)
played = st.lists(st.tuples(types, offsets_s), max_size=30)
profiles = st.sampled_from(Profile)


def event(n: int, event_type: str, offset_s: int, *, session: int = 0) -> dict[str, Any]:
    return {
        "event_id": str(UUID(int=n + 1)),
        "student_id": str(UUID(int=1000 + session)),
        "session_id": str(UUID(int=2000 + session)),
        "event_type": event_type,
        "timestamp": (NOON + timedelta(seconds=offset_s)).isoformat(),
    }


def read(raws: Sequence[dict[str, Any]]) -> list[TelemetryEvent]:
    return [read_event(raw, now=NOON + timedelta(hours=2), max_age=None) for raw in raws]


def some_play(pairs: Sequence[tuple[str, int]]) -> list[TelemetryEvent]:
    return read([event(n, *pair) for n, pair in enumerate(pairs)])


@given(played, st.randoms(), profiles)
def test_features_do_not_depend_on_the_order_of_arrival(
    pairs: list[tuple[str, int]], random: Any, profile: Profile
) -> None:
    """Networks reorder."""
    one = some_play(pairs)
    other = list(one)
    random.shuffle(other)

    assert features(Summary.of(other), profile) == features(Summary.of(one), profile)


@given(played, st.lists(st.integers(0, 30), max_size=5), profiles)
def test_features_do_not_depend_on_how_events_are_split(
    pairs: list[tuple[str, int]], cuts: list[int], profile: Profile
) -> None:
    """The summary of all is the sum of the summaries of the parts."""
    whole = some_play(pairs)
    bounds = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})

    parts = [Summary.of(whole[start:end]) for start, end in pairwise(bounds)]
    total = sum(parts, start=Summary())

    assert features(total, profile) == features(Summary.of(whole), profile)


@given(played)
def test_standard_features_are_shares_or_null_with_a_reason(pairs: list[tuple[str, int]]) -> None:
    """Between 0 and 1, whatever was played; nothing is NaN."""
    found = features(Summary.of(some_play(pairs)))

    ratios = {name: found.metrics[name] for name in RATIOS}
    assert all(value is None or 0 <= value <= 1 for value in ratios.values())
    assert {name for name, value in ratios.items() if value is None} == set(found.undefined)


@given(played)
def test_compat_features_are_never_null(pairs: list[tuple[str, int]]) -> None:
    """The earlier system had a default for everything."""
    found = features(Summary.of(some_play(pairs)), Profile.COMPAT)

    assert None not in found.metrics.values()
    assert found.undefined == {}


# --- through the service --------------------------------------------------------------------

SESSIONS = 3
plans = st.lists(st.tuples(types, offsets_s, st.integers(0, SESSIONS - 1)), min_size=1, max_size=20)
# What happens: some events are sent (by number, repeats likely), a session is closed, or swept.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.lists(st.integers(0, 19), min_size=1, max_size=8)),
        st.tuples(st.just("close"), st.integers(0, SESSIONS - 1)),
        st.tuples(st.just("sweep"), st.integers(0, 3600)),
    ),
    max_size=8,
)


async def run(template: Path, file: Path, raws: list[dict[str, Any]], happens: list[Any]) -> None:
    shutil.copy(template, file)
    clock = ManualClock(NOON + timedelta(hours=2))
    onefold = build(Settings(database_url=SecretStr(f"sqlite:///{file}")), clock=clock)
    caller = (await new_school(onefold)).service
    telemetry = onefold.telemetry
    started: set[str] = set()
    for what, given_ in happens:
        if what == "send":
            batch = [raws[n % len(raws)] for n in given_]
            started |= {raw["session_id"] for raw in batch}
            await telemetry.ingest(caller, batch)
        elif what == "close" and str(UUID(int=2000 + given_)) in started:
            await telemetry.close_session(caller, UUID(int=2000 + given_))
        elif what == "sweep":
            clock.advance(timedelta(seconds=given_))
            await telemetry.close_idle_sessions()
    await telemetry.ingest(caller, raws)

    for session_id in {raw["session_id"] for raw in raws}:
        row = await telemetry.close_session(caller, UUID(session_id))
        theirs = Summary.of(read([raw for raw in raws if raw["session_id"] == session_id]))
        assert row["features_metrics"] == features(theirs).metrics
        assert row["features_undefined"] == features(theirs).undefined
        assert row["features_event_types"] == theirs.counts
        assert (row["started_at"], row["last_event_at"]) == (theirs.first_at, theirs.last_at)
        assert row["event_count"] == theirs.event_count
    assert len(await rows(onefold, events)) == len(raws)
    await onefold.aclose()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plans, steps)
def test_kept_features_equal_those_of_all_events(
    sqlite_template: Path, plan: list[tuple[str, int, int]], happens: list[Any]
) -> None:
    """However events were batched, repeated and reordered, and whenever sessions were closed."""
    raws = [event(n, kind, at, session=s) for n, (kind, at, s) in enumerate(plan)]

    with TemporaryDirectory() as directory:
        asyncio.run(run(sqlite_template, Path(directory) / "onefold.db", raws, happens))


# --- any input ------------------------------------------------------------------------------

text = st.text(st.characters(), max_size=12)  # lone surrogates too
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**639, 10**640, -(10**640)])
    | st.floats()
    | text
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
ids = st.uuids().map(str)
nearly = st.fixed_dictionaries(
    {
        "event_id": ids | json_values,
        "student_id": ids | json_values,
        "session_id": ids | json_values,
        "event_type": st.just("choice_made") | json_values,
        "timestamp": st.sampled_from(
            ["2026-03-01T12:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
        )
        | json_values,
    },
    optional={
        "data": st.dictionaries(text, json_values, max_size=4) | json_values,
        "mission_id": text | json_values,
        "game_version": text | json_values,
    },
)


@settings(max_examples=300)
@given(nearly | json_values)
def test_any_json_is_an_event_or_refused_in_words_that_can_be_answered(raw: Any) -> None:
    """Never another error, and never a refusal that cannot itself be sent."""
    try:
        found = read_event(raw, now=NOON, max_age=timedelta(days=30))
    except InvalidInput as refused:
        Reply([problem._asdict() for problem in refused.problems])
    else:
        assert (len(found.content), found.timestamp.tzinfo) == (32, UTC)
