"""Twins for the contract of sinks: one that is right, and one for each way to be wrong."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, ClassVar

import msgspec
from tests.twins.gallery import gallery

from onefold.adapters.sinks.posting import classified
from onefold.adapters.sinks.reading import opened, read
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import DestinationEffect, OutcomeKind, Parcel, SendOutcome
from onefold.testing.contracts.sinks import (
    SAID,
    Arrival,
    SinkContract,
    SinkFeatures,
    Trouble,
)

_TOKEN = "a-token-of-ada"
_STATUS: Mapping[Trouble | None, int] = {
    None: 200,
    Trouble.BUSY: 503,
    Trouble.CROWDED: 429,
    Trouble.REFUSES: 400,
    Trouble.LOCKED_OUT: 401,
    Trouble.CLOSED_DOWN: 410,
    Trouble.UNFINISHED: 202,
}


@dataclass
class Answer:
    """What the box says."""

    status: int
    headers: Mapping[str, str]
    text: str = SAID


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to."""

    path: str


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With what."""

    token: str


class Sink:
    """The correct one: posts into a box in memory, which keeps one parcel an id."""

    profiles: ClassVar[frozenset[str]] = frozenset({"full", "no_size", "result_only"})

    def __init__(
        self, config: Mapping[str, Any], secrets: Mapping[str, Any], *, box: "Box"
    ) -> None:
        read(config, Config, "config")
        self._token = read(secrets, Secrets, "secrets").token
        self.box = box

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        if isinstance(held := self.gate(parcel), SendOutcome):
            return held
        try:
            asked = parcel.remote_ref is not None
            answer = await _in_turns(self.look(parcel) if asked else self.post(parcel))
        except TimeoutError:
            return self.timed_out()
        except ConnectionResetError:
            return self.cut()
        except ConnectionRefusedError:
            return SendOutcome(OutcomeKind.RETRY, "connect")
        return self.means(answer, now)

    def gate(self, parcel: Parcel) -> Any:
        found = opened(parcel)
        if isinstance(found, SendOutcome):
            return found
        profile = found[0].schema.split(".")[1]
        return None if profile in self.profiles else SendOutcome(OutcomeKind.HELD, "profile")

    async def post(self, parcel: Parcel) -> Answer:
        return await self.box.post(parcel.message_id, parcel.body)

    async def look(self, parcel: Parcel) -> Answer:
        return await self.box.look()

    def timed_out(self) -> SendOutcome:
        return SendOutcome(OutcomeKind.RETRY, "timeout")

    def cut(self) -> SendOutcome:
        return SendOutcome(OutcomeKind.RETRY, "connection")

    def means(self, answer: Answer, now: datetime) -> SendOutcome:
        if answer.status == 202:  # it has it, and is at it
            return SendOutcome(OutcomeKind.WAITING, "under_way", 202, remote_ref="4711")
        return classified(answer.status, answer.headers, now=now)

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class Box:
    """The receiver: keeps what it takes, and misbehaves as it is told."""

    kind: type[Sink] = Sink
    took: list[Arrival] = field(default_factory=list)
    playing: Trouble | None = None
    config: dict[str, Any] = field(default_factory=lambda: {"path": "/box"})
    secrets: dict[str, Any] = field(default_factory=lambda: {"token": _TOKEN})

    @property
    def features(self) -> SinkFeatures:
        return SinkFeatures(once=True, profiles=self.kind.profiles, troubles=frozenset(Trouble))

    @property
    def factory(self) -> Any:
        return partial(self.kind, box=self)

    async def arrived(self) -> list[Arrival]:
        return list(self.took)

    async def trouble(self, kind: Trouble | None) -> None:
        self.playing = kind

    async def post(self, id_: str, body: bytes) -> Answer:
        await asyncio.sleep(0)
        if self.playing is Trouble.AWAY:
            raise ConnectionRefusedError
        if self.playing in {None, Trouble.DEAF, Trouble.SILENT, Trouble.UNFINISHED}:
            self.take(id_, body)
        await asyncio.sleep(0)
        if self.playing is Trouble.DEAF:
            raise ConnectionResetError
        if self.playing is Trouble.SILENT:
            await asyncio.Event().wait()
        return await self.look()

    async def look(self) -> Answer:
        headers = {"retry-after": "60"} if self.playing is Trouble.CROWDED else {}
        return Answer(_STATUS[self.playing], headers)

    def take(self, id_: str, body: bytes) -> None:
        if id_ not in {one.id for one in self.took}:
            self.took.append(Arrival(id_, body))


async def _in_turns(work: Coroutine[Any, Any, Answer], turns: int = 50) -> Answer:
    """What *work* gives within so many turns of the loop: a timeout that no load makes shorter."""
    task = asyncio.ensure_future(work)
    try:
        for _ in range(turns):
            if task.done():
                return await task
            await asyncio.sleep(0)
    finally:
        task.cancel()
    raise TimeoutError


class NoGate(Sink):
    """Sends whatever it is given."""

    def gate(self, parcel: Parcel) -> Any:
        return None


class GuessesTheModel(Sink):
    """Declares one model, and sends the others too."""

    profiles = frozenset({"full"})

    def gate(self, parcel: Parcel) -> Any:
        found = opened(parcel)
        return found if isinstance(found, SendOutcome) else None


class NewIdEachAttempt(Sink):
    """An id for each attempt: no receiver can tell a repeat."""

    _numbers = count()

    async def post(self, parcel: Parcel) -> Answer:
        return await self.box.post(f"{parcel.message_id}-{next(self._numbers)}", parcel.body)


class AttemptInTheBody(Sink):
    """Says in the body which attempt it is."""

    async def post(self, parcel: Parcel) -> Answer:
        body = parcel.body if parcel.attempt == 1 else parcel.body + b" "
        self.box.took = [one for one in self.box.took if one.id != parcel.message_id]
        return await self.box.post(parcel.message_id, body)


class SentTwice(Sink):
    """Puts it there anew at every attempt, although it could tell."""

    async def post(self, parcel: Parcel) -> Answer:
        there = [one for one in self.box.took if one.id == parcel.message_id]
        answer = await self.box.post(parcel.message_id, parcel.body)
        self.box.took += there
        return answer


class OnePlaceForAll(Sink):
    """Each delivery replaces the one before."""

    async def post(self, parcel: Parcel) -> Answer:
        answer = await self.box.post(parcel.message_id, parcel.body)
        self.box.took = [one for one in self.box.took if one.id == parcel.message_id]
        return answer


class MixedUp(Sink):
    """Keeps the parcel in itself: side by side, one is sent under the other's id."""

    async def post(self, parcel: Parcel) -> Answer:
        self._now = parcel
        await asyncio.sleep(0)
        return await self.box.post(parcel.message_id, self._now.body)


