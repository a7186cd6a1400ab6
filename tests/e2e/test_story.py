"""Three hospitals, from the first invitation to an auditor's verdict, each word as people read it.

One federation, in order: every test goes on where the one before ended. The institutions are
`Site 0` to `Site 2`; the third withdraws in mid-run, the first gets new keys, and the two that are
left go on. At the end an auditor takes everything away and checks it where nothing else is.
"""

import os
import re
import signal
from collections.abc import Iterator

import pytest
import yaml

from accord_client.lock import running_pid
from accord_common.home import Home
from accord_server.demo.federation import COUNTRY, Federation, Share
from accord_server.demo.processes import Actor, Services
from tests.chaos.ordering import until
from tests.client.cli.test_federation import queued
from tests.e2e.telling import Story
from tests.e2e.terminal import Said, say
from tests.e2e.vault import Vault, flipped, line_of, lines_of, record_of
from tests.federations import SIZE, synthetic_schema, synthetic_table
from tests.recording.knowing import entries

pytestmark = pytest.mark.soak(sample=0, full=1)

PASSWORD = "plum harbour kettle 94"
BLANKS = {
    "<name of the study>": "Tumours of the breast",
    "<committee and number>": "ethics committee of the University, 17/2026",
    "<name and address>": "University, Main Street 1",
    "<hospital 1>": "Site 0",
    "<hospital 2>": "Site 1",
    "<hospital 3>": "Site 2",
    "<dataset>": "tumours",
    "<what the model is to tell>": "tell malignant from benign",
    "# auditors: [<auditor>]": "auditors: [Inspectorate]",
}
BUNDLES = ("all.accord", "run.accord")
LONG = {"rounds": 900, "spare_attempts": 0, "noise_multiplier": "60"}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    (folder / "logs").mkdir()
    shares = [Share(f"Site {index}", synthetic_table(index), SIZE) for index in range(3)]
    with Services(folder / "logs") as services:
        federation = Federation(folder / "parties", services, shares, synthetic_schema())
        home = folder / "parties" / "inspectorate"
        home.mkdir(mode=0o700)
        auditor = Actor("Inspectorate", "accord", home, passphrase="seven quiet inspectors")
        yield Story(federation, auditor, home / "reading", Vault(folder / "vault"))


def test_every_party_joins_by_a_one_time_invitation(story: Story) -> None:
    federation = story.federation
    federation.found()  # the certificate authority, the registry, the coordinator
    federation.certificate(federation.aggregator, "aggregator")
    parties: list[tuple[Actor, str, str, tuple[str, ...]]] = [
        *((site, "data-holder", "accord-node", ()) for site in story.sites),
        (federation.aggregator, "aggregator", "accord aggregator", ("aggregator",)),
        (story.inspectorate, "auditor", "accord", ()),
    ]
    for actor, role, words, verb in parties:
        invited = story.office("partner", "invite", "--role", role, "--name", actor.name).ok()
        assert f"The invitee runs: {words} enroll INVITATION" in invited
        invitation = invited.split()[0]
        named = ("--role", "auditor") if role == "auditor" else ()
        say(actor, *verb, "init", "--name", actor.name, "--jurisdiction", COUNTRY, *named).ok()
        joined = say(actor, *verb, "enroll", invitation).ok()
        key = Home.open(actor.home / "accord").profile.identity_key
        assert key in joined and "by phone" in joined
        shown = story.office("partner", "show", actor.name).ok()
        assert f"{actor.name}, {role}, pending" in shown and key in shown
        approved = story.office("partner", "approve", actor.name).ok()
        assert f"{actor.name}, {role}, approved" in approved
    again = say(story.inspectorate, "enroll", invitation)
    assert again.code == 3, again
    for site, share in zip(story.sites, federation.shares, strict=True):
        (site.home / "tumours.csv").write_text(share.table)
        (site.home / "tumours.yaml").write_text(federation.schema)
        added = say(
            site, "dataset", "add", site.home / "tumours.csv", "--name", "tumours",
            "--schema", site.home / "tumours.yaml", "--size", SIZE, "--validation", "0.2",
        ).ok()  # fmt: skip
        assert "Registered tumours: 120 rows" in added and "runs: ask" in added
    listed = story.office("partner", "list").ok()
    assert all(actor.name in listed for actor, *_ in parties) and "pending" not in listed


