"""What every answer of the pages tells the browser not to do."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Scripts and styles come from files of ours alone: hostile text in an event's data stays text.
_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "object-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_YEAR: Final = "public, max-age=31536000, immutable"


class SafeHeaders:
    """
    Adds them to *app*'s answers, those to its bugs included.

    A page is kept by no cache. A file may be kept for a year when it was asked for by the
    digest of its content.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                headers["Cache-Control"] = _caching(scope, message["status"])
            await send(message)

        await self._app(scope, receive, send_safely)


def _caching(scope: Scope, status: int) -> str:
    is_file = scope["path"].startswith("/static/") and status < 400
    if not is_file:
        return "no-store"
    return _YEAR if scope["query_string"].startswith(b"v=") else "no-cache"
