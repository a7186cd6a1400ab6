"""Whether a run would be allowed under an agreement, by what the registry knows.

Guarantees: nothing is stored, signed or sent; a data holder is told what its own datasets have
spent, nobody else's.

Not covered: what only nodes know, and ask again (`accord_common.allowed`).
"""

import asyncio

from accord_common.allowed import objections
from accord_common.api.agreement_schemas import CheckView, Reason
from accord_common.duo import words
from accord_common.fields import now
from accord_common.manifest import RunManifest
from accord_server.registry.agreements import repository
from accord_server.registry.auth import Caller
from accord_server.registry.budgets.tables import RunBudgetRow
from accord_server.registry.budgets.tallies import sums
from accord_server.registry.context import Registry
from accord_server.registry.datasets.repository import declared


async def check(
    registry: Registry, caller: Caller, agreement_hash: str, manifest: RunManifest
) -> CheckView:
    """Every reason why not, and what it would cost; NotFoundError `unknown-agreement`."""
    moment = now()
    async with registry.database.read() as session:
        shown = await repository.one(session, caller.sees, agreement_hash, moment)
        whole = caller.sees is None or caller.role == "coordinator"
        known = {
            dataset.id: dataset.population
            for dataset in shown.agreement.datasets
            if whole or dataset.owner == caller.party
        }
        asked = {known[site.dataset] for site in manifest.roster if site.dataset in known}
        of = RunBudgetRow.population
        before = await sums(session, [of], [of.in_(asked)], reserved=False)
        spent = {population: found.spent for (population,), found in before.items()}
        told = await declared(session, [site.dataset for site in manifest.roster])
    found, datasets = await asyncio.to_thread(
        objections,
        shown.agreement,
        manifest,
        status=shown.status,
        spent=spent,
        moment=moment,
        declared=told,
    )
    return CheckView(
        allowed=not found,
        status=shown.status,
        reasons=[Reason(code=e.code, message=e.message, hint=e.hint) for e in found],
        datasets=[one for one in datasets if one.dataset in known],
        purpose=[words(code) for code in shown.agreement.purpose],
        recipients=shown.agreement.release.recipients,
    )
