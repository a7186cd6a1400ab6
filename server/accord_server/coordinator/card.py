"""A model card in Markdown, with the front matter that Hugging Face reads (Mitchell et al. 2019).

Guarantees: every statement is one that somebody signed, with who did, or says that nobody signed
any; the same records give the same bytes. Names and texts of records are written as text: none of
them is Markdown or YAML here.

Not covered: what the agreement leaves out. Publishing a card tells who took part.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from accord_common.api.tracing import Traced
from accord_common.duo import ontology
from accord_common.lineage import EvaluationLine

_PIPELINES = {  # Hugging Face's names of what a model is for
    "tabular-binary": "tabular-classification",
    "tabular-multiclass": "tabular-classification",
    "image-classification": "image-classification",
    "text-classification": "text-classification",
}
_NEIGHBOURS = {"add-remove": "adding or removing", "replace-one": "replacing"}
_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~&])")  # what Markdown or HTML would read


def model_card(found: Traced) -> str:
    """Write the card of a model.

    Args:
        found: its verified records.

    Returns:
        The file's text.
    """
    head = yaml.safe_dump(_front(found), sort_keys=False, allow_unicode=True, width=100)
    sections = [
        f"# {_text(found.lineage.title)}",
        _what(found),
        "## Intended use",
        _use(found),
        "## Results",
        _results(found),
        "## Privacy",
        _privacy(found),
        "## Release terms",
        _release(found),
        "## Lineage",
        _lineage(found),
        "## Limits",
        _limits(found),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(sections) + "\n"


def _front(found: Traced) -> dict[str, Any]:
    line, manifest = found.lineage, found.run.manifest
    private = ["differential-privacy"] if manifest.privacy == "dp" else []
    pipeline = _PIPELINES.get(manifest.task.name)
    front: dict[str, Any] = {
        "license": "other",
        "license_name": f"data-sharing-agreement-{line.agreement.hash[:12]}",
        "tags": ["federated-learning", "secure-aggregation", *private, manifest.task.name],
    }
    if pipeline is not None:
        front["pipeline_tag"] = pipeline
    if line.evaluations:
        results = [_indexed(found, one) for one in _newest(line.evaluations)]
        front["model-index"] = [{"name": line.title, "results": results}]
    return front


def _indexed(found: Traced, one: EvaluationLine) -> dict[str, Any]:
    task = found.run.manifest.task.name
    return {
        "task": {"type": _PIPELINES.get(task, task), "name": _objective(found) or task},
        "dataset": {
            "type": f"sha256-{one.holdout}",
            "name": f"public hold-out of {one.rows} rows at the coordinator",
        },
        "metrics": [
            {"type": name, "name": name, "value": float(value)}
            for name, value in sorted(one.metrics.items())
        ],
    }


def _newest(evaluations: Sequence[EvaluationLine]) -> list[EvaluationLine]:
    """The newest word about each hold-out, in the order in which they were first signed."""
    return list({one.holdout: one for one in evaluations}.values())


def _objective(found: Traced) -> str:
    wanted = found.run.manifest.task.name
    terms = [item for item in found.run.agreement.tasks if item.task == wanted]
    return terms[0].objective if terms else ""


def _what(found: Traced) -> str:
    line, manifest = found.lineage, found.run.manifest
    done = [receipt for receipt in found.result.receipts if receipt.outcome == "completed"]
    cohorts = sorted({len(receipt.cohort) for receipt in done})
    sums = f"; each sum was of {' to '.join(map(str, cohorts))} of them" if cohorts else ""
    arguments = ", ".join(
        f"{name} {value}" for name, value in sorted(manifest.architecture.args.items())
    )
    return (
        f"A model of architecture {_text(manifest.architecture.name)}"
        f"{f' ({_text(arguments)})' if arguments else ''} for task {_text(manifest.task.name)}, "
        f"trained by federated learning at {manifest.n} institutions in {len(done)} of "
        f"{manifest.rounds} planned rounds{sums}, by the aggregator's signed receipts. The run "
        f"is {line.status}, by its signed result of {line.created}."
    )


def _use(found: Traced) -> str:
    agreement = found.run.agreement
    objective = _objective(found)
    terms = ontology().terms
    lines = [
        f"Signed by {len(agreement.parties)} parties in agreement {_text(agreement.title)}, "
        f"version {agreement.version}:",
        "",
        f"- objective: {_text(objective) or 'none stated'}",
        *(
            f"- purpose: {code}, {terms[code].label}: {terms[code].meaning}"
            for code in agreement.purpose
        ),
        f"- legal basis: {_text(agreement.legal_basis) or 'none stated'}",
        *(
            f"- condition of {_text(agreement.party(item.owner).name)}/{_text(item.name)}: "
            f"{code}, {terms[code].label}: {terms[code].meaning}"
            for item in _datasets(found)
            for code in item.duo
        ),
        "",
        "No other use was agreed on.",
    ]
    return "\n".join(lines)


def _datasets(found: Traced) -> Iterator[Any]:
    return (found.run.agreement.dataset(site.dataset) for site in found.run.manifest.roster)


def _results(found: Traced) -> str:
    evaluations = _newest(found.lineage.evaluations)
    if not evaluations:
        return "Nobody signed an evaluation of this model, so none is claimed."
    rows = [
        (name, value, str(one.rows), f"`{one.holdout}`")
        for one in evaluations
        for name, value in sorted(one.metrics.items())
    ]
    return (
        _table(("metric", "value", "public rows", "SHA-256 of the file"), rows)
        + "\n\nMeasured and signed by the coordinator, on public rows that it chose. The agreement "
        "lets no metric of an institution's own rows leave it."
    )


def _privacy(found: Traced) -> str:
    line, manifest = found.lineage, found.run.manifest
    if manifest.privacy == "none":
        return (
            "None. The run clipped no row and added no noise, as the agreement permits: nothing "
            "bounds what the model tells about a record of the datasets below.\n\n" + _sites(found)
        )
    local = manifest.local
    parts = [
        _sites(found),
        "Assumptions: every step draws each row independently with the sampling rate (Poisson), "
        f"clips its gradient to {local.clipping_norm} ({local.clipping}) and adds Gaussian noise "
        "of the noise multiplier times that norm, at the institution itself; "
        f"{local.steps} {'step' if local.steps == 1 else 'steps'} a round. Epsilon is the signed "
        "result's, for all charged attempts of this run together. That sampling, noise and ledger "
        "are as described is each institution's word.",
        "Not in these figures: other runs on the same datasets, which add to them.",
    ]
    if line.earlier:
        runs = ", ".join(f"`{one.run}`" for one in line.earlier)
        parts.append(
            f"This run goes on from {runs}: what those rounds cost is not in these figures either, "
            "and counts for the model."
        )
    return "\n\n".join(parts)


def _sites(found: Traced) -> str:
    rows = [
        (
            _text(f"{site.name}/{site.dataset_name}"),
            "no guarantee" if site.epsilon is None else site.epsilon,
            "-" if site.epsilon is None else site.delta,
            f"{_NEIGHBOURS[site.adjacency]} one {site.unit}",
            str(site.attempts),
            site.noise_multiplier,
            site.sampling_rate,
        )
        for site in found.lineage.sites
    ]
    return _table(
        ("dataset", "epsilon", "delta", "for", "attempts", "noise multiplier", "sampling rate"),
        rows,
    )


def _release(found: Traced) -> str:
    agreement, line = found.run.agreement, found.lineage.agreement
    names = ", ".join(map(_text, line.recipients)) or "nobody else"
    shares = [
        f"- share of {_text(agreement.party(party).name)}: {share}"
        for party, share in sorted(agreement.benefit.shares.items())
    ]
    return "\n".join(
        [
            f"- the model goes to: {names}; coordinator and aggregator, who make it, have it too",
            f"- benefit: {agreement.benefit.rule}",
            *shares,
            f"- the agreement is valid from {agreement.valid_from} until {agreement.valid_until}; "
            f"retention {agreement.retention_days} days",
            f"- responsibilities: {_text(agreement.responsibilities) or 'none stated'}",
            "",
            "No other licence was signed.",
        ]
    )


def _lineage(found: Traced) -> str:
    line = found.lineage
    rows = [
        ("model", f"`{line.model}`"),
        ("result", f"`{line.result}`"),
        ("manifest", f"`{line.manifest}`"),
        ("agreement", f"`{line.agreement.hash}`"),
        ("code", f"`{line.code_hash}`, {_text(line.distribution)} {line.distribution_version}"),
        ("starts from", f"`{line.initial_model}`"),
        *((("adapts", f"`{line.base}`"),) if line.base else ()),
        *(
            ("goes on from", f"`{one.receipt}`, round {one.rounds} of run `{one.run}`")
            for one in line.earlier
        ),
        *(
            (_text(f"consent of {site.name}/{site.dataset_name}"), f"`{site.consent}`")
            for site in line.sites
        ),
        *(
            (_text(f"schema of {site.name}/{site.dataset_name}"), f"`{site.schema_hash}`")
            for site in line.sites
        ),
    ]
    return (
        _table(("record", "hash (SHA-256)"), rows)
        + f"\n\n`accord model lineage {line.run}` verifies all of it."
    )


def _limits(found: Traced) -> str:
    adapted = (
        ["- what the base was trained on: no record says, beyond its hash."]
        if found.lineage.base
        else []
    )
    return "\n".join(
        [
            "Nobody signed, so nothing here claims:",
            "",
            "- results on other data than the hold-out, or for any group of people;",
            "- fitness for decisions about a person, or approval by any authority;",
            "- that the rows behind a dataset are right: an institution signed its schema and a "
            "public size, no hash of rows" + (";" if adapted else "."),
            *adapted,
        ]
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: str) -> str:
    """Write a record's text so that it is read as text, in one line."""
    return _MARKS.sub(r"\\\1", " ".join(value.split()))
