"""Sums of a population's spending are read from an index alone; a party's charges by one too."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_SUMMED = ["population", "adjacency", "noise_multiplier", "sampling_rate", "attempts", "steps"]


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_run_budgets_spent", "run_budgets", _SUMMED, unique=False)
    op.drop_index(op.f("ix_run_budgets_population"), table_name="run_budgets")
    op.create_index(op.f("ix_spends_party_sequence"), "spends", ["party", "sequence"], unique=False)


def downgrade() -> None:
    """Undo."""
    op.drop_index(op.f("ix_spends_party_sequence"), table_name="spends")
    op.create_index(op.f("ix_run_budgets_population"), "run_budgets", ["population"], unique=False)
    op.drop_index("ix_run_budgets_spent", table_name="run_budgets")
