"""What an auditor takes from a registry, and what the file alone tells."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from accord_common.api.notebooks import Client
from accord_common.chain import fetch_run
from accord_common.costs import spent
from accord_common.envelope import Envelope, pae, sign
from accord_common.errors import FormatError
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_common.log.audit import audit
from accord_common.log.bundle import About, Entry, Reader, Writer
from accord_common.log.checkpoint import Head, sign_checkpoint, verify_checkpoint
from accord_common.log.collect import collect_agreement, collect_all, collect_run
from accord_common.log.merkle import leaf_hash
from accord_common.log.proof import RecordProof, prove
from accord_common.log.tree import Grown
from accord_common.receipts import NODE_RECEIPT, RESULT, NodeReceipt, RunResult
from accord_server.registry.setup import initialise
from tests.server.cli.office import accord
from tests.server.registry.audited import ENTRIES, finish, verdict_of
from tests.server.registry.stack import Stack, complete, opened, run_id, settings_in
from tests.server.registry.test_agreements import verified
from tests.world import make_actor, make_world


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Stack]:
    """A registry with one completed run, whose nodes had seen the log before they consented."""
    settings = settings_in(tmp_path_factory.mktemp("audited") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    world = make_world(log_key=settings.read_log_key())
    with opened(settings, invitation, world) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        seen = Head.of(stack.client(world.coordinator).tree.checkpoint())
        stack.offer()
        finish(stack, seen)
        yield stack


@pytest.fixture
def whole(audited: Stack, tmp_path: Path) -> Path:
    path = tmp_path / "all.accord"
    collect_all(audited.client(audited.world.coordinator), path)
    return path


def codes(path: Path, *trust: str, kept: tuple[Envelope, ...] = ()) -> dict[str, str]:
    """Code and place of each failure."""
    return {item.code: item.place for item in verdict_of(path, *trust, kept=kept).failures}


def test_a_bundle_of_anything_is_verified_by_itself(audited: Stack, tmp_path: Path) -> None:
    client, world = audited.client(audited.world.coordinator), audited.world
    (run,) = client.runs()
    counts = {
        "all": collect_all(client, tmp_path / "all"),
        "run": collect_run(client, run.id, tmp_path / "run"),
        "agreement": collect_agreement(client, world.agreement_hash, tmp_path / "agreement"),
    }
    assert counts["all"] == len(client.records())
    assert counts["run"] == counts["agreement"] == counts["all"] - 1  # an offer that nobody took
    for scope in counts:
        trusting = verdict_of(tmp_path / scope, world.agreement_hash)
        assert (trusting.failures, trusting.authenticated) == ([], True)
        assert [facts.run for facts in trusting.runs] == [run.id]
        assert trusting.checkpoints >= 2, "the nodes' head was compared with the newest"
        without = verdict_of(tmp_path / scope)
        assert (without.consistent, without.authenticated) == (True, False)
        other = verdict_of(tmp_path / scope, "ab" * 32)
        assert (other.consistent, other.authenticated) == (True, False)
        again = tmp_path / "again"
        _collect(scope, client, run.id, world.agreement_hash, again)
        assert again.read_bytes() == (tmp_path / scope).read_bytes()


def _collect(scope: str, client: object, run: str, agreement: str, path: Path) -> None:
    by_scope: dict[str, Callable[..., int]] = {"run": collect_run, "agreement": collect_agreement}
    subject = {"run": [run], "agreement": [agreement]}.get(scope, [])
    by_scope.get(scope, collect_all)(client, *subject, path)


def test_the_verb_says_what_it_is_worth(audited: Stack, whole: Path) -> None:
    trusted = accord("audit", "verify", whole, "--trust", audited.world.agreement_hash)
    assert (trusted.code, trusted.err) == (0, "")
    assert trusted.out.rstrip().endswith("\nauthenticated")
    assert "completed, 2 rounds, 9 node receipts" in trusted.out
    assert "epsilon computed again from the signed events: as signed" in trusted.out
    alone = accord("audit", "verify", whole, "--format", "json")
    assert (alone.code, alone.error["code"]) == (5, "not-authenticated")
    assert alone.json["verdict"] == "consistent, not authenticated"
    cut = accord("audit", "verify", whole, "--trust", "ab" * 8)
    assert (cut.code, "hash-incomplete" in cut.err) == (2, True)


def rewritten(path: Path, change: Callable[[list[Entry]], list[Entry]], log: SigningKey) -> Path:
    """The same bundle with other records, under a head that the log key signed anew."""
    with path.open("rb") as file:
        reader = Reader(file)
        about = reader.about()
        list(reader.checkpoints())
        entries = change(list(reader.entries()))
    tree = Grown()
    target = path.with_suffix(".rewritten")
    with Writer(About(format=1, scope="all", subject=None, log=about.log)) as writer:
        for place, entry in enumerate(entries, start=1):
            data = entry.envelope.to_bytes()
            tree.add(data)
            writer.entry(entry.model_copy(update={"sequence": place, "leaf": tree.last.hex()}))
        root = bytes.fromhex(tree.root(tree.size))
        writer.checkpoint(sign_checkpoint(log, tree.size, root, format_time(now())))
        writer.save(target)
    return target


def test_a_registry_that_rewrote_everything_is_caught_by_what_nodes_signed(
    audited: Stack, whole: Path
) -> None:
    """It holds the log key, lets two records change places, and signs all anew."""
    log = audited.settings.read_log_key()
    unchanged = rewritten(whole, lambda entries: entries, log)
    trust = audited.world.agreement_hash
    assert verdict_of(unchanged, trust).authenticated

    def in_another_order(entries: list[Entry]) -> list[Entry]:
        return [entries[1], entries[0], *entries[2:]]

    forked = verdict_of(rewritten(whole, in_another_order, log), trust)
    assert {item.code for item in forked.failures} == {"log-forked"}
    (failure,) = forked.failures
    assert "hospital-" in failure.place and "consent" in failure.place


def test_a_rollback_is_found_against_any_newer_checkpoint(
    audited: Stack, whole: Path, tmp_path: Path
) -> None:
    log = audited.settings.read_log_key()
    trust = audited.world.agreement_hash
    newer = audited.client(audited.world.coordinator).tree.checkpoint()
    older = rewritten(whole, lambda entries: entries[:-3], log)
    assert verdict_of(older, trust).authenticated, "by itself it is a log like any other"
    assert set(codes(older, trust, kept=(newer,))) == {"log-rolled-back"}
    kept = tmp_path / "kept.jsonl"
    kept.write_bytes(newer.to_bytes() + b"\n")
    answer = accord("audit", "verify", older, "--trust", trust, "--checkpoint", kept)
    assert answer.code == 5 and "log-rolled-back" in answer.err
    assert accord("audit", "verify", whole, "--trust", trust, "--checkpoint", kept).code == 0


def test_a_part_of_the_log_is_joined_to_the_checkpoints_it_is_taken_with(
    audited: Stack, tmp_path: Path
) -> None:
    client, trust = audited.client(audited.world.coordinator), audited.world.agreement_hash
    (run,) = client.runs()
    kept = client.tree.checkpoint()  # of a size that no node has signed
    audited.offer()
    for taken in (collect_run, collect_agreement):
        subject = run.id if taken is collect_run else trust
        taken(client, subject, tmp_path / "part")
        assert set(codes(tmp_path / "part", trust, kept=(kept,))) == {"unproven-checkpoint"}
        taken(client, subject, tmp_path / "part", [verify_checkpoint(kept)])
        assert codes(tmp_path / "part", trust, kept=(kept,)) == {}
    forged = sign_checkpoint(
        audited.settings.read_log_key(), verify_checkpoint(kept).size, bytes(32), format_time(now())
    )
    assert set(codes(tmp_path / "part", trust, kept=(forged,))) == {"log-forked"}


def test_kept_checkpoints_deny_each_other_or_prove_nothing(
    audited: Stack, whole: Path, tmp_path: Path
) -> None:
    """Alone, beside each other, beyond a bundle's head, and beside a proof."""
    key, moment, trust = audited.settings.read_log_key(), now(), audited.world.agreement_hash
    size = verify_checkpoint(audited.client(audited.world.coordinator).tree.checkpoint()).size

    def kept(name: str, *told: tuple[int, bytes, int]) -> Path:
        """A file of checkpoints: size, root, and by how many seconds later it was signed."""
        path = tmp_path / name
        lines = (
            sign_checkpoint(
                key, size_, root * 32, format_time(moment + timedelta(seconds=later_s))
            ).to_bytes()
            for size_, root, later_s in told
        )
        path.write_bytes(b"\n".join(lines) + b"\n")
        return path

    def code(path: Path, *more: Path) -> str:
        beside = [word for one in more for word in ("--checkpoint", one)]
        answer = accord("audit", "verify", path, "--trust", trust, *beside, "--format", "json")
        return "" if answer.code == 0 else str(answer.error["code"])

    more, other = kept("more", (size + 9, b"a", 0)), kept("other", (size + 9, b"b", 0))
    assert code(more) == code(kept("two", (3, b"a", 0), (9, b"b", 1))) == "not-authenticated"
    assert code(more, other) == "log-forked"
    assert code(kept("late", (9, b"a", 0), (3, b"b", 600))) == "log-rolled-back"
    assert code(kept("clock", (9, b"a", 0), (3, b"b", 200))) == "not-authenticated"
    assert code(whole, more) == "log-rolled-back"
    envelopes = tuple(Envelope.from_bytes(one.read_bytes().strip()) for one in (more, other))
    assert set(codes(whole, trust, kept=envelopes)) == {"log-rolled-back", "log-forked"}

    client = audited.client(audited.world.coordinator)
    found = prove(client, client.records(kind="result")[0].hash)
    path, own = tmp_path / "proof", tmp_path / "own"
    path.write_bytes(found.to_bytes())
    own.write_bytes(found.checkpoint.to_bytes() + b"\n")
    assert code(path, own) == ""
    assert code(path, more) == "unproven-checkpoint"
    assert code(path, kept("fork", (size, b"a", 0))) == "log-forked"


