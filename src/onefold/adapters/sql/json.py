"""How JSON columns are encoded: the one place, because two encoders would not agree."""

from typing import Any

import msgspec


def dump_json(value: Any) -> str:
    """JSON text of *value*; a `msgspec.Raw` passes as it is."""
    return msgspec.json.encode(value).decode()


load_json = msgspec.json.decode
