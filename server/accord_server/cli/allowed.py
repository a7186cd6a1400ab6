"""`accord agreement check`: would this run be allowed, and if not, why not at all."""

from typing import Annotated

import typer

from accord_common.api.agreement_schemas import Forecast, Reason
from accord_common.cli import Format, FormatOption, emit, table
from accord_common.duo import words as duo_words
from accord_common.fields import new_id, now
from accord_common.home import Home
from accord_common.privacy import words
from accord_server.cli.options import DEFAULT_HOME, HomeOption
from accord_server.cli.run import PlanArgument
from accord_server.coordinator import documents
from accord_server.coordinator.plan_file import PlanFile

CHECK_EXAMPLE = "Example: accord agreement check plan.yaml --agreement 3f9a0c21"


def check(
    plan: PlanArgument,
    agreement: Annotated[
        str | None,
        typer.Option(help="Title, hash or its first digits; the plan's own where left out."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say whether a run would be allowed under an agreement in any state: every reason why not.

    Each node asks the same again, and its ledger. Exits with 3 where it would not be allowed.
    """
    from accord_common.allowed import objections
    from accord_server.coordinator import desk
    from accord_server.coordinator.manifests import make_manifest
    from accord_server.coordinator.planning import make_roster, spent_before
    from accord_server.coordinator.weights import model_facts

    wanted = documents.read(plan, PlanFile)
    with Home.open(home.expanduser()).registry() as client:
        view = desk.any_agreement(client, agreement or wanted.agreement)
        terms = view.agreement
        roster = make_roster(wanted, terms)
        model = model_facts(wanted, desk.schema_of(client, roster.schema_hash))
        spent = spent_before(desk.node_receipts(client))
        declared = desk.declared(client, terms, [item.id for item in roster.datasets])
    moment = now()
    manifest = make_manifest(
        wanted, terms, view.hash, roster, model, run_id=new_id(), moment=moment
    )
    found, datasets = objections(
        terms, manifest, status=view.status, spent=spent, moment=moment, declared=declared
    )
    names = [terms.party(party).name for party in terms.release.recipients]
    reasons = [Reason(code=e.code, message=e.message, hint=e.hint) for e in found]
    answer = {
        "allowed": not found,
        "agreement": view.hash,
        "title": terms.title,
        "version": terms.version,
        "status": view.status,
        "reasons": reasons,
        "datasets": datasets,
        "purpose": terms.purpose,
        "recipients": names,
    }
    head = f"{terms.title}, version {terms.version} ({view.status}), {view.hash}\n"
    head += f"for {', '.join(map(duo_words, terms.purpose))}\n"
    head += f"the model would go to {', '.join(names) or 'nobody'}\n\n"
    emit(answer, format_, head + _costs(datasets) + "\n\n" + _verdict(reasons))
    if found:
        raise typer.Exit(3)


def _costs(datasets: list[Forecast]) -> str:
    return table(
        "dataset",
        "this run",
        "spent",
        "after",
        "left before",
        "cap",
        rows=[
            [
                item.label,
                words.cost(item.epsilon),
                words.spent(item.spent, item.non_private),
                item.after,
                item.left,
                f"{item.cap} at {item.delta}",
            ]
            for item in datasets
        ],
    )


def _verdict(reasons: list[Reason]) -> str:
    if not reasons:
        return "It would be allowed; each node asks its own ledger, and its steward, again."
    lines = [f"It would not be allowed, for {len(reasons)} reason{'s' * (len(reasons) > 1)}:"]
    for reason in reasons:
        lines.append(f"  [{reason.code}] {reason.message}")
        if reason.hint:
            lines.append(f"      {reason.hint}")
    return "\n".join(lines)
