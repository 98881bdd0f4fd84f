"""What instant a text means. Pure: the zone database apart, nothing outside the text decides."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from onefold_server.cli.ingest.rows import RowFault
from onefold_server.cli.ingest.spec import TimeSpec

ReadTime = Callable[[str], str]  # text -> RFC 3339 in UTC; raises Fault

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_US: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000}


def time_reader(spec: TimeSpec) -> ReadTime:
    """Reads times as *spec* says, a *spec* that was checked."""
    if spec.format in _UNIT_US:
        parse: Callable[[str], datetime] = partial(_epoch, unit_us=_UNIT_US[spec.format])
    elif spec.format == "rfc3339":
        parse = _rfc3339
    else:
        parse = partial(_formatted, form=spec.format)
    zone = ZoneInfo(spec.zone) if spec.zone else None

    def read(text: str) -> str:
        said = parse(text)
        if said.utcoffset() is None:
            said = _located(said, zone, spec, text)
        try:
            return said.astimezone(UTC).isoformat()
        except OverflowError:
            raise RowFault("timestamp", f"{text!r} is outside the years 1 to 9999 in UTC") from None

    return read


def _epoch(text: str, *, unit_us: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=int(Decimal(text) * unit_us))
    except (InvalidOperation, ValueError, OverflowError):
        raise RowFault("timestamp", f"{text!r} is no time since 1970 in this unit") from None


def _rfc3339(text: str) -> datetime:
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise RowFault("timestamp", f"{text!r} is no RFC 3339 time") from None


def _formatted(text: str, *, form: str) -> datetime:
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007 (its zone is the mapping's)
    except ValueError:
        raise RowFault("timestamp", f"{text!r} is not of the form {form!r}") from None


def _located(local: datetime, zone: ZoneInfo | None, spec: TimeSpec, text: str) -> datetime:
    """
    The instant at which clocks in *zone* show *local*.

    Of `fold` 0 and 1 (PEP 495) the first is the earlier of two instants where clocks go
    back, and in the gap where they go forward the one that counts on from before the gap.
    """
    if zone is None:
        raise RowFault("naive_timestamp", f"{text!r} has no offset, and the mapping no zone")
    first, second = local.replace(tzinfo=zone, fold=0), local.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset() or timedelta(), second.utcoffset() or timedelta()
    if before < after and spec.nonexistent == "reject":
        raise RowFault("nonexistent_time", f"clocks in {spec.zone} skipped {text!r}")
    if before > after and spec.ambiguous == "reject":
        raise RowFault("ambiguous_time", f"clocks in {spec.zone} showed {text!r} twice")
    return second if before > after and spec.ambiguous == "later" else first
