"""
Outbox to broker: publish, then mark.

Never the reverse: a crash between them repeats under the same event id, which every
consumer discards; marking first would lose. A failed event holds up its own key until its
next attempt, and after `max_age` is dead: kept, and waiting for a person.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from onefold.core.backoff import Backoff
from onefold.core.envelope import Event
from onefold.core.trace_context import trace_of
from onefold.core.wire import encode_binary, encode_native, encode_structured
from onefold.engine.delivery import Environment
from onefold.ports.outbox import Outbox, SendFailure, Shipment, Waiting
from onefold.ports.transport import Outgoing, Transport

log = logging.getLogger("onefold.relay")

LEASE: Final = timedelta(seconds=30)

Form = Callable[[Event], tuple[Mapping[str, str], bytes]]


def native(event: Event) -> tuple[Mapping[str, str], bytes]:
    """The native envelope."""
    return {"content-type": "application/json"}, encode_native(event)


def structured(event: Event) -> tuple[Mapping[str, str], bytes]:
    """CloudEvents, all in the body."""
    return {"content-type": "application/cloudevents+json"}, encode_structured(event)


def binary(event: Event) -> tuple[Mapping[str, str], bytes]:
    """CloudEvents, attributes in headers: the default."""
    return encode_binary(event, transport="kafka")


FORMS: Mapping[str, Form] = {"native": native, "structured": structured, "binary": binary}


@dataclass(frozen=True, kw_only=True)
class Routes:
    """
    Where events go and what they look like there.

    Attributes:
        topics: Topic by event type; a type that is not named goes to the topic of its name.
        forms: Form by topic: `binary`, `structured` or `native`.
        form: The form of topics not named.
    """

    topics: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    form: str = "binary"

    def outgoing(self, event: Event) -> Outgoing:
        """*event* as it leaves: the same bytes at every attempt."""
        topic = self.topics.get(event.type, event.type)
        headers, body = FORMS[self.forms.get(topic, self.form)](event)
        headers = {**headers, **trace_of(event)}  # where tracers look for it
        return Outgoing(
            topic=topic,
            key=None if event.key is None else event.key.encode(),
            value=body,
            headers=[(name, value.encode()) for name, value in headers.items()],
        )


@dataclass
class Sent:
    """What became of events since the start: a failed one is tried again, a dead one is not."""

    sent: int = 0
    failed: int = 0
    dead: int = 0


class Relay:
    """Sends what waits. Any number of relays work side by side; `step` is one shipment."""

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        owner: str,
        env: Environment,
        routes: Routes | None = None,
        backoff: Backoff | None = None,
        lease: timedelta = LEASE,
        max_age: timedelta = timedelta(days=1),
        batch: int = 500,
    ) -> None:
        self._outbox, self._transport, self._env = outbox, transport, env
        self._owner, self._routes = owner, routes or Routes()
        self._backoff, self._lease = backoff or Backoff(), lease
        self._max_age, self._batch = max_age, batch
        self.counts = Sent()
        self.topics: set[str] = set()  # that were sent to since the start

    async def step(self) -> bool:
        """Send one shipment; True when there was one. Dying anywhere repeats, never loses."""
        clock = self._env.clock
        shipment = await self._outbox.lease(
            self._owner, now=clock.now(), lease=self._lease, limit=self._batch
        )
        if shipment is None:
            return False
        answers = await self._publish(shipment)
        # Publish before mark: a crash between them repeats, the reverse loses.
        sent = [w.position for w, no in zip(shipment.waiting, answers, strict=True) if no is None]
        failed = [
            self._failure(waiting, answer)
            for waiting, answer in zip(shipment.waiting, answers, strict=True)
            if answer is not None
        ]
        if not await self._outbox.mark(shipment, sent=sent, failed=failed, now=clock.now()):
            log.warning("shard %d was taken over; its events are sent again", shipment.shard)
        self.counts.sent += len(sent)
        self.counts.failed += len(failed)
        self.counts.dead += sum(failure.next_at is None for failure in failed)
        return True

    async def _publish(self, shipment: Shipment) -> Sequence[BaseException | None]:
        outgoing = [self._routes.outgoing(waiting.event) for waiting in shipment.waiting]
        self.topics.update(message.topic for message in outgoing)
        return await self._transport.publish(outgoing)

    def _failure(self, waiting: Waiting, error: BaseException) -> SendFailure:
        now = self._env.clock.now()
        if now - waiting.published_at >= self._max_age:
            log.error("event %s is dead: %s", waiting.event.id, error)
            return SendFailure(waiting.position, str(error), None)
        delay_s = self._backoff.delay_s(waiting.attempts + 1, self._env.jitter())
        # At least a millisecond: a next attempt that is due at once would spin.
        return SendFailure(
            waiting.position, str(error), now + timedelta(seconds=max(delay_s, 0.001))
        )