class WritesInTwo(Sink):
    """Half of it is there before the other half."""

    async def post(self, parcel: Parcel) -> Answer:
        if self.box.playing is None:
            half = Arrival(parcel.message_id, parcel.body[:50])
            self.box.took.append(half)
            await asyncio.sleep(0)
            self.box.took.remove(half)
        return await self.box.post(parcel.message_id, parcel.body)


class TimeoutIsDelivered(Sink):
    """It was sent, was it not?"""

    def timed_out(self) -> SendOutcome:
        return SendOutcome(OutcomeKind.DELIVERED, "sent")


class NoTimeout(Sink):
    """Waits as long as the receiver likes."""

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        if isinstance(held := self.gate(parcel), SendOutcome):
            return held
        try:
            return self.means(await self.post(parcel), now)
        except ConnectionError:
            return self.cut()


class LostAnswerIsFinal(Sink):
    """What is unknown is taken for failed."""

    def cut(self) -> SendOutcome:
        return SendOutcome(OutcomeKind.PERMANENT, "connection")


class RaisesWhenNobodyIsThere(Sink):
    """An exception instead of an outcome."""

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        if self.box.playing is Trouble.AWAY:
            raise ConnectionRefusedError
        return await super().send(parcel, now=now)


class _Judges(Sink):
    """Takes one status for something else."""

    status: ClassVar[int]

    def wrong(self, right: SendOutcome) -> SendOutcome:
        raise NotImplementedError

    def means(self, answer: Answer, now: datetime) -> SendOutcome:
        right = super().means(answer, now)
        return self.wrong(right) if answer.status == self.status else right


class BusyIsFinal(_Judges):
    """Gives up at the first 503."""

    status = 503

    def wrong(self, right: SendOutcome) -> SendOutcome:
        return replace(right, kind=OutcomeKind.PERMANENT)


class DeafToRetryAfter(_Judges):
    """Comes again when it likes."""

    status = 429

    def wrong(self, right: SendOutcome) -> SendOutcome:
        return replace(right, retry_after=timedelta(seconds=1))


class RefusalTriedAgain(_Judges):
    """Sends for ever what will never be taken."""

    status = 400

    def wrong(self, right: SendOutcome) -> SendOutcome:
        return replace(right, kind=OutcomeKind.RETRY)


class HammersWithAWrongKey(_Judges):
    """Goes on with credentials that are refused."""

    status = 401

    def wrong(self, right: SendOutcome) -> SendOutcome:
        return replace(right, toll=DestinationEffect.NONE)


class CallsTheDead(_Judges):
    """Goes on calling whoever is gone."""

    status = 410

    def wrong(self, right: SendOutcome) -> SendOutcome:
        return replace(right, toll=DestinationEffect.PAUSE)


