"""What the registry tells of budgets and exceptions, as models.

Guarantees: every figure of what was spent follows from the events that nodes signed in receipts;
decimals are strings, as in records, rounded away from flattery; null stands for infinity.

Not covered: what was charged and never reached the registry, and who overlaps whom: institutions
know, and their own ledgers decide.
"""

from typing import Annotated, Literal

from pydantic import Field

from accord_common.api.schemas import AgreementStatus, View
from accord_common.fields import Adjacency, Count, Dec, Hash, Id, Positive, Slug, Text, Time

Grouping = Literal["institution", "agreement", "run"]
Bound = Annotated[Dec | None, Field(description="null where no accountant bounds it")]


class BudgetRow(View):
    """What one run has cost one dataset, may still cost it, and says that it cost.

    Attributes:
        attempts: charged, by the receipts; `most` is what the manifest allows.
        non_private: how many of them were without privacy: then nothing bounds `epsilon`.
        epsilon: what counts against the cap (RDP filter), of this run alone.
        reserved: what that grows by where the run, still open and accepted, is charged all it may.
        told: attempts by the signed result; null while there is none.
        told_epsilon: epsilon by the signed result.
        recomputed: epsilon (PLD) of `told` attempts of the manifest's mechanism.
        steps: noisy clipped sums in one attempt.
    """

    dataset: Id
    party: Id
    population: Id
    run: Id
    agreement: Hash
    attempts: Count
    most: Positive
    non_private: Count
    epsilon: Bound
    reserved: Bound
    told: Count | None
    told_epsilon: Bound
    recomputed: Bound
    delta: Dec
    cap: Dec
    adjacency: Adjacency
    noise_multiplier: Dec
    sampling_rate: Dec
    steps: Positive


class BalanceRow(View):
    """What a dataset's people have spent of the cap that one agreement sets, whatever spent it.

    `spent`, `reserved` and `left` sum to the cap as long as it is kept.

    Attributes:
        spent: of the population, in all runs under all agreements (RDP filter).
        reserved: what that grows by where open runs that were accepted are charged all they may.
        left: 0 where the cap is reached, or exceeded.
        attempts: charged to the population; `non_private` of them without privacy.
        status: of the agreement; a cap binds further runs while it is active.
    """

    dataset: Id
    name: str
    party: Id
    institution: str
    population: Id
    agreement: Hash
    status: AgreementStatus
    cap: Dec
    delta: Dec
    adjacency: Adjacency
    spent: Bound
    reserved: Bound
    left: Dec
    attempts: Count
    non_private: Count


class CombinedRow(View):
    """What an institution's populations, an agreement or a run comes to.

    Somebody who is in one of the populations: the greatest epsilon and delta. Who is in all of
    them: the sums.

    Attributes:
        id: a party, an agreement's hash, or a run.
        name: of the party, agreement or run.
        populations: how many there are.
        left: the least that any cap leaves: of the agreement, or of all active ones that name data
            of the institution; null for a run, or without any.
        adjacency: the strictest among them, by which all of them are priced.
    """

    id: str
    name: str
    populations: Count
    attempts: Count
    non_private: Count
    adjacency: Adjacency
    spent_greatest: Bound
    spent_sum: Bound
    reserved_greatest: Bound
    reserved_sum: Bound
    delta_greatest: Dec
    delta_sum: Dec
    left: Dec | None


class SpendRow(View):
    """One charged attempt at a round.

    Attributes:
        sequence: of the receipt in the registry's order.
        receipt: its hash.
        number: how many attempts the run had charged to the dataset by then, with this one; a
            receipt that repeats an attempt has the number of the first.
        entry: place in the node's ledger.
        epsilon: of the run on the dataset, after it.
    """

    sequence: Positive
    receipt: Hash
    run: Id
    dataset: Id
    party: Id
    round: Count
    attempt: Count
    number: Positive
    entry: Count
    epsilon: Bound
    delta: Dec


class ExceptionRow(View):
    """Something that does not agree, with the records that show it.

    Attributes:
        id: names it, and is what `after` takes.
        code: `over-spend`, `too-many-attempts`, `after-end`, `outside-terms`, `result-differs`,
            `repeated-attempt`, `ledger-repeats`, `key-changed`, `key-revoked`; as long as it
            lasts: `missing-receipt`, `silent-node`.
        since: when the record arrived that shows it, or since when it lasts.
        records: hashes, the one that shows it first.
    """

    id: str
    code: Slug
    message: Text
    since: Time
    party: Id | None
    institution: str
    run: Id | None
    dataset: Id | None
    agreement: Hash | None
    records: Annotated[list[Hash], Field(min_length=1)]
