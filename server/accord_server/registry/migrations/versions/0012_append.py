"""What a population has spent is summed in an index alone: each receipt asks for it."""

from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

_SUMMED = ["population", "adjacency", "noise_multiplier", "sampling_rate", "attempts", "steps"]


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_run_budgets_spent", "run_budgets", _SUMMED, unique=False)
    op.drop_index(op.f("ix_run_budgets_population"), table_name="run_budgets")


def downgrade() -> None:
    """Undo."""
    op.create_index(op.f("ix_run_budgets_population"), "run_budgets", ["population"], unique=False)
    op.drop_index("ix_run_budgets_spent", table_name="run_budgets")
