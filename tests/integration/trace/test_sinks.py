"""What the sinks send, byte by byte, and what answers mean to them."""

import asyncio
import base64
import logging
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace
from standardwebhooks.webhooks import Webhook
from tests.support_receiver import receiving
from tests.support_trace import bucket, files

from onefold.adapters.sinks import registry
from onefold.adapters.sinks.address import allowed, target
from onefold.adapters.sinks.file import FileSink, compact
from onefold.adapters.sinks.posting import classified, retry_after
from onefold.adapters.sinks.s3 import S3Sink
from onefold.adapters.sinks.webhook import WebhookSink
from onefold.core.published import Full, encode
from onefold.errors import InvalidInput
from onefold.ports.sink import DestinationEffect, OutcomeKind, Parcel, SendOutcome, Sink
from onefold_server.adapters.myfxbook import MyfxbookSink
from onefold_server.domains.trades.service import marked_body

NOW = datetime(2026, 1, 15, 14, 30, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()
ID = "01234567-89ab-7def-8123-456789abcdef"


def parcel(
    attempt: int = 1, body: bytes | None = None, remote_ref: str | None = None, **changed: Any
) -> Parcel:
    """A full payload."""
    facts: dict[str, Any] = {
        "trade_ref": "a" * 26,
        "account_ref": "b" * 26,
        "instrument": "EURUSD",
        "side": "sell",
        "mode": "live",
        "revision": 1,
        "status": "CLOSED",
        "entry_time": "2026-01-15T13:00:00Z",
        "exit_time": "2026-01-15T14:00:00Z",
        "entry_price": "1.09",
        "exit_price": "1.08",
        "volume": "0.5",
        "fees": "1.25",
        "currency": "USD",
    } | changed
    made = body or encode("full", Full(**facts), id_=ID, occurred_at="2026-01-15T14:00:00Z")
    return Parcel(message_id=ID, body=made, occurred_at=NOW, attempt=attempt, remote_ref=remote_ref)


def sink(url: str, *, secrets: dict[str, Any] | None = None, **config: Any) -> WebhookSink:
    """A webhook to this machine."""
    return WebhookSink({"url": url, "loopback": True} | config, secrets or {"signing": [SECRET]})


def test_the_reference_vector_of_standard_webhooks() -> None:
    """The library signs as the specification does."""
    at = datetime.fromtimestamp(1614265330, UTC)

    signed = Webhook(SECRET).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}')

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_webhook_is_signed_over_its_raw_bytes() -> None:
    """A receiver with the secret verifies it; with either, while secrets are rotated."""
    async with receiving(503, 200) as there:
        one = sink(there.url, secrets={"signing": [SECRET, OTHER]})
        now = datetime.now(UTC)
        outcomes = [await one.send(parcel(attempt=n), now=now) for n in (1, 2)]
        await one.aclose()

    assert [o.kind for o in outcomes] == [OutcomeKind.RETRY, OutcomeKind.DELIVERED]
    first, second = there.got
    assert first.body == second.body == parcel().body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == ID
    counts = [got.headers["x-trace-retry-count"] for got in there.got]
    assert counts == ["0", "1"]
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(second.body, second.headers)


@pytest.mark.parametrize(
    ("header", "sent"), [("Authorization", "Bearer tok-en"), ("X-API-Key", "tok-en")]
)
async def test_a_token_goes_into_its_header(header: str, sent: str) -> None:
    """With its scheme in Authorization, as it is elsewhere."""
    async with receiving() as there:
        one = sink(there.url, secrets={"token": "tok-en"}, token_header=header)
        await one.send(parcel(), now=NOW)
        await one.aclose()

    assert there.got[0].headers[header.lower()] == sent
    assert "webhook-signature" not in there.got[0].headers


STATUSES: list[tuple[int, OutcomeKind, DestinationEffect]] = [
    *(
        (status, OutcomeKind.DELIVERED, DestinationEffect.NONE)
        for status in (200, 201, 202, 203, 204, 206)
    ),
    *(
        (status, OutcomeKind.PERMANENT, DestinationEffect.NONE)
        for status in (301, 302, 303, 307, 308)
    ),
    *((status, OutcomeKind.PERMANENT, DestinationEffect.PAUSE) for status in (401, 403)),
    (410, OutcomeKind.PERMANENT, DestinationEffect.DISABLE),
    *(
        (status, OutcomeKind.PERMANENT, DestinationEffect.NONE)
        for status in (400, 404, 405, 409, 422, 501, 505)
    ),
    *(
        (status, OutcomeKind.RETRY, DestinationEffect.NONE)
        for status in (408, 425, 429, 500, 502, 503, 504)
    ),
    *(
        (status, OutcomeKind.RETRY, DestinationEffect.NONE)
        for status in (507, 509, 511, 520, 527, 529, 599)
    ),
]


