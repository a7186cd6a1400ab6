"""What another site, or a member who means harm, tries on somebody's open browser.

The other site is of this host and another port: what browsers call the same site, so no SameSite
rule of theirs helps the registry here.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, expect

from tests.server.registry.persons import PASSWORD
from tests.web.place import PEOPLE, Place
from tests.web.screens import Person, sit_down

_SCRIPT = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
_HOSTILE = """<!doctype html><title>Prize</title>
<iframe src="{origin}/"></iframe>
<form method="post" action="{origin}/v1/announcements" enctype="text/plain">
<input name='{{"title": "From elsewhere", "body": "' value='"}}'></form>
<script>
window.tried = fetch("{origin}/v1/announcements", {{
  method: "POST", credentials: "include", mode: "no-cors",
  headers: {{"Content-Type": "text/plain"}}, body: '{{"title": "From elsewhere", "body": "x"}}',
}}).then(() => fetch("{origin}/v1/me", {{credentials: "include"}})).then(
  answer => "read " + answer.status, () => "refused");
</script>"""


@contextmanager
def hostile_site(origin: str) -> Iterator[str]:
    """A web server that means harm."""
    page = _HOSTILE.format(origin=origin).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def victim(place: Place, chromium: Browser) -> Iterator[Person]:
    """A coordinator, signed in."""
    person = sit_down(chromium, place.origin, "en", place.cookies["coordinator"])
    yield person
    person.context.close()


def test_another_site_changes_reads_and_frames_nothing(place: Place, victim: Person) -> None:
    page = victim.page
    with hostile_site(place.origin) as address:
        page.goto(address)
        assert page.evaluate("window.tried") == "refused"  # what it asks, it may not read
        framed = page.frames[1]
        assert framed.evaluate("document.querySelector('main') === null")
        page.evaluate("document.forms[0].submit()")
        page.wait_for_url(f"{place.origin}/v1/announcements")
        expect(page.locator("body")).to_contain_text("wrong-origin")
    victim.open("/feed")
    expect(page.locator("main h1")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("From elsewhere")


def test_what_members_write_runs_nowhere(place: Place, victim: Person) -> None:
    """A member's words reach every page as text: lists, charts' titles, the other language."""
    page = victim.open(f"/runs/{place.names['waiting']}")
    page.fill("[name=body]", _SCRIPT)
    page.click("form[data-api$='/comments'] button")
    expect(page.locator(".said", has_text="onerror")).to_be_visible()
    for address in ("/feed", f"/runs/{place.names['waiting']}?language=zh-Hans"):
        victim.open(address)
        expect(page.locator(".said", has_text="onerror").first).to_be_visible()
        assert page.evaluate("window.pwned === undefined")
    page.locator("form[data-api^='DELETE /v1/comments'] button").first.click()
    expect(page.locator(".said", has_text="onerror")).to_have_count(0)


def test_signing_in_leads_home_and_changes_the_session(place: Place, chromium: Browser) -> None:
    """An address to go to is ignored, and a cookie that somebody planted is not the session."""
    planted = {name: "planted" for name in place.cookies["auditor"]}
    person = sit_down(chromium, place.origin, "en", planted)
    page = person.page
    page.goto(f"{place.origin}/sign-in?next=//evil.example&then=https://evil.example/")
    page.fill("[name=login]", PEOPLE["auditor"])
    page.fill("[name=password]", PASSWORD)
    page.click("main button.main")
    expect(page).to_have_url(f"{place.origin}/")
    held = {cookie.get("name"): cookie.get("value") for cookie in person.context.cookies()}
    assert held.keys() >= planted.keys() and "planted" not in held.values()
    person.open("/people", status=200)
    expect(page.locator("form[data-api='POST /v1/people']")).to_have_count(0)  # an auditor looks
    told = page.evaluate(
        """async body => (await fetch("/v1/people", {method: "POST", body, headers: {
            "Content-Type": "application/json",
            "X-CSRF-Token": document.body.dataset.csrf,
        }})).status""",
        '{"login": "eve", "name": "Eve", "role": "owner"}',
    )
    assert told == 403
    person.context.close()
