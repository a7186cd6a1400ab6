"""The log's tree: subtree hashes, made from the records that are there, and checkpoints."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ROWS = 1000  # at once


def upgrade() -> None:
    """Apply."""
    nodes = op.create_table(
        "log_nodes",
        sa.Column("level", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name=op.f("pk_log_nodes")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoints")),
    )
    _fill(nodes)


def downgrade() -> None:
    """Undo."""
    op.drop_table("checkpoints")
    op.drop_table("log_nodes")


def _fill(nodes: sa.Table) -> None:
    connection, size = op.get_bind(), 0
    edge: list[bytes] = []  # hashes of the largest complete subtrees, from the left
    page = sa.text(
        "SELECT leaf FROM records WHERE sequence > :after ORDER BY sequence LIMIT :limit"
    )
    while found := connection.execute(page, {"after": size, "limit": _ROWS}).scalars().all():
        made = []
        for leaf in found:
            level, number, value = 0, size, bytes.fromhex(leaf)
            while number & 1:
                value = hashlib.sha256(b"\1" + edge.pop() + value).digest()
                level, number = level + 1, number >> 1
                made.append({"level": level, "number": number, "hash": value.hex()})
            edge.append(value)
            size += 1
        if made:
            op.bulk_insert(nodes, made)
