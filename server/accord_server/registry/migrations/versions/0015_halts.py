"""Which agreement withdrawals, suspensions and resumptions are of: its parties alone read them."""

import base64
import json

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_HASH = sa.String(length=64)


def upgrade() -> None:
    """Apply; rows follow from the records that are there."""
    halts = op.create_table(
        "agreement_halts",
        sa.Column("hash", _HASH, nullable=False),
        sa.Column("agreement", _HASH, nullable=False),
        sa.ForeignKeyConstraint(
            ["agreement"], ["agreements.hash"], name=op.f("fk_agreement_halts_agreement")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_agreement_halts")),
    )
    op.create_index(op.f("ix_agreement_halts_agreement"), "agreement_halts", ["agreement"])
    records = sa.table("records", sa.column("hash"), sa.column("kind"), sa.column("envelope"))
    said = sa.select(records.c.hash, records.c.envelope).where(
        records.c.kind.in_(["withdrawal", "suspension", "resumption"])
    )
    for name, envelope in op.get_bind().execute(said).all():
        body = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
        op.execute(halts.insert().values(hash=name, agreement=body["agreement"]))


def downgrade() -> None:
    """Undo."""
    op.drop_table("agreement_halts")
