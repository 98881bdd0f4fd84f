"""Who is looking: a signed cookie, and the token that every form must bring back."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

from onefold.core.clock import Clock

LASTS: Final = timedelta(hours=12)  # a school day, then the password is asked for again


@dataclass(frozen=True, kw_only=True)
class Visit:
    """
    What one browser's cookie says.

    Attributes:
        user: Who logged in with it; None before that.
        nonce: Made anew at each log-in; the form token is derived from it.
        begun_at: Unix seconds; the visit ends `LASTS` later.
    """

    user: str | None
    nonce: str
    begun_at: int


class Visits:
    """
    Reads and writes the cookie. Nothing is kept on the server.

    Limit: hence a copy of a cookie is worth something until the visit is over, although
    its owner logged out. Changing the secret ends every visit.

    Args:
        secret: At least 32 characters; who knows it can be anyone.
        clock: What time it is.
        secure: Send the cookie over HTTPS only, and bind it to this host alone.
    """

    def __init__(self, secret: str, *, clock: Clock, secure: bool) -> None:
        self._clock, self._secure = clock, secure
        self._cookie = "__Host-onefold" if secure else "onefold"
        self._sealer = URLSafeSerializer(
            secret,
            salt="onefold.pages.visit",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        self._token_key = hashlib.sha256(f"onefold.pages.token\0{secret}".encode()).digest()

    def begin(self, user: str | None = None) -> Visit:
        """A fresh visit, so that no token or cookie from before the log-in is worth anything."""
        nonce = secrets.token_urlsafe(18)
        return Visit(user=user, nonce=nonce, begun_at=int(self._clock.now().timestamp()))

    def of(self, request: Request) -> Visit:
        """The visit of this browser; a fresh one if its cookie is missing, forged or over."""
        try:
            user, nonce, begun_at = self._sealer.loads(request.cookies.get(self._cookie, ""))
            visit = Visit(user=user, nonce=nonce, begun_at=begun_at)
        except (BadData, TypeError, ValueError):
            return self.begin()
        age = self._clock.now().timestamp() - visit.begun_at
        return visit if age < LASTS.total_seconds() else self.begin()

    def token(self, visit: Visit) -> str:
        """What a form of this visit must carry."""
        return hmac.new(self._token_key, visit.nonce.encode(), hashlib.sha256).hexdigest()

    def is_token(self, visit: Visit, token: str) -> bool:
        """Whether *token* came from a page of this visit; takes the same time either way."""
        return hmac.compare_digest(self.token(visit).encode(), token.encode())

    def keep(self, response: Response, visit: Visit) -> None:
        """Let the browser have *visit* until it is over."""
        response.set_cookie(
            self._cookie,
            str(self._sealer.dumps([visit.user, visit.nonce, visit.begun_at])),
            max_age=int(LASTS.total_seconds()),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )

    def end(self, response: Response) -> None:
        """Let the browser forget its visit."""
        response.delete_cookie(
            self._cookie, path="/", secure=self._secure, httponly=True, samesite="lax"
        )