class _MisjudgesTheWait(Sink):
    """Takes a receiver that is at it for something else."""

    kind: ClassVar[OutcomeKind]

    def means(self, answer: Answer, now: datetime) -> SendOutcome:
        right = super().means(answer, now)
        return replace(right, kind=self.kind) if right.kind is OutcomeKind.WAITING else right


class AcceptedIsDelivered(_MisjudgesTheWait):
    """It was taken, was it not? What is rejected later is delivered for good."""

    kind = OutcomeKind.DELIVERED


class NotYetIsAFailure(_MisjudgesTheWait):
    """Each look costs a try and is held against the destination."""

    kind = OutcomeKind.RETRY


class SendsInsteadOfLooking(Sink):
    """Asks how it ended by sending it once more."""

    async def look(self, parcel: Parcel) -> Answer:
        self.box.took.append(Arrival(parcel.message_id, parcel.body))
        return await super().look(parcel)


class QuotesTheAnswer(Sink):
    """Tells why in the receiver's own words."""

    def means(self, answer: Answer, now: datetime) -> SendOutcome:
        return replace(super().means(answer, now), reason=answer.text)


class LogsItsHeaders(Sink):
    """A line at DEBUG, with the token."""

    async def post(self, parcel: Parcel) -> Answer:
        logging.getLogger("twin").debug("authorization: Bearer %s", self._token)
        return await super().post(parcel)


class ShowsItself(Sink):
    """Its `repr` holds its token."""

    def __repr__(self) -> str:
        return f"Sink(token={self._token})"


class TakesAnyOption(Sink):
    """A misspelt option is silently nothing."""

    def __init__(self, config: Mapping[str, Any], secrets: Mapping[str, Any], *, box: Box) -> None:
        known = {name: value for name, value in config.items() if name == "path"}
        super().__init__(known, secrets, box=box)


class QuotesTheConfiguration(Sink):
    """Says what was wrong, secret included."""

    def __init__(self, config: Mapping[str, Any], secrets: Mapping[str, Any], *, box: Box) -> None:
        try:
            super().__init__(config, secrets, box=box)
        except InvalidInput:
            told = f"cannot use {config} with {secrets}"
            raise InvalidInput([FieldProblem("config", "config", told)]) from None


class ClosesOnce(Sink):
    """Fails when it is closed again."""

    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed")
        self.closed = True


class TakesMany(Sink):
    """The correct one, of many in one call."""

    most_at_once = 10

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        return [await self.send(one, now=now) for one in parcels]


class TellsOfThoseThatWentWell(TakesMany):
    """Fewer outcomes than parcels: which is whose?"""

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        every = await super().send_many(parcels, now=now)
        return [one for one in every if one.kind is not OutcomeKind.HELD]


class OneHoldsAll(TakesMany):
    """What is wrong with one is held against all."""

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        held = [found for one in parcels if isinstance(found := self.gate(one), SendOutcome)]
        return held[:1] * len(parcels) or await super().send_many(parcels, now=now)


class SendsByTheId(TakesMany):
    """Sorted for its receiver, and so are the outcomes."""

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        by_id = sorted(parcels, key=lambda one: one.message_id)
        return await super().send_many(by_id, now=now)


class RaisesInTheMiddle(TakesMany):
    """The first has arrived, and then nobody is told of any."""

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        outcomes = []
        for one in parcels:
            outcomes.append(await self.send(one, now=now))
            if outcomes[-1].kind is OutcomeKind.RETRY:
                raise ConnectionResetError
        return outcomes


class ManyAreWrittenInTwo(TakesMany):
    """Whole alone; of many, half of each is there first."""

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        halves = [Arrival(one.message_id, one.body[:50]) for one in parcels]
        whole = self.box.playing is None and not any(self.gate(one) for one in parcels)
        if whole:
            self.box.took += halves
            await asyncio.sleep(0)
            self.box.took = [one for one in self.box.took if one not in halves]
        return await super().send_many(parcels, now=now)


_TOLD = {"test_no_outcome_tells_what_the_receiver_said", "test_no_secret_is_told"}
_TRIED_TWICE = {
    "test_nobody_there_is_tried_again",
    "test_busy_is_tried_again",
    "test_a_crowded_receiver_is_left_alone_as_long_as_it_asks",
    "test_a_refusal_is_final",
    "test_refused_credentials_pause_the_destination",
    "test_a_receiver_that_is_gone_is_given_up",
    "test_a_lost_answer_is_tried_again",
    "test_a_silent_receiver_takes_the_timeout_and_no_more",
}

