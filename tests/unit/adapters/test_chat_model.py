"""A language model over HTTP, answered by a transport in this process."""

from decimal import Decimal

import httpx
import pytest

from onefold.errors import ServerUnavailable
from onefold_server.adapters.language_model import ChatModel


def model(answer: httpx.Response) -> ChatModel:
    """A model whose server always gives *answer*."""
    transport = httpx.MockTransport(lambda _: answer)
    return ChatModel(
        httpx.AsyncClient(transport=transport, base_url="http://llm.example/v1"),
        provider="acme",
        model="small",
        input_price=Decimal("0.15"),
        output_price=Decimal("0.60"),
    )


def using(prompt: int, completion: int) -> dict[str, object]:
    """What a server answers."""
    return {
        "choices": [{"message": {"content": "{}"}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
    }


async def test_an_answer_is_read_with_what_it_used() -> None:
    """Text and tokens; the price is exact and rounded up at the ninth decimal."""
    chat = model(httpx.Response(200, json=using(11, 3)))

    found = await chat.complete("hello", max_tokens=5)

    assert (found.text, found.input_tokens, found.output_tokens) == ("{}", 11, 3)
    assert chat.price(11, 3) == Decimal("0.00000345")
    assert (chat.provider, chat.model) == ("acme", "small")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, text="?"),
        httpx.Response(200, json={"usage": 1}),
        httpx.Response(200, json=using(-1, 3)),
        httpx.Response(200, json=using(11, 2**40)),
    ],
)
async def test_no_usable_answer_is_unavailable(answer: httpx.Response) -> None:
    """An error, no JSON, another shape, impossible numbers: none leaks as something else."""
    with pytest.raises(ServerUnavailable):
        await model(answer).complete("hello", max_tokens=5)
