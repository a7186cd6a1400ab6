"""Each role's day against real processes, in a browser and at the commands that its pages show.

Nobody is told more than the pages tell: links, words and commands are read from the screen.
"""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from accord_common.api.access_schemas import PersonRole
from accord_common.api.client import RegistryClient
from accord_common.web.languages import LANGUAGES
from accord_common.web.looks import look
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests import federations
from tests.server.registry.persons import PASSWORD
from tests.web.chromium import launched
from tests.web.screens import TONGUES, Person, Tongue, sit_down

SITES, ROUNDS = 3, 8
ROLES: tuple[PersonRole, ...] = ("coordinator", "steward", "auditor")
LONG_MS = 180_000  # eight rounds of three nodes on a busy machine
_RECORD = """() => {
  window.stayed = true;
  window.seen = [];
  const look = () => {
    const done = document.querySelector("#live .lead progress").value;
    if (seen.at(-1) !== done) seen.push(done);
  };
  new MutationObserver(look).observe(document, {subtree: true, childList: true, attributes: true});
  look();
}"""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("stories") / "federation"
    with federations.running(folder, SITES, policy="ask") as found:
        yield found


@pytest.fixture(scope="module")
def everybody(federation: Federation) -> Iterator[Browser]:
    with launched(federation.registry.home / "registry.pem") as browser:
        yield browser


@pytest.mark.soak(sample=0)
@pytest.mark.parametrize("tongue", TONGUES)
def test_steward_coordinator_and_auditor_have_their_day(
    federation: Federation, everybody: Browser, tongue: Tongue, tmp_path: Path
) -> None:
    say = words(tongue)
    coordinator, steward, auditor = (
        arrive(federation, everybody, tongue, role)
        for role in ("coordinator", "steward", "auditor")
    )
    expect(steward.page.locator(".lead .big")).to_contain_text(say("Nothing waits for you"))

    run = federation.start_run(federations.plan(federation, rounds=ROUNDS))
    announce(coordinator, say, f"Run {run[-6:]} asks for consent")
    decide(federation, steward, run, say)
    see_who_blocks(federation, coordinator, run, say)
    watch_to_the_end(federation, coordinator, run, say)
    take_the_model(federation, coordinator, run, tmp_path)
    verify(federation, auditor, run, say, tmp_path)
    for person in (coordinator, steward, auditor):
        person.page.locator("header form button").click()
        expect(person.page).to_have_url(f"{person.origin}/sign-in")
        person.require_quiet()
        person.context.close()


def arrive(federation: Federation, browser: Browser, tongue: Tongue, role: PersonRole) -> Person:
    """From the invitation's link to one's first page."""
    login = f"{role}-{tongue.lower()}"
    person = sit_down(browser, federation.registry_url, tongue)
    page = person.page
    page.goto(invited(federation, role, login))
    page.fill("[name=password]", PASSWORD)
    page.click("main button.main")
    expect(page).to_have_url(f"{person.origin}/sign-in")
    page.fill("[name=login]", login)
    page.fill("[name=password]", PASSWORD)
    page.click("main button.main")
    expect(page).to_have_url(f"{person.origin}/")
    expect(page.locator("html")).to_have_attribute("lang", tongue)
    return person


def invited(federation: Federation, role: PersonRole, login: str) -> str:
    """What the organisation gives to its person: the steward's is a hospital."""
    if role != "steward":
        made = federation.office("people", "invite", login, "--name", login, "--role", role)
        return str(made["link"])
    home = federation.nodes[0].home / "accord"
    token, ca_pem = (home / "token").read_text().strip(), (home / "ca.pem").read_bytes()
    with RegistryClient(federation.registry_url, ca_pem, token) as client:
        return client.invite_person(login, login, role).link


def announce(coordinator: Person, say: Callable[[str], str], title: str) -> None:
    page = coordinator.open("/feed")
    page.click(f"summary:has-text('{say('Announce something')}')")
    page.fill("[name=title]", title)
    page.fill("[name=body]", "Please decide today.")
    page.click("details button.main")
    expect(page.locator("main")).to_contain_text(title)


def decide(federation: Federation, steward: Person, run: str, say: Callable[[str], str]) -> None:
    """The steward's page tells of it, and what to type; typed, the page knows."""
    page = steward.page  # open since morning
    expect(page.locator(".lead .big")).to_contain_text("1", timeout=LONG_MS)
    expect(page.locator("main")).to_contain_text(f"Run {run[-6:]} asks for consent")
    (line,) = typed_on(page, f"accord-node approve {run}")
    page.evaluate("window.stayed = true")
    obey(federation.nodes[0], line, "--yes")
    expect(page.locator(".lead .big")).to_contain_text(say("Nothing waits for you"))
    assert page.evaluate("window.stayed"), "the page was loaded again"


