"""Errors as RFC 9457 problem details: one table from code to status, one shape for all."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from onefold.errors import FieldProblem, InvalidInput, OnefoldError, Unavailable
from onefold_server.http.replies import Reply

log = logging.getLogger("onefold.http")

STATUS: Final[dict[str, int]] = {
    "invalid_input": 422,
    "invalid_event": 422,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "illegal_transition": 409,
    "outdated": 409,
    "already_decided": 409,
    "budget_exhausted": 402,
    "too_large": 413,
    "store_unavailable": 503,
    "store_contended": 503,
    "commit_unknown": 503,  # what was sent may be sent again: it counts once
}
RETRY_AFTER_S: Final = 1


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: dict[str, str] | None = None,
) -> Reply:
    """The answer that tells what was wrong; `code` is stable, `detail` is for people."""
    body: dict[str, Any] = {
        "type": f"urn:onefold:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "instance": request.url.path,
    }
    if errors:
        body["errors"] = [error._asdict() for error in errors]
    return Reply(body, status_code=status, media_type="application/problem+json", headers=headers)


def _ours(request: Request, error: Exception) -> Reply:
    assert isinstance(error, OnefoldError)  # noqa: S101 (registered for it alone)
    status = STATUS.get(error.code, 500)
    if status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, Unavailable) or status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    detail = str(error) if status < 500 else _OWN_FAULT.get(status, _OWN_FAULT[500])
    errors = error.problems if isinstance(error, InvalidInput) else ()
    return problem(request, status, error.code, detail, errors=errors, headers=headers)


_OWN_FAULT: Final = {
    500: "this is the server's fault; its log says more",
    503: "the database did not serve this request; sending it again is safe",
}


def _parameters(request: Request, error: Exception) -> Reply:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (registered for it alone)
    wrong = [
        FieldProblem(".".join(str(part) for part in e["loc"][1:]), "parameter", e["msg"])
        for e in error.errors()
    ]
    detail = "; ".join(f"{p.field}: {p.reason}" for p in wrong)
    return problem(request, 422, "invalid_input", detail, errors=wrong)


def _http(request: Request, error: Exception) -> Reply:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for it alone)
    code = HTTPStatus(error.status_code).name.lower()
    headers = dict(error.headers) if error.headers else None
    return problem(request, error.status_code, code, str(error.detail), headers=headers)


def _bug(request: Request, error: Exception) -> Reply:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(request, 500, "internal", _OWN_FAULT[500])


def answer_errors(app: FastAPI) -> None:
    """Let every error of *app* be answered by a problem."""
    app.add_exception_handler(OnefoldError, _ours)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
