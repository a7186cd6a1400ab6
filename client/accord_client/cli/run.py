"""`accord-node approve` and `accord-node refuse`: the steward's word on one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, YesOption, confirm, emit, note

if TYPE_CHECKING:
    from accord_client.consent import Verdict
    from accord_client.deciding import Considered
    from accord_client.stores import Stores
    from accord_common.agreement import PrivacyTerms
    from accord_common.manifest import RunManifest, Site
    from accord_common.privacy.accounting import Tally

APPROVE_EXAMPLE = "Example: accord-node approve 0192f0c1-... (ids: accord-node status)"
REFUSE_EXAMPLE = "Example: accord-node refuse 0192f0c1-... --reason 'not before the audit'"

RunArgument = Annotated[str, typer.Argument(help="Id, or its first or last characters.")]


def approve(
    run: RunArgument,
    home: HomeOption = DEFAULT_HOME,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Let a run use your data, if every check allows it; works with or without the daemon.

    Signed with the node's key: no passphrase. A run that breaks the agreement or the budget is
    refused, whoever approves it.
    """
    from accord_client.cli.budget_forecast import line
    from accord_client.forecasts import foresee, of_manifest
    from accord_common.errors import PolicyError

    def decide(considered: Considered, stores: Stores) -> Verdict:
        if considered.verdict.decision == "accept":
            agreed = considered.facts.terms.dataset(considered.facts.site.dataset)
            note(describe(considered, stores.ledger.tally(agreed.population)))
            proposal = of_manifest(stores, considered.facts.manifest)
            note("\n".join(line(one) for one in foresee(stores, proposal)))
            private = considered.facts.run.privacy == "dp"
            kind = "" if private else ", though it protects nobody's record"
            confirm(f"Approve this run{kind}?", yes=yes)
        else:
            note(_objections(considered))
        return considered.verdict

    run_id, decided = _decide(home, run, decide)
    if decided.decision == "refuse":
        raise PolicyError(decided.code, decided.reason, hint="The node refused the run.")
    emit({"run": run_id, "decision": "accept"}, format_, f"Run {run_id} is approved.")


def _objections(considered: Considered) -> str:
    """Everything that speaks against a run, not only what the consent will name."""
    from accord_client.consent import objections

    found = {error.code: error.message for error in objections(considered.facts)}
    return "\n".join(["It is not allowed:", *(f"  [{c}] {why}" for c, why in found.items())])


def refuse(
    run: RunArgument,
    reason: Annotated[str, typer.Option(help="Why; every party of the run can read it.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Refuse a run; it then ends for everybody."""
    from accord_client.consent import Verdict
    from accord_client.deciding import STEWARD_REFUSED

    run_id, decided = _decide(home, run, lambda *_: Verdict("refuse", STEWARD_REFUSED, reason))
    emit(
        {"run": run_id, "decision": "refuse", "code": decided.code, "reason": decided.reason},
        format_,
        f"Run {run_id} is refused.",
    )


def _decide(
    home: Path, run: str, decide: Callable[[Considered, Stores], Verdict]
) -> tuple[str, Verdict]:
    from accord_client.answering import look_at, settle
    from accord_client.stores import open_stores

    opened = open_home(home)
    with open_stores(opened) as stores, opened.registry() as registry:
        pending = look_at(stores, registry, run)
        verdict = decide(pending.considered, stores)
        settle(stores, registry, pending, verdict, note)
    return pending.view.id, verdict


def describe(considered: Considered, spent: Tally) -> str:
    """What the steward is about to allow; `spent` is all of the population's by the ledger."""
    manifest, site = considered.facts.run, considered.facts.site
    terms = considered.facts.terms
    name = considered.dataset.name if considered.dataset else site.dataset
    privacy = terms.dataset(site.dataset).privacy
    weights = [entry.weight for entry in manifest.roster]
    share = "all sites weigh the same"
    if len(set(weights)) > 1:
        share = f"weight {site.weight} of {sum(weights)}"
    arguments = ", ".join(f"{key} {value}" for key, value in manifest.architecture.args.items())
    return "\n".join(
        [
            *_warning(manifest, name),
            f"{manifest.title}",
            f"  task {manifest.task.name}, {manifest.architecture.name}"
            + (f" ({arguments})" if arguments else ""),
            *_parts(manifest),
            f"  on {name}: {manifest.rounds} rounds of {manifest.local.steps} steps, at most "
            f"{manifest.max_attempts_total} attempts",
            f"  noise multiplier {site.noise_multiplier}, clipping norm "
            f"{manifest.local.clipping_norm} ({manifest.local.clipping}), sampling rate "
            f"{site.sampling_rate}, learning rate "
            f"{manifest.local.learning_rate}",
            *_cost(manifest, site, privacy, spent),
            f"  with {manifest.n - 1} other institutions, {share}; agreement {terms.title!r}",
        ]
    )


def _warning(manifest: RunManifest, dataset: str) -> list[str]:
    """What nobody may overlook about a run without privacy."""
    if manifest.privacy == "dp":
        return []
    return [
        "*** WITHOUT PRIVACY: this run protects nobody's record. ***",
        "  No row is clipped and no noise is added: what leaves may show whose records were used, "
        "and what they say.",
        f"  It is no cost that a budget can bear: once it has trained, no agreement that is for "
        f"private runs only lets anybody use the people of {dataset} again.",
        "",
    ]


def _cost(manifest: RunManifest, site: Site, privacy: PrivacyTerms, before: Tally) -> list[str]:
    from accord_common.costs import attempts_tally
    from accord_common.privacy import words
    from accord_common.privacy.filter import Cap, RdpFilter

    cap = Cap(epsilon=privacy.epsilon_cap, delta=privacy.delta, non_private=True)
    rule = RdpFilter(cap)
    run = attempts_tally(manifest, site, privacy.adjacency, manifest.max_attempts_total)
    spent = words.spent(words.figure(rule.epsilon(before)), before.non_private)
    if run.non_private:
        return [
            f"  costs epsilon {words.UNBOUNDED}: up to {run.non_private} non-private releases; "
            f"{spent} is spent before, the cap on private runs is {cap.epsilon} at delta "
            f"{cap.delta}"
        ]
    lines = [
        f"  costs at most epsilon {words.figure(rule.epsilon(run))} at delta {cap.delta}; "
        f"{spent} is spent before, the cap on both together is {cap.epsilon}"
    ]
    return lines + ([f"  {words.NO_GUARANTEE}"] if before.non_private else [])


def _parts(manifest: RunManifest) -> list[str]:
    """What is trained and travels, and what stays."""
    adaptation = manifest.adaptation
    if adaptation is None:
        return [f"  all of its {manifest.dimension:,} numbers are trained and travel"]
    lines = [
        f"  {manifest.dimension:,} numbers are trained and travel, beside a public base of "
        f"{adaptation.dimension:,} ({adaptation.base[:16]})"
    ]
    if adaptation.frozen:
        lines.append(f"  frozen: {', '.join(adaptation.frozen)}")
    if adaptation.lora is not None:
        layers = ", ".join(adaptation.lora.layers)
        lines.append(f"  adapters of rank {adaptation.lora.rank} beside {layers}")
    return lines
