"""Attacks on one node by whoever holds every key but the nodes': what it says, and never says.

Named after the points that a reviewer attacks first; those about the arithmetic are in
`tests/common/secagg`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from accord_client import outbox
from accord_client.rounds import Rounds
from accord_client.secagg_memory import Begun
from accord_common import wire
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.identity import SigningKey
from accord_common.secagg.messages import Confirmation, Upload
from accord_server.aggregator.secagg import Attempt
from tests.client.institutions import Institutions, Refused, make_institutions
from tests.client.test_node_session import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    three: Institutions = make_institutions(tmp_path)
    with three.open(three.parties[1]) as stores:
        yield Bench(three, stores, three.manifest())


def refused(bench: Bench, request: wire.Request, bulk: tuple[bytes, ...] = ()) -> str:
    with pytest.raises(Refused) as caught:
        bench.aggregator.ask(bench.session, request, bulk)
    return caught.value.code


def confirm_request(
    bench: Bench, attempt: Attempt, uploads: dict[str, str] | None = None
) -> wire.Confirm:
    return wire.Confirm(
        manifest=bench.manifest.hash,
        round=attempt.round,
        attempt=attempt.attempt,
        uploads=uploads or attempt.uploads,
        next=None,
    )


def secrets_of(bench: Bench) -> list[bytes]:
    """What must lie nowhere in clear: held shares, as bytes and as the dump spells them."""
    dump = bench.session._secagg.dump()
    assert dump is not None
    shares = Begun.from_bytes(dump).shares
    assert shares is not None and len(shares) == 3
    spelled = [held for entry in shares.values() for held in (entry.seed, entry.key)]
    return [form for text in spelled for form in (text.encode(), bytes.fromhex(text))]


def files_with(folder: Path, needles: list[bytes]) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and any(needle in path.read_bytes() for needle in needles):
            found.append(path.name)
    return found


def test_7_nodes_that_trained_from_different_models_do_not_unmask(bench: Bench) -> None:
    attempt = bench.uploaded()
    confirmations = bench.confirmed(attempt)
    told_otherwise = []
    for envelope in confirmations:
        body = Confirmation.from_bytes(envelope.payload)
        assert body.model == attempt.model
        if body.party != bench.stores.party:
            peer = bench.peers[body.party]
            begun = peer._begun
            assert begun is not None
            peer._begun = begun.model_copy(update={"model": "ab" * 32, "confirmation": None})
            envelope = peer.confirm(0, 0, attempt.uploads)
        told_otherwise.append(envelope)
    request = wire.Unmask(
        manifest=bench.manifest.hash, round=0, attempt=0, confirmations=told_otherwise
    )
    assert refused(bench, request) == "wrong-confirmation"
    kinds = [line.kind for line in outbox.lines(bench.stores.outbox.path)]
    assert "unmasking" not in kinds


def test_8_fewer_survivors_than_agreed_are_not_confirmed(bench: Bench) -> None:
    attempt = bench.uploaded()
    fewer = dict(list(attempt.uploads.items())[:2])
    assert refused(bench, confirm_request(bench, attempt, fewer)) == "small-cohort"


def test_8_two_attempts_of_a_round_are_not_both_unmasked(bench: Bench) -> None:
    attempt = bench.uploaded()
    bench.aggregator.unmask(bench.session, attempt, bench.confirmed(attempt))
    for restart in (False, True):
        if restart:
            bench.open()
        request = wire.Advertise(manifest=bench.manifest.hash, round=0, attempt=1)
        assert refused(bench, request) == "round-closed"
    assert bench.charged() == [(0, 0)]


def test_8_an_attempt_that_was_replaced_is_not_unmasked(bench: Bench) -> None:
    attempt = bench.uploaded()
    confirmations = bench.confirmed(attempt)
    bench.aggregator.advertise(bench.session, 0, 1)
    for restart in (False, True):
        if restart:
            bench.open()
        request = wire.Unmask(
            manifest=bench.manifest.hash, round=0, attempt=0, confirmations=confirmations
        )
        assert refused(bench, request) == "attempt-over"


def test_10_a_message_of_another_run_or_round_is_refused(bench: Bench) -> None:
    attempt = bench.uploaded()
    confirmations = bench.confirmed(attempt)
    honest = confirm_request(bench, attempt)
    assert refused(bench, honest.model_copy(update={"manifest": "0" * 64})) == "wrong-manifest"
    assert refused(bench, honest.model_copy(update={"round": 1})) == "attempt-over"
    unmask = wire.Unmask(
        manifest=bench.manifest.hash, round=0, attempt=1, confirmations=confirmations
    )
    assert refused(bench, unmask) == "attempt-over"
    later = bench.uploaded(1, 0)
    replayed = wire.Unmask(
        manifest=bench.manifest.hash, round=1, attempt=0, confirmations=confirmations
    )
    bench.aggregator.confirm(bench.session, later)
    assert refused(bench, replayed) == "wrong-context"


def test_11_an_upload_that_is_not_this_nodes_is_not_confirmed(bench: Bench) -> None:
    attempt = bench.uploaded()
    exchanged = dict(attempt.uploads) | {bench.stores.party: "ab" * 32}
    assert refused(bench, confirm_request(bench, attempt, exchanged)) == "altered-upload"


def test_12_nothing_private_travels_beside_the_vector(bench: Bench) -> None:
    attempt = bench.shared(0, 0)
    reply, chunks = bench.aggregator.train(bench.session, attempt, bench.stores.party)
    assert set(type(reply).model_fields) == {"type", "upload", "next"}
    body = Upload.from_bytes(reply.upload.payload)
    assert set(type(body).model_fields) == {
        "manifest", "round", "attempt", "party", "model", "cohort", "sharers", "words", "chunks",
        "ephemeral_key", "root",
    }  # fmt: skip
    assert body.words == attempt.manifest.dimension
    assert sum(map(len, chunks)) == 4 * body.words + 16 * len(chunks)


def test_13_secrets_lie_on_disk_only_sealed_and_are_erased(bench: Bench) -> None:
    attempt = bench.uploaded()
    needles = secrets_of(bench)
    home = bench.stores.home.path
    assert files_with(home, needles) == []
    sealed = (home / "rounds.db").read_bytes() + (home / "rounds.db-wal").read_bytes()
    assert len(sealed) > 0
    confirmations = bench.confirmed(attempt)
    assert files_with(home, needles) == []
    before = bench.stores.rounds.kept(bench.run)
    assert before is not None and needles[0] in before
    with_secrets = bench.stores.rounds._db.execute("SELECT sealed FROM rounds").fetchone()[0]
    bench.aggregator.unmask(bench.session, attempt, confirmations)
    after = bench.stores.rounds.kept(bench.run)
    assert after is not None and needles[0] not in after
    # Not even the ciphertext is left, neither in the file nor in its log.
    assert files_with(home, [with_secrets[20:60], with_secrets[-60:-20]]) == []


def test_13_another_nodes_key_opens_nothing(bench: Bench) -> None:
    bench.uploaded()
    other = Rounds(bench.stores.home.path / "rounds.db", SigningKey.generate())
    with pytest.raises(VerificationError) as caught:
        other.kept(bench.run)
    other.close()
    assert caught.value.code == "round-secrets-broken"


@pytest.mark.parametrize("restart", [False, True])
def test_14_asked_twice_it_says_the_same_bytes_or_nothing(bench: Bench, restart: bool) -> None:
    attempt = bench.uploaded()
    if restart:
        bench.open()
    first = bench.aggregator.confirm(bench.session, attempt).envelope
    if restart:
        bench.open()
    assert bench.aggregator.confirm(bench.session, attempt).envelope == first
    peer = next(party for party in attempt.uploads if party != bench.stores.party)
    other = dict(attempt.uploads) | {peer: "ab" * 32}
    assert refused(bench, confirm_request(bench, attempt, other)) == "already-confirmed"
    confirmations = bench.confirmed(attempt)
    answered = bench.aggregator.unmask(bench.session, attempt, confirmations)
    if restart:
        bench.open()
    assert bench.aggregator.unmask(bench.session, attempt, confirmations) == answered
    assert refused(bench, confirm_request(bench, attempt, other)) == "already-confirmed"


def test_what_was_decided_is_on_disk_before_it_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash at the moment of the answer: the next process knows what the last one decided."""
    attempt = bench.uploaded()
    confirmations: list[Envelope] = []

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for stage in ("confirm", "unmask"):
        with monkeypatch.context() as context:
            context.setattr(type(bench.stores.outbox), "append", crash)
            with pytest.raises(KeyboardInterrupt):
                if stage == "confirm":
                    bench.aggregator.confirm(bench.session, attempt)
                else:
                    bench.aggregator.unmask(bench.session, attempt, confirmations)
        kept = bench.stores.rounds.kept(bench.run)
        assert kept is not None
        begun = Begun.from_bytes(kept)
        bench.open()
        if stage == "confirm":
            assert begun.confirmation is not None
            confirmations = bench.confirmed(attempt)
            assert begun.confirmation in confirmations
        else:
            assert begun.unmasking is not None and begun.shares is None
            repeated = bench.aggregator.unmask(bench.session, attempt, confirmations)
            assert repeated == begun.unmasking


def test_a_run_that_is_over_leaves_nothing(bench: Bench) -> None:
    bench.uploaded()
    assert bench.stores.rounds.kept(bench.run) is not None
    bench.stores.rounds.erase(bench.run)
    assert bench.stores.rounds.kept(bench.run) is None


def test_r1_that_rides_along_does_not_hold_up_the_confirmation(bench: Bench) -> None:
    attempt = bench.uploaded()
    cohort = [bench.peers[party].advertise(1, 0) for party in bench.peers]
    own = bench.aggregator.advertise(bench.session, 1, 0)
    everybody = sorted([*cohort, own], key=lambda envelope: envelope.payload.split(b"party")[1])
    riding = bench.aggregator.share_request(1, 0, everybody)
    reply = bench.aggregator.confirm(bench.session, attempt, riding)
    assert reply.shares is not None
    bench.open()  # R0's and R1's secrets are gone, what was uploaded is not
    again = bench.aggregator.confirm(bench.session, attempt, riding)
    assert again.shares is None and again.envelope == reply.envelope
