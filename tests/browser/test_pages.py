"""The pages in a real Chromium: what people see, and that the browser has no complaint."""

from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import expect
from tests.browser.conftest import Visitor
from tests.support import telemetry_event

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),  # on a fresh machine Chromium is installed first
    pytest.mark.xdist_group("browser"),  # one server for all of them
]
NARROW = pytest.mark.parametrize("visitor", [(390, 844)], indirect=True)
HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
LONG = "x" * 5000


def event(visitor: Visitor, **fields: Any) -> dict[str, Any]:
    """An event of the demo's first pupil, just now."""
    pupil = visitor.served.student_ids[0]
    return telemetry_event(datetime.now(UTC), **({"student_id": pupil} | fields))


async def test_a_wrong_password_is_told(visitor: Visitor) -> None:
    """The form comes back with what is wrong, and the name still in it."""
    await visitor.go("/")

    await visitor.log_in(password="wrong")

    await expect(visitor.page.get_by_role("alert")).to_have_text(
        "The user name or password is wrong."
    )
    await expect(visitor.page.get_by_label("User name")).to_have_value(visitor.served.user)
    await expect(visitor.page.get_by_label("Password")).to_be_focused()
    assert [c for c in visitor.complaints if "401" not in c] == []
    visitor.complaints.clear()


async def test_counts_and_sessions_renew_themselves(visitor: Visitor) -> None:
    """A new event is counted and its session appears on top, without loading the page again."""
    await visitor.go("/")
    await visitor.log_in()
    page, total = visitor.page, visitor.page.locator("#count-events")
    before = int((await total.inner_text()).replace(",", ""))
    await page.evaluate("window.loadedOnce = true")
    await page.locator("#live tbody a").nth(4).focus()
    focused = await page.evaluate("document.activeElement.href")
    posted = event(visitor, mission_id="just now")

    visitor.served.post(posted)

    await expect(total).to_have_text(f"{before + 1:,}")
    await expect(page.locator("#live tbody tr").first).to_contain_text("just now")
    await expect(page.locator("#live tbody tr").first).to_contain_text("open")
    assert await page.evaluate("window.loadedOnce")
    assert await page.evaluate("document.activeElement.href") == focused


async def test_a_server_that_is_away_is_noticed_and_so_is_its_return(visitor: Visitor) -> None:
    """Old numbers are called old, until new ones come."""
    await visitor.go("/")
    await visitor.log_in()
    notice = visitor.page.get_by_text("These numbers may be old")
    await expect(notice).to_be_hidden()

    await visitor.context.set_offline(True)
    await expect(notice).to_be_visible()
    await visitor.context.set_offline(False)

    await expect(notice).to_be_hidden()
    visitor.complaints.clear()  # the browser's own, of the requests that failed


async def test_a_session_is_drawn_and_explained(visitor: Visitor) -> None:
    """The chart has dots on it; features have words; a missing value has its reason."""
    session = event(visitor)["session_id"]
    for event_type in ("task_start", "task_complete", "task_complete"):
        visitor.served.post(event(visitor, session_id=session, event_type=event_type))
    visitor.served.api.post(f"/api/v1/telemetry/session/{session}/close").raise_for_status()
    await visitor.go(f"/sessions/{session}")
    await visitor.log_in()
    page = visitor.page

    canvas = page.locator("#timeline canvas")
    await expect(canvas).to_be_visible()
    drawn = await canvas.evaluate(
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0)"
    )

    assert drawn
    await expect(page.get_by_role("heading", name="Ada Alm")).to_be_visible()
    await expect(page.locator(".features")).to_contain_text("Completion")
    await expect(page.locator(".features")).to_contain_text("nothing failed")
    await expect(page.locator(".events tbody")).to_contain_text("task_complete")


async def test_older_sessions_are_a_link_away(visitor: Visitor) -> None:
    """Paging goes back in time and to the newest again."""
    await visitor.go("/")
    await visitor.log_in()
    first = await visitor.page.locator("#live tbody tr").first.get_attribute("id")

    await visitor.page.get_by_role("link", name="Older").click()
    await expect(visitor.page.get_by_role("heading", name="Older sessions")).to_be_visible()
    await visitor.page.get_by_role("link", name="Newest").click()

    await expect(visitor.page.locator("#live tbody tr").first).to_have_id(first or "")


async def test_hostile_data_is_shown_and_not_run(visitor: Visitor) -> None:
    """Markup in what a game sends is text on the page."""
    posted = event(visitor, mission_id=HOSTILE, data={HOSTILE: HOSTILE})
    visitor.served.post(posted)
    await visitor.go(f"/sessions/{posted['session_id']}")
    await visitor.log_in()

    await expect(visitor.page.locator(".facts")).to_contain_text(HOSTILE)
    await visitor.go("/")

    await expect(visitor.page.locator("#live tbody")).to_contain_text(HOSTILE)
    assert await visitor.page.evaluate("window.ran === undefined")


async def test_logging_out_is_final(visitor: Visitor) -> None:
    """Going back shows the form, not the page."""
    await visitor.go("/")
    await visitor.log_in()

    await visitor.page.get_by_role("button", name="Log out").click()
    await expect(visitor.page.get_by_role("heading", name="Log in")).to_be_visible()
    await visitor.page.go_back()

    await expect(visitor.page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_a_post_without_the_forms_token_is_refused(visitor: Visitor) -> None:
    """Even with the visitor's cookie: the visit goes on."""
    await visitor.go("/")
    await visitor.log_in()
    await expect(visitor.page.locator("#live")).to_be_visible()

    answer = await visitor.page.request.post(visitor.served.url + "/logout", form={})
    await visitor.go("/")

    assert answer.status == 403
    await expect(visitor.page.locator("#live")).to_be_visible()


@NARROW
async def test_a_phone_shows_all_of_the_width(visitor: Visitor) -> None:
    """No page is wider than a narrow window, whatever a game sends."""
    posted = event(
        visitor, event_type="a" * 100, mission_id="m" * 100, data={"long": LONG, LONG: "short"}
    )
    visitor.served.post(posted)
    await visitor.go("/")
    widths = [await visitor.overflow()]
    await visitor.log_in()
    await expect(visitor.page.locator("#live tbody")).to_be_visible()
    widths.append(await visitor.overflow())

    await visitor.go(f"/sessions/{posted['session_id']}")
    await expect(visitor.page.locator("#timeline canvas")).to_be_visible()
    widths.append(await visitor.overflow())
    for closed in await visitor.page.locator("summary").all():
        await closed.click()
    widths.append(await visitor.overflow())

    assert widths == [0, 0, 0, 0]


async def test_the_keyboard_reaches_the_content_first(visitor: Visitor) -> None:
    """The first stop of the Tab key is a link past the head of the page."""
    await visitor.go("/")
    await visitor.log_in()
    await expect(visitor.page.locator("#live")).to_be_visible()

    await visitor.page.keyboard.press("Tab")
    await expect(visitor.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await visitor.page.keyboard.press("Enter")

    await expect(visitor.page.locator("main")).to_be_focused()
