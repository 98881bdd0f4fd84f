"""Features in words for people who teach: label, unit, meaning. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from onefold_server.domains.telemetry.rules import VOCABULARY, Profile

Unit = Literal["share", "minutes", "times"]


class Feature(NamedTuple):
    """How one metric of `telemetry.rules.features` is told."""

    name: str
    label: str
    unit: Unit
    meaning: str


FEATURES: Final = (
    Feature(
        "task_completion_rate",
        "Completion",
        "share",
        "How many of the missions and tasks that were started were also completed.",
    ),
    Feature(
        "time_efficiency",
        "Pace",
        "share",
        "Three minutes for each completion, over the minutes played. 100 % is three minutes "
        "or less for each.",
    ),
    Feature(
        "recovery_rate",
        "Recovery",
        "share",
        "How many of the failures were followed up by a success.",
    ),
    Feature(
        "distraction_resistance",
        "Staying on task",
        "share",
        "How many of all events are no pause and no distraction.",
    ),
    Feature("retry_count", "Retries", "times", "How often something was tried again."),
    Feature(
        "focus_duration",
        "Focus time",
        "minutes",
        "From the first event to the last, by the game's clock.",
    ),
    Feature(
        "collaboration_indicators",
        "Collaboration",
        "times",
        "How often help was given, received or shared.",
    ),
    Feature(
        "leadership_indicators",
        "Leadership",
        "times",
        "How often the pupil took initiative, decided or delegated.",
    ),
)
# Told at the head of a session's page already, not once more as features.
TOLD_ELSEWHERE: Final = frozenset({"event_count", "session_duration_minutes"})

_OF_THE_PROFILE: Final = {
    Profile.STANDARD: "Shares stop at 100 %. A share of nothing has no value, and says why.",
    Profile.COMPAT: "Formulas of the earlier system: shares may go over 100 %, and a default "
    "stands where a share has no value.",
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """
    One feature of one session, for people.

    Attributes:
        label: What it is called.
        value: With its unit; None where it has no value.
        why: The reason that it has none.
        meaning: What is counted.
    """

    label: str
    value: str | None
    why: str | None
    meaning: str


def told(metrics: Mapping[str, float | int | None], undefined: Mapping[str, str]) -> Iterator[Told]:
    """The features of one revision in the order in which they are shown."""
    for feature in FEATURES:
        if feature.name in metrics:
            value = metrics[feature.name]
            yield Told(
                label=feature.label,
                value=None if value is None else amount(value, feature.unit),
                why=undefined.get(feature.name),
                meaning=feature.meaning,
            )


def amount(value: float, unit: Unit) -> str:
    """
    *value* with its unit: `66.7 %`, `12.34 min`, `3 times`.

    Shares are kept with three digits, of which the percentage shows all.
    """
    if unit == "share":
        return f"{round(value * 100, 1):g}\N{NO-BREAK SPACE}%"
    if unit == "minutes":
        return f"{value:g}\N{NO-BREAK SPACE}min"
    return "once" if value == 1 else f"{value:,}\N{NO-BREAK SPACE}times"


def profile_note(profile: str) -> str:
    """How the formulas of *profile* treat shares of nothing."""
    return _OF_THE_PROFILE[Profile(profile)]


def vocabulary(profile: str) -> dict[str, list[str]]:
    """What each kind of event is called by games: kind to types of event."""
    return {kind: sorted(types) for kind, types in VOCABULARY[Profile(profile)].items()}
