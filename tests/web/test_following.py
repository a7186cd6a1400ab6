"""What a page does in a browser while it is open: signing in and out, and keeping up."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import httpx
import pytest
from playwright.sync_api import Browser, expect

from accord_common.tls import trusting
from accord_server.registry.log import watch
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


def test_a_page_that_lost_its_registry_says_so_and_catches_up(
    place: Place, sitting: Sitting
) -> None:
    assert place.course is not None
    person = sitting("coordinator", "en")
    page = person.page
    page.clock.install()
    person.open(f"/runs/{place.course.run}")
    banner = page.locator("#disconnected")
    expect(banner).to_be_hidden()
    person.context.set_offline(True)
    with place.clients() as clients:
        place.course.play(clients)
    page.clock.run_for(16_000)
    expect(banner).to_be_visible()
    person.context.set_offline(False)
    page.clock.run_for(9_000)
    expect(banner).to_be_hidden()
    expect(page.locator("section.lead .big")).to_contain_text(f"round {place.course.round} of 40")


@contextmanager
def altered(place: Place) -> Iterator[None]:
    """A stored record has one signature's character exchanged, behind the registry's back."""
    file = place.settings.home / "registry.db"
    names = ("records_no_UPDATE", place.names["record_hash"])
    with closing(sqlite3.connect(file, timeout=30)) as database:
        (trigger,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", names[:1])
        (whole,) = database.execute("SELECT envelope FROM records WHERE hash = ?", names[1:])
        other = re.sub(
            rb'("sig":")(.)', lambda m: m[1] + (b"B" if m[2] == b"A" else b"A"), whole[0]
        )
        change = "UPDATE records SET envelope = ? WHERE hash = ?"
        try:
            database.execute("DROP TRIGGER records_no_UPDATE")
            database.execute(change, (other, names[1]))
            database.commit()
            yield
        finally:
            database.execute(change, (whole[0], names[1]))
            database.execute(trigger[0])
            database.commit()


def test_an_auditors_first_page_turns_red_and_green_by_itself(
    place: Place, sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = sitting("auditor", "en").open("/")
    found = page.locator("section[aria-labelledby=holds]")
    page.evaluate("window.stayed = true")
    expect(found).to_contain_text("Log verified to entry")
    with altered(place):
        monkeypatch.setattr(watch, "_ANEW", timedelta(0))  # an hour later
        monkeypatch.setattr(watch, "_AGAIN", timedelta(0))
        with place.clients() as clients:
            clients[place.world.coordinator.id].log(place.names["live"], "info", "all is well")
        expect(found).to_contain_text("The log does not hold")
        expect(found).to_contain_text("damaged-record")
        expect(found).to_have_class("card lead bad")
    expect(found).to_contain_text("Log verified to entry")
    assert page.evaluate("window.stayed"), "it reloaded"


def test_what_changed_between_a_page_and_its_listening_is_told(place: Place) -> None:
    trusted = trusting(place.settings.ca.read_bytes())
    with httpx.Client(cookies=place.cookies["auditor"], verify=trusted) as client:
        page = client.get(f"{place.origin}/", headers={"Accept": "text/html"})
        (made,) = re.findall(r'data-events="(/live\?seen=\d+)"', page.text)
        with place.clients() as clients:
            clients[place.world.coordinator.id].log(place.names["live"], "info", "in between")
        with client.stream("GET", place.origin + made) as answer:
            named = (line for line in answer.iter_lines() if line.startswith("event:"))
            assert [next(named), next(named)] == ["event: beat", "event: changed"]


def test_a_tab_listens_while_it_is_in_sight_and_again_where_it_was_refused(
    place: Place, chromium: Browser
) -> None:
    """A browser has six connections to a host: six tabs that listen would be all there are."""
    person = sit_down(chromium, place.origin, "en", place.cookies["auditor"])
    page = person.page
    page.clock.install()
    page.route("**/live*", lambda route: route.fulfill(status=503), times=1)
    with page.expect_response("**/live*") as refused:
        page.goto(f"{place.origin}/runs")
    assert refused.value.status == 503
    with page.expect_response("**/live*") as taken:
        page.clock.run_for(9_000)
    assert taken.value.status == 200
    page.evaluate("""() => {
        Object.defineProperty(document, "visibilityState", {get: () => window.shade ?? "visible"});
        window.turn = shade => {
            window.shade = shade;
            document.dispatchEvent(new Event("visibilitychange"));
        };
    }""")
    assert page.evaluate("turn('hidden'), events === null")
    page.clock.run_for(60_000)
    assert page.evaluate("events === null")
    with page.expect_response(f"{place.origin}/runs"), page.expect_response("**/live*"):
        page.evaluate("turn('visible')")
    expect(page.locator("#disconnected")).to_be_hidden()  # nobody looked, so nothing was missed
    person.context.close()
