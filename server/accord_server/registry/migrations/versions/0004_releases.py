"""Which release brought the schema to which revision."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "releases",
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=100), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_releases")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("releases")
