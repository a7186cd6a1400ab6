"""The auditor's pages: the log computed again, its entries, one record with its proof."""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.enrolment import ENROLMENT
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_common.log.checkpoint import sign_checkpoint
from accord_common.log.merkle import Node, node_hash
from accord_common.log.proof import RecordProof
from accord_common.web.looks import look
from accord_server.registry.changes import Changes
from accord_server.registry.db import Database
from accord_server.registry.faults import DatabaseFault
from accord_server.registry.log import watch as watching
from accord_server.registry.log.repository import kept
from accord_server.registry.log.watch import LogWatch, Standing
from accord_server.registry.records.append import _CHECKS
from accord_server.registry.records.verify_log import Verified, extend
from accord_server.registry.setup import initialise
from accord_server.registry.tables import RecordRow
from accord_server.registry.web.audit import KINDS
from tests.server.registry.persons import Browser, join
from tests.server.registry.stack import Stack, complete, opened, settings_in
from tests.server.registry.tables import execute
from tests.server.registry.test_pages import HTML, text_of, until
from tests.world import make_actor, make_world


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, quick_accounts: None
) -> Iterator[Stack]:
    """A registry with a completed run, and an auditor's office that is no party of it."""
    settings = settings_in(tmp_path_factory.mktemp("audit-pages") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    with opened(settings, invitation, make_world(log_key=settings.read_log_key())) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        keys = stack.offer()
        complete(stack, keys, stack.start(keys))
        stack.start(stack.offer(), title="Waiting run")
        yield stack


@pytest.fixture(scope="module")
def auditor(stack: Stack) -> Browser:
    office = make_actor("inspectors", "auditor")
    code = stack.client(stack.world.coordinator).invite("auditor", office.name).code
    stack.join(office, code)
    return join(stack, office, "auditor", "anna")


def test_home_says_to_where_the_log_was_verified(stack: Stack, auditor: Browser) -> None:
    size = stack.client(stack.world.coordinator).records()[-1].sequence
    until(lambda: f"Log verified to entry {size}" in text_of(auditor, "/"))
    assert f"核验至第 {size} 条" in text_of(auditor, "/", "zh-CN")


def test_an_auditor_of_no_party_sees_runs_that_go_on(auditor: Browser) -> None:
    assert "Waiting run" in text_of(auditor, "/")


def test_entries_are_filtered_and_paged_in_the_address(stack: Stack, auditor: Browser) -> None:
    whole = text_of(auditor, "/audit")
    assert "node's receipt" in whole
    consents = auditor.call("GET", "/audit?kind=consent", headers=HTML).text
    assert len(re.findall(r'href="/records/', consents)) >= 3
    rows = re.findall(r'data-label="Kind">([^<]*)<', consents)
    assert rows and set(rows) == {"consent"}
    run = stack.client(stack.world.coordinator).runs()[0].id
    of_run = auditor.call("GET", f"/audit?run={run}&before=15", headers=HTML).text
    assert "Newest entries" in of_run and f"run={run}" in of_run
    refused = auditor.call("GET", "/audit?kind=rumour", headers=HTML)
    assert refused.status_code == 422 and "<html" in refused.text


def test_a_record_is_shown_with_a_proof_that_was_just_computed(
    stack: Stack, auditor: Browser
) -> None:
    result = stack.client(stack.world.coordinator).records(kind="result")[0]
    page = text_of(auditor, f"/records/{result.hash}")
    assert "hashes lead from it to the root" in page and stack.world.aggregator.name in page
    file = auditor.call("GET", f"/v1/records/{result.hash}/proof")
    head, agreement = RecordProof.from_bytes(file.content).check()
    assert head.size >= result.sequence and agreement is not None
    line = auditor.call("GET", "/v1/log/checkpoint.jsonl").text
    assert json.loads(line)["payloadType"].endswith("checkpoint+json")


def test_a_steward_reads_no_record_of_others(stack: Stack) -> None:
    guest = make_actor("guest-clinic", "data-holder")
    stack.join(guest, stack.client(stack.world.coordinator).invite("data-holder", guest.name).code)
    steward = join(stack, guest, "steward", "gast")
    result = stack.client(stack.world.coordinator).records(kind="result")[0]
    answer = steward.call("GET", f"/records/{result.hash}", headers=HTML)
    assert answer.status_code == 404 and "unknown-record" in answer.text
    assert result.hash[:12] not in text_of(steward, "/audit")


def test_every_kind_of_record_can_be_asked_for_and_has_words() -> None:
    assert set(KINDS) == {*_CHECKS, ENROLMENT}
    assert not [kind for kind in KINDS if look(f"record-{kind}").words.startswith("record-")]


def sent(browser: Browser, data: bytes, trust: str = "") -> dict[str, Any]:
    """What the checker says of a file."""
    headers = {"Content-Type": "application/octet-stream"}
    answer = browser.send("/v1/log/check" + (f"?trust={trust}" if trust else ""), data, headers)
    found: dict[str, Any] = answer.json()
    return found


def test_a_file_of_evidence_is_checked_as_on_ones_own_machine(
    stack: Stack, auditor: Browser
) -> None:
    result = stack.client(stack.world.coordinator).records(kind="result")[0]
    line = auditor.call("GET", "/v1/log/checkpoint.jsonl").content
    assert (sent(auditor, line)["verdict"], sent(auditor, line)["kind"]) == (
        "verified",
        "checkpoint",
    )
    proof = auditor.call("GET", f"/v1/records/{result.hash}/proof").content
    assert sent(auditor, proof)["verdict"] == "verified"
    bundle = auditor.call("GET", f"/v1/bundles?run={result.run}").content
    found = sent(auditor, bundle, stack.world.agreement_hash)
    assert found["kind"] == "bundle" and found["records"] > 10
    # this run's result tells another epsilon than its attempts cost, and the checker says so
    assert found["verdict"] == "broken" and "epsilon" in " ".join(found["failures"])
    altered = proof.replace(b'"sequence":', b'"sequence":1')
    assert sent(auditor, altered)["failures"][0].startswith("[wrong-inclusion]")
    for junk in (b"", b"{}", b"junk" * 200, b'{"payload"'):
        told = sent(auditor, junk)
        assert told.get("code") == "bad-evidence" or told["verdict"] == "broken", junk


def test_another_logs_checkpoint_is_foreign_and_a_newer_one_of_this_log_a_rollback(
    stack: Stack, auditor: Browser
) -> None:
    moment = format_time(now())
    other = sign_checkpoint(SigningKey.generate(), 5, b"\1" * 32, moment)
    assert sent(auditor, other.to_bytes())["verdict"] == "foreign"
    for size, code in ((10**6, "log-rolled-back"), (5, "log-forked")):
        own = sign_checkpoint(stack.world.log_key, size, b"\1" * 32, moment)
        found = sent(auditor, own.to_bytes())
        assert found["verdict"] == "broken" and found["failures"][0].startswith(f"[{code}]")
    newest = auditor.call("GET", "/v1/log/checkpoint.jsonl").content
    for lines in (own.to_bytes() + b"\n" + newest, newest + own.to_bytes()):
        assert (
            "[log-forked]" in sent(auditor, lines)["failures"][0]
        )  # an earlier one kept is enough
    assert sent(auditor, newest + other.to_bytes())["verdict"] == "foreign"


def test_a_bundle_holds_what_its_reader_may_read_and_no_more(
    stack: Stack, auditor: Browser
) -> None:
    run = stack.client(stack.world.coordinator).runs()[0].id
    guest = make_actor("guest-lab", "data-holder")
    stack.join(guest, stack.client(stack.world.coordinator).invite("data-holder", guest.name).code)
    stranger = join(stack, guest, "steward", "gustav")
    assert stranger.call("GET", f"/v1/bundles?run={run}").status_code == 404
    assert auditor.call("GET", "/v1/bundles").json()["code"] == "no-subject"
    whole = auditor.call("GET", f"/v1/bundles?agreement={stack.world.agreement_hash}")
    assert whole.is_success and "attachment" in whole.headers["content-disposition"]


def standing_of(url: str) -> Standing:
    """What a process that begins to watch now finds."""

    async def find() -> Standing:
        database = Database(url)
        watch = LogWatch(database, Changes())
        try:
            while (found := watch.look(10**6)).at is None:
                await asyncio.sleep(0.01)
            return found
        finally:
            await watch.close()
            await database.close()

    return asyncio.run(find())


def test_a_changed_record_is_a_red_break(stack: Stack, auditor: Browser) -> None:
    """What is told is computed from the stored bytes: a changed one shows, whatever columns say."""
    result = stack.client(stack.world.coordinator).records(kind="result")[0]
    url = stack.settings.database
    execute(url, "DROP TRIGGER records_no_update")
    whole = result.envelope.to_bytes()
    other = whole.replace(b'"sig":"A', b'"sig":"B') if b'"sig":"A' in whole else None
    try:
        _put(url, result.hash, other or re.sub(rb'"sig":"[^A]', b'"sig":"A', whole))
        found = standing_of(url)
        assert (found.code, found.verified) == ("damaged-record", result.sequence - 1)
        assert f"record {result.sequence}" in found.message
        stack.app.state.registry.watch._begun = None  # an hour later
        until(lambda: "The log does not hold" in text_of(auditor, "/"))
        assert "日志不成立" in text_of(auditor, "/", "zh-CN")
    finally:
        _put(url, result.hash, whole)


def test_what_was_not_verified_for_a_fault_is_not_told_as_verified(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = stack.settings.database
    faults = [DatabaseFault("database-busy", "another has it")]
    peak = stack.client(stack.world.coordinator).records()[:2]
    whole = node_hash(*(bytes.fromhex(record.leaf) for record in peak)).hex()
    change = "UPDATE log_nodes SET hash = '{}' WHERE level = 1 AND number = 0"

    async def failing(session: AsyncSession, wanted: Sequence[Node]) -> dict[Node, bytes]:
        if faults:
            raise faults.pop()
        return await kept(session, wanted)

    monkeypatch.setattr("accord_server.registry.records.verify_log.kept", failing)
    execute(url, change.format("0" * 64))
    try:
        assert standing_of(url).code == "damaged-log" and faults == []
    finally:
        execute(url, change.format(whole))
        assert standing_of(url).code == ""


def _put(url: str, name: str, envelope: bytes) -> None:
    async def work() -> None:
        database = Database(url)
        async with database.write() as session:
            await session.execute(
                update(RecordRow).where(RecordRow.hash == name).values(envelope=envelope)
            )
        await database.close()

    asyncio.run(work())


def test_it_begins_anew_once_an_hour(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    size = stack.client(stack.world.coordinator).records()[-1].sequence
    start, begun = now(), 0

    async def counted(session: AsyncSession, found: Verified, limit: int) -> bool:
        nonlocal begun
        begun += found.records == 0
        return await extend(session, found, limit)

    async def find() -> None:
        database = Database(stack.settings.database)
        watch = LogWatch(database, Changes())
        for minutes, times in ((0, 1), (59, 1), (61, 2)):
            moment = start + timedelta(minutes=minutes)
            monkeypatch.setattr(watching, "now", lambda moment=moment: moment)
            while watch.look(size).going:
                await asyncio.sleep(0.01)
            assert begun == times, minutes
        await watch.close()
        await database.close()

    monkeypatch.setattr(watching, "extend", counted)
    asyncio.run(find())
