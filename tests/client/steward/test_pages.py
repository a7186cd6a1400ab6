"""What the pages show, in both languages, from the node's own files."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import get_args

import pytest

from accord_client import halts, outbox
from accord_client.agreements import Agreements
from accord_client.balances import balances
from accord_client.consent import spend_for
from accord_client.deciding import caps_of
from accord_client.leaving import statement_of
from accord_client.ledger_store import broken
from accord_client.steward import door
from accord_client.steward.app import PAGES
from accord_client.steward.board import Board
from accord_client.steward.funds import funds
from accord_client.steward.home import SILENT_S, read_home
from accord_client.steward.live import BEAT_S
from accord_client.steward.proofs import Proofs
from accord_client.steward.sent import KINDS, RECEIVERS
from accord_common.canonical import sha256_hex
from accord_common.fields import format_time, new_id, now, parse_time
from accord_common.manifest import RunManifest
from accord_common.permissions import guessed_right
from accord_common.privacy.pace import WINDOW
from tests.client.institutions import PASSPHRASE, Institutions
from tests.client.steward.conftest import Site, Visitor, served


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture(scope="module")
def run(three: Institutions, site: Site) -> str:
    """A run that was accepted and charged for twice, beside one that waits; the first one's id."""

    def alone(population: str) -> list[str]:
        return [population]

    with three.open(three.parties[0]) as stores:
        accepted = three.accept(stores, three.manifest())
        known = stores.state.run(accepted)
        assert known is not None
        stores.state.follow(accepted, "running", now())
        manifest = RunManifest.from_bytes(stores.state.record(known.manifest).payload)
        terms = three.world.agreement
        caps = caps_of(three.world.agreement_envelope, manifest.site(stores.party).dataset, alone)
        for round_ in range(2):
            spend = spend_for(
                terms, manifest, known.manifest, stores.party, round_=round_, attempt=0
            )
            stores.state.begin(accepted, round_, 0)
            stores.ledger.charge(spend, caps, now)
        stores.outbox.append("upload", "aggregator", sha256_hex(b"update"), 2048)
        stores.state.ask(new_id(), "a" * 64, "Second run", "elsewhere", now())
    site.node.proofs.once()
    return accepted


def filled(three: Institutions, path: str) -> str:
    with three.open(three.parties[0]) as stores:
        dataset = stores.datasets.all()[0].id
    return path.format(hash=three.world.agreement_hash, dataset=dataset, run="x")


LOCAL = sorted(path for path in PAGES if "{run}" not in path)  # that page asks the registry


@pytest.mark.parametrize("path", LOCAL)
def test_each_page_is_shown_in_each_language(
    three: Institutions, visitor: Visitor, run: str, path: str
) -> None:
    english = visitor.read(filled(three, path))
    chinese = visitor.read(filled(three, path), "zh-CN")
    assert "Skip to the content" in english and "跳到正文" in chinese
    assert '<html lang="zh-Hans">' in chinese
    for address in re.findall(r"(?:src|href|action|hx-get)=\"([^\"]*)\"", english):
        assert address.startswith(("/", "#", "?")) or address == "", address
        assert not address.startswith("//"), address
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son[a-z]+=|javascript:", english)


def test_home_says_what_waits_runs_is_left_and_went(
    three: Institutions, visitor: Visitor, run: str
) -> None:
    page = visitor.read("/")
    home = text_of(page)
    name = three.homes[three.parties[0]].profile.name
    assert name in home and "1 decision waits for you" in home and "Second run" in home
    assert re.search(r"First run \S+ .*running.* 2 / 3", home)
    with three.open(three.parties[0]) as stores:
        (balance,) = balances(stores, stores.datasets.all())
    assert balance.spent > 0 and balance.reserved > 0
    assert f"at most {guessed_right(balance.spent)} times in 100" in home
    assert f"at most {guessed_right(3.0)} times" in home  # at the cap
    assert re.search(r"Used up by about .* \d{4}-\d\d-\d\d in ", home)
    assert "masked update of the model" in home and "2.0 KiB" in home
    assert sha256_hex(b"update") in page  # of the newest that left
    assert "accord-node start --home" in home  # no daemon holds the folder
    assert "2 lines, each signed and in its place" in home  # of the ledger
    assert "needs attention" in home


