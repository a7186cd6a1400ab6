"""The coordinator's signed word about a model on public rows.

Guarantees: what is scored is the model that the run's verified result names; the record says which
file it was scored on.
"""

from datetime import datetime

from accord_common.api.client import RegistryClient
from accord_common.chain import VerifiedResult, VerifiedRun
from accord_common.envelope import sign
from accord_common.errors import ConflictError
from accord_common.fields import format_time, to_decimal
from accord_common.identity import SigningKey
from accord_common.receipts import EVALUATION, Evaluation
from accord_server.coordinator.weights import Holdout, Model

_PLACES = 6  # digits of a metric


def evaluate_result(
    client: RegistryClient,
    run: VerifiedRun,
    result: VerifiedResult,
    model: Model,
    holdout: Holdout,
    moment: datetime,
) -> Evaluation:
    """Score a result's model.

    Raises:
        ConflictError: `no-model` where the run left none.
    """
    if result.result.model is None:
        raise ConflictError("no-model", f"run {run.manifest.id} left no model")
    metrics = model.score(client.get_blob(result.result.model), holdout)
    return Evaluation(
        result=result.result_hash,
        manifest=run.manifest_hash,
        model=result.result.model,
        holdout=holdout.file_hash,
        rows=holdout.table.rows,
        metrics={name: to_decimal(round(value, _PLACES)) for name, value in metrics.items()},
        created=format_time(moment),
    )


def publish(client: RegistryClient, evaluation: Evaluation, key: SigningKey) -> str:
    """Sign and post an evaluation; return its hash."""
    return client.post(sign(EVALUATION, evaluation, key)).hash
