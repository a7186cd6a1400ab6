"""Every page without a browser, on either database: answered, with the words that it is about."""

import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

from accord_common.tls import trusting
from tests.postgres import Postgres
from tests.web.pages import EXAMPLES, Example
from tests.web.place import Place, working_day
from tests.web.screens import TONGUES, Tongue


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    if request.param == "sqlite":
        yield request.getfixturevalue("place")
        return
    server = Postgres()
    try:
        with server.database() as name:
            folder = tmp_path_factory.mktemp("engines")
            with working_day(folder, server.url(name)) as place:
                yield place
    finally:
        server.close()


def test_every_page_is_answered_with_its_words(anywhere: Place) -> None:
    """Half of them in each language; the browser's tests have the rest."""
    assert anywhere.settings.database_url == "" or "postgresql" in anywhere.settings.database
    trusted = trusting(anywhere.settings.ca.read_bytes())
    cookies: dict[str, dict[str, str]] = {"": {}, **anywhere.cookies}
    for role, held in cookies.items():
        with httpx.Client(cookies=held, verify=trusted, base_url=anywhere.origin) as client:
            for turn, example in enumerate(EXAMPLES):
                if (example.role or "") == role:
                    look(client, anywhere, example, TONGUES[turn % 2])


def look(client: httpx.Client, place: Place, example: Example, tongue: Tongue) -> None:
    headers = {"Accept": "text/html", "Accept-Language": tongue}
    answer = client.get(example.address(place), headers=headers)
    assert answer.status_code == example.status, (example.name, answer.text[:2000])
    assert f'<html lang="{tongue}">' in answer.text
    text = unescape(re.sub(r"<[^>]+>", " ", answer.text))
    missing = [word for word in example.words if word not in text]
    assert not missing, (example.name, tongue, missing)
