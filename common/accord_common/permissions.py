"""What one institution's signature under an agreement allows, in plain words.

Guarantees: pure; says who may use which of its data, for what, what leaves and who gets it, how
much epsilon that is and what it means, until when, and how to get out. `summaries` says all terms;
this says what they come to for the reader.

Source: the odds that epsilon bounds are those of Kasiviswanathan and Smith, On the 'Semantics' of
Differential Privacy (2014): what somebody believes after seeing all models differs from what they
had believed without a person's record by at most a factor e^epsilon in the odds, but for delta.
"""

import math
from collections.abc import Iterator
from fractions import Fraction

from accord_common.agreement import Agreement, Dataset
from accord_common.duo import modifiers, words

_SURE = 99.9  # per cent; beyond it, a bound on a guess bounds nothing that anybody would feel


def what_signing_allows(agreement: Agreement, party: str) -> str:
    """Write the permission for its reader.

    Args:
        agreement: the terms.
        party: whose signature it is.

    Returns:
        Lines of text without a final newline.

    Raises:
        NotFoundError: `unknown-party`.
    """
    reader = agreement.party(party)
    own = [dataset for dataset in agreement.datasets if dataset.owner == party]
    (coordinator,) = agreement.with_role("coordinator")
    (aggregator,) = agreement.with_role("aggregator")
    lines = [f"What a signature of {reader.name} allows", ""]
    lines += _wrapped(
        "Who",
        f"{coordinator.name} may start training; {aggregator.name} adds up "
        "what the institutions send. Neither sees a row, or one institution's update.",
    )
    lines += _wrapped("For what", _purpose(agreement))
    if own:
        lines += ["Your data"]
        lines += [f"  {line}" for dataset in own for line in _dataset(dataset)]
    else:
        lines += ["Your data", "  none: this institution puts no dataset in"]
    lines += _wrapped("What leaves", _leaves(agreement, own))
    lines += _wrapped("Who gets the model", _recipients(agreement))
    lines += _wrapped(
        "Until when",
        f"from {agreement.valid_from} until {agreement.valid_until}; "
        f"records of it are kept for {agreement.retention_days} days",
    )
    lines += ["How to get out", *(f"  {line}" for line in _exits(reader.role))]
    return "\n".join(lines)


def meaning(epsilon: str, delta: str) -> str:
    """Say what an epsilon lets somebody find out about one person.

    Args:
        epsilon: the cap, a decimal.
        delta: the chance that the bound fails.
    """
    right = guessed_right(float(epsilon))
    failing = f"but for a chance of 1 in {math.floor(1 / Fraction(delta)):,}"
    if right is None:
        return (
            "whoever sees every model might tell almost for sure whether one given person's "
            f"record was used: this epsilon bounds little ({failing})"
        )
    return (
        "whoever sees every model, and knows all else, guesses right at most "
        f"{right:g} times in 100 whether one given person's record was used, where a coin "
        f"would 50 times ({failing})"
    )


def guessed_right(epsilon: float) -> float | None:
    """How often in 100 times a guess about one person is right at most, rounded up to a tenth.

    None where the bound is so high that it says nothing.
    """
    right = 100 / (1 + math.exp(-epsilon))
    return None if right > _SURE else math.ceil(right * 10) / 10


def _purpose(agreement: Agreement) -> str:
    tasks = "; ".join(
        f"{task.objective or task.task} ({task.task}: {', '.join(task.architectures)}, at most "
        f"{task.max_rounds} rounds a run)"
        for task in agreement.tasks
    )
    conditions = modifiers(agreement.purpose)
    uses = [code for code in agreement.purpose if code not in conditions]
    told = f"{tasks}. Permitted use: {', '.join(map(words, uses)) or 'none is named'}"
    return told + (f"; on condition of {', '.join(map(words, conditions))}" if conditions else "")


def _dataset(dataset: Dataset) -> Iterator[str]:
    terms = dataset.privacy
    yield f"{dataset.name}, as if it had {dataset.size} records: rows stay where they are"
    if dataset.duo:
        yield f"  its own conditions: {', '.join(map(words, dataset.duo))}"
    yield (
        f"  all runs together may spend epsilon {terms.epsilon_cap} at delta {terms.delta}, once "
        f"and for all: {meaning(terms.epsilon_cap, terms.delta)}"
    )
    unit = "row" if dataset.unit == "record" else "patient, with all of that patient's rows,"
    yield f"  protected is one {unit}; the node refuses whatever would exceed this"
    if dataset.profile is not None:
        yield (
            "  its steward may release quality profiles: for each column the share of cells that "
            "are missing or wrong, and of each category or class,"
        )
        yield (
            f"  rounded to steps of at least {dataset.profile.smallest_cell} rows. No epsilon "
            "counts them: whoever knows all other rows may learn of one; they stay in the log"
        )
    if terms.non_private:
        yield "  AND RUNS WITHOUT PRIVACY, which protect nobody and which no epsilon counts"


def _leaves(agreement: Agreement, own: list[Dataset]) -> str:
    least = max(agreement.aggregation.min_cohort, agreement.aggregation.threshold)
    if not own:
        return "your signature, and nothing of any table"
    return (
        f"in each round one masked update, readable only as a sum of at least {least} institutions'"
        "; signed receipts of what was spent; names, sizes and schemas of the tables above. No "
        "row, no count, no metric of your own rows" + _but(own)
    )


def _but(own: list[Dataset]) -> str:
    told = any(dataset.profile is not None for dataset in own)
    return ", but for the profiles above" if told else ""


def _recipients(agreement: Agreement) -> str:
    names = [agreement.party(party).name for party in agreement.release.recipients]
    return (
        f"{', '.join(names)}; coordinator and aggregator, who make and score it, have it too. A "
        "model that was given away cannot be taken back"
        if names
        else "nobody beyond those who run the training: coordinator and aggregator"
    )


def _exits(role: str) -> list[str]:
    noun = "accord-node agreement" if role == "data-holder" else "accord agreement"
    return [
        f"for now: {noun} suspend; for good: {noun} withdraw. Alone, at any time, without a reason",
        "that anybody must accept. Runs under way stop within a round; what was spent stays spent,",
        "and what was released stays released",
    ]


def _wrapped(title: str, text: str) -> list[str]:
    return [title, f"  {text}"]