def test_another_log_keys_bundle_is_not_the_agreements(audited: Stack, whole: Path) -> None:
    with whole.open("rb") as file:
        reader = Reader(file)
        about = reader.about()
        list(reader.checkpoints())
        entries = list(reader.entries())
    other, tree = SigningKey.generate(), Grown()
    target = whole.with_suffix(".other")
    with Writer(about.model_copy(update={"log": other.public})) as writer:
        for entry in entries:
            tree.add(entry.envelope.to_bytes())
            writer.entry(entry)
        root = bytes.fromhex(tree.root(tree.size))
        writer.checkpoint(sign_checkpoint(other, tree.size, root, format_time(now())))
        writer.save(target)
    assert "wrong-log-key" in codes(target, audited.world.agreement_hash)


def test_epsilon_that_is_not_that_of_the_events_is_named(audited: Stack, tmp_path: Path) -> None:
    keys = audited.offer()
    manifest = audited.start(keys)
    client = audited.client(audited.world.coordinator)
    true = spent(
        fetch_run(client.record, manifest.hash), {a.id: 2 for a in audited.world.hospitals}
    )
    complete(audited, keys, manifest, None, ENTRIES, epsilon=[row.model_dump() for row in true])
    path = tmp_path / "run"
    collect_run(client, run_id(audited, manifest), path)
    (failure,) = verdict_of(path, audited.world.agreement_hash).failures
    assert failure.code == "wrong-epsilon" and "result" in failure.place
    assert "counts 2 attempts" in failure.message and "3" in failure.message