def see_who_blocks(
    federation: Federation, coordinator: Person, run: str, say: Callable[[str], str]
) -> None:
    page = coordinator.open("/")
    blocked = page.locator("section[aria-labelledby=stuck]")
    for node in federation.nodes[1:]:
        expect(blocked).to_contain_text(node.name)
    expect(blocked).not_to_contain_text(federation.nodes[0].name)
    blocked.locator(f"a[href='/runs/{run}']").first.click()
    expect(page).to_have_url(f"{coordinator.origin}/runs/{run}")


def watch_to_the_end(
    federation: Federation, coordinator: Person, run: str, say: Callable[[str], str]
) -> None:
    """The page follows the run, round by round, until its end; nobody touches it."""
    page = coordinator.page
    page.evaluate(_RECORD)
    scoring = follow_scoring(federation, run)
    for node in federation.nodes[1:]:
        obey(node, f"accord-node approve {run}", "--yes")
    state = page.locator(".lead .state").first
    expect(state).to_have_text(say(look("running").words), timeout=LONG_MS)
    expect(state).to_have_text(say(look("completed").words), timeout=LONG_MS)
    seen = page.evaluate("window.seen")
    assert seen == sorted(seen) and seen[-1] == ROUNDS and len(seen) >= ROUNDS // 2, seen
    assert page.evaluate("window.stayed"), "the page was loaded again"
    status, stderr = scoring.status()
    assert status == 0, stderr
    expect(page.locator("dl.facts").first).to_contain_text("auc")  # signed after the end
    expect(page.locator("figure[data-chart] svg").first).to_be_visible()


def follow_scoring(federation: Federation, run: str) -> Any:
    """The coordinator's terminal: scores each round on public rows, signs the last."""
    home = federation.coordinator.home
    (home / "holdout.csv").write_text(federations.synthetic_table(99))
    (home / "schema.yaml").write_text(federations.synthetic_schema())
    return federation.services.follow(
        federation.coordinator, "run", "watch", run, "--holdout", home / "holdout.csv",
        "--schema", home / "schema.yaml", "--home", home / "accord",
    )  # fmt: skip


def take_the_model(federation: Federation, coordinator: Person, run: str, folder: Path) -> None:
    """Export: what the model's page says to type gives files, and a card."""
    page = coordinator.open(f"/models/{run}")
    desk = replace(federation.coordinator, home=folder)
    for begins, made in (
        (f"accord model download {run}", "model.safetensors"),
        (f"accord model card {run}", "README.md"),
    ):
        (line,) = typed_on(page, begins)
        obey(desk, line, home=federation.coordinator.home)
        assert (folder / made).stat().st_size > 0
    assert run in (folder / "README.md").read_text()


def verify(
    federation: Federation,
    auditor: Person,
    run: str,
    say: Callable[[str], str],
    folder: Path,
) -> None:
    """The page's word, then the auditor's own: evidence taken along, and checked without it."""
    page = auditor.open("/")
    expect(page.locator(".lead .state").first).to_have_text(say(look("verified").words))
    desk = replace(federation.coordinator, home=folder)
    for begins in ("accord audit checkpoint", "accord audit bundle"):
        (line,) = typed_on(page, begins)
        obey(desk, line, home=federation.coordinator.home)
    (line,) = typed_on(page, "accord audit verify")
    told = obey(desk, line.replace("AGREEMENT-HASH", federation.agreement))
    assert told["failures"] == []

    auditor.open(f"/runs/{run}")
    with page.expect_download() as download:
        page.click("a[href^='/v1/bundles']")
    bundle = folder / "from-the-page.accord"
    download.value.save_as(bundle)
    assert obey(desk, f"accord audit verify {bundle} --trust {federation.agreement}")
    auditor.open("/audit")
    page.set_input_files("[name=file]", bundle)
    page.fill("[name=trust]", federation.agreement)
    page.click("section[aria-labelledby=checker] button.main")
    expect(page.locator("[data-when='verdict=verified']")).to_be_visible()
    expect(page.locator("[data-when='trusted=true']")).to_be_visible()


def words(tongue: Tongue) -> Callable[[str], str]:
    """The catalogue, as pages use it."""
    catalogue: Callable[[str], str] = LANGUAGES[tongue].translations.ugettext
    return catalogue


def typed_on(page: Page, begins: str) -> list[str]:
    """Command lines that a page shows."""
    lines = "\n".join(page.locator(".command pre").all_inner_texts()).splitlines()
    return [line for line in lines if line.startswith(begins)]


def obey(actor: Actor, line: str, *more: str, home: Path | None = None) -> Any:
    """Type a line at somebody's terminal, in their folder."""
    script, *arguments = shlex.split(line)
    assert script == actor.script
    if home is not None or script == "accord-node":
        more = (*more, "--home", str((home or actor.home) / "accord"))
    return actor.run(*arguments, *more)
