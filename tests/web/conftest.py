"""One registry for all tests of the pages; a browser, and a screen for each role and language.

A file has a browser of its own: while Playwright is there, nothing else can use an event loop.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.web.chromium import launched
from tests.web.node import OwnPage, own_page
from tests.web.place import Place, working_day
from tests.web.screens import Person, Sitting, Tongue, sit_down

expect.set_options(timeout=30_000)  # milliseconds; a busy machine is no finding


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with working_day(tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture(scope="module")
def chromium(place: Place) -> Iterator[Browser]:
    with launched(place.settings.certificate) as browser:
        yield browser


@pytest.fixture(scope="module")
def own(place: Place) -> Iterator[OwnPage]:
    """The first hospital's own page; a session of its lasts 15 minutes without a step."""
    with own_page(place.node) as page:
        yield page


@pytest.fixture(scope="module")
def sitting(place: Place, chromium: Browser, request: pytest.FixtureRequest) -> Sitting:
    """Whoever has a role, signed in, in one language: the same browser each time.

    "node" is the steward at the node's own page, which is served from the first such look on.
    """
    there: dict[tuple[str, Tongue], Person] = {}

    def find(role: str, tongue: Tongue) -> Person:
        if (role, tongue) not in there:
            origin, cookies = place.origin, place.cookies.get(role)
            if role == "node":
                page: OwnPage = request.getfixturevalue("own")
                origin, cookies = page.origin, page.cookies
            there[role, tongue] = sit_down(chromium, origin, tongue, cookies)
        return there[role, tongue]

    return find
