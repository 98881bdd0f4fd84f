"""What tables are made of, here and in every domain: one metadata, column types."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import JSON, BigInteger, CursorResult, Dialect, MetaData
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """
    An aware UTC instant, exact to the microsecond; a naive one is refused.

    PostgreSQL keeps a `timestamptz`; SQLite, which has no such type, an integer of
    microseconds since 1970, so that order and arithmetic are right there too.
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"an instant needs a time zone: {value!r}")
        if dialect.name == "postgresql":
            return value
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if dialect.name == "postgresql":
            return cast("datetime", value).astimezone(UTC)
        return _EPOCH + cast("int", value) * _MICROSECOND


# JSON values; an already encoded one may be handed over as `msgspec.Raw`. None is NULL.
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

Row = dict[str, Any]  # column name to value


def rows_of(result: CursorResult[Any]) -> list[Row]:
    """The rows of a statement's result."""
    return [dict(row) for row in result.mappings()]


def row_of(result: CursorResult[Any]) -> Row | None:
    """The only row of a statement's result, or None."""
    row = result.mappings().one_or_none()
    return None if row is None else dict(row)
