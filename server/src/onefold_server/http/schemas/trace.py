"""Trace on the wire: what is read; unknown fields are refused by their names."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from onefold.errors import FieldProblem, InvalidInput

Shape = TypeVar("Shape", bound=msgspec.Struct)


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body."""


class Facts(_Body, frozen=True, kw_only=True):
    """What is known of a trade; amounts are decimals as text, unknown ones null or left out."""

    instrument: str | msgspec.UnsetType | None = msgspec.UNSET
    side: str | msgspec.UnsetType | None = msgspec.UNSET
    mode: str | msgspec.UnsetType | None = msgspec.UNSET
    entry_time: datetime | msgspec.UnsetType | None = msgspec.UNSET
    entry_price: str | msgspec.UnsetType | None = msgspec.UNSET
    exit_time: datetime | msgspec.UnsetType | None = msgspec.UNSET
    exit_price: str | msgspec.UnsetType | None = msgspec.UNSET
    volume: str | msgspec.UnsetType | None = msgspec.UNSET
    stop_loss: str | msgspec.UnsetType | None = msgspec.UNSET
    take_profit: str | msgspec.UnsetType | None = msgspec.UNSET
    profit_gross: str | msgspec.UnsetType | None = msgspec.UNSET
    fees: str | msgspec.UnsetType | None = msgspec.UNSET
    swap: str | msgspec.UnsetType | None = msgspec.UNSET
    profit_net: str | msgspec.UnsetType | None = msgspec.UNSET
    currency: str | msgspec.UnsetType | None = msgspec.UNSET
    return_pct: str | msgspec.UnsetType | None = msgspec.UNSET
    r_multiple: str | msgspec.UnsetType | None = msgspec.UNSET
    not_before: datetime | msgspec.UnsetType | None = msgspec.UNSET
    delay_s: int | msgspec.UnsetType | None = msgspec.UNSET


class TradeBody(Facts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trade, open or closed; `trade_id` makes a retry the same as once."""

    user_id: str
    account_id: str
    status: str
    trade_id: str | None = None
    private: dict[str, str] = {}


class Correct(_Body, frozen=True, kw_only=True):
    """Facts that were wrong; the revision that the caller saw."""

    expected_revision: int
    facts: Facts


class CreateDestination(_Body, frozen=True, kw_only=True):
    """Where deliveries may go; secrets are never told again."""

    name: str
    sink: str
    config: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    delay_floor_s: int = 60
    schedule: str = "standard"
    concurrency: int = 4
    rate_per_s: float | None = None


class ChangeDestination(_Body, frozen=True, kw_only=True):
    """What is to be otherwise; the configuration is merged, and null takes a key out."""

    config: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    delay_floor_s: int | msgspec.UnsetType = msgspec.UNSET
    schedule: str | msgspec.UnsetType = msgspec.UNSET
    concurrency: int | msgspec.UnsetType = msgspec.UNSET
    rate_per_s: float | msgspec.UnsetType | None = msgspec.UNSET


class Rotate(_Body, frozen=True, kw_only=True):
    """Other secrets."""

    secrets: dict[str, Any]


class Subscribe(_Body, frozen=True, kw_only=True):
    """A user's consent."""

    user_id: str
    destination: str
    profile: str
    consent_version: str
    delay_s: int = 300
    until: datetime | None = None


class Instrument(_Body, frozen=True, kw_only=True):
    """What one unit of volume is."""

    contract_size: str
    currency: str


def read(raw: Any, shape: type[Shape]) -> Shape:
    """
    *raw* as a *shape*.

    Raises:
        InvalidInput: it is not one; names the place, never the value.
    """
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at ")
        field = place.strip("`").removeprefix("$").removeprefix(".") or "body"
        raise InvalidInput([FieldProblem(field, "field", reason)]) from None


def given(body: msgspec.Struct) -> dict[str, Any]:
    """The fields of *body* that were sent; null is what is not known, and is said."""
    found = {name: getattr(body, name) for name in body.__struct_fields__}
    return {name: value for name, value in found.items() if value is not msgspec.UNSET}