@pytest.mark.parametrize(("status", "kind", "toll"), STATUSES)
async def test_what_a_status_means(status: int, kind: OutcomeKind, toll: DestinationEffect) -> None:
    """And a redirect is never followed."""
    async with (
        receiving() as elsewhere,
        receiving((status, {"location": elsewhere.url}, b"")) as there,
    ):
        one = sink(there.url)
        outcome = await one.send(parcel(), now=NOW)
        await one.aclose()

    assert (outcome.kind, outcome.toll, outcome.status) == (kind, toll, status)
    assert (len(there.got), elsewhere.got) == (1, [])


@pytest.mark.parametrize(
    ("plays", "reason"),
    [("stall", "timeout"), ("reset", "connection"), ("huge", "http_200"), ("slow", "timeout")],
)
async def test_a_receiver_that_misbehaves_takes_its_timeout_at_most(
    plays: str, reason: str
) -> None:
    """And at most 64 KiB of memory."""
    async with receiving(plays, plays) as there:
        one = sink(there.url, timeout_s=0.5)
        outcome = await one.send(parcel(), now=NOW)
        await one.aclose()

    assert outcome.reason == reason


async def test_nobody_listening_is_retried() -> None:
    """A connection refused is a restart of the receiver's."""
    async with receiving() as there:
        url = there.url
    one = sink(url)

    assert await one.send(parcel(), now=NOW) == SendOutcome(OutcomeKind.RETRY, "connect")
    await one.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.9.9", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
        "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:1::", "x",
    ],
)  # fmt: skip
def test_addresses_inside_are_refused(address: str) -> None:
    """However they are spelled."""
    assert not allowed(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses_are_not(address: str) -> None:
    """There must be somewhere to go."""
    assert allowed(address)
    assert not allowed(address, loopback=True)


@pytest.mark.parametrize("leads_to", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], []])
async def test_a_name_that_leads_inside_is_not_connected_to(leads_to: list[str]) -> None:
    """Not even when it leads outside too; and it is looked up once."""
    asked = []

    async def ask(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return leads_to

    one = WebhookSink({"url": "https://tracker.example/x"}, {"signing": [SECRET]}, ask=ask)
    outcome = await one.send(parcel(), now=NOW)
    await one.aclose()

    assert outcome == SendOutcome(OutcomeKind.PERMANENT, "blocked_address")
    assert asked == [("tracker.example", 443)]


@pytest.mark.parametrize(
    "url",
    [
        "http://tracker.example/", "ftp://x/", "https://u:hunter2@x/", "https://", "https://x:22/",
        f"https://{'a' * 64}.example/",
        "https://x/\r\nHost: y", "https://[::1", "x",
    ],
)  # fmt: skip
def test_wrong_urls_make_no_destination(url: str) -> None:
    """And are not repeated in the refusal."""
    with pytest.raises(InvalidInput) as refused:
        target(url)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "secrets"),
    [
        ({"url": "https://x/", "token_header": "Host"}, {"token": "hunter2"}),
        ({"url": "https://x/", "token_header": "Content-Type"}, {"token": "hunter2"}),
        # What we say ourselves would take the token's place, and it would never be sent.
        ({"url": "https://x/", "token_header": "User-Agent"}, {"token": "hunter2"}),
        ({"url": "https://x/", "token_header": "Accept-Encoding"}, {"token": "hunter2"}),
        ({"url": "https://x/", "token_header": "A\r\nB"}, {"token": "hunter2"}),
        ({"url": "https://x/"}, {"token": "hunter2\r\nX: y"}),
        ({"url": "https://x/"}, {"signing": ["hunter2"]}),
        ({"url": "https://x/"}, {"tokens": "hunter2"}),
        ({"url": "https://x/"}, {}),
        ({"url": "https://x/", "timeout_s": 31}, {"token": "hunter2"}),
    ],
)
def test_wrong_configurations_make_no_destination(config: Any, secrets: Any) -> None:
    """They fail when they are made, and tell no secret."""
    with pytest.raises(InvalidInput) as refused:
        registry.make("webhook", config, secrets)

    assert "hunter2" not in str(refused.value)


