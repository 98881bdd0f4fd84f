"""Numbers for Prometheus: how much, how often, how late. They tell nothing of anybody."""

from fastapi import APIRouter, Request, Response

from onefold.errors import Unauthenticated
from onefold.wiring.metrics import METRICS_TYPE, scraped
from onefold_server.http.auth import Served
from onefold_server.scrapes import may_scrape

router = APIRouter(tags=["health"])


@router.get("/metrics")
async def metrics(request: Request, onefold: Served) -> Response:
    """All measures of this process and its database, as text; a token if one is set."""
    if not may_scrape(onefold.settings, request.headers.get("authorization", "")):
        raise Unauthenticated("send the token of ONEFOLD_METRICS_TOKEN: Authorization: Bearer")
    text = await scraped(onefold.meters, onefold.texts)
    return Response(text, media_type=METRICS_TYPE)
