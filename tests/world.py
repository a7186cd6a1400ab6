"""A complete signed world: parties, keys, delegations, agreement, offer, manifest.

Everything is really signed; a test changes one thing and signs it again with `World.resign_*`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from accord_common import agreement as agreements
from accord_common import enrolment, manifest
from accord_common.agreement import Agreement, Party
from accord_common.enrolment import Delegation, Offer
from accord_common.envelope import Envelope, sign
from accord_common.fields import format_time, new_id, now
from accord_common.identity import FlowerKey, SigningKey
from accord_common.manifest import RunManifest, default_threshold, model_hash
from accord_common.terms import required_bound
from accord_common.vectors import scale_for
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

SCHEMA, LAYOUT, CODE = "5c" * 32, "1a" * 32, "c0" * 32


@dataclass(frozen=True)
class Member:
    """One party with its private keys."""

    party: Party
    identity: SigningKey
    node: SigningKey
    flower: FlowerKey
    delegation: Envelope

    @property
    def id(self) -> str:
        return self.party.id


@dataclass
class World:
    """Members in roster order, then coordinator and aggregator; builders for signed records."""

    hospitals: list[Member]
    coordinator: Member
    aggregator: Member
    log_key: SigningKey
    envelope_private: X25519PrivateKey
    receipt_key: SigningKey
    agreement: Envelope
    offer: Envelope
    started: datetime = field(default_factory=now)

    @property
    def members(self) -> list[Member]:
        return [*self.hospitals, self.coordinator, self.aggregator]

    @property
    def terms(self) -> Agreement:
        return Agreement.from_bytes(self.agreement.payload)

    @property
    def node_keys(self) -> dict[str, str]:
        """Party id to node public key, hospitals only."""
        return {member.id: member.node.public for member in self.hospitals}

    @property
    def delegations(self) -> dict[str, Envelope]:
        return {member.delegation.hash: member.delegation for member in self.members}

    def sign_agreement(self, **changes: Any) -> Envelope:
        """Sign the agreement with `changes` at its top level, by every party."""
        changed = Agreement.from_json({**self.terms.model_dump(mode="json"), **changes})
        return sign(agreements.AGREEMENT, changed, *(member.identity for member in self.members))

    def manifest_body(self, **changes: Any) -> RunManifest:
        """Build a run manifest that the agreement permits; `changes` replace top-level fields.

        Bound and scale follow from the rest unless `secagg` itself is changed.
        """
        terms = self.terms
        offer = Offer.from_bytes(self.offer.payload)
        n = len(self.hospitals)
        body: dict[str, Any] = {
            "protocol": manifest.PROTOCOL,
            "id": new_id(),
            "agreement": self.agreement.hash,
            "title": "Tumour classification",
            "created": format_time(self.started),
            "software": "0.1.0",
            "roster": [
                {
                    "party": member.id,
                    "dataset": next(d.id for d in terms.datasets if d.owner == member.id),
                    "delegation": member.delegation.hash,
                    "weight": 1,
                    "sampling_rate": "0.5",
                    "noise_multiplier": "4",
                }
                for member in self.hospitals
            ],
            "task": {
                "name": "tabular-binary",
                "distribution": "accord",
                "version": "0.1.0",
                "code_hash": CODE,
            },
            "schema_hash": SCHEMA,
            "architecture": {"name": "logistic-regression", "args": {}},
            "initial_model": model_hash(bytes(4 * 31)),
            "layout": LAYOUT,
            "dimension": 31,
            "local": {"steps": 5, "learning_rate": "0.5", "clipping_norm": "1"},
            "server": {
                "name": "fedavg",
                "learning_rate": "1",
                "beta1": "0.9",
                "beta2": "0.99",
                "tau": "0.001",
            },
            "secagg": {
                "threshold": default_threshold(n),
                "min_cohort": max(2, min(3, n)),
                "colluders": 0,
                "ring_bits": 32,
                "bound": "1",
                "scale": 1,
            },
            "rounds": 3,
            "max_attempts_total": 5,
            "deadlines": {"advertise_s": 10, "update_s": 60, "rejoin_s": 10},
            "aggregator": {
                "party": self.aggregator.id,
                "offer": self.offer.hash,
                "address": offer.address,
                "envelope_key": offer.envelope_key,
                "receipt_key": offer.receipt_key,
                "tls_spki": offer.tls_spki,
            },
        }
        body.update(changes)
        if "secagg" not in changes:
            bound = required_bound(terms, RunManifest.from_json(body))
            body["secagg"] = {**body["secagg"], "bound": bound, "scale": scale_for(bound, n)}
        return RunManifest.from_json(body)

    def manifest(self, **changes: Any) -> Envelope:
        """Sign `manifest_body(**changes)` by the coordinator."""
        return sign(manifest.MANIFEST, self.manifest_body(**changes), self.coordinator.identity)


def make_member(name: str, role: agreements.Role, started: datetime) -> Member:
    """Make a party with all its keys and a delegation of one day."""
    identity, node, flower = SigningKey.generate(), SigningKey.generate(), FlowerKey.generate()
    party = Party(
        id=new_id(),
        name=name,
        role=role,
        identity_key=identity.public,
        jurisdiction="DE",
        contact=f"{name}@example.org",
    )
    delegation = Delegation(
        previous=None,
        party=party.id,
        node_key=node.public,
        flower_key=flower.public if role == "data-holder" else None,
        valid_from=format_time(started - timedelta(hours=1)),
        valid_until=format_time(started + timedelta(days=1)),
    )
    return Member(party, identity, node, flower, sign(enrolment.DELEGATION, delegation, identity))


def make_offer(
    aggregator: Member,
    envelope_private: X25519PrivateKey,
    receipt_key: SigningKey,
    *,
    address: str = "127.0.0.1:9092",
    tls_spki: str = "77" * 32,
    started: datetime | None = None,
) -> Envelope:
    """Sign an aggregator's offer of keys for one run."""
    offer = Offer(
        party=aggregator.id,
        delegation=aggregator.delegation.hash,
        address=address,
        envelope_key=envelope_private.public_key().public_bytes_raw().hex(),
        receipt_key=receipt_key.public,
        tls_spki=tls_spki,
        created=format_time(started or datetime.now(UTC)),
    )
    return sign(enrolment.OFFER, offer, aggregator.node)


