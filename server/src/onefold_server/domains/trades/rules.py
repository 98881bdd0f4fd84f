"""
When a record may leave, and what an answer of a receiver means for it. Pure.

Amounts are decimals as they were given; what is not known is None and never zero. A trade
is sent only if it is closed, its exit old enough, and its owner's consent on, asked both
when it closes and again when it leaves.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, Final

from onefold.core.delivery import (
    MAX_AGE,
    MOST_RETRY_AFTER,
    SCHEDULES,
    Breaker,
    DeliveryFact,
    DeliveryState,
    advance,
)
from onefold.core.fields import text_flaw
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import OutcomeKind, SendOutcome

FLOOR: Final = timedelta(minutes=1)  # no delay is shorter, whatever a destination says
DEFAULT_DELAY: Final = timedelta(minutes=5)
MAX_DELAY: Final = timedelta(days=365)
LOOK: Final = timedelta(minutes=15)  # how soon what is not seen yet is looked for again
_LEAST_LOOK: Final = timedelta(seconds=10)
BREAKER: Final = Breaker()

AMOUNTS: Final = (
    *("entry_price", "exit_price", "volume", "stop_loss", "take_profit", "profit_gross"),
    *("fees", "swap", "profit_net", "return_pct", "r_multiple"),
)
# What may be kept beside a trade and has no way out.
PRIVATE: Final = ("client_id", "email", "name", "phone", "device", "ticket", "comment", "setup_id")
_PLACES: Final = 12  # after the point, of an amount that can be published
_TOO_MUCH: Final = Decimal(10) ** 20
_AMOUNT: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,12})?")
_SYMBOL: Final = re.compile(r"[A-Za-z0-9._/#-]{1,32}")


def wrong(field: str, code: str, reason: str) -> InvalidInput:
    """The refusal of one field."""
    return InvalidInput([FieldProblem(field, code, reason)])


def amount(value: Any, field: str) -> Decimal | None:
    """
    The amount in *value*: text or a Decimal; a float is refused, for it is not exact.

    Raises:
        InvalidInput: not a decimal of at most 20 digits before and 12 after the point.
    """
    if value is None:
        return None
    text = f"{value:f}" if isinstance(value, Decimal) else value
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise wrong(field, "not_exact", 'expected a decimal as text, such as "1.2345"')
    return Decimal(text)


def instant(value: datetime | None, field: str) -> datetime | None:
    """*value* in UTC; `InvalidInput` when it does not say in which zone, or is of no trade."""
    if value is not None and value.tzinfo is None:
        raise wrong(field, "naive_timestamp", "has no offset; add Z or +hh:mm")
    if value is not None and not 1970 < value.year < 2200:
        raise wrong(field, "bounds", "expected a year from 1971 to 2199")
    return None if value is None else value.astimezone(UTC)


def name(value: Any, field: str, *, longest: int = 100) -> str:
    """*value*, when it is text of 1 to *longest* characters that every database can store."""
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise wrong(field, "length", f"expected 1 to {longest} characters")
    flaw = text_flaw(value)
    if flaw:
        raise wrong(field, *flaw)
    return value


def facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    One revision of a trade as it is stored.

    Raises:
        InvalidInput: an amount or a side is not one, an instant has no zone, or a closed
            trade has no exit. Nothing is filled in.
    """
    row: dict[str, Any] = {
        "instrument": symbol(given.get("instrument"), "instrument"),
        "side": _one_of(given, "side", ("buy", "sell")),
        "mode": _one_of(given, "mode", ("live", "demo", "paper")),
        "status": _one_of(given, "status", ("open", "closed")),
        "currency": currency(given.get("currency")),
        "delay_s": _delay(given.get("delay_s")),
        **{field: amount(given.get(field), field) for field in AMOUNTS},
        **{f: instant(given.get(f), f) for f in ("entry_time", "exit_time", "not_before")},
    }
    needed: tuple[str, ...] = ("entry_time", "entry_price")
    if row["status"] == "closed":
        needed += ("exit_time", "exit_price")
    missing = [field for field in needed if row[field] is None]
    if missing:
        raise InvalidInput([FieldProblem(f, "missing", "is required") for f in missing])
    if row["exit_time"] is not None and row["exit_time"] < row["entry_time"]:
        raise wrong("exit_time", "order", "is before entry_time")
    if row["status"] == "open" and (row["exit_time"] or row["exit_price"] is not None):
        raise wrong("status", "open", "an open trade has no exit")
    if row["volume"] is not None and row["volume"] <= 0:
        raise wrong("volume", "bounds", "expected more than 0")
    money = ("profit_gross", "fees", "swap", "profit_net")
    if row["currency"] is None and any(row[field] is not None for field in money):
        raise wrong("currency", "missing", "an amount of money needs its currency")
    return row


