"""Opens the database that a URL names, and knows which dialect speaks to it."""

from types import ModuleType

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from onefold.adapters.sql.dialects import postgres, sqlite
from onefold.errors import InvalidSetting

_DIALECTS: dict[str, ModuleType] = {"sqlite": sqlite, "postgresql": postgres}


class Database:
    """
    The engines of one database: one that writes, one that reads.

    Args:
        url: `sqlite:///path/to/file.db` or `postgresql://user:password@host/name`.
        wait_s: How long to wait for a connection or a lock before `StoreContended`.

    Raises:
        InvalidSetting: the URL names no database that we speak to; nothing was opened.
    """

    def __init__(self, url: str, *, wait_s: float = 30.0) -> None:
        try:
            parsed = make_url(url)
            self.dialect = _DIALECTS[parsed.get_backend_name()]
        except (ArgumentError, KeyError):
            reason = "expected sqlite:///file.db or postgresql://user:password@host/name"
            raise InvalidSetting("database_url", reason) from None
        self.writer: AsyncEngine
        self.reader: AsyncEngine
        self.writer, self.reader = self.dialect.engines(parsed, wait_s=wait_s)

    async def aclose(self) -> None:
        """Close every connection. Safe twice."""
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()
