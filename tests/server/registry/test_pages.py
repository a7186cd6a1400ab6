"""The registry's pages, as a browser without scripts reads them."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from html import unescape
from importlib.metadata import version
from pathlib import Path

import pytest

from accord_common.api.access_schemas import PersonRole
from accord_common.api.schemas import RecordView
from accord_common.enrolment import Delegation
from accord_common.fields import now
from accord_common.privacy.pace import WINDOW, Pace
from accord_server.registry.access.decisions import DECISIONS
from accord_server.registry.budgets import combining, outlook
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.db import Database
from accord_server.registry.setup import initialise
from tests.catalogued import RESEARCH, entry, profile, with_profiles
from tests.english import COMMANDS, english_in
from tests.server.registry.persons import Browser, join
from tests.server.registry.stack import Stack, complete, opened, settings_in
from tests.world import Actor, make_actor, make_world

PAGES = sorted(
    path
    for (method, path), row in DECISIONS.items()
    if method == "GET"
    and not path.startswith("/v1/")
    and not row.public
    and path not in ("/live", "/runs/compare")
)
HOSTILE = "<img src=x>"
STRANGERS = ("/sign-in", "/welcome", "/second-factor")
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, quick_accounts: None
) -> Iterator[Stack]:
    """A registry with a signed agreement, a completed run and one that waits for consents."""
    settings = settings_in(tmp_path_factory.mktemp("pages") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    world = with_profiles(make_world(log_key=settings.read_log_key()))
    with opened(settings, invitation, world) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        for actor in world.hospitals[:2]:
            declared = entry(world, actor, title=f"{HOSTILE} {actor.name}", duo=[RESEARCH])
            stack.client(actor).post(declared)
            stack.client(actor).post(profile(world, actor, declared))
        keys = stack.offer()
        complete(stack, keys, stack.start(keys))
        stack.start(stack.offer())
        yield stack


@pytest.fixture(scope="module")
def people(stack: Stack) -> dict[str, Browser]:
    """One of each role, signed in; the steward is of the first hospital."""
    world = stack.world
    places: dict[PersonRole, Actor] = {
        "coordinator": world.coordinator,
        "steward": world.hospitals[0],
        "auditor": world.coordinator,
        "owner": world.hospitals[1],
    }
    return {role: join(stack, actor, role, f"{role}-here") for role, actor in places.items()}


def page_of(browser: Browser, path: str, language: str = "en") -> str:
    answer = browser.call("GET", path, headers={**HTML, "Accept-Language": language})
    assert answer.status_code == 200, (path, answer.text[:500])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def text_of(browser: Browser, path: str, language: str = "en") -> str:
    """A page's text, without its markup."""
    return unescape(re.sub(r"<[^>]+>", " ", page_of(browser, path, language)))


