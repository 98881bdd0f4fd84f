"""The command line of trace, as people run it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from onefold_server.cli.main import app

STATEMENT = "\n".join(
    [
        (
            "ticket,instrument,side,entry_time,entry_price,exit_time,exit_price,volume,profit_net,"
            "currency,comment"
        ),
        (
            "1001,EURUSD,buy,2026-01-01T09:00:00Z,1.0800,2026-01-01T10:00:00Z,1.0900,0.5,498.50,USD,"
            "call ada@example.org"
        ),
        (
            "1002,XAUUSD,sell,2026-01-01T09:30:00+02:00,2650.10,2026-01-01T10:30:00+02:00,2655.35,1,"
            "-525.00,USD,"
        ),
        "1003,EURUSD,buy,2026-01-01T09:00:00,1.08,2026-01-01T10:00:00Z,1.09,0.5,1,USD,naive",
        "1004,EURUSD,buy,2026-01-01T11:00:00Z,1.08,,,0.5,,,still open",
    ]
)


@pytest.fixture
def run(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command over a fresh database; its JSON, or its text."""
    monkeypatch.setenv("ONEFOLD_TRACE_FOLDER", str(tmp_path))

    def call(*words: str, code: int = 0, plain: bool = False) -> Any:
        where = [] if plain else ["--database", sqlite_url]
        result = CliRunner().invoke(app, [*words, *where])
        assert result.exit_code == code, result.output
        return json.loads(result.output) if "--json" in words else result.output

    return call


def test_a_statement_goes_to_files(run: Any, tmp_path: Path) -> None:
    """School, destination, consent, import, deliver, look, compact; the same again is as once."""
    statement = tmp_path / "statement.csv"
    statement.write_text(STATEMENT)
    run("school", "create", "Desk")
    config = "path=out"
    made = run(
        "trace", "destination", "create", "folder", "--sink", "file", "--config", config, "--json"
    )
    assert made[0]["state"] == "active"
    run("trace", "subscribe", "ada", "folder", "--consent", "1", "--profile", "full")

    first = run("trades", "import", str(statement), "--user", "ada", "--json", code=3)
    again = run("trades", "import", str(statement), "--user", "ada", "--json", code=3)

    assert (first["new"], first["known"]) == (3, 0)
    assert [one["line"] for one in first["refused"]] == [4]
    assert (again["new"], again["known"]) == (0, 3)
    waiting = run("trace", "list", "--json")
    assert [row["state"] for row in waiting] == ["pending"] * 2
    for row in waiting:
        run("trace", "release", row["id"])
    assert run("trace", "deliver", "--json") == [{"delivered": 2}]
    made = run("trace", "compact", "--destination", "folder", "--json")
    assert made["files"] == {"trades-2026-01-01.jsonl": 2}
    out = Path(made["folder"])
    assert (out.parent.parent, out.name) == (tmp_path, "out")
    assert "trades-2026-01-01.jsonl: 2" in run("trace", "compact", str(out), plain=True)
    lines = (out / "trades-2026-01-01.jsonl").read_text()
    assert "ada" not in lines
    assert "1001" not in lines
    shown = json.loads(run("trace", "show", waiting[0]["id"]))
    assert (shown["state"], len(shown["attempts_made"])) == ("delivered", 2)
    dry = json.loads(run("trace", "dry-run", shown["trade_id"], "--profile", "result_only"))
    assert set(dry["data"]) <= {
        *("trade_ref", "instrument", "side", "exit_time", "mode", "revision", "status"),
        *("return_pct", "r_multiple", "disclaimer"),
    }


