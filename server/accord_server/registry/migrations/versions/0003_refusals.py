"""Receipts say who refused."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("rounds", sa.Column("refused", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("run_sites", sa.Column("refused_round", sa.BigInteger(), nullable=True))
    op.add_column("run_sites", sa.Column("refused_code", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("run_sites", "refused_code")
    op.drop_column("run_sites", "refused_round")
    op.drop_column("rounds", "refused")
