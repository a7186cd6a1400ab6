"""Alembic's entry: runs the revisions over the connection that `db.py` opened."""

from alembic import context

from accord_server.registry.access import tables as access
from accord_server.registry.tables import Base

assert access.PersonRow.metadata is Base.metadata  # its tables are in the same schema

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
