"""Learning over HTTP: one file an area. A route parses, calls one use case, maps the result."""

from fastapi import APIRouter, Depends

from onefold_server.http.auth import authenticate
from onefold_server.http.routes.learning import (
    analytics,
    budgets,
    content,
    reviews,
    scenarios,
    sessions,
)

router = APIRouter(prefix="/api/v1/learning", dependencies=[Depends(authenticate)])
for _area in (sessions, scenarios, reviews, content, budgets, analytics):
    router.include_router(_area.router)
