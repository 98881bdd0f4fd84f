"""
What may leave for an outside tracker: closed, versioned payload models. No other key exists.

An allow-list and nothing else: a payload is built field by field from a record, encoded by
its model, and read back by its model by the sink that sends it. Decimals are text, absent
is not zero, instants are RFC 3339 in UTC. A change of a model is a new version beside it.
"""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec

from onefold.errors import FieldProblem, InvalidInput

POLICY: Final = "2026-11"  # which version of these models and rules was applied; kept as evidence
MAX_BODY_BYTES: Final = 20_000  # Standard Webhooks: payloads should be under 20 kB

Amount = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,20}(\.[0-9]{1,12})?$")]
Moment = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
Reference = Annotated[str, msgspec.Meta(pattern=r"^[a-z2-7]{26}$")]  # a random surrogate
Symbol = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._/#-]{1,32}$")]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3,5}$")]


class ResultOnly(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a trade came to, relative to its risk: no prices, no size, no account."""

    trade_ref: Reference
    instrument: Symbol
    side: Literal["buy", "sell"]
    exit_time: Moment
    mode: Literal["live", "demo", "paper"]
    revision: int
    status: Literal["CLOSED"]
    return_pct: Amount | None = None
    r_multiple: Amount | None = None
    disclaimer: Literal["hypothetical", None] = None  # beside every result that is not live


class NoSize(ResultOnly, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Also when and at what prices; neither size nor money, which tell the account's equity."""

    account_ref: Reference
    entry_time: Moment
    entry_price: Amount
    exit_price: Amount


class Full(NoSize, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Also size, money, stop and target."""

    volume: Amount | None = None
    stop_loss: Amount | None = None
    take_profit: Amount | None = None
    profit_gross: Amount | None = None
    fees: Amount | None = None
    swap: Amount | None = None
    profit_net: Amount | None = None
    currency: Currency | None = None


PROFILES: Mapping[str, type[ResultOnly]] = MappingProxyType(
    {"full": Full, "no_size": NoSize, "result_only": ResultOnly}
)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body as it is sent: what happened, when, by which model, and the payload."""

    type: Literal["trade.closed", "trade.test"]
    timestamp: Moment
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f-]{36}$")]
    schema: Annotated[str, msgspec.Meta(pattern=r"^trade\.(full|no_size|result_only)\.v1$")]
    data: msgspec.Raw


@cache
def fields_of(profile: str) -> tuple[str, ...]:
    """The names that a profile may send."""
    return tuple(field.encode_name for field in msgspec.structs.fields(PROFILES[profile]))


def encode(
    profile: str, data: ResultOnly, *, id_: str, occurred_at: str, test: bool = False
) -> bytes:
    """
    The body of one delivery, checked as any sink will check it.

    Raises:
        InvalidInput: a value is outside its model; nothing of it is told but its place.
    """
    body = msgspec.json.encode(
        Envelope(
            type="trade.test" if test else "trade.closed",
            timestamp=occurred_at,
            id=id_,
            schema=f"trade.{profile}.v1",
            data=msgspec.Raw(msgspec.json.encode(data)),
        )
    )
    require(body)
    return body


def require(body: bytes) -> tuple[Envelope, ResultOnly]:
    """
    The payload in *body*, if it is one of these models to the last key.

    Raises:
        InvalidInput: it is not; the message holds no value of it.
    """
    try:
        envelope = msgspec.json.decode(body, type=Envelope)
        model = PROFILES[envelope.schema.split(".")[1]]
        data = msgspec.json.decode(envelope.data, type=model)
    except (msgspec.DecodeError, UnicodeError) as error:
        place = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "body"
        raise InvalidInput([FieldProblem(place, "not_published", "is not of the model")]) from None
    if len(body) > MAX_BODY_BYTES:
        raise InvalidInput([FieldProblem("body", "too_large", f"over {MAX_BODY_BYTES} bytes")])
    return envelope, data


# The tripwire: after the allow-list, what looks like a person's is held for a person to see.
_TRAPS: Final = (
    ("e-mail", re.compile(r"[^\s\"@]+@[^\s\"@]+\.[a-z]{2,}", re.IGNORECASE)),
    ("phone", re.compile(r"\+\d[\d ()./-]{7,}\d")),
    # No instrument can hold a plus. A date, a strike, a CUSIP or an ISIN is none of these.
    (
        "phone",
        re.compile(
            r"(?<![A-Za-z0-9])(?:"
            r"0(?:[ ()./-]*\d){9,13}"  # national, or international after 00
            r"|(?:1[./-])?\d{3}[./-]\d{3}[./-]\d{4}"  # North America
            r"|\d{10,15}"  # E.164 without its plus
            r")(?![A-Za-z0-9])"
        ),
    ),
)
_OF_A_NUMBER: Final = 7  # digits by which a known number is told, however it is written
_FREE_TEXT: Final = ("instrument", "currency")  # the other fields are numbers, instants, surrogates


def tripped(data: ResultOnly, known: tuple[str, ...] = ()) -> str | None:
    """
    Why *data* should not leave without a person's decision; None when it may.

    Args:
        data: The payload.
        known: Names and numbers of the record's own person, which may be nowhere in it.
    """
    # The structure itself is ours; looking at surrogates and prices would only cry wolf.
    texts = [str(v) for name in _FREE_TEXT if (v := getattr(data, name, None)) is not None]
    for what, pattern in _TRAPS:
        if any(pattern.search(text) for text in texts):
            return what
    for name in known:
        if len(name) >= 3 and any(name.casefold() in text.casefold() for text in texts):
            return "known name"
        digits = _digits(name)[-_OF_A_NUMBER:]
        if len(digits) == _OF_A_NUMBER and any(digits in _digits(text) for text in texts):
            return "known number"
    return None


def _digits(text: str) -> str:
    return "".join(char for char in text if char in "0123456789")
