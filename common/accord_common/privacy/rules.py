"""What an institution adds to its agreements: its own caps, and which populations overlap.

Guarantees: the rules in force follow from the signed records alone, in their order. Populations
that overlap, directly or through others, form one group: whatever is charged to one of them counts
against every cap of all, since one person may be in each. That is never too little; where A meets B
and B meets C but nobody is in all three, it is more than anybody spent.

Not covered: whether a declaration is true: only the steward knows whose rows a table holds. A
ledger that was restored from a copy has the rules of its day: receipts show entries, not rules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from accord_common.fields import Count, Hash, Id, Record, Time
from accord_common.privacy.filter import Cap

LEDGER_RULE = "ledger-rule"  # the envelope's kind


class CapRule(Record):
    """The institution's own cap on a population; null takes it away."""

    type: Literal["cap"]
    population: Id
    cap: Cap | None


class OverlapRule(Record):
    """That two populations, sorted by id, may share people, or (`holds` false) that they do not."""

    type: Literal["overlap"]
    populations: Annotated[list[Id], Field(min_length=2, max_length=2)]
    holds: bool

    @model_validator(mode="after")
    def _check_pair(self) -> "OverlapRule":
        if self.populations[0] >= self.populations[1]:
            raise ValueError("populations must be two, sorted")
        return self


class LedgerRule(Record):
    """A rule in its place.

    Attributes:
        sequence: from 0, beside the entries' own numbers.
        previous: envelope hash of the rule before, 64 zeros for the first.
        entries: how many entries the ledger had; those after them were charged under the rule.
        rule: what it says.
        recorded: the node's clock.
    """

    sequence: Count
    previous: Hash
    entries: Count
    rule: Annotated[CapRule | OverlapRule, Field(discriminator="type")]
    recorded: Time


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force at one moment."""

    caps: Mapping[Id, Cap]
    overlaps: frozenset[tuple[Id, Id]]

    @classmethod
    def of(cls, records: Iterable[LedgerRule]) -> "Rules":
        """Apply records in their order; a later one replaces what it contradicts."""
        caps: dict[Id, Cap] = {}
        overlaps: set[tuple[Id, Id]] = set()
        for record in records:
            rule = record.rule
            if isinstance(rule, OverlapRule):
                first, second = rule.populations
                (overlaps.add if rule.holds else overlaps.discard)((first, second))
            elif rule.cap is None:
                caps.pop(rule.population, None)
            else:
                caps[rule.population] = rule.cap
        return cls(caps, frozenset(overlaps))

    def group(self, population: Id) -> list[Id]:
        """Return a population and all that overlap it, directly or through others, sorted."""
        found, ahead = {population}, [population]
        while ahead:
            one = ahead.pop()
            for pair in self.overlaps:
                if one in pair:
                    fresh = set(pair) - found
                    found |= fresh
                    ahead += fresh
        return sorted(found)

    def caps_of(self, group: Iterable[Id]) -> list[Cap]:
        """Return the institution's own caps on the populations of a group."""
        return [self.caps[population] for population in group if population in self.caps]
