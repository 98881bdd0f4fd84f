"""A real Chromium, and a real server with demo data in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

_INSTALL = Path(__file__).parents[2] / "scripts" / "install-chromium.sh"
# Without these Chromium looks for its maker's hosts at every start.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """
    The path of a Chromium: `ONEFOLD_CHROMIUM`, the one on PATH, or one installed now.

    A laptop without one skips; CI, where skipping would hide a broken page, fails.
    """
    name = os.environ.get("ONEFOLD_CHROMIUM", "chromium")
    if shutil.which(name) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run([_INSTALL], check=False, capture_output=True)
    found = shutil.which(name)
    if found is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"no {name} here: run scripts/install-chromium.sh, or name one in ONEFOLD_CHROMIUM")
    return found


@dataclass(frozen=True)
class Served:
    """A running server: what `demo.json` says of it, and an API client with its key."""

    url: str
    user: str
    password: str
    student_ids: list[str]
    api: httpx.Client

    def post(self, event: dict[str, Any]) -> None:
        """Record one event through the API."""
        self.api.post("/api/v1/telemetry/events", json=event).raise_for_status()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`onefold up` with demo data on a free port."""
    home = tmp_path_factory.mktemp("up")
    log = home / "log"
    ours = {name: value for name, value in os.environ.items() if "ONEFOLD" not in name}
    command = [str(Path(sys.executable).with_name("onefold")), "up", "--port", "0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            env=ours | {"ONEFOLD_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as server,
    ):
        try:
            assert server.stdout
            greeting = next((line for line in server.stdout if "serves http" in line), None)
            assert greeting, log.read_text()
            facts = json.loads((home / "demo.json").read_text())
            with httpx.Client(
                base_url=facts["url"],
                headers={"Authorization": f"Bearer {facts['api_key']}"},
                transport=httpx.HTTPTransport(retries=8),  # bound already, listening soon
            ) as api:
                assert api.get("/healthz").status_code == 200
                yield Served(
                    url=facts["url"],
                    user=facts["admin_user"],
                    password=facts["admin_password"],
                    student_ids=facts["student_ids"],
                    api=api,
                )
        finally:
            server.terminate()


@dataclass
class Visitor:
    """One window of a browser, and all that it asked for or complained about."""

    page: Page
    context: BrowserContext
    served: Served
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Write down every request, console error and uncaught exception from now on."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text)
                if message.type in {"error", "warning"}
                else None
            ),
        )

    async def go(self, path: str) -> None:
        """Open *path* of the server."""
        await self.page.goto(self.served.url + path)

    async def log_in(self, password: str | None = None) -> None:
        """Fill in the form that is shown and send it."""
        await self.page.get_by_label("User name").fill(self.served.user)
        await self.page.get_by_label("Password").fill(password or self.served.password)
        await self.page.get_by_role("button", name="Log in").click()

    async def overflow(self) -> int:
        """How many pixels the page is wider than its window."""
        width: int = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return width


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """A fresh headless browser with an empty profile."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield started
        await started.close()


@pytest.fixture(params=[(1280, 900)])
async def visitor(
    browser: Browser, served: Served, request: pytest.FixtureRequest
) -> AsyncIterator[Visitor]:
    """A window on the server; whatever a test does, it asks nobody else for anything."""
    width, height = request.param
    context = await browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(15_000)
    seen = Visitor(await context.new_page(), context, served)
    seen.watch()
    yield seen
    await context.close()

    assert [url for url in seen.requests if not url.startswith(f"{served.url}/")] == []
    assert seen.complaints == []
