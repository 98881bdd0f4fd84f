"""
Trades closed and published, with everything in the way: `make trace-demo`.

On a throw-away database: a statement is imported, open trades are closed, a courier runs in
a process of its own and is killed in the middle, a receiver answers errors, stalls and cuts
connections, another destination is dead, one payload trips the wire. At the end every claim
of the last line is counted from the bytes that were received and from the receipts.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import SecretStr

from onefold.core.published import fields_of
from onefold.testing.clock import ManualClock
from onefold_server.cli.statement import read_statement
from onefold_server.domains.directory.rules import Principal
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

HERE = Path(__file__).parent
USER = "user-ada"
PROFILES = {"receiver": "full", "folder": "no_size", "dead": "result_only"}
START = datetime(2026, 1, 10, 12, tzinfo=UTC)


class Receiver:
    """Takes webhooks on loopback; the first answers are errors, a stall and a cut."""

    def __init__(self) -> None:
        self.script: list[int | str] = [500, 429, "cut", 503, "stall", 408]
        self.got: list[tuple[str, bytes, int]] = []
        self._over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                body = await reader.readexactly(int(fields["content-length"]))
                said = self.script.pop(0) if self.script else 200
                status = said if isinstance(said, int) else 0
                self.got.append((fields["webhook-id"], body, status))
                if said == "cut":
                    writer.transport.abort()
                    return
                if said == "stall":
                    await self._over.wait()
                    return
                writer.write(f"HTTP/1.1 {said} X\r\ncontent-length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def end(self) -> None:
        """Let go of what stalls."""
        self._over.set()


async def main() -> int:
    """The demonstration; 0 when every claim holds."""
    with TemporaryDirectory(prefix="onefold-trace-") as home:
        return await _demo(Path(home))


def _settings(home: Path) -> Settings:
    """A database and files of the demonstration's own; its receivers are on this machine."""
    database = SecretStr(f"sqlite:///{home / 'demo.db'}")
    return Settings(database_url=database, trace_loopback=True, trace_folder=home)


async def _demo(home: Path) -> int:
    clock = ManualClock(START)
    onefold = build(_settings(home), clock=clock)
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    try:
        await onefold.migrate()
        port = server.sockets[0].getsockname()[1]
        caller = Principal.local(await onefold.directory.create_school("Desk"))
        await _places(onefold, caller, home, port)
        closed = await _trades(onefold, caller)
        print(f"imported and closed {closed} trades for {len(PROFILES)} destinations")
        clock.advance(timedelta(minutes=6))
        await _killed_courier(home, clock, receiver)
        clock.advance(timedelta(minutes=2))  # the dead courier's leases have ended
        await _deliver(onefold, clock)
        return await _count(onefold, caller, home, receiver, closed)
    finally:
        receiver.end()
        server.close()
        await onefold.aclose()


async def _places(onefold: Installation, caller: Principal, home: Path, port: int) -> None:
    service = onefold.trace.service
    hook = {"loopback": True, "timeout_s": 1.0}
    token = {"token": "demo"}
    await service.create_destination(
        caller, "receiver", "webhook", config=hook | {"url": f"http://127.0.0.1:{port}/"},
        secrets=token,
    )  # fmt: skip
    await service.create_destination(caller, "folder", "file", config={"path": "out"})
    await service.create_destination(
        caller, "dead", "webhook", config=hook | {"url": "http://127.0.0.1:9/"}, secrets=token
    )
    for name, profile in PROFILES.items():
        await service.subscribe(caller, USER, name, profile=profile, consent_version="demo")


async def _trades(onefold: Installation, caller: Principal) -> int:
    service, closed = onefold.trace.service, 0
    lines = read_statement(HERE / "statement.csv", user=USER, account="main", mode="live")
    for line in lines:
        row = await service.record(caller, line.facts, trade_id=line.trade_id)
        closed += 1
        if row["status"] == "open":
            exit_ = {"exit_time": START, "exit_price": "1.09200"}
            await service.close(caller, line.trade_id, exit_)
    # An instrument that is named like its owner: no model can know, so a person must look.
    odd = dict(line.facts) | {"instrument": "ADA-LOVELACE", "private": {"name": "Ada-Lovelace"}}
    odd |= {"status": "closed", "exit_time": START, "exit_price": "1"}
    await service.record(caller, odd)
    return closed + 1


async def _killed_courier(home: Path, clock: ManualClock, receiver: Receiver) -> None:
    """A courier in a process of its own, killed while a receiver stalls it."""
    at = clock.now().isoformat()
    words = [sys.executable, __file__, "courier", str(home), at]
    child = subprocess.Popen(words)  # noqa: ASYNC220
    while "stall" in receiver.script and child.poll() is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    print(f"killed the courier after {len(receiver.got)} requests")


async def _courier(home: str, at: str) -> None:
    """The child: delivers until it is killed."""
    clock = ManualClock(datetime.fromisoformat(at))
    onefold = build(_settings(Path(home)), clock=clock)
    while True:
        await onefold.courier.work_off()
        clock.advance(timedelta(seconds=30))


async def _deliver(onefold: Installation, clock: ManualClock) -> None:
    """The courier that takes over: eight days pass."""
    for _ in range(8 * 24):
        await onefold.courier.work_off()
        clock.advance(timedelta(hours=1))


async def _count(
    onefold: Installation, caller: Principal, home: Path, receiver: Receiver, closed: int
) -> int:
    service = onefold.trace.service
    names = {row["id"]: row["name"] for row in await service.destinations(caller)}
    states = ["pending", "leased", "delivered", "dead", "held", "cancelled"]
    rows = await service.deliveries(caller, states=states, limit=1000)
    by: dict[str, Counter[str]] = {name: Counter() for name in PROFILES}
    early = 0
    for row in rows:
        by[names[row["destination_id"]]][row["state"]] += 1
        found = await service.delivery(caller, row["id"])
        early += sum(one["at"] < row["not_before"] for one in found["attempts_made"])
    taken: dict[str, set[bytes]] = {}
    for id_, body, _ in receiver.got:
        taken.setdefault(id_, set()).add(body)
    doubled = sum(len(bodies) - 1 for bodies in taken.values())
    doubled += len({b for bodies in taken.values() for b in bodies}) != len(taken)
    sent = [("full", body) for _, body, _ in receiver.got]
    sent += [("no_size", file.read_bytes()) for file in _files(home)]
    outside = sum(len(set(_keys(body)) - set(fields_of(profile))) for profile, body in sent)
    live = {by["receiver"]["delivered"], by["folder"]["delivered"]}
    held, dead = (sum(one[state] for one in by.values()) for state in ("held", "dead"))
    told = live.pop() if len(live) == 1 else f"{live}, not the same,"
    print(
        f"trace: {closed} closed, {told} delivered per live destination, {early} early, "
        f"{doubled} doubled bytes, {outside} fields outside the profile, {held} held, {dead} dead"
    )
    wanted = closed - 1  # the one that tripped the wire waits at each destination
    good = (told, early, doubled, outside, held, dead) == (wanted, 0, 0, 0, 3, wanted)
    return 0 if good else 1


def _files(home: Path) -> list[Path]:
    """What the file destination has: below its school's folder."""
    return list(home.glob("*/out/**/*.json"))


def _keys(body: bytes) -> Any:
    return json.loads(body)["data"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["courier"]:
        asyncio.run(_courier(*sys.argv[2:4]))
    sys.exit(asyncio.run(main()))
