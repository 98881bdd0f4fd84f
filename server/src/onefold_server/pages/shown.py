"""How instants, spans, numbers and timelines are written on a page. Pure."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from markupsafe import Markup

from onefold_server.domains.telemetry.service import Timeline

MAX_LANES: Final = 12  # types of event in the chart; the rest share the last lane
BRIEF: Final = 120  # characters of an event's data that are shown at once


def instant(at: datetime, clock: str = "%H:%M:%S") -> Markup:
    """`2026-01-30 13:12:05`, in UTC; may be broken between the two, and nowhere else."""
    return Markup('<time datetime="{}"><span>{}</span> <span>{}</span></time>').format(
        _machine(at), day(at), at.astimezone(UTC).strftime(clock)
    )


def time_of_day(at: datetime) -> Markup:
    """`13:12:05`, in UTC."""
    return Markup('<time datetime="{}">{}</time>').format(
        _machine(at), at.astimezone(UTC).strftime("%H:%M:%S")
    )


def _machine(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def day(at: datetime) -> str:
    """`2026-01-30`, in UTC."""
    return at.astimezone(UTC).date().isoformat()


_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def span(length: timedelta) -> str:
    """The two largest units: `42 s`, `12 min 34 s`, `1 h 5 min`, `2 d`."""
    rest = int(length.total_seconds())
    parts: list[tuple[int, str]] = []
    for unit, size_s in _UNITS:
        count, rest = divmod(rest, size_s)
        if count or parts:
            parts.append((count, unit))
    said = [f"{count}\N{NO-BREAK SPACE}{unit}" for count, unit in parts[:2] if count]
    return " ".join(said) or "0\N{NO-BREAK SPACE}s"


def number(value: int) -> str:
    """`67,219`."""
    return f"{value:,}"


def as_json(value: Any) -> str:
    """An event's data on one line."""
    return json.dumps(value, ensure_ascii=False)


def lanes(timeline: Timeline) -> dict[str, Any]:
    """
    What the chart draws: a lane for each type of event, in the order of their first time.

    Of many types the most frequent have a lane each, and the others one together.

    Times are Unix seconds of the middle of each step; `dots` are pairs of time and count.
    """
    start_s, step_s = timeline.start.timestamp(), timeline.step.total_seconds()

    def lane(label: str, counts: Mapping[int, int]) -> dict[str, Any]:
        dots = [[start_s + (step + 0.5) * step_s, n] for step, n in sorted(counts.items())]
        return {"label": label, "total": sum(counts.values()), "dots": dots}

    ranked = sorted(timeline.counts, key=lambda type_: -sum(timeline.counts[type_].values()))
    alone = ranked if len(ranked) <= MAX_LANES else ranked[: MAX_LANES - 1]
    shown = [lane(type_, counts) for type_, counts in timeline.counts.items() if type_ in alone]
    rest = [timeline.counts[type_] for type_ in ranked[len(alone) :]]
    if rest:
        merged: dict[int, int] = {}
        for counts in rest:
            for step, n in counts.items():
                merged[step] = merged.get(step, 0) + n
        shown.append(lane(f"{len(rest)} other types", merged))
    last = max((step for counts in timeline.counts.values() for step in counts), default=0)
    return {"start": start_s, "end": start_s + (last + 1) * step_s, "step": step_s, "lanes": shown}
