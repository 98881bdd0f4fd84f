"""The promises of `ports.sink.Sink`, for every sink and for yours. No pytest here."""

import asyncio
import logging
import re
from base64 import b64encode
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import quote, quote_plus

from msgspec.structs import replace

from onefold.core.ids import derived_id
from onefold.core.published import MAX_BODY_BYTES, Full, NoSize, ResultOnly, encode
from onefold.errors import InvalidInput
from onefold.ports.sink import (
    DestinationEffect,
    OutcomeKind,
    Parcel,
    SendOutcome,
    Sink,
    SinkFactory,
    most_at_once,
)

__all__ = ["Arrival", "Receiver", "SinkContract", "SinkFeatures", "Trouble", "parcel"]

NOON: Final = datetime(2026, 1, 15, 14, tzinfo=UTC)
SAID: Final = "text of the receiver 4711"  # what it says in its answers, and nobody may repeat
HIDDEN: Final = "hunter2-of-a-wrong-configuration"
_CODE: Final = re.compile(r"[a-z0-9_]{1,40}")  # as `SendOutcome` says
_LAST_STEP: Final = 1000


class Trouble(StrEnum):
    """What a receiver can do to a sink; `SinkFeatures.troubles` declares which apply."""

    AWAY = "away"  # nobody is there
    BUSY = "busy"  # not now: as 503
    CROWDED = "crowded"  # not for a minute: as 429 with Retry-After: 60
    REFUSES = "refuses"  # this one never: as 400
    LOCKED_OUT = "locked_out"  # it refuses our credentials: as 401
    CLOSED_DOWN = "closed_down"  # it is gone for good: as 410
    DEAF = "deaf"  # it takes what is sent, and its answer is lost
    SILENT = "silent"  # it takes what is sent, and does not answer
    UNFINISHED = (
        "unfinished"  # it is at what was sent, or does not show it yet; well again, it does
    )


_MEANING: Final[Mapping[Trouble, tuple[OutcomeKind, DestinationEffect]]] = {
    Trouble.AWAY: (OutcomeKind.RETRY, DestinationEffect.NONE),
    Trouble.BUSY: (OutcomeKind.RETRY, DestinationEffect.NONE),
    Trouble.CROWDED: (OutcomeKind.RETRY, DestinationEffect.NONE),
    Trouble.REFUSES: (OutcomeKind.PERMANENT, DestinationEffect.NONE),
    Trouble.LOCKED_OUT: (OutcomeKind.PERMANENT, DestinationEffect.PAUSE),
    Trouble.CLOSED_DOWN: (OutcomeKind.PERMANENT, DestinationEffect.DISABLE),
    Trouble.DEAF: (OutcomeKind.RETRY, DestinationEffect.NONE),
    Trouble.SILENT: (OutcomeKind.RETRY, DestinationEffect.NONE),
    Trouble.UNFINISHED: (OutcomeKind.WAITING, DestinationEffect.NONE),
}


@dataclass(frozen=True, kw_only=True)
class SinkFeatures:
    """
    What one kind of sink can do, declared; the suite asks for no more.

    Attributes:
        sends: `bytes`: the parcel's very bytes. `form`: a form of the receiver's own, the
            same at every attempt. `nothing`: it only looks, or keeps nothing.
        names: What arrives carries the delivery's id.
        once: A parcel that is sent again leaves one thing there: the sink, or what the
            receiver offers it, can tell. Otherwise the receiver must tell by the id.
        profiles: The payload models that it sends; others are held, and nothing is sent.
        configured: Options that it does not know are refused.
        troubles: What its receiver can do to it, and the test can provoke.
    """

    sends: Literal["bytes", "form", "nothing"] = "bytes"
    names: bool = True
    once: bool = False
    profiles: frozenset[str] = frozenset({"full", "no_size", "result_only"})
    configured: bool = True
    troubles: frozenset[Trouble] = field(default_factory=frozenset)


class Arrival(NamedTuple):
    """Something that stands at the receiver: the id it came under (if it did), its bytes."""

    id: str | None
    body: bytes


