"""Whether chaos did harm: what was sent against what is there. No processes, no storage here."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from onefold.core.envelope import Event

CONSUMERS = ("apply", "tell")


class Effect(NamedTuple):
    """
    One effect as it was committed.

    Attributes:
        last: The highest number of its key that was visible to it; None for the first.
    """

    consumer: str
    event_id: str
    key: str
    number: int
    last: int | None


@dataclass(frozen=True, kw_only=True)
class Left:
    """
    What is there at the end.

    Attributes:
        effects: In the order in which they were written.
        parked: The ids of dead letters' events, by consumer.
        published: The ids of the outbox's events.
        arrived: The ids that stand in the topic of what was published.
    """

    effects: Sequence[Effect]
    parked: Sequence[tuple[str, str]]
    published: Collection[str]
    arrived: Collection[str]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What went wrong, in words, each thing once."""

    events: int
    lost: Sequence[str]
    doubled: Sequence[str]
    out_of_order: Sequence[str]
    parked: Sequence[str]

    @property
    def harm(self) -> list[str]:
        """All of it."""
        return [*self.lost, *self.doubled, *self.out_of_order, *self.parked]

    def line(self, *, kills: int, pauses: int) -> str:
        """The last line of a run."""
        return (
            f"chaos: {self.events} events, {kills} kills, {pauses} pauses, {len(self.lost)} lost, "
            f"{len(self.doubled)} doubled, {len(self.out_of_order)} out of order"
        )


def judge(sent: Collection[Event], left: Left) -> Verdict:
    """Every event one effect at each consumer, in order per key; exactly the poisoned parked."""
    due = {e.id: e for e in sent if e.data["mood"] != "poisoned"}
    poisoned = {("apply", e.id) for e in sent if e.id not in due}
    names = {e.identity: e.id for e in sent}
    parked = {(consumer, names.get(id_, id_)) for consumer, id_ in left.parked}
    effects = Counter((effect.consumer, effect.event_id) for effect in left.effects)
    wanted = {(consumer, id_) for consumer in CONSUMERS for id_ in due}
    unsent = set(left.published) - set(left.arrived)
    phantoms = set(left.arrived) - set(left.published)
    return Verdict(
        events=len(sent),
        lost=_told("no effect of {} at {}", wanted - effects.keys())
        + [f"published and not in the topic: {id_}" for id_ in sorted(unsent)],
        doubled=[f"{n} effects of {e} at {c}" for (c, e), n in sorted(effects.items()) if n > 1]
        + _told("an effect of {} at {} that must have none", effects.keys() - wanted)
        + [f"in the topic and never published: {id_}" for id_ in sorted(phantoms)],
        out_of_order=list(_out_of_order(due.values(), left.effects)),
        parked=_told("{} parked by {}", parked - poisoned)
        + _told("{} not parked by {}", poisoned - parked),
    )


def _told(words: str, found: Iterable[tuple[str, str]]) -> list[str]:
    return [words.format(id_, consumer) for consumer, id_ in sorted(found)]


def _out_of_order(due: Iterable[Event], effects: Sequence[Effect]) -> Iterable[str]:
    """
    Effects that did not see exactly those before them in their key.

    If each saw its predecessor as the last one, then by induction each saw all before it and
    none after it, whatever the order in which rows got their numbers.
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in due:
        numbers[event.key or ""].append(event.data["number"])
    before: dict[tuple[str, int], int | None] = {}
    for key, of_key in numbers.items():
        ordered = sorted(of_key)
        before |= {(key, n): b for b, n in zip([None, *ordered], ordered, strict=False)}
    first = {(e.consumer, e.event_id): e for e in reversed(effects)}
    for effect in sorted(first.values()):
        expected = before.get((effect.key, effect.number), effect.last)
        if effect.last != expected:
            yield f"{effect.event_id} at {effect.consumer} came after {effect.last}, not {expected}"
