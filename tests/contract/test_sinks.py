"""Every sink of ours, put through the contract of `ports.sink`."""

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.contract.receivers import HTTP, Account, Bucket, Folder, Web, history, opened, web

from onefold.adapters.sinks import registry
from onefold.adapters.sinks.file import FileSink
from onefold.ports.sink import OutcomeKind, SinkFactory
from onefold.testing.contracts.sinks import (
    NOON,
    Arrival,
    Receiver,
    SinkContract,
    SinkFeatures,
    Trouble,
    parcel,
)
from onefold_server.adapters.tradervue import Pace, TradervueSink

pytestmark = pytest.mark.timeout(60)  # a client of S3 is made at every step of a delivery

_numbers = count(1)
ROOT = Path(__file__).parents[2]


class TestWebhookSink(SinkContract):
    """Its receiver tells repeats apart by their id."""

    def fresh(self) -> AbstractAsyncContextManager[Web]:
        return web(
            "webhook",
            SinkFeatures(troubles=HTTP | {Trouble.SILENT}),
            config={"timeout_s": 0.5},
            secrets={
                "signing": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
                "token": "a-bearer-token",
            },
        )


class TestTradervueSink(SinkContract):
    """A form of its own, no id: the journal finds duplicates by their content."""

    def fresh(self) -> AbstractAsyncContextManager[Web]:
        features = SinkFeatures(
            sends="form",
            names=False,
            profiles=frozenset({"full"}),
            troubles=HTTP | {Trouble.UNFINISHED},
        )
        return opened(
            Account(
                factory=partial(TradervueSink, pace=Pace(watch_s=0)),
                features=features,
                config={"contact": "ops"},
                secrets={"username": "journal-of-ada", "password": "correct-horse"},
            )
        )


class TestMyfxbookSink(SinkContract):
    """It looks, and never posts."""

    def fresh(self) -> AbstractAsyncContextManager[Web]:
        return web(
            "myfxbook",
            SinkFeatures(
                sends="nothing",
                profiles=frozenset({"full", "no_size"}),
                troubles=HTTP | {Trouble.UNFINISHED},
            ),
            config={"account": "12345", "utc_offset_min": 0},
            secrets={"session": "a-session/+="},
            well=({}, history(12)),
            unfinished=({}, history(0)),
        )


class TestFileSink(SinkContract):
    """A file a delivery."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._home = tmp_path

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Receiver]:
        yield Folder(home=self._home / f"out-{next(_numbers)}")


def _died(folder: Path, *how: str) -> list[dict[str, Any]]:
    """What each death of a process that writes a file left behind."""
    program = [sys.executable, "-m", "tests.contract.dying_file", str(folder), *how]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_process_killed_while_it_writes_leaves_no_torn_file(tmp_path: Path) -> None:
    """By SIGKILL before and after each call of the system: nothing or all, and then all."""
    whole = [parcel().body.decode() + "\n"]

    deaths = _died(tmp_path)

    names = {one["death"].replace("#", ":").split(":")[0] for one in deaths}
    assert {"open", "write", "fsync"} <= names
    assert names & {"replace", "rename"}
    assert len(deaths) > 25
    assert [one for one in deaths if one["left"] not in ([], whole)] == []
    assert [one for one in deaths if (one["again"], one["then"]) != (True, whole)] == []


def test_a_process_killed_while_it_writes_many_leaves_no_torn_file(tmp_path: Path) -> None:
    """Some of them, each whole; and one sync of the folder for all of them."""
    whole = sorted(parcel(n).body.decode() + "\n" for n in range(3))

    deaths = _died(tmp_path, "many")

    assert [one for one in deaths if not set(one["left"]) <= set(whole)] == []
    assert [one for one in deaths if (one["again"], one["then"]) != (True, whole)] == []
    assert {len(one["left"]) for one in deaths} == {0, 1, 2, 3}
    names = [one["death"] for one in deaths if one["death"].endswith("before")]
    renamed = [n for n, name in enumerate(names) if name.startswith(("replace", "rename"))]
    synced = [n for n, name in enumerate(names) if name.startswith("fsync")]
    assert len(renamed) == 3
    assert len([n for n in synced if n > renamed[0]]) == 3  # two files', and the folder's


async def test_a_file_that_cannot_be_written_is_nothing_to_those_beside_it(tmp_path: Path) -> None:
    """Something else has its name: it is tried again, and the others are there."""
    sink, parcels = FileSink({"path": str(tmp_path)}, {}), [parcel(n) for n in range(3)]
    day = tmp_path / "2026-01-15"
    (day / f"{parcels[1].message_id}.json").mkdir(parents=True)

    outcomes = await sink.send_many(parcels, now=NOON)
    await sink.aclose()

    kinds = [one.kind for one in outcomes]
    assert kinds == [OutcomeKind.DELIVERED, OutcomeKind.RETRY, OutcomeKind.DELIVERED], outcomes
    written = sorted(one.read_bytes() for one in day.iterdir() if one.is_file())
    assert written == sorted(parcels[n].body + b"\n" for n in (0, 2))


def test_a_sink_that_writes_to_the_files_place_is_caught(tmp_path: Path) -> None:
    """Twin: a death in the middle leaves half a file where readers look."""
    whole = [parcel().body.decode() + "\n"]

    torn = [one["death"] for one in _died(tmp_path, "straight") if one["left"] not in ([], whole)]

    assert any(name.startswith("write") and name.endswith("after") for name in torn), torn


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[int, Any]]:
    """The port of a real S3 interface, and a client for it."""
    # The receiver's own access log, in this process: a presigned address names its key.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    yield port, client
    client.close()
    server.stop()


class TestS3Sink(SinkContract):
    """An object a delivery, made only where there is none."""

    @pytest.fixture(autouse=True)
    def _s3(self, s3: tuple[int, Any]) -> None:
        self._port, self._client = s3

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Receiver]:
        name = f"bucket-{next(_numbers)}"
        self._client.create_bucket(Bucket=name)
        secrets = {"access_key_id": "AKIA-OF-ADA", "secret_access_key": "the-secret-key"}
        made = Bucket(upstream=self._port, client=self._client, secrets=secrets, name=name)
        await made.open()
        try:
            yield made
        finally:
            await made.close()


class Nothing:
    """Behind the sink that keeps nothing."""

    factory: SinkFactory = partial(registry.make, "nowhere")
    features = SinkFeatures(sends="nothing", configured=False)
    config: Mapping[str, Any] = MappingProxyType({})
    secrets: Mapping[str, Any] = MappingProxyType({})

    async def arrived(self) -> Sequence[Arrival]:
        return []

    async def trouble(self, kind: Trouble | None) -> None:
        assert kind is None


class TestNowhereSink(SinkContract):
    """Not even it takes what is no published payload."""

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Receiver]:
        yield Nothing()


def test_every_kind_of_ours_is_held() -> None:
    """A kind that is added is added here too."""
    held = {"webhook", "tradervue", "myfxbook", "file", "s3", "nowhere"}

    assert set(registry.kinds()) == held