class Receiver(Protocol):
    """One fresh destination, as its sinks and the test see it."""

    @property
    def features(self) -> SinkFeatures:
        """What the sink and this receiver can do."""
        ...

    @property
    def factory(self) -> SinkFactory:
        """What makes the sink."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration that leads here."""
        ...

    @property
    def secrets(self) -> Mapping[str, Any]:
        """What nothing may tell; of more than a few letters, or chance tells them."""
        ...

    async def arrived(self) -> Sequence[Arrival]:
        """
        What stands there now, torn or whole; once for every time it came, if it came twice.

        What `REFUSES`, `BUSY` and the like turned away is not among it.
        """
        ...

    async def trouble(self, kind: Trouble | None) -> None:
        """Behave so from now on; None: well again. Answers with a text say `SAID`."""
        ...


def parcel(number: int = 0, *, profile: str = "full", attempt: int = 1) -> Parcel:
    """The delivery of that number: always the same id and bytes."""
    facts: dict[str, Any] = {
        "trade_ref": "abcdefghijklmnopqrstuvwxyz",
        "instrument": "EURUSD",
        "side": "sell",
        "mode": "live",
        "revision": number + 1,
        "status": "CLOSED",
        "exit_time": "2026-01-15T14:00:00Z",
    }
    model: type[ResultOnly] = ResultOnly
    if profile != "result_only":
        model = NoSize
        facts |= {
            "account_ref": "zyxwvutsrqponmlkjihgfedcba",
            "entry_time": "2026-01-15T13:00:00Z",
            "entry_price": "1.09",
            "exit_price": f"1.08{number:02}",
        }
    if profile == "full":
        model = Full
        facts |= {"volume": "0.5", "fees": "1.25", "currency": "USD"}
    id_ = str(derived_id("sink contract", str(number)))
    body = encode(profile, model(**facts), id_=id_, occurred_at="2026-01-15T14:00:00Z")
    return Parcel(message_id=id_, body=body, occurred_at=NOON, attempt=attempt)