def test_attempts_that_the_aggregator_alone_has_signed_for_cost_too(
    audited: Stack, tmp_path: Path
) -> None:
    """Every node's receipt is kept back, and the result says that nothing was charged."""
    world, client = audited.world, audited.client(audited.world.coordinator)
    keys = audited.offer()
    manifest = audited.start(keys)
    audited.accept(manifest)
    run, aggregator = run_id(audited, manifest), audited.client(world.aggregator)
    aggregator.lease(run, "aggregator-1", 60)
    lost = world.hospitals[0].id
    aborted = world.aggregator_receipt(keys, manifest, manifest.hash, 0, 0, (lost,))
    aggregator.post(aborted)
    told = {"status": "failed", "code": "too-few-nodes", "rounds": 0, "epsilon": []}
    aggregator.post(world.result(keys, manifest, aborted.hash, None, **told))
    collect_run(client, run, tmp_path / "run")
    (failure,) = verdict_of(tmp_path / "run", world.agreement_hash).failures
    assert failure.code == "wrong-epsilon" and "receipts show 1" in failure.message
    found = client.exceptions(code="result-differs", run=run)
    assert {row.party for row in found} == {actor.id for actor in world.hospitals[1:]}


def test_a_node_that_signs_twice_for_an_attempt_breaks_nobodys_log(
    audited: Stack, tmp_path: Path
) -> None:
    """It is named; the walk goes on behind it, as a restored registry's must."""
    world, client = audited.world, audited.client(audited.world.coordinator)
    keys = audited.offer()
    manifest = audited.start(keys)
    heads = audited.accept(manifest)
    run, aggregator = run_id(audited, manifest), audited.client(world.aggregator)
    aggregator.lease(run, "aggregator-1", 60)
    hospital = world.hospitals[0]
    head = heads[hospital.id]
    first, second = next(ENTRIES), next(ENTRIES)
    for entry in (first, first, second):  # re-signed, then charged anew
        made = world.node_receipt(hospital, manifest, head, 0)
        body = NodeReceipt.from_bytes(made.payload)
        ledger = body.ledger.model_copy(update={"sequence": entry})
        again = body.model_copy(update={"ledger": ledger})
        head = audited.client(hospital).post(sign(NODE_RECEIPT, again, hospital.node)).hash
    (charged,) = client.budgets(run=run, dataset=hospital.dataset)
    assert charged.attempts == 2, "each entry of its ledger once"
    assert Client(client).recompute(run)[0].attempts == 2
    told = [row.model_dump() for row in spent(fetch_run(client.record, manifest.hash), {})]
    aggregator.post(
        world.result(keys, manifest, manifest.hash, None, status="failed", rounds=0, epsilon=told)
    )
    collect_run(client, run, tmp_path / "run")
    failures = verdict_of(tmp_path / "run", world.agreement_hash).failures
    assert [item.code for item in failures] == ["repeated-attempt"] * 2 + ["wrong-epsilon"]
    assert all("node-receipt" in item.place for item in failures[:2])
    assert "receipts show 2" in failures[2].message

    other = audited.start(audited.offer())
    heads = audited.accept(other)
    aggregator.lease(run_id(audited, other), "aggregator-1", 60)
    reset = world.node_receipt(hospital, other, heads[hospital.id], 0)
    body = NodeReceipt.from_bytes(reset.payload)
    ledger = body.ledger.model_copy(update={"sequence": second})
    audited.client(hospital).post(
        sign(NODE_RECEIPT, body.model_copy(update={"ledger": ledger}), hospital.node)
    )
    collect_all(client, tmp_path / "all")
    assert "ledger-repeats" in codes(tmp_path / "all", world.agreement_hash)
    assert verified(audited.settings.database) == len(client.records())


