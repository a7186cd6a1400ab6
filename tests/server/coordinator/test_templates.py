"""A template whose blanks are filled is terms that can be signed; one with a blank is not."""

import re
from pathlib import Path

import pytest

from accord_common.errors import UsageError
from accord_server.coordinator import documents
from accord_server.coordinator.drafting import draft
from accord_server.coordinator.templates import Template, text_of, write_new
from accord_server.coordinator.terms_file import TermsFile
from tests.server.coordinator.test_drafting import MOMENT, dataset, partner
from tests.world import make_world

WORLD = make_world(4)


def filled(text: str) -> str:
    """As somebody would fill it in: the n-th institution is the n-th hospital."""
    text = re.sub(r"<(?:hospital|institute|institution) ([0-9])>", r"hospital-\1", text)
    return re.sub(r"<[^>]*>", lambda _: "tumours", text)


@pytest.mark.parametrize("template", Template)
def test_a_filled_template_is_drafted(template: Template) -> None:
    written = documents.decode_with_places(
        filled(text_of(template)).encode(), TermsFile, "terms.yaml"
    )
    agreement = draft(
        written.content,
        coordinator=WORLD.coordinator.id,
        partners=[partner(actor) for actor in WORLD.actors],
        datasets=[dataset(actor) for actor in WORLD.hospitals],
        log_key=WORLD.log_key.public,
        moment=MOMENT,
        source=written.source,
    )
    assert agreement.aggregation.min_cohort >= 3
    assert all(item.duo and not item.privacy.non_private for item in agreement.datasets)
    assert agreement.legal_basis.startswith("GDPR Art. 6(1)")


@pytest.mark.parametrize("template", Template)
def test_every_blank_that_is_left_is_told_with_its_line(template: Template) -> None:
    text = text_of(template)
    with pytest.raises(UsageError, match=r"\[bad-document\]") as caught:
        documents.decode(text.encode(), TermsFile, "terms.yaml")
    first = text.splitlines().index(next(x for x in text.splitlines() if x.startswith("title"))) + 1
    assert f"terms.yaml:{first}:1: title = <name of the" in caught.value.message
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for blank in re.findall(r"<[^>]*>", plain):
        assert f"= {blank}: a template's blank" in caught.value.message


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    write_new(path, "a: 1\n")
    with pytest.raises(UsageError, match=r"\[file-exists\]"):
        write_new(path, "b: 2\n")
    assert path.read_text() == "a: 1\n"
