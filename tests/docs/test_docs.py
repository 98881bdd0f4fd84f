"""The documents tell the truth: their programs run, their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
PROGRAMS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}#{number}")
    for page in PAGES
    for number, block in enumerate(_BLOCK.findall(page.read_text()), start=1)
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_in_the_documents_runs_as_pasted(program: str, tmp_path: Path) -> None:
    """A reader can paste any Python block into an empty folder and run it."""
    file = tmp_path / "pasted.py"
    file.write_text(program)

    ran = subprocess.run(
        [sys.executable, "-W", "error", str(file)], cwd=tmp_path, capture_output=True, text=True
    )

    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    """No relative link of a document is broken."""
    links = _LINK.findall(page.read_text())

    broken = [link for link in links if not (page.parent / link).exists()]

    assert broken == []


def test_reference_pages_say_what_the_code_says() -> None:
    """Settings, errors, commands and layers are drawn from the code and up to date."""
    script = ROOT / "scripts" / "reference.py"

    ran = subprocess.run(
        [sys.executable, str(script), "--check"], cwd=ROOT, capture_output=True, text=True
    )

    assert ran.returncode == 0, ran.stderr


def test_the_repository_names_no_registry_and_no_path_of_a_machine() -> None:
    """Whoever clones this finds nothing of the place where it was made."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    telling = re.compile(
        r"https?://(pypi|files\.pythonhosted|registry\.|repo\d*\.maven|deb\.)|(?<![\w.])/(work|farm)/"
    )
    here = Path(__file__).relative_to(ROOT)

    found = [
        name
        for name in listed
        if name and name != str(here) and (ROOT / name).is_file()
        if telling.search((ROOT / name).read_text(errors="ignore"))
    ]

    assert found == []