def test_a_proof_of_one_record(audited: Stack, tmp_path: Path) -> None:
    client, world = audited.client(audited.world.coordinator), audited.world
    above = {"enrolment", "delegation", "aggregator-offer"}
    kinds = set()
    for record in client.records():
        head, agreement = prove(client, record.hash).check()
        assert head.size >= record.sequence
        assert (agreement is None) == (record.kind in above), record.kind
        kinds.add(record.kind)
    under = {"agreement", "manifest", "consent", "node-receipt", "aggregator-receipt", "result"}
    assert kinds == above | under
    receipt = next(item for item in client.records() if item.kind == "node-receipt")
    found = prove(client, receipt.hash)
    path = tmp_path / "receipt.proof"
    path.write_bytes(found.to_bytes())
    answer = accord("audit", "verify", path, "--trust", world.agreement_hash)
    assert answer.code == 0 and "authenticated" in answer.out and "hospital-" in answer.out
    assert accord("audit", "verify", path).code == 5
    for change in ({"sequence": found.sequence + 1}, {"proof": found.proof[1:]}):
        path.write_bytes(found.model_copy(update=change).to_bytes())
        answer = accord("audit", "verify", path, "--trust", world.agreement_hash)
        assert (answer.code, "wrong-inclusion" in answer.err) == (5, True)
    value = json.loads(path.read_bytes()) | {"more": 1}
    with pytest.raises(FormatError, match=r"\[bad-record\]"):
        RecordProof.from_json(value)


