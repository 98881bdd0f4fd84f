"""The pages, asked over ASGI: who gets in, what they see, what they are told not to do."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import delete
from starlette.responses import Response
from tests.support import School, new_school, principal, telemetry_event

from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.domains.directory.tables import users
from onefold_server.domains.telemetry.rules import Summary, features
from onefold_server.domains.telemetry.service import Timeline
from onefold_server.installation import Installation, build
from onefold_server.pages.explained import FEATURES, TOLD_ELSEWHERE, told
from onefold_server.pages.shown import MAX_LANES, lanes, span
from onefold_server.pages.visits import LASTS, Visits
from onefold_server.server import full_app
from onefold_server.settings import Settings

SECRET = "s" * 32
PASSWORD = "correct horse battery"
_ROLES = (Role.SERVICE, Role.TEACHER, Role.ADMIN)
_TOKEN = re.compile(r'name="token" value="([^"]+)"')


@dataclass
class Site:
    """A served school, and one browser that looks at it."""

    onefold: Installation
    school: School
    browser: httpx.AsyncClient

    async def token(self, page: str = "/login") -> str:
        """The token of the form on *page*."""
        found = _TOKEN.search((await self.browser.get(page)).text)
        assert found, f"{page} has no form"
        return found[1]

    async def log_in(
        self, name: str = "ada", password: str = PASSWORD, **more: str
    ) -> httpx.Response:
        """Fill in the form and send it."""
        fields = {"token": await self.token(), "name": name, "password": password} | more
        return await self.browser.post("/login", data=fields)

    def enter(self, name: str = "ada") -> None:
        """Be logged in, without the form and its slow hash: hold the cookie that it gives."""
        visits = Visits(SECRET, clock=self.onefold.clock, secure=False)
        given = Response()
        visits.keep(given, visits.begin(name))
        cookie = given.headers["set-cookie"].partition(";")[0].partition("=")
        self.browser.cookies.set(cookie[0], cookie[2], domain="")

    async def play(self, **fields: object) -> UUID:
        """One event in a fresh session; the session's id."""
        event = telemetry_event(self.onefold.clock.now(), **fields)
        receipt = await self.onefold.telemetry.ingest(self.school.service, [event])
        assert receipt.applied == 1
        return UUID(event["session_id"])


def _client(onefold: Installation, base_url: str = "http://test") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(full_app(onefold, worker=False), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=base_url)


def _settings(url: str, *, secret: str = SECRET, secure: bool = False) -> Settings:
    return Settings(
        database_url=SecretStr(url), session_secret=SecretStr(secret), secure_cookies=secure
    )


async def _found(file: Path) -> None:
    onefold = build(_settings(f"sqlite:///{file}"))
    school = await new_school(onefold)
    await onefold.directory.set_password(school.id, "ada", PASSWORD, role=Role.ADMIN)
    await onefold.directory.set_password(school.id, "tove", PASSWORD, role=Role.TEACHER)
    await onefold.aclose()


