"""From an agreement back to the terms that a person edits: what `draft` would make it of again.

Guarantees: drafted unchanged, the terms make the next version of the same agreement that differs in
its first day alone; of one from which a party withdrew, which has no next version, the first of a
new agreement. What is the same for all datasets stands once.
"""

from typing import Any

import yaml

from accord_common.agreement import Agreement, Dataset

_HEAD = """\
# Version {version} of {title!r}, to be edited into the next one. It replaces, once every party has
# signed it, the agreement that `replaces` names; runs under that one then stop.
#   accord agreement draft FILE --out agreement.json      # shows what changed, and which way
#   accord agreement propose agreement.json
# `valid_from` left out means from now on.

"""
_NEW_HEAD = """\
# What {title!r}, {hash}, said until a party withdrew, to begin a
# new agreement with: take out who left, and every party signs it. What was spent stays spent.
#   accord agreement draft FILE --out agreement.json
#   accord agreement propose agreement.json
# `valid_from` left out means from now on.

"""


def terms_of(agreement: Agreement, agreement_hash: str, *, withdrawn: bool = False) -> str:
    """Write the terms file of an agreement's next version.

    Args:
        agreement: the present version.
        agreement_hash: its hash.
        withdrawn: it has ended for good: write the terms of a new agreement.
    """
    names = {party.id: party.name for party in agreement.parties}
    shared = _shared(agreement)
    (aggregator,) = agreement.with_role("aggregator")
    value: dict[str, Any] = {
        "title": agreement.title,
        **({} if withdrawn else {"replaces": agreement_hash}),
        "purpose": agreement.purpose,
        "legal_basis": agreement.legal_basis,
        "responsibilities": agreement.responsibilities,
        "aggregator": aggregator.name,
        "auditors": [party.name for party in agreement.with_role("auditor")],
        "datasets": [_dataset(item, names[item.owner], shared) for item in agreement.datasets],
        "privacy": shared,
        "tasks": [task.model_dump() for task in agreement.tasks],
        "aggregation": agreement.aggregation.model_dump(),
        "recipients": [names[party] for party in agreement.release.recipients],
        "benefit": {
            "rule": agreement.benefit.rule,
            "shares": {names[party]: share for party, share in agreement.benefit.shares.items()},
        },
        "retention_days": agreement.retention_days,
        "valid_until": agreement.valid_until,
    }
    head = (_NEW_HEAD if withdrawn else _HEAD).format(
        version=agreement.version, title=agreement.title, hash=agreement_hash
    )
    body: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return head + body


def _shared(agreement: Agreement) -> dict[str, Any]:
    """Privacy terms that every dataset has."""
    first, *others = [dataset.privacy.model_dump() for dataset in agreement.datasets]
    return {
        name: value
        for name, value in first.items()
        if all(other[name] == value for other in others)
    }


def _dataset(dataset: Dataset, owner: str, shared: dict[str, Any]) -> dict[str, Any]:
    own = {
        name: value for name, value in dataset.privacy.model_dump().items() if name not in shared
    }
    # Left out, `duo` would be the catalogue's.
    value: dict[str, Any] = {"owner": owner, "name": dataset.name, "duo": dataset.duo}
    if dataset.profile is not None:
        value["profile"] = dataset.profile.model_dump()
    return value | ({"privacy": own} if own else {})