def until(true: Callable[[], bool], patience_s: float = 60.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def filled(stack: Stack, path: str) -> str:
    client = stack.client(stack.world.coordinator)
    run, agreement = client.runs()[0].id, client.agreements()[0].hash
    dataset = stack.world.hospitals[0].dataset
    return path.format(
        run=run,
        agreement_hash=agreement,
        record_hash=agreement,
        dataset=dataset,
        party=stack.world.hospitals[0].id,
    )


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_shown_to_each_role_in_each_language(
    stack: Stack, people: dict[str, Browser], path: str
) -> None:
    names = [actor.name for actor in stack.world.actors]
    objectives = [f"binary: {task.objective}" for task in stack.world.agreement.tasks]
    for role, browser in people.items():
        if (role, path) == ("owner", "/budgets/{dataset}"):
            continue  # another institution's
        english = text_of(browser, filled(stack, path))
        chinese = page_of(browser, filled(stack, path), "zh-CN")
        assert english_in(chinese, *COMMANDS, *names, *objectives) == []
        assert "Skip to the content" in english and "跳到正文" in chinese


def test_a_steward_sees_what_waits_and_own_budgets_alone(
    stack: Stack, people: dict[str, Browser]
) -> None:
    own, other = stack.world.hospitals[:2]
    home = " ".join(text_of(people["steward"], "/").split())
    waiting = [run.id for run in stack.client(own).runs() if run.state == "awaiting-consent"]
    assert "1 decision waits for you" in home and f"accord-node approve {waiting[0]}" in home
    assert "guesses right at most" in home  # epsilon in plain language
    assert re.search(r"Used up by about .* \d{4}-\d\d-\d\d ", home)
    budgets = text_of(people["steward"], "/budgets")
    assert own.name in budgets and other.name not in budgets
    assert other.name in text_of(people["auditor"], "/budgets")


def test_a_steward_sees_what_arrived_of_the_own_institution_alone(
    stack: Stack, people: dict[str, Browser]
) -> None:
    own = stack.world.hospitals[0]
    page = people["steward"].call("GET", "/", headers=HTML).text
    shown = set(re.findall(r"/records/([0-9a-f]{64})", page))
    views = {view.hash: view for view in stack.client(own).records()}
    kinds = {views[one].kind for one in shown}
    assert kinds == {
        *("node-receipt", "consent", "agreement", "dataset-entry", "dataset-profile"),
        *("enrolment", "delegation"),
    }
    for one in shown:
        signers = views[one].envelope.signers
        assert signers & {own.identity.public, own.node.public}, views[one].kind
    text = " ".join(text_of(people["steward"], "/").split())
    sizes = [len(v.envelope.to_bytes()) for v in views.values() if _receipt_of(v, own)]
    assert len(sizes) == 3  # two rounds, one of them tried twice
    assert f"node's receipt 3 {sum(sizes) / 1024:.1f} KiB" in text
    assert re.search(r"masked update of the model .* 3 see the outbox .* 100 B", text)
    assert "accord-node outbox list" in text


def test_the_last_day_is_at_the_pace_of_thirty_days(stack: Stack) -> None:
    own = stack.world.hospitals[0]

    async def look(moment: datetime) -> tuple[float, Pace]:
        database = Database(stack.settings.database)
        try:
            async with database.read() as session:
                of = [TermsRow.owner == own.id]
                terms, spent = await combining.all_balances(session, of)
                (row,) = combining.balances(terms, spent, moment)
                assert row.spent is not None
                found = await outlook.paces(session, terms, spent, moment)
                return float(row.spent), found[row.agreement, row.dataset]
        finally:
            await database.close()

    moment = now()
    spent, today = asyncio.run(look(moment))
    assert spent > 0 and today.per_day == pytest.approx(spent, rel=1e-3)  # a day, at least
    assert today.out is not None and moment < today.out < moment + timedelta(days=30)
    _, soon = asyncio.run(look(moment + timedelta(days=10)))
    assert soon.per_day == pytest.approx(spent / 10, rel=1e-2)
    _, idle = asyncio.run(look(moment + WINDOW + timedelta(hours=1)))
    assert idle == Pace(0.0)


def _receipt_of(view: RecordView, actor: Actor) -> bool:
    return view.kind == "node-receipt" and actor.node.public in view.envelope.signers


def test_a_datasets_budget_is_told_with_every_attempt_that_was_charged(
    stack: Stack, people: dict[str, Browser]
) -> None:
    own, other = stack.world.hospitals[:2]
    page = people["steward"].call("GET", f"/budgets/{own.dataset}", headers=HTML).text
    spends = [
        row for row in stack.client(own).spends(dataset=own.dataset) if row.dataset == own.dataset
    ]
    ledger = page[page.index('id="ledger"') :]
    assert len(spends) == 3
    for row in spends:
        assert f'href="/records/{row.receipt}"' in ledger
    newest = f"/budgets/{own.dataset}?before={spends[-1].sequence}"
    older = people["steward"].call("GET", newest, headers=HTML).text
    assert spends[0].receipt in older and spends[-1].receipt not in older.split('id="ledger"')[1]
    assert "in plain words" in page and "at the pace of the last 30 days" in page
    refused = people["steward"].call("GET", f"/budgets/{other.dataset}", headers=HTML)
    assert refused.status_code == 404 and other.name not in refused.text
    assert other.name in text_of(people["auditor"], f"/budgets/{other.dataset}")


def test_an_auditor_sees_the_log_and_what_does_not_agree(people: dict[str, Browser]) -> None:
    home = text_of(people["auditor"], "/")
    assert "result-differs" in home  # the result of this run tells another epsilon than its events


def test_nobody_signs_on_a_page(stack: Stack, people: dict[str, Browser]) -> None:
    agreement = stack.client(stack.world.coordinator).agreements()[0]
    page = text_of(people["steward"], f"/agreements/{agreement.hash}")
    assert f"accord-node agreement sign {agreement.hash}" in page and "3 of 3" not in page
    for browser in people.values():
        answer = browser.call("GET", f"/agreements/{agreement.hash}", headers=HTML)
        assert 'method="post"' not in answer.text
        asked = re.findall(r'data-api="([A-Z]+ /v1/[^"]*)"', answer.text)
        taking = ("POST /v1/agreements", "POST /v1/records")  # what takes a signature
        assert not [call for call in asked if call.startswith(taking) and "comments" not in call]


def test_agreements_are_found_with_what_lacks_signatures_and_what_changed(
    stack: Stack, people: dict[str, Browser]
) -> None:
    world, coordinator = stack.world, stack.client(stack.world.coordinator)
    signed, missing = world.hospitals[0], world.hospitals[1]
    privacy = [
        dataset.model_copy(
            update={"privacy": dataset.privacy.model_copy(update={"epsilon_cap": "9"})}
        )
        for dataset in world.agreement.datasets
    ]
    draft = world.next_version(title="Second year", datasets=privacy)
    coordinator.propose(draft.partly_signed(world.coordinator, signed))
    html = people["steward"].call("GET", "/agreements", headers=HTML).text
    waiting, rest = html.split('aria-labelledby="signed"')
    assert f'href="/agreements/{draft.agreement_hash}"' in waiting and missing.name in waiting
    assert f'href="/agreements/{world.agreement_hash}"' in rest and "Second year" not in rest
    home = text_of(people["coordinator"], "/")
    lacking = home[home.index("Second year") : home.index("Active runs")]
    assert missing.name in lacking and signed.name not in lacking
    page = text_of(people["steward"], f"/agreements/{draft.agreement_hash}")
    assert "more than before" in page and "Second year" in page and "version 1" in page
    assert "more than before" not in text_of(
        people["steward"], f"/agreements/{world.agreement_hash}"
    )


def test_partners_are_shown_with_their_keys_releases_and_what_ends(
    stack: Stack, people: dict[str, Browser]
) -> None:
    own, release = stack.world.hospitals[0], version("accord")
    given = Delegation.from_bytes(stack.world.delegations[own.id].payload)
    listed = text_of(people["steward"], "/partners")
    assert own.name in listed and release in listed and "This registry's certificates" in listed
    page = text_of(people["steward"], f"/partners/{own.id}")
    for shown in (own.identity.public, given.node_key, given.valid_until[:10], release):
        assert shown in page
    assert "Authorities that it trusts" in text_of(people["auditor"], f"/partners/{own.id}")
    assert "Authorities that it trusts" not in page and "Shut it out" not in page
    assert "Invite a partner" not in listed


def test_a_coordinator_lets_in_and_shuts_out_on_a_page(
    stack: Stack, people: dict[str, Browser]
) -> None:
    coordinator, guest = people["coordinator"], make_actor("newcomers", "data-holder")
    assert (
        'data-api="POST /v1/invitations"' in coordinator.call("GET", "/partners", headers=HTML).text
    )
    code = stack.client(stack.world.coordinator).invite("data-holder", guest.name).code
    stack.join(guest, code, approve=False)
    assert f"/partners/{guest.id}" in coordinator.call("GET", "/", headers=HTML).text
    for step, body in (
        ("approve", None),
        ("suspend", {"reason": "Under enquiry."}),
        ("readmit", None),
    ):
        html = coordinator.call("GET", f"/partners/{guest.id}", headers=HTML).text
        assert f'data-api="POST /v1/partners/{guest.id}/{step}"' in html
        assert coordinator.call("POST", f"/v1/partners/{guest.id}/{step}", body).is_success
        told = text_of(people["owner"], f"/partners/{guest.id}")
        assert "Under enquiry" not in told and ("shut out" in told) == (step == "suspend")
    assert "Under enquiry" not in text_of(coordinator, f"/partners/{guest.id}")


def test_whether_a_run_would_be_allowed_is_asked_in_the_address(
    stack: Stack, people: dict[str, Browser]
) -> None:
    (task, *_), own = stack.world.agreement.tasks, stack.world.hospitals[0]
    page = f"/agreements/{stack.world.agreement_hash}/check"
    asks = f"{page}?task={task.task}&architecture={task.architectures[0]}&rounds=2&noise=4"
    fits = text_of(people["coordinator"], asks)
    assert "It would be allowed" in fits and own.name in fits
    refused = text_of(people["coordinator"], f"{asks}&rate=0.9")
    assert (
        "sampling-rate" in refused and "speak" in refused and "It would be allowed" not in refused
    )
    bare = text_of(people["coordinator"], f"{asks}&protection=none")
    assert "∞" in bare and "speak" in bare
    costs = text_of(people["steward"], asks)
    others = [actor.name for actor in stack.world.hospitals[1:]]
    table = costs[costs.index("What it would cost") : costs.index("The model would go to")]
    assert own.name in table and not [name for name in others if name in table]
    for wrong in ("&rate=often", "&rate=0", "&noise=", f"&dataset={own.dataset}"):
        assert "That is no run yet" in text_of(people["coordinator"], asks + wrong), wrong
    assert people["owner"].call("GET", f"{page}?rounds=x", headers=HTML).status_code == 422


@pytest.mark.parametrize("path", [*PAGES, *STRANGERS])
def test_nothing_comes_from_elsewhere_and_nothing_is_inline(
    stack: Stack, people: dict[str, Browser], path: str
) -> None:
    answer = people["coordinator"].call("GET", filled(stack, path), headers=HTML)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    for address in re.findall(r"(?:src|href|action|hx-get)=\"([^\"]*)\"", answer.text):
        assert address.startswith(("/", "#", "?")) or address == "", address
        assert not address.startswith("//"), address
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son[a-z]+=|javascript:", answer.text)


def test_whoever_is_not_signed_in_is_led_there_and_nowhere_else(stack: Stack) -> None:
    stranger = Browser(stack)
    for path in ("/", "/runs?next=//evil.example", "/budgets"):
        answer = stranger.call("GET", path, headers=HTML)
        (led,) = answer.history
        assert (led.status_code, led.headers["location"]) == (303, "/sign-in")
    within = stranger.call("GET", "/runs", headers={**HTML, "HX-Request": "true"})
    assert within.status_code == 204 and within.headers["hx-redirect"] == "/sign-in"
    assert stranger.call("GET", "/live").status_code == 401
    assert stranger.call("GET", "/runs").status_code == 401  # a program is told, not led


def test_what_is_not_there_is_said_in_a_page(people: dict[str, Browser]) -> None:
    missing = "/runs/01976f6e-0000-7000-8000-000000000000"
    answer = people["steward"].call("GET", missing, headers=HTML)
    assert answer.status_code == 404 and "unknown-run" in answer.text
    assert "<html" in answer.text


def test_hostile_names_stay_text(stack: Stack, people: dict[str, Browser]) -> None:
    client = stack.client(stack.world.coordinator)
    run = next(run.id for run in client.runs() if run.state == "awaiting-consent")
    client.log(run, "warning", "<img src=x onerror=alert(1)>")
    page = people["coordinator"].call("GET", f"/runs/{run}", headers=HTML).text
    assert "<img" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page


def test_datasets_are_found_by_the_address_and_shown_whole(
    stack: Stack, people: dict[str, Browser]
) -> None:
    own, other, silent = stack.world.hospitals
    for page, shown, hidden in (
        (f"/datasets?duo={RESEARCH}", (own, other), (silent,)),
        (f"/datasets?party={other.id}&column=radius&duo=", (other,), (own, silent)),
        ("/datasets?column=nothing", (), (own, other, silent)),
    ):
        text = people["steward"].call("GET", page, headers=HTML).text
        links = re.findall(r"/datasets/([0-9a-f-]{36})", text)
        assert set(links) == {actor.dataset for actor in shown}, page
        assert not set(links) & {actor.dataset for actor in hidden}
    answer = people["auditor"].call("GET", f"/datasets/{other.dataset}", headers=HTML)
    assert "<img" not in answer.text and "&lt;img" in answer.text
    text = text_of(people["auditor"], f"/datasets/{other.dataset}")
    assert "100-999" in text and "general research use" in text and "mm" in text
    assert "Quality profile" in text and re.search(r"0 70 %, 1 30 %", text)
    assert "no catalogue entry" in text_of(people["owner"], f"/datasets/{silent.dataset}")
    wrong = people["owner"].call("GET", "/datasets?after=x", headers=HTML)
    assert wrong.status_code == 422


def test_a_language_is_chosen_and_kept(people: dict[str, Browser]) -> None:
    browser = people["owner"]
    chosen = browser.call("GET", "/?language=zh-Hans", headers=HTML)
    assert '<html lang="zh-Hans">' in chosen.text
    cookie = chosen.headers["set-cookie"]
    assert "accord-language=zh-Hans" in cookie and "Secure" in cookie and "SameSite=lax" in cookie
    assert '<html lang="zh-Hans">' in browser.call("GET", "/runs", headers=HTML).text
    odd = browser.call("GET", "/?language=%22%3E%3Cscript%3E", headers=HTML)
    assert "<script>" not in odd.text and '<html lang="en">' in odd.text


def test_files_are_served_by_their_hash(people: dict[str, Browser]) -> None:
    page = people["steward"].call("GET", "/", headers=HTML).text
    for address in set(re.findall(r"/assets/[^\"#]+", page)):
        assert people["steward"].call("GET", address).status_code == 200
    assert Browser(people["steward"].stack).call("GET", "/assets/0/accord.css").status_code == 404
