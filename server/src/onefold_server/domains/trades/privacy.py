"""From a record to what may be published of it: field by field, by an allow-list. Pure."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from onefold.core.ids import Random
from onefold.core.published import PROFILES, ResultOnly


def surrogate(random: Random) -> str:
    """A fresh random name for something: no hash of anything, so nothing can be guessed back."""
    return base64.b32encode(random(16)).decode().rstrip("=").lower()


def rfc3339(at: datetime) -> str:
    """An instant as it is published."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def payload(
    profile: str, row: Mapping[str, Any], *, trade_ref: str, account_ref: str
) -> ResultOnly:
    """
    What a closed revision says under *profile*.

    Built from the model's own field names: what a model does not name cannot be read here.
    """
    model = PROFILES[profile]
    given: dict[str, Any] = {
        "trade_ref": trade_ref,
        "account_ref": account_ref,
        "instrument": row["instrument"],
        "side": row["side"],
        "mode": row["mode"],
        "revision": row["revision"],
        "status": "CLOSED",
        "currency": row["currency"],
        "entry_time": rfc3339(row["entry_time"]),
        "exit_time": rfc3339(row["exit_time"]),
        "disclaimer": None if row["mode"] == "live" else "hypothetical",
    }
    for field in model.__struct_fields__:
        if field not in given:
            given[field] = _text(row[field])
    return model(**{field: given[field] for field in model.__struct_fields__})


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"
