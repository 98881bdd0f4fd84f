"""How answers are encoded: JSON by msgspec, which knows instants and UUIDs."""

from typing import Any

import msgspec
from starlette.responses import Response


class Reply(Response):
    """A JSON answer; instants in RFC 3339 with their offset, UUIDs as text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)
