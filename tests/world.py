"""A small signed world for tests: three hospitals, a coordinator, an aggregator, an agreement.

Everything is really signed with fresh keys; times follow the clock, so records are valid now.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from accord_common.agreement import (
    AGREEMENT,
    RESUMPTION,
    SUSPENSION,
    WITHDRAWAL,
    AggregationTerms,
    Agreement,
    Benefit,
    Dataset,
    Party,
    PermittedTask,
    PrivacyTerms,
    Release,
    Resumption,
    Role,
    Suspension,
    Withdrawal,
)
from accord_common.canonical import sha256_hex
from accord_common.enrolment import DELEGATION, ENROLMENT, OFFER, Delegation, Enrolment, Offer
from accord_common.envelope import Envelope, sign
from accord_common.fields import format_time, new_id, now
from accord_common.identity import FlowerKey, SigningKey
from accord_common.log.checkpoint import Head
from accord_common.manifest import (
    MANIFEST,
    PROTOCOL,
    AggregatorKeys,
    Architecture,
    Deadlines,
    LocalTraining,
    RunManifest,
    SecAgg,
    ServerOptimizer,
    Site,
    TaskRef,
    default_threshold,
)
from accord_common.privacy.events import NO_PREDECESSOR, LedgerEntry, Spend
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    CONSENT,
    EVALUATION,
    NODE_RECEIPT,
    RESULT,
    AggregatorReceipt,
    Consent,
    DatasetEpsilon,
    Evaluation,
    NodeReceipt,
    RunResult,
)
from accord_common.schema import NumberColumn, TableSchema
from accord_common.schema_parts import Target
from accord_common.terms import required_bound
from accord_common.vectors import scale_for

TASK = "tabular-binary"
INITIAL_MODEL = b"\0" * 12  # three float32 zeros
SCHEMA = TableSchema(
    kind="table",
    name="breast-cancer",
    columns=[
        NumberColumn(
            name="radius", type="number", minimum="0", maximum="50", centre="14", scale="3.5"
        ),
        NumberColumn(
            name="texture", type="number", minimum="0", maximum="80", centre="19", scale="4.3"
        ),
    ],
    target=Target(column="malignant", type="binary", classes=["0", "1"]),
    identifier=None,
    ignored=[],
    minimum_rows=20,
)


def model_of(round_: int) -> str:
    """Hash of the model that a round starts from."""
    return sha256_hex(INITIAL_MODEL if round_ == 0 else b"model %d" % round_)


@dataclass(frozen=True)
class Actor:
    """A party with its keys; `dataset` and `population` are a hospital's."""

    id: str
    name: str
    role: Role
    identity: SigningKey
    node: SigningKey
    flower: FlowerKey
    dataset: str = field(default_factory=new_id)
    population: str = field(default_factory=new_id)
    contact: str = "data@example.org"

    def enrolment(self, later_s: int = 0) -> Envelope:
        """Signed now or later; one of the same second is the same record."""
        body = Enrolment(
            party=self.id,
            name=self.name,
            role=self.role,
            identity_key=self.identity.public,
            jurisdiction="DE",
            contact=self.contact,
            created=format_time(now() + timedelta(seconds=later_s)),
        )
        return sign(ENROLMENT, body, self.identity)

    def delegation(self, previous: str | None = None, **changes: Any) -> Envelope:
        body = Delegation(
            previous=previous,
            party=self.id,
            node_key=self.node.public,
            flower_key=self.flower.public if self.role == "data-holder" else None,
            valid_from=format_time(now() - timedelta(hours=1)),
            valid_until=format_time(now() + timedelta(days=365)),
        ).model_copy(update=changes)
        return sign(DELEGATION, body, self.identity)


def make_actor(name: str, role: Role) -> Actor:
    """Make a party with fresh keys."""
    return Actor(
        new_id(),
        name,
        role,
        SigningKey.generate(),
        SigningKey.generate(),
        FlowerKey.generate(),
    )


@dataclass(frozen=True)
class RunKeys:
    """The aggregator's keys for one run, and its offer of them."""

    receipt: SigningKey
    offer: Envelope


