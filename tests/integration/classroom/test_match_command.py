"""`onefold match`: a roster and a folder in, a table and a CSV out."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onefold.errors import InvalidInput, NotFound
from onefold_server.cli.main import app

ROSTER = 'name,email\nAnna Andersson,anna@skola.se\n"Svartling, Björn",\nMärta von Essen,m@s.se\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three essays, one of them nobody's, and a file that is no text."""
    (tmp_path / "roster.csv").write_text(ROSTER.replace('Björn",', 'Björn",b@s.se'))
    essays = tmp_path / "essays"
    essays.mkdir()
    (essays / "1.txt").write_text("Namn: Anna Andersson\n\nMy summer\n")
    (essays / "2.txt").write_text("A story\n\nOnce upon a time.\n\nBjorn Svartling\n")
    (essays / "3.txt").write_text("Nobody says who wrote this.\n")
    (essays / "photo.jpg").write_bytes(b"\xff")
    return tmp_path


def run(folder: Path, *more: str) -> str:
    """What the command prints."""
    paths = [str(folder / "roster.csv"), str(folder / "essays")]
    found = CliRunner().invoke(app, ["match", *paths, *more])
    if found.exception is not None:
        raise found.exception
    return found.output


def test_the_table_names_each_author(folder: Path) -> None:
    """One line a file, with verdict and reasons; the same as JSON."""
    table = run(folder)
    rows = json.loads(run(folder, "--json"))

    assert "Anna Andersson" in table
    assert [(row["file"], row["author"], row["verdict"]) for row in rows] == [
        ("1.txt", "Anna Andersson", "sure"),
        ("2.txt", "Svartling, Björn", "sure"),
        ("3.txt", "", "nobody"),
    ]


def test_the_table_is_written_as_csv(folder: Path) -> None:
    """For a spreadsheet."""
    run(folder, "--out", str(folder / "out.csv"))

    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["1.txt", "2.txt", "3.txt"]
    assert float(rows[0]["score"]) >= 0.7


def test_a_roster_that_cannot_be_used_is_refused(folder: Path) -> None:
    """By line and column; and so is a folder without a text in it."""
    (folder / "roster.csv").write_text("name,email\nAnna,nowhere\n")
    with pytest.raises(InvalidInput, match="line 2, email"):
        run(folder)

    (folder / "roster.csv").write_text(ROSTER.replace('Björn",', 'Björn",b@s.se'))
    for file in (folder / "essays").iterdir():
        file.unlink()
    with pytest.raises(NotFound):
        run(folder)
