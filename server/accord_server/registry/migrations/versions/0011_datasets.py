"""The catalogue: entries, what they are found by, and released profiles, all from records."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.String(length=36)
_HASH = sa.String(length=64)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "dataset_entries",
        sa.Column("hash", _HASH, nullable=False),
        sa.Column("dataset", _ID, nullable=False),
        sa.Column("party", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_dataset_entries")),
    )
    op.create_index(op.f("ix_dataset_entries_dataset"), "dataset_entries", ["dataset"])
    op.create_table(
        "dataset_words",
        sa.Column("dataset", _ID, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("word", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "kind", "word", name=op.f("pk_dataset_words")),
    )
    op.create_index(
        op.f("ix_dataset_words_kind_word_dataset"), "dataset_words", ["kind", "word", "dataset"]
    )
    op.create_table(
        "dataset_profiles",
        sa.Column("hash", _HASH, nullable=False),
        sa.Column("dataset", _ID, nullable=False),
        sa.Column("party", _ID, nullable=False),
        sa.Column("agreement", _HASH, nullable=False),
        sa.Column("entry", _HASH, nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agreement"], ["agreements.hash"], name=op.f("fk_dataset_profiles_agreement")
        ),
        sa.ForeignKeyConstraint(
            ["entry"], ["dataset_entries.hash"], name=op.f("fk_dataset_profiles_entry")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_dataset_profiles")),
    )
    op.create_index(
        op.f("ix_dataset_profiles_dataset_agreement"), "dataset_profiles", ["dataset", "agreement"]
    )
    op.create_index(op.f("ix_dataset_profiles_agreement"), "dataset_profiles", ["agreement"])


def downgrade() -> None:
    """Undo."""
    for table in ("dataset_profiles", "dataset_words", "dataset_entries"):
        op.drop_table(table)
