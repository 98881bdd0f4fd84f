"""What loops have counted, as measures. Reads their counters when asked; costs them nothing."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from onefold.core.clock import Clock
from onefold.engine.consumer import ConsumerSpec, Counts
from onefold.engine.relay import Relay
from onefold.engine.worker import Worker
from onefold.errors import OnefoldError
from onefold.ports.meter import Measure, Meter
from onefold.ports.retention import BrokerRetention

log = logging.getLogger("onefold.meters")

_OUTCOMES = ("applied", "repeated", "conflicts", "parked", "dropped")
_TROUBLES = ("retried", "contended", "commits_unknown")
_MESSAGES = "Messages dealt with since the start; conflicts are among the repeated ones too"


async def gathered(meters: Iterable[Meter]) -> list[Measure]:
    """All measures; a meter that fails is logged and left out, and costs no other."""
    found: list[Measure] = []
    for meter in meters:
        try:
            found += await meter()
        except OnefoldError as error:
            log.warning("a measure is missing: %s", error)
            found.append(Measure(name="onefold_meter_failing", help="Meters that failed", value=1))
    return found


def worker_meter(worker: Worker) -> Meter:
    """Messages and troubles by consumer, errors by loop, removed rows by kind."""

    async def meter() -> Sequence[Measure]:
        return [
            *(m for name, counts in worker.counts().items() for m in _of_consumer(name, counts)),
            *(
                _one("onefold_consumer_waiting", _WAITING, one.waiting, consumer=one.spec.name)
                for one in worker.consumers
            ),
            *_each(
                "onefold_loop_errors_total",
                _ERRORS,
                "loop",
                {loop.name: loop.errors for loop in worker.loops},
            ),
            *_each("onefold_removed_total", _REMOVED, "kind", worker.removed),
        ]

    return meter


_ERRORS = "Steps of a loop that failed; it went on"
_REMOVED = "What was over and removed"
_WAITING = "Messages that wait behind a failing one of their key"


def _of_consumer(name: str, counts: Counts) -> list[Measure]:
    messages = [
        _one(
            "onefold_consumer_messages_total",
            _MESSAGES,
            getattr(counts, outcome),
            consumer=name,
            outcome=outcome,
        )
        for outcome in _OUTCOMES
    ]
    told = "Attempts that were begun again: a handler failed, the store was contended, or"
    return messages + [
        _one(
            "onefold_consumer_troubles_total",
            f"{told} a commit's answer was lost",
            getattr(counts, trouble),
            consumer=name,
            trouble=trouble,
        )
        for trouble in _TROUBLES
    ]


def relay_meter(relay: Relay) -> Meter:
    """Events sent, failed for now, and dead."""

    async def meter() -> Sequence[Measure]:
        told = "Events the relay sent, failed to send for now, or gave up"
        return _each("onefold_relay_events_total", told, "outcome", vars(relay.counts))

    return meter


def lag_meter(specs: Sequence[ConsumerSpec], broker: BrokerRetention, clock: Clock) -> Meter:
    """For how long the oldest unsettled message of each consumer has waited, where it is known."""

    async def meter() -> Sequence[Measure]:
        measures = []
        for spec in specs:
            since = await broker.unsettled_since(spec.name, spec.topics)
            if since is not None:
                waited = max(timedelta(0), clock.now() - since).total_seconds()
                measures.append(
                    _one("onefold_consumer_lag_seconds", _LAG, waited, consumer=spec.name)
                )
        return measures

    return meter


_LAG = "For how long the oldest message that is not settled has waited"


def _each(name: str, told: str, label: str, numbers: Mapping[str, float]) -> list[Measure]:
    return [_one(name, told, value, **{label: key}) for key, value in numbers.items()]


def _one(name: str, told: str, value: float, **labels: str) -> Measure:
    return Measure(name=name, help=told, value=value, labels=labels)
