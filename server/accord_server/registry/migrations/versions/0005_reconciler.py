"""The registry says why a run stands still, and ends what nobody comes back for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "leases", sa.Column("renewed", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("leases", sa.Column("waiting", sa.Text(), nullable=True))
    op.add_column("leases", sa.Column("waiting_since", sa.BigInteger(), nullable=True))
    op.execute("UPDATE leases SET renewed = expires")
    op.create_table(
        "closures",
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_closures")),
    )
    op.create_table(
        "standings",
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_standings")),
    )
    op.create_table(
        "pulse",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pulse")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("pulse")
    op.drop_table("standings")
    op.drop_table("closures")
    op.drop_column("leases", "waiting_since")
    op.drop_column("leases", "waiting")
    op.drop_column("leases", "renewed")
