"""Request bodies: bounded while they are read, then decoded."""

import json
from typing import Any

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from onefold.core.json_value import MAX_DIGITS
from onefold.errors import FieldProblem, InvalidInput, TooLarge


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """
    The request's body.

    Raises:
        TooLarge: over *limit_bytes*; at the most that much of it was read.
        InvalidInput: the client went away in the middle of it.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise TooLarge("the request body", limit_bytes)
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise TooLarge("the request body", limit_bytes)
            chunks.append(chunk)
    except ClientDisconnect:
        raise InvalidInput([FieldProblem("body", "incomplete", "ended too early")]) from None
    return b"".join(chunks)


def decode_json(body: bytes) -> Any:
    """
    The JSON value in *body*; NaN, Infinity and numbers beyond reason are let through.

    Many encoders write the first two, which are no JSON. The event that holds one is then
    refused by itself instead of taking its whole batch with it.

    Raises:
        InvalidInput: it is not JSON in UTF-8; says where.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _decode_leniently(body)


def _decode_leniently(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_int=_whole_number)
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 at byte {error.start}"
    except RecursionError:
        reason = "is nested too deeply"
    except ValueError as error:
        reason = f"is not JSON: {error}"
    raise InvalidInput([FieldProblem("body", "malformed", reason)])


def _whole_number(digits: str) -> int:
    """Its value; of more digits than Python converts, one that every rule finds too large."""
    return int(digits) if len(digits) <= MAX_DIGITS else 10**MAX_DIGITS
