"""Runs may adapt a base."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("runs", sa.Column("base", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("runs", "base")