@pytest.fixture(scope="module")
def founded(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a school, an administrator and a teacher, to be copied."""
    file = tmp_path_factory.mktemp("pages") / "founded.db"
    shutil.copy(sqlite_template, file)
    asyncio.run(_found(file))
    return file


@pytest.fixture
async def site(founded: Path, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Site]:
    file = tmp_path / "site.db"
    shutil.copy(founded, file)
    onefold = build(_settings(f"sqlite:///{file}"), clock=clock)
    school_id = await onefold.directory.find_school(None)
    school = School(school_id, *(principal(school_id, role) for role in _ROLES))
    async with _client(onefold) as browser:
        yield Site(onefold, school, browser)
    await onefold.aclose()


@pytest.mark.parametrize(
    ("page", "form"),
    [
        ("/", "/login"),
        ("/?cursor=x", "/login"),
        ("/live", "/login"),
        (
            "/sessions/00000000-0000-0000-0000-000000000001",
            "/login?next=%2Fsessions%2F00000000-0000-0000-0000-000000000001",
        ),
        ("/sessions/nonsense", "/login"),
    ],
)
async def test_who_has_not_logged_in_is_asked_to(site: Site, page: str, form: str) -> None:
    """No page with data is served to a stranger, whether what it names exists or not."""
    answer = await site.browser.get(page)

    assert (answer.status_code, answer.headers["location"]) == (303, form)
    assert answer.text == ""


async def test_a_part_of_a_page_takes_the_whole_page_to_the_log_in(site: Site) -> None:
    """When a visit ends while its page is open, the page goes to the form by itself."""
    answer = await site.browser.get("/live", headers={"HX-Request": "true"})

    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


async def test_logging_in_leads_on_and_shows_the_school(site: Site) -> None:
    """The right password opens the page with the school's counts."""
    answer = await site.log_in()
    home = await site.browser.get("/")

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert home.status_code == 200
    assert "Test School" in home.text
    assert "No sessions yet" in home.text


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada", "wrong"), ("nobody", PASSWORD), ("", ""), ("a\0da", PASSWORD), ("ada", "\0")],
)
async def test_a_wrong_log_in_says_so_and_opens_nothing(
    site: Site, name: str, password: str
) -> None:
    """The same words for a wrong name and a wrong password, and no page after them."""
    answer = await site.log_in(name, password)
    home = await site.browser.get("/")

    assert answer.status_code == 401
    assert "The user name or password is wrong." in answer.text
    assert home.status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://elsewhere.example/",
        "//elsewhere.example",
        "/\\elsewhere.example",
        "/sessions/../../elsewhere",
        "javascript:alert(1)",
        "/sessions/00000000-0000-0000-0000-000000000001\n//elsewhere.example",
        "/logout",
    ],
)
async def test_a_log_in_never_leads_elsewhere(site: Site, elsewhere: str) -> None:
    """A link to the form cannot send its visitor to another site."""
    answer = await site.log_in(next=elsewhere)
    again = await site.browser.get("/login", params={"next": elsewhere})

    assert answer.headers["location"] == "/"
    assert again.headers["location"] == "/"


async def test_a_log_in_leads_back_to_the_session_that_was_asked_for(site: Site) -> None:
    """Who followed a link to a session sees it after logging in."""
    place = f"/sessions/{await site.play()}"

    answer = await site.log_in(next=place)

    assert answer.headers["location"] == place


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize("token", [None, "", "0" * 64, "ä"])
async def test_a_form_that_no_page_showed_does_nothing(
    site: Site, path: str, token: str | None
) -> None:
    """A post without the visit's own token is refused, even with the right password."""
    site.enter()
    fields = {"name": "ada", "password": PASSWORD} | ({} if token is None else {"token": token})

    answer = await site.browser.post(path, data=fields)
    home = await site.browser.get("/")

    assert answer.status_code == 403
    assert "Nothing was done" in answer.text
    assert "set-cookie" not in answer.headers
    assert home.status_code == 200


async def test_a_token_is_worth_nothing_in_another_browser(site: Site) -> None:
    """What an attacker reads on their own form cannot log a victim in as them."""
    stolen = await site.token()
    async with _client(site.onefold) as victim:
        await victim.get("/login")

        answer = await victim.post(
            "/login", data={"token": stolen, "name": "ada", "password": PASSWORD}
        )

    assert answer.status_code == 403


async def test_the_token_changes_with_the_log_in(site: Site) -> None:
    """A token from before the log-in, which others may have planted, ends with it."""
    before = await site.token()
    await site.log_in()

    answer = await site.browser.post("/logout", data={"token": before})

    assert answer.status_code == 403


async def test_logging_out_ends_the_visit(site: Site) -> None:
    """After it, the pages ask for the password again."""
    await site.log_in()

    answer = await site.browser.post("/logout", data={"token": await site.token("/")})
    home = await site.browser.get("/")

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert home.status_code == 303


