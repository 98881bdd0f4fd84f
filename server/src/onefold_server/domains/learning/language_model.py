"""A language model that costs money by the token."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered, and what it used for that."""

    text: str
    input_tokens: int
    output_tokens: int


class LanguageModel(Protocol):
    """Completes a prompt."""

    @property
    def provider(self) -> str:
        """Who serves it, for the history of spending."""
        ...

    @property
    def model(self) -> str:
        """Which one it is."""
        ...

    def price(self, input_tokens: int, output_tokens: int) -> Decimal:
        """What so many tokens cost, exactly."""
        ...

    async def complete(self, prompt: str, *, max_tokens: int) -> Completion:
        """
        The model's answer, of at most *max_tokens*.

        Raises:
            ServerUnavailable: no answer came; it may have been paid for all the same.
        """
        ...
