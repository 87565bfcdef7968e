"""What Alembic runs: migrations on the connection that ``PostgresStore.migrate`` gives."""

from alembic import context

_connection = context.config.attributes["connection"]
_version_table = context.config.attributes["version_table"]

context.configure(connection=_connection, version_table=_version_table)
with context.begin_transaction():
    context.run_migrations()
