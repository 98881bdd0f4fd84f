"""
Tradervue's import interface: executions of one trade, and how their import ended.

An import is asynchronous, and an account has one at a time. What is built on is documented in
github.com/tradervue/api-docs (`imports.md`, and the changes of 28 March 2013; read on 28
November 2026). `POST /api/v1/imports` answers 200 and `queued`, or 424 while another is under
way. `GET /api/v1/imports` says of the account's last import `queued` or `processing`, then
`succeeded` or `failed` with an `info`, and by that is `ready` again: the end is told once. A
new import clears the end of the one before. Duplicates are left out unless that is switched
off, and the counts in `info` say what was taken.

So there is no name of an import by which it could be asked for. Theory: what an attempt reads
is of its own import if nothing was sent there since, and for that the destination takes one
delivery at a time (`one_at_a_time`), which keeps others away for as long as its import is under
way (WAITING with a `remote_ref`). Whoever does not know whose end it would read asks for the
import again, as after a death between the request and its receipt, or when the end was told
to somebody who died: what is in the journal then comes back as a duplicate, and is there once.

The documents are silent on: how long an import takes; which failures pass (taken for final is
one that names an execution of ours, all others are tried again); in what `duplicate_count` and
`overquota_count` count (so any of ours that was taken counts as taken); what is a duplicate.
They are of 2015: a live account was never asked.
Limit: an import by hand, by another program or by a second destination of the same account,
between ours and the look at its end, is taken for ours if it is of two executions or fewer.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from onefold.adapters.sinks.address import Resolve, target
from onefold.adapters.sinks.posting import HttpAnswer, Poster, classified
from onefold.adapters.sinks.reading import opened, read
from onefold.core.published import Full
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import DestinationEffect, OutcomeKind, Parcel, SendOutcome

_LOOK: Final = timedelta(seconds=10)
_URL: Final = "https://www.tradervue.com/api/v1/imports"
_SENT: Final = 2  # executions of one trade
_BUSY: Final = SendOutcome(
    OutcomeKind.WAITING, "busy", 424, retry_after=_LOOK, toll=DestinationEffect.REST
)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """
    How long an attempt takes: a turn, two requests and a watch, 40 of the courier's 45 s.

    Attributes:
        turn_s: How long it waits for those of the same process to be done.
        request_s: How long one request may take.
        watch_s: How long it watches an import; what takes longer is for the next attempt.
        poll_s: How long it waits between two looks; doubled each time, up to `slowest_s`.
    """

    turn_s: float = 5.0
    request_s: float = 10.0
    watch_s: float = 15.0
    poll_s: float = 0.5
    slowest_s: float = 4.0


PACE: Final = Pace()


class TradervueConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks; a contact is mandatory, or the service answers 400."""

    contact: str
    account_tag: str | None = None
    url: str = _URL
    loopback: bool = False


class TradervueSecrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose journal."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "TradervueSecrets(…)"


class _Info(msgspec.Struct, frozen=True):
    """What became of an import; nothing else of it is read, and no text."""

    exec_count: int = 0
    duplicate_count: int = 0
    overquota_count: int = 0
    skipped_futures: bool = False
    skipped_options: bool = False
    skipped_forex: bool = False
    error_execnumber: int | None = None  # from 1


class _Status(msgspec.Struct, frozen=True):
    status: str
    info: _Info = _Info()


class TradervueSink:
    """
    See `ports.sink.Sink`: delivered means that the import ended well.

    Wants the profile `full`: without a size there is no execution.

    Args:
        config: A `TradervueConfig`.
        secrets: The `TradervueSecrets`.
        ask: How names are resolved.
        pace: How long an attempt takes.
    """

    one_at_a_time: Final = True

    def __init__(
        self,
        config: Mapping[str, Any],
        secrets: Mapping[str, Any],
        *,
        ask: Resolve | None = None,
        pace: Pace = PACE,
    ) -> None:
        self._config = read(config, TradervueConfig, "config")
        hidden = read(secrets, TradervueSecrets, "secrets")
        if not self._config.contact.isprintable() or not self._config.contact.isascii():
            raise InvalidInput([FieldProblem("config.contact", "config", "expected plain text")])
        token = base64.b64encode(f"{hidden.username}:{hidden.password}".encode()).decode()
        self._headers = {
            "authorization": f"Basic {token}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"Onefold ({self._config.contact})",
        }
        to = target(self._config.url, loopback=self._config.loopback)
        loopback = self._config.loopback
        self._poster = Poster(to, loopback=loopback, ask=ask, total_s=pace.request_s)
        self._pace = pace
        self._turn = asyncio.Lock()

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """Import this trade, or look at the import of it that is under way, up to its end."""
        found = opened(parcel)
        if isinstance(found, SendOutcome):
            return found
        envelope, data = found
        if envelope.type == "trade.test":  # a journal has no place for a trade that is none
            return SendOutcome(OutcomeKind.PERMANENT, "no_tests")
        if not isinstance(data, Full) or data.volume is None:
            return SendOutcome(OutcomeKind.HELD, "profile")
        body = msgspec.json.encode(_import(data, self._config.account_tag))
        try:  # two at once would only tell each other that the service is busy
            async with asyncio.timeout(self._pace.turn_s):
                await self._turn.acquire()
        except TimeoutError:
            return _BUSY
        try:
            if parcel.remote_ref is not None:
                return await self._end(parcel.remote_ref, now)
            return await self._import(body, now)
        finally:
            self._turn.release()

    async def _import(self, body: bytes, now: datetime) -> SendOutcome:
        headers = {**self._headers, "content-type": "application/json"}
        answer = await self._poster.request("POST", headers, body)
        if isinstance(answer, SendOutcome):
            return answer
        if answer.status == 424:
            return _BUSY
        if not 200 <= answer.status < 300:
            return classified(answer.status, answer.headers, now=now)
        return await self._end(f"import asked for at {now.isoformat()}", now)

    async def _end(self, ref: str, now: datetime) -> SendOutcome:
        """How the import of that name ended; what it is at, when there is no time left."""
        loop = asyncio.get_running_loop()
        until, pause_s = loop.time() + self._pace.watch_s, self._pace.poll_s
        while True:
            seen = _seen(await self._poster.request("GET", self._headers), ref, now)
            over = seen.kind not in {OutcomeKind.WAITING, OutcomeKind.RETRY} or seen.reason in _LOST
            if over or loop.time() + pause_s > until:
                return seen
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._pace.slowest_s)

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        await self._poster.aclose()


