"""The log over HTTP, on both engines: checkpoints, proofs, and what is refused."""

from collections.abc import Callable

import pytest

from accord_common.errors import AccordError
from accord_common.log.checkpoint import same_tree, verify_checkpoint
from accord_common.log.merkle import leaf_hash, verify_inclusion
from accord_server.registry.log.tables import LogNodeRow
from tests.server.registry.stack import Stack, complete, opened
from tests.server.registry.tables import rows


def test_every_record_is_in_the_checkpoint_and_the_log_only_grows(stack: Stack) -> None:
    auditor = stack.client(stack.world.coordinator)
    first = verify_checkpoint(auditor.tree.checkpoint(), stack.world.agreement.log_key)
    keys = stack.offer()
    manifest = stack.start(keys)
    between = verify_checkpoint(auditor.tree.checkpoint())
    complete(stack, keys, manifest)
    envelope = auditor.tree.checkpoint()
    assert auditor.tree.checkpoint() == envelope, "one checkpoint a size"
    last = verify_checkpoint(envelope)
    records = auditor.records()
    assert (last.size, first.size) == (len(records), len(records) - 18)
    assert [verify_checkpoint(kept).size for kept in auditor.tree.checkpoints()] == sorted(
        {first.size, between.size, last.size}
    )
    for old, new in ((first, between), (between, last), (first, last)):
        same_tree(old, new, auditor.tree.consistency(old.size, new.size))
    proofs = {item.sequence: item for item in auditor.tree.proofs(last.size)}
    assert list(proofs) == [record.sequence for record in records]
    for record in records:
        found = proofs[record.sequence]
        assert auditor.tree.inclusion(record.hash) == found
        path = [bytes.fromhex(item) for item in found.proof]
        leaf = leaf_hash(record.envelope.to_bytes())
        assert (found.leaf, found.size) == (leaf.hex(), last.size)
        verify_inclusion(leaf, record.sequence - 1, last.size, path, bytes.fromhex(last.root))
    run = manifest_run(stack)
    of_run = [item.sequence for item in auditor.tree.proofs(between.size, run)]
    assert of_run == [between.size], "an older tree has its own proofs"


def manifest_run(stack: Stack) -> str:
    (run,) = stack.client(stack.world.coordinator).runs()
    return run.id


def test_a_second_registry_on_the_same_database_makes_the_same_log(stack: Stack) -> None:
    """Two processes take turns; here two applications with their own connections."""
    before = verify_checkpoint(stack.client(stack.world.coordinator).tree.checkpoint())
    with opened(stack.settings, "", stack.world) as other:
        other.tokens = stack.tokens
        for _ in range(3):
            stack.offer()
            other.offer()
        one = stack.client(stack.world.coordinator).tree.checkpoint()
        assert other.client(stack.world.coordinator).tree.checkpoint() == one
    after = verify_checkpoint(one)
    assert after.size == before.size + 6
    found = rows(stack.settings.database, [LogNodeRow])["log_nodes"]
    assert len(found) == after.size - after.size.bit_count()


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda log: log.inclusion("ab" * 32), "unknown-record"),
        (lambda log: log.consistency(5, 4), "wrong-tree-size"),
        (lambda log: log.consistency(1, 10_000), "wrong-tree-size"),
        (lambda log: list(log.proofs(10_000)), "wrong-tree-size"),
    ],
)
def test_what_the_log_does_not_have_is_refused(
    stack: Stack, ask: Callable[..., object], code: str
) -> None:
    with pytest.raises(AccordError, match=rf"\[{code}\]"):
        ask(stack.client(stack.world.coordinator).tree)


def test_a_record_behind_the_asked_size_has_no_proof(stack: Stack) -> None:
    auditor = stack.client(stack.world.coordinator)
    last = auditor.records()[-1]
    with pytest.raises(AccordError, match=r"\[wrong-tree-size\]"):
        auditor.tree.inclusion(last.hash, last.sequence - 1)
    token = {"Authorization": f"Bearer {stack.tokens[stack.world.coordinator.id]}"}
    for query in ("", f"?record={last.hash}&sequence=1"):
        answer = stack.http.get(f"/v1/log/inclusion{query}", headers=token)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    answer = stack.http.get("/v1/log/inclusion?sequence=1", headers=token)
    assert answer.json()["sequence"] == 1
    assert stack.http.get("/v1/log/checkpoint").status_code == 401