@dataclass(frozen=True)
class World:
    """Parties, their agreement (signed by all), and builders for every record of a run.

    Delegations are made once, so their hashes are stable; `delegations` maps party to envelope.
    """

    hospitals: list[Actor]
    coordinator: Actor
    aggregator: Actor
    log_key: SigningKey
    agreement: Agreement
    delegations: dict[str, Envelope]

    @property
    def actors(self) -> list[Actor]:
        return [*self.hospitals, self.coordinator, self.aggregator]

    @property
    def keys(self) -> dict[str, Actor]:
        """Party id to actor."""
        return {actor.id: actor for actor in self.actors}

    @property
    def agreement_envelope(self) -> Envelope:
        return sign(AGREEMENT, self.agreement, *(actor.identity for actor in self.actors))

    @property
    def agreement_hash(self) -> str:
        return self.agreement_envelope.hash

    def partly_signed(self, *actors: Actor) -> Envelope:
        return sign(AGREEMENT, self.agreement, *(actor.identity for actor in actors))

    def amended(self, **changes: Any) -> "World":
        """The same world under other terms (a new, fully signed agreement)."""
        value = self.agreement.model_dump() | changes
        return replace(self, agreement=Agreement.model_validate(value))

    def next_version(self, **changes: Any) -> "World":
        """The same world under the agreement's next version."""
        version, previous = self.agreement.version + 1, self.agreement_hash
        return self.amended(version=version, previous=previous, **changes)

    def withdrawal(self, actor: Actor, reason: str = "the study ended") -> Envelope:
        body = Withdrawal(
            agreement=self.agreement_hash, party=actor.id, reason=reason, created=_now()
        )
        return sign(WITHDRAWAL, body, actor.identity)

    def suspension(
        self, actor: Actor, reason: str = "an audit", previous: str | None = None
    ) -> Envelope:
        body = Suspension(
            agreement=self.agreement_hash,
            party=actor.id,
            previous=previous,
            reason=reason,
            created=_now(),
        )
        return sign(SUSPENSION, body, actor.identity)

    def resumption(self, actor: Actor, suspension: str) -> Envelope:
        body = Resumption(
            agreement=self.agreement_hash, party=actor.id, suspension=suspension, created=_now()
        )
        return sign(RESUMPTION, body, actor.identity)

    def run_keys(self, address: str = "127.0.0.1:9092") -> RunKeys:
        """A fresh offer of the aggregator."""
        receipt = SigningKey.generate()
        body = Offer(
            party=self.aggregator.id,
            delegation=self.delegations[self.aggregator.id].hash,
            address=address,
            envelope_key=SigningKey.generate().public,
            receipt_key=receipt.public,
            tls_spki=sha256_hex(receipt.public.encode()),
            created=_now(),
        )
        return RunKeys(receipt, sign(OFFER, body, self.aggregator.node))

    def manifest_body(self, keys: RunKeys, **changes: Any) -> RunManifest:
        """A manifest that the agreement permits; `changes` replace top-level fields."""
        offer = Offer.from_bytes(keys.offer.payload)
        n = len(self.hospitals)
        value: dict[str, Any] = RunManifest(
            protocol=PROTOCOL,
            id=new_id(),
            agreement=self.agreement_hash,
            title="First run",
            created=_now(),
            software="0.1.0",
            roster=[
                Site(
                    party=actor.id,
                    dataset=actor.dataset,
                    delegation=self.delegations[actor.id].hash,
                    weight=200,
                    sampling_rate="0.1",
                    noise_multiplier="2",
                )
                for actor in sorted(self.hospitals, key=lambda actor: actor.id)
            ],
            task=TaskRef(name=TASK, distribution="accord", version="0.1.0", code_hash="ab" * 32),
            schema_hash=SCHEMA.hash,
            architecture=Architecture(name="logistic", args={"features": 2}),
            initial_model=sha256_hex(INITIAL_MODEL),
            layout="cd" * 32,
            dimension=3,
            adaptation=None,
            privacy="dp",
            local=LocalTraining(steps=5, learning_rate="0.5", clipping_norm="1", clipping="flat"),
            server=ServerOptimizer(
                name="fedavg", learning_rate="1", beta1="0", beta2="0", tau="0.001"
            ),
            secagg=SecAgg(
                threshold=default_threshold(n),
                min_cohort=min(3, n),
                colluders=0,
                ring_bits=32,
                bound="4",
                scale=2**27,
            ),
            rounds=2,
            max_attempts_total=4,
            deadlines=Deadlines(advertise_s=10, update_s=60, rejoin_s=10),
            aggregator=AggregatorKeys(
                party=offer.party,
                offer=keys.offer.hash,
                address=offer.address,
                envelope_key=offer.envelope_key,
                receipt_key=offer.receipt_key,
                tls_spki=offer.tls_spki,
            ),
        ).model_dump()
        value |= changes
        if "secagg" not in changes:  # bound and scale follow from the rest
            bound = required_bound(self.agreement, RunManifest.model_validate(value))
            value["secagg"] |= {"bound": bound, "scale": scale_for(bound, n)}
        return RunManifest.model_validate(value)

    def manifest(self, keys: RunKeys, **changes: Any) -> Envelope:
        return sign(MANIFEST, self.manifest_body(keys, **changes), self.coordinator.identity)

    def consent(
        self, actor: Actor, manifest: Envelope, refusal: str = "", log: Head | None = None
    ) -> Envelope:
        body = Consent(
            manifest=manifest.hash,
            party=actor.id,
            dataset=actor.dataset,
            delegation=self.delegations[actor.id].hash,
            decision="refuse" if refusal else "accept",
            code=refusal,
            reason="above the cap" if refusal else "",
            ledger_head=NO_PREDECESSOR,
            nonce=secrets.token_hex(32),
            created=_now(),
            log=log,
        )
        return sign(CONSENT, body, actor.node)

    def node_receipt(
        self,
        actor: Actor,
        manifest: Envelope,
        previous: str,
        round_: int,
        attempt: int = 0,
        entry: int | None = None,
    ) -> Envelope:
        """Of one attempt; `entry` is its number in the node's ledger, if that is not the round."""
        run = RunManifest.from_bytes(manifest.payload)
        site = run.site(actor.id)
        spend = Spend(
            population=actor.population,
            dataset=actor.dataset,
            agreement=run.agreement,
            run=manifest.hash,
            round=round_,
            attempt=attempt,
            mechanism="poisson-gaussian" if run.privacy == "dp" else "none",
            noise_multiplier=site.noise_multiplier,
            clipping_norm=run.local.clipping_norm,
            sampling_rate=site.sampling_rate,
            size=self.agreement.dataset(actor.dataset).size,
            steps=run.local.steps,
            sampler="poisson",
            adjacency=self.agreement.dataset(actor.dataset).privacy.adjacency,
            code_version="0.1.0",
        )
        number = round_ if entry is None else entry
        charge = LedgerEntry(sequence=number, previous=NO_PREDECESSOR, spend=spend, recorded=_now())
        body = NodeReceipt(
            previous=previous,
            manifest=manifest.hash,
            party=actor.id,
            round=round_,
            attempt=attempt,
            model=model_of(round_),
            upload=sha256_hex(b"upload %d" % round_),
            upload_bytes=100,
            ledger=charge,
            created=_now(),
        )
        return sign(NODE_RECEIPT, body, actor.node)

    def aggregator_receipt(
        self,
        keys: RunKeys,
        manifest: Envelope,
        previous: str,
        round_: int,
        attempt: int = 0,
        lost: tuple[str, ...] = (),
        refused: dict[str, str] | None = None,
    ) -> Envelope:
        cohort = [site.party for site in RunManifest.from_bytes(manifest.payload).roster]
        body = AggregatorReceipt(
            previous=previous,
            manifest=manifest.hash,
            round=round_,
            attempt=attempt,
            outcome="aborted" if lost else "completed",
            cohort=cohort,
            lost=list(lost),
            refused=dict(refused or {}),
            uploads=[] if lost else [sha256_hex(party.encode()) for party in cohort],
            sum=None if lost else sha256_hex(b"sum %d" % round_),
            model_before=model_of(round_),
            model_after=None if lost else model_of(round_ + 1),
            created=_now(),
        )
        return sign(AGGREGATOR_RECEIPT, body, keys.receipt)

    def result(
        self, keys: RunKeys, manifest: Envelope, previous: str, model: str | None, **changes: Any
    ) -> Envelope:
        value = {
            "previous": previous,
            "manifest": manifest.hash,
            "status": "completed",
            "cause": "",
            "code": "",
            "refused": {},
            "rounds": 2,
            "model": model,
            "epsilon": [
                DatasetEpsilon(
                    party=actor.id,
                    dataset=actor.dataset,
                    attempts=2,
                    epsilon="0.5",
                    delta="0.00001",
                )
                for actor in sorted(self.hospitals, key=lambda actor: actor.id)
            ],
            "created": _now(),
        }
        return sign(RESULT, RunResult.model_validate(value | changes), keys.receipt)

    def evaluation(self, manifest: Envelope, result: Envelope, model: str) -> Envelope:
        body = Evaluation(
            result=result.hash,
            manifest=manifest.hash,
            model=model,
            holdout=sha256_hex(b"hold-out"),
            rows=143,
            metrics={"auc": "0.98", "accuracy": "0.95"},
            created=_now(),
        )
        return sign(EVALUATION, body, self.coordinator.identity)


