"""What a record means, in words that a person signs by.

Guarantees: every term of the agreement that a node enforces appears, and nothing that is not in the
record but a warning of names that look alike. Pure; the same text at coordinator, auditor and node.
The record, not the summary, binds.
"""

from collections.abc import Sequence

from accord_common import lookalikes
from accord_common.agreement import Agreement, Dataset, Party
from accord_common.amendments import diff_text
from accord_common.duo import words
from accord_common.permissions import what_signing_allows

_RULES = {
    "equal": "all data holders share equally",
    "declared-shares": "the shares below",
}
_NON_PRIVATE = {
    False: "no run without differential privacy",
    True: "RUNS WITHOUT PRIVACY ARE PERMITTED TOO: such a run clips no record, adds no noise and "
    "protects nobody, and the epsilon above does not count it",
}
_ADJACENCY = {"add-remove": "adding or removing", "replace-one": "replacing"}


def agreement_summary(agreement: Agreement, agreement_hash: str) -> str:
    """Describe an agreement completely, in plain English.

    Args:
        agreement: the terms.
        agreement_hash: the record's hash, which is what a signature covers.

    Returns:
        Lines of text without a final newline.
    """
    return "\n".join(
        [
            f"{agreement.title}, version {agreement.version}",
            f"hash {agreement_hash}",
            *_replaces(agreement),
            "",
            *_section("Who", [_party(party) for party in agreement.parties]),
            *_look_twice(agreement),
            *_section("On which data", [_dataset(agreement, item) for item in agreement.datasets]),
            *_section("To train what", _tasks(agreement)),
            *_section("How updates are joined", _aggregation(agreement)),
            *_section("What comes out", _release(agreement)),
            *_section("On what ground", _ground(agreement)),
            *_section("For how long", _span(agreement)),
            "A signature proves who agreed. That ledgers, sampling and noise are as described is",
            "each institution's word; its node holds it to that and proves nothing to others.",
        ]
    )


def statement(
    agreement: Agreement, agreement_hash: str, party: str, before: Agreement | None
) -> str:
    """Everything that a person reads before signing, in the order of what matters first.

    What the signature allows; what changed, where the agreement replaces a version; all its terms;
    and, last, the hash that the signature covers.

    Args:
        agreement: the terms.
        agreement_hash: the record's hash.
        party: who signs.
        before: the version that it replaces; None where there is none, or it is not at hand.
    """
    parts = [what_signing_allows(agreement, party)]
    if before is not None:
        parts.append(diff_text(before, agreement))
    elif agreement.previous is not None:
        parts.append(
            f"It replaces version {agreement.version - 1}, {agreement.previous}, which is not at "
            "hand: what changed cannot be said."
        )
    parts += [agreement_summary(agreement, agreement_hash)]
    parts += [f"The signature covers these bytes, and no other: SHA-256 {agreement_hash}"]
    return "\n\n".join(parts)


def _replaces(agreement: Agreement) -> list[str]:
    return [f"replaces {agreement.previous}"] if agreement.previous else []


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines), ""]


def _look_twice(agreement: Agreement) -> list[str]:
    """Where a name may be taken for another; nothing where none may."""
    names = [agreement.title, *(party.name for party in agreement.parties)]
    told = lookalikes.warnings([*names, *(dataset.name for dataset in agreement.datasets)])
    lines = [f"- {one}" for one in told]
    return _section("LOOK TWICE: the keys say who is who", lines) if lines else []


def _party(party: Party) -> str:
    return (
        f"- {party.name}, {party.role}, {party.jurisdiction}, {party.contact}; "
        f"key {party.identity_key}"
    )


def _dataset(agreement: Agreement, dataset: Dataset) -> str:
    terms = dataset.privacy
    return (
        f"- {dataset.name} of {agreement.party(dataset.owner).name}: {dataset.size} as the public "
        f"size, one {dataset.unit} protected; all runs together may spend at most "
        f"epsilon {terms.epsilon_cap} at delta {terms.delta} ({_ADJACENCY[terms.adjacency]} one "
        f"{dataset.unit}); noise multiplier at least {terms.min_noise_multiplier}, clipping norm "
        f"at most {terms.max_clipping_norm}, sampling rate at most {terms.max_sampling_rate}; "
        f"{_NON_PRIVATE[terms.non_private]}; "
        f"conditions of use: {', '.join(map(words, dataset.duo)) or 'none stated'}; "
        f"{_profile(dataset)}; "
        f"schema {dataset.schema_hash}, population {dataset.population}"
    )


def _profile(dataset: Dataset) -> str:
    if dataset.profile is None:
        return "no quality profile may be released"
    return (
        "its quality profile may be released to all parties, shares of fewer than "
        f"{dataset.profile.smallest_cell} rows withheld; THAT IS NO DIFFERENTIAL PRIVACY"
    )


def _tasks(agreement: Agreement) -> list[str]:
    return [
        f"- {item.task}: {item.objective or 'no objective stated'}; "
        f"{', '.join(item.architectures)}; at most {item.max_rounds} rounds a run"
        for item in agreement.tasks
    ]


def _aggregation(agreement: Agreement) -> list[str]:
    terms = agreement.aggregation
    lines = [
        f"- by secure aggregation: the aggregator sees only the sum of at least "
        f"{max(terms.min_cohort, terms.threshold)} updates (threshold {terms.threshold}, "
        f"smallest cohort {terms.min_cohort}),",
        f"  also if it works together with {_count(terms.colluders, 'data holder')}",
    ]
    if len(agreement.datasets) == 2:
        lines.append("- with two data holders, each learns the other's noisy update from the sum")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _release(agreement: Agreement) -> list[str]:
    names = [agreement.party(party).name for party in agreement.release.recipients]
    shares = [
        f"  {agreement.party(party).name}: {share}"
        for party, share in agreement.benefit.shares.items()
    ]
    return [
        f"- the model goes to {', '.join(names) or 'nobody'}",
        "- metrics come from a public hold-out at the coordinator; none leaves a node",
        f"- benefit: {_RULES[agreement.benefit.rule]}",
        *shares,
    ]


def _ground(agreement: Agreement) -> list[str]:
    return [
        f"- purpose: {', '.join(map(words, agreement.purpose))}",
        f"- legal basis: {agreement.legal_basis or 'none stated'}",
        f"- responsibilities: {agreement.responsibilities or 'none stated'}",
        f"- the registry's log key: {agreement.log_key}",
    ]


def _span(agreement: Agreement) -> list[str]:
    return [
        f"- from {agreement.valid_from} until {agreement.valid_until}",
        f"- records are kept for {agreement.retention_days} days",
        "- any party may suspend it for now, or withdraw for good; runs in flight then stop, as "
        "they do when it ends or a later version replaces it",
    ]
