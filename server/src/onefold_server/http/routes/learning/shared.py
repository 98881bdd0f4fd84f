"""What the routes of every area of learning take."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request

from onefold_server.domains.learning.paging import MAX_PAGE
from onefold_server.http.auth import Served
from onefold_server.http.body import decode_json, read_body

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="rows of a page")]


async def _json(request: Request, onefold: Served) -> Any:
    body = await read_body(request, limit_bytes=onefold.settings.max_body_bytes)
    return decode_json(body)


Body = Annotated[Any, Depends(_json)]
