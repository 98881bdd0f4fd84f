"""A server is asked again while it cannot answer, and never forever."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from onefold.errors import InvalidInput, ServerUnavailable
from onefold_server.cli.ingest.remote import ATTEMPTS, Remote, connected
from onefold_server.cli.ingest.sinks import ServerSink, client_version

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
Answer = Callable[[], httpx.Response]


class ScriptedServer(httpx.AsyncBaseTransport):
    """Answers each request with the next line of its script, the last one ever after."""

    def __init__(self, *script: Answer) -> None:
        self._script = list(script)
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(await request.aread())
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return answer()


def says(status: int, body: Any = None, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: httpx.Response(status, json=body, headers=given)


def refuses_connections() -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def remote(server: ScriptedServer) -> tuple[Remote, list[float]]:
    """A client of *server*, and how long it has waited at each attempt."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    http = httpx.AsyncClient(transport=server, base_url="http://school.test")
    return Remote(http, sleep=note, now=lambda: NOW), waits


async def test_a_call_is_repeated_byte_for_byte_until_it_is_answered() -> None:
    """Waits double, and what is sent does not change."""
    server = ScriptedServer(refuses_connections, says(502), refuses_connections, says(201, [1]))
    client, waits = remote(server)

    answer = await client.post("/batch", {"a": 1})

    assert answer == [1]
    assert waits == [0.5, 1.0, 2.0]
    assert server.bodies == [b'{"a":1}'] * 4


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("7", 7.0),
        ("7000", 30.0),
        ("Sat, 31 Jan 2026 12:00:05 GMT", 5.0),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0.5),
        ("soon", 0.5),
    ],
)
async def test_a_busy_server_says_how_long_to_wait(asked: str, waited: float) -> None:
    """In seconds or by the hour, and never longer than half a minute."""
    client, waits = remote(ScriptedServer(says(503, retry_after=asked), says(200, {})))

    await client.get("/")

    assert waits == [waited]


async def test_attempts_come_to_an_end() -> None:
    """The last trouble is told, and that repeating is safe is the caller's to say."""
    server = ScriptedServer(says(503, {"detail": "database is away"}))
    client, waits = remote(server)

    with pytest.raises(ServerUnavailable, match="answered 503: database is away"):
        await client.get("/")

    assert (len(server.bodies), len(waits)) == (ATTEMPTS, ATTEMPTS - 1)


async def test_a_server_that_is_not_there_is_named() -> None:
    """With what the network said."""
    client, _ = remote(ScriptedServer(refuses_connections))

    with pytest.raises(ServerUnavailable, match="connection refused"):
        await client.get("/")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says(401, {"detail": "this API key is not known"}), "answered 401: this API key is not k"),
        (says(404), "answered 404: Not Found"),
        (says(405, "no"), "answered 405: Method Not Allowed"),
        (lambda: httpx.Response(403, text="<html>"), "answered 403: Forbidden"),
        (lambda: httpx.Response(200, text="<html>"), "does not answer as a Onefold server does"),
    ],
)
async def test_what_will_not_change_is_not_repeated(answer: Answer, said: str) -> None:
    """It is told at once."""
    server = ScriptedServer(answer)
    client, _ = remote(server)

    with pytest.raises(InvalidInput) as refused:
        await client.get("/")

    assert str(refused.value).startswith(f"http://school.test: {said}")
    assert len(server.bodies) == 1


async def test_a_server_is_called_with_the_key() -> None:
    """As a bearer token."""
    async with connected("http://school.test", "of_key") as client:
        assert client._http.headers["Authorization"] == "Bearer of_key"


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("http://school.test", None, "--key: a server asks for one; say it, or set ONEFOLD_API_K"),
        ("http://school.test", "ø", "--key: is no API key"),
        ("http://school.test", "a\n", "--key: is no API key"),
        ("http://a:port", "of_key", "http://a:port: is no http:// or https:// address"),
    ],
)
async def test_what_cannot_be_a_server_or_a_key_is_refused(
    url: str, key: str | None, said: str
) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidInput) as refused:
        async with connected(url, key):
            raise AssertionError

    assert str(refused.value).startswith(said)


async def test_an_address_without_a_scheme_is_refused() -> None:
    """`localhost:8000` is what people type first."""
    async with connected("localhost:8000", "of_key") as client:
        with pytest.raises(InvalidInput, match="is no http:// or https:// address"):
            await client.get("/")


async def test_a_batch_is_sent_with_its_id_and_the_answer_read() -> None:
    """The server's verdicts are told as the database's would be."""
    refusal = {"index": 1, "event_id": None, "code": "conflict", "reason": "because"}
    answer = {"applied": 1, "repeated": 2, "refused": [refusal], "message": "more"}
    server = ScriptedServer(says(201, answer))
    client, _ = remote(server)

    receipt = await ServerSink(client).send(UUID(int=7), [{"a": 1}])

    assert (receipt.applied, receipt.repeated) == (1, 2)
    assert [(r.index, r.code) for r in receipt.refused] == [(1, "conflict")]
    assert server.bodies == [
        b'{"batch_id":"00000000-0000-0000-0000-000000000007",'
        + f'"client_version":"{client_version()}","events":[{{"a":1}}]}}'.encode()
    ]


@pytest.mark.parametrize("answer", [{}, {"applied": 1, "repeated": 0, "refused": [{"x": 1}]}])
async def test_an_answer_of_another_kind_of_server_is_refused(answer: Any) -> None:
    """Rather than counted."""
    client, _ = remote(ScriptedServer(says(201, answer)))

    with pytest.raises(InvalidInput, match="does not answer as a Onefold server does"):
        await ServerSink(client).send(UUID(int=7), [])


def test_what_a_batch_is_sent_by_fits_its_field() -> None:
    """20 characters at the most."""
    assert client_version().startswith("onefold ")
    assert len(client_version()) <= 20