def test_retry_after_is_read_in_both_forms() -> None:
    """Seconds, or a date; anything else is nothing."""
    date = "Thu, 15 Jan 2026 14:31:00 GMT"

    assert retry_after("120", now=NOW) == timedelta(seconds=120)
    assert retry_after(date, now=NOW) == timedelta(seconds=60)
    assert retry_after(date, now=NOW + timedelta(hours=1)) == timedelta(0)
    nothing = (None, "soon", "-1", f"Thu, 15 Jan 2026 14:31:00 +{'9' * 16}")
    assert [retry_after(text, now=NOW) for text in nothing] == [None] * 4
    assert classified(429, {"retry-after": "7"}, now=NOW).retry_after == timedelta(seconds=7)


async def test_a_body_of_no_published_model_is_sent_by_no_sink(tmp_path: Path) -> None:
    """The last gate: an unknown key, and it is held."""
    smuggled = parcel().body.replace(b'"side"', b'"email":"ada@example.org","side"')
    async with receiving() as there:
        webhook = sink(there.url)
        file = FileSink({"path": str(tmp_path)}, {})
        outcomes = [await s.send(parcel(body=smuggled), now=NOW) for s in (webhook, file)]
        await webhook.aclose()

    assert outcomes == [SendOutcome(OutcomeKind.HELD, "schema")] * 2
    assert (there.got, files(tmp_path)) == ([], [])


async def test_a_file_is_written_once_and_whole(tmp_path: Path) -> None:
    """The same delivery again is the same file; nobody else may read it."""
    file = FileSink({"path": str(tmp_path / "out")}, {})
    for attempt in (1, 2):
        await file.send(parcel(attempt), now=NOW)

    (written,) = files(tmp_path)
    assert written.read_bytes() == parcel().body + b"\n"
    assert (written.stat().st_mode & 0o777, written.parent.stat().st_mode & 0o777) == (0o600, 0o700)


_WRONG_PATHS = (
    *("/etc", "..", "a/../../b", "a/..", "", ".", "out/link", "file"),
    *("a" * 256, "é" * 200, "a/" * 3000, "a\0b", "half \ud800"),
)


@pytest.mark.parametrize("path", _WRONG_PATHS, ids=lambda path: ascii(path)[:12])
async def test_a_file_destination_stays_below_the_operators_folder(
    tmp_path: Path, path: str
) -> None:
    """No whole path, no way up, no link, nothing no folder can be called: refused, and told why."""
    (tmp_path / "base" / "out").mkdir(parents=True)
    (tmp_path / "base" / "out" / "link").symlink_to(tmp_path)
    (tmp_path / "base" / "file").write_text("x")

    with pytest.raises(InvalidInput, match=r"config\.path"):
        registry.make("file", {"path": path}, {}, folder=tmp_path / "base")


async def test_a_link_that_comes_later_is_not_followed(tmp_path: Path) -> None:
    """Whoever can write below the folder cannot lead a delivery out of it."""
    base, outside = tmp_path / "base", tmp_path / "outside"
    outside.mkdir()
    file = FileSink({"path": "a/b"}, {}, folder=base)
    (base / "a").mkdir(parents=True)
    (base / "a" / "b").symlink_to(outside)

    outcome = await file.send(parcel(), now=NOW)

    assert (outcome.kind, files(outside)) == (OutcomeKind.RETRY, [])
    (base / "a" / "b").unlink()
    assert (await file.send(parcel(), now=NOW)).kind is OutcomeKind.DELIVERED
    (written,) = files(base)
    made = [one for one in written.parents if one.is_relative_to(base / "a" / "b")]
    assert {one.stat().st_mode & 0o777 for one in made} == {0o700}
    await file.aclose()


