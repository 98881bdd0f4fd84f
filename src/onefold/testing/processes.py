"""Real processes that die or stop at a named point, and are started again."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

__all__ = ["WorkerProcess", "crash_point", "worker"]

_DIE, _STOP = "ONEFOLD_DIE_AT", "ONEFOLD_STOP_AT"


def crash_point(name: str) -> None:
    """
    Die here by SIGKILL, or stop by SIGSTOP, if a test has named this point.

    In every other process this is a look into the environment. `die_at="paid#2"` is the
    second time that the process comes to `paid`.
    """
    wanted = {_DIE: signal.SIGKILL, _STOP: signal.SIGSTOP}
    for variable, number in wanted.items():
        point, _, times = os.environ.get(variable, "").partition("#")
        if point == name:
            left = int(times or 1) - 1
            os.environ[variable] = f"{point}#{left}" if left else ""
            if not left:
                os.kill(os.getpid(), number)


class WorkerProcess:
    """
    A process of *command* that speaks line by line.

    Args:
        command: Its arguments; what ends in `.py` is run by this Python.
        env: In addition to this process' environment.
        patience_s: For whatever it must do; then TimeoutError.
    """

    def __init__(
        self, *command: str, env: Mapping[str, str] | None = None, patience_s: float = 20.0
    ) -> None:
        python = (sys.executable,) if command[0].endswith(".py") else ()
        self._command, self._env = (*python, *command), dict(env or {})
        self._patience_s = patience_s
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *, die_at: str = "", stop_at: str = "") -> None:
        """Start it, to die or stop at those crash points; after its end, start it again."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=os.environ | self._env | {_DIE: die_at, _STOP: stop_at},
            stdout=asyncio.subprocess.PIPE,
        )

    async def says(self, text: str) -> str:
        """The next line in which *text* stands."""
        stdout = self._running.stdout
        assert stdout is not None
        async with asyncio.timeout(self._patience_s):
            async for line in stdout:
                if text in line.decode():
                    return line.decode().rstrip("\n")
        raise AssertionError(f"it ended without saying {text!r}")

    def kill(self) -> None:
        """SIGKILL, which no process can answer."""
        self._send(signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP: alive, and doing nothing, however long its leases."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    async def stopped(self) -> None:
        """Return when it has stopped at its crash point."""
        pid = self._running.pid
        async with asyncio.timeout(self._patience_s):
            while not _is_stopped(pid):  # noqa: ASYNC110 (nobody tells of another process)
                await asyncio.sleep(0.005)

    async def ended(self) -> int:
        """Its exit status; -9 for one that was killed."""
        async with asyncio.timeout(self._patience_s):
            return await self._running.wait()

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "it was not started"
        return self._process

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._running.send_signal(number)


def _is_stopped(pid: int) -> bool:
    """Whether the kernel says T; Linux' /proc, and `ps` elsewhere would do the same."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123 (no file)
        return stat.read().rpartition(")")[2].split()[0] in "Tt"


@asynccontextmanager
async def worker(
    *command: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[WorkerProcess]:
    """A `WorkerProcess` that is killed at the end of the block, whatever it does then."""
    made = WorkerProcess(*command, env=env)
    try:
        yield made
    finally:
        if made._process is not None and made._process.returncode is None:  # noqa: SLF001 (its own)
            made.kill()
            await made._process.wait()  # noqa: SLF001
