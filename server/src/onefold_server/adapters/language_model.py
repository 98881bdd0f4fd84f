"""A language model behind an HTTP interface of the kind that OpenAI began: chat completions."""

from decimal import Decimal
from typing import Any, Final

import httpx

from onefold.errors import ServerUnavailable
from onefold_server.domains.learning.language_model import Completion

_MILLION: Final = 1_000_000
_MOST_TOKENS: Final = 100 * _MILLION  # beyond it an answer is no answer, and costs too much


class ChatModel:
    """
    See `ports.language_model.LanguageModel`.

    Args:
        client: Whose base URL and headers lead to the server.
        provider: For the history of spending.
        model: Which model to ask.
        input_price: Of a million tokens of prompt.
        output_price: Of a million tokens of answer.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        provider: str,
        model: str,
        input_price: Decimal,
        output_price: Decimal,
    ) -> None:
        self._client, self._provider, self._model = client, provider, model
        self._prices = input_price, output_price

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def model(self) -> str:
        return self._model

    def price(self, input_tokens: int, output_tokens: int) -> Decimal:
        into, out = self._prices
        cost = (into * input_tokens + out * output_tokens) / _MILLION
        return cost.quantize(Decimal("1e-9"), rounding="ROUND_UP")

    async def complete(self, prompt: str, *, max_tokens: int) -> Completion:
        asked = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        try:
            answer = await self._client.post("chat/completions", json=asked)
            answer.raise_for_status()
            return _read(answer.json())
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise ServerUnavailable(f"{self._provider}: {type(error).__name__}") from error


def _read(body: Any) -> Completion:
    used = body["usage"]
    tokens = int(used["prompt_tokens"]), int(used["completion_tokens"])
    if not all(0 <= count <= _MOST_TOKENS for count in tokens):
        raise ValueError("no such numbers of tokens")
    text = str(body["choices"][0]["message"]["content"])
    return Completion(text=text, input_tokens=tokens[0], output_tokens=tokens[1])