def test_the_agreement_is_written_from_a_template_read_and_signed(story: Story) -> None:
    terms = story.terms("terms.yaml")
    told = story.office("agreement", "new", "--template", "clinical", "-o", terms).ok()
    assert "Fill in every <...>" in told
    blank = story.office("agreement", "draft", terms, "-o", terms.with_suffix(".json"))
    assert blank.code == 2 and "a template's blank" in blank.err
    text = terms.read_text()
    for mark, words in BLANKS.items():
        text = text.replace(mark, words)
    terms.write_text(text)
    drafted = story.draft(terms)
    assert "Tumours of the breast, version 1" in drafted
    assert "may spend at most epsilon 3 at delta 0.000001" in drafted
    version = story.propose(terms)
    for site in story.sites:
        listed = say(site, "agreement", "list").ok()
        assert version in listed and "proposed" in listed
        shown = say(site, "agreement", "show", version[:12]).ok()
        assert f"What a signature of {site.name} allows" in shown
        assert "guesses right at most 95.3 times in 100" in shown
        assert "How to get out" in shown
        assert shown.rstrip().endswith(f"SHA-256 {version}")
    part = say(story.sites[0], "agreement", "sign", version[:12], "--yes")
    assert part.code == 2 and "[hash-incomplete]" in part.err, part
    story.sign(version, story.federation.aggregator, story.inspectorate, *story.sites)
    shown = story.office("agreement", "show", version[:8]).ok()
    assert "Tumours of the breast, version 1: active" in shown and "missing" not in shown
    story.federation.start()


def test_a_run_goes_to_its_end_under_masks_and_privacy(story: Story) -> None:
    planned = story.office("run", "plan", story.plan()).ok()
    assert "Allowed by the agreement; each node decides for itself." in planned
    run = story.start()
    for site in story.sites:
        told = say(site, "approve", run, "--yes")
        assert f"Run {run} is approved." in told.ok() and "epsilon" in told.err
    end = story.ended(run)
    assert (end["state"], end["rounds"]) == ("completed", 3), end
    shown = story.office("run", "show", run).ok()
    assert "verified  agreement, manifest, offer and delegations, receipts and result" in shown
    epsilon = re.findall(r"^Site \d +accept +yes +(0\.\d+)$", shown, re.MULTILINE)
    assert len(epsilon) == 3 and set(epsilon) == {"0.2149"}
    for site in story.sites:
        assert re.search(r"^tumours .* 3 +0\.000001 +add-remove +3$", story.budget(site), re.M)
        sent = say(site, "outbox", "list", "--last", "0").ok()
        lines = [line.split() for line in sent.splitlines() if run in line]
        for kind in ("upload", "node-receipt"):  # what was not answered in time leaves once more
            assert len({(line[6], line[7]) for line in lines if line[2] == kind}) == 3, lines


def test_a_steward_scores_the_model_and_nothing_leaves(story: Story) -> None:
    site, run = story.sites[0], story.runs[0]
    before = story.known_of(site)
    told = say(site, "evaluate", run, "--dataset", "tumours").ok()
    assert f"of run {run}, verified" in told and re.search(r"^auc +0\.\d{4} +\[", told, re.M)
    assert "Nothing left and nothing was charged" in told
    assert story.known_of(site) == before


def test_an_amendment_is_read_as_what_changed_and_signed_by_all(story: Story) -> None:
    first, terms = story.versions[0], story.terms("next.yaml")
    assert "Edit it" in story.office("agreement", "amend", first[:12], "-o", terms).ok()
    text = terms.read_text()
    terms.write_text(text.replace("max_rounds: 50", "max_rounds: 1000"))
    wider = "! most rounds of tabular-binary: 50 -> 1000 (wider)"
    assert wider in story.draft(terms)
    second = story.propose(terms)
    leaver = story.sites[2]
    story.sign(second, story.federation.aggregator, story.inspectorate, *story.sites[:2])
    waiting = story.office("agreement", "show", second[:12]).ok()
    assert "version 2: proposed" in waiting and "missing Site 2" in waiting
    assert "active" in story.listed(first)
    assert wider in say(leaver, "agreement", "show", second[:12]).ok()
    story.sign(second, leaver)
    assert "superseded" in story.listed(first) and "active" in story.listed(second)
    for site in story.sites:  # from now on the checks alone decide
        say(site, "dataset", "update", "tumours", "--policy", "auto-within-agreement").ok()
    old = story.office("run", "start", story.plan(agreement=first))
    assert old.code == 1 and "[not-active]" in old.err and "is superseded" in old.err
    assert story.ended(story.start())["state"] == "completed"


