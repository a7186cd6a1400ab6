"""A bundle's verdict, from the file and the package alone.

Guarantees: `consistent` says that SPEC.md's conditions hold ("Transparency log", Verifying) for
everything in the bundle; `authenticated`, that besides each run's agreement is one that the
verifier named, or an earlier version of it, and names the log key that signed. Whatever does not
hold is named, with its record where it is one's.

Not covered: what a partial bundle leaves out, but for who took part in a completed round and posted
no receipt; whether what was signed is true.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import IO

from accord_common.envelope import Envelope
from accord_common.errors import AccordError, FormatError, VerificationError
from accord_common.log.bundle import About, Entry, Reader
from accord_common.log.checkpoint import Checkpoint, Head, same_tree, verify_checkpoint
from accord_common.log.kept import contradictions
from accord_common.log.merkle import leaf_hash, verify_inclusion
from accord_common.log.runs import RunFacts, repeated_entries
from accord_common.log.tree import Grown
from accord_common.log.walk import Walk, Witness


@dataclass(frozen=True, slots=True)
class Failure:
    """What does not hold: a stable code, where, and why."""

    code: str
    place: str
    message: str


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
        about: what the bundle says that it is of.
        head: the newest checkpoint, to which everything is proved.
        failures: everything that does not hold; empty where the bundle is consistent.
        untrusted: agreements of runs, or asked for, that the verifier did not name, by hash.
        trusted: agreements that it did, and their earlier versions.
        checkpoints: how many are consistent with the head, by whoever keeps them.
    """

    about: About
    head: Checkpoint | None = None
    records: int = 0
    checkpoints: int = 0
    walk: Walk = field(default_factory=Walk)
    failures: list[Failure] = field(default_factory=list)
    trusted: set[str] = field(default_factory=set)
    untrusted: set[str] = field(default_factory=set)

    @property
    def consistent(self) -> bool:
        """Whether all that is there holds together."""
        return not self.failures

    @property
    def authenticated(self) -> bool:
        """Whether it holds, and rests on agreements that the verifier named alone."""
        return self.consistent and bool(self.trusted) and not self.untrusted

    @property
    def runs(self) -> list[RunFacts]:
        """The runs in it, in their order in the log."""
        return list(self.walk.facts.values())

    def fail(self, place: str, error: AccordError) -> None:
        """Note what does not hold."""
        self.failures.append(Failure(error.code, place, error.message))


def audit(source: IO[bytes], trust: Collection[str], kept: Sequence[Envelope] = ()) -> Verdict:
    """Verify a bundle.

    Args:
        source: the open file.
        trust: hashes of agreements that the verifier knows to be the parties' own.
        kept: checkpoints that others kept, against which a rollback or a fork shows.

    Raises:
        FormatError: `damaged-bundle`: it cannot be read to its end.
    """
    reader = Reader(source)
    about = reader.about()
    verdict = Verdict(about)
    known: dict[int, list[tuple[Checkpoint, str]]] = {}
    for envelope in reader.checkpoints():
        _checkpoint(verdict, known, envelope, "checkpoint")
        if verdict.consistent:
            verdict.head = verify_checkpoint(envelope)
    for envelope in kept:
        _checkpoint(verdict, known, envelope, "kept checkpoint")
    if verdict.head is None and verdict.consistent:
        raise FormatError("damaged-bundle", "the bundle has no checkpoint")
    tree = Grown() if about.scope == "all" else None
    broken = False
    for entry in reader.entries():
        verdict.records += 1
        broken = _record(verdict, tree, entry, broken)
    if tree is not None and not broken and verdict.head and tree.size < verdict.head.size:
        lacking = VerificationError("missing-record", "the newest checkpoint covers it")
        verdict.fail(f"record {tree.size + 1}", lacking)
    proofs = {joint.size: joint.proof for joint in reader.joints()}
    heads: list[tuple[Checkpoint | Head, str]] = [
        found for same_size in known.values() for found in same_size
    ]
    heads += [(each.head, _witnessed(each)) for each in verdict.walk.witnesses.values()]
    for head, name in sorted(heads, key=lambda found: found[0].size):
        _join(verdict, tree, proofs, head, name)
    newest = verdict.head
    beyond = [  # which nothing in the bundle joins; they may deny each other
        body
        for same_size in known.values()
        for body, _ in same_size
        if newest is None or body.size > newest.size
    ]
    for error in contradictions(beyond):
        verdict.fail("kept checkpoints", error)
    judge(verdict, trust)
    return verdict