def make_world(
    n: int = 3, *, size: int = 200, schema_hash: str = SCHEMA, started: datetime | None = None
) -> World:
    """Make `n` hospitals with one dataset each, a coordinator, an aggregator, and sign it all."""
    started = started or now()
    hospitals = sorted(
        (make_member(f"Hospital {chr(65 + i)}", "data-holder", started) for i in range(n)),
        key=lambda member: member.id,
    )
    coordinator = make_member("University", "coordinator", started)
    aggregator = make_member("Computing centre", "aggregator", started)
    log_key, envelope_private = SigningKey.generate(), X25519PrivateKey.generate()
    receipt_key = SigningKey.generate()
    members = [*hospitals, coordinator, aggregator]
    body = Agreement.from_json(
        {
            "id": new_id(),
            "version": 1,
            "previous": None,
            "title": "Tumour study",
            "purpose": ["DUO:0000007"],
            "legal_basis": "GDPR Art. 9(2)(j)",
            "responsibilities": "Each institution answers for its own data.",
            "parties": [
                member.party.model_dump(mode="json")
                for member in sorted(members, key=lambda member: member.id)
            ],
            "datasets": sorted(
                (
                    {
                        "id": new_id(),
                        "name": f"tumours-{member.party.name[-1].lower()}",
                        "owner": member.id,
                        "population": new_id(),
                        "schema_hash": schema_hash,
                        "size": size,
                        "unit": "record",
                        "privacy": {
                            "epsilon_cap": "3",
                            "delta": "0.00001",
                            "adjacency": "add-remove",
                            "min_noise_multiplier": "1",
                            "max_clipping_norm": "2",
                            "max_sampling_rate": "0.5",
                        },
                    }
                    for member in hospitals
                ),
                key=lambda dataset: str(dataset["id"]),
            ),
            "tasks": [
                {
                    "task": "tabular-binary",
                    "objective": "Tell malignant from benign tumours",
                    "architectures": ["logistic-regression", "mlp"],
                    "max_rounds": 100,
                }
            ],
            "aggregation": {
                "min_cohort": max(2, min(3, n)),
                "threshold": default_threshold(n),
                "colluders": 0,
            },
            "release": {
                "recipients": sorted(member.id for member in members),
                "metrics": "public-holdout",
            },
            "benefit": {"rule": "equal", "shares": {}},
            "retention_days": 3650,
            "valid_from": format_time(started - timedelta(days=1)),
            "valid_until": format_time(started + timedelta(days=365)),
            "log_key": log_key.public,
        }
    )
    agreement = sign(agreements.AGREEMENT, body, *(member.identity for member in members))
    offer = make_offer(aggregator, envelope_private, receipt_key, started=started)
    return World(
        hospitals,
        coordinator,
        aggregator,
        log_key,
        envelope_private,
        receipt_key,
        agreement,
        offer,
        started,
    )