async def test_the_cookie_is_kept_from_scripts_and_other_sites(site: Site) -> None:
    """HttpOnly, SameSite=Lax, for this host alone, and not for longer than a visit lasts."""
    cookie = (await site.browser.get("/login")).headers["set-cookie"]

    assert cookie.startswith("onefold=")
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


async def test_behind_https_the_cookie_is_secure(sqlite_url: str, clock: ManualClock) -> None:
    """With `secure_cookies` it goes over HTTPS only, and no other host can have set it."""
    onefold = build(_settings(sqlite_url, secure=True), clock=clock)
    async with _client(onefold, "https://test") as browser:
        cookie = (await browser.get("/login")).headers["set-cookie"]
    await onefold.aclose()

    assert cookie.startswith("__Host-onefold=")
    assert "Secure" in cookie.split("; ")


async def test_a_changed_cookie_is_worth_nothing(site: Site) -> None:
    """Changing any part of it ends the visit."""
    site.enter()
    kept = site.browser.cookies["onefold"]
    body, _, signature = kept.partition(".")
    forged = [f"{body[:-1]}A.{signature}", f"{body}.{signature[:-2]}xx", body, "", "."]

    for cookie in forged:
        async with _client(site.onefold) as other:
            answer = await other.get("/", headers={"Cookie": f"onefold={cookie}"})
            assert answer.status_code == 303, cookie


async def test_a_cookie_of_another_secret_is_worth_nothing(site: Site, clock: ManualClock) -> None:
    """Changing `session_secret` logs everyone out."""
    site.enter()
    database = site.onefold.settings.database_url.get_secret_value()
    renewed = build(_settings(database, secret="t" * 32), clock=clock)

    async with _client(renewed) as browser:
        browser.cookies.set("onefold", site.browser.cookies["onefold"])
        answer = await browser.get("/")
    await renewed.aclose()

    assert answer.status_code == 303


async def test_a_visit_ends_by_itself(site: Site, clock: ManualClock) -> None:
    """However long a browser keeps the cookie, the server counts from the log-in."""
    site.enter()
    clock.advance(LASTS - timedelta(seconds=1))
    last = await site.browser.get("/")
    clock.advance(timedelta(seconds=1))

    over = await site.browser.get("/")

    assert (last.status_code, over.status_code) == (200, 303)


async def test_who_is_gone_sees_nothing_more(site: Site) -> None:
    """The user is looked up at each request: a removed one is out at once, before the form."""
    site.enter()
    async with site.onefold.uow.begin() as tx:
        await tx.execute(delete(users))

    answer = await site.browser.get("/")
    form = await site.browser.get(answer.headers["location"])

    assert answer.status_code == 303
    assert form.status_code == 200


@pytest.mark.parametrize("page", ["/", "/login", "/live", "/sessions/none", "/static/none"])
async def test_every_answer_forbids_what_a_page_does_not_need(site: Site, page: str) -> None:
    """Scripts from files of ours alone, no frames, no sniffing, nothing kept; errors too."""
    site.enter()

    headers = (await site.browser.get(page)).headers

    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


async def test_a_page_has_no_script_or_style_inside(site: Site) -> None:
    """The policy above forbids them, so a page that had some would be broken."""
    session_id = await site.play(data={"long": "x" * 500})
    site.enter()

    for page in ("/", f"/sessions/{session_id}", "/sessions/none"):
        text = (await site.browser.get(page)).text
        inside = re.findall(r"<script(?![^>]*(?: src=|application/json))[^>]*>", text)
        assert inside + re.findall(r"<style|\sstyle=|\son[a-z]+=", text) == []
        assert re.findall(r'(?:src|href)="(?!/|#)', text) == []


async def test_files_are_kept_by_browsers_and_change_their_address(site: Site) -> None:
    """Each file of a page is there, and may be kept: its address holds its digest."""
    session_id = await site.play()
    site.enter()
    pages = [(await site.browser.get(p)).text for p in ("/", f"/sessions/{session_id}")]
    files = set(re.findall(r'"(/static/[^"]+)"', " ".join(pages)))

    for file in files:
        answer = await site.browser.get(file)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert {file.rpartition(".")[2].partition("?")[0] for file in files} == {"css", "js", "svg"}


