"""Whether this server can do its work. Open to all: it tells nothing of anybody."""

from fastapi import APIRouter, Request

from onefold.apps.http.auth import Served
from onefold.apps.http.problems import RETRY_AFTER_S, problem
from onefold.apps.http.replies import Reply
from onefold.errors import OnefoldError

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz(request: Request, onefold: Served) -> Reply:
    """200 when the database was just written and read, else 503 and why."""
    try:
        await onefold.check()
    except OnefoldError as error:
        wait = {"Retry-After": str(RETRY_AFTER_S)}
        return problem(request, 503, error.code, str(error), headers=wait)
    return Reply({"status": "ok", "database": onefold.uow.features.name})
