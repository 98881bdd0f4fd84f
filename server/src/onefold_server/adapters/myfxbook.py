"""
Myfxbook takes no trades: its interface is read-only. So this looks, and never posts.

The owner connects the trading account at Myfxbook, which reads the broker several times a
day. What "delivers" a trade here is that it is seen in the account's history there; until then
it is looked for again, which spends no tries and is no failure of the destination, and what
is not seen for seven days is dead as `not_seen`. The credential is the user's own session.

One answer serves all trades for a quarter of an hour, so that a courier asks 96 times a day
at the most: the free interface is said to bear 100.
Limit: the history has 50 rows; of an account that closes more in a quarter of an hour, some
are never seen.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import ParseError

import msgspec

from onefold.adapters.sinks.address import Resolve, target
from onefold.adapters.sinks.posting import HttpAnswer, Poster, classified
from onefold.adapters.sinks.reading import opened, read
from onefold.core.published import NoSize
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import DestinationEffect, OutcomeKind, Parcel, SendOutcome

_URL: Final = "https://www.myfxbook.com/api/get-history"
_FRESH: Final = timedelta(minutes=15)  # one answer serves all trades that are looked for
# What a site may answer instead of a history: other shapes, no numbers, depths without end.
_UNREADABLE: Final = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError, ParseError),
)
_NEAR: Final = timedelta(seconds=90)  # the site's times are whole minutes


class MyfxbookConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which account, and how far its broker's clock is from UTC: its times name no zone."""

    account: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}$")]
    utc_offset_min: Annotated[int, msgspec.Meta(ge=-900, le=900)]
    form: str = "json"
    url: str = _URL
    loopback: bool = False


class MyfxbookSecrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The user's session; part of a URL there, so no URL is ever told."""

    session: str

    def __repr__(self) -> str:
        return "MyfxbookSecrets(…)"


class ClosedTrade(msgspec.Struct, frozen=True):
    """One closed trade as the site shows it."""

    symbol: str
    action: str
    opened: datetime
    closed: datetime
    entry: Decimal
    exit: Decimal


class SessionRejected(Exception):
    """The site rejected the session; a person must log in again."""


class MyfxbookSink:
    """See `ports.sink.Sink`: delivered means seen."""

    def __init__(
        self,
        config: Mapping[str, Any],
        secrets: Mapping[str, Any],
        *,
        ask: Resolve | None = None,
    ) -> None:
        self._config = read(config, MyfxbookConfig, "config")
        self._session = read(secrets, MyfxbookSecrets, "secrets").session
        if self._config.form not in {"json", "xml"}:
            raise InvalidInput([FieldProblem("config.form", "config", "expected json or xml")])
        self._to = target(self._config.url, loopback=self._config.loopback)
        self._poster = Poster(self._to, loopback=self._config.loopback, ask=ask)
        self._seen: tuple[datetime, Sequence[ClosedTrade]] | None = None
        self._asking: asyncio.Task[Sequence[ClosedTrade] | SendOutcome] | None = None

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """Whether this trade is to be seen there now."""
        found = opened(parcel)
        if isinstance(found, SendOutcome):
            return found
        envelope, data = found
        if envelope.type == "trade.test":  # is there a session, and an account to look into?
            rows = await self._history(now)
            return (
                rows
                if isinstance(rows, SendOutcome)
                else SendOutcome(OutcomeKind.DELIVERED, "readable", 200)
            )
        if not isinstance(data, NoSize):
            return SendOutcome(OutcomeKind.HELD, "profile")
        rows = await self._history(now)
        if isinstance(rows, SendOutcome):
            return rows
        if any(same(row, data) for row in rows):
            return SendOutcome(
                OutcomeKind.DELIVERED, "seen", 200, remote_ref=f"seen at {now.isoformat()}"
            )
        return SendOutcome(OutcomeKind.WAITING, "not_seen", 200, retry_after=self._stale_at() - now)

    def _stale_at(self) -> datetime:
        assert self._seen is not None  # noqa: S101 (it was just read)
        return self._seen[0] + _FRESH

    async def _history(self, now: datetime) -> Sequence[ClosedTrade] | SendOutcome:
        """The history; asked for once for all who look at the same time, refusals too."""
        if self._seen is not None and timedelta(0) <= now - self._seen[0] < _FRESH:
            return self._seen[1]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(now))
        return await asyncio.shield(self._asking)  # one who is cut off takes it from nobody

    async def _ask(self, now: datetime) -> Sequence[ClosedTrade] | SendOutcome:
        path = self._to.path.removesuffix(".json").removesuffix(".xml")
        query = f"?session={quote(self._session, safe='%')}&id={self._config.account}"
        headers = {"accept-encoding": "identity", "user-agent": "onefold-trace/1"}
        answer = await self._poster.request(
            "GET", headers, path=f"{path}.{self._config.form}{query}"
        )
        if isinstance(answer, SendOutcome):
            return answer
        if answer.status != 200:
            return classified(answer.status, answer.headers, now=now)
        try:
            rows = self._read(answer)
        except SessionRejected:
            return SendOutcome(OutcomeKind.PERMANENT, "session", 200, toll=DestinationEffect.PAUSE)
        except _UNREADABLE:
            return SendOutcome(OutcomeKind.RETRY, "unreadable", 200)
        self._seen = (now, rows)
        return rows

    def _read(self, answer: HttpAnswer) -> Sequence[ClosedTrade]:
        offset = timedelta(minutes=self._config.utc_offset_min)
        if self._config.form == "json":
            return _rows_of_json(answer.body, offset)
        return _rows_of_xml(answer.body, offset)

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._poster.aclose()


