"""A language model that answers from a recording, and never from anywhere else."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path

from onefold.errors import ServerUnavailable
from onefold_server.domains.learning.language_model import Completion


def recording_key(prompt: str) -> str:
    """By which a prompt finds its answer: 16 hex digits of SHA-256."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


class RecordedModel:
    """
    Plays back answers by prompt: a JSON object of `recording_key` to text and tokens.

    A prompt that was not recorded is `ServerUnavailable` and names its key, so that a
    changed prompt is noticed and not answered by chance.
    """

    provider = "recorded"
    model = "recorded-1"

    def __init__(self, file: Path) -> None:
        self._answers = json.loads(file.read_text())
        self.calls: list[str] = []

    def price(self, input_tokens: int, output_tokens: int) -> Decimal:
        return Decimal("0.000001") * input_tokens + Decimal("0.000002") * output_tokens

    async def complete(self, prompt: str, *, max_tokens: int) -> Completion:
        key = recording_key(prompt)
        self.calls.append(key)
        if key not in self._answers:
            raise ServerUnavailable(f"no recording {key}")
        answer = self._answers[key]
        return Completion(
            text=answer["text"],
            input_tokens=answer["input_tokens"],
            output_tokens=min(answer["output_tokens"], max_tokens),
        )