def make_world(
    n: int = 3,
    *,
    log_key: SigningKey | None = None,
    moment: datetime | None = None,
    names: Mapping[str, str] | None = None,
) -> World:
    """Make n hospitals, a coordinator and an aggregator under one agreement; `names` renames."""
    moment = moment or now()
    log_key = log_key or SigningKey.generate()
    names = names or {}

    def made(name: str, role: Role) -> Actor:
        return make_actor(names.get(name, name), role)

    hospitals = [made(f"hospital-{index}", "data-holder") for index in range(1, n + 1)]
    coordinator = made("coordinator", "coordinator")
    aggregator = made("aggregator", "aggregator")
    actors = [*hospitals, coordinator, aggregator]
    agreement = Agreement(
        id=new_id(),
        version=1,
        previous=None,
        title="Tumour screening",
        purpose=["DUO:0000007"],
        legal_basis="consent",
        responsibilities="each for its own data",
        parties=[
            Party(
                id=actor.id,
                name=actor.name,
                role=actor.role,
                identity_key=actor.identity.public,
                jurisdiction="DE",
                contact=actor.contact,
            )
            for actor in sorted(actors, key=lambda actor: actor.id)
        ],
        datasets=[
            Dataset(
                id=actor.dataset,
                name="tumours",
                owner=actor.id,
                population=actor.population,
                schema_hash=SCHEMA.hash,
                size=200,
                unit="record",
                privacy=PrivacyTerms(
                    epsilon_cap="3",
                    delta="0.00001",
                    adjacency="add-remove",
                    min_noise_multiplier="0.5",
                    max_clipping_norm="10",
                    max_sampling_rate="0.5",
                    non_private=False,
                ),
            )
            for actor in sorted(hospitals, key=lambda actor: actor.dataset)
        ],
        tasks=[
            PermittedTask(
                task=TASK,
                objective="tell malignant from benign",
                architectures=["logistic", "mlp"],
                max_rounds=100,
            )
        ],
        aggregation=AggregationTerms(
            min_cohort=min(3, n), threshold=default_threshold(n), colluders=0
        ),
        release=Release(recipients=sorted(actor.id for actor in actors), metrics="public-holdout"),
        benefit=Benefit(rule="equal", shares={}),
        retention_days=365,
        valid_from=format_time(moment - timedelta(days=1)),
        valid_until=format_time(moment + timedelta(days=365)),
        log_key=log_key.public,
    )
    delegations = {actor.id: actor.delegation() for actor in actors if actor.role != "coordinator"}
    return World(hospitals, coordinator, aggregator, log_key, agreement, delegations)


def _now() -> str:
    return format_time(now())
