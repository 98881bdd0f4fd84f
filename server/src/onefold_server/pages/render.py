"""Templates filled in. All that a template is given is escaped."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from onefold_server.pages import explained, shown

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"


def _static(digests: dict[str, str], file: str) -> str:
    """The address of a file, which changes with its content: browsers may keep it."""
    if file not in digests:
        digests[file] = hashlib.sha256((STATIC / file).read_bytes()).hexdigest()[:12]
    return f"/static/{file}?v={digests[file]}"


def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "instant": shown.instant,
        "day": shown.day,
        "time_of_day": shown.time_of_day,
        "span": shown.span,
        "number": shown.number,
        "as_json": shown.as_json,
        "amount": explained.amount,
    }
    found.globals |= {
        "static": partial(_static, {}),
        "profile_note": explained.profile_note,
        "vocabulary": explained.vocabulary,
        "brief": shown.BRIEF,
    }
    return found


_TEMPLATES: Final = _templates()


def render(template: str, *, status: int = 200, **facts: Any) -> Response:
    """The page that *template* makes of *facts*; one that is missing is a bug, not a blank."""
    return HTMLResponse(_TEMPLATES.get_template(template).render(**facts), status_code=status)
