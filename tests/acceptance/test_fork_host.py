"""A forked process is a process like any other; the tests that kill them lean on that."""

import atexit
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from tests.fork_host import require_one_thread
from tests.support_fork import Forked, ForkHost, HostDied

pytestmark = pytest.mark.acceptance


def tell() -> None:
    """What a process sees of itself."""
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    seen = {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "hour": time.localtime(0).tm_hour,
        "argv": sys.argv[1:],
        "open": descriptors[:-1],  # the last one is the folder that was listed
        "input": sys.stdin.read(),
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGCHLD, signal.SIGTERM)],
    }
    print(json.dumps(seen))  # noqa: T201


def draw() -> None:
    """What one that names things by chance would name the first."""
    print(random.random())  # noqa: T201


def ends() -> None:
    """End as the arguments say."""
    atexit.register(lambda: print("at exit"))  # noqa: T201
    how = sys.argv[1]
    if how == "raise":
        raise LookupError("a bug")
    if how == "thread":
        threading.Thread(target=lambda: print("thread")).start()  # noqa: T201
    if how == "wait":
        print("waits", flush=True)  # noqa: T201
        time.sleep(60)
    sys.exit("a word" if how == "word" else int(how) if how.isdigit() else None)


TELL, DRAW, ENDS = (f"{__name__}:{name}" for name in ("tell", "draw", "ends"))


def test_it_has_all_of_its_own(host: ForkHost, tmp_path: Path) -> None:
    """A session, a folder, an environment, standard streams; and nothing of anybody else."""
    env = {"TZ": "Asia/Tokyo", "ONLY": "this"}
    with host.popen("a", "b", call=TELL, stdin=PIPE, stdout=PIPE, env=env, cwd=tmp_path) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"a line")
        process.stdin.close()
        seen = json.load(process.stdout)

    assert seen.pop("handlers") == [str(signal.SIG_DFL)] * 2
    assert seen == {
        "pid": process.pid,
        "session": process.pid,
        "cwd": str(tmp_path),
        "env": env,
        "hour": 9,
        "argv": ["a", "b"],
        "open": [0, 1, 2],
        "input": "a line",
    }


def test_each_has_a_chance_of_its_own(host: ForkHost) -> None:
    """Or two of them would take the same name, and the second's be what the first left."""
    assert len({host.run(call=DRAW).stdout for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("how", "code", "out", "err"),
    [
        ("fine", 0, b"at exit\n", b""),
        ("3", 3, b"at exit\n", b""),
        ("word", 1, b"at exit\n", b"a word\n"),
        ("thread", 0, b"thread\nat exit\n", b""),
    ],
)
def test_it_ends_as_an_interpreter_does(
    host: ForkHost, how: str, code: int, out: bytes, err: bytes
) -> None:
    """Threads are waited for, what is registered runs, streams are flushed, the code is told."""
    ended = host.run(how, call=ENDS)

    assert (ended.returncode, ended.stdout, ended.stderr) == (code, out, err)


def test_a_bug_ends_it_with_a_traceback(host: ForkHost) -> None:
    """And the host goes on."""
    with host.popen("raise", call=ENDS, stdout=PIPE, stderr=STDOUT) as process:
        assert process.stdout
        told = process.stdout.read()

    assert process.returncode == 1
    assert told.startswith(b"Traceback")
    assert told.endswith(b"LookupError: a bug\nat exit\n")
    assert host.run("3", call=ENDS).returncode == 3


def _waiting(host: ForkHost) -> Forked:
    process = host.popen("wait", call=ENDS, stdout=PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"waits\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_it_and_no_other(host: ForkHost, number: signal.Signals) -> None:
    """As many as there are, each is one by itself."""
    with _waiting(host) as process, _waiting(host) as other:
        process.send_signal(number)

        assert process.wait() == -number
        assert other.returncode is None
        os.kill(other.pid, 0)
        other.kill()


async def test_it_is_waited_for_in_a_loop(host: ForkHost) -> None:
    """As with asyncio's own."""
    process = await host.start("wait", call=ENDS, stdout=PIPE)
    assert process.stdout
    assert await process.stdout.readline() == b"waits\n"
    assert process.returncode is None

    process.kill()

    assert await process.wait() == process.returncode == -signal.SIGKILL
    assert await process.communicate() == b""


async def test_the_death_of_the_host_is_told(tmp_path: Path) -> None:
    """To whoever waits, and to whoever wishes for more."""
    with ForkHost(tmp_path / "log") as host:
        waited = await host.start("wait", call=ENDS)
        process = _waiting(host)
        host.process.kill()
        with pytest.raises(HostDied, match="code -9"):
            await waited.wait()
        with pytest.raises(HostDied, match="code -9"), process:
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(HostDied, match="code -9"):
            host.run("3", call=ENDS)
        os.kill(waited.pid, signal.SIGKILL)


def test_no_fork_beside_a_thread() -> None:
    """Whatever lock it held would never be free again."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="threads at the fork"):
            require_one_thread()
    finally:
        over.set()
        thread.join()


def test_who_is_left_when_the_host_leaves_is_killed(tmp_path: Path) -> None:
    """Whatever a test forgot."""
    with ForkHost(tmp_path / "log") as host:
        left = _waiting(host)

    assert left.wait() == -signal.SIGKILL
    left.__exit__()
