"""The server's pages: log in, see what is live, look at one session."""

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from onefold.core.ids import derived_id
from onefold.errors import FieldProblem, InvalidInput, NotFound, TooLarge, Unauthenticated
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.installation import Installation
from onefold_server.pages import explained, shown
from onefold_server.pages.failures import HANDLERS
from onefold_server.pages.headers import SafeHeaders
from onefold_server.pages.render import STATIC, render
from onefold_server.pages.visits import Visit, Visits

_SESSIONS_SHOWN: Final = 25
_EVENTS_SHOWN: Final = 50
_MAX_FORM_BYTES: Final = 8 * 1024
# The only places that a log-in leads to, whatever the address of the form says.
_PLACES: Final = re.compile(r"/(sessions/[0-9a-f-]{36})?")


def mount_pages(app: Starlette, onefold: Installation) -> None:
    """
    Let *app* serve the pages beside its own routes, which go first.

    Without `session_secret` no cookie can be signed: then `/` says how to set it.
    """
    secret = onefold.settings.session_secret
    routes = _closed() if secret is None else _Pages(onefold, secret.get_secret_value()).routes()
    pages = _application(routes)
    # One route each, and no mount at "/": that would answer for wrong methods of the API too.
    for path in ("/", "/live", "/login", "/logout", "/sessions/{id}", "/static/{file:path}"):
        app.router.routes.append(Route(path, pages, include_in_schema=False))


def _application(routes: list[BaseRoute]) -> ASGIApp:
    files = Mount("/static", StaticFiles(directory=STATIC))
    return SafeHeaders(Starlette(routes=[*routes, files], exception_handlers=HANDLERS))


def _closed() -> list[BaseRoute]:
    """The pages of a server that has no secret to sign cookies with."""

    async def closed(_: Request) -> Response:
        return render("closed.html", status=HTTPStatus.NOT_FOUND)

    return [Route("/", closed)]


@dataclass(frozen=True, kw_only=True)
class _Visitor:
    """Someone who has logged in: as whom, where, and the token for their forms."""

    caller: Principal
    school: str
    token: str


