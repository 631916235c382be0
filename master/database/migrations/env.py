"""Alembic's entry point: migrates over the connection that :mod:`master.database.migrate` hands it."""

from alembic import context

from master.database.migrate import VERSION_TABLE
from master.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
