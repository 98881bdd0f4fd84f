"""Numbers for Prometheus: how much, how often, how late. They tell nothing of anybody."""

from secrets import compare_digest

from fastapi import APIRouter, Request, Response

from onefold.apps.http.auth import Served
from onefold.errors import Unauthenticated
from onefold.wiring_events import METRICS_TYPE, scraped

router = APIRouter(tags=["health"])


@router.get("/metrics")
async def metrics(request: Request, onefold: Served) -> Response:
    """All measures of this process and its database, as text; a token if one is set."""
    token = onefold.settings.metrics_token
    if token is not None:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        told = sent.strip().encode()
        if scheme.lower() != "bearer" or not compare_digest(
            told, token.get_secret_value().encode()
        ):
            raise Unauthenticated("send the token of ONEFOLD_METRICS_TOKEN: Authorization: Bearer")
    text = await scraped(onefold.meters, onefold.texts)
    return Response(text, media_type=METRICS_TYPE)
