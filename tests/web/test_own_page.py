"""The node's own page in a browser that another site misuses, or an impatient finger."""

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.web.node import OwnPage
from tests.web.screens import sit_down
from tests.web.test_attacks import hostile_site


@pytest.mark.soak(sample=0)
def test_another_site_changes_reads_and_frames_nothing_of_a_node(
    own: OwnPage, chromium: Browser
) -> None:
    """From another port of this host, which browsers call the same site, with its cookies."""
    person = sit_down(chromium, own.origin, "en", own.cookies)
    page = person.page
    with hostile_site(own.origin) as address:
        page.goto(address)
        assert page.evaluate("window.tried") == "refused"
        assert page.frames[1].evaluate("document.querySelector('main') === null")
        page.evaluate("document.forms[0].submit()")
        expect(page.locator("body")).to_contain_text("cross-site")
        foreign = httpx.URL(address).netloc.decode()
        stolen = page.goto(f"{own.origin}/", referer=f"http://{foreign}/")
        assert stolen is not None and stolen.headers["x-frame-options"] == "DENY"
    person.context.close()


@pytest.mark.soak(sample=0)
def test_a_second_click_asks_nothing(own: OwnPage, chromium: Browser) -> None:
    person = sit_down(chromium, own.origin, "en", own.cookies)
    page, asked = person.open("/budgets"), 0
    page.get_by_role("link", name="tumours").first.click()

    def slowly(route: Route) -> None:
        nonlocal asked
        asked += 1
        page.locator("form[data-api^=PUT] button").dispatch_event("click")
        route.fulfill(status=409, json={"code": "x", "detail": "No.", "hint": ""})

    page.route("**/cap", slowly)
    page.get_by_label("Most epsilon").fill("2")
    page.get_by_role("button", name="Set the cap").click()
    expect(page.locator("form[data-api^=PUT] .problem")).to_be_visible()
    assert asked == 1
    with page.expect_response("**/cap"):  # and afterwards it does
        page.get_by_role("button", name="Set the cap").click()
    assert asked == 2
    person.context.close()
