"""Schema revisions, applied by alembic when the registry starts."""