class SinkContract:
    """
    Subclass, return a fresh receiver, and pytest does the rest.

    A sink is made anew from its configuration wherever another process would make it. What
    it logs is listened to at every level.
    """

    __test__ = False  # only subclasses are collected

    patience_s = 20.0  # within it every attempt has come to its end

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__test__ = True

    def fresh(self) -> AbstractAsyncContextManager[Receiver]:
        """A receiver that has got nothing, and the configuration that leads to it."""
        raise NotImplementedError

    # What the cases share.

    async def _send(self, receiver: Receiver, *parcels: Parcel) -> list[SendOutcome]:
        """Send by a sink of its own, one after the other; every attempt must end."""
        sink = _made(receiver)
        try:
            return [await self._sent(sink, one) for one in parcels]
        finally:
            await sink.aclose()

    async def _sent(self, sink: Sink, one: Parcel) -> SendOutcome:
        async with asyncio.timeout(self.patience_s):
            return await sink.send(one, now=NOON)

    async def _send_many(
        self, receiver: Receiver, parcels: Sequence[Parcel]
    ) -> Sequence[SendOutcome] | None:
        """Send all in one call; None: the sink takes one at a time."""
        sink = _made(receiver)
        try:
            if most_at_once(sink) < len(parcels):
                return None
            async with asyncio.timeout(self.patience_s):
                return await sink.send_many(parcels, now=NOON)  # type: ignore[attr-defined,no-any-return]
        finally:
            await sink.aclose()

    async def _troubles(self) -> list[Trouble | None]:
        """None, and those that are declared."""
        async with self.fresh() as receiver:
            return [None, *sorted(receiver.features.troubles)]

    async def _meets(self, trouble: Trouble) -> None:
        """One attempt under *trouble* means what it should, and one without it delivers."""
        async with self.fresh() as receiver:
            if trouble not in receiver.features.troubles:
                return  # declared: the receiver cannot, or the test cannot make it
            await receiver.trouble(trouble)
            (outcome,) = await self._send(receiver, _any(receiver))
            _fits(outcome, trouble)
            if trouble is Trouble.CROWDED:
                assert outcome.retry_after == timedelta(minutes=1), outcome

            await receiver.trouble(None)
            (after,) = await self._send(receiver, _any(receiver, attempt=2))
            assert after.kind is OutcomeKind.DELIVERED, after
            _whole(receiver, await receiver.arrived(), [_any(receiver)])

    # -- what is sent ----------------------------------------------------------------------

    async def test_a_published_payload_arrives(self) -> None:
        """Of every model that it declares, byte by byte and under its id."""
        async with self.fresh() as receiver:
            parcels = [
                parcel(number, profile=profile)
                for number, profile in enumerate(sorted(receiver.features.profiles))
            ]

            outcomes = await self._send(receiver, *parcels)

            assert [one.kind for one in outcomes] == [OutcomeKind.DELIVERED] * len(parcels), (
                outcomes
            )
            _whole(receiver, await receiver.arrived(), parcels)
            if receiver.features.sends == "bytes":
                assert len(await receiver.arrived()) == len(parcels)

    async def test_another_model_is_held(self) -> None:
        """What it cannot send waits for a person: it is not guessed at, nor tried again."""
        async with self.fresh() as receiver:
            others = {"full", "no_size", "result_only"} - receiver.features.profiles

            outcomes = await self._send(receiver, *(parcel(profile=one) for one in others))

            assert [one.kind for one in outcomes] == [OutcomeKind.HELD] * len(others), outcomes
            assert await receiver.arrived() == []

    async def test_what_is_no_published_payload_goes_nowhere(self) -> None:
        """The last gate: an unknown key, a broken body, one too large; held, whoever built it."""
        async with self.fresh() as receiver:
            good = _any(receiver)
            bodies = (
                good.body.replace(b'"side"', b'"email":"ada@example.org","side"'),
                good.body.replace(b"EURUSD", b"Ada Lovelace, London"),
                good.body.replace(b'"side":"sell",', b""),
                good.body.replace(b".v1", b".v9"),
                good.body[:-1],
                good.body + b" " * MAX_BODY_BYTES,
                b"",
                b"\xff",
            )

            outcomes = await self._send(receiver, *(_with(good, body) for body in bodies))

            assert [one.kind for one in outcomes] == [OutcomeKind.HELD] * len(bodies), outcomes
            assert await receiver.arrived() == []

    async def test_an_attempt_sends_the_same_id_and_bytes(self) -> None:
        """By which a receiver discards what it has already: whichever attempt, whoever sends."""
        async with self.fresh() as receiver:
            for attempt in (1, 2, 3):
                (outcome,) = await self._send(receiver, _any(receiver, attempt=attempt))
                assert outcome.kind is OutcomeKind.DELIVERED, outcome

            arrived = await receiver.arrived()

            assert len(set(arrived)) == (receiver.features.sends != "nothing"), arrived
            _whole(receiver, arrived, [_any(receiver)])

    async def test_sent_again_it_is_there_once(self) -> None:
        """Where the sink can tell: by one or by two processes, one after the other or at once."""
        async with self.fresh() as receiver:
            if not receiver.features.once:
                return  # declared: the receiver tells by the id
            one, other = _made(receiver), _made(receiver)
            try:
                first = await self._sent(one, _any(receiver))
                rest = await asyncio.gather(
                    *(self._sent(sink, _any(receiver, attempt=2)) for sink in (one, other) * 2)
                )
            finally:
                await one.aclose()
                await other.aclose()

            assert {outcome.kind for outcome in (first, *rest)} == {OutcomeKind.DELIVERED}, rest
            assert len(await receiver.arrived()) == (receiver.features.sends != "nothing")

    async def test_many_at_once_are_each_itself(self) -> None:
        """Deliveries side by side do not mix, replace or wait for ever for each other."""
        async with self.fresh() as receiver:
            parcels = [_any(receiver, number) for number in range(12)]
            sink = _made(receiver)
            try:
                outcomes = await asyncio.gather(*(self._sent(sink, one) for one in parcels))
            finally:
                await sink.aclose()

            assert [one.kind for one in outcomes] == [OutcomeKind.DELIVERED] * 12, outcomes
            _whole(receiver, await receiver.arrived(), parcels)

    # -- many in one call, where the sink declares `most_at_once` -----------------------------

    async def test_many_in_one_call_are_each_itself(self) -> None:
        """As many outcomes, in their order; what is wrong with one is nothing to the others."""
        async with self.fresh() as receiver:
            good = [_any(receiver, number) for number in range(5)]
            bad = _with(_any(receiver, 5), b"{}")
            parcels = [*good[:2], bad, *good[2:]]

            outcomes = await self._send_many(receiver, parcels)

            if outcomes is None:
                return  # declared: one at a time
            kinds = [OutcomeKind.HELD if one is bad else OutcomeKind.DELIVERED for one in parcels]
            assert [one.kind for one in outcomes] == kinds, outcomes
            _whole(receiver, await receiver.arrived(), good)

    async def test_many_in_one_call_fare_as_one_does(self) -> None:
        """Whatever the receiver does: an outcome each, nothing raised, and then delivered."""
        for trouble in await self._troubles():
            async with self.fresh() as receiver:
                parcels = [_any(receiver, number) for number in range(3)]
                await receiver.trouble(trouble)
                outcomes = await self._send_many(receiver, parcels)
                if outcomes is None:
                    return  # declared: one at a time
                assert len(outcomes) == 3, outcomes
                for one in outcomes:
                    _fits(one, trouble)

                await receiver.trouble(None)
                again = [
                    _any(receiver, number, attempt=2, after=one)
                    for number, one in enumerate(outcomes)
                ]
                after = await self._send(receiver, *again)
                assert [one.kind for one in after] == [OutcomeKind.DELIVERED] * 3, after
                _whole(receiver, await receiver.arrived(), parcels)

    async def test_many_given_up_anywhere_are_not_torn(self) -> None:
        """Each is there whole or not at all, and one after the other they are delivered."""
        for step in range(1, _LAST_STEP):
            async with self.fresh() as receiver:
                parcels = [_any(receiver, number) for number in range(3)]
                sink = _made(receiver)
                try:
                    if most_at_once(sink) < len(parcels):
                        return  # declared: one at a time
                    many = sink.send_many(parcels, now=NOON)  # type: ignore[attr-defined]
                    survived = await _given_up(many, at=step)
                finally:
                    await sink.aclose()
                _whole(receiver, await receiver.arrived(), parcels, some=True)

                again = [_any(receiver, number, attempt=2) for number in range(3)]
                outcomes = await self._send(receiver, *again)

                assert [one.kind for one in outcomes] == [OutcomeKind.DELIVERED] * 3, (
                    f"after step {step}"
                )
                _whole(receiver, await receiver.arrived(), parcels)
            if survived:
                return
        raise AssertionError(f"a call that takes more than {_LAST_STEP} steps")

    # -- what answers mean -----------------------------------------------------------------

    async def test_nobody_there_is_tried_again(self) -> None:
        """A receiver that restarts costs an attempt."""
        await self._meets(Trouble.AWAY)

    async def test_busy_is_tried_again(self) -> None:
        """Later, unchanged."""
        await self._meets(Trouble.BUSY)

    async def test_a_crowded_receiver_is_left_alone_as_long_as_it_asks(self) -> None:
        """It said for how long."""
        await self._meets(Trouble.CROWDED)

    async def test_a_refusal_is_final(self) -> None:
        """What will never succeed as it is, is not tried again; the destination goes on."""
        await self._meets(Trouble.REFUSES)

    async def test_refused_credentials_pause_the_destination(self) -> None:
        """The next parcel would fare no better, until a person has seen to it."""
        await self._meets(Trouble.LOCKED_OUT)

    async def test_a_receiver_that_is_gone_is_given_up(self) -> None:
        """It asked not to be called again."""
        await self._meets(Trouble.CLOSED_DOWN)

    async def test_a_lost_answer_is_tried_again(self) -> None:
        """It may have arrived: unknown is not delivered, and not failed for good."""
        await self._meets(Trouble.DEAF)

    async def test_a_silent_receiver_takes_the_timeout_and_no_more(self) -> None:
        """An attempt ends before the courier's lease does, whatever the receiver does."""
        await self._meets(Trouble.SILENT)

    async def test_what_has_not_ended_is_waited_for(self) -> None:
        """No success before it is one, no failure that costs a try; looked for, not sent twice."""
        async with self.fresh() as receiver:
            if Trouble.UNFINISHED not in receiver.features.troubles:
                return  # declared: what it answers is the end
            await receiver.trouble(Trouble.UNFINISHED)
            (asked,) = await self._send(receiver, _any(receiver))
            came = len(await receiver.arrived())
            (looked,) = await self._send(receiver, _any(receiver, attempt=2, after=asked))
            _fits(asked, Trouble.UNFINISHED)
            _fits(looked, Trouble.UNFINISHED)

            await receiver.trouble(None)
            (ended,) = await self._send(receiver, _any(receiver, attempt=3, after=looked))

            assert ended.kind is OutcomeKind.DELIVERED, ended
            assert len(await receiver.arrived()) == came, "what was waited for was sent again"
            _whole(receiver, await receiver.arrived(), [_any(receiver)])

    # -- deaths, secrets, ends -------------------------------------------------------------

    async def test_given_up_anywhere_nothing_is_torn(self) -> None:
        """A courier that stops in the middle leaves nothing or all, and the next one delivers."""
        for step in range(1, _LAST_STEP):
            async with self.fresh() as receiver:
                sink, one = _made(receiver), _any(receiver)
                try:
                    survived = await _given_up(self._sent(sink, one), at=step)
                finally:
                    await sink.aclose()
                _whole(receiver, await receiver.arrived(), [one], some=True)

                (outcome,) = await self._send(receiver, _any(receiver, attempt=2))

                assert outcome.kind is OutcomeKind.DELIVERED, f"after step {step}: {outcome}"
                _whole(receiver, await receiver.arrived(), [one])
            if survived:
                return
        raise AssertionError(f"a delivery that takes more than {_LAST_STEP} steps")

    async def test_no_outcome_tells_what_the_receiver_said(self) -> None:
        """A reason is a short stable code: an answer's text could hold anything."""
        for trouble in await self._troubles():
            async with self.fresh() as receiver:
                await receiver.trouble(trouble)
                (outcome,) = await self._send(receiver, _any(receiver))
                assert _CODE.fullmatch(outcome.reason), outcome
                assert SAID not in repr(outcome), outcome

    async def test_no_secret_is_told(self) -> None:
        """Neither by an outcome nor by a log nor by the sink itself, whatever goes wrong."""
        for trouble in await self._troubles():
            async with self.fresh() as receiver:
                await receiver.trouble(trouble)
                with _overheard() as told:
                    told.extend(map(repr, await self._send(receiver, _any(receiver))))
                    told.append(repr(_made(receiver)))
                heard = "\n".join(told)
                for secret in _texts(receiver.secrets):
                    for spelled in _spellings(secret):
                        assert spelled not in heard, f"{trouble}: a secret was told"

    async def test_a_wrong_configuration_makes_no_sink(self) -> None:
        """It fails when it is made, naming the wrong field, and telling no value."""
        async with self.fresh() as receiver:
            if not receiver.features.configured:
                return  # declared: it takes anything
            config, secrets = dict(receiver.config), dict(receiver.secrets)
            wrong: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
                ("no_such_option", config | {"no_such_option": HIDDEN}, secrets),
                ("secret", config, secrets | {"no_such_secret": HIDDEN}),
                *((name, config | {name: [{"of": HIDDEN}]}, secrets) for name in config),
                *((name, config, secrets | {name: {HIDDEN: HIDDEN}}) for name in secrets),
            ]
            for named, options, hidden in wrong:
                told = await _refusal(receiver, options, hidden)
                assert named in told, f"{named} is wrong; told was: {told}"
                for secret in (HIDDEN, *_texts(receiver.secrets)):
                    assert secret not in told, "a secret was told"

    async def test_closing_is_harmless(self) -> None:
        """Twice, and of a sink that has sent nothing."""
        async with self.fresh() as receiver:
            unused, used = _made(receiver), _made(receiver)
            await self._sent(used, _any(receiver))
            for sink in (unused, used):
                await sink.aclose()
                await sink.aclose()

            (outcome,) = await self._send(receiver, _any(receiver, 1))

            assert outcome.kind is OutcomeKind.DELIVERED, outcome


