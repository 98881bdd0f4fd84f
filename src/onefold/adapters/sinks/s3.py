"""
One object a delivery, created only where there is none: 412 means that it is there already.

Nothing is read and nothing is overwritten, so the key needs `s3:PutObject` alone. boto3 knows
where a bucket is and signs; the request itself is made as every other sink's, to an address
that was checked, by no proxy, past no redirect, and in no thread.
"""

import base64
import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from onefold.adapters.sinks.address import Resolve, target
from onefold.adapters.sinks.posting import HttpAnswer, Poster, classified
from onefold.adapters.sinks.reading import opened, read
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome

# At DEBUG it tells what is signed, and with which key.
logging.getLogger("botocore").setLevel(logging.INFO)

# Letters that need no escape in a key (S3 user guide, "Object key naming guidelines"), and no
# part that a URL would resolve away.
_PREFIX: Final = re.compile(r"(?:(?!\.{1,2}/)[A-Za-z0-9!_.*'()-]+/)*[A-Za-z0-9!_*'()-]*")
_SIGNED_FOR_S: Final = 300  # as far as two clocks may be apart


class S3Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bucket."""

    bucket: str
    prefix: str = "traces/"
    region: str = "us-east-1"
    endpoint: str | None = None  # of a service that is not AWS
    loopback: bool = False


class S3Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose key."""

    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return "S3Secrets(…)"


class S3Sink:
    """See `ports.sink.Sink`."""

    def __init__(
        self,
        config: Mapping[str, Any],
        secrets: Mapping[str, Any],
        *,
        ask: Resolve | None = None,
    ) -> None:
        self._config = read(config, S3Config, "config")
        hidden = read(secrets, S3Secrets, "secrets")
        if not _PREFIX.fullmatch(self._config.prefix):
            raise _refused("prefix", "expected letters, digits and ! _ . * ' ( ) - in folders")
        endpoint = self._config.endpoint
        if endpoint is not None:
            target(endpoint, loopback=self._config.loopback, field="config.endpoint")
        try:
            self._client = _client(self._config, hidden)
            where = self._signed("x", b"")
        except (BotoCoreError, ValueError):  # its text would quote what was given
            reason = "make no address of a bucket: look at bucket, region and endpoint"
            raise _refused("bucket", reason) from None
        to = target(where, loopback=self._config.loopback, field="config.endpoint")
        self._poster = Poster(to, loopback=self._config.loopback, ask=ask)

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """Create the delivery's object; one that is there already is received."""
        refused = opened(parcel)
        if isinstance(refused, SendOutcome):
            return refused
        day = parcel.occurred_at.astimezone(UTC).date().isoformat()
        key = f"{self._config.prefix}{day}/{parcel.message_id}.json"
        to = target(self._signed(key, parcel.body), loopback=self._config.loopback)
        answer = await self._poster.request("PUT", _headers(parcel.body), parcel.body, path=to.path)
        return answer if isinstance(answer, SendOutcome) else _told(answer, key, now)

    def _signed(self, key: str, body: bytes) -> str:
        headers = {"ContentType": _JSON, "IfNoneMatch": "*", "ChecksumSHA256": _checksum(body)}
        wanted = {"Bucket": self._config.bucket, "Key": key, **headers}
        url: str = self._client.generate_presigned_url(
            "put_object", Params=wanted, ExpiresIn=_SIGNED_FOR_S
        )
        return url

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        await self._poster.aclose()


_JSON: Final = "application/json"


def _refused(field: str, reason: str) -> InvalidInput:
    return InvalidInput([FieldProblem(f"config.{field}", "config", reason)])


def _client(config: S3Config, hidden: S3Secrets) -> Any:
    """Signs, and connects to nothing."""
    # The region's own host, not the global one, which redirects for a day after a bucket was
    # made; and a name with dots is in no certificate of the service.
    by_path = config.endpoint is not None or "." in config.bucket
    how = {
        "addressing_style": "path" if by_path else "virtual",
        "us_east_1_regional_endpoint": "regional",
    }
    return boto3.client(
        "s3",
        region_name=config.region,
        endpoint_url=config.endpoint,
        aws_access_key_id=hidden.access_key_id,
        aws_secret_access_key=hidden.secret_access_key,
        config=Config(signature_version="s3v4", ignore_configured_endpoint_urls=True, s3=how),
    )


def _checksum(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _headers(body: bytes) -> dict[str, str]:
    """Those that the signature covers, and so cannot be left out."""
    return {
        "content-type": _JSON,
        "if-none-match": "*",
        "x-amz-checksum-sha256": _checksum(body),
        "accept-encoding": "identity",
        "user-agent": "onefold-trace/1",
    }


def _told(answer: HttpAnswer, key: str, now: datetime) -> SendOutcome:
    if answer.status == 412:
        return SendOutcome(OutcomeKind.DELIVERED, "there_already", 412, remote_ref=key)
    if answer.status == 409:  # another creates it at this moment
        return SendOutcome(OutcomeKind.RETRY, "http_409", 409)
    outcome = classified(answer.status, answer.headers, now=now)
    if outcome.kind is OutcomeKind.DELIVERED:
        return replace(outcome, reason="created", remote_ref=key)
    return outcome
