"""A way to a real PostgreSQL that is cut at its COMMIT."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from onefold.testing.proxy import FaultProxy, fault_proxy

Cut = Literal["nowhere", "before", "after"]


class CommitCutter:
    """Drops the connection `before` the server got a COMMIT, or `after` it has answered."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

        self._cut: Cut = "nowhere"

    @property
    def cut(self) -> Cut:
        """Where it cuts now."""
        return self._cut

    @cut.setter
    def cut(self, cut: Cut) -> None:
        self._cut = cut
        self._proxy.faults.clear()
        if cut != "nowhere":
            self._proxy.add("COMMIT", "drop before" if cut == "before" else "drop after", times=99)


@asynccontextmanager
async def commit_cutter(url: str, home: Path) -> AsyncIterator[tuple[CommitCutter, str]]:
    """A cutter before the server at *url*, and the URL that leads through it."""
    async with fault_proxy(url, home) as proxy:
        yield CommitCutter(proxy), proxy.url
