"""Errors as pages that people can read."""

import logging
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from onefold.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    OnefoldError,
    TooLarge,
    Unavailable,
)
from onefold_server.pages.render import render

log = logging.getLogger("onefold.pages")

# What went wrong, for people: a heading for each status that the pages answer with.
_HEADINGS: Final[dict[int, str]] = {
    403: "You may not do this",
    404: "There is no such page",
    405: "This page cannot do that",
    413: "That was too much",
    422: "This address is not right",
    503: "The database does not answer",
}
_FAULT: Final = "This is the server's fault, not yours. Its log says more."
_WAIT: Final = "Nothing is lost. Wait a moment, then load the page again."


def _refused(request: Request, error: Exception) -> Response:
    match error:
        case NotFound():
            return _failed(404, "It does not exist, or it is not your school's.")
        case Forbidden():
            return _failed(403, "Your role does not allow it. Ask an administrator.")
        case TooLarge():
            return _failed(413, str(error))
        case InvalidInput():
            return _failed(422, str(error))
        case Unavailable():
            log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
            return _failed(503, _WAIT, headers={"Retry-After": "1"})
    return _bug(request, error)


def _no_such_page(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for it alone)
    detail = "Check the address." if error.status_code == 404 else error.detail
    return _failed(error.status_code, detail, headers=dict(error.headers or {}))


def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _failed(500, _FAULT)


def _failed(status: int, detail: str, *, headers: dict[str, str] | None = None) -> Response:
    heading = _HEADINGS.get(status, "Something went wrong")
    response = render("error.html", heading=heading, detail=detail, status=status)
    response.headers.update(headers or {})
    return response


HANDLERS: Final[dict[Any, Any]] = {
    OnefoldError: _refused,
    HTTPException: _no_such_page,
    Exception: _bug,
}
