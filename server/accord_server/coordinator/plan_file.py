"""The plan of a run as a person writes it.

    agreement: Tumour screening        # title, hash, or the hash's first digits
    task: tabular-binary
    architecture: logistic-regression  # or {name: mlp, hidden: [16]}
    rounds: 8
    epsilon: 2.4                       # or noise_multiplier: 1.5
    sampling_rate: 0.1
    steps: 10
    learning_rate: 0.5
    clipping_norm: 1

Optional: `title`, `datasets` (`owner/name`; all of the agreement's otherwise), `spare_attempts`,
`server`, `deadlines`, `seed` of the public initial weights, `ring_bits` (32; 16 halves what is
uploaded and needs noise of 4 steps, 64 is finer), `weights` of the sites' updates (`equal`; `size`
takes the agreed public sizes), `privacy: {mode: none}` in place of epsilon (a run that protects
nobody's record, for comparison; `clipping_norm` then bounds a whole step's gradient), and `adapt`,
to train a part of the model:

    adapt:
      base: public.safetensors         # named float32 arrays; fresh weights from `seed` otherwise
      freeze: ["0", "2"]               # layers, or parameters, that stay
      lora: {rank: 8, layers: ["0"]}   # adapters beside linear layers, whose own weights stay
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from accord_common.fields import Count, Name, Positive, Slug
from accord_common.manifest import PrivacyMode, Seconds
from accord_server.coordinator.documents import Document, Number


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class ArchitectureEntry(Document):
    """A name alone, or with the architecture's own arguments beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Slug

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything beside the name."""
        return dict(self.__pydantic_extra__ or {})


class LoraEntry(Document):
    """Adapters of low rank."""

    rank: Positive
    layers: Annotated[tuple[str, ...], Field(min_length=1)]


class AdaptEntry(Document):
    """What of a public model stays, and what is trained beside it."""

    base: str | None = None
    freeze: tuple[str, ...] = ()
    lora: LoraEntry | None = None

    @model_validator(mode="after")
    def _adapts(self) -> Self:
        if not self.freeze and self.lora is None:
            raise ValueError("give `freeze`, `lora` or both: otherwise all is trained")
        return self


class ServerEntry(Document):
    """The server's optimiser; the moments are used by `fedadam` and `fedyogi`."""

    name: Literal["fedavg", "fedadam", "fedyogi"] = "fedavg"
    learning_rate: Number = "1"
    beta1: Number = "0.9"
    beta2: Number = "0.999"
    tau: Number = "0.001"


class DeadlineEntry(Document):
    """Seconds that a stage may take before a silent node counts as lost."""

    advertise_s: Seconds = 60
    update_s: Seconds = 900
    rejoin_s: Seconds = 120


class PrivacyEntry(Document):
    """Whether rows are clipped and noise is added."""

    mode: PrivacyMode = "dp"


class PlanFile(Document):
    """The document that `accord run plan` and `accord run start` read."""

    agreement: Annotated[str, Field(min_length=1, max_length=100)]
    title: Name | None = None
    task: Slug
    privacy: PrivacyEntry = PrivacyEntry()
    architecture: Annotated[ArchitectureEntry, BeforeValidator(_named)]
    datasets: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    rounds: Positive
    epsilon: Number | None = None
    noise_multiplier: Number | None = None
    sampling_rate: Number
    steps: Annotated[int, Field(ge=1, le=100_000)]
    learning_rate: Number
    clipping_norm: Number
    weights: Literal["equal", "size"] = "equal"
    spare_attempts: Count | None = None
    server: Annotated[ServerEntry, BeforeValidator(_named)] = ServerEntry()
    deadlines: DeadlineEntry = DeadlineEntry()
    seed: Count = 0
    ring_bits: Literal[16, 32, 64] = 32
    adapt: AdaptEntry | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        given = (self.epsilon is not None) + (self.noise_multiplier is not None)
        if self.privacy.mode == "none" and given:
            raise ValueError("a run without privacy has neither epsilon nor noise_multiplier")
        if self.privacy.mode == "dp" and given != 1:
            raise ValueError("give either epsilon or noise_multiplier")
        for name in ("sampling_rate", "learning_rate", "clipping_norm"):
            if float(getattr(self, name)) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)} must be above 0")
        return self

    @property
    def max_attempts(self) -> int:
        """Rounds and spare attempts; a fifth of the rounds to spare where none are given."""
        spare = -(-self.rounds // 5) if self.spare_attempts is None else self.spare_attempts
        return self.rounds + spare