def _made(receiver: Receiver) -> Sink:
    return receiver.factory(receiver.config, receiver.secrets)


def _any(
    receiver: Receiver, number: int = 0, *, attempt: int = 1, after: SendOutcome | None = None
) -> Parcel:
    """A parcel of a model that the sink sends; after that outcome, as a courier sends it."""
    made = parcel(number, profile=min(receiver.features.profiles), attempt=attempt)
    if after is None or after.kind is not OutcomeKind.WAITING:
        return made
    return replace(made, remote_ref=after.remote_ref)


def _fits(outcome: SendOutcome, trouble: Trouble | None) -> None:
    """The outcome is what *trouble* means; a receiver that is busy may be left to rest."""
    kind, toll = (
        (OutcomeKind.DELIVERED, DestinationEffect.NONE) if trouble is None else _MEANING[trouble]
    )
    assert outcome.kind is kind, outcome
    assert outcome.toll is toll or (kind, outcome.toll) == (
        OutcomeKind.WAITING,
        DestinationEffect.REST,
    ), outcome


def _with(one: Parcel, body: bytes) -> Parcel:
    return replace(one, body=body)


def _whole(
    receiver: Receiver, arrived: Sequence[Arrival], parcels: Sequence[Parcel], *, some: bool = False
) -> None:
    """Nothing stands there but these, whole; and unless *some* is enough, each of them."""
    features = receiver.features
    if features.sends == "nothing":
        assert arrived == [], arrived
        return
    ids, bodies = {one.message_id for one in parcels}, {one.body for one in parcels}
    if features.names:
        assert {one.id for one in arrived} <= ids, arrived
        assert some or {one.id for one in arrived} == ids, arrived
    if features.sends == "bytes":
        assert {one.body for one in arrived} <= bodies, arrived
        assert some or {one.body for one in arrived} == bodies, arrived
    elif not some:
        assert len({one.body for one in arrived}) == len(bodies), arrived


