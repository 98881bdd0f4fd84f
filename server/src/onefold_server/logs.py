"""How a process of ours logs: text for people, or JSON, a record a line."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from onefold.engine.context import Handled
from onefold_server.settings import Settings

_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def log_as(settings: Settings) -> None:
    """
    Let the root logger write to standard error as *settings* say; safe twice.

    Every record carries what is being handled: consumer, event, correlation and causation
    ids, trace and span; see `engine.context`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Handled())
    handler.setFormatter(_formatter(as_json=settings.log_format == "json"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for talkative in ("alembic", "httpx"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _formatter(*, as_json: bool) -> logging.Formatter:
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        # Not its rich tracebacks: they show every local, secrets too, and hold up the loop for
        # so long that requests time out (test_a_database_that_dies_is_reported_and_found_again).
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    if as_json:
        last.insert(1, structlog.processors.format_exc_info)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, _add_handled], processors=last
    )


def _add_handled(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in getattr(fields["_record"], "handled", {}).items():
        fields.setdefault(name, value)
    return fields
