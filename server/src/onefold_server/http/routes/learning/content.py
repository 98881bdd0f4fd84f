"""Content over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from onefold_server.domains.learning.content.rules import ContentKind, Given, Material
from onefold_server.http.auth import Caller, Served
from onefold_server.http.replies import Reply
from onefold_server.http.routes.learning.shared import Body, Cursor, Limit
from onefold_server.http.schemas import learning as schema

router = APIRouter(tags=["learning: content"])


@router.post("/content", status_code=201, openapi_extra=schema.request_body(schema.SaveContent))
async def save(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Save content with topics and materials; the same text is saved once a learner."""
    given = schema.read(body, schema.SaveContent)
    saved = await onefold.learning.content.save(
        caller,
        given.student_id,
        Given(
            kind=given.kind,
            title=given.title,
            language=given.language,
            body=given.body,
            source_url=given.source_url,
            topics=given.topics,
            materials=tuple(
                Material(kind=m.kind, title=m.title, body=m.body) for m in given.materials
            ),
        ),
    )
    return Reply(schema.content(saved), status_code=201 if saved["created"] else 200)


@router.get("/content")
async def list_content(
    onefold: Served,
    caller: Caller,
    q: Annotated[str | None, Query(description="words that must all occur; `*` ends one")] = None,
    student_id: UUID | None = None,
    kind: ContentKind | None = None,
    language: str | None = None,
    topic: str | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Reply:
    """Content, the newest first; with `q`, what holds all its words, hits in titles first."""
    service = onefold.learning.content
    if q is None:
        found = await service.contents(
            caller,
            student_id=student_id,
            kind=kind,
            language=language,
            topic=topic,
            cursor=cursor,
            limit=limit,
        )
    else:
        found = await service.search(
            caller,
            q,
            student_id=student_id,
            kind=kind,
            language=language,
            topic=topic,
            cursor=cursor,
            limit=limit,
        )
    return Reply(schema.page("content", found, [schema.content(row) for row in found.rows]))


@router.get("/content/{content_id}")
async def get(content_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """One content with its text and materials."""
    return Reply(schema.content(await onefold.learning.content.get(caller, content_id)))


@router.delete("/content/{content_id}", status_code=204)
async def delete(content_id: UUID, onefold: Served, caller: Caller) -> None:
    """Delete content and its materials."""
    await onefold.learning.content.delete(caller, content_id)


@router.get("/learners/{student_id}/content-statistics")
async def statistics(student_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """How much a learner has saved, by kind and language."""
    return Reply(await onefold.learning.content.statistics(caller, student_id))