def _rows_of_json(body: bytes, offset: timedelta) -> Sequence[ClosedTrade]:
    said = msgspec.json.decode(body)
    if said["error"]:
        raise SessionRejected
    return [_row(one, offset) for one in said["history"] if _is_trade(one)]


class _Plain(ElementTree.TreeBuilder):
    """Refuses a document type, in whatever encoding it is written, before it is read."""

    def doctype(self, *_: object) -> None:
        raise ValueError("a document type has no place here")


def _rows_of_xml(body: bytes, offset: timedelta) -> Sequence[ClosedTrade]:
    parser = ElementTree.XMLParser(target=_Plain())  # noqa: S314 (bounded to 64 KiB, no entities)
    parser.feed(body)
    root = parser.close()
    if root.attrib.get("error") == "true":
        raise SessionRejected
    history = root.find("history")
    found = [] if history is None else list(history)
    rows = [{child.tag: child.text or "" for child in one} for one in found]
    return [_row(one, offset) for one in rows if _is_trade(one)]


def _is_trade(one: Mapping[str, Any]) -> bool:
    return str(one.get("action", "")).lower() in {"buy", "sell"}


def _row(one: Mapping[str, Any], offset: timedelta) -> ClosedTrade:
    return ClosedTrade(
        symbol=str(one["symbol"]),
        action=str(one["action"]).lower(),
        opened=_at(str(one["openTime"]), offset),
        closed=_at(str(one["closeTime"]), offset),
        entry=_price(one["openPrice"]),
        exit=_price(one["closePrice"]),
    )


def _price(said: Any) -> Decimal:
    price = Decimal(str(said))
    if not price.is_finite():
        raise ValueError("no price")
    return price


def _at(text: str, offset: timedelta) -> datetime:
    local = datetime.strptime(text, "%m/%d/%Y %H:%M")  # noqa: DTZ007 (its zone is the setting)
    return local.replace(tzinfo=UTC) - offset


def same(row: ClosedTrade, data: NoSize) -> bool:
    """Whether the site's *row* is this trade: instrument, side, times near, prices equal."""
    return (
        row.symbol.upper() == data.instrument.upper()
        and row.action == data.side
        and abs(row.opened - datetime.fromisoformat(data.entry_time)) <= _NEAR
        and abs(row.closed - datetime.fromisoformat(data.exit_time)) <= _NEAR
        and row.entry == Decimal(data.entry_price)
        and row.exit == Decimal(data.exit_price)
    )
