"""A picture of every page in every language: `make screenshots` takes them anew.

Palettes of 256 colours keep them small enough for the repository.
"""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.web.pages import EXAMPLES, Example
from tests.web.place import Place
from tests.web.screens import TONGUES, Sitting, Tongue

PICTURES = Path(__file__).parents[2] / "deploy/screenshots"
LARGEST = 6_000_000  # bytes, of all: every clone of the repository has them


def picture(tongue: Tongue, example: Example) -> str:
    return f"{tongue}-{example.name}.png"


def test_every_page_has_its_picture() -> None:
    there = {path.name: path.stat().st_size for path in PICTURES.glob("*.png")}
    assert there.keys() == {picture(tongue, one) for tongue in TONGUES for one in EXAMPLES}, (
        "make screenshots"
    )
    assert sum(there.values()) < LARGEST


@pytest.mark.soak(sample=0)
@pytest.mark.parametrize("tongue", TONGUES)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_page_is_photographed(
    place: Place,
    sitting: Sitting,
    example: Example,
    tongue: Tongue,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    place.stir()
    person = sitting(example.seat, tongue)
    page = person.open(example.address(place), status=example.status)
    while page.locator("#holds ~ .big .state.wait").count():  # the log is being verified
        page.reload()
    page.evaluate("document.activeElement.blur()")  # a caret blinks
    taken = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    file = folder / picture(tongue, example)
    file.parent.mkdir(parents=True, exist_ok=True)
    taken.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    person.require_quiet()