# Each twin, and the cases that catch it; all others pass.
SINKS: Mapping[type[Sink], set[str]] = {
    Sink: set(),
    NoGate: {"test_what_is_no_published_payload_goes_nowhere"},
    GuessesTheModel: {"test_another_model_is_held"},
    NewIdEachAttempt: {
        "test_an_attempt_sends_the_same_id_and_bytes",
        "test_a_published_payload_arrives",
        "test_many_at_once_are_each_itself",
        "test_given_up_anywhere_nothing_is_torn",
        "test_sent_again_it_is_there_once",
        "test_what_has_not_ended_is_waited_for",
    }
    | _TRIED_TWICE,
    AttemptInTheBody: {
        "test_an_attempt_sends_the_same_id_and_bytes",
        "test_given_up_anywhere_nothing_is_torn",
    }
    | _TRIED_TWICE,
    SentTwice: {"test_sent_again_it_is_there_once"},
    OnePlaceForAll: {"test_a_published_payload_arrives", "test_many_at_once_are_each_itself"},
    MixedUp: {"test_many_at_once_are_each_itself"},
    WritesInTwo: {"test_given_up_anywhere_nothing_is_torn"},
    TimeoutIsDelivered: {"test_a_silent_receiver_takes_the_timeout_and_no_more"},
    NoTimeout: {"test_a_silent_receiver_takes_the_timeout_and_no_more"} | _TOLD,
    LostAnswerIsFinal: {"test_a_lost_answer_is_tried_again"},
    RaisesWhenNobodyIsThere: {"test_nobody_there_is_tried_again"} | _TOLD,
    BusyIsFinal: {"test_busy_is_tried_again"},
    DeafToRetryAfter: {"test_a_crowded_receiver_is_left_alone_as_long_as_it_asks"},
    RefusalTriedAgain: {"test_a_refusal_is_final"},
    HammersWithAWrongKey: {"test_refused_credentials_pause_the_destination"},
    CallsTheDead: {"test_a_receiver_that_is_gone_is_given_up"},
    AcceptedIsDelivered: {"test_what_has_not_ended_is_waited_for"},
    NotYetIsAFailure: {"test_what_has_not_ended_is_waited_for"},
    SendsInsteadOfLooking: {"test_what_has_not_ended_is_waited_for"},
    QuotesTheAnswer: {"test_no_outcome_tells_what_the_receiver_said"},
    LogsItsHeaders: {"test_no_secret_is_told"},
    ShowsItself: {"test_no_secret_is_told"},
    TakesAnyOption: {"test_a_wrong_configuration_makes_no_sink"},
    QuotesTheConfiguration: {"test_a_wrong_configuration_makes_no_sink"},
    ClosesOnce: {"test_closing_is_harmless"},
    TakesMany: set(),
    TellsOfThoseThatWentWell: {"test_many_in_one_call_are_each_itself"},
    OneHoldsAll: {"test_many_in_one_call_are_each_itself"},
    SendsByTheId: {"test_many_in_one_call_are_each_itself"},
    RaisesInTheMiddle: {"test_many_in_one_call_fare_as_one_does"},
    ManyAreWrittenInTwo: {"test_many_given_up_anywhere_are_not_torn"},
}


class TwinContract(SinkContract):
    """The contract, less patient: nothing here leaves the process."""

    patience_s = 1.0


TwinContract.__test__ = False


@asynccontextmanager
async def box(kind: type[Sink] = Sink) -> AsyncIterator[Box]:
    """A fresh box, for sinks of that kind."""
    yield Box(kind)


@gallery.breaks(
    "sends whatever it is given, published payload or not",
    TwinContract,
    says="test_what_is_no_published_payload_goes_nowhere",
)
def sink_without_a_gate() -> object:
    return box(NoGate)


@gallery.breaks(
    "a new id for each attempt: no receiver can tell a repeat",
    TwinContract,
    says="test_an_attempt_sends_the_same_id_and_bytes",
)
def new_id_each_attempt() -> object:
    return box(NewIdEachAttempt)


@gallery.breaks(
    "a timeout is taken for delivered",
    TwinContract,
    says="test_a_silent_receiver_takes_the_timeout_and_no_more",
)
def timeout_is_delivered() -> object:
    return box(TimeoutIsDelivered)


@gallery.breaks(
    "writes in two: half a body is there when its process dies",
    TwinContract,
    says="test_given_up_anywhere_nothing_is_torn",
)
def torn_delivery() -> object:
    return box(WritesInTwo)


@gallery.breaks(
    "accepted is delivered: what the receiver rejects later is told by nobody",
    TwinContract,
    says="test_what_has_not_ended_is_waited_for",
)
def accepted_is_delivered() -> object:
    return box(AcceptedIsDelivered)


@gallery.breaks("the token in a line of the log", TwinContract, says="test_no_secret_is_told")
def token_in_the_log() -> object:
    return box(LogsItsHeaders)


@gallery.breaks("a sink whose receiver keeps one parcel an id", TwinContract)
def memory_sink() -> object:
    return box(Sink)