def test_a_destination_is_tried_paused_rotated_and_removed(run: Any, tmp_path: Path) -> None:
    """By name; secrets are never shown again."""
    run("school", "create", "Desk")
    secret = "signing=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    url = "url=https://tracker.example/x"
    made = run(
        "trace", "destination", "create", "hook", "--sink", "webhook", "--config", url,
        "--secret", secret, "--json",
    )  # fmt: skip
    assert made[0]["secrets"] == ["signing"]
    assert "MfKQ" not in json.dumps(made)
    tested = run("trace", "test", "hook", "--no-send")
    assert json.loads(tested)["type"] == "trade.test"
    changed = run(
        "trace", "destination", "change", "hook", "--config", "timeout_s=9", "--rate-per-s", "2",
        "--json",
    )  # fmt: skip
    assert (changed[0]["rate_per_s"], changed[0]["secrets"]) == (2, ["signing"])
    assert changed[0]["config"] == {"url": "https://tracker.example/x", "timeout_s": "9"}
    back = run(
        "trace", "destination", "change", "hook", "--config", "timeout_s=", "--rate-per-s", "0",
        "--json",
    )  # fmt: skip
    assert (back[0]["rate_per_s"], list(back[0]["config"])) == (None, ["url"])
    run("trace", "destination", "change", "hook", code=1)
    run("trace", "destination", "change", "hook", "--config", "url=http://x/", code=1)
    assert run("trace", "destination", "pause", "hook") == "0 deliveries are held\n"
    assert run("trace", "destination", "resume", "hook") == "0 deliveries go on\n"
    rotated = run("trace", "destination", "rotate", "hook", "--secret", "token=t0ken", "--json")
    assert (rotated[0]["name"], rotated[0]["secrets"]) == ("hook", ["token"])
    assert run("trace", "destination", "pause", "hook", "--json") == {"held": 0}
    assert run("trace", "destination", "resume", "hook", "--json") == {"released": 0}
    assert "writes no files" in run("trace", "compact", "--destination", "hook", code=1)
    assert "not both" in run("trace", "compact", code=1)
    assert run("trace", "destination", "list", "--json")[0]["secrets"] == ["token"]
    assert run("trace", "destination", "remove", "hook", "--json") == {"held": 0}
    assert run("trace", "destination", "list", "--json") == []
    assert run("trace", "list", "--json") == []
    assert run("trace", "coverage", "--json") == []
    run("trace", "test", "hook", code=1)


def test_what_cannot_be_is_told_with_what_can(run: Any, tmp_path: Path) -> None:
    """Which destination, which consent, and what to ask for instead."""
    run("school", "create", "Desk")
    made = ("trace", "destination", "create", "folder", "--sink", "file", "--config", "path=out")
    run(*made)
    assert "choose another name" in run(*made, code=1)
    assert run("trace", "deliver") == "nothing is due\n"
    until = ("--consent", "1", "--until", "2999-12-31T00:00:00+01:00")
    assert "until" in run("trace", "subscribe", "ada", "folder", *until, code=1)
    until = ("--consent", "1", "--until", "2199-12-31T00:00:00+01:00")
    given = run("trace", "subscribe", "ada", "folder", *until, "--json")
    assert "such as" in run("trace", "subscribe", "b", "folder", *until[:3], "soon", code=1)
    (found,) = run("trace", "subscriptions", "--user", "ada", "--json")
    assert (found["id"], found["destination"]) == (given[0]["id"], "folder")
    assert run("trace", "subscriptions", "--user", "bob", "--json") == []
    statement = tmp_path / "statement.csv"
    statement.write_text(STATEMENT)
    assert "line 4: " in run("trades", "import", str(statement), "--user", "ada", code=3)

    (first, second) = run("trace", "list", "--json")
    assert first["destination"] == "folder"
    assert "only dead deliveries" in run("trace", "replay", first["id"], code=1)
    run("trace", "cancel", first["id"])
    assert "waiting or held" in run("trace", "release", first["id"], code=1)
    assert "recalled" in run("trace", "cancel", first["id"], code=1)
    assert json.loads(run("trace", "show", second["id"]))["destination"] == "folder"
    assert json.loads(run("trace", "withdraw", found["id"]))["cancelled"] == 1


def test_a_later_statement_closes_what_an_earlier_one_had_open(run: Any, tmp_path: Path) -> None:
    """The same ticket, now with its exit: closed once; with another entry, refused."""
    run("school", "create", "Desk")
    run("trace", "destination", "create", "folder", "--sink", "file", "--config", "path=out")
    run("trace", "subscribe", "ada", "folder", "--consent", "1")
    head = "ticket,instrument,side,entry_time,entry_price,exit_time,exit_price"
    lines = {
        "monday": "1,EURUSD,buy,2026-01-01T09:00:00+02:00,1.0800,,",
        "other": "1,EURUSD,buy,2026-01-01T09:00:00+02:00,1.0900,2026-01-02T10:00:00Z,1.09",
        "tuesday": "1,EURUSD,buy,2026-01-01T09:00:00+02:00,1.0800,2026-01-02T10:00:00Z,1.09",
    }
    said = []
    for name in ("monday", "other", "tuesday", "tuesday"):
        file = tmp_path / f"{name}.csv"
        file.write_text(f"{head}\n{lines[name]}\n")
        words = ("--user", "ada", "--json")
        report = run("trades", "import", str(file), *words, code=3 * (name == "other"))
        said.append((report["new"], report["closed"], len(report["refused"])))

    assert said == [(1, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 0)]
    assert [row["revision"] for row in run("trace", "list", "--json")] == [2]


