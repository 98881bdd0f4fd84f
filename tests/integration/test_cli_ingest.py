"""`onefold ingest`, `sessions` and `features`, as they are typed, on both databases."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support_fork import ForkHost
from typer.testing import CliRunner, Result

from onefold.core.ids import derived_id
from onefold.errors import OnefoldError
from onefold_server.cli.main import app

MAP = """
[event]
student_id = { column = "player", derive = true }
session_id = { column = "play", derive = "test" }
event_type = { column = "what", style = "snake_case" }
timestamp = { column = "when", format = "%d.%m.%Y %H:%M:%S", zone = "Europe/Oslo" }
[data]
score = { column = "score", type = "number" }
"""
LOG = """player,play,what,when,score
ada,1,TaskStart,24.10.2025 12:00:00,
ada,1,HelpGiven,24.10.2025 12:05:00,7
ada,1,HelpGiven,24.10.2025 12:05:00,7
ada,1,TaskComplete,24.10.2025 12:30:00,7.5
bob,2,TaskStart,24.10.2025 12:00:00,
"""
PLAY = str(derived_id("session", "test", "1"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, with a log and its mapping."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "log.csv").write_text(LOG)
    (folder / "map.toml").write_text(MAP)
    return folder


def onefold(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """What the command line answers."""
    done = CliRunner().invoke(app, list(arguments), input=stdin)
    if done.exception and not isinstance(done.exception, SystemExit | OnefoldError):
        raise done.exception
    return done


def load(database: str, *arguments: str, files: tuple[str, ...] = ("log.csv",)) -> Result:
    chosen = arguments or ("--create-school", "Oslo School")
    return onefold("ingest", *files, "--map", "map.toml", "--database", database, *chosen)


def loaded(database: str, *arguments: str) -> dict[str, Any]:
    """The total of a load."""
    total: dict[str, Any] = json.loads(load(database, *arguments, "--json").stdout)["total"]
    return total


def event(**fields: Any) -> str:
    at = datetime.now(UTC) - timedelta(hours=1)
    whole = {
        "event_id": str(uuid4()),
        "student_id": str(UUID(int=1)),
        "session_id": str(UUID(int=2)),
        "event_type": "pause",
        "timestamp": at.isoformat(),
    }
    return json.dumps({n: v for n, v in (whole | fields).items() if v is not None}) + "\n"


def test_a_log_is_loaded_into_an_empty_database_by_one_command(database_url: str) -> None:
    """The table tells what became of each row."""
    done = load(database_url)

    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "source             rows  applied  repeated  refused  sessions",
        "log.csv               5        5         0        0         2",
        "-------------------------------------------------------------",
        "total of 1 source     5        5         0        0         2",
        "2 sessions closed, being over: see onefold features SESSION",
    ]
    assert done.stderr == ""
    assert not Path("rejects.jsonl").exists()


def test_without_a_database_named_one_is_made_in_the_folder(here: Path) -> None:
    """Nobody else can look into it."""
    done = onefold("ingest", "log.csv", "--map", "map.toml", "--create-school", "Oslo School")

    assert done.exit_code == 0, done.stderr
    assert (here / ".onefold" / "onefold.db").exists()
    assert (here / ".onefold").stat().st_mode & 0o777 == 0o700


def test_loading_again_changes_nothing(database_url: str) -> None:
    """Identical lines are two events, and stay two."""
    first = loaded(database_url, "--create-school", "Oslo School")
    second = loaded(database_url, "--create-school", "Oslo School")

    assert (first["applied"], first["repeated"]) == (5, 0)
    assert (second["applied"], second["repeated"]) == (0, 5)


def test_a_pupils_sessions_and_features_can_be_looked_at(database_url: str) -> None:
    """By the pupil's own name for itself, and as a program reads them."""
    load(database_url)

    listed = onefold("sessions", "ada", "--database", database_url)
    (session,) = json.loads(onefold("sessions", "ada", "--json", "--database", database_url).stdout)
    shown = onefold("features", PLAY, "--database", database_url).stdout
    told = json.loads(onefold("features", PLAY, "--json", "--database", database_url).stdout)

    assert PLAY in listed.stdout
    assert (session["session_id"], session["event_count"]) == (PLAY, 4)
    assert told == session
    assert session["started_at"] == "2025-10-24T10:00:00Z"
    assert session["features"]["task_completion_rate"] == 1.0
    assert session["features"]["event_types"]["help_given"] == 2
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "task completion rate 1.0" in lines
    assert "recovery rate – (nothing failed)" in lines
    assert "help given 2" not in lines
    assert "help_given 2" in lines


