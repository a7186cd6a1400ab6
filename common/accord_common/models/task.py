"""What a task is: the loss of a row, the metrics of a model, and the data it can learn from.

An institution's own task is a subclass in an installed package, named under the entry-point group
`accord.tasks` (`accord task new` writes one). `discovery` finds it by name.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from accord_common.errors import UsageError
from accord_common.models import architectures
from accord_common.models.inputs import inputs_of
from accord_common.schema import Schema


class Task(ABC):
    """Base of all tasks; an instance holds no state.

    Attributes:
        name: its entry point's name, as agreements and manifests write it.
        objective: what it optimises, as agreements write it.
        kinds: the kinds of schemas that it accepts; tables unless it says otherwise.
        targets: the target types of schemas that it accepts.
        architectures: the architectures that it accepts.
    """

    name: ClassVar[str]
    objective: ClassVar[str]
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    targets: ClassVar[frozenset[str]]
    architectures: ClassVar[frozenset[str]]

    @abstractmethod
    def outputs(self, schema: Schema) -> int:
        """How many logits a model needs for this schema."""

    @abstractmethod
    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss.

        Args:
            logits: float32 (B, outputs).
            labels: int64 (B,).

        Returns:
            float32 (B,). Row i's loss must depend on row i alone, or clipping protects nobody.
        """

    @abstractmethod
    def metrics(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Score logits (n, outputs) against labels (n,); used on public data only."""

    def build(self, architecture: str, arguments: dict[str, Any], schema: Schema) -> nn.Module:
        """Make a model for this schema.

        Raises:
            UsageError: `wrong-kind`, `wrong-target`, `wrong-architecture`, or what
                `architectures.build` raises.
        """
        if schema.kind not in self.kinds:
            raise UsageError(
                "wrong-kind",
                f"{self.name} learns from {' or '.join(sorted(self.kinds))}, schema "
                f"{schema.name} declares {schema.kind}",
            )
        if schema.target.type not in self.targets:
            raise UsageError(
                "wrong-target",
                f"{self.name} takes a {' or '.join(sorted(self.targets))} target, schema "
                f"{schema.name} has {schema.target.type}",
            )
        if architecture not in self.architectures:
            raise UsageError(
                "wrong-architecture",
                f"{self.name} does not take {architecture!r}",
                hint=f"It takes {', '.join(sorted(self.architectures))}.",
            )
        return architectures.build(architecture, arguments, inputs_of(schema), self.outputs(schema))
