"""Metrics by round."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.String(length=36)
_HASH = sa.String(length=64)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "scores",
        sa.Column("run", _ID, nullable=False),
        sa.Column("round", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model", _HASH, nullable=False),
        sa.Column("holdout", _HASH, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", "round", name=op.f("pk_scores")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("scores")
