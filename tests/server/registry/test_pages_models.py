"""The pages of models: verified lineage, a card of text alone, weights for who may have them."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord_server.registry.setup import initialise
from accord_server.registry.web.models import as_html
from tests.server.registry.persons import Browser, join
from tests.server.registry.stack import Stack, complete, opened, settings_in
from tests.server.registry.test_pages import HTML, text_of
from tests.world import make_world


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, quick_accounts: None
) -> Iterator[Stack]:
    """A registry with a model in it, of a run with a hostile title, and a run that goes on."""
    settings = settings_in(tmp_path_factory.mktemp("model-pages") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    world = make_world(log_key=settings.read_log_key())
    release = world.agreement.release.model_dump()
    release["recipients"] = [one for one in release["recipients"] if one != world.hospitals[0].id]
    with opened(settings, invitation, world.amended(release=release)) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        keys = stack.offer()
        title = "<img src=x onerror=alert(1)> [a](javascript:alert(1))"
        complete(stack, keys, stack.start(keys, title=title))
        stack.client(stack.world.aggregator).put_blob(b"model 2")
        stack.start(stack.offer())
        yield stack


@pytest.fixture(scope="module")
def coordinator(stack: Stack) -> Browser:
    return join(stack, stack.world.coordinator, "coordinator", "carla")


@pytest.fixture(scope="module")
def auditor(stack: Stack) -> Browser:
    return join(stack, stack.world.coordinator, "auditor", "audrey")


def test_a_model_is_traced_to_the_agreement(stack: Stack, coordinator: Browser) -> None:
    run = stack.client(stack.world.coordinator).runs()[0]
    page = text_of(coordinator, f"/models/{run.id}")
    assert "3 institutions, by their signed records" in page and "3 attempts at rounds" in page
    assert all(actor.name in page for actor in stack.world.hospitals)
    assert run.model is not None and run.model in page
    assert f"accord model export {run.id} --format onnx" in page
    assert run.title in text_of(coordinator, "/models")


def test_a_card_is_text_whatever_its_records_say(stack: Stack, coordinator: Browser) -> None:
    run = stack.client(stack.world.coordinator).runs()[0]
    html = coordinator.call("GET", f"/models/{run.id}", headers=HTML).text
    assert "<img" not in html and "javascript:" not in re.sub(r"\(javascript:[^)]*\)", "", html)
    assert "<h3>Privacy</h3>" in html and "<table>" in html
    hostile = as_html("# t\n\n<script>x</script> [a](https://e.example) ![b](//e.example/i.png)\n")
    assert "<script" not in hostile and "<a" not in hostile and "<img" not in hostile


def test_weights_are_offered_to_who_may_have_them(
    stack: Stack, coordinator: Browser, auditor: Browser
) -> None:
    run = stack.client(stack.world.coordinator).runs()[0]
    link = f"/v1/blobs/{run.model}"
    assert link in coordinator.call("GET", f"/models/{run.id}", headers=HTML).text
    assert coordinator.call("GET", link).content == b"model 2"
    steward = join(stack, stack.world.hospitals[0], "steward", "stella")
    assert link not in steward.call("GET", f"/models/{run.id}", headers=HTML).text
    assert steward.call("GET", link).status_code == 404


def test_a_run_that_goes_on_has_no_model_page(stack: Stack, coordinator: Browser) -> None:
    run = stack.client(stack.world.coordinator).runs()[1]
    answer = coordinator.call("GET", f"/models/{run.id}", headers=HTML)
    assert answer.status_code == 404 and "no-model" in answer.text
