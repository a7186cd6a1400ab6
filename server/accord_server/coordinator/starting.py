"""From a plan to a dry run's answer, and from there to a signed run.

Guarantees: a run is started only from verified records, valid now; the initial weights, and the
base they adapt, are at the registry before the manifest that names them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.envelope import sign
from accord_common.errors import PolicyError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.schema import Schema
from accord_server.coordinator import desk
from accord_server.coordinator.manifests import ModelFacts, Roster, make_manifest
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.planning import PlanView, appraise, make_roster, spent_before
from accord_server.coordinator.weights import initial_weights, model_facts


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with all that was verified and computed for it."""

    plan: PlanFile
    agreement: Agreement
    agreement_hash: str
    schema: Schema
    roster: Roster
    model: ModelFacts
    view: PlanView


def prepare(client: RegistryClient, plan: PlanFile, moment: datetime) -> Prepared:
    """Do the dry run.

    Raises:
        AccordError: the plan cannot be appraised at all; what the agreement forbids is in the view.
    """
    from opacus.accountants import PRVAccountant

    found, agreement = desk.active_agreement(client, plan.agreement)
    roster = make_roster(plan, agreement)
    schema = desk.schema_of(client, roster.schema_hash)
    model = model_facts(plan, schema)
    view = appraise(
        plan,
        agreement,
        found.hash,
        roster,
        model,
        spent=spent_before(desk.node_receipts(client)),
        prv=PRVAccountant(),
        moment=moment,
    )
    return Prepared(plan, agreement, found.hash, schema, roster, model, view)


def refuse_if_forbidden(view: PlanView) -> None:
    """Raise the first reason why a plan is not allowed."""
    if not view.allowed:
        first = view.reasons[0]
        more = f" (and {len(view.reasons) - 1} more)" if len(view.reasons) > 1 else ""
        raise PolicyError(first.code, first.message + more, hint=first.hint)


def start(
    client: RegistryClient, prepared: Prepared, key: SigningKey, moment: datetime
) -> tuple[str, RunManifest]:
    """Make the initial weights, then `put`."""
    weights, model = initial_weights(prepared.plan, prepared.schema, prepared.model)
    return put(client, replace(prepared, model=model), weights, key, moment)


def put(
    client: RegistryClient,
    prepared: Prepared,
    weights: Sequence[bytes],
    key: SigningKey,
    moment: datetime,
) -> tuple[str, RunManifest]:
    """Upload weights and the signed manifest that names them; return its hash and body.

    Raises:
        NotFoundError, ConflictError, PolicyError, VerificationError: see `desk`.
    """
    agreement, plan = prepared.agreement, prepared.plan
    delegations = desk.delegation_hashes(client, agreement, prepared.roster.datasets, moment)
    offer = desk.fresh_offer(client, agreement, moment)
    manifest = make_manifest(
        plan,
        agreement,
        prepared.agreement_hash,
        prepared.roster,
        prepared.model,
        run_id=new_id(),
        moment=moment,
        delegations=delegations,
        offer=offer,
    )
    envelope = sign(MANIFEST, manifest, key)
    for blob in weights:
        client.put_blob(blob)
    client.post(envelope)
    return envelope.hash, manifest
