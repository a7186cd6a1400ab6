"""What changed between two versions of an agreement, in words, and which way.

Guarantees: pure; every term that differs appears, and no other. `wider` marks what permits more
than before: more epsilon, less noise, another task, another recipient, a longer time; `narrower`
the contrary; what is neither, or cannot be ordered, is `changed`. Datasets and parties are compared
by id, so an exchanged key or size shows as one.

Not covered: whether a change matters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from accord_common.agreement import Agreement, Dataset, Party, PermittedTask, ProfileTerms
from accord_common.duo import modifiers, words

Direction = Literal["wider", "narrower", "changed"]
_Order = Callable[[str], Fraction]


@dataclass(frozen=True, slots=True)
class Change:
    """One term: `before` or `after` is empty for what was added or is gone."""

    what: str
    before: str
    after: str
    direction: Direction

    def __str__(self) -> str:
        if not self.before:
            told = f"{self.what}: new: {self.after}"
        elif not self.after:
            told = f"{self.what}: no longer: {self.before}"
        else:
            told = f"{self.what}: {self.before} -> {self.after}"
        return f"{told} ({self.direction})"


def changes(old: Agreement, new: Agreement) -> list[Change]:
    """Compare two versions, in the order of the agreement's terms."""
    return [
        *_text("title", old.title, new.title),
        *_codes("purpose", old.purpose, new.purpose),
        *_text("legal basis", old.legal_basis, new.legal_basis),
        *_text("responsibilities", old.responsibilities, new.responsibilities),
        *_parties(old, new),
        *_datasets(old, new),
        *_tasks(old, new),
        *_number("smallest cohort", old.aggregation.min_cohort, new.aggregation.min_cohort, -1),
        *_number("threshold", old.aggregation.threshold, new.aggregation.threshold, -1),
        *_number("colluders assumed", old.aggregation.colluders, new.aggregation.colluders, -1),
        *_set("model goes to", _recipients(old), _recipients(new), grows="wider"),
        *_text("metrics", old.release.metrics, new.release.metrics),
        *_text("benefit", _benefit(old), _benefit(new)),
        *_number("days that records are kept", old.retention_days, new.retention_days, 1),
        *_time("valid from", old.valid_from, new.valid_from, -1),
        *_time("valid until", old.valid_until, new.valid_until, 1),
        *_text("log key of the registry", old.log_key, new.log_key),
    ]


def diff_text(old: Agreement, new: Agreement) -> str:
    """Write the changes for people: what is wider first to be seen, one line each."""
    found = changes(old, new)
    if not found:
        return f"Version {new.version} has the terms of version {old.version}."
    wider = sum(change.direction == "wider" for change in found)
    counted = f"{len(found)} change{'' if len(found) == 1 else 's'}, {wider} of them wider"
    return "\n".join(
        [
            f"Version {old.version} -> {new.version}: {counted}",
            *(f"  {'! ' if change.direction == 'wider' else '- '}{change}" for change in found),
        ]
    )


def _text(what: str, old: str, new: str) -> Iterator[Change]:
    if old != new:
        yield Change(what, old or "nothing", new or "nothing", "changed")


def _number(what: str, old: int | str, new: int | str, sign: int) -> Iterator[Change]:
    """A number of which more (`sign` 1) or less (-1) permits more."""
    if Fraction(old) != Fraction(new):
        grown = (Fraction(new) > Fraction(old)) == (sign > 0)
        yield Change(what, str(old), str(new), "wider" if grown else "narrower")


def _time(what: str, old: str, new: str, sign: int) -> Iterator[Change]:
    if old != new:
        grown = (new > old) == (sign > 0)  # RFC 3339 UTC sorts as text
        yield Change(what, old, new, "wider" if grown else "narrower")


def _set(what: str, old: Sequence[str], new: Sequence[str], grows: Direction) -> Iterator[Change]:
    """Additions are `grows`; what is gone is the contrary."""
    shrinks: Direction = "narrower" if grows == "wider" else "wider"
    for item in new:
        if item not in old:
            yield Change(what, "", item, grows)
    for item in old:
        if item not in new:
            yield Change(what, item, "", shrinks)


