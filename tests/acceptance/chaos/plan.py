"""What is sent and what goes wrong when: all of it from one seed. No clock, no processes here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
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

    def farewells(self) -> list[Event]:
        """One for each key: when it was applied, so was all that was sent before it."""
        farewells = [self._new(f"k{number}", "plain") for number in range(KEYS)]
        self.sent += farewells
        return farewells

    def _mood(self) -> str:
        return self.random.choices(("plain", "flaky", "poisoned"), (0.988, 0.01, 0.002))[0]

    def _new(self, key: str, mood: str) -> Event:
        number = self._numbers[key] = self._numbers.get(key, 0) + 1
        facts: dict[str, Any] = {"now": _NOW, "random": self.random.randbytes, "key": key}
        event = Event.new("orders", {"number": number, "mood": mood}, source="chaos", **facts)
        return structs.replace(event, id=f"{key}-{number}")


class Blow(Enum):
    """What goes wrong."""

    KILL = auto()  # SIGKILL to a worker, which is started again
    PAUSE = auto()  # SIGSTOP to a worker for longer than its lease, then SIGCONT
    BROKER = auto()  # SIGKILL to the broker, which is started again on its data
    DATABASE = auto()  # PostgreSQL stops at once, and is started again on its data


@dataclass(frozen=True, order=True)
class Moment:
    """When, in seconds from the start, to which worker, and for how long a pause or absence."""

    at_s: float
    blow: Blow = field(compare=False)
    worker: int = field(compare=False, default=0)
    lasts_s: float = field(compare=False, default=0.0)


def moments(random: Random, storm_s: float) -> list[Moment]:
    """One death of each server; a worker killed every two seconds, one paused every four."""
    found = [
        Moment(storm_s * random.uniform(0.2, 0.4), Blow.BROKER, lasts_s=random.uniform(0, 1)),
        Moment(storm_s * random.uniform(0.55, 0.75), Blow.DATABASE, lasts_s=random.uniform(0, 1)),
    ]
    for blow, every_s in ((Blow.KILL, 2.0), (Blow.PAUSE, 4.0)):
        for at_s in _times(random, storm_s, every_s):
            lasts_s = LEASE.total_seconds() * random.uniform(1.2, 2) if blow is Blow.PAUSE else 0.0
            found.append(Moment(at_s, blow, random.randrange(WORKERS), lasts_s))
    return sorted(found)


def _times(random: Random, until_s: float, every_s: float) -> Iterator[float]:
    at_s = random.uniform(0.5, 1.5) * every_s
    while at_s < until_s:
        yield at_s
        at_s += random.uniform(0.5, 1.5) * every_s
