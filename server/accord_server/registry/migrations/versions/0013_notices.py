"""Metrics by round; announcements, comments, and notices that wait to be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
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
    op.create_table(
        "announcements",
        sa.Column("id", _ID, nullable=False),
        sa.Column("person", _ID, nullable=True),
        sa.Column("party", _ID, nullable=False),
        sa.Column("title", sa.String(length=100), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcements")),
    )
    op.create_table(
        "comments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("subject", _HASH, nullable=False),
        sa.Column("person", _ID, nullable=False),
        sa.Column("party", _ID, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comments")),
    )
    op.create_index(op.f("ix_comments_subject_id"), "comments", ["subject", "id"])
    op.create_index(op.f("ix_comments_person_created"), "comments", ["person", "created"])
    op.create_table(
        "notices",
        sa.Column("id", _ID, nullable=False),
        sa.Column("place", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("subject", _HASH, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.String(length=200), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index(op.f("ix_notices_due"), "notices", ["due"])
    op.create_table(
        "noticed",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_noticed")),
    )


def downgrade() -> None:
    """Undo."""
    for table in ("noticed", "notices", "comments", "announcements", "scores"):
        op.drop_table(table)
