"""Which release each party's machine says it has."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("tokens", sa.Column("software", sa.String(length=40), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("tokens", "software")
