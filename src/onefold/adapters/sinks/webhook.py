"""
Standard Webhooks 1.0.0: signed POSTs, the same id at every attempt.

With a bearer token instead of, or beside, secrets, it is a plain push to a URL: that is
what "posting to Myfxbook" has always meant, whose own interface takes no trades.
"""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from standardwebhooks.webhooks import Webhook

from onefold.adapters.sinks.address import Resolve, target
from onefold.adapters.sinks.posting import TOTAL_S, Poster, classified
from onefold.adapters.sinks.reading import opened, read
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import Parcel, SendOutcome

_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_OURS: Final = (
    *("host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"),
    *("expect", "user-agent", "accept-encoding", "x-trace-retry-count"),
)
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")


class WebhookConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to post."""

    url: str
    token_header: str = "Authorization"  # noqa: S105 (a header's name)
    loopback: bool = False
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=TOTAL_S)] = TOTAL_S


class WebhookSecrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signing secrets, the newest first (several while they are rotated), and a token."""

    signing: tuple[str, ...] = ()
    token: str | None = None

    def __repr__(self) -> str:
        return "WebhookSecrets(…)"


class WebhookSink:
    """See `ports.sink.Sink`."""

    def __init__(
        self,
        config: Mapping[str, Any],
        secrets: Mapping[str, Any],
        *,
        ask: Resolve | None = None,
    ) -> None:
        settings = read(config, WebhookConfig, "config")
        hidden = read(secrets, WebhookSecrets, "secrets")
        self._fixed = _fixed_headers(settings, hidden)
        self._signers = [_signer(secret) for secret in hidden.signing]
        self._poster = Poster(
            target(settings.url, loopback=settings.loopback),
            loopback=settings.loopback,
            ask=ask,
            total_s=settings.timeout_s,
        )

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """Post the parcel's bytes; its id never changes, the signature is this attempt's."""
        refused = opened(parcel)
        if isinstance(refused, SendOutcome):
            return refused
        answer = await self._poster.request("POST", self._headers(parcel, now), parcel.body)
        if isinstance(answer, SendOutcome):
            return answer
        return classified(answer.status, answer.headers, now=now)

    def _headers(self, parcel: Parcel, now: datetime) -> dict[str, str]:
        headers = self._fixed | {
            "content-type": "application/json",
            "user-agent": "onefold-trace/1",
            "accept-encoding": "identity",
            "webhook-id": parcel.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "x-trace-retry-count": str(parcel.attempt - 1),
        }
        if self._signers:
            text = parcel.body.decode()
            signed = [
                one.sign(parcel.message_id, now.astimezone(UTC), text) for one in self._signers
            ]
            headers["webhook-signature"] = " ".join(signed)
        return headers

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        await self._poster.aclose()


def _signer(secret: str) -> Webhook:
    text = secret.removeprefix("whsec_")
    try:
        size = len(base64.b64decode(text + "==", validate=False))
    except ValueError:
        size = 0
    if not 24 <= size <= 64:  # Standard Webhooks 1.0.0, "Signature scheme"
        reason = "expected whsec_ and 24 to 64 bytes in base64"
        raise InvalidInput([FieldProblem("secrets.signing", "config", reason)])
    return Webhook(secret)


def _fixed_headers(config: WebhookConfig, hidden: WebhookSecrets) -> dict[str, str]:
    name = config.token_header.lower()
    if not _HEADER.fullmatch(name) or name in _OURS or name.startswith(("content-", "webhook-")):
        raise InvalidInput([FieldProblem("config.token_header", "config", "is not for tokens")])
    if not hidden.signing and hidden.token is None:
        reason = "expected signing, token or both: a receiver could not tell who sends"
        raise InvalidInput([FieldProblem("secrets", "config", reason)])
    if hidden.token is None:
        return {}
    if not _PRINTABLE.fullmatch(hidden.token):
        raise InvalidInput([FieldProblem("secrets.token", "config", "holds what no header may")])
    # The scheme belongs to Authorization alone; any other header takes the token as it is.
    return {name: f"Bearer {hidden.token}" if name == "authorization" else hidden.token}
