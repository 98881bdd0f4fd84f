"""Spans, starts and dead letters in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from onefold.ports.ledger import Begun, DeadLetter, PositionSpan
from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction


class MemoryLedger:
    """See `ports.ledger.Ledger`. Letters live in the unit of work's records, and roll back."""

    def __init__(self, uow: Any) -> None:
        self._uow = uow
        # What is noted of a partition, and what was answered then.
        self._spans: dict[tuple[str, Partition], tuple[Begun, Begun | None]] = {}
        self._starts: dict[tuple[str, Partition, int], tuple[int, str]] = {}

    async def begin(
        self, consumer: str, spans: Collection[PositionSpan], *, token: str, now: datetime
    ) -> Collection[Begun]:
        answers = [self._begin((consumer, span.partition), Begun(span, token)) for span in spans]
        return [answer for answer in answers if answer is not None]

    def _begin(self, place: tuple[str, Partition], new: Begun) -> Begun | None:
        before, answered = self._spans.get(place, (None, None))
        if before and before.token == new.token:
            return answered
        answer = before if before and before.span.overlaps(new.span) else None
        self._spans[place] = new, answer
        return answer

    async def count(
        self,
        consumer: str,
        partition: Partition,
        position: int,
        *,
        token: str,
        now: datetime,
    ) -> int:
        place = consumer, partition, position
        times, last = self._starts.get(place, (0, ""))
        if token != last:
            self._starts[place] = times, last = times + 1, token
        return times

    async def park(self, tx: Transaction, letter: DeadLetter) -> None:
        id_ = "/".join(map(str, (letter.consumer, *letter.partition, letter.position)))
        parked = _letters(tx)
        flat = asdict(letter) | {
            "id": id_,
            "topic": letter.partition.topic,
            "partition": letter.partition.number,
            "headers": [[name, value.hex()] for name, value in letter.headers],
            "state": "parked",
            "note": None,
        }
        parked.setdefault(id_, flat)

    async def letters(
        self,
        *,
        consumer: str | None = None,
        state: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> Sequence[Mapping[str, Any]]:
        wanted = {"consumer": consumer, "state": state, "reason": reason}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        async with self._uow.read() as tx:
            letters = tx.records.get("dead letters", {}).values()
        ordered = sorted(letters, key=lambda letter: (letter["parked_at"], letter["id"]))
        return [o for o in ordered if all(o[n] == v for n, v in wanted.items())][:limit]

    async def move(
        self, ids: Collection[str], *, to: str, note: str, now: datetime
    ) -> Sequence[str]:
        moved = []
        async with self._uow.begin() as tx:
            for id_, letter in tx.records.get("dead letters", {}).items():
                if id_ in ids and letter["state"] in {"parked", "asked"}:
                    letter.update(state=to, note=note, moved_at=now)
                    moved.append(id_)
        return sorted(moved)

    async def replayed(self, tx: Transaction, id_: str, *, now: datetime) -> None:
        _letters(tx)[id_].update(state="replayed", moved_at=now)


def _letters(tx: Any) -> dict[str, dict[str, Any]]:
    """Of the same adapter's transaction, or of one around it."""
    letters: dict[str, dict[str, Any]] = tx.records.setdefault("dead letters", {})
    return letters
