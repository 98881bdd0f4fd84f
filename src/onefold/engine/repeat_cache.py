"""
A fast guard in front of the inbox: it answers repeats, the inbox decides.

What it says is done was committed before it was told so, and may be believed. Whatever else
it says, and while it says nothing, the inbox is asked as if there were no front.
"""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from onefold.core.clock import Clock
from onefold.engine.delivery import Delivery
from onefold.errors import Broken, Unavailable
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Done, Guard, Lease
from onefold.ports.unit_of_work import Claimed

log = logging.getLogger("onefold.consumer")

T = TypeVar("T")
KeepFor = Callable[[str], timedelta]  # by event type

# They exclude nobody: a lease only carries what is taught after the commit.
LEASE: Final = timedelta(minutes=5)
# How long a front that did not answer is left alone: asking costs its time to fail.
REST: Final = timedelta(seconds=10)


class RepeatCache:
    """
    One consumer's view of its front. Two round trips a poll: to ask, and to teach.

    Limit: it outlives a database that was restored from an older backup; clear it then.
    """

    def __init__(
        self, guard: Guard, *, consumer: str, owner: str, clock: Clock, keep_for: KeepFor
    ) -> None:
        self._guard, self._consumer, self._owner = guard, consumer, owner
        self._clock, self._keep_for = clock, keep_for
        self._rests_until: datetime | None = None

    async def repeats(self, batch: Sequence[Delivery]) -> Mapping[Delivery, Claimed]:
        """Those of *batch* that were applied before, as far as the front remembers."""
        events = [delivery for delivery in batch if delivery.event is not None]
        claims = {self._key(d): Claim(self._key(d), d.claim.fingerprint) for d in events}
        now = self._clock.now()
        if not claims or (self._rests_until is not None and now < self._rests_until):
            return {}
        asked = self._guard.claim(list(claims.values()), owner=self._owner, now=now, lease=LEASE)
        told = {verdict.key: verdict for verdict in await self._or_nothing(asked) or ()}
        found = {}
        for delivery in events:
            verdict = told.get(self._key(delivery))
            if isinstance(verdict, Done):
                found[delivery] = Claimed.REPEATED if verdict.same_content else Claimed.CONFLICT
            elif isinstance(verdict, Lease):
                delivery.front = verdict
        return found

    async def learn(self, part: Sequence[Delivery], verdicts: Sequence[Claimed]) -> None:
        """Remember what the inbox has on record by now. Call it after the commit only."""
        done: dict[timedelta, dict[ClaimKey, Confirmation]] = defaultdict(dict)
        for delivery, verdict in zip(part, verdicts, strict=True):
            if delivery.front and delivery.event and verdict is not Claimed.CONFLICT:
                keep = self._keep_for(delivery.event.type)
                done[keep][delivery.front.key] = Confirmation(delivery.front)
        for keep, each in done.items():
            confirmations, now = list(each.values()), self._clock.now()
            await self._or_nothing(self._guard.confirm(confirmations, now=now, keep=keep))

    def _key(self, delivery: Delivery) -> ClaimKey:
        return ClaimKey(self._consumer, "", delivery.claim.event_id)

    async def _or_nothing(self, answer: Awaitable[T]) -> T | None:
        """The front's answer; an outage of it is no outage."""
        try:
            return await answer
        except (Unavailable, Broken) as error:
            log.warning("%s goes on without its front: %s", self._consumer, error)
            self._rests_until = self._clock.now() + REST
            return None