def test_a_withdrawal_stops_the_run_within_a_round_and_says_whose(story: Story) -> None:
    version, leaver = story.versions[-1], story.sites[2]
    run = story.start(**LONG)
    until(lambda: story.round(run) >= 3, "three rounds")
    because = ("--reason", "our board decided so", "--yes")
    told = say(leaver, "agreement", "withdraw", version[:12], *because)
    charged = [len(entries(site)) for site in story.sites]
    assert "is withdrawn by this institution" in told.ok() and "Every party is told." in told.out
    assert "Runs under way here: tabular-binary" in told.err
    end = story.ended(run)
    # By the registry's word, or by nodes that heard before the aggregator.
    assert end["state"] in {"stopped", "failed"} and "Site 2" in end["cause"], end
    assert "withdr" in end["cause"] and end["rounds"] < LONG["rounds"]
    after = [len(entries(site)) for site in story.sites]
    assert all(now <= then + 1 for then, now in zip(charged, after, strict=True)), (charged, after)
    assert end["cause"] in story.office("run", "show", run).ok().replace("\n", " ")
    shown = story.office("agreement", "show", version[:12]).ok()
    assert "version 2: withdrawn" in shown
    assert re.search(r"halted +Site 2 withdrew, .*: our board decided so", shown)
    none = story.office("run", "start", story.plan())
    assert none.code == 1 and "[not-active]" in none.err and "is withdrawn" in none.err


def test_a_node_gets_new_keys(story: Story) -> None:
    site = story.sites[0]
    until(lambda: queued(site) == 0, "its receipts to be at the registry")
    busy = say(site, "renew", "--rotate-key")
    assert busy.code == 1 and "[already-running]" in busy.err
    os.kill(story.federation.services.pid(site), signal.SIGTERM)
    until(lambda: running_pid(site.home / "accord") is None, "the node to end")
    before = Home.open(site.home / "accord").node_key().public
    told = say(site, "renew", "--rotate-key").ok()
    assert "The old ones are refused from now on." in told
    assert Home.open(site.home / "accord").node_key().public != before
    story.federation.start_node(site)
    assert "entries and 0 of the steward's rules hold." in say(site, "budget", "verify").ok()


def test_those_who_remain_go_on_with_the_new_key(story: Story) -> None:
    terms, remaining = story.terms("last.yaml"), story.sites[:2]
    told = story.office("agreement", "amend", story.versions[-1][:12], "-o", terms).ok()
    assert "A party withdrew: these are terms of a new agreement" in told
    value = yaml.safe_load(terms.read_text())
    value["datasets"] = [item for item in value["datasets"] if item["owner"] != "Site 2"]
    value["recipients"] = [site.name for site in remaining]
    value["aggregation"] = {"min_cohort": 2}
    terms.write_text(yaml.safe_dump(value, sort_keys=False))
    assert "each learns the other's noisy update" in story.draft(terms)
    version = story.propose(terms)
    story.sign(version, story.federation.aggregator, story.inspectorate, *remaining)
    assert "active" in story.listed(version)
    assert story.ended(story.start())["state"] == "completed"
    # Both agreements' charges count: a population has one budget, whoever it agrees with.
    assert re.search(r"^tumours .* add-remove +\d{2,}$", story.budget(remaining[0]), re.M)


