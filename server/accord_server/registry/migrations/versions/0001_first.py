"""The first schema."""

import sqlalchemy as sa
from alembic import op

from accord_server.registry.schema import append_only

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "agreements",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("superseded_by", sa.String(length=64), nullable=True),
        sa.Column("superseded_from", sa.BigInteger(), nullable=True),
        sa.Column("withdrawal", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_agreements")),
    )
    op.create_index(op.f("ix_agreements_id"), "agreements", ["id"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_blobs")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("owner", sa.String(length=36), nullable=False),
        sa.Column("population", sa.String(length=36), nullable=False),
        sa.Column("schema_hash", sa.String(length=64), nullable=False),
        sa.Column("table", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_owner"), "datasets", ["owner"], unique=False)
    op.create_table(
        "events",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_run_sequence"), "events", ["run", "sequence"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=True),
        sa.Column("inviter", sa.String(length=36), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=True),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_invitations")),
    )
    op.create_table(
        "leases",
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("holder", sa.String(length=100), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_leases")),
    )
    op.create_table(
        "members",
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("approver", sa.String(length=36), nullable=True),
        sa.Column("approved", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("party", name=op.f("pk_members")),
    )
    op.create_table(
        "offers",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_offers")),
    )
    op.create_table(
        "partners",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("identity_key", sa.String(length=64), nullable=False),
        sa.Column("jurisdiction", sa.String(length=2), nullable=False),
        sa.Column("contact", sa.String(length=100), nullable=False),
        sa.Column("delegation", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partners")),
        sa.UniqueConstraint("identity_key", name=op.f("uq_partners_identity_key")),
        sa.UniqueConstraint("name", name=op.f("uq_partners_name")),
    )
    op.create_table(
        "proposals",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_proposals")),
    )
    op.create_table(
        "records",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("leaf", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=36), nullable=True),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_records")),
        sa.UniqueConstraint("hash", name=op.f("uq_records_hash")),
    )
    op.create_index(op.f("ix_records_kind_sequence"), "records", ["kind", "sequence"], unique=False)
    op.create_index(op.f("ix_records_run_sequence"), "records", ["run", "sequence"], unique=False)
    op.create_table(
        "stops",
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_stops")),
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_party"), "tokens", ["party"], unique=False)
    op.create_table(
        "agreement_parties",
        sa.Column("agreement", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agreement"], ["agreements.hash"], name=op.f("fk_agreement_parties_agreement")
        ),
        sa.PrimaryKeyConstraint("agreement", "party", name=op.f("pk_agreement_parties")),
    )
    op.create_index(
        op.f("ix_agreement_parties_party"), "agreement_parties", ["party"], unique=False
    )
    op.create_table(
        "proposal_parties",
        sa.Column("proposal", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("signed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal"],
            ["proposals.hash"],
            name=op.f("fk_proposal_parties_proposal"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("proposal", "party", name=op.f("pk_proposal_parties")),
    )
    op.create_index(op.f("ix_proposal_parties_party"), "proposal_parties", ["party"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("agreement", sa.String(length=64), nullable=False),
        sa.Column("aggregator", sa.String(length=36), nullable=False),
        sa.Column("title", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("initial_model", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=True),
        sa.Column("result", sa.String(length=64), nullable=True),
        sa.Column("epsilon", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.Column("withdrawn", sa.Text(), nullable=True),
        sa.Column("timed_from", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["agreement"], ["agreements.hash"], name=op.f("fk_runs_agreement")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("manifest", name=op.f("uq_runs_manifest")),
    )
    op.create_index(op.f("ix_runs_agreement"), "runs", ["agreement"], unique=False)
    op.create_index(op.f("ix_runs_state"), "runs", ["state"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("cohort", sa.JSON(), nullable=False),
        sa.Column("lost", sa.JSON(), nullable=False),
        sa.Column("model_after", sa.String(length=64), nullable=True),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_rounds_run")),
        sa.PrimaryKeyConstraint("run", "number", name=op.f("pk_rounds")),
    )
    op.create_index(op.f("ix_rounds_model_after"), "rounds", ["model_after"], unique=False)
    op.create_table(
        "run_sites",
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("dataset", sa.String(length=36), nullable=False),
        sa.Column("decision", sa.String(length=8), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_run_sites_run")),
        sa.PrimaryKeyConstraint("run", "party", name=op.f("pk_run_sites")),
    )
    op.create_table(
        "spends",
        sa.Column("receipt", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("agreement", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("dataset", sa.String(length=36), nullable=False),
        sa.Column("population", sa.String(length=36), nullable=False),
        sa.Column("adjacency", sa.String(length=16), nullable=False),
        sa.Column("noise_multiplier", sa.String(length=48), nullable=False),
        sa.Column("sampling_rate", sa.String(length=48), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_spends_run")),
        sa.PrimaryKeyConstraint("receipt", name=op.f("pk_spends")),
    )
    op.create_index(op.f("ix_spends_dataset"), "spends", ["dataset"], unique=False)
    op.create_index(op.f("ix_spends_run"), "spends", ["run"], unique=False)
    for statement in append_only("records", op.get_bind().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    """Undo."""
    op.drop_index(op.f("ix_spends_run"), table_name="spends")
    op.drop_index(op.f("ix_spends_dataset"), table_name="spends")
    op.drop_table("spends")
    op.drop_table("run_sites")
    op.drop_index(op.f("ix_rounds_model_after"), table_name="rounds")
    op.drop_table("rounds")
    op.drop_index(op.f("ix_runs_state"), table_name="runs")
    op.drop_index(op.f("ix_runs_agreement"), table_name="runs")
    op.drop_table("runs")
    op.drop_index(op.f("ix_proposal_parties_party"), table_name="proposal_parties")
    op.drop_table("proposal_parties")
    op.drop_index(op.f("ix_agreement_parties_party"), table_name="agreement_parties")
    op.drop_table("agreement_parties")
    op.drop_index(op.f("ix_tokens_party"), table_name="tokens")
    op.drop_table("tokens")
    op.drop_table("stops")
    op.drop_index(op.f("ix_records_run_sequence"), table_name="records")
    op.drop_index(op.f("ix_records_kind_sequence"), table_name="records")
    op.drop_table("records")
    op.drop_table("proposals")
    op.drop_table("partners")
    op.drop_table("offers")
    op.drop_table("members")
    op.drop_table("leases")
    op.drop_table("invitations")
    op.drop_index(op.f("ix_events_run_sequence"), table_name="events")
    op.drop_table("events")
    op.drop_index(op.f("ix_datasets_owner"), table_name="datasets")
    op.drop_table("datasets")
    op.drop_table("blobs")
    op.drop_index(op.f("ix_agreements_id"), table_name="agreements")
    op.drop_table("agreements")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION records_append_only")