async def test_what_a_dead_writer_left_is_swept(tmp_path: Path) -> None:
    """An hour later; no sooner, for it may be of one that lives."""
    file = FileSink({"path": str(tmp_path)}, {})
    await file.send(parcel(), now=NOW)
    left = tmp_path / "2026-01-15" / ".0123.part"
    left.write_bytes(b'{"torn')
    at = datetime.fromtimestamp(left.stat().st_mtime, UTC)

    compact(tmp_path, now=at + timedelta(minutes=59))
    assert left.exists()
    compact(tmp_path, now=at + timedelta(minutes=61))
    assert not left.exists()


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """And so is a file in it that is no delivery."""
    with pytest.raises(InvalidInput, match="no such folder"):
        compact(tmp_path / "missing", now=NOW)
    (tmp_path / "2026-01-15").mkdir()
    (tmp_path / "2026-01-15" / "notes.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"notes\.json"):
        compact(tmp_path, now=NOW)


@pytest.mark.timeout(20)
async def test_a_process_whose_threads_all_hang_still_delivers(tmp_path: Path) -> None:
    """A disk or a name server that hangs takes nothing from the other destinations."""
    hangs, loop = threading.Event(), asyncio.get_running_loop()
    shared = [loop.run_in_executor(None, hangs.wait) for _ in range(64)]
    try:
        async with receiving() as there:
            made: list[Sink] = [
                FileSink({"path": str(tmp_path)}, {}),
                sink(there.url.replace("127.0.0.1", "localhost")),
            ]
            outcomes = [await one.send(parcel(), now=NOW) for one in made]
            for one in made:
                await one.aclose()
    finally:
        hangs.set()
        await asyncio.gather(*shared)

    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.DELIVERED}


async def test_a_name_in_letters_of_its_country_is_delivered_to() -> None:
    """It was taken, and then every attempt failed at the header that names it."""
    async with receiving(200) as there:
        url = urlsplit(there.url)._replace(netloc=f"bücher.example:{urlsplit(there.url).port}")
        asked: list[str] = []

        async def ask(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"]

        one = WebhookSink({"url": url.geturl(), "loopback": True}, {"token": "t"}, ask=ask)
        outcome = await one.send(parcel(), now=NOW)
        await one.aclose()

    (got,) = there.got
    assert (outcome.kind, asked) == (OutcomeKind.DELIVERED, ["xn--bcher-kva.example"])
    assert got.headers["host"] == f"xn--bcher-kva.example:{url.port}"


_HANGS = """
import asyncio, threading
from onefold.adapters.sinks.threads import MOST, Threads

async def main():
    threads = Threads("stuck", wait_s=0.05)
    waits = (threads.run(threading.Event().wait) for _ in range(MOST + 1))
    answers = await asyncio.gather(*waits, return_exceptions=True)
    print({type(one).__name__ for one in answers}, threading.active_count() - 1)

asyncio.run(main())
"""


async def test_a_process_ends_beside_a_disk_that_hangs() -> None:
    """Its threads are as many as they may be, and none of them is waited for."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HANGS, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(15):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert (said.decode().strip(), process.returncode) == ("{'TimeoutError'} 8", 0)


async def test_a_receiver_marks_nobody_with_a_cookie() -> None:
    """What it sets is not kept, and so not sent with the next delivery."""
    async with receiving((200, {"set-cookie": "who=you; Path=/"}, b"")) as there:
        one = sink(there.url)
        for _ in range(2):
            await one.send(parcel(), now=NOW)
        await one.aclose()

    assert [got.headers.get("cookie") for got in there.got] == [None, None]


async def test_days_are_compacted_and_torn_files_never_seen(tmp_path: Path) -> None:
    """One line a delivery, the same at every call; tests and leftovers stay out."""
    file = FileSink({"path": str(tmp_path)}, {})
    await file.send(parcel(), now=NOW)
    day = tmp_path / "2026-01-15"
    (day / ".x.part").write_bytes(b'{"torn')

    made = [compact(tmp_path, now=NOW) for _ in range(2)]
    assert made == [{"trades-2026-01-15.jsonl": 1}] * 2
    assert (tmp_path / "trades-2026-01-15.jsonl").read_bytes() == parcel().body + b"\n"


_HISTORY: dict[str, bytes] = {
    "json": b"""{"error":false,"message":"","history":[
        {"openTime":"01/15/2026 15:00","closeTime":"01/15/2026 16:00","symbol":"EURUSD",
         "action":"Sell","sizing":{"type":"lots","value":"0.5"},"openPrice":1.09,
         "closePrice":1.08,"tp":0,"sl":0,"pips":100,"profit":500,"comment":"x"},
        {"openTime":"01/15/2026 10:00","closeTime":"","symbol":"","action":"Deposit"}]}""",
    "xml": b"""<response error="false" message=""><history><transaction>
        <openTime>01/15/2026 15:00</openTime><closeTime>01/15/2026 16:00</closeTime>
        <symbol>EURUSD</symbol><action>Sell</action><openPrice>1.09</openPrice>
        <closePrice>1.08</closePrice></transaction></history></response>""",
}


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_myfxbook_is_looked_at_and_never_posted_to(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Delivered means seen, in the broker's own time; one answer serves all who look."""
    async with receiving((200, {}, _HISTORY[form])) as there:
        config = {
            "account": "12345", "utc_offset_min": 120, "form": form,
            "url": f"{there.url}/api/get-history", "loopback": True,
        }  # fmt: skip
        caplog.set_level(logging.DEBUG)
        one = MyfxbookSink(config, {"session": "hunter2/+="})
        test = replace(parcel(), body=marked_body(parcel().message_id, NOW))
        seen = await one.send(parcel(), now=NOW)
        not_seen = await one.send(parcel(exit_price="1.07"), now=NOW + timedelta(minutes=5))
        tested = await one.send(test, now=NOW)
        await one.aclose()

    assert (seen.kind, seen.remote_ref) == (OutcomeKind.DELIVERED, f"seen at {NOW.isoformat()}")
    assert (not_seen.kind, not_seen.reason) == (OutcomeKind.WAITING, "not_seen")
    assert not_seen.retry_after == timedelta(minutes=10)  # when a fresh answer can be had
    assert (tested.kind, tested.reason) == (OutcomeKind.DELIVERED, "readable")
    (asked,) = there.got
    assert asked.line.startswith(f"GET /api/get-history.{form}?session=hunter2%2F%2B%3D&id=12345")
    assert asked.body == b""
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b'{"error":true,"message":"Invalid session."}', OutcomeKind.PERMANENT, "session"),
        (b"<html>", OutcomeKind.RETRY, "unreadable"),
    ],
)
async def test_myfxbook_that_does_not_know_us(body: bytes, kind: OutcomeKind, reason: str) -> None:
    """A dead session pauses the destination; a page for people is tried again."""
    async with receiving((200, {}, body)) as there:
        config = {"account": "1", "utc_offset_min": 0, "url": there.url, "loopback": True}
        one = MyfxbookSink(config, {"session": "s"})
        outcome = await one.send(parcel(), now=NOW)
        await one.aclose()

    assert (outcome.kind, outcome.reason) == (kind, reason)