def _checkpoint(
    verdict: Verdict, known: dict[int, list[tuple[Checkpoint, str]]], envelope: Envelope, what: str
) -> None:
    try:
        body = verify_checkpoint(envelope, verdict.about.log)
        name = f"{what} of {body.size} records, {body.created}"
        known.setdefault(body.size, []).append((body, name))
    except AccordError as error:
        verdict.fail(what, error)


def _record(verdict: Verdict, tree: Grown | None, entry: Entry, broken: bool) -> bool:
    """Verify one record; returns whether the walk over them has come to an end."""
    envelope = entry.envelope
    place = f"record {entry.sequence}, {envelope.kind} {envelope.hash[:16]}"
    leaf = leaf_hash(envelope.to_bytes())
    try:
        if leaf.hex() != entry.leaf:
            raise VerificationError("damaged-record", "its bytes are not those of its leaf")
        _included(verdict, tree, entry, leaf)
    except AccordError as error:
        verdict.fail(place, error)
    if tree is not None:
        if entry.sequence != tree.size + 1:
            if not broken:
                missing = f"record {tree.size + 1}"
                verdict.fail(missing, VerificationError("missing-record", "it is not there"))
            return True
        tree.add_leaf(bytes.fromhex(entry.leaf))
    if not broken:
        try:
            verdict.walk.take(envelope, place)
        except AccordError as error:  # what follows may rest on it
            verdict.fail(place, error)
            return True
    return broken


def _included(verdict: Verdict, tree: Grown | None, entry: Entry, leaf: bytes) -> None:
    if verdict.head is None:
        return  # which is a failure already
    if entry.sequence > verdict.head.size:
        raise VerificationError("wrong-inclusion", "the bundle's newest checkpoint lacks it")
    if tree is not None:
        return  # the whole tree's root says so
    if entry.proof is None:
        raise VerificationError("wrong-inclusion", "it has no proof")
    path, root = [bytes.fromhex(item) for item in entry.proof], bytes.fromhex(verdict.head.root)
    verify_inclusion(leaf, entry.sequence - 1, verdict.head.size, path, root)


def _join(
    verdict: Verdict,
    tree: Grown | None,
    proofs: dict[int, list[str]],
    head: Checkpoint | Head,
    name: str,
) -> None:
    """Check that what somebody saw is of one tree with the bundle's head."""
    newest = verdict.head
    if newest is None:
        return
    verdict.checkpoints += 1
    try:
        if head.size > newest.size:
            raise VerificationError(
                "log-rolled-back",
                f"{name} is of more records than the bundle's {newest.size}: the log was set back, "
                "unless the bundle was taken before",
            )
        if tree is not None:
            tree.check(head, name)
        elif head.size not in proofs and head.size != newest.size:
            raise _unjoined(head, name)
        else:
            same_tree(head, newest, proofs.get(head.size, []))
    except VerificationError as error:
        code = "log-forked" if error.code == "wrong-consistency" else error.code
        verdict.fail(name, VerificationError(code, error.message))


def _unjoined(head: Checkpoint | Head, name: str) -> VerificationError:
    """What records name must be joined; a checkpoint that the collector did not know cannot be."""
    if isinstance(head, Head):
        return VerificationError("log-forked", f"{name} is joined to the head by no proof")
    return VerificationError(
        "unproven-checkpoint",
        f"this bundle was not taken with {name}, so it has no proof of it: take it again, with "
        "accord audit bundle --checkpoint FILE, or the whole log, with --all",
    )


def judge(verdict: Verdict, trust: Collection[str]) -> None:
    """What a verdict's walk says together: charges, epsilon, and on whose word everything rests."""
    walk = verdict.walk
    for error in repeated_entries(walk.facts.values()):
        verdict.fail("ledger", error)
    for manifest, facts in walk.facts.items():
        for place, message in facts.repeated:
            verdict.fail(place, VerificationError("repeated-attempt", message))
        try:
            facts.check_epsilon(walk.run(manifest))
        except AccordError as error:
            verdict.fail(facts.result_place, error)
    for name in trust:
        if name not in walk.agreements:
            verdict.untrusted.add(name)
        found: str | None = name
        while found is not None and found in walk.agreements:
            agreement = walk.agreements[found]
            if agreement.log_key != verdict.about.log:
                told = f"it names the log key {agreement.log_key[:16]}"
                verdict.fail(f"agreement {found[:16]}", VerificationError("wrong-log-key", told))
            verdict.trusted.add(found)
            found = agreement.previous
    needed = {facts.agreement for facts in walk.facts.values()}
    if verdict.about.scope == "agreement" and verdict.about.subject is not None:
        needed.add(verdict.about.subject)
    verdict.untrusted |= needed - verdict.trusted


def _witnessed(witness: Witness) -> str:
    return f"what {witness.party} signed in {witness.place}"
