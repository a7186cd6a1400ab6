"""The run manifest: everything that a run will do, fixed before any node takes part.

Guarantees: a manifest that decodes is consistent in itself (roster sorted, secure-aggregation
numbers within SPEC.md's bounds, attempts cover the rounds, noise in every run but one that says it
has none). Whether an agreement permits it is
`consent.py`'s question at each node. Nodes derive nothing from the server that does not follow from
this record.
"""

from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from accord_common.canonical import canonical_bytes, sha256_hex
from accord_common.enrolment import Address
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError, VerificationError
from accord_common.fields import Dec, Hash, Id, Name, Positive, PublicKey, Record, Slug, Time

MANIFEST = "manifest"
PROTOCOL = 1  # nodes refuse any other
MAX_ROSTER = 200  # what the drawn graph is tried at; `terms` permits fewer

PrivacyMode = Literal["dp", "none"]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
MAX_LAYERS = 1000  # that an adaptation names

Dimension = Annotated[int, Field(ge=1, le=1 << 27)]  # float32 in a blob of 512 MiB
LayerName = Annotated[
    str, StringConstraints(pattern=r"^[0-9A-Za-z_]+(\.[0-9A-Za-z_]+)*$", max_length=200)
]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+!-]{1,64}$")]


class Site(Record):
    """One data holder's part: which dataset, which node key, which public sampling constants."""

    party: Id
    dataset: Id
    delegation: Hash
    weight: Positive
    sampling_rate: Dec
    noise_multiplier: Dec


class TaskRef(Record):
    """The installed package that holds the task; a node runs only code it has with this hash."""

    name: Slug
    distribution: Name
    version: Version
    code_hash: Hash


class Architecture(Record):
    """A model by name; arguments are integers, strings, booleans and lists of them."""

    name: Slug
    args: dict[Slug, Any]

    @model_validator(mode="after")
    def _canonical(self) -> Self:
        canonical_bytes(self.args)
        return self


class Lora(Record):
    """Adapters beside linear layers, whose own numbers stay as they are (Hu et al. 2021)."""

    rank: Annotated[int, Field(ge=1, le=65_536)]
    layers: Annotated[list[LayerName], Field(min_length=1, max_length=MAX_LAYERS)]

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        _require_sorted("lora.layers", self.layers)
        return self


class Adaptation(Record):
    """Only part of a model is trained and travels; the rest is public and the same at all sites.

    Attributes:
        base: `model_hash` of all numbers of the architecture, in layout order.
        layout: of all parameters of the architecture.
        dimension: how many numbers the base has.
        frozen: a parameter whose name is one of these, or begins with one and a dot, stays.
        lora: adapters, which are trained.
    """

    base: Hash
    layout: Hash
    dimension: Dimension
    frozen: Annotated[list[LayerName], Field(max_length=MAX_LAYERS)]
    lora: Lora | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_sorted("frozen", self.frozen)
        if not self.frozen and self.lora is None:
            raise ValueError("an adaptation that freezes nothing is none: write null")
        return self


class LocalTraining(Record):
    """SGD at each site: `steps` Poisson batches a round.

    `clipping_norm` bounds each row's gradient, or in a run without privacy each step's.
    """

    steps: Annotated[int, Field(ge=1, le=100_000)]
    learning_rate: Dec
    clipping_norm: Dec


class ServerOptimizer(Record):
    """How the averaged update moves the model (Reddi et al. 2021, algorithm 2)."""

    name: Literal["fedavg", "fedadam", "fedyogi"]
    learning_rate: Dec
    beta1: Dec
    beta2: Dec
    tau: Dec


class SecAgg(Record):
    """Secure-aggregation numbers; `scale` follows from `bound`, n and `ring_bits` (SPEC.md)."""

    threshold: Positive
    min_cohort: Positive
    colluders: Annotated[int, Field(ge=0, le=1000)]
    ring_bits: Literal[16, 32, 64]
    bound: Dec
    scale: Positive