async def test_all_who_look_at_myfxbook_ask_once() -> None:
    """Also when it is away: each is told so, and it is asked once."""
    async with receiving(503, (200, {}, _HISTORY["json"])) as there:
        config = {"account": "1", "utc_offset_min": 120, "url": there.url, "loopback": True}
        one = MyfxbookSink(config, {"session": "s"})
        for reason in ("http_503", "seen"):
            told = await asyncio.gather(*(one.send(parcel(), now=NOW) for _ in range(5)))
            assert {outcome.reason for outcome in told} == {reason}
        await one.aclose()

    assert len(there.got) == 2


_ROW = b'{"error":false,"history":[{"symbol":"EURUSD","action":"Sell",%s}]}'
_TIMES = b'"openTime":"01/15/2026 15:00","closeTime":"01/15/2026 16:00",'
_DOCTYPE = (
    '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE r [<!ENTITY a "false">]>'
    '<r error="&a;"><history/></r>'
)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("json", b'{"error":false,"history":[1]}'),
        ("json", b'{"error":false}'),
        ("json", b"[]"),
        ("json", b"3"),
        ("json", b"[" * 60_000),
        ("json", _ROW % (_TIMES + b'"openPrice":"sNaN","closePrice":"1"')),
        (
            "json",
            _ROW % (_TIMES.replace(b"15/2026 15", b"01/0001 00") + b'"openPrice":1,"closePrice":1'),
        ),
        ("xml", b"<r><history>"),
        ("xml", _DOCTYPE.replace("utf-16", "utf-8").encode()),
        ("xml", _DOCTYPE.encode("utf-16")),
        ("xml", b"<r>" * 20_000),
    ],
    ids=["1", "none", "list", "number", "deep", "sNaN", "year 1", "cut", "type", "type-16", "xml"],
)
async def test_a_history_at_myfxbook_that_is_none_is_tried_again(form: str, body: bytes) -> None:
    """Whatever it says instead of trades; nothing is raised, and no document type is read."""
    async with receiving((200, {}, body)) as there:
        config = {"account": "1", "utc_offset_min": 840, "url": there.url, "loopback": True}
        one = MyfxbookSink(config | {"form": form}, {"session": "s"})
        assert (await one.send(parcel(), now=NOW)).reason == "unreadable"
        await one.aclose()