def test_sessions_stay_open_where_that_is_wanted(database_url: str) -> None:
    """Then there are no features yet."""
    done = load(database_url, "--create-school", "Oslo School", "--no-close-idle")
    shown = onefold("features", PLAY, "--database", database_url)

    assert "closed" not in done.stdout
    assert "The session is open: features are computed when it closes." in shown.stdout


def test_a_pupil_without_sessions_is_told(sqlite_url: str) -> None:
    """Nobody has to wonder about an empty table."""
    load(sqlite_url)
    Path("roster.csv").write_text("external_id\ncleo\n")
    onefold("student", "import", "roster.csv", "--database", sqlite_url)

    done = onefold("sessions", "cleo", "--database", sqlite_url)

    assert (done.exit_code, done.stderr) == (0, "onefold: no sessions of cleo\n")


def test_a_pupil_who_is_not_there_is_told(sqlite_url: str) -> None:
    """It is another thing than one who has not played."""
    load(sqlite_url)

    done = onefold("sessions", str(UUID(int=5)), "--database", sqlite_url)

    assert (done.exit_code, done.stderr) == (1, f"onefold: no student {UUID(int=5)}\n")


def test_an_unknown_session_is_told_in_one_line(sqlite_url: str) -> None:
    """With the exit code of an error."""
    load(sqlite_url)

    done = onefold("features", str(UUID(int=5)), "--database", sqlite_url)

    assert (done.exit_code, done.stderr) == (1, f"onefold: no session {UUID(int=5)}\n")


def test_pupils_that_are_not_enrolled_are_refused(database_url: str) -> None:
    """The school decides; the rejects file has every row, and a run replaces it."""
    onefold("school", "create", "Strict School", "--database", database_url)
    roster = Path("roster.csv")
    roster.write_text("external_id\nada\n")
    onefold("student", "import", str(roster), "--database", database_url)

    done = load(database_url, "--school", "Strict School")
    load(database_url, "--school", "Strict School")

    assert done.exit_code == 3
    assert "onefold: not counted: 1 row (unknown_student 1), see rejects.jsonl" in done.stderr
    assert "enrol pupils with onefold student import" in done.stderr
    (reject,) = [json.loads(line) for line in Path("rejects.jsonl").read_text().splitlines()]
    assert reject == {
        "source": "log.csv",
        "row": 6,
        "code": "unknown_student",
        "reason": "this pupil is not enrolled in the school",
        "raw": "bob,2,TaskStart,24.10.2025 12:00:00,",
    }


def test_rows_that_are_wrong_cost_themselves_alone(database_url: str) -> None:
    """Whether the file, the mapping or the domain refuses them."""
    bad = "ada,1\nada,1,A,yesterday,\nada,1,Ö,24.10.2025 12:00:00,\nada,1,A,1.1.2525 12:00:00,\n"
    Path("log.csv").write_text(LOG + bad)

    done = load(database_url)
    codes = [json.loads(line)["code"] for line in Path("rejects.jsonl").read_text().splitlines()]

    assert done.exit_code == 3
    assert codes == ["column_count", "timestamp", "event_type", "in_the_future"]
    assert "total of 1 source     9        5         0        4         2" in done.stdout


def test_old_events_are_refused_where_that_is_wanted(database_url: str) -> None:
    """Without the option any age will do."""
    total = loaded(database_url, "--create-school", "Oslo School", "--max-age-days", "30")

    assert (total["applied"], total["refused"]) == (0, 5)


def test_events_of_another_content_under_the_same_name_are_conflicts(database_url: str) -> None:
    """A file that was changed does not overwrite what it said before."""
    load(database_url)
    Path("log.csv").write_text(LOG.replace("HelpGiven", "HelpReceived"))

    done = load(database_url)

    assert "not counted: 2 rows (conflict 2)" in done.stderr


def test_standard_input_is_a_file_with_a_name(sqlite_url: str) -> None:
    """By which its rows are the same as those of the file."""
    load(sqlite_url)
    arguments = ("ingest", "-", "--map", "map.toml", "--database", sqlite_url, "--json")

    named = onefold(*arguments, "--source", "log.csv", stdin=LOG)
    nameless = onefold(*arguments, stdin=LOG)

    assert json.loads(named.stdout)["total"]["repeated"] == 5
    assert nameless.exit_code == 1
    assert "standard input: line 2 has no event_id: say --source NAME" in nameless.stderr