def test_the_budget_is_the_ledgers_and_the_hash_the_outboxs(
    three: Institutions, visitor: Visitor, run: str
) -> None:
    budget = visitor.read(filled(three, "/budgets/{dataset}"))
    assert text_of(budget).count(" attempt ") == 0 and "Epsilon after it" in budget
    rows = re.findall(r'data-label="Entry">(\d+)<', budget)
    assert rows == ["2", "1"]
    sent = visitor.read("/sent?kind=upload")
    assert sha256_hex(b"update") in sent
    assert sha256_hex(b"update") not in visitor.read("/sent?kind=consent")
    assert visitor.http.get("/sent?before=x").status_code == 400


def test_everything_that_can_leave_has_words_and_is_shown(
    three: Institutions, site: Site, visitor: Visitor
) -> None:
    assert sorted(KINDS) == sorted(get_args(outbox.Kind))
    assert sorted(RECEIVERS) == sorted(get_args(outbox.Receiver))
    with three.open(three.parties[0]) as stores:
        for kind in KINDS:
            stores.outbox.append(kind, "registry", sha256_hex(kind.encode()), 1)
    for path in ("/", "/sent"):
        page = text_of(visitor.read(path))
        assert all(words in page for words in KINDS.values())
        lines, sums = site.node.sent.read()
        assert f"in all {len(lines)} " in page and len(sums) == len(KINDS)