async def test_another_schools_session_does_not_exist(site: Site) -> None:
    """Its page is the same as that of no session at all."""
    other = await new_school(site.onefold, "Other School")
    event = telemetry_event(site.onefold.clock.now(), mission_id="secret")
    await site.onefold.telemetry.ingest(other.service, [event])
    site.enter()

    theirs = await site.browser.get(f"/sessions/{event['session_id']}")
    none = await site.browser.get(f"/sessions/{uuid4()}")
    home = await site.browser.get("/")

    assert (theirs.status_code, none.status_code) == (404, 404)
    assert theirs.text == none.text
    assert "There is no such page" in theirs.text
    assert "secret" not in home.text


async def test_a_teacher_sees_the_same(site: Site) -> None:
    """A teacher reads all of the school; only the hint how to write is not theirs."""
    site.enter("tove")
    empty = (await site.browser.get("/")).text

    session_id = await site.play(mission_id="harbour")
    home = (await site.browser.get("/")).text
    session = await site.browser.get(f"/sessions/{session_id}")

    assert "curl" not in empty
    assert "harbour" in home
    assert session.status_code == 200


async def test_a_fresh_school_is_told_how_to_begin(site: Site) -> None:
    """The empty page holds a command with an event that the API takes, once a day."""
    site.enter()
    key = await site.onefold.directory.create_key(site.school.id, role=Role.SERVICE, label="")
    text = (await site.browser.get("/")).text.replace("&#34;", '"').replace("&#39;", "'")
    command = re.search(r"curl -sS (\S+).*?-d '(\{.*?\})'", text, re.DOTALL)
    assert command

    answers = [
        await site.browser.post(
            command[1], content=command[2], headers={"Authorization": f"Bearer {key}"}
        )
        for _ in range(2)
    ]
    after = (await site.browser.get("/")).text

    assert [(a.status_code, a.json()["applied"]) for a in answers] == [(201, 1), (201, 0)]
    assert "curl" not in after


async def test_sessions_are_paged_from_the_newest_on(site: Site, clock: ManualClock) -> None:
    """Each session stands on one page, the newest first, and the last page has no next."""
    ids = []
    for number in range(30):
        clock.advance(timedelta(minutes=1))
        ids.append(str(await site.play(mission_id=f"mission {number}")))
    site.enter()
    seen, page = [], "/"

    while page:
        text = (await site.browser.get(page)).text
        seen += re.findall(r'<tr id="s-([0-9a-f-]+)"', text)
        link = re.search(r'class="next" href="([^"]+)"', text)
        page = link[1] if link else ""

    assert seen == ids[::-1]


async def test_the_live_part_renews_the_page_that_is_looked_at(site: Site) -> None:
    """An older page stays the page it is while its counts move."""
    site.enter()
    before = (await site.browser.get("/live")).text
    await site.play()

    after = (await site.browser.get("/live")).text

    assert '<dd id="count-events">0</dd>' in before
    assert '<dd id="count-events">1</dd>' in after
    assert "<html" not in after


async def test_a_session_tells_its_events_and_features_in_words(
    site: Site, clock: ManualClock
) -> None:
    """Label, unit, meaning and, where there is no value, the reason; then each revision."""
    pupil, session_id = str(uuid4()), str(uuid4())
    whose = {"student_id": pupil, "session_id": session_id}
    for event_type in ("task_start", "task_complete"):
        await site.play(**whose, event_type=event_type)
        clock.advance(timedelta(minutes=2))
    await site.onefold.directory.import_roster(
        site.school.id, ["student_id,name\n", f"{pupil},Ada Alm\n"]
    )
    await site.onefold.telemetry.close_session(site.school.service, UUID(session_id))
    await site.play(**whose, event_type="late_event")
    site.enter()

    text = (await site.browser.get(f"/sessions/{session_id}")).text.replace("\xa0", " ")

    assert "Ada Alm" in text
    assert "100 %" in text
    assert "4 min" in text
    assert "nothing failed" in text
    assert "late_event" in text
    assert "Revision 2" in text
    assert re.findall(r'<th scope="row">(\d)', text) == ["2", "1"]


