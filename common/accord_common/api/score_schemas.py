"""What the coordinator tells of a run's models on public rows while the run goes on; see `schemas`.

Guarantees: none of it is signed, and nothing follows from it; the evaluation of the result's model
is (`receipts.Evaluation`).
"""

from typing import Annotated

from pydantic import Field

from accord_common.api.schemas import Request, View
from accord_common.fields import Count, Dec, Hash, Positive, Slug, Time

Metrics = Annotated[dict[Slug, Dec], Field(min_length=1, max_length=8)]


class ScoreRequest(Request):
    """Metrics of the model that a completed round left.

    Attributes:
        round: from 0.
        model: its hash.
        holdout: hash of the file of public rows.
        rows: how many there are.
    """

    round: Count
    model: Hash
    holdout: Hash
    rows: Positive
    metrics: Metrics


class ScoreView(View):
    """One round's metrics, by the coordinator's unsigned word."""

    round: Count
    model: Hash
    holdout: Hash
    rows: Positive
    metrics: Metrics
    created: Time
