"""
A process that has imported Onefold, and becomes each process that a test asks for.

`onefold` takes a second of CPU to start, most of it for its imports. They are done here once, and
a wish forks. What comes of it is a process like any other: a pid and a session, signals, a
working folder, an environment, standard streams and an exit code of its own, and an interpreter
that ends as interpreters do. At the fork there is one thread, no event loop, and nothing is open
but what brings wishes. `tests/support_fork.py` asks.

Limit: what Python reads at its own start is the host's: PYTHONPATH, warnings, and the seed of
`hash`, which forked processes share. The storms, and one test of each command, start what is
installed.
"""

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

# What some process imports late; none of it opens anything.
WARM: Final = (
    "aiosqlite",
    "httpcore",
    "onefold.adapters.kafka.transport",
    "onefold.adapters.sinks.webhook",
    "onefold.adapters.valkey.transport",
    "onefold_server.cli.ingest.loader",
    "onefold_server.cli.main",
    "onefold_server.cli.named_app",
    "onefold_server.metrics",
    "onefold_server.up",
    "onefold_server.worker",
    "pwdlib.hashers.argon2",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
LENGTH: Final = struct.Struct("!I")  # of the wish that follows, in bytes
READY: Final = b"ready\n"


class Host:
    """
    Forks for whoever holds the other end of *wishes*.

    A wish comes with four descriptors: standard input, output and error of the new process, and
    one to which its pid is written, and its exit code when it has ended.
    """

    def __init__(self, wishes: socket.socket) -> None:
        self._wishes = wishes
        self._reports: dict[int, int] = {}
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno())

    def wish(self) -> dict[str, Any]:
        """What is to be done by this process; returns in a child alone."""
        while True:
            ready, _, _ = select.select([self._wishes, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(4096)
                self._reap()
            if self._wishes in ready:
                head, descriptors, _, _ = socket.recv_fds(self._wishes, LENGTH.size, 4)
                if not head:
                    self._leave()
                wish = self._wishes.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL)
                if self._fork(descriptors):
                    return dict(json.loads(wish))

    def _fork(self, descriptors: Sequence[int]) -> bool:
        """Whether this is the child."""
        *streams, report = descriptors
        require_one_thread()
        pid = os.fork()
        if pid == 0:
            self._forget(report)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
        else:
            self._reports[pid] = report
            os.write(report, b"%d\n" % pid)
        for stream in streams:
            os.close(stream)
        return pid == 0

    def _forget(self, report: int) -> None:
        """A child knows nothing of wishes, and holds no end of another's report."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._wishes, self._woken, self._wake):
            end.close()
        for descriptor in (report, *self._reports.values()):
            os.close(descriptor)
        os.setsid()

    def _reap(self, how: int = os.WNOHANG) -> None:
        while self._reports:
            pid, status = os.waitpid(-1, how)
            if pid == 0:
                return
            report = self._reports.pop(pid)
            os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(report)

    def _leave(self) -> NoReturn:
        for pid in self._reports:
            os.kill(pid, signal.SIGKILL)
        self._reap(0)
        sys.exit()


def require_one_thread() -> None:
    """Locks that another thread holds would be held for ever in a child."""
    tasks = Path("/proc/self/task")
    alive = len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
    if alive != 1:
        raise RuntimeError(f"{alive} threads at the fork: {threading.enumerate()}")


def become(wish: dict[str, Any]) -> None:
    """Take on what a process is born with."""
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    time.tzset()
    sys.argv, sys.path[:0] = wish["argv"], wish["path"]
    gc.enable()


def main() -> None:
    """Import, wait for wishes, and be what is wished for: `module:function`, without arguments."""
    gc.disable()
    for name in WARM:
        import_module(name)
    gc.freeze()  # no page of it is copied because a child has looked for garbage
    wishes = socket.socket(fileno=int(sys.argv[1]))
    host = Host(wishes)
    wishes.sendall(READY)
    wish = host.wish()
    become(wish)
    module, _, function = wish["call"].partition(":")
    sys.exit(getattr(import_module(module), function)())


if __name__ == "__main__":
    main()