def test_who_holds_the_log_key_alone_makes_no_party_say_anything(
    audited: Stack, tmp_path: Path
) -> None:
    """A registry that appends what it signed itself, and hands out the agreement with it."""
    client, world = audited.client(audited.world.coordinator), audited.world
    stranger = make_actor("stranger", "data-holder")
    views = {record.kind: record for record in client.records()}
    of_manifest = prove(client, views["manifest"].hash)
    withdrawal = world.withdrawal(world.hospitals[0])
    said = of_manifest.model_copy(update={"record": withdrawal})
    kinds = ("manifest", "consent", "node-receipt", "aggregator-receipt", "result")
    log_key, path = audited.settings.read_log_key(), tmp_path / "forged"
    for genuine in [said, *(prove(client, views[kind].hash) for kind in kinds)]:
        record = genuine.record
        signature = stranger.node.sign(pae(record.kind, record.payload))
        forged = Envelope(record.kind, record.payload, ((stranger.node.public, signature),))
        path.write_bytes(alone_in_a_log(genuine, forged, log_key).to_bytes())
        answer = accord("audit", "verify", path, "--trust", world.agreement_hash)
        assert answer.code == 5 and "missing-signature" in answer.err, record.kind
    result = RunResult.from_bytes(prove(client, views["result"].hash).record.payload)
    astray = sign(RESULT, result.model_copy(update={"manifest": world.agreement_hash}), log_key)
    path.write_bytes(
        alone_in_a_log(
            of_manifest.model_copy(update={"manifest": None}), astray, log_key
        ).to_bytes()
    )
    assert "wrong-manifest" in accord("audit", "verify", path, "--trust", world.agreement_hash).err
    enrolment = prove(client, views["enrolment"].hash)
    agreement = client.record(world.agreement_hash)
    path.write_bytes(enrolment.model_copy(update={"agreement": agreement}).to_bytes())
    answer = accord("audit", "verify", path, "--trust", world.agreement_hash)
    assert answer.code == 5 and "wrong-agreement" in answer.err


def alone_in_a_log(genuine: RecordProof, forged: Envelope, key: SigningKey) -> RecordProof:
    """The forged record, as the only one of a log of this key."""
    root = leaf_hash(forged.to_bytes())
    head = sign_checkpoint(key, 1, root, format_time(now()))
    changes = {"record": forged, "sequence": 1, "proof": [], "checkpoint": head}
    return genuine.model_copy(update=changes)


def test_a_bundle_that_is_not_whole_is_no_bundle(whole: Path) -> None:
    data = whole.read_bytes()
    records = data.index(b"records.jsonl")
    for damaged in (
        data[:-1],
        data + b"\0",
        data[:2000],
        b"",
        data[:100] + b"7" + data[101:],
        data[:records] + b"Records.jsonl" + data[records + 13 :],
        data.replace(b'{"format":1', b'{"format":2', 1),
    ):
        with pytest.raises(FormatError):
            audit(io.BytesIO(damaged), ())


def test_any_changed_byte_of_a_record_is_named(whole: Path) -> None:
    """The file is altered, not the registry: line 5's leaf, its envelope, or the line itself."""
    data = whole.read_bytes()
    lines = data[data.index(b"records.jsonl") + 512 :].split(b"\n")
    line = lines[4]
    altered = json.loads(line)
    altered["leaf"] = "ab" * 32
    changed = json.dumps(altered, separators=(",", ":"), sort_keys=True).encode()
    assert len(changed) == len(line)
    whole.write_bytes(data.replace(line, changed))
    assert codes(whole)["damaged-record"].startswith("record 5, ")
    whole.write_bytes(data.replace(line, line[:-1] + b"]"))
    with pytest.raises(FormatError, match="behind record 4"):
        verdict_of(whole)


def test_a_line_of_another_part_is_named_too(whole: Path) -> None:
    data = whole.read_bytes()
    place = data.index(b'"sig":"', data.index(b"checkpoints.jsonl")) + 7
    whole.write_bytes(data[:place] + b"!" + data[place + 1 :])
    with pytest.raises(FormatError, match=r"line 1 of checkpoints\.jsonl: .*base64"):
        verdict_of(whole)
