"""Following one run with public rows at hand: score each model, prove the end, sign the metrics.

Guarantees: nothing is asked of a node; what is signed is the score of the model that the verified
result names.
"""

from contextlib import suppress
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RunView
from accord_common.api.score_schemas import ScoreRequest
from accord_common.chain import VerifiedResult
from accord_common.errors import ConflictError, NotFoundError, TransportError
from accord_common.fields import to_decimal
from accord_common.identity import SigningKey
from accord_common.schema_file import load as load_schema
from accord_server.coordinator import desk
from accord_server.coordinator.updates import RoundUpdate

if TYPE_CHECKING:
    from accord_common.receipts import Evaluation

_PLACES = 6  # digits of a metric


class Session:
    """A verified run, and public rows where there are any; without rows torch is not loaded."""

    def __init__(
        self,
        client: RegistryClient,
        view: RunView,
        holdout: Path | None,
        schema: Path | None,
    ) -> None:
        """Verify the run and read the rows.

        Args:
            client: the registry.
            view: which run.
            holdout: public rows; None for no metrics.
            schema: their schema as a person wrote it; None for the registered one.

        Raises:
            VerificationError: the run does not verify, or the schema is not the run's.
            DataError: the rows break the schema.
        """
        self.run = desk.verified_run(client, view)
        self._client = client
        self._rows = None
        if holdout is None:
            return
        from accord_server.coordinator.weights import Model, load_holdout

        wanted = self.run.manifest.schema_hash
        table = desk.schema_of(client, wanted) if schema is None else load_schema(schema)
        self._model = Model(self.run.manifest, table, client.get_blob)
        self._rows = load_holdout(holdout, table)

    @property
    def scores(self) -> bool:
        """Whether there are rows to score on."""
        return self._rows is not None

    def score(self, weights: bytes) -> dict[str, float]:
        """Metrics of a model; empty without rows."""
        return {} if self._rows is None else self._model.score(weights, self._rows)

    def result(self) -> VerifiedResult:
        """The run's verified result; `no-result` while the registry has none."""
        result = desk.verified_result(self._client, self.run)
        if result is None:
            raise NotFoundError("no-result", f"run {self.run.manifest.id} has no result yet")
        return result

    def evaluate(self, moment: datetime) -> "Evaluation":
        """Score the result's model; only with rows."""
        from accord_server.coordinator.evaluation import evaluate_result

        if self._rows is None:
            raise NotFoundError("no-holdout", "there are no public rows to score on")
        return evaluate_result(
            self._client, self.run, self.result(), self._model, self._rows, moment
        )

    def tell(self, update: RoundUpdate) -> None:
        """Let the registry's pages show a round's metrics; where they cannot, they go without."""
        finite = {name: value for name, value in update.metrics.items() if isfinite(value)}
        if self._rows is None or update.model is None or not finite:
            return
        score = ScoreRequest(
            round=update.round - 1,
            model=update.model,
            holdout=self._rows.file_hash,
            rows=self._rows.table.rows,
            metrics={name: to_decimal(round(value, _PLACES)) for name, value in finite.items()},
        )
        with suppress(TransportError, ConflictError):  # `watch` tells of a registry that is away
            self._client.tell_score(self.run.manifest.id, score)

    def publish(self, evaluation: "Evaluation", key: SigningKey) -> str:
        """Sign and post an evaluation; return its hash."""
        from accord_server.coordinator.evaluation import publish

        return publish(self._client, evaluation, key)
