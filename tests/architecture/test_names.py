"""A name means one thing, in the library and in the server."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "src", ROOT / "server" / "src")


def shared(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """The public classes that stand in more than one module, with these modules."""
    homes = defaultdict(list)
    for file, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(file)
    return {name: files for name, files in homes.items() if len(files) > 1}


def test_no_two_public_classes_share_a_name() -> None:
    """A reader who searches for a class finds one."""
    trees = {
        str(file.relative_to(source)): ast.parse(file.read_text())
        for source in SOURCES
        for file in source.rglob("*.py")
    }

    assert shared(trees) == {}


def test_a_shared_name_is_found() -> None:
    """The check sees its fault."""
    one, other = ast.parse("class State: ..."), ast.parse("class _State: ...\nclass State: ...")

    assert shared({"a.py": one, "b.py": other}) == {"State": ["a.py", "b.py"]}
