"""What would make a plan fit beside what was spent before: the noise, where any is enough."""

from collections.abc import Iterable, Mapping

from accord_common.agreement import Dataset
from accord_common.errors import PolicyError
from accord_common.fields import Id
from accord_common.privacy.accounting import Tally
from accord_common.privacy.calibration import calibrate
from accord_server.coordinator.plan_file import PlanFile


def remedies(
    plan: PlanFile, datasets: Iterable[Dataset], spent: Mapping[Id, Tally]
) -> dict[Id, str]:
    """By dataset id, a sentence for people who planned too much.

    Args:
        plan: what they wrote.
        datasets: those on which it does not fit.
        spent: by population, from `planning.spent_before`.
    """
    return {dataset.id: _remedy(plan, dataset, spent) for dataset in datasets}


def _remedy(plan: PlanFile, dataset: Dataset, spent: Mapping[Id, Tally]) -> str:
    terms, before = dataset.privacy, spent.get(dataset.population)
    less = "fewer rounds, steps or spare attempts, or amend the agreement."
    try:
        noise = calibrate(
            *(terms.epsilon_cap, terms.delta, plan.sampling_rate),
            *(plan.steps * plan.max_attempts, terms.adjacency),
            spent=before.private if before else None,
        )
    except PolicyError:
        return f"No noise is enough: plan {less}"
    return f"With noise_multiplier {noise} it would fit; or plan {less}"
