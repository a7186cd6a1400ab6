"""The pages of agreements: those that wait for signatures, those in force, and one of them.

Guarantees: the terms are the record's own, in the words that a node shows before it signs; whether
a run would be allowed is asked of the same code as nodes' consent, and nothing is kept of it.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.agreement import Agreement
from accord_common.amendments import Change, changes
from accord_common.api.agreement_schemas import CheckView
from accord_common.api.schemas import AgreementView
from accord_common.errors import AccordError, UsageError
from accord_common.fields import Hash, new_id, now
from accord_common.manifest import RunManifest, TaskRef
from accord_common.privacy.events import NO_NOISE
from accord_common.summaries import agreement_summary
from accord_server.coordinator.manifests import (
    NOT_YET,
    ModelFacts,
    Roster,
    choose_datasets,
    label,
    make_manifest,
)
from accord_server.coordinator.plan_file import PlanFile
from accord_server.registry.access.decisions import DECISIONS
from accord_server.registry.agreements import checking
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.auth import decide
from accord_server.registry.notices import repository as notices
from accord_server.registry.web.visit import MOST_COMMENTS, Signed

router = APIRouter(include_in_schema=False)

_PER_PAGE = 50
_PROPOSALS = 100
_CHECK = "/v1/agreements/{agreement_hash}/check"


@router.get("/agreements")
async def all_agreements(
    visit: Signed, before: Annotated[int | None, Query(ge=1, lt=2**53)] = None
) -> Response:
    """The caller's agreements, newest first; above them, what lacks signatures."""
    moment = now()
    async with visit.registry.database.read() as session:
        waiting = await agreements.proposals(session, visit.who.sees, _PROPOSALS + 1, moment)
        found = await agreements.newest(session, visit.who.sees, before, _PER_PAGE + 1, moment)
    return visit.page(
        "agreements.html",
        "/agreements",
        live=True,
        proposals=waiting[:_PROPOSALS],
        left_out=len(waiting) > _PROPOSALS,
        agreements=[view for _, view in found[:_PER_PAGE]],
        before=before,
        older=found[_PER_PAGE - 1][0] if len(found) > _PER_PAGE else None,
    )


@router.get("/agreements/{agreement_hash}")
async def one_agreement(visit: Signed, agreement_hash: Hash) -> Response:
    """One agreement, in plain words: who has signed it, and what it changes."""
    async with visit.registry.database.read() as session:
        found = await agreements.one(session, visit.who.sees, agreement_hash, now())
        said = await notices.comments(session, [agreement_hash], None, MOST_COMMENTS + 1)
        changed = await _changes(session, visit.who.sees, found.agreement)
    return visit.page(
        "agreement.html",
        "/agreements",
        live=True,
        view=found,
        changes=changed,
        words=agreement_summary(found.agreement, found.hash),
        checks=visit.may("POST", _CHECK),
        **visit.comments(said),
    )


async def _changes(
    session: AsyncSession, sees: str | None, agreement: Agreement
) -> list[Change] | None:
    """Against the version before; None where there is none, or the caller was no party of it."""
    if agreement.previous is None:
        return None
    (before,) = await agreements.several(session, [agreement.previous], now())
    if sees not in {None, *(party.id for party in before.agreement.parties)}:
        return None
    return changes(before.agreement, agreement)


class Question(BaseModel):
    """A run that somebody thinks of, as a form asks; a plan says the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    task: Annotated[str, Field(max_length=100)] = ""
    architecture: Annotated[str, Field(max_length=100)] = ""
    protection: Literal["dp", "none"] = "dp"
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 20
    noise: Annotated[str, Field(max_length=20)] = "2"
    rate: Annotated[str, Field(max_length=20)] = "0.05"
    steps: Annotated[int, Field(ge=1, le=100_000)] = 10
    norm: Annotated[str, Field(max_length=20)] = "1"
    size: Annotated[int, Field(ge=1, le=10**9)] = 1000
    dataset: Annotated[tuple[str, ...], Field(max_length=100)] = ()


@router.get("/agreements/{agreement_hash}/check")
async def check(
    visit: Signed, agreement_hash: Hash, question: Annotated[Question, Query()]
) -> Response:
    """Would this run be allowed? The question is in the address."""
    caller = decide(visit.who, DECISIONS["POST", _CHECK])
    async with visit.registry.database.read() as session:
        view = await agreements.one(session, caller.sees, agreement_hash, now())
    found: CheckView | None = None
    refusal: AccordError | None = None
    if question.task:
        try:
            manifest = _manifest(view, question)
            found = await checking.check(visit.registry, caller, agreement_hash, manifest)
        except AccordError as error:
            refusal = error
    terms = view.agreement
    return visit.page(
        "agreement-check.html",
        "/agreements",
        view=view,
        question=question,
        architectures=sorted({name for task in terms.tasks for name in task.architectures}),
        labels={item.id: label(terms, item) for item in terms.datasets},
        named={party.id: party.name for party in terms.parties},
        found=found,
        refusal=refusal,
    )


def _manifest(view: AgreementView, question: Question) -> RunManifest:
    """The manifest that a plan with these figures would mean; UsageError `bad-plan`."""
    terms = view.agreement
    labels = {item.id: label(terms, item) for item in terms.datasets}
    private = question.protection == "dp"
    wanted = {
        "agreement": view.hash,
        "task": question.task,
        "architecture": question.architecture,
        "privacy": {"mode": question.protection},
        "rounds": question.rounds,
        "noise_multiplier": question.noise if private else None,
        "sampling_rate": question.rate,
        "steps": question.steps,
        "learning_rate": "0.1",  # no term bounds it
        "clipping_norm": question.norm,
        "datasets": [labels[name] for name in question.dataset if name in labels] or None,
    }
    try:
        plan = PlanFile.model_validate(wanted)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "plan"
        raise UsageError("bad-plan", f"{place}: {first['msg']}") from error
    chosen = choose_datasets(plan, terms)
    noise = {item.id: plan.noise_multiplier or NO_NOISE for item in chosen}
    task = TaskRef(name=plan.task, distribution="accord", version="0", code_hash=NOT_YET)
    facts = ModelFacts(task=task, layout=NOT_YET, dimension=question.size)
    roster = Roster(chosen, noise, chosen[0].schema_hash)
    return make_manifest(plan, terms, view.hash, roster, facts, run_id=new_id(), moment=now())