def symbol(value: Any, field: str) -> str:
    """*value*, when it names an instrument as it can be published."""
    if not isinstance(value, str) or not _SYMBOL.fullmatch(value):
        raise wrong(field, "symbol", "expected 1 to 32 letters, digits or . _ / # -")
    return value


def _one_of(given: Mapping[str, Any], field: str, allowed: tuple[str, ...]) -> str:
    value = given.get(field)
    if value not in allowed:
        raise wrong(field, "choice", f"expected one of {', '.join(allowed)}")
    return str(value)


def currency(value: Any) -> str | None:
    """*value*, when it is the code of one, or None."""
    if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Z]{3,5}", value)):
        return value
    raise wrong("currency", "currency", "expected a code such as EUR")


def _delay(value: Any) -> int | None:
    most = int(MAX_DELAY.total_seconds())
    if value is None or (type(value) is int and 0 <= value <= most):
        return value
    raise wrong("delay_s", "bounds", f"expected whole seconds from 0 to {most}")


def with_profit(row: Mapping[str, Any], instrument: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    *row* with the gross profit that an instrument table gives; the broker's own stands.

    Without contract size, volume or exit nothing is known, and None stays None.
    """
    made = dict(row)
    known = (row["exit_price"], row["volume"])
    if instrument is None or None in known or row["profit_gross"] is not None:
        return made
    if row["currency"] not in {None, instrument["currency"]}:
        return made
    with localcontext(prec=120):  # exact, whatever the digits
        moved = row["exit_price"] - row["entry_price"]
        signed = moved if row["side"] == "buy" else -moved
        gross = signed * row["volume"] * instrument["contract_size"]
        exponent = gross.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -_PLACES:
            gross = gross.quantize(Decimal(1).scaleb(-_PLACES))
    if abs(gross) < _TOO_MUCH:
        made["profit_gross"], made["currency"] = gross, instrument["currency"]
    return made


def without_derived_profit(
    row: Mapping[str, Any], instrument: Mapping[str, Any] | None
) -> dict[str, Any]:
    """
    *row* without its gross profit, if that is what the instrument table gives for it.

    So that a corrected price brings a corrected profit, and the broker's own figure stands.
    Limit: a contract that was changed in between makes an earlier result look like a broker's.
    """
    bare = dict(row) | {"profit_gross": None}
    worked = with_profit(bare, instrument)["profit_gross"]
    return bare if worked == row["profit_gross"] else dict(row)


def earliest_send(
    row: Mapping[str, Any], *, recorded_at: datetime, delay: timedelta, floor: timedelta
) -> datetime:
    """
    Not before when a closed revision may leave.

    Measured from its exit or from its record, whichever is later, so that neither an entry
    made early nor one made late leaves sooner. The record's own delay or instant can only add
    to *delay*, which its owner agreed to (docs/decisions/0014).
    """
    base: datetime = max(row["exit_time"], recorded_at)
    own = timedelta(seconds=row["delay_s"] or 0)
    at = base + max(own, delay, floor, FLOOR)
    return at if row["not_before"] is None else max(at, row["not_before"])


_FROM_FEWEST: Final = ("result_only", "no_size", "full")


def narrower(one: str, other: str) -> str:
    """Of two profiles the one with fewer fields; each has all of the one before it."""
    return min(one, other, key=_FROM_FEWEST.index)


def consents(subscription: Mapping[str, Any], at: datetime) -> bool:
    """Whether *subscription* was on at that instant."""
    until = subscription["until"]
    withdrawn = subscription["withdrawn_at"]
    return (
        subscription["since"] <= at
        and (until is None or at < until)
        and (withdrawn is None or at < withdrawn)
    )


def paused_until(place: Mapping[str, Any], *, now: datetime) -> datetime | None:
    """
    Until when a destination is left alone by its breaker or its rate; None if it is not.

    An instant farther away than any rest is of a clock that was ahead: nobody waits for it.
    """
    rate = place["rate_per_s"]
    slot_s = 0.0 if rate is None else max(1.0, 1 / rate)
    ends = ((place["rest_until"], BREAKER.most_s), (place["next_slot_at"], slot_s))
    found = [at for at, most_s in ends if at and now < at <= now + timedelta(seconds=most_s)]
    return max(found, default=None)


@dataclass(frozen=True)
class Stop:
    """Why a delivery does not leave now: its next state if it changes, else when to look again."""

    said: str
    fact: DeliveryFact | None = None
    reason: str | None = None
    again_at: datetime | None = None


_FINAL: Final = (DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED)
BY_DESTINATION: Final = ("paused", "disabled", "removed", "setup")


def stopped(
    row: Mapping[str, Any],
    *,
    now: datetime,
    floor: timedelta,
    schedule: str,
    failing: bool = False,
) -> Stop | None:
    """
    Why the delivery in *row* may not be attempted now; None when it may.

    Args:
        row: A delivery joined with its trade, revision, subscription.
        now: The present instant.
        floor: The destination's own least delay.
        schedule: Its schedule of retries.
        failing: Whether the last attempts to it failed, of whatever delivery.
    """
    return _waits(row, now=now, floor=floor) or _must_not(
        row, now=now, schedule=schedule, failing=failing
    )


def _waits(row: Mapping[str, Any], *, now: datetime, floor: timedelta) -> Stop | None:
    """Why there is nothing to do now."""
    state = DeliveryState(row["state"])
    if state in _FINAL:
        return Stop("skipped")
    if state is DeliveryState.HELD:
        again = now + timedelta(minutes=1) if row["reason"] in BY_DESTINATION else None
        return Stop("held", again_at=again)
    if state is DeliveryState.LEASED and row["leased_until"] > now:
        return Stop("skipped", again_at=row["leased_until"])
    old_enough = row["exit_time"] + max(FLOOR, floor) if row["exit_time"] else now
    young = max(row["next_at"], row["not_before"], old_enough)
    return Stop("skipped", again_at=young) if now < young else None


def _must_not(
    row: Mapping[str, Any], *, now: datetime, schedule: str, failing: bool
) -> Stop | None:
    """Why it may not leave, though it is due."""
    state = DeliveryState(row["state"])
    if row["revision"] < row["present_revision"] or row["status"] != "closed":
        return _refused(state, DeliveryFact.CANCELLED, "superseded")
    if row["subscription"]["withdrawn_at"] is not None:  # planned while it was withdrawn
        return _refused(state, DeliveryFact.CANCELLED, "withdrawn")
    if not consents(row["subscription"], now):
        return _refused(state, DeliveryFact.STOPPED, "consent")
    # Never tried, it was this side that was away: the destination is asked once, if it is well.
    if now - row["first_due_at"] >= MAX_AGE and (row["tries"] or failing):
        return _refused(state, DeliveryFact.GAVE_UP, "age")
    if row["tries"] > len(SCHEDULES[schedule].bounds_s):
        # Its couriers died, again and again: perhaps of it.
        return _refused(state, DeliveryFact.GAVE_UP, "attempts")
    return None


def _refused(state: DeliveryState, fact: DeliveryFact, reason: str) -> Stop:
    if state is DeliveryState.LEASED and fact is DeliveryFact.CANCELLED:
        # Its lease has ended, but it may have been received: that cannot be taken back.
        fact = DeliveryFact.GAVE_UP
    return Stop(advance(state, fact).value, fact, reason)


def settled(
    row: Mapping[str, Any], outcome: SendOutcome, *, schedule: str, now: datetime, jitter: float
) -> dict[str, Any]:
    """
    What an attempt's outcome makes of its delivery.

    Args:
        row: The delivery, leased.
        outcome: How the attempt ended.
        schedule: The destination's schedule of retries.
        now: When it ended.
        jitter: Uniform in [0, 1).
    """
    changed: dict[str, Any] = {
        "leased_until": None,
        "last_outcome": outcome.reason[:40],
        "last_status": outcome.status,
        "reason": None,
        "next_at": row["next_at"],
        "tries": row["tries"],
        "delivered_at": None,
        "remote_ref": outcome.remote_ref[:200] if outcome.remote_ref else None,
    }
    fact = _FACTS[outcome.kind]
    old = now - row["first_due_at"] >= MAX_AGE
    if outcome.kind is OutcomeKind.DELIVERED:
        changed["delivered_at"] = now
    elif outcome.kind is OutcomeKind.RETRY:
        delay = SCHEDULES[schedule].delay(row["tries"], jitter)
        if delay is None or old:
            fact, changed["reason"] = DeliveryFact.GAVE_UP, "attempts" if delay is None else "age"
        else:
            asked = min(outcome.retry_after or timedelta(0), MOST_RETRY_AFTER)
            changed["next_at"] = now + max(delay, asked, timedelta(milliseconds=1))
    elif outcome.kind is OutcomeKind.WAITING and not old:
        wish = LOOK if outcome.retry_after is None else outcome.retry_after
        changed["next_at"] = now + min(max(wish, _LEAST_LOOK), MOST_RETRY_AFTER)
        changed["tries"] = max(row["tries"] - 1, 0)  # a look is no try that failed
    else:  # what is waited for has had its time: dead, under the reason it was waited for
        fact = DeliveryFact.GAVE_UP if outcome.kind is OutcomeKind.WAITING else fact
        changed["reason"] = outcome.reason[:40]
    changed["state"] = advance(DeliveryState(row["state"]), fact).value
    return changed


_FACTS: Final = {
    OutcomeKind.DELIVERED: DeliveryFact.RECEIVED,
    OutcomeKind.RETRY: DeliveryFact.FAILED,
    OutcomeKind.WAITING: DeliveryFact.FAILED,
    OutcomeKind.PERMANENT: DeliveryFact.GAVE_UP,
    OutcomeKind.HELD: DeliveryFact.STOPPED,
}
