"""Tradervue's imports as its documents tell of them: one at a time, its end told once."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from tests.support_receiver import Received, Said

Execution = tuple[str, str, float, float]  # when, what, how many, at which price


@dataclass
class Journal:
    """
    An account: what it holds, and the import that is under way or whose end nobody has read.

    Attributes:
        takes: How many requests an import stays under way for; None: until `finish`.
        refuses: What the executions of an instrument fail by: an `info` of the documents.
        posts: The bodies that were accepted, in their order.
        taken: Those of which something stands in the journal, or will.
        busy: How many were told that another import is under way.
        lost: How many ends were cleared by a new import, and never read.
    """

    takes: int | None = 0
    refuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    over_quota: bool = False
    executions: list[Execution] = field(default_factory=list)
    posts: list[bytes] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    busy: int = 0
    lost: int = 0
    _under_way: tuple[int, dict[str, Any]] | None = None  # requests so far, and what it imports
    _end: dict[str, Any] | None = None  # unread

    def __call__(self, asked: Received) -> Said:
        """The answer to one request, under this account's name alone."""
        self._go_on()
        if "authorization" not in asked.headers or "user-agent" not in asked.headers:
            return 400, {}, b""
        if asked.line.startswith("GET"):
            return 200, {}, msgspec.json.encode(self._status())
        return self._asked(asked.body)

    def _go_on(self) -> None:
        if self._under_way is not None and self.takes is not None:
            passed, wanted = self._under_way
            self._under_way = (passed + 1, wanted)
            if passed + 1 >= self.takes:
                self.finish()

    def _status(self) -> dict[str, Any]:
        if self._under_way is not None:
            return {"status": "processing" if self._under_way[0] > 1 else "queued"}
        end, self._end = self._end or {"status": "ready"}, None
        return end

    def _asked(self, body: bytes) -> Said:
        if self._under_way is not None:
            self.busy += 1
            return 424, {}, b'{"error": "import already in progress"}'
        wanted = msgspec.json.decode(body)
        if not wanted["executions"]:
            return 400, {}, b'{"status": "no executions"}'
        self.lost += self._end is not None
        self._end, self._under_way = None, (0, wanted)
        self.posts.append(body)
        self.taken += [] if self._holds(wanted) else [body]
        if self.takes == 0:
            self.finish()
        return 200, {}, b'{"status": "queued"}'

    def _holds(self, wanted: dict[str, Any]) -> bool:
        found = [_execution(one) for one in wanted["executions"]]
        return not wanted["allow_duplicates"] and set(found) <= set(self.executions)

    @property
    def under_way(self) -> bool:
        """Whether an import has not ended."""
        return self._under_way is not None

    def finish(self) -> None:
        """Let the import that is under way come to its end."""
        assert self._under_way is not None, "no import is under way"
        _, wanted = self._under_way
        self._under_way, self._end = None, self._ended(wanted)

    def _ended(self, wanted: dict[str, Any]) -> dict[str, Any]:
        found = [_execution(one) for one in wanted["executions"]]
        failure = self.refuses.get(found[0][1])
        if failure is not None:
            return {"status": "failed", "info": _counts() | failure}
        if self.over_quota:
            return {"status": "succeeded", "info": _counts(overquota_count=len(found))}
        new = [one for one in found if wanted["allow_duplicates"] or one not in self.executions]
        self.executions += new
        info = _counts(exec_count=len(new), duplicate_count=len(found) - len(new))
        return {"status": "succeeded", "info": info}


def _counts(**known: int) -> dict[str, Any]:
    counts = dict.fromkeys(("exec_count", "duplicate_count", "overquota_count"), 0)
    skipped = dict.fromkeys(("skipped_futures", "skipped_options", "skipped_forex"), False)
    return counts | skipped | known


def _execution(one: dict[str, Any]) -> Execution:
    return one["datetime"], one["symbol"], one["quantity"], one["price"]
