"""Keys that were revoked, parties that are suspended, authorities that parties trust."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "run_sites", sa.Column("revoked", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "suspensions",
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("coordinator", sa.String(length=36), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("party", name=op.f("pk_suspensions")),
    )
    op.create_table(
        "trusts",
        sa.Column("party", sa.String(length=36), nullable=False),
        sa.Column("ca", sa.JSON(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("party", name=op.f("pk_trusts")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("trusts")
    op.drop_table("suspensions")
    op.drop_column("run_sites", "revoked")