def test_json_lines_with_ids_need_neither_name_nor_mapping(sqlite_url: str) -> None:
    """They are what the server takes."""
    done = onefold(
        *("ingest", "-", "--database", sqlite_url, "--create-school", "A", "--json"),
        stdin=event() + event(),
    )

    told = json.loads(done.stdout)
    assert told["total"]["applied"] == 2
    assert told["sources"][0]["source"] == "standard input"


def test_a_damaged_file_gives_what_it_has(sqlite_url: str) -> None:
    """The table stands, the error is one line, and other files wait for the next call."""
    packed = gzip.compress("".join(event() for _ in range(3000)).encode())
    Path("a.jsonl.gz").write_bytes(packed[:-2000])
    Path("b.jsonl").write_text(event())

    done = onefold(
        *("ingest", "a.jsonl.gz", "b.jsonl", "--database", sqlite_url),
        *("--create-school", "A", "--json"),
    )

    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert "a.jsonl: is a damaged gzip file" in done.stderr
    assert "running the same command again goes on" in done.stderr
    assert [one["source"] for one in told["sources"]] == ["a.jsonl"]
    assert told["total"]["applied"] > 2000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("log.csv",), "school (create one: onefold school create NAME)"),
        (("log.csv", "--school", "X"), "no school X"),
        (("missing.csv",), "missing.csv: cannot be read: No such file or directory"),
        (("log.csv", "sub/log.csv"), "sub/log.csv: has the name of log.csv, so its rows would"),
        (("log.csv", "map.toml", "--source", "x"), "--source: names one file"),
        (("log.csv", "--rejects", "log.csv"), "log.csv: is also the rejects file"),
        (("log.csv", "--create-school", "A", "--school", "B"), "--school: say it or --create-sch"),
        (("log.csv", "--map", "nope.toml"), "nope.toml: cannot be read"),
        (("log.csv", "--create-school", "A"), "log.csv: its header has player, play, what, when"),
        (("garbage", "--create-school", "A"), "garbage: is no text; JSONL, CSV or TSV in UTF-8"),
        (("empty.csv", "--create-school", "A"), "empty.csv: is empty; leave it out"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(
    sqlite_url: str, here: Path, arguments: tuple[str, ...], said: str
) -> None:
    """And nothing is loaded."""
    (here / "garbage").write_bytes(bytes(range(256)))
    (here / "empty.csv").touch()

    done = onefold("ingest", *arguments, "--database", sqlite_url)

    assert done.exit_code == 1
    assert said in done.stderr
    assert done.stderr.startswith("onefold: ")
    assert (done.stderr.count("\n"), done.stdout) == (1, "")


def test_one_of_several_schools_has_to_be_named(sqlite_url: str) -> None:
    """Their names are told."""
    for name in ("A", "B"):
        onefold("school", "create", name, "--database", sqlite_url)

    done = onefold("ingest", "log.csv", "--map", "map.toml", "--database", sqlite_url)

    assert (done.exit_code, done.stderr) == (1, "onefold: school: say which of A, B\n")


@pytest.fixture
def server(host: ForkHost, database_url: str) -> Iterator[tuple[str, str, str]]:
    """A running server's address, a key of its only school, and that school's id."""
    made = onefold("school", "create", "A", "--auto-enrol", "--database", database_url, "--json")
    (school,) = json.loads(made.stdout)
    key = onefold("key", "create", "--role", "service", "--database", database_url)
    command = ("serve", "--port", "0", "--database", database_url)
    with host.popen(*command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        url = process.stdout.readline().decode().split()[-1]
        yield url, key.stdout.strip(), school["school_id"]
        process.terminate()


def test_a_log_is_loaded_into_a_server(server: tuple[str, str, str], sqlite_url: str) -> None:
    """As into a database; there its rows, sessions and features are found again."""
    url, key, school = server
    remote = ("--to", url, "--key", key)
    recent = datetime.now(UTC) - timedelta(days=1)
    Path("log.csv").write_text(LOG.replace("24.10.2025", recent.strftime("%d.%m.%Y")))
    arguments = ("ingest", "log.csv", "--map", "map.toml", *remote, "--school", school, "--json")

    first = json.loads(onefold(*arguments).stdout)
    second = json.loads(onefold(*arguments).stdout)
    listed = onefold("sessions", "ada", *remote, "--school", school, "--json")
    shown = onefold("features", PLAY, *remote, "--json")

    assert first["total"]["applied"] == second["total"]["repeated"] == 5
    assert first["closed_sessions"] is None
    (session,) = json.loads(listed.stdout)
    assert session["session_id"] == json.loads(shown.stdout)["session_id"] == PLAY


def test_a_key_that_is_not_known_is_told_in_one_line(server: tuple[str, str, str]) -> None:
    """As the server says it."""
    url, _, school = server

    done = onefold(
        *("ingest", "log.csv", "--map", "map.toml", "--to", url, "--key", "of_x"),
        *("--school", school),
    )

    assert done.exit_code == 1
    assert f"onefold: {url}: answered 401: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--key", "k", "--database", "sqlite:///x.db"), "--to: a server has its own; leave out"),
        ((), "--key: a server asks for one; say it, or set ONEFOLD_API_KEY"),
        (("--key", "k", "--school", "A"), "--school: 'A' is no UUID; a server's school is said by"),
        (("--key", "k"), "school: pupils' ids are derived within a school: say --school with its"),
    ],
)
def test_what_a_server_needs_is_asked_for(arguments: tuple[str, ...], said: str) -> None:
    """Before anything is sent."""
    to = ("--to", "http://localhost:9")

    done = onefold("ingest", "log.csv", "--map", "map.toml", *to, *arguments)

    assert (done.exit_code, done.stderr.startswith(f"onefold: {said}")) == (1, True)


