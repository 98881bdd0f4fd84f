"""What every sink reads of its configuration, and of what it is asked to send."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from onefold.core.published import Envelope, ResultOnly, require
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome

Shape = TypeVar("Shape", bound=msgspec.Struct)


def read(given: Mapping[str, Any], shape: type[Shape], what: str) -> Shape:
    """
    The configuration in *given*, which may hold nothing else.

    Raises:
        InvalidInput: it does not; no value is told, for it may be a secret.
    """
    try:
        return msgspec.convert(dict(given), shape, strict=False)  # a number may be text
    except msgspec.ValidationError as error:
        # "Object contains unknown field `x`" names a key; every other text could quote a value.
        reason, _, place = str(error).partition(" - at `$.")
        field = f"{what}.{place.rstrip('`')}".rstrip(".")
        named = reason if "field `" in reason else "has a wrong value"
        raise InvalidInput([FieldProblem(field, "config", named)]) from None


def opened(parcel: Parcel) -> tuple[Envelope, ResultOnly] | SendOutcome:
    """What *parcel* holds; or the outcome of one that is not of a published model."""
    try:
        return require(parcel.body)
    except InvalidInput:
        return SendOutcome(OutcomeKind.HELD, "schema")