class _Pages:
    """The pages over the use cases of *onefold*; each answers as its caller may see."""

    def __init__(self, onefold: Installation, secret: str) -> None:
        self._onefold = onefold
        self._visits = Visits(secret, clock=onefold.clock, secure=onefold.settings.secure_cookies)

    def routes(self) -> list[BaseRoute]:
        """Every page, and what may be done there."""
        return [
            Route("/", self.home),
            Route("/live", self.live),
            Route("/sessions/{id}", self.session),
            Route("/login", self.ask),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """The log-in form; who is logged in already goes on."""
        place = _place(request.query_params.get("next", ""))
        # A cookie alone is not enough: who is gone would be sent to and fro for ever.
        if await self._visitor(request):
            return RedirectResponse(place, HTTPStatus.SEE_OTHER)
        return self._form(self._visits.of(request), place)

    async def log_in(self, request: Request) -> Response:
        """
        Log in, and go where the visitor was going.

        Limit: guesses are slowed down by the password's hash alone, and not counted.
        """
        visit, sent = self._visits.of(request), await self._sent(request)
        name, place = sent.get("name", ""), _place(sent.get("next", ""))
        try:
            caller = await self._onefold.directory.log_in(name, sent.get("password", ""))
        except Unauthenticated as error:
            return self._form(visit, place, name=name, error=str(error))
        response = RedirectResponse(place, HTTPStatus.SEE_OTHER)
        self._visits.keep(response, self._visits.begin(caller.name))
        return response

    async def log_out(self, request: Request) -> Response:
        """Forget the visit."""
        await self._sent(request)
        response = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        self._visits.end(response)
        return response

    async def home(self, request: Request) -> Response:
        """Live counts and the newest sessions."""
        visitor = await self._visitor(request)
        if visitor is None:
            return _to_log_in(request)
        found = await self._newest(request, visitor.caller)
        return render("home.html", visitor=visitor, **found)

    async def live(self, request: Request) -> Response:
        """The part of `home` that renews itself."""
        visitor = await self._visitor(request)
        if visitor is None:
            return _to_log_in(request)
        found = await self._newest(request, visitor.caller)
        return render("_live.html", visitor=visitor, **found)

    async def session(self, request: Request) -> Response:
        """One session: its events over time and in a table, its features and their revisions."""
        visitor = await self._visitor(request)
        if visitor is None:
            return _to_log_in(request)
        session_id, cursor = _session_id(request), request.query_params.get("cursor")
        caller, telemetry = visitor.caller, self._onefold.telemetry
        found = await telemetry.session(caller, session_id)
        events = await telemetry.session_events(
            caller, session_id, cursor=cursor, limit=_EVENTS_SHOWN
        )
        timeline = await telemetry.timeline(caller, session_id)
        names = await self._onefold.directory.names(caller, [found["student_id"]])
        return render(
            "session.html",
            visitor=visitor,
            session=found,
            name=names.get(found["student_id"]),
            features=list(_features(found)),
            revisions=await telemetry.revisions(caller, session_id),
            events=events.rows,
            cursor=cursor,
            older=_older(f"/sessions/{session_id}", events.next_cursor),
            timeline=shown.lanes(timeline),
            idle_gap=self._onefold.settings.session_idle,
        )

    async def _visitor(self, request: Request) -> _Visitor | None:
        """Who is logged in here; the user is looked up anew, for who is gone sees nothing."""
        visit = self._visits.of(request)
        if visit.user is None:
            return None
        try:
            caller = await self._onefold.directory.user(visit.user)
        except Unauthenticated:
            return None
        school = await self._onefold.directory.school(caller)
        return _Visitor(caller=caller, school=school["name"], token=self._visits.token(visit))

    def _form(
        self, visit: Visit, place: str, *, name: str = "", error: str | None = None
    ) -> Response:
        response = render(
            "login.html",
            token=self._visits.token(visit),
            place=place,
            name=name,
            error=error,
            status=HTTPStatus.UNAUTHORIZED if error else HTTPStatus.OK,
        )
        self._visits.keep(response, visit)
        return response

    async def _sent(self, request: Request) -> dict[str, str]:
        """
        The fields of a form that a page of this visit showed.

        Raises:
            _ForgedForm: it came from elsewhere, or its page is too old.
        """
        sent = await _fields(request)
        if not self._visits.is_token(self._visits.of(request), sent.get("token", "")):
            raise _ForgedForm
        return sent

    async def _newest(self, request: Request, caller: Principal) -> dict[str, Any]:
        cursor = request.query_params.get("cursor") or None
        telemetry = self._onefold.telemetry
        page = await telemetry.sessions(caller, cursor=cursor, limit=_SESSIONS_SHOWN)
        ids = {row["student_id"] for row in page.rows}
        return {
            "totals": await telemetry.totals(caller),
            "sessions": page.rows,
            "names": await self._onefold.directory.names(caller, ids),
            "cursor": cursor,
            "live": "/live" if cursor is None else f"/live?{urlencode({'cursor': cursor})}",
            "older": _older("/", page.next_cursor),
            "hint": None if page.rows or cursor else self._hint(request, caller),
        }

    def _hint(self, request: Request, caller: Principal) -> str | None:
        """
        A command that posts the first event, for who may; the same all day.

        Hence pasting it twice shows that an event counts once.
        """
        if Scope.TELEMETRY_WRITE not in caller.scopes:
            return None
        today = self._onefold.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        seed = str(caller.school_id), today.isoformat()
        event = {
            "event_id": str(derived_id("hint", "event", *seed)),
            "student_id": str(derived_id("hint", "pupil", *seed)),
            "session_id": str(derived_id("hint", "session", *seed)),
            "event_type": "mission_start",
            "timestamp": today.isoformat(),
        }
        return (
            f"curl -sS {str(request.base_url).rstrip('/')}/api/v1/telemetry/events \\\n"
            "  -H 'Authorization: Bearer '\"$ONEFOLD_KEY\" \\\n"
            "  -H 'Content-Type: application/json' \\\n"
            f"  -d '{json.dumps(event)}'"
        )


class _ForgedForm(HTTPException):
    """A form without the token of its visit. Nothing was done."""

    def __init__(self) -> None:
        super().__init__(
            HTTPStatus.FORBIDDEN,
            "This form did not come from here, or its page is too old. Nothing was done. "
            "Open the page again and repeat it.",
        )


def _features(session: dict[str, Any]) -> Any:
    if session["closed_at"] is None:
        return ()
    return explained.told(session["features_metrics"], session["features_undefined"])


def _older(path: str, cursor: str | None) -> str | None:
    return None if cursor is None else f"{path}?{urlencode({'cursor': cursor})}"


def _place(wanted: str) -> str:
    """*wanted* if it is a page of ours, else the first one."""
    return wanted if _PLACES.fullmatch(wanted) else "/"


def _session_id(request: Request) -> UUID:
    text = request.path_params["id"]
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("session", text) from None


def _to_log_in(request: Request) -> Response:
    """To the log-in form; a part of a page takes the whole page there."""
    if "hx-request" in request.headers:
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": "/login"})
    place = _place(request.url.path)
    target = "/login" if place == "/" else f"/login?{urlencode({'next': place})}"
    return RedirectResponse(target, HTTPStatus.SEE_OTHER)


async def _fields(request: Request) -> dict[str, str]:
    """
    The fields of an urlencoded form; the last one of each name counts.

    Raises:
        TooLarge, InvalidInput: it is none that a page of ours would send.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise TooLarge("the form", _MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=10))
    except ValueError:  # of which UnicodeDecodeError is one
        raise InvalidInput([FieldProblem("form", "malformed", "is not a form of ours")]) from None
