"""Alembic's entry: runs the revisions over the connection that `db.py` opened."""

from alembic import context

from accord_server.registry.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
