"""A model's lineage for people."""

from accord_common.cli import table
from accord_common.duo import words
from accord_common.lineage import Lineage, SiteLine

_SHOWN = 16  # digits of a hash that JSON shows whole


def lineage_text(found: Lineage) -> str:
    """From the model down to what everybody signed."""
    completed = [line for line in found.rounds if line.outcome == "completed"]
    cohorts = sorted({len(line.cohort) for line in completed})
    sums = f", {' to '.join(map(str, cohorts))} institutions in each sum" if cohorts else ""
    aborted = len(found.rounds) - len(completed)
    again = f", {aborted} more attempts came to nothing" if aborted else ""
    rows = [
        ["model", found.model],
        ["result", f"{found.result}  {found.status}, {found.created}"],
        *(["evaluation", _metrics(found, index)] for index in range(len(found.evaluations))),
        ["rounds", f"{len(completed)}{sums}{again}; each signed by the run's receipt key"],
        ["manifest", f"{found.manifest}  run {found.run}, {found.title!r}"],
        ["task", f"{found.task} of {found.distribution} {found.distribution_version}"],
        ["code", found.code_hash],
        ["architecture", found.architecture],
        ["starts from", found.initial_model],
        *([["adapts", found.base]] if found.base else []),
        *(
            ["goes on from", f"{line.receipt}  round {line.rounds} of run {line.run}"]
            for line in found.earlier
        ),
        ["agreement", f"{found.agreement.hash}  {found.agreement.title!r} {_version(found)}"],
        ["purpose", ", ".join(map(words, found.agreement.purpose))],
        ["signed by", ", ".join(found.agreement.signed_by)],
        ["goes to", ", ".join(found.agreement.recipients) or "nobody"],
    ]
    head = table("", "", rows=rows).partition("\n")[2]
    sites = table(
        *("institution", "dataset", "schema", "size", "consent", "ledger", "rounds", "epsilon"),
        rows=[_site(line) for line in found.sites],
    )
    return (
        f"{head}\n\n{sites}\n\n"
        "All of it was verified here. Compare the agreement's hash with the one that was signed.\n"
        "size: the agreement's public constant; no record names a hash of rows (--format json: "
        "whole hashes, rounds)."
    )


def _version(found: Lineage) -> str:
    return f"version {found.agreement.version}"


def _metrics(found: Lineage, index: int) -> str:
    one = found.evaluations[index]
    values = ", ".join(f"{name} {value}" for name, value in sorted(one.metrics.items()))
    return f"{values} on {one.rows} public rows of {one.holdout[:_SHOWN]}"


def _site(line: SiteLine) -> list[str]:
    return [
        line.name,
        line.dataset_name,
        line.schema_hash[:_SHOWN],
        str(line.size),
        line.consent[:_SHOWN],
        line.ledger_head[:_SHOWN],
        str(line.rounds),
        "no guarantee" if line.epsilon is None else f"{line.epsilon} at {line.delta}",
    ]
