"""A node's keys are exchanged: when it may be, and what still holds afterwards."""

import shutil
from pathlib import Path

import pytest

from accord_client import outbox, reconciling
from accord_client.reconciling import behind, compare
from accord_client.rotating import clear, require_idle
from accord_client.stores import open_stores
from accord_common.enrolment import DELEGATION, REVOCATION, Delegation, Revocation
from accord_common.envelope import Envelope, sign
from accord_common.errors import ConflictError
from accord_common.fields import now
from accord_common.files import replace_file, write_secret
from accord_common.home import NEXT, POSTED, Home
from accord_common.identity import SigningKey
from accord_common.receipts import NODE_RECEIPT, NodeReceipt
from tests.client.test_reconciling import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def exchange(scene: Scene) -> SigningKey:
    """What `renew --rotate-key` leaves when the registry has taken the new delegation."""
    key, actor = SigningKey.generate(), scene.three.actor(scene.party)
    changed = actor.delegation(scene.home.delegation().hash, node_key=key.public)
    coming = scene.home.path / NEXT
    coming.mkdir(mode=0o700)
    write_secret(coming / "node.pem", key.to_pem())
    replace_file(coming / "delegation.json", changed.to_bytes())
    replace_file(coming / POSTED, b"")
    return key


def test_keys_are_not_exchanged_under_a_run_or_before_its_receipts_are_posted(scene: Scene) -> None:
    scene.spend((0, 0), post=False)
    with open_stores(scene.home) as stores:
        with pytest.raises(ConflictError, match="run-under-way"):
            require_idle(scene.home, stores)
        stores.state.follow(scene.bench.run, "completed", now())
        with pytest.raises(ConflictError, match="records-wait"):
            require_idle(scene.home, stores)
        actor = scene.three.actor(scene.party)
        body = Revocation(
            previous=scene.home.delegation().hash,
            party=scene.party,
            reason="stolen",
            created="2026-01-31T12:00:00Z",
        )
        revoked = sign(REVOCATION, body, actor.identity)
        replace_file(scene.home.path / "revocation.json", revoked.to_bytes())
        require_idle(scene.home, stores)


def test_what_the_old_key_signed_still_holds_and_its_runs_are_left(scene: Scene) -> None:
    scene.spend((0, 0))
    old = scene.home.node_key().public
    key = exchange(scene)
    home = Home.open(scene.home.path)
    with open_stores(home) as stores:
        assert (stores.key.public, stores.keys) == (key.public, frozenset({old, key.public}))
        clear(stores, now())
        (run,) = stores.state.runs()
        assert (run.decision, run.code) == ("refuse", "key-exchanged")
        assert stores.rounds.kept(run.id) is None
        stores.ledger.verify(stores.keys)
        assert outbox.verify(stores.outbox.path, stores.keys) > 0
        stores.outbox.append("consent", "registry", "0" * 64, 1)
        outbox.verify(stores.outbox.path, stores.keys)
        compare(stores, scene.registry)  # a receipt under the old key counts as its own
        assert behind(stores) is None


@pytest.mark.parametrize("by", ["delegation", "revocation", "stranger"])
def test_a_folder_from_before_the_exchange_is_found_out(scene: Scene, by: str) -> None:
    """The receipt is under a key that the restored folder has never heard of."""
    actor, later = scene.three.actor(scene.party), SigningKey.generate()
    scene.spend((0, 0))
    receipt = NodeReceipt.from_bytes(scene.fake.stored[-1].payload)
    entry = receipt.ledger.model_copy(update={"sequence": 1, "previous": "ab" * 32})
    following = receipt.model_copy(update={"ledger": entry, "attempt": 1})
    scene.fake.stored.append(sign(NODE_RECEIPT, following, later))
    first = scene.home.delegation()
    changed = actor.delegation(first.hash, node_key=later.public)
    if by == "stranger":  # the registry's word alone
        body = Delegation.from_bytes(changed.payload)
        changed = sign(DELEGATION, body, scene.three.world.coordinator.identity)
    scene.fake.delegation = changed
    if by == "revocation":
        body_ = Revocation(
            previous=changed.hash, party=actor.id, reason="x", created="2026-01-31T12:00:00Z"
        )
        scene.fake.revocation = sign(REVOCATION, body_, actor.identity)
        scene.fake.known = [scene.fake.revocation, changed]
    with open_stores(scene.home) as stores:
        reconciling.compare(stores, scene.registry)
        frozen = behind(stores)
        assert (frozen is None) == (by == "stranger")


def test_an_exchange_that_died_half_way_is_made_good_at_the_next_opening(scene: Scene) -> None:
    key = exchange(scene)
    shutil.copy(scene.home.path / NEXT / "node.pem", scene.home.path / "node.pem")
    home = Home.open(scene.home.path)
    given = Delegation.from_bytes(home.delegation().payload)
    assert given.node_key == key.public == home.node_key().public
    former: list[Envelope] = home.delegations()
    assert len(former) == 2 and not (home.path / NEXT).exists()
