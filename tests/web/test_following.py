"""What a page does in a browser while it is open: signing in and out, and keeping up."""

from playwright.sync_api import Browser, expect

from tests.server.registry.persons import PASSWORD
from tests.web.place import PEOPLE, Place
from tests.web.screens import Sitting, sit_down


def test_somebody_signs_in_watches_a_round_end_and_signs_out(
    place: Place, chromium: Browser
) -> None:
    assert place.course is not None
    person = sit_down(chromium, place.origin, "zh-Hans")
    page = person.open(f"/runs/{place.course.run}")
    assert page.url == f"{place.origin}/sign-in"  # led there, and nowhere else afterwards
    page.fill("[name=login]", PEOPLE["coordinator"])
    page.fill("[name=password]", "not the password")
    page.click("form[data-api] button.main")
    expect(page.locator("main [role=alert]")).to_contain_text("登录名或密码不正确")
    assert person.said == [f"401: {place.origin}/v1/sessions"]
    person.said.clear()
    page.fill("[name=password]", PASSWORD)
    page.click("form[data-api] button.main")
    page.click("text=Screening model, full")

    rounds = page.locator("section.lead .big")
    expect(rounds).to_contain_text(f"第 {place.course.round} / 40 轮")
    page.evaluate("window.stayed = true; document.querySelector('details').open = true")
    with place.clients() as clients:
        place.course.play(clients)
    expect(rounds).to_contain_text(f"第 {place.course.round} / 40 轮")
    assert page.evaluate("window.stayed && document.querySelector('details').open"), "it reloaded"

    page.click("header button:has-text('退出登录')")
    page.wait_for_url(f"{place.origin}/sign-in")
    page.go_back()
    expect(page).to_have_url(f"{place.origin}/sign-in")
    person.require_quiet()
    person.context.close()


def test_a_page_that_lost_its_registry_says_so(place: Place, sitting: Sitting) -> None:
    person = sitting("coordinator", "en")
    page = person.page
    page.clock.install()
    person.open("/runs")
    banner = page.locator("#disconnected")
    expect(banner).to_be_hidden()
    person.context.set_offline(True)
    page.clock.run_for(16_000)
    expect(banner).to_be_visible()
    person.context.set_offline(False)
    page.clock.run_for(9_000)
    expect(banner).to_be_hidden()
