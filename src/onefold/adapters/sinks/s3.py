"""
One object a delivery, created only where there is none: 412 means that it is there already.

Nothing is read and nothing is overwritten, so the key needs `s3:PutObject` alone.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from onefold.adapters.sinks.address import target
from onefold.adapters.sinks.reading import opened, read
from onefold.ports.sink import Kind, Outcome, Parcel, Toll

# At DEBUG it tells what is signed, and with which key.
logging.getLogger("botocore").setLevel(logging.INFO)

_REFUSED: Final = frozenset({401, 403})
_PASSING: Final = frozenset({408, 409, 429, 500, 502, 503, 504})


class S3Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bucket."""

    bucket: str
    prefix: str = "traces/"
    region: str = "us-east-1"
    endpoint: str | None = None
    loopback: bool = False


class S3Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose key."""

    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return "S3Secrets(…)"


class S3Sink:
    """See `ports.sink.Sink`."""

    def __init__(self, config: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
        self._config = read(config, S3Config, "config")
        hidden = read(secrets, S3Secrets, "secrets")
        if self._config.endpoint is not None:
            target(self._config.endpoint, loopback=self._config.loopback)
        self._client = boto3.client(
            "s3",
            region_name=self._config.region,
            endpoint_url=self._config.endpoint,
            aws_access_key_id=hidden.access_key_id,
            aws_secret_access_key=hidden.secret_access_key,
            config=Config(
                connect_timeout=5,
                read_timeout=20,
                retries={"total_max_attempts": 1},  # the courier's, not the client's
                proxies={},
                s3={"addressing_style": "path"} if self._config.endpoint else {},
            ),
        )

    async def send(self, parcel: Parcel, *, now: datetime) -> Outcome:
        """Create the delivery's object; one that is there already is received."""
        refused = opened(parcel)
        if isinstance(refused, Outcome):
            return refused
        day = parcel.occurred_at.astimezone(UTC).date().isoformat()
        key = f"{self._config.prefix}{day}/{parcel.message_id}.json"
        return await asyncio.to_thread(self._put, key, parcel.body)

    def _put(self, key: str, body: bytes) -> Outcome:
        try:
            self._client.put_object(
                Bucket=self._config.bucket,
                Key=key,
                Body=body,
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except ClientError as error:
            return _classified(error, key)
        except BotoCoreError:
            return Outcome(Kind.RETRY, "connect")
        return Outcome(Kind.DELIVERED, "created", 200, remote_ref=key)

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        await asyncio.to_thread(self._client.close)


def _classified(error: ClientError, key: str) -> Outcome:
    status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    if status == 412:
        return Outcome(Kind.DELIVERED, "there_already", status, remote_ref=key)
    if status in _REFUSED:
        return Outcome(Kind.PERMANENT, f"http_{status}", status, toll=Toll.PAUSE)
    kind = Kind.RETRY if status in _PASSING else Kind.PERMANENT
    return Outcome(kind, f"http_{status}", status)