# Tried again by a new import: what was read, or would be, is of this one no more.
_LOST: Final = frozenset({"end_unknown", "import_failed", "not_ours"})


def _seen(answer: HttpAnswer | SendOutcome, ref: str, now: datetime) -> SendOutcome:
    """What an answer says of the import *ref*."""
    if isinstance(answer, SendOutcome):
        return answer
    if not 200 <= answer.status < 300:
        return classified(answer.status, answer.headers, now=now)
    try:
        said = msgspec.json.decode(answer.body, type=_Status)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return SendOutcome(OutcomeKind.RETRY, "unreadable", answer.status)
    return _meaning(said, answer.status, ref)


def _meaning(said: _Status, status: int, ref: str) -> SendOutcome:
    waits = SendOutcome(
        OutcomeKind.WAITING,
        "importing",
        status,
        retry_after=_LOOK,
        remote_ref=ref,
        toll=DestinationEffect.REST,
    )
    match said.status:
        case "queued" | "processing":
            return waits
        case "succeeded":
            return _succeeded(said.info, status, ref)
        case "failed":
            return _failed(said.info, status)
        case "ready":  # it was told to somebody else, who may have died of it
            return SendOutcome(OutcomeKind.RETRY, "end_unknown", status)
    return SendOutcome(OutcomeKind.RETRY, "unreadable", status)


def _succeeded(info: _Info, status: int, ref: str) -> SendOutcome:
    if info.overquota_count > 0:  # the plan's for this month: a person buys another, or waits
        return SendOutcome(OutcomeKind.HELD, "quota", status, toll=DestinationEffect.PAUSE)
    if info.skipped_futures or info.skipped_options or info.skipped_forex:
        return SendOutcome(OutcomeKind.PERMANENT, "not_in_plan", status)
    if not 1 <= info.exec_count + info.duplicate_count <= _SENT:
        return SendOutcome(OutcomeKind.RETRY, "not_ours", status)
    reason = "imported" if info.exec_count > 0 else "there_already"
    return SendOutcome(OutcomeKind.DELIVERED, reason, status, remote_ref=ref)


def _failed(info: _Info, status: int) -> SendOutcome:
    if info.error_execnumber in {1, 2}:
        which = "entry" if info.error_execnumber == 1 else "exit"
        return SendOutcome(OutcomeKind.PERMANENT, f"import_failed_{which}", status)
    return SendOutcome(OutcomeKind.RETRY, "import_failed", status)


def _import(data: Full, account_tag: str | None) -> dict[str, Any]:
    sign = 1 if data.side == "buy" else -1
    size = Decimal(data.volume or "0") * sign
    fees = {"transfee": _number(data.fees)} if data.fees is not None else {}
    executions = [
        {
            "datetime": data.entry_time,
            "symbol": data.instrument,
            "quantity": _number(f"{size:f}"),
            "price": _number(data.entry_price),
        },
        {
            "datetime": data.exit_time,
            "symbol": data.instrument,
            "quantity": _number(f"{-size:f}"),
            "price": _number(data.exit_price),
            **fees,
        },
    ]
    made: dict[str, Any] = {
        "allow_duplicates": False,
        "overlay_commissions": False,
        "tags": [data.mode],
        "executions": executions,
    }
    return made | ({"account_tag": account_tag} if account_tag else {})


def _number(text: str) -> msgspec.Raw:
    """The decimal as a JSON number, to the last digit: no float in between."""
    return msgspec.Raw(text.encode())
