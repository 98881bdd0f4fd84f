"""
Tradervue's import interface: executions of one trade, duplicates found by Tradervue itself.

An import is asynchronous and one at a time: 424 means that another is under way. A journal
records what it is told; it verifies nothing. Its documents are old: the double in the tests
follows them, and a live account should be tried with `onefold trace test` first.
Limit: delivered is what the service accepted; how an import ended is not asked for.
"""

import asyncio
import base64
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from onefold.adapters.sinks.address import Resolve, target
from onefold.adapters.sinks.posting import Answer, Poster, classified
from onefold.adapters.sinks.reading import opened, read
from onefold.core.published import Full
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import Kind, Outcome, Parcel

_TURN_S: Final = 10.0  # with a request of 30 s, within the courier's 45 s
_URL: Final = "https://www.tradervue.com/api/v1/imports"


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


class TradervueSink:
    """See `ports.sink.Sink`. Wants the profile `full`: without a size there is no execution."""

    def __init__(
        self,
        config: Mapping[str, Any],
        secrets: Mapping[str, Any],
        *,
        ask: Resolve | None = None,
    ) -> None:
        self._config = read(config, TradervueConfig, "config")
        hidden = read(secrets, TradervueSecrets, "secrets")
        if not self._config.contact.isprintable() or not self._config.contact.isascii():
            raise InvalidInput([FieldProblem("config.contact", "config", "expected plain text")])
        token = base64.b64encode(f"{hidden.username}:{hidden.password}".encode()).decode()
        self._headers = {
            "authorization": f"Basic {token}",
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"Onefold ({self._config.contact})",
        }
        to = target(self._config.url, loopback=self._config.loopback)
        self._poster = Poster(to, loopback=self._config.loopback, ask=ask)
        self._turn = asyncio.Lock()

    async def send(self, parcel: Parcel, *, now: datetime) -> Outcome:
        """Ask for the import of this trade; what is there already is found by the receiver."""
        found = opened(parcel)
        if isinstance(found, Outcome):
            return found
        envelope, data = found
        if envelope.type == "trade.test":  # a journal has no place for a trade that is none
            return Outcome(Kind.PERMANENT, "no_tests")
        if not isinstance(data, Full) or data.volume is None:
            return Outcome(Kind.HELD, "profile")
        body = msgspec.json.encode(_import(data, self._config.account_tag))
        answer = await self._in_turn(body)
        if isinstance(answer, Outcome):
            return answer
        if answer.status == 424:  # another import is under way
            return Outcome(Kind.RETRY, "busy", 424)
        return classified(answer.status, answer.headers, now=now)

    async def _in_turn(self, body: bytes) -> Answer | Outcome:
        """One request at a time: two would only tell each other that the service is busy."""
        try:
            async with asyncio.timeout(_TURN_S):
                await self._turn.acquire()
        except TimeoutError:
            return Outcome(Kind.RETRY, "busy")
        try:
            return await self._poster.request("POST", self._headers, body)
        finally:
            self._turn.release()

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        await self._poster.aclose()


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
