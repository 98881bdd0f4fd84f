"""What is sent and what goes wrong when: all of it from one seed. No clock, no processes here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import cycle, islice
from random import Random
from typing import Any, Final

from msgspec import structs
from tests.acceptance.chaos.brokers import LEASE

from onefold.core.envelope import Event

KEYS: Final = 48
WORKERS: Final = 3
_NOW: Final = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass
class Feed:
    """
    Events with keys, numbered within each, and repeats of any that were sent before.

    Attributes:
        sent: Each of them, once.
    """

    random: Random
    sent: list[Event] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def portion(self, size: int) -> list[Event]:
        """So many new events; one in ten is there twice, one in ten comes again after long."""
        fresh = [self._new(f"k{self.random.randrange(KEYS)}", self._mood()) for _ in range(size)]
        portion: list[Event] = []
        for event in fresh:
            portion += [event] * (2 if self.random.random() < 0.1 else 1)
            if self.sent and self.random.random() < 0.1:
                portion.append(self.random.choice(self.sent))
        self.sent += fresh
        return portion

    def these(self, *wanted: tuple[str, str]) -> list[Event]:
        """New events with those keys and moods."""
        fresh = [self._new(key, mood) for key, mood in wanted]
        self.sent += fresh
        return fresh

    def farewells(self, keys: int = KEYS) -> list[Event]:
        """One for each key: when it was applied, so was all that was sent before it."""
        return self.these(*((f"k{number}", "plain") for number in range(keys)))

    def _mood(self) -> str:
        return self.random.choices(("plain", "flaky", "poisoned"), (0.988, 0.01, 0.002))[0]

    def _new(self, key: str, mood: str) -> Event:
        number = self._numbers[key] = self._numbers.get(key, 0) + 1
        facts: dict[str, Any] = {"now": _NOW, "random": self.random.randbytes, "key": key}
        event = Event.new("orders", {"number": number, "mood": mood}, source="chaos", **facts)
        return structs.replace(event, id=f"{key}-{number}")


class Blow(Enum):
    """What a worker meets."""

    KILL = auto()  # SIGKILL; it is started again
    PAUSE = auto()  # SIGSTOP for longer than its lease, then SIGCONT


@dataclass(frozen=True)
class Fate:
    """What a worker meets next, how long after it began or went on to work, and for how long."""

    blow: Blow
    after_s: float
    lasts_s: float


def fates(random: Random, *, first: int) -> Iterator[Fate]:
    """Without end: two kills for each pause, beginning with the *first* of these three."""
    for blow in islice(cycle((Blow.KILL, Blow.PAUSE, Blow.KILL)), first, None):
        lasts_s = LEASE.total_seconds() * random.uniform(1.2, 2)
        yield Fate(blow, random.uniform(0.5, 4), lasts_s)


def deaths_of_servers(random: Random) -> tuple[float, float]:
    """When broker and database die, as parts of the storm: never both at once."""
    return random.uniform(0.1, 0.3), random.uniform(0.6, 0.8)
