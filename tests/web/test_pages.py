"""Every page in a real browser: accessible, nothing from elsewhere, nothing beyond the edge.

Each page of the registry, and two of a node's own, are looked at once in `make test`, in a language
and a light that turn from page to page; `make soak` looks at all of them in both.
"""

import re

import pytest
from playwright.sync_api import expect

from tests.english import COMMANDS, english_in
from tests.web.pages import EXAMPLES, Example, page_routes
from tests.web.place import NAMES, Place
from tests.web.screens import (
    LIGHTS,
    TONGUES,
    WIDTHS,
    Light,
    Sitting,
    Tongue,
    require_accessible,
    require_fit,
    require_times,
)

WRITTEN = (  # by people; and by translators, who keep commands
    *("Screening model, pilot", "Screening model, repeated", "Screening model, full"),
    *("Screening model, wider clipping", "Screening model with age"),
    *("Tumour screening, second year", "Tumour screening"),
    *("Registry moves on 1 December", "binary: tell malignant from benign"),
    *(*NAMES.values(), *COMMANDS),
)
COMBINATIONS = [(tongue, light) for tongue in TONGUES for light in LIGHTS]
NODE_SAMPLE = ("node-home", "node-agreement-to-sign")  # what shows most, and a form
TURNS = [
    (example, *COMBINATIONS[turn % 4])
    for turn, example in enumerate(EXAMPLES)
    if example.at == "registry" or example.name in NODE_SAMPLE
]
OTHERS = [
    (example, *combination)
    for example in EXAMPLES
    for combination in COMBINATIONS
    if (example, *combination) not in TURNS
]


def test_every_page_has_an_example() -> None:
    shown = {(example.at, example.path) for example in EXAMPLES}
    assert shown == page_routes(), "see tests/web/pages.py"
    names = [example.name for example in EXAMPLES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("example", "tongue", "light"), TURNS, ids=lambda value: getattr(value, "name", value)
)
def test_a_page_is_fit_to_be_used(
    place: Place, sitting: Sitting, example: Example, tongue: Tongue, light: Light
) -> None:
    look(place, sitting, example, tongue, light)


@pytest.mark.soak(sample=0)
@pytest.mark.parametrize(
    ("example", "tongue", "light"), OTHERS, ids=lambda value: getattr(value, "name", value)
)
def test_a_page_is_fit_to_be_used_in_every_language_and_light(
    place: Place, sitting: Sitting, example: Example, tongue: Tongue, light: Light
) -> None:
    look(place, sitting, example, tongue, light)


def look(place: Place, sitting: Sitting, example: Example, tongue: Tongue, light: Light) -> None:
    person = sitting(example.seat, tongue)
    page = person.open(example.address(place), light, example.status)
    assert page.locator("html").get_attribute("lang") == tongue
    if tongue == "zh-Hans":
        assert english_in(page.content(), *WRITTEN) == []
    require_times(page, tongue)
    require_accessible(page)
    for width in WIDTHS:
        require_fit(page, width)
    person.require_quiet()


@pytest.mark.parametrize("tongue", TONGUES)
def test_what_a_form_answers_is_in_the_readers_language(sitting: Sitting, tongue: Tongue) -> None:
    person = sitting("steward", tongue)
    page = person.open("/account")
    form = page.locator('form[data-api="PUT /v1/me/password"]')
    form.locator('[name="present"]').fill("not the present one")
    form.locator('[name="password"]').fill("password-password")
    form.locator("button").click()
    told = form.locator(".problem")
    expect(told).to_contain_text("[wrong-credentials]")
    if tongue == "en":
        expect(told.locator(".original")).to_have_count(0)
    else:
        expect(told).to_contain_text("登录名或密码不正确。")
        expect(told.locator('.original[lang="en"]')).to_contain_text("[wrong-credentials]")


def test_what_a_check_finds_is_in_the_readers_language(place: Place, sitting: Sitting) -> None:
    page = sitting("auditor", "zh-Hans").open("/audit")
    with place.clients() as clients:
        checkpoint = clients[place.world.coordinator.id].tree.checkpoint().to_bytes().decode()
    form = page.locator('form[data-api^="POST /v1/log/check"]')
    form.locator('[name="text"]').fill(checkpoint)
    form.locator("button").click()
    expect(form).to_contain_text("且本日志由其延续而来")
    require_times(page, "zh-Hans")
    expect(form.locator("time")).to_contain_text("UTC)")
    form.locator('[name="text"]').fill(checkpoint.replace('"sig":"', '"sig":"A'))
    form.locator("button").click()
    failures = form.locator('[data-told="failures"]')
    expect(failures).to_contain_text("[bad-")
    assert re.match(r"[^A-Z[]+。\n    \[bad-", failures.text_content() or "")