async def test_s3_creates_one_object_and_finds_it_there() -> None:
    """`If-None-Match: *`: the second attempt is told 412, which is received."""
    with bucket() as (client, config, secrets):
        one = registry.make("s3", config, secrets)
        outcomes = [await one.send(parcel(), now=NOW) for _ in range(2)]
        stored = client.get_object(Bucket="traces", Key=str(outcomes[0].remote_ref))["Body"].read()
        await one.aclose()

    assert [o.reason for o in outcomes] == ["created", "there_already"]
    assert {o.kind for o in outcomes} == {OutcomeKind.DELIVERED}
    assert stored == parcel().body


S3_KEYS = {"access_key_id": "k", "secret_access_key": "hunter2"}


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        ({"endpoint": "https://minio.example"}, "minio.example"),
        ({"region": "eu-central-1"}, "traces.s3.eu-central-1.amazonaws.com"),
        ({"bucket": "my.traces", "region": "eu-central-1"}, "s3.eu-central-1.amazonaws.com"),
    ],
)
async def test_s3_goes_to_an_address_that_was_checked(config: dict[str, Any], asked: str) -> None:
    """Its name is looked up once; one that leads inside is not connected to."""
    names = []

    async def ask(host: str, port: int) -> list[str]:
        names.append((host, port))
        return ["169.254.169.254"]

    one = S3Sink({"bucket": "traces"} | config, S3_KEYS, ask=ask)
    outcome = await one.send(parcel(), now=NOW)
    await one.aclose()

    assert outcome == SendOutcome(OutcomeKind.PERMANENT, "blocked_address")
    assert names == [(asked, 443)]


@pytest.mark.parametrize(
    "config",
    [
        {"endpoint": "http://127.0.0.1:9000"}, {"endpoint": "http://minio.example"},
        {"endpoint": "https://minio.example:9000"}, {"endpoint": "hunter2"},
        {"region": "no region!"}, {"bucket": "No Bucket!"}, {"bucket": ""},
        {"prefix": "../up/"}, {"prefix": "/x/"}, {"prefix": "a//b"}, {"prefix": "a?b"},
    ],
)  # fmt: skip
def test_a_wrong_bucket_makes_no_destination(config: dict[str, Any]) -> None:
    """Told when it is made, by its field, and by nothing that it holds."""
    with pytest.raises(InvalidInput, match=r"config\.") as refused:
        registry.make("s3", {"bucket": "traces"} | config, S3_KEYS)

    assert "hunter2" not in str(refused.value)


async def test_what_s3_answers_is_what_it_means() -> None:
    """Elsewhere is not followed, a wait is waited for, and a refused key pauses."""
    elsewhere = (307, {"location": "https://other.example/"}, b"")
    busy = (503, {"retry-after": "9"}, b"")
    async with receiving(elsewhere, busy, 409, 403, 412) as there:
        config = {"bucket": "traces", "endpoint": there.url, "loopback": True}
        one = S3Sink(config, S3_KEYS)
        told = [await one.send(parcel(), now=NOW) for _ in range(5)]
        await one.aclose()

    assert [(o.kind, o.status) for o in told] == [
        (OutcomeKind.PERMANENT, 307),
        (OutcomeKind.RETRY, 503),
        (OutcomeKind.RETRY, 409),
        (OutcomeKind.PERMANENT, 403),
        (OutcomeKind.DELIVERED, 412),
    ]
    assert (told[1].retry_after, told[3].toll) == (timedelta(seconds=9), DestinationEffect.PAUSE)
    assert {got.headers["if-none-match"] for got in there.got} == {"*"}
    assert b"hunter2" not in b"".join(got.raw for got in there.got)


def test_every_kind_of_sink_is_an_entry_point() -> None:
    """The core names none: yours is found in the same way."""
    assert set(registry.kinds()) >= {"file", "webhook", "s3", "myfxbook", "tradervue", "nowhere"}
    with pytest.raises(InvalidInput):
        registry.make("nothing", {}, {})
