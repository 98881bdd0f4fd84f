"""Cards and reviews over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from onefold_server.domains.learning.values import wrong
from onefold_server.http.auth import Caller, Served
from onefold_server.http.body import read_body
from onefold_server.http.replies import Reply
from onefold_server.http.routes.learning.shared import Body, Cursor, Limit
from onefold_server.http.schemas import learning as schema

router = APIRouter(tags=["learning: reviews"])


@router.post("/cards", status_code=201, openapi_extra=schema.request_body(schema.AddCard))
async def add_card(onefold: Served, caller: Caller, body: Body) -> Reply:
    """A learner's card for a word: a fresh one, or the one there is."""
    given = schema.read(body, schema.AddCard)
    card = await onefold.learning.reviews.add(
        caller, given.student_id, given.language, given.word, back=given.back
    )
    return Reply(schema.card(card), status_code=201)


@router.post("/cards/{card_id}/reviews", openapi_extra=schema.request_body(schema.AnswerCard))
async def answer_card(card_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Answer a card, 1 again to 4 easy; the same review again counts once."""
    given = schema.read(body, schema.AnswerCard)
    card = await onefold.learning.reviews.review(caller, card_id, given.review_id, given.answer)
    return Reply(schema.card(card))


@router.get("/cards/{card_id}")
async def get_card(card_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """One card and every answer to it."""
    card, answers = await onefold.learning.reviews.card(caller, card_id)
    return Reply(schema.card(card) | {"reviews": [schema.without_school(a) for a in answers]})


@router.get("/learners/{student_id}/cards")
async def list_cards(
    student_id: UUID,
    onefold: Served,
    caller: Caller,
    language: str | None = None,
    due: Annotated[bool, Query(description="only cards that are due")] = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Reply:
    """A learner's cards, the longest due first."""
    found = await onefold.learning.reviews.cards(
        caller, student_id, language=language, due_only=due, cursor=cursor, limit=limit
    )
    return Reply(schema.page("cards", found, [schema.card(row) for row in found.rows]))


@router.get("/learners/{student_id}/retention")
async def get_retention(
    student_id: UUID,
    onefold: Served,
    caller: Caller,
    days: Annotated[int, Query(ge=1, le=3660)] = 30,
) -> Reply:
    """How much of what was asked was remembered, beside what had been foreseen."""
    return Reply(await onefold.learning.reviews.retention(caller, student_id, days=days))


@router.get("/learners/{student_id}/forecast")
async def get_forecast(
    student_id: UUID,
    onefold: Served,
    caller: Caller,
    language: str | None = None,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> Reply:
    """Cards due on each of the next days."""
    found = await onefold.learning.reviews.forecast(
        caller, student_id, language=language, days=days
    )
    return Reply({"forecast": found})


@router.get("/learners/{student_id}/cards.csv")
async def export_cards(
    student_id: UUID, onefold: Served, caller: Caller, language: str | None = None
) -> Response:
    """A learner's cards as a file that Anki reads."""
    text = await onefold.learning.reviews.export_csv(caller, student_id, language=language)
    return Response(text, media_type="text/csv; charset=utf-8")


@router.post(
    "/learners/{student_id}/cards.csv",
    openapi_extra={"requestBody": {"content": {"text/csv": {}}}},
)
async def import_cards(
    student_id: UUID, request: Request, onefold: Served, caller: Caller, language: str | None = None
) -> Reply:
    """Add the cards of a file such as Anki exports; again changes nothing."""
    body = await read_body(request, limit_bytes=onefold.settings.max_body_bytes)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise wrong("body", "malformed", f"is not UTF-8 at byte {error.start}") from None
    return Reply(
        await onefold.learning.reviews.import_csv(caller, student_id, text, language=language)
    )
