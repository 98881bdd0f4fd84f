"""A consumer as its author declares it; a combination that cannot hold is refused at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, get_args

from onefold.core.backoff import Backoff
from onefold.engine.delivery import Handler
from onefold.engine.failure_policy import Policy, retry_then_park
from onefold.engine.idempotent import LEASE, Keep, OnGuardDown, wrong_name
from onefold.errors import InvalidSetting
from onefold.ports.guard import Guard
from onefold.ports.transport import TransportFeatures
from onefold.ports.unit_of_work import KEEP
from onefold.ports.unprotected import UnprotectedLog

RecordMode = Literal["transaction", "optimistic", "lease", "watermark"]
WhenBusy = Literal["wait", "skip", "reject"]


@dataclass(frozen=True, kw_only=True)
class ConsumerSpec:
    """
    One consumer as its author declared it. `docs/explain/record-modes.md` weighs the modes.

    Attributes:
        name: Stable: part of every inbox record. Renaming it applies everything again.
        topics: What it reads.
        handler: `async (event, tx)`, or with `batch` `async (events, tx)`.
        batch: The handler takes a list of events and writes set-based.
        isolated: One transaction per event: for handlers with effects outside `tx`.
        max_batch: How many messages share a transaction at the most.
        concurrency: How many lanes work side by side, on disjoint keys.
        max_attempts: How often a message is begun before it is parked.
        backoff: Between the attempts.
        policy: What to do with a failure.
        max_waiting: How many messages may wait behind failing ones before their
            partitions are paused.
        record: How it is recorded that an event was applied. `transaction`: first, in the
            handler's transaction. `optimistic`: last in it. `watermark`: the position in
            the partition, in the handler's transaction. `lease`: in *guard*, after the
            handler, whose effect is elsewhere: it is run at least once.
        front: Answers repeats before a transaction is begun; the inbox decides.
        guard: Keeps the leases of `lease`.
        lease: How long a dead worker's event stays with it.
        dlq: Publish what is parked to the topic `<its topic>.dlq` too, in the transaction
            that parks it: raw bytes, and why in the headers; see `engine.dead_topic`.
        marker: Where its effect leaves the event's `identity`, as `table.column`: `onefold verify`
            looks whether every record has its effect.
        keep: How long inbox, *guard* and *front* remember: for all, or by event type. Never
            shorter than a message can come again; see docs/explain/keeping.md.
        default_keep: For event types that *keep* does not name.
        when_busy: What becomes of an event that another worker is at. `wait`: it is asked
            for again until the other has finished or lost its lease, and later events of
            its key wait with it. `skip`: later ones of its key go on. `reject`: that is a
            failure, and counted. The transaction modes wait for the row by nature.
        on_guard_down: While *guard* does not answer. `wait`: ask again. `fail`: that is a
            failure, and counted. `process`: run without protection, and write it down.
        unprotected: Where `process` writes that down.

    Raises:
        InvalidSetting: the options contradict each other.
    """

    name: str
    topics: tuple[str, ...]
    handler: Handler
    batch: bool = False
    isolated: bool = False
    max_batch: int = 100
    concurrency: int = 1
    max_attempts: int = 5
    backoff: Backoff = field(default_factory=Backoff)
    policy: Policy = retry_then_park
    max_waiting: int = 1000
    record: RecordMode = "transaction"
    front: Guard | None = None
    guard: Guard | None = None
    lease: timedelta = LEASE
    dlq: bool = False
    marker: str | None = None
    keep: Keep = KEEP
    default_keep: timedelta = KEEP
    when_busy: WhenBusy = "wait"
    on_guard_down: OnGuardDown = "wait"
    unprotected: UnprotectedLog | None = None

    def __post_init__(self) -> None:
        for setting, problem in _contradictions(self):
            raise InvalidSetting(setting, f"consumer {self.name!r}: {problem}")

    def keep_for(self, event_type: str) -> timedelta:
        """How long it is remembered that an event of that type was applied."""
        if isinstance(self.keep, timedelta):
            return self.keep
        return self.keep.get(event_type, self.default_keep)

    def check_transport(self, features: TransportFeatures) -> None:
        """Raise `InvalidSetting` unless the record can be kept of such a transport."""
        ordered = features.order == "key" and not features.settles_singly
        if self.record == "watermark" and not ordered:
            raise InvalidSetting(
                "record",
                f"consumer {self.name!r}: a watermark needs partitions that are delivered in "
                f"the order of their positions, which {features.name} does not promise for "
                "what it delivers again; use record='transaction'",
            )


_NO_REPLAY: Final = (
    "wait, skip or reject; nobody here would be given a stored result: to replay it, put "
    "idempotent_consumer around a handler that you call yourself"
)
_WAITS_FOR_THE_ROW: Final = (
    "waits for the row that the other transaction holds; use record='lease' for anything else"
)
_RUNS_REPEATS: Final = (
    "record='optimistic' runs the handler before it knows of a repeat, so that effects outside "
    "its transaction would be repeated: use record='transaction'"
)


def _contradictions(spec: ConsumerSpec) -> Iterator[tuple[str, str]]:
    """What cannot hold together, and what to do instead."""
    yield from _wrong_alone(spec)
    if spec.record not in get_args(RecordMode):
        yield "record", f"one of {', '.join(get_args(RecordMode))}"
    if spec.when_busy not in get_args(WhenBusy):
        yield "when_busy", _NO_REPLAY
    if spec.on_guard_down not in get_args(OnGuardDown):
        yield "on_guard_down", f"one of {', '.join(get_args(OnGuardDown))}"
    if min(spec.lease, spec.default_keep, *_keeps(spec)) <= timedelta(0):
        yield "lease", "lease and keep last longer than nothing"
    if spec.record == "lease":
        yield from _contradictions_of_a_lease(spec)
    else:
        yield from _contradictions_of_a_transaction(spec)


def _wrong_alone(spec: ConsumerSpec) -> Iterator[tuple[str, str]]:
    """What is wrong whatever stands beside it; a store would refuse it at every message."""
    if problem := wrong_name(spec.name):
        yield "name", problem
    topics: tuple[object, ...] = spec.topics
    for topic in topics:
        if not isinstance(topic, str) or not 1 <= len(topic) <= 249 or not topic.isprintable():
            yield "topics", f"a topic has 1 to 249 printable characters, and got {topic!r:.80}"
    if len(set(spec.topics)) < len(spec.topics):
        yield "topics", "each is named once"
    for setting, least in (("max_batch", 1), ("concurrency", 1), ("max_attempts", 1),
                           ("max_waiting", 0)):  # fmt: skip
        given = getattr(spec, setting)
        if not isinstance(given, int) or given < least:
            yield setting, f"a whole number of at least {least}, and got {given!r}"
    keeps: list[object] = [*_keeps(spec)]
    if not all(isinstance(keep, timedelta) for keep in keeps):
        yield "keep", "a timedelta, or a mapping of event types to timedeltas"
    if spec.marker is not None and not _is_place(spec.marker):
        yield "marker", f"expected table.column, and got {spec.marker!r}"


def _keeps(spec: ConsumerSpec) -> list[timedelta]:
    return list(spec.keep.values()) if isinstance(spec.keep, Mapping) else [spec.keep]


def _is_place(marker: str) -> bool:
    parts = marker.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def _contradictions_of_a_lease(spec: ConsumerSpec) -> Iterator[tuple[str, str]]:
    if spec.guard is None:
        yield "guard", "record='lease' keeps its record in a guard: give one"
    if spec.batch:
        yield "batch", "record='lease' holds one event at a time: use a handler of one event"
    if spec.front is not None:
        yield "front", "record='lease' asks its guard already: give a LayeredGuard as guard"
    if spec.on_guard_down == "process" and spec.unprotected is None:
        yield "unprotected", "on_guard_down='process' needs to know where to write it down"


def _contradictions_of_a_transaction(spec: ConsumerSpec) -> Iterator[tuple[str, str]]:
    if spec.guard is not None:
        yield "guard", f"record='{spec.record}' asks no guard: give it as front, or record='lease'"
    if spec.when_busy != "wait":
        yield "when_busy", f"record='{spec.record}' {_WAITS_FOR_THE_ROW}"
    if spec.on_guard_down != "wait" or spec.unprotected is not None:
        yield "on_guard_down", f"record='{spec.record}' asks no guard that could be down"
    if spec.record == "optimistic" and spec.isolated:
        yield "isolated", _RUNS_REPEATS
    if spec.record == "watermark" and spec.front is not None:
        yield "front", "record='watermark' knows repeats by their position: leave front out"