class Deadlines(Record):
    """Seconds that a stage may take before a silent node counts as lost."""

    advertise_s: Seconds
    update_s: Seconds
    rejoin_s: Seconds


class AggregatorKeys(Record):
    """The offer that the coordinator chose, spelled out."""

    party: Id
    offer: Hash
    address: Address
    envelope_key: PublicKey
    receipt_key: PublicKey
    tls_spki: Hash


class RunManifest(Record):
    """One run under one agreement; signed by the coordinator's identity key.

    `initial_model`, `layout` and `dimension` are those of what is trained and travels: the whole
    model, or with an `adaptation` the rest of it. `privacy` is `dp` (clipped rows, noise at each
    site) or `none`, which protects nobody's record.
    """

    protocol: Annotated[int, Field(ge=0, le=1_000_000)]
    id: Id
    agreement: Hash
    title: Name
    created: Time
    software: Version
    roster: Annotated[list[Site], Field(min_length=2, max_length=MAX_ROSTER)]
    task: TaskRef
    schema_hash: Hash
    architecture: Architecture
    initial_model: Hash
    layout: Hash
    dimension: Dimension
    adaptation: Adaptation | None
    privacy: PrivacyMode
    local: LocalTraining
    server: ServerOptimizer
    secagg: SecAgg
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    max_attempts_total: Annotated[int, Field(ge=1, le=200_000)]
    deadlines: Deadlines
    aggregator: AggregatorKeys

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        parties = [site.party for site in self.roster]
        if parties != sorted(set(parties)):
            raise ValueError("the roster is not sorted by party id, or names a party twice")
        if len({site.dataset for site in self.roster}) != len(parties):
            raise ValueError("the roster names a dataset twice")
        for site in self.roster:
            if (self.privacy == "dp") != (Fraction(site.noise_multiplier) > 0):
                raise ValueError(
                    f"noise multiplier {site.noise_multiplier} in a run with privacy {self.privacy}"
                )
        if self.max_attempts_total < self.rounds:
            raise ValueError("max_attempts_total is below rounds")
        return self

    @property
    def n(self) -> int:
        """Size of the roster; n and t never depend on who shows up."""
        return len(self.roster)

    @property
    def smallest_cohort(self) -> int:
        """Fewest nodes whose sum may be formed: max(t, n_min)."""
        return max(self.secagg.threshold, self.secagg.min_cohort)

    def site(self, party: str) -> Site:
        """Return a party's entry; `not-in-roster` where it has none."""
        for site in self.roster:
            if site.party == party:
                return site
        raise NotFoundError("not-in-roster", f"{party} is not in the roster of run {self.id}")

    def index(self, party: str) -> int:
        """Position in the roster, from 0: the index that orders pairwise masks."""
        return self.roster.index(self.site(party))


def verify_manifest(envelope: Envelope, *, coordinator_key: str) -> RunManifest:
    """Decode a manifest and check that the coordinator, alone, signed it.

    Raises:
        FormatError: the bytes are not a manifest.
        VerificationError: `wrong-kind`, or the signature does not hold.
    """
    if envelope.kind != MANIFEST:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {MANIFEST}")
    envelope.verify([coordinator_key])
    return RunManifest.from_bytes(envelope.payload)


def context(manifest_hash: str, round_: int, attempt: int) -> bytes:
    """`ctx` of SPEC.md: manifest hash, round and attempt, 32 + 8 + 8 bytes, big-endian."""
    return bytes.fromhex(manifest_hash) + round_.to_bytes(8, "big") + attempt.to_bytes(8, "big")


def default_threshold(n: int) -> int:
    """T = floor(2n/3) + 1, so that two different cohorts cannot both be agreed on."""
    return 2 * n // 3 + 1


def _require_sorted(what: str, names: list[str]) -> None:
    if names != sorted(set(names)):
        raise ValueError(f"{what} is not sorted, or names a layer twice")


def model_hash(vector: bytes) -> str:
    """SHA-256 of a flat float32 little-endian vector: how a model is named in a run."""
    return sha256_hex(vector)
