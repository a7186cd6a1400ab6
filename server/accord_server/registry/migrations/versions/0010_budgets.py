"""What runs may spend and have spent, and what records do not agree; filled by `budgets.replay`."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.String(length=36)
_HASH = sa.String(length=64)
_DECIMAL = sa.String(length=48)


def upgrade() -> None:
    """Apply."""
    op.drop_index(op.f("ix_spends_run"), table_name="spends")
    op.drop_index(op.f("ix_spends_dataset"), table_name="spends")
    op.drop_table("spends")
    op.create_table(
        "agreement_datasets",
        sa.Column("agreement", _HASH, nullable=False),
        sa.Column("dataset", _ID, nullable=False),
        sa.Column("title", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("owner", _ID, nullable=False),
        sa.Column("population", _ID, nullable=False),
        sa.Column("epsilon_cap", _DECIMAL, nullable=False),
        sa.Column("delta", _DECIMAL, nullable=False),
        sa.Column("adjacency", sa.String(length=16), nullable=False),
        sa.Column("non_private", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agreement"], ["agreements.hash"], name=op.f("fk_agreement_datasets_agreement")
        ),
        sa.PrimaryKeyConstraint("agreement", "dataset", name=op.f("pk_agreement_datasets")),
    )
    _index("agreement_datasets", ["dataset"], ["owner"], ["population"])
    op.create_table(
        "run_budgets",
        sa.Column("run", _ID, nullable=False),
        sa.Column("dataset", _ID, nullable=False),
        sa.Column("party", _ID, nullable=False),
        sa.Column("population", _ID, nullable=False),
        sa.Column("agreement", _HASH, nullable=False),
        sa.Column("adjacency", sa.String(length=16), nullable=False),
        sa.Column("noise_multiplier", _DECIMAL, nullable=False),
        sa.Column("sampling_rate", _DECIMAL, nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=True),
        sa.Column("told_epsilon", _DECIMAL, nullable=True),
        sa.Column("recomputed", _DECIMAL, nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_run_budgets_run")),
        sa.PrimaryKeyConstraint("run", "dataset", name=op.f("pk_run_budgets")),
    )
    _index(
        "run_budgets", ["dataset", "run"], ["party", "run"], ["agreement", "run"], ["population"]
    )
    op.create_table(
        "spends",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("receipt", _HASH, nullable=False),
        sa.Column("run", _ID, nullable=False),
        sa.Column("party", _ID, nullable=False),
        sa.Column("dataset", _ID, nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_spends_run")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_spends")),
        sa.UniqueConstraint("receipt", name=op.f("uq_spends_receipt")),
    )
    _index(
        "spends",
        ["run", "sequence"],
        ["dataset", "sequence"],
        ["party", "entry"],
        ["run", "party", "round", "attempt"],
    )
    op.create_table(
        "owed_receipts",
        sa.Column("run", _ID, nullable=False),
        sa.Column("party", _ID, nullable=False),
        sa.Column("round", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("receipt", _HASH, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_owed_receipts_run")),
        sa.PrimaryKeyConstraint("run", "party", "round", "attempt", name=op.f("pk_owed_receipts")),
    )
    op.create_table(
        "findings",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("party", _ID, nullable=True),
        sa.Column("run", _ID, nullable=True),
        sa.Column("dataset", _ID, nullable=True),
        sa.Column("agreement", _HASH, nullable=True),
        sa.Column("records", sa.JSON(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", "place", name=op.f("pk_findings")),
    )
    _index(
        "findings",
        ["code", "sequence"],
        ["run", "sequence"],
        ["party", "sequence"],
        ["dataset", "sequence"],
    )


def downgrade() -> None:
    """Undo; `accord registry rebuild` of the release that had this schema fills `spends`."""
    for table in ("findings", "owed_receipts", "spends", "run_budgets", "agreement_datasets"):
        op.drop_table(table)
    op.create_table(
        "spends",
        sa.Column("receipt", _HASH, nullable=False),
        sa.Column("run", _ID, nullable=False),
        sa.Column("agreement", _HASH, nullable=False),
        sa.Column("party", _ID, nullable=False),
        sa.Column("dataset", _ID, nullable=False),
        sa.Column("population", _ID, nullable=False),
        sa.Column("adjacency", sa.String(length=16), nullable=False),
        sa.Column("noise_multiplier", _DECIMAL, nullable=False),
        sa.Column("sampling_rate", _DECIMAL, nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_spends_run")),
        sa.PrimaryKeyConstraint("receipt", name=op.f("pk_spends")),
    )
    _index("spends", ["dataset"], ["run"])


def _index(table: str, *keys: list[str]) -> None:
    for columns in keys:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns, unique=False)