def _codes(what: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """A use that is added permits more, a condition that is added permits less."""
    for grows, pick in (("wider", False), ("narrower", True)):
        before, after = (
            [words(code) for code in codes if (code in modifiers(codes)) is pick]
            for codes in (old, new)
        )
        yield from _set(what, before, after, "wider" if grows == "wider" else "narrower")


def _parties(old: Agreement, new: Agreement) -> Iterator[Change]:
    before = {party.id: party for party in old.parties}
    after = {party.id: party for party in new.parties}
    for added in after.keys() - before.keys():
        party = after[added]
        yield Change("party", "", f"{party.name}, {party.role}", "changed")
    for gone in before.keys() - after.keys():
        yield Change("party", f"{before[gone].name}, {before[gone].role}", "", "changed")
    for both in sorted(before.keys() & after.keys()):
        yield from _party(before[both], after[both])


def _party(old: Party, new: Party) -> Iterator[Change]:
    for what, name in (
        ("name", "name"),
        ("role", "role"),
        ("identity key", "identity_key"),
        ("jurisdiction", "jurisdiction"),
        ("contact", "contact"),
    ):
        yield from _text(f"{what} of {old.name}", getattr(old, name), getattr(new, name))


def _datasets(old: Agreement, new: Agreement) -> Iterator[Change]:
    before = {dataset.id: dataset for dataset in old.datasets}
    after = {dataset.id: dataset for dataset in new.datasets}
    for added in sorted(after.keys() - before.keys()):
        terms = after[added].privacy
        told = f"{_named(new, after[added])}, epsilon cap {terms.epsilon_cap}"
        yield Change("dataset", "", told, "wider")
    for gone in sorted(before.keys() - after.keys()):
        yield Change("dataset", _named(old, before[gone]), "", "narrower")
    for both in sorted(before.keys() & after.keys()):
        yield from _dataset(_named(new, after[both]), before[both], after[both])


def _dataset(name: str, old: Dataset, new: Dataset) -> Iterator[Change]:
    one, two = old.privacy, new.privacy
    yield from _number(f"epsilon cap of {name}", one.epsilon_cap, two.epsilon_cap, 1)
    yield from _number(f"delta of {name}", one.delta, two.delta, 1)
    yield from _number(
        f"least noise multiplier of {name}", one.min_noise_multiplier, two.min_noise_multiplier, -1
    )
    yield from _number(
        f"largest clipping norm of {name}", one.max_clipping_norm, two.max_clipping_norm, 1
    )
    yield from _number(
        f"largest sampling rate of {name}", one.max_sampling_rate, two.max_sampling_rate, 1
    )
    if one.non_private != two.non_private:
        shown = {False: "refused", True: "PERMITTED"}
        yield Change(
            f"runs without privacy on {name}",
            shown[one.non_private],
            shown[two.non_private],
            "wider" if two.non_private else "narrower",
        )
    if one.adjacency != two.adjacency:  # replacing one record costs as much as two changes
        grown = two.adjacency == "add-remove"
        yield Change(
            f"adjacency of {name}",
            one.adjacency,
            two.adjacency,
            "wider" if grown else "narrower",
        )
    yield from _profile(name, old.profile, new.profile)
    for what, field in (
        ("name", "name"),
        ("owner", "owner"),
        ("population", "population"),
        ("schema", "schema_hash"),
        ("public size", "size"),
        ("unit", "unit"),
    ):
        yield from _text(f"{what} of {name}", str(getattr(old, field)), str(getattr(new, field)))
    yield from _codes(f"conditions of use of {name}", old.duo, new.duo)


def _profile(name: str, old: ProfileTerms | None, new: ProfileTerms | None) -> Iterator[Change]:
    """Whether it may be released at all, and how coarse it must be."""
    shown = [
        "refused" if terms is None else f"RELEASED, smallest cell {terms.smallest_cell}"
        for terms in (old, new)
    ]
    if shown[0] != shown[1]:
        wider = new is not None and (old is None or new.smallest_cell < old.smallest_cell)
        yield Change(
            f"quality profile of {name}", shown[0], shown[1], "wider" if wider else "narrower"
        )


def _tasks(old: Agreement, new: Agreement) -> Iterator[Change]:
    before = {task.task: task for task in old.tasks}
    after = {task.task: task for task in new.tasks}
    yield from _set("task", _told(before, after), _told(after, before), "wider")
    for name in before.keys() & after.keys():
        one, two = before[name], after[name]
        yield from _text(f"objective of {name}", one.objective, two.objective)
        yield from _set(f"architecture of {name}", one.architectures, two.architectures, "wider")
        yield from _number(f"most rounds of {name}", one.max_rounds, two.max_rounds, 1)


def _told(tasks: Mapping[str, PermittedTask], others: Mapping[str, PermittedTask]) -> list[str]:
    return [
        f"{task.task} ({', '.join(task.architectures)}; {task.max_rounds} rounds)"
        for task in tasks.values()
        if task.task not in others
    ]


def _named(agreement: Agreement, dataset: Dataset) -> str:
    return f"{dataset.name} ({agreement.party(dataset.owner).name})"


def _recipients(agreement: Agreement) -> list[str]:
    return [agreement.party(party).name for party in agreement.release.recipients]


def _benefit(agreement: Agreement) -> str:
    shares = agreement.benefit.shares.items()
    told = ", ".join(f"{agreement.party(party).name} {share}" for party, share in shares)
    return agreement.benefit.rule + (f" ({told})" if told else "")
