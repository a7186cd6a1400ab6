"""A model's lineage, from a registry that is not trusted.

Guarantees: everything was followed from the model's hash to the agreement and verified here; the
registry only says where to look.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from accord_common import chain
from accord_common.api.client import RegistryClient
from accord_common.api.finding import SHORTEST, find_run
from accord_common.api.schemas import MAX_PAGE, RunView
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError, VerificationError
from accord_common.lineage import Lineage, Origin, lineage
from accord_common.receipts import AGGREGATOR_RECEIPT, CONSENT, EVALUATION, RESULT

_MAX_EARLIER = 1000  # runs; a registry could name a circle
_DIGITS = 64  # of a hash


@dataclass(frozen=True, slots=True)
class Traced:
    """A model's lineage, and the verified records that it was read from."""

    run: chain.VerifiedRun
    result: chain.VerifiedResult
    lineage: Lineage


def trace(registry: RegistryClient, text: str) -> Traced:
    """Find a model by its run or its hash, and verify where it comes from.

    Args:
        registry: brings records; not trusted.
        text: the run's id, its first or last characters, or the model's hash or first digits.

    Raises:
        NotFoundError: `unknown-run`, `unknown-model`, `no-result`.
        ConflictError: `ambiguous-run`, `no-model`.
        VerificationError: the first thing that does not hold.
    """
    view = find_model(registry, text)
    run = chain.fetch_run(registry.record, view.manifest_hash)
    results = registry.records(kind=RESULT, run=view.id)
    if not results:
        raise NotFoundError(
            "no-result",
            f"run {view.id} is {view.state} and has no result yet",
            hint=f"accord run watch {view.id}",
        )
    known = _known(records_of(registry, AGGREGATOR_RECEIPT, view.id))
    lookup = _lookup(registry, known)
    result = chain.fetch_result(lookup, results[-1].envelope.hash, run)
    if len(text) == _DIGITS and result.result.model != text:
        raise VerificationError(
            "wrong-model", f"the result of run {view.id} does not name model {text[:16]}"
        )
    found = lineage(
        run,
        result,
        list(records_of(registry, CONSENT, view.id)),
        [
            chain.verify_evaluation(envelope, run, result)
            for envelope in records_of(registry, EVALUATION, view.id)
        ],
        list(_earlier(registry, view)),
    )
    return Traced(run, result, found)


def find_model(registry: RegistryClient, text: str) -> RunView:
    """Find the run that left a model, by the run's id or the model's hash.

    Raises:
        NotFoundError: `unknown-run`, `unknown-model`.
        ConflictError: `ambiguous-run`.
    """
    if len(text) >= SHORTEST and not set(text) - set("0123456789abcdef"):
        for run in registry.runs():
            if run.model is not None and run.model.startswith(text):
                return run
    if len(text) == _DIGITS:
        raise NotFoundError(
            "unknown-model", f"no run that you see left model {text[:16]}", hint="accord model list"
        )
    return find_run(registry, text)


def records_of(registry: RegistryClient, kind: str, run: str) -> Iterator[Envelope]:
    """Every record of one kind of a run, oldest first."""
    after, size = 0, MAX_PAGE
    while size == MAX_PAGE:
        page = registry.records(after=after, kind=kind, run=run)
        yield from (record.envelope for record in page)
        after, size = (page[-1].sequence if page else after), len(page)


def _earlier(registry: RegistryClient, view: RunView) -> Iterator[Origin]:
    for _ in range(_MAX_EARLIER):
        if view.continues is None:
            return
        view = registry.run(view.continues.run)
        run = chain.fetch_run(registry.record, view.manifest_hash)
        envelopes = list(records_of(registry, AGGREGATOR_RECEIPT, view.id))
        head = envelopes[-1].hash if envelopes else view.manifest_hash
        receipts = chain.fetch_receipts(_lookup(registry, _known(envelopes)), head, run)
        hashes = [receipt.previous for receipt in receipts[1:]] + [head]
        left = [
            (own, receipt.model_after)
            for own, receipt in zip(hashes, receipts, strict=False)
            if receipt.model_after is not None
        ]
        yield Origin(run, [(own, model, count) for count, (own, model) in enumerate(left, 1)])


def _known(envelopes: Iterator[Envelope] | list[Envelope]) -> dict[str, Envelope]:
    return {envelope.hash: envelope for envelope in envelopes}


def _lookup(registry: RegistryClient, known: dict[str, Envelope]) -> chain.Lookup:
    return lambda wanted: known[wanted] if wanted in known else registry.record(wanted)