async def test_an_open_session_says_when_its_features_come(site: Site) -> None:
    """Before the close there are none, and the page says what they wait for."""
    session_id = await site.play()
    site.enter()

    text = (await site.browser.get(f"/sessions/{session_id}")).text.replace("\xa0", " ")

    assert "after 30 min without an event" in text


async def test_a_long_session_is_paged(site: Site, clock: ManualClock) -> None:
    """Every event of a session stands on one of its pages, in the order of time."""
    whose = {"student_id": str(uuid4()), "session_id": str(uuid4())}
    events = [
        telemetry_event(clock.advance(timedelta(seconds=1)), **whose, data={"number": number})
        for number in range(70)
    ]
    await site.onefold.telemetry.ingest(site.school.service, events)
    site.enter()
    seen, page = [], f"/sessions/{whose['session_id']}"

    while page:
        text = (await site.browser.get(page)).text
        seen += re.findall(r"number&#34;: (\d+)", text)
        link = re.search(r'class="next" href="([^"#]+)', text)
        page = link[1] if link else ""

    assert seen == [str(number) for number in range(70)]


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


async def test_hostile_text_stays_text(site: Site) -> None:
    """What games, rosters and visitors send is shown, never run."""
    pupil = str(uuid4())
    session_id = await site.play(
        student_id=pupil, mission_id=HOSTILE, game_version="<b>1</b>", data={HOSTILE: HOSTILE}
    )
    name = HOSTILE.replace('"', "")
    await site.onefold.directory.import_roster(
        site.school.id, ["student_id,name\n", f"{pupil},{name}\n"]
    )
    wrong = await site.log_in(HOSTILE)
    site.enter()
    home = await site.browser.get("/")
    session = await site.browser.get(f"/sessions/{session_id}")
    missing = await site.browser.get("/sessions/<script>alert(1)")
    odd = await site.browser.get("/", params={"cursor": HOSTILE})

    for answer in (wrong, home, session, missing, odd):
        assert "<script>alert" not in answer.text
        assert "<img" not in answer.text
        assert "<b>" not in answer.text
    assert "&lt;script&gt;alert(1)" in session.text
    assert odd.status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"token=" + b"x" * 9000, 413), (b"&".join([b"a=1"] * 11), 422), (b"\xff\xfe", 422)],
)
async def test_a_strange_form_is_refused(site: Site, body: bytes, status: int) -> None:
    """A form that is too long or no form at all gets a page that says so."""
    answer = await site.browser.post("/login", content=body)

    assert answer.status_code == status
    assert "<h1>" in answer.text


