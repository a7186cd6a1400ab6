"""Every page in a real browser: accessible, nothing from elsewhere, nothing beyond the edge.

Each page of the registry, and two of a node's own, are looked at once in `make test`, in a language
and a light that turn from page to page; `make soak` looks at all of them in both.
"""

import pytest

from tests.web.pages import EXAMPLES, Example, page_routes
from tests.web.place import Place
from tests.web.screens import (
    LIGHTS,
    TONGUES,
    WIDTHS,
    Light,
    Sitting,
    Tongue,
    require_accessible,
    require_fit,
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
    require_accessible(page)
    for width in WIDTHS:
        require_fit(page, width)
    person.require_quiet()
