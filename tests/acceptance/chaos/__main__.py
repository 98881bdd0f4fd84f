"""`make chaos`: a storm over each transport that is there; the last line of each is its verdict."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import randbits

from tests.acceptance.chaos.servers import Kafka, Mortal, postgres, valkey
from tests.acceptance.chaos.storm import Storm
from tests.acceptance.support import tell

from onefold.testing.kafka.server import KafkaMissing, KafkaServer

CALM_S = 15.0  # of a transport's share of the time: servers start, what was sent is worked off


def main(given: Sequence[str] | None = None) -> int:
    """The exit code: 0 when nothing was lost, doubled or out of order on any transport."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="for all transports together")
    parser.add_argument("--seed", type=int, default=0, help="of a run that is to be repeated")
    parser.add_argument("--only", choices=sorted(BROKERS))
    arguments = parser.parse_args(given)
    seed = arguments.seed or randbits(32)
    names = [arguments.only] if arguments.only else list(BROKERS)
    lasts_s = max(5.0, arguments.minutes * 60 / len(names) - CALM_S)
    return max(_one(name, seed, lasts_s) for name in names)


@contextmanager
def kafka(home: Path) -> Iterator[Mortal]:
    """A real broker."""
    server = KafkaServer(home / "kafka")
    server.start()
    try:
        yield Kafka(server)
    finally:
        server.stop()


BROKERS = {"kafka": kafka, "valkey": valkey}


def _one(name: str, seed: int, lasts_s: float) -> int:
    home = Path(tempfile.mkdtemp(prefix="onefold-chaos-"))
    tell(f"{name}: storm of {lasts_s:.0f} s, replay with SEED={seed}; log in {home} if it fails")
    try:
        with BROKERS[name](home) as broker, postgres() as database:
            report = asyncio.run(Storm(broker, database, seed, lasts_s, home).run())
    except KafkaMissing as error:
        tell(f"{name}: not there: {error}")
        return int(os.environ.get("ONEFOLD_REQUIRE_KAFKA") == "1")
    tell(f"{name}: {report.details}")
    for harm in report.harm[:50]:
        tell(f"{name}: {harm}")
    if not report.harm:
        shutil.rmtree(home)
    tell(report.line)
    return 1 if report.harm else 0


if __name__ == "__main__":
    for which in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the servers must not stay
        signal.signal(which, signal.default_int_handler)
    sys.exit(main())