def _texts(secrets: Any) -> Iterator[str]:
    """Every text in *secrets*, however deep."""
    if isinstance(secrets, str):
        yield secrets
    elif isinstance(secrets, Mapping):
        for value in secrets.values():
            yield from _texts(value)
    elif isinstance(secrets, Sequence):
        for value in secrets:
            yield from _texts(value)


def _spellings(secret: str) -> set[str]:
    """How a secret is written in a body, a URL and a header."""
    encoded = b64encode(secret.encode()).decode()
    return {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), encoded}


async def _refusal(
    receiver: Receiver, config: Mapping[str, Any], secrets: Mapping[str, Any]
) -> str:
    """What making the sink says, its traceback's errors included."""
    try:
        made = receiver.factory(config, secrets)
    except InvalidInput as refused:
        told: list[str] = []
        error: BaseException | None = refused
        while error is not None:
            told += [repr(error), str(error)]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(told)
    await made.aclose()
    raise AssertionError("a wrong configuration made a sink")


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """All that is logged in the block, at every level."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(self.format(record))

    root, ear = logging.getLogger(), Ear()
    before = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        yield heard
    finally:
        root.setLevel(before)
        root.removeHandler(ear)


async def _given_up(work: Coroutine[Any, Any, Any], *, at: int) -> bool:
    """Cancel *work* where it waits for the *at*-th time; True: it never waited so often."""
    watched = _Watched(work, at)
    task = asyncio.ensure_future(_awaited(watched))
    await asyncio.wait((task,))
    if not task.cancelled() and task.exception() is not None:
        raise AssertionError(f"given up at step {at}: {task.exception()!r}")
    return watched.waits < at


async def _awaited(work: "_Watched") -> Any:
    return await work


class _Watched:
    """An awaitable whose task is cancelled when it waits for the *at*-th time."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int) -> None:
        self._steps: Any = work.__await__()
        self._at, self.waits = at, 0

    def __await__(self) -> Any:  # an iterator, which `await` takes for as good as a generator
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: object) -> Any:
        return self._waiting(self._steps.send(value))

    def throw(self, *error: Any) -> Any:
        return self._waiting(self._steps.throw(*error))

    def _waiting(self, waits_for: object) -> object:
        self.waits += 1
        if self.waits == self._at:
            _task().cancel()
        return waits_for


def _task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task
