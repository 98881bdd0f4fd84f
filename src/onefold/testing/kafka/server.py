"""
A real Apache Kafka, one node, on loopback: for tests, and for `make kafka`.

The broker's jars come from Maven Central through `mvn` and Java 17; their versions are
pinned in `pom.xml`, their checksums in `jars.sha256`, and they are kept outside the tree, in
`$XDG_CACHE_HOME/onefold` or `~/.cache/onefold`. Nothing but the standard library here.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

VERSION = "4.3.0"

_HERE = Path(__file__).parent
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_CLUSTER = "b25lZm9sZC1vbmUtbm9kZQ"  # any 16 bytes in base64: it names the stored data
_READY = "Kafka Server started"
_START_S = 60.0
_STOP_S = 30.0

# One node has nobody to copy to; a group of tests does not wait for latecomers; and a killed
# broker is let back in when its former life's session ends, after 9 s unless told otherwise.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
num.partitions=4
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=500
group.consumer.session.timeout.ms={session_ms}
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms={heartbeat_ms}
"""


class KafkaMissing(Exception):
    """There is no Kafka here, and the message says why."""


def cache() -> Path:
    """Where the jars are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "onefold" / f"kafka-{VERSION}"


def fetch() -> Path:
    """
    The directory with the broker's jars, fetched when it is not there.

    Raises:
        KafkaMissing: no `mvn` or no `java`, Maven failed, or a jar is not what it should be.
    """
    jars = cache()
    if not jars.is_dir():
        _fetch(jars)
    _verify(jars)
    return jars


def _fetch(jars: Path) -> None:
    mvn = shutil.which("mvn")
    if mvn is None:
        raise KafkaMissing("no `mvn` on the path")
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent) as temporary:
        target = Path(temporary) / "jars"
        arguments = ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
        command = [mvn, "-q", "-B", "-f", str(_HERE / "pom.xml"), _COPY, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaMissing(f"mvn failed: {(done.stdout + done.stderr)[-500:]}")
        _verify(target)
        try:
            target.rename(jars)
        except OSError:  # another process was faster
            if not jars.is_dir():
                raise


def _verify(jars: Path) -> None:
    """All that is pinned, and nothing else."""
    pinned = {}
    for line in (_HERE / "jars.sha256").read_text().splitlines():
        checksum, name = line.split()
        pinned[name] = checksum
    found = {jar.name: sha256(jar.read_bytes()).hexdigest() for jar in jars.glob("*.jar")}
    wrong = sorted(name for name in pinned.keys() | found if pinned.get(name) != found.get(name))
    if wrong:
        raise KafkaMissing(f"not what is pinned, in {jars}: {', '.join(wrong)}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class KafkaServer:
    """
    One broker with its own data; may be stopped, killed, paused and started again on it.

    Args:
        home: Its data and log; made when missing. The same home is the same broker.
        port: Where it listens; a free one when 0. Kept across restarts.
        session_s: Of groups of the newer protocol, whose members cannot choose it.

    Raises:
        KafkaMissing: it cannot be run here.
    """

    def __init__(self, home: Path, *, port: int = 0, session_s: float = 45.0) -> None:
        java = shutil.which("java")
        if java is None:
            raise KafkaMissing("no `java` on the path")
        self._java = [java, "-cp", f"{fetch()}/*"]
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        free, controller = _free_ports(2)
        self.port = port or free
        self.bootstrap = f"127.0.0.1:{self.port}"
        home.mkdir(parents=True, exist_ok=True)
        session_ms = int(session_s * 1000)
        settings = _PROPERTIES.format(
            port=self.port,
            controller=controller,
            logs=home / "data",
            session_ms=session_ms,
            heartbeat_ms=max(100, session_ms // 9),
        )
        (home / "server.properties").write_text(settings)
        self._format()

    def start(self) -> float:
        """Start it and wait until it serves; returns how many seconds that took."""
        began = time.monotonic()
        # 512 MB, and no more compiling than a broker of some minutes is worth.
        options = ["-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        logging = f"-Dlog4j2.configurationFile={_HERE / 'log4j2.properties'}"
        command = [self._java[0], *options, logging, *self._java[1:], "kafka.Kafka"]
        log = self._home / "kafka.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, str(self._home / "server.properties")],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt of the tests is not the broker's
            )
        while _READY not in log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() - began > _START_S:
                self.kill()
                raise KafkaMissing(f"it did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> None:
        """End it in good order. Safe when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a goodbye; what it acknowledged is in its files. Safe as `stop`."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it; clients see a broker that does not answer."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(how)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _signal(self, which: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(which)

    def _format(self) -> None:
        if (self._home / "data" / "meta.properties").exists():
            return
        settings = str(self._home / "server.properties")
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", settings]
        done = subprocess.run([*self._java, *tool], capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaMissing(f"it could not be formatted: {done.stdout + done.stderr}")


def main() -> int:
    """Run a broker in the foreground until interrupted."""
    parser = argparse.ArgumentParser(description="One Kafka broker on loopback.")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--home", type=Path, default=Path(".onefold/kafka"))
    arguments = parser.parse_args()
    try:
        server = KafkaServer(arguments.home.absolute(), port=arguments.port)
        took = server.start()
    except KafkaMissing as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1
    print(f"kafka: {server.bootstrap} (Kafka {VERSION}, up in {took:.1f} s)", flush=True)
    try:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    sys.exit(main())
