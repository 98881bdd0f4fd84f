"""`onefold up`: an embedded database, demo data, keys, and a server over them."""

import asyncio
import json
import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr

from onefold.core.ids import new_event_id
from onefold_server.demo import fill
from onefold_server.domains.directory.rules import Role
from onefold_server.installation import Installation, build
from onefold_server.server import full_app, serve
from onefold_server.settings import Settings, make_folder
from onefold_server.sockets import listen

ADMIN: Final = "admin"


def up(settings: Settings) -> None:
    """
    Serve demo data from a database in `settings.home`; what is there is used again.

    Everything made here stands in `demo.json` beside the database, readable by its owner
    alone. Dying half-way leaves nothing that the next call would trip over.

    Raises:
        InvalidSetting: the port is taken; nothing was started.
    """
    home = settings.home
    make_folder(home)
    embedded = settings.model_copy(
        update={
            "database_url": SecretStr(f"sqlite:///{home / 'onefold.db'}"),
            "session_secret": settings.session_secret or SecretStr(_kept_secret(home)),
        }
    )
    with listen(settings) as (socket, url):
        facts = asyncio.run(_set_up(embedded, home / "demo.json", url))
        onefold = build(embedded)
        greeting = _greeting(facts, home / "demo.json", onefold.clock.now())
        app = full_app(onefold)
        serve(app, onefold, socket=socket, ready=lambda: print(greeting, flush=True))


async def _set_up(settings: Settings, file: Path, url: str) -> dict[str, Any]:
    onefold = build(settings, any_age=True)
    try:
        await onefold.prepare()
        known = json.loads(file.read_text()) if file.exists() else await _make(onefold)
    finally:
        await onefold.aclose()
    facts: dict[str, Any] = known | {"url": url}
    _write_private(file, json.dumps(facts, indent=2) + "\n")
    return facts


async def _make(onefold: Installation) -> dict[str, Any]:
    """Demo data, a key and an administrator."""
    made = await fill(onefold)
    school_id = made["school_id"]
    key = await onefold.directory.create_key(school_id, role=Role.ADMIN, label="onefold up")
    password = secrets.token_urlsafe(12)
    await onefold.directory.set_password(school_id, ADMIN, password, role=Role.ADMIN)
    return {
        "url": "",
        "api_key": str(key),
        "admin_user": ADMIN,
        "admin_password": password,
        "school_id": str(school_id),
        "student_ids": [str(id_) for id_ in made["student_ids"]],
    }


def _kept_secret(home: Path) -> str:
    file = home / "session_secret"
    if not file.exists():
        _write_private(file, secrets.token_urlsafe(32))
    return file.read_text()


def _write_private(file: Path, text: str) -> None:
    """Write *text* whole or not at all, for the owner's eyes alone."""
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    draft.replace(file)


def _greeting(facts: dict[str, Any], file: Path, now: datetime) -> str:
    event = {
        "event_id": str(new_event_id(now, secrets.token_bytes)),
        "student_id": facts["student_ids"][0],
        "session_id": str(UUID(bytes=secrets.token_bytes(16), version=4)),
        "event_type": "mission_start",
        "timestamp": now.isoformat(timespec="seconds"),
        "data": {"from": "the README"},
    }
    return f"""
Onefold serves {facts["url"]}
  log in as        {facts["admin_user"]} / {facts["admin_password"]}
  API key          {facts["api_key"]}
  all of this in   {file}

Send it an event; however often you paste this, it counts once:

curl -sS {facts["url"]}/api/v1/telemetry/events -H 'Authorization: Bearer {facts["api_key"]}' \
-H 'Content-Type: application/json' -d '{json.dumps(event)}'
"""