async def test_a_database_that_is_away_gets_a_page_that_says_wait(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Readable, and with the header that tells when to try again."""
    onefold = build(_settings(f"sqlite:///{tmp_path}/gone/onefold.db"), clock=clock)
    async with _client(onefold) as browser:
        form = (await browser.get("/login")).text
        token = _TOKEN.search(form)
        assert token

        answer = await browser.post(
            "/login", data={"token": token[1], "name": "ada", "password": PASSWORD}
        )
    await onefold.aclose()

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "The database does not answer" in answer.text


async def test_without_a_secret_the_pages_are_off_and_say_how_to_turn_them_on(
    sqlite_url: str, clock: ManualClock
) -> None:
    """The API is served all the same; there is no form that could not be trusted."""
    onefold = build(Settings(database_url=SecretStr(sqlite_url)), clock=clock)
    async with _client(onefold) as browser:
        home, form = await browser.get("/"), await browser.get("/login")
        api = await browser.get("/api/v1/telemetry/sessions")
    await onefold.aclose()

    assert (home.status_code, form.status_code) == (404, 404)
    assert "ONEFOLD_SESSION_SECRET" in home.text
    assert api.status_code == 401


async def test_the_pages_leave_the_api_alone(site: Site) -> None:
    """A cookie opens no API route, and the API's own answers stay problems in JSON."""
    site.enter()

    unknown = await site.browser.get("/api/v1/nothing")
    wrong_method = await site.browser.put("/api/v1/telemetry/events")
    without_key = await site.browser.get("/api/v1/telemetry/sessions")
    on_a_page = await site.browser.put("/login")

    assert unknown.json()["code"] == "not_found"
    assert wrong_method.json()["status"] == 405
    assert without_key.json()["code"] == "unauthenticated"
    assert on_a_page.status_code == 405


async def test_a_timeline_sums_up_a_sessions_events(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Each event is in the step of its time, the first in the first and the last in the last."""
    start = clock.now()
    whose = {"student_id": str(uuid4()), "session_id": str(uuid4())}
    moments = [(0, "z"), (1.5, "b"), (1.75, "b"), (5, "z"), (10, "z")]
    events = [
        telemetry_event(start - timedelta(seconds=10 - at), **whose, event_type=event_type)
        for at, event_type in moments
    ]
    await onefold.telemetry.ingest(school.service, events)

    found = await onefold.telemetry.timeline(school.teacher, UUID(whose["session_id"]), steps=10)

    assert found.start == start - timedelta(seconds=10)
    assert found.counts == {"z": {0: 1, 4: 1, 9: 1}, "b": {1: 2}}
    assert list(found.counts) == ["z", "b"]


async def test_a_pupil_counts_and_names_only_themselves(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Totals and names of a student caller are that pupil's alone."""
    mine, other = uuid4(), uuid4()
    for student_id in (mine, other, other):
        event = telemetry_event(clock.now(), student_id=str(student_id))
        await onefold.telemetry.ingest(school.service, [event])
    roster = ["student_id,name\n", f"{mine},Ada\n", f"{other},Bo\n"]
    await onefold.directory.import_roster(school.id, roster)
    pupil = principal(school.id, Role.STUDENT, mine)

    totals = await onefold.telemetry.totals(pupil)
    names = await onefold.directory.names(pupil, [mine, other])
    everyone = await onefold.directory.names(school.teacher, [mine, other, uuid4()])

    assert (totals["sessions"], totals["students"], totals["events"]) == (1, 1, 1)
    assert names == {mine: "Ada"}
    assert everyone == {mine: "Ada", other: "Bo"}


def test_every_feature_is_explained() -> None:
    """Whatever the formulas give has its words, its unit and its meaning."""
    given = features(Summary())

    assert {f.name for f in FEATURES} | TOLD_ELSEWHERE == set(given.metrics)
    assert all(t.value or t.why for t in told(given.metrics, given.undefined))


def test_a_chart_has_a_bounded_number_of_lanes(clock: ManualClock) -> None:
    """Those that came first stand on top; rare ones share the last; no event is left out."""
    counts = {f"type_{n}": {n: 10 + n} for n in range(20)}
    timeline = Timeline(start=clock.now(), step=timedelta(seconds=1), counts=counts)

    drawn = lanes(timeline)["lanes"]

    assert len(drawn) == MAX_LANES
    assert [lane["label"] for lane in drawn[:2]] == ["type_9", "type_10"]
    assert drawn[-1]["label"] == "9 other types"
    assert sum(lane["total"] for lane in drawn) == sum(sum(c.values()) for c in counts.values())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (754, "12 min 34 s"),
        (900, "15 min"),
        (3900, "1 h 5 min"),
        (86_400 * 2 + 59, "2 d"),
    ],
)
def test_a_length_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    """As people say it."""
    assert span(timedelta(seconds=seconds)).replace("\xa0", " ") == said
