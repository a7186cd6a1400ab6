"""A steward's day on the node's own page: sign, approve, watch, cap, pause, withdraw."""

from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from accord_client import halts
from accord_client.agreements import Agreements
from accord_common.home import Home
from accord_server.demo.federation import Federation
from tests import federations
from tests.web.chromium import launched
from tests.web.screens import LIGHTS, TONGUES, WIDTHS, require_fit, sit_down

_LONG_MS = 120_000.0  # other work shares the machine


def amended(federation: Federation) -> str:
    """Put the next version to every party; returns its hash."""
    home = federation.coordinator.home
    path = home / "next.yaml"
    federation.office("agreement", "amend", federation.agreement, "--output", path)
    terms: dict[str, Any] = yaml.safe_load(path.read_text())
    terms["retention_days"] += 1
    path.write_text(yaml.safe_dump(terms, sort_keys=False))
    federation.office("agreement", "draft", path, "--out", home / "next.json")
    proposed: str = federation.office("agreement", "propose", home / "next.json", "--yes")["hash"]
    return proposed


def walk(page: Page, origin: str, paths: list[str]) -> None:
    """Nothing is clipped on any page, in either language and look, however narrow."""
    for width in WIDTHS:
        for tongue in TONGUES:
            for light in LIGHTS:
                page.emulate_media(color_scheme="dark" if light == "dark" else "light")
                for path in paths:
                    answer = page.goto(f"{origin}{path}?language={tongue}")
                    assert answer is not None and answer.status == 200, path
                    require_fit(page, width)
    page.goto(f"{origin}/?language=en")


@pytest.mark.soak(sample=0, full=1)
def test_a_steward_decides_on_the_nodes_own_page(size: int) -> None:
    with federations.temporary(policy="ask") as federation, launched() as browser:
        node, others = federation.nodes[0], federation.nodes[1:]
        home = Home.open(node.home / "accord")
        told = federation.services.start(node, "steward", "--home", home.path)
        origin = told["link"].partition("/enter")[0]
        person = sit_down(browser, origin, "en")
        page = person.page
        page.set_default_timeout(_LONG_MS)
        expect.set_options(timeout=_LONG_MS)

        page.goto(told["link"])
        page.get_by_role("main").get_by_role("button", name="Come in").click()
        expect(page.get_by_text("Nothing waits for you")).to_be_visible()

        run = federation.start_run(federations.plan(federation, rounds=400))
        expect(page.get_by_text("1 decision waits for you")).to_be_visible()  # by itself
        waiting = page.get_by_role("region", name="What waits for your decision")
        waiting.get_by_role("link").first.click()
        expect(page.get_by_text("Your agreement and your budget allow this run")).to_be_visible()
        for other in others:
            federation.at(other, "approve", run, "--yes")
        page.get_by_role("button", name="Approve this run").click()
        expect(page.get_by_role("cell", name="accepted")).to_be_visible()
        page.goto(origin)
        expect(page.get_by_text("running").first).to_be_visible()

        (dataset,) = federation.at(node, "dataset", "list")
        page.goto(f"{origin}/budgets/{dataset['id']}")
        page.get_by_label("Most epsilon").fill("7")
        page.get_by_role("button", name="Set the cap").click()
        expect(page.get_by_text("of 7.00")).to_be_visible()
        assert federation.at(node, "budget", "cap", dataset["id"])["cap"]["epsilon"] == "7"

        coming = amended(federation)
        page.goto(f"{origin}/agreements/{coming}")
        page.get_by_label("The whole hash").fill(coming)
        page.get_by_label("Passphrase").fill("not the passphrase of this key")
        page.get_by_role("button", name="Sign with").click()
        expect(page.get_by_text("Nothing was signed", exact=False).first).to_be_visible()
        walked = ["/", "/decisions", "/budgets", f"/budgets/{dataset['id']}", "/sent"]
        walked += ["/agreements", f"/agreements/{federation.agreement}", f"/agreements/{coming}"]
        walk(page, origin, walked)
        page.goto(f"{origin}/agreements/{coming}")
        page.get_by_label("The whole hash").fill(coming)
        page.get_by_label("Passphrase").fill(node.passphrase)
        page.get_by_role("button", name="Sign with").click()
        expect(page.get_by_text("This is the copy that your institution signed")).to_be_visible()
        assert coming in Agreements.of(home).signed()

        at = f"{origin}/agreements/{federation.agreement}"
        page.goto(at)
        pause = page.locator("form[data-api$='/suspend']")
        pause.get_by_label("Reason").fill("an audit")
        pause.get_by_label("Passphrase").fill(node.passphrase)
        pause.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("Takes your institution's suspension back")).to_be_visible()
        updates = federations.follow(federation, run)
        end = updates[-1]
        assert end["state"] in ("stopped", "failed") and "suspended" in end["cause"], end
        resume = page.locator("form[data-api$='/resume']")
        resume.get_by_label("Passphrase").fill(node.passphrase)
        resume.get_by_role("button", name="Resume").click()
        expect(page.locator("form[data-api$='/suspend']")).to_be_visible()

        leave = page.locator("form[data-api$='/withdraw']")
        leave.get_by_label("Reason").fill("the study ended")
        leave.get_by_label("Passphrase").fill(node.passphrase)
        leave.get_by_label("End my institution's part").check()
        leave.get_by_role("button", name="Withdraw").click()
        expect(page.locator("form[data-api$='/withdraw']")).to_have_count(0)
        assert halts.withdrawn(Agreements.of(home), federation.agreement)
        shown = federation.office("agreement", "show", federation.agreement)
        assert shown["status"] == "withdrawn"

        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Come in")).to_be_visible()
        page.goto(origin)
        expect(page.get_by_role("button", name="Come in")).to_be_visible()
        refused = ("400: ", "401: ", "503: ")
        person.said = [line for line in person.said if not line.startswith(refused)]
        person.require_quiet()