def test_a_test_prints_the_exact_bytes_and_sends_them(run: Any, tmp_path: Path) -> None:
    """What is printed is what is written; a refusal is an exit code."""
    run("school", "create", "Desk")
    run("trace", "destination", "create", "folder", "--sink", "file", "--config", "path=out")

    printed, told = run("trace", "test", "folder").splitlines()

    (written,) = tmp_path.glob("*/out/**/*.json")
    assert written.read_text() == f"{printed}\n"
    assert told == "delivered: written"
    shown = run("trace", "test", "folder", "--json")
    assert (shown["outcome"], json.loads(shown["body"])["type"]) == ("delivered", "trade.test")
    dead = ("--sink", "webhook", "--config", "url=https://[::1]/", "--secret", "token=t")
    run("trace", "destination", "create", "inside", *dead)
    assert "blocked_address" in run("trace", "test", "inside", code=1)


def test_a_configuration_on_the_command_line_is_text(run: Any) -> None:
    """An account number stays the text that its sink asks for, a number is read from text."""
    run("school", "create", "Desk")
    words = ("--sink", "myfxbook", "--secret", "session=s", "--config", "account=12345")

    made = run(
        "trace", "destination", "create", "m", *words, "--config", "utc_offset_min=120", "--json"
    )

    assert made[0]["config"] == {"account": "12345", "utc_offset_min": "120"}
    run("trace", "destination", "create", "n", *words, "--config", "utc_offset_min=x", code=1)
    run("trace", "destination", "create", "n", "--sink", "file", "--secret", "x", code=1)


def test_what_a_statement_says_wrongly_is_told_line_by_line(run: Any, tmp_path: Path) -> None:
    """Torn lines, missing tickets, wrong instants, changed trades: each is named, none guessed."""
    run("school", "create", "Desk")
    head = "ticket,instrument,side,entry_time,entry_price,exit_time,exit_price"
    good = "1,EURUSD,buy,2026-01-01T09:00:00Z,1.08,2026-01-01T10:00:00Z,1.09"
    lines = [
        head,
        good,
        good.replace("1.08", "1,08").replace("1,", "2,", 1),
        good.replace("1,", ",", 1),
        good.replace("1,", "3,", 1).replace("2026-01-01T10", "2026-13-01T10"),
        good.replace("1.09", "1.10"),
    ]
    statement = tmp_path / "s.csv"
    statement.write_text("\n".join(lines))

    report = run("trades", "import", str(statement), "--user", "ada", "--json", code=3)
    other = run("trades", "import", str(statement), "--user", "bob", "--json", code=3)

    assert (report["new"], other["new"]) == (1, 1)
    assert [one["line"] for one in report["refused"]] == [3, 4, 5, 6]
    told = " ".join(one["reason"] for one in report["refused"])
    assert all(word in told for word in ("cells", "ticket", "exit_time", "another exit"))
    assert "cannot be read" in run("trades", "import", "none.csv", "--user", "a", code=1)
    statement.write_text(f"{head}\n{'x' * 200_000}\n")
    assert "is not CSV" in run("trades", "import", str(statement), "--user", "a", code=1)
    statement.write_text(f"{head},ticket\n{good},2\n")
    assert "has twice: ticket" in run("trades", "import", str(statement), "--user", "a", code=1)
    statement.write_bytes(b"\xff\xfe")
    assert "UTF-8" in run("trades", "import", str(statement), "--user", "a", code=1)
    assert "no such folder" in run("trace", "compact", str(tmp_path / "none"), code=1, plain=True)


def test_a_name_is_shown_as_it_is(run: Any) -> None:
    """Brackets were read as markup, and one that closes nothing ended the list in a traceback."""
    run("school", "create", "Desk")
    for name in ("[/x]", "[red]a[/red]", ":smile:"):
        run("trace", "destination", "create", name, "--sink", "nowhere")
        run("trace", "subscribe", f"{name}\x1b[2J", name, "--consent", "1")

    places, consents = run("trace", "destination", "list"), run("trace", "subscriptions")

    assert all(name in places for name in ("[/x]", "[red]a[/red]", ":smile:"))
    assert "[/x]\ufffd[2J" in consents
    assert "\x1b" not in consents


def test_what_is_not_there_is_told_with_where_to_look(tmp_path: Path) -> None:
    """A database that does not answer, a folder whose files are none."""
    (tmp_path / "out" / "2026-01-01" / "a.json").mkdir(parents=True)
    nobody = "postgresql://localhost:1/x"

    def told(*words: str) -> str:
        result = CliRunner().invoke(app, ["trace", *words])
        assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
        return result.output

    assert "ONEFOLD_DATABASE_URL" in told("list", "--database", nobody)
    assert "a.json: Is a directory" in told("compact", str(tmp_path / "out"))
