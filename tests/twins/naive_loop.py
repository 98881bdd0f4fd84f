"""
The consumer loops in which the offset faults were found, in our own words.

A position moves when records are handed out, whatever becomes of them; a bare commit makes
the position of every partition durable. Nobody seeks back, counts, or listens to rebalances.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

Handler = Callable[[str], Awaitable[None]]
Commit = Literal["bare", "next", "always"]


@dataclass
class NaiveBroker:
    """Logs of two partitions, and what a group has committed of them."""

    logs: list[list[str]] = field(default_factory=lambda: [[], []])
    committed: dict[int, int] = field(default_factory=dict)


@dataclass
class NaiveLoop:
    """
    One process of a service.

    Attributes:
        broker: Where the records are.
        handler: Its effect is committed when it returns.
        fetch: How many records one call hands out.
        commit: `bare`: the positions of all partitions, after a success. `next`: the offset
            after the record, after a success. `always`: that, after a failure too.
        reset: Where a group begins that has committed nothing.
    """

    broker: NaiveBroker
    handler: Handler
    fetch: int = 1
    commit: Commit = "bare"
    reset: Literal["earliest", "latest"] = "earliest"
    positions: dict[int, int] = field(default_factory=dict)

    def join(self) -> None:
        """Take over all partitions, from what was committed."""
        for number, log in enumerate(self.broker.logs):
            start = 0 if self.reset == "earliest" else len(log)
            self.positions[number] = self.broker.committed.get(number, start)

    async def run(self) -> None:
        """Handle all there is, one partition after the other."""
        while batch := self._poll():
            for partition, offset, record in batch:
                try:
                    await self.handler(record)
                except Exception:  # noqa: BLE001 (logged; the next record, please)
                    if self.commit == "always":
                        self.broker.committed[partition] = offset + 1
                    continue
                self._commit(partition, offset)

    def _poll(self) -> list[tuple[int, int, str]]:
        for partition, log in enumerate(self.broker.logs):
            first = self.positions[partition]
            records = log[first : first + self.fetch]
            if records:
                self.positions[partition] = first + len(records)
                return [(partition, first + n, record) for n, record in enumerate(records)]
        return []

    def _commit(self, partition: int, offset: int) -> None:
        if self.commit == "bare":
            self.broker.committed.update(self.positions)
        else:
            self.broker.committed[partition] = offset + 1
