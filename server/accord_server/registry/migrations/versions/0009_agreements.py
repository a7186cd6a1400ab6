"""Agreements that a party has suspended."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "agreement_parties",
        sa.Column("suspended", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "agreement_parties", sa.Column("suspension_head", sa.String(length=64), nullable=True)
    )


def downgrade() -> None:
    """Undo."""
    op.drop_column("agreement_parties", "suspension_head")
    op.drop_column("agreement_parties", "suspended")
