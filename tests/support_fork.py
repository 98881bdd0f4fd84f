"""Real processes without the second that each would import for; see `tests/fork_host.py`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import IO, Any, Final, Self

from tests.fork_host import LENGTH, READY

_COMMAND: Final = "onefold_server.cli.main:main"
_ROOT: Final = Path(__file__).parents[1]
_SCRIPTS: Final = Path(sys.executable).parent

Stream = int | IO[Any] | None  # PIPE, STDOUT, a file; None for nothing


class HostDied(Exception):
    """What forked the processes is gone; its words are the message."""


class ForkHost:
    """
    Starts processes that are forked from one that has imported Onefold.

    Those that are still alive when the block is left are killed.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._one_wish_at_once = threading.Lock()

    def __enter__(self) -> Self:
        self._wishes, theirs = socket.socketpair()
        program = [sys.executable, "-P", str(_ROOT / "tests" / "fork_host.py")]
        with theirs, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the tests, and they end what they started
            )
        if self._wishes.recv(len(READY), socket.MSG_WAITALL) != READY:
            raise self.died()
        return self

    def __exit__(self, *_: object) -> None:
        self._wishes.close()
        self.process.wait()

    def died(self) -> HostDied:
        """What to raise, with what it said last."""
        return HostDied(f"code {self.process.wait()}: {self._log.read_text()[-2000:]}")

    def popen(self, *command: str, **how: Any) -> "Forked":
        """As `subprocess.Popen` would start `onefold` with that *command*; `how` as for `ask`."""
        return Forked(self, command, **how)

    def run(self, *command: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
        """As `subprocess.run` with `capture_output`."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self.popen(*command, stdout=out, stderr=err, **how) as process:
                code = process.wait()
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(command, code, out.read(), err.read())

    async def start(self, *command: str, **how: Any) -> "AsyncForked":
        """As `asyncio.create_subprocess_exec` would start `onefold` with that *command*."""
        process = AsyncForked(self, command, **how)
        await process.listen()
        return process

    def ask(
        self,
        command: tuple[str, ...],
        streams: tuple[int, int, int],
        *,
        call: str = _COMMAND,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> IO[bytes]:
        """
        Start a process; where its pid is said, and how it ended.

        Args:
            command: `sys.argv[1:]` of the process.
            streams: Its standard input, output and error.
            call: Its function, `module:function`: `onefold`'s own, or one of the tests.
            cwd: Where it starts, instead of here.
            env: All of its environment, instead of this process's.
        """
        of_ours = call != _COMMAND
        wish = {
            "call": call,
            "argv": [str(_ROOT if of_ours else _SCRIPTS / "onefold"), *command],
            "path": [str(_ROOT if of_ours else _SCRIPTS)],  # as Python does for a script
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        body = json.dumps(wish).encode()
        ours, theirs = os.pipe()
        report = os.fdopen(ours, "rb", buffering=0)
        try:
            with self._one_wish_at_once:
                socket.send_fds(self._wishes, [LENGTH.pack(len(body))], [*streams, theirs])
                self._wishes.sendall(body)
        except OSError:
            report.close()
            raise self.died() from None
        finally:
            os.close(theirs)
        return report


def _ends(wanted: Stream, *, reads: bool) -> tuple[int, IO[bytes] | None]:
    """A stream of the process, and our end of it where it is a pipe."""
    if wanted is None:
        return os.open(os.devnull, os.O_RDWR), None
    if wanted == PIPE:
        source, sink = os.pipe()
        return (source, os.fdopen(sink, "wb")) if reads else (sink, os.fdopen(source, "rb"))
    return os.dup(wanted if isinstance(wanted, int) else wanted.fileno()), None


class _Process:
    """What both kinds of process have."""

    def __init__(
        self,
        host: ForkHost,
        command: tuple[str, ...],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        **how: Any,
    ) -> None:
        self._host = host
        self._code: int | None = None
        given, self._stdin = _ends(stdin, reads=True)
        out, self._stdout = _ends(stdout, reads=False)
        err, self._stderr = _ends(out if stderr == STDOUT else stderr, reads=False)
        try:
            self._report = host.ask(command, (given, out, err), **how)
        finally:
            for end in (given, out, err):
                os.close(end)
        self.pid = self._told()

    @property
    def returncode(self) -> int | None:
        """How it ended, negative for a signal; None while that is not known."""
        return self._code

    def _end(self) -> None:
        with self._report:
            self._code = self._told()

    def _told(self) -> int:
        line = self._report.readline()
        if not line:
            raise self._host.died()
        return int(line)

    def send_signal(self, number: int) -> None:
        """Nothing when it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, which no process can answer."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


class Forked(_Process):
    """As much of `subprocess.Popen` as is needed; the end of its block waits for its end."""

    @property
    def stdin(self) -> IO[bytes] | None:
        return self._stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        return self._stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        return self._stderr

    def wait(self) -> int:
        """How it ended."""
        if self._code is None:
            self._end()
        assert self._code is not None
        return self._code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if kind is not None:
            self.kill()  # or it would be waited for until the test's time is over, again
        for end in (self._stdin, self._stdout, self._stderr):
            if end is not None:
                end.close()
        self.wait()


class AsyncForked(_Process):
    """As much of `asyncio.subprocess.Process` as is needed; what it says can be read."""

    stdout: asyncio.StreamReader | None = None

    async def listen(self) -> None:
        """Hear, in this event loop, what it says and that it has ended."""
        loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        report = self._report.fileno()

        def over() -> None:
            loop.remove_reader(report)
            with suppress(HostDied):  # who waits is told
                self._end()
            self._over.set()

        loop.add_reader(report, over)
        if self._stdout is not None:
            reader = self.stdout = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._stdout)

    async def wait(self) -> int:
        """How it ended."""
        await self._over.wait()
        if self._code is None:
            raise self._host.died()
        return self._code

    async def communicate(self) -> bytes:
        """What is left of what it says, when it has ended."""
        left = b"" if self.stdout is None else await self.stdout.read()
        await self.wait()
        return left