def test_the_auditor_finds_what_does_not_agree_and_what_was_spent(story: Story) -> None:
    reading, machine = story.reading, story.inspectorate
    password = machine.home / "password"
    password.write_text(PASSWORD + "\n")
    invited = say(
        machine, "people", "invite", "ada@example.org", "--name", "Ada L.", "--role", "auditor"
    ).ok()
    code = re.search(r"accord people accept (\S+)", invited)
    assert code is not None, invited
    say(machine, "people", "accept", code[1], "--password-file", password).ok()
    made = say(
        machine, "token", "create", "ada@example.org", "--name", "laptop", "--scope", "read",
        "--password-file", password, "--folder", reading,
    ).ok()  # fmt: skip
    assert "it holds no key" in made
    found = say(machine, "audit", "exceptions", "--home", reading).ok()
    lines = [line for line in found.splitlines()[1:] if line.strip()]
    assert len(lines) == 1 and "key-changed" in lines[0] and "Site 0" in lines[0], found
    spent = say(machine, "budget", "show", "--by", "institution", "--home", reading).ok()
    assert all(site.name in spent for site in story.sites)
    for run in (story.runs[0], story.runs[-1]):
        priced = say(machine, "budget", "recompute", run, "--home", reading)
        assert priced.code == 0, priced


def test_the_bundle_is_verified_where_nothing_else_is(story: Story) -> None:
    machine, first, last = story.inspectorate, story.versions[1], story.versions[2]
    whole, one = (machine.home / name for name in BUNDLES)
    told = say(machine, "audit", "bundle", "--all", "-o", whole, "--home", story.reading).ok()
    assert "accord audit verify" in told
    say(machine, "audit", "bundle", story.runs[0], "-o", one, "--home", story.reading).ok()
    trust = ("--trust", first, "--trust", last)

    story.vault.put("evidence.accord", whole.read_bytes())
    verdict = story.vault.accord("audit", "verify", "evidence.accord", *trust)
    assert verdict.code == 0 and verdict.out.rstrip().endswith("\nauthenticated"), verdict
    for run, status in zip(story.runs, ("completed", "completed", None, "completed"), strict=True):
        assert f"run {run}: {status or ''}" in verdict.out
    assert verdict.out.count("epsilon computed again from the signed events: as signed") == 4
    alone = story.vault.accord("audit", "verify", "evidence.accord")
    assert alone.code == 5 and alone.out.rstrip().endswith("consistent, not authenticated")
    assert "[not-authenticated]" in alone.err
    some = story.vault.accord("audit", "verify", "evidence.accord", "--trust", first)
    assert some.code == 5 and last in some.out, "the last agreement was named by nobody"
    story.vault.put("evidence.accord", one.read_bytes())
    verdict = story.vault.accord("audit", "verify", "evidence.accord", "--trust", story.versions[0])
    assert verdict.code == 0 and "completed, 3 rounds, 9 node receipts" in verdict.out, verdict


def test_a_flipped_bit_is_named_wherever_it_is(story: Story) -> None:
    whole, one = (story.inspectorate.home / name for name in BUNDLES)
    kinds = (
        "enrolment", "delegation", "agreement", "withdrawal", "manifest", "consent",
        "node-receipt", "aggregator-receipt", "result",
    )  # fmt: skip
    places = ('"payload":"', '"sig":"', '"leaf":"')
    for kind, mark in zip(kinds, 3 * places, strict=True):
        data = whole.read_bytes()
        line = line_of(data, kind)
        story.vault.put("evidence.accord", flipped(data, line, mark))
        named_in(story.vault.accord("audit", "verify", "evidence.accord"), record_of(line))
    data = one.read_bytes()
    line = line_of(data, "consent")
    story.vault.put("evidence.accord", flipped(data, line, '"proof":["'))
    named_in(story.vault.accord("audit", "verify", "evidence.accord"), record_of(line))
    joint = lines_of(data, "consistency.jsonl")[0]
    story.vault.put("evidence.accord", flipped(data, joint, '"proof":["'))
    told = story.vault.accord("audit", "verify", "evidence.accord")
    assert told.code == 5 and "[log-forked]" in told.err and "signed in record" in told.err, told
    head = lines_of(data, "checkpoints.jsonl")[0]
    story.vault.put("evidence.accord", flipped(data, head, '"sig":"'))
    told = story.vault.accord("audit", "verify", "evidence.accord")
    assert told.code == 5 and "checkpoint" in told.err, told


def named_in(told: Said, record: int) -> None:
    """The verdict names a record; or, where its line is none any more, the one before it."""
    assert told.code == 5, told
    assert f"record {record}, " in told.err or f"behind record {record - 1}" in told.err, told
