"""What a page shows as output is what its program prints; what it shows as a test passes."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _shown(page: Path) -> list[tuple[str, str]]:
    """The page's programs with the output that stands after each, as its next block."""
    blocks = _BLOCK.findall(page.read_text())
    return [(a, b) for (of, a), (then, b) in pairwise(blocks) if (of, then) == ("python", "text")]


SHOWN = [
    pytest.param(program, output, id=f"{page.name}#{number}")
    for page in PAGES
    for number, (program, output) in enumerate(_shown(page), start=1)
]
SUITES = [
    pytest.param(block, id=f"{page.name}#{number}")
    for page in PAGES
    for number, (of, block) in enumerate(_BLOCK.findall(page.read_text()), start=1)
    if of == "python" and ("def test_" in block or "class Test" in block)
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("program", "output"), SHOWN)
def test_a_program_prints_what_the_page_shows(program: str, output: str, tmp_path: Path) -> None:
    """The block after a program is its output, to the letter."""
    file = tmp_path / "pasted.py"
    file.write_text(program)

    ran = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.stdout == output, ran.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("suite", SUITES)
def test_tests_in_the_documents_pass_as_pasted(suite: str, tmp_path: Path) -> None:
    """In a project of the reader's own, with the plugin that the package registers."""
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    (tmp_path / "test_pasted.py").write_text(suite)

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=kept"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout


def test_the_pages_of_the_test_kit_are_among_them() -> None:
    """A page whose blocks are not recognised would be shown unchecked."""
    shown = {str(one.id).partition("#")[0] for one in SHOWN}

    assert shown >= {"tutorial.md", "replay-a-failure.md", "hold-your-adapter.md"}
    assert len(SHOWN) >= 6
    assert len(SUITES) >= 2
