"""Every page without a browser, on either database: answered, with the words that it is about."""

import re
from collections.abc import Iterator, Mapping
from html import unescape

import httpx
import pytest

from accord_common.tls import trusting
from tests.postgres import Postgres
from tests.web.pages import EXAMPLES, Example
from tests.web.place import Place, working_day
from tests.web.screens import TONGUES, Tongue

WORDS: Mapping[str, tuple[str, ...]] = {  # of each example, in any language
    "home-steward": ("Northgate Hospital", "Screening model with age"),
    "home-coordinator": (
        "Screening model, full",
        "St Luke's Infirmary",
        "Tumour screening, second year",
    ),
    "home-auditor": ("result-differs", "Screening model, full"),
    "runs": ("Screening model, pilot", "Screening model, wider clipping"),
    "run-completed": ("Screening model, pilot", "Riverside Clinic", "auc"),
    "run-live": ("Our scanner was replaced in round 3.", "was silent for 40 s"),
    "run-waiting": ("Screening model with age", "Riverside Clinic"),
    "run-refused": ("Screening model, wider clipping", "clipping-above-cap"),
    "no-such-run": ("unknown-run",),
    "runs-compared": (
        "Screening model, pilot",
        "Screening model, repeated",
        "Screening model, full",
    ),
    "models": ("Screening model, pilot",),
    "model": ("Screening model, pilot", "Northgate Hospital"),
    "agreements": ("Tumour screening", "Tumour screening, second year"),
    "agreement": ("Tumour screening", "University Cancer Registry"),
    "agreement-draft": ("Tumour screening, second year", "accord-node agreement sign"),
    "agreement-check": ("Northgate Hospital/tumours", "sampling-rate"),
    "budgets": ("Northgate Hospital", "Riverside Clinic"),
    "budget": ("Screening model, pilot", "Screening model, full"),
    "datasets": ("tumours", "Northgate Hospital"),
    "dataset": ("tumours", "Tumour screening"),
    "partners": ("Computing Centre", "Test CA"),
    "partner": ("Northgate Hospital",),
    "audit": ("result-differs", "Computing Centre"),
    "record": ("University Cancer Registry",),
    "activity": ("Registry moves on 1 December", "Our scanner was replaced in round 3."),
    "people": ("oscar-hale",),
    "people-access": ("stella-braun", "Riverside Clinic"),
    "account": ("stella-braun", "Northgate Hospital"),
}


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
                if example.at == "registry" and (example.role or "") == role:
                    look(client, anywhere, example, TONGUES[turn % 2])


def look(client: httpx.Client, place: Place, example: Example, tongue: Tongue) -> None:
    headers = {"Accept": "text/html", "Accept-Language": tongue}
    answer = client.get(example.address(place), headers=headers)
    assert answer.status_code == example.status, (example.name, answer.text[:2000])
    assert f'<html lang="{tongue}">' in answer.text
    text = unescape(re.sub(r"<[^>]+>", " ", answer.text))
    missing = [word for word in WORDS.get(example.name, ()) if word not in text]
    assert not missing, (example.name, tongue, missing)
