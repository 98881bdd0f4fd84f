"""Who is calling: deny by default, one `Principal` however it was proved."""

from typing import Annotated

from fastapi import Depends, Request

from onefold.errors import Unauthenticated
from onefold_server.domains.directory.rules import Principal
from onefold_server.installation import Installation


def onefold_of(request: Request) -> Installation:
    """The parts that serve this request."""
    found = request.app.state.onefold
    assert isinstance(found, Installation)  # noqa: S101 (create_app put it there)
    return found


Served = Annotated[Installation, Depends(onefold_of)]


async def authenticate(request: Request, onefold: Served) -> Principal:
    """
    The caller, by the API key in `Authorization: Bearer`.

    Raises:
        Unauthenticated: no key, or not a live one.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send an API key: Authorization: Bearer of_…")
    return await onefold.directory.authenticate(token.strip())


Caller = Annotated[Principal, Depends(authenticate)]