def test_an_external_id_at_a_server_needs_the_school(sqlite_url: str) -> None:
    """For it means another pupil in each."""
    done = onefold("sessions", "ada", "--to", "http://localhost:9", "--key", "k")

    assert done.stderr == (
        "onefold: ada: an external id belongs to a school: say --school with its id\n"
    )


def test_a_pipe_is_read_once(sqlite_url: str, here: Path) -> None:
    """As a shell makes one of `<(zcat log.csv.gz)`."""
    os.mkfifo(here / "pipe")
    with ThreadPoolExecutor() as threads:
        threads.submit((here / "pipe").write_text, LOG)

        done = load(sqlite_url, "--create-school", "A", "--source", "log.csv", files=("pipe",))

    assert "total of 1 source     5        5" in done.stdout


def test_a_stop_tells_what_was_done_and_closes_nothing(sqlite_url: str, here: Path) -> None:
    """The sessions are not over: the rest of their events comes with the next call."""
    os.mkfifo(here / "pipe")
    main = threading.get_ident()

    def write_and_stop() -> None:
        with (here / "pipe").open("w") as pipe:
            pipe.writelines(event(session_id=None) + event() * 2 for _ in range(1200))
            pipe.flush()
            signal.pthread_kill(main, signal.SIGINT)

    with ThreadPoolExecutor() as threads:
        threads.submit(write_and_stop)
        done = onefold(
            *("ingest", "pipe", "--create-school", "A", "--database", sqlite_url, "--json"),
        )

    told = json.loads(done.stdout)
    assert done.exit_code == 130
    assert told["interrupted"] is True
    assert told["closed_sessions"] is None
    assert told["total"]["applied"] > 0
    assert done.stderr.startswith(
        "onefold: stopped; running the same command again goes on, and counts nothing twice\n"
    )


@pytest.mark.timeout(60)
def test_the_page_about_loading_logs_works_as_pasted(here: Path) -> None:
    """Its files are written, its commands run, and they print what the page says."""
    page = Path(__file__).parents[2] / "docs" / "howto" / "load-logs.md"
    blocks = re.findall(r"^```(\S+) ?(\S*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    printed: list[str] = []

    for kind, name, content in blocks[:6]:
        if name:
            (here / name).write_text(content)
        elif kind == "sh":
            ran = subprocess.run(
                ["bash", "-euc", content],
                env={"PATH": binaries, "TERM": "dumb"},
                capture_output=True,
                text=True,
                check=True,
            )
            printed.append(ran.stdout)

    told = [content for kind, _, content in blocks[:6] if kind == "text"]
    assert len(told) == len(printed) == 2
    assert [out.startswith(said) for said, out in zip(told, printed, strict=True)] == [True, True]
    assert "task completion rate" in printed[1]