def test_a_ledger_that_does_not_hold_is_red(
    three: Institutions,
    site: Site,
    visitor: Visitor,
    run: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> str:
        raise broken(site.node.path, "entry 1: bad signature")

    with monkeypatch.context() as patch:
        patch.setattr("accord_client.ledger.walk", fails)
        site.node.proofs.once()
    assert "entry 1: bad signature" in text_of(visitor.read("/budgets"))
    with three.open(three.parties[0]) as stores:
        found = read_home(stores, Board(), site.node.proofs.found.value, now())
    health = replace(found.health, pid=1, silent=False, short_of_disk=False)
    assert not health.well and replace(health, proofs=Proofs()).well
    site.node.proofs.once()
    assert "entry 1: bad signature" not in text_of(visitor.read("/budgets"))


def test_a_name_is_escaped_wherever_it_stands(
    three: Institutions, visitor: Visitor, run: str
) -> None:
    with three.open(three.parties[0]) as stores:
        evil = new_id()
        stores.state.ask(evil, "b" * 64, "<script>alert(1)</script>", "x", now())
        try:
            for path in ("/", "/decisions"):
                page = visitor.read(path)
                assert "<script>alert" not in page and "&lt;script&gt;alert" in page
        finally:
            stores.state.disown(evil, "not-ours", "", now())


@pytest.mark.parametrize("path", [*LOCAL, "/decisions/x", "/nowhere"])
def test_whoever_is_not_signed_in_sees_nothing(three: Institutions, site: Site, path: str) -> None:
    stranger = site.stranger().http
    answer = stranger.get(filled(three, path))
    if path == "/nowhere":
        assert answer.status_code == 404
    else:
        assert (answer.status_code, answer.headers["location"]) == (303, "/enter")
    assert three.homes[three.parties[0]].profile.name not in answer.text
    within = stranger.get(filled(three, path), headers={"HX-Request": "true"})
    assert path == "/nowhere" or within.headers["hx-redirect"] == "/enter"
    assert stranger.get("/live").status_code in (303, 401)


def test_a_page_that_asks_for_itself_again_keeps_no_session_open(
    site: Site, visitor: Visitor
) -> None:
    again = {"HX-Request": "true"}
    site.clock.now += door.IDLE_S - 1
    assert visitor.http.get("/", headers=again).status_code == 200
    site.clock.now += 2
    assert visitor.http.get("/", headers=again).status_code == 204  # and to the door
    assert visitor.http.get("/").status_code == 303


def test_every_answer_carries_the_headers(visitor: Visitor, site: Site) -> None:
    asset = re.search(r'href="(/assets/[^"]+accord\.css)"', visitor.read("/"))
    assert asset is not None
    for path in ("/", "/enter", "/nowhere", "/decisions/x", asset[1], "/live?once"):
        with visitor.http.stream("GET", path) as answer:
            assert answer.headers["x-frame-options"] == "DENY"
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store" or path == asset[1]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@contextmanager
def listening(visitor: Visitor) -> Iterator[Iterator[str]]:
    with visitor.http.stream("GET", "/live", timeout=4 * BEAT_S) as answer:
        yield (line for line in answer.iter_lines() if line.startswith("event:"))


def test_a_page_learns_of_what_another_process_did(
    three: Institutions, site: Site, run: str
) -> None:
    visitor = site.visitor()
    with listening(visitor) as events:
        assert next(events) == "event: beat"
        with three.open(three.parties[0]) as stores:
            stores.state.put("registry-seen", format_time(now() - timedelta(seconds=SILENT_S + 9)))
        assert next(events) == "event: changed"
        assert "silent" in text_of(visitor.read("/"))
        site.node.door.leave()
        with pytest.raises(StopIteration):
            next(events)


def test_a_pause_is_shown_with_who_said_so_and_why(three: Institutions, visitor: Visitor) -> None:
    party = three.parties[0]
    with three.open(party) as stores:
        known, own = three.world.agreement_hash, stores.agreements
        key = three.actor(party).identity
        halts.say(own, statement_of(own, known, "suspend", "an <audit>"), key)
        home = text_of(visitor.read("/"))
        assert f"{stores.home.profile.name}: an <audit>" in home and "suspended" in home
        one = visitor.read(f"/agreements/{known}")
        assert "/resume" in one and "/suspend" not in one
        halts.say(own, statement_of(own, known, "resume", ""), key)
    assert "/suspend" in visitor.read(f"/agreements/{known}")


def test_the_pace_names_a_day_only_where_something_is_spent(three: Institutions, run: str) -> None:
    with three.open(three.parties[0]) as stores:
        (balance,) = balances(stores, stores.datasets.all())
        group = stores.ledger.group(balance.dataset.population)
        first = stores.ledger.first(group)
        assert first is not None and stores.ledger.newest(group, 1)[0].sequence == 1
        begun, moment = parse_time(first.recorded), now()
        assert stores.ledger.tally_before(group, moment + timedelta(hours=1)) == balance.before
        assert stores.ledger.tally_before(group, moment - WINDOW).empty
        (found,) = funds(stores, moment)
        assert found.tightest is not None
        today = found.tightest.pace
        later = moment + WINDOW + timedelta(days=1)
        (idle,) = funds(stores, later)
        assert idle.tightest is not None
    assert begun <= moment
    assert today.per_day == pytest.approx(balance.spent)  # less than a day counts as one
    assert today.out is not None
    assert (today.out - moment) / timedelta(days=1) == pytest.approx(balance.left / balance.spent)
    assert (idle.tightest.pace.per_day, idle.tightest.pace.out) == (0.0, None)


def test_without_the_registry_the_own_files_are_shown_and_a_pause_still_holds(
    three: Institutions,
) -> None:
    home = three.homes[three.parties[1]]
    with served(home) as site:
        steward = site.visitor()
        site.node.board.once()
        assert "The registry does not answer" in steward.read(
            "/"
        ) and "not-enrolled" in steward.read("/")
        at = f"/agreements/{three.world.agreement_hash}"
        said = steward.post(f"{at}/suspend", passphrase=PASSPHRASE, reason="an audit")
        assert said.status_code == 204
        own = Agreements.of(home)
        assert halts.state(own, three.world.agreement_hash) == "suspended"
        assert len(halts.waiting(own)) == 1
        assert steward.http.get("/decisions/0192f0c1").status_code == 400
        answer = steward.post("/runs/x/approve", manifest="0" * 64)
        assert answer.json()["code"] == "not-enrolled"
