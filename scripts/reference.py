"""Draws docs/reference and the layers in docs/explain from the code itself; `--check` compares."""

import argparse
import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from typer.main import get_command

import onefold.application  # noqa: F401 (errors of the engine are listed too)
from onefold import errors
from onefold_server.cli.main import app
from onefold_server.http.problems import STATUS
from onefold_server.settings import Settings

ROOT = Path(__file__).parent.parent
PACKAGES = {"onefold": ROOT, "onefold_server": ROOT / "server"}
HEAD = "<!-- Made by `make docs` from the code; an edit here is lost. -->\n\n"


def settings() -> str:
    """Every setting with its default and what it means."""
    rows = [
        f"| `ONEFOLD_{name.upper()}` | {_default(field.get_default())} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    table = "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])
    return f"# Settings\n\n{HEAD}Read from the environment at the start.\n\n{table}\n"


def _default(value: object) -> str:
    shown = getattr(value, "get_secret_value", lambda: value)()
    return "none" if shown is None else f"`{shown}`"


def error_codes() -> str:
    """Every error with its code, its status over HTTP, and whether to retry."""
    rows = [
        f"| `{e.code}` | `{e.__name__}` | {STATUS.get(e.code, 500)} "
        f"| {'yes' if e.retryable else 'no'} | {_summary(e.__doc__)} |"
        for e in _tree(errors.OnefoldError)
        if not e.__name__.startswith("_")
    ]
    head = ["| code | class | HTTP | retry | meaning |", "|---|---|---|---|---|"]
    return f"# Errors\n\n{HEAD}" + "\n".join([*head, *rows]) + "\n"


def _tree(root: type[errors.OnefoldError]) -> Iterator[type[errors.OnefoldError]]:
    seen = {root: None}
    for found in seen.copy():
        for below in found.__subclasses__():
            seen |= dict.fromkeys(_tree(below))
    yield from seen


def _summary(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def commands() -> str:
    """Every command with its help."""
    parts = [f"# Commands\n\n{HEAD}"]
    for name, command in _commands(get_command(app), ["onefold"]):
        context = command.make_context(name, [], resilient_parsing=True)
        options = [
            f"- `{', '.join(p.opts) if p.param_type_name == 'option' else p.name.upper()}`"
            f" {getattr(p, 'help', None) or ''}".rstrip()
            for p in command.get_params(context)
            if p.name != "help"
        ]
        parts.append(f"## {name}\n{command.help}\n\n" + "\n".join(options) + "\n\n")
    return "".join(parts).rstrip() + "\n"


def _commands(command: object, path: list[str]) -> Iterator[tuple[str, object]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, [*path, name])
    if not hasattr(command, "commands"):
        yield " ".join(path), command


def layers() -> str:
    """The layers that import-linter holds, and what each module is for."""
    intro = (
        "A layer may import those below it; `|` stands between siblings, which do not know "
        "each other. `make check` holds this with no exception."
    )
    parts = [f"# The layers\n\n{HEAD}{intro}\n"]
    for package, home in PACKAGES.items():
        parts += [f"\n## {package}\n\n{_drawn(home)}", *_modules(package, home / "src" / package)]
    return "".join(parts)


def _drawn(home: Path) -> str:
    config = tomllib.loads((home / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(c for c in config["contracts"] if c["type"] == "layers")
    return "```text\n" + "".join(f"  {layer}\n" for layer in contract["layers"]) + "```\n"


def _modules(package: str, source: Path) -> Iterator[str]:
    for folder in sorted({file.parent for file in source.rglob("*.py")}):
        lines = [
            f"| `{f.name}` | {_purpose(f)} |" for f in sorted(folder.glob("*.py")) if _purpose(f)
        ]
        if lines:
            name = ".".join([package, *folder.relative_to(source).parts])
            yield f"\n### {name}\n| file | what it holds |\n|---|---|\n" + "\n".join(lines) + "\n"


def _purpose(file: Path) -> str:
    return _summary(ast.get_docstring(ast.parse(file.read_text())))


PAGES = {
    "docs/reference/settings.md": settings,
    "docs/reference/errors.md": error_codes,
    "docs/reference/commands.md": commands,
    "docs/explain/layers.md": layers,
}


def main() -> int:
    """Write every page, or say which are out of date."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [name for name, draw in PAGES.items() if _read(ROOT / name) != draw()]
    if check:
        for name in stale:
            print(f"{name} does not say what the code says: run `make docs`", file=sys.stderr)
        return len(stale)
    for name in stale:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(PAGES[name]())
    return 0


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
