"""Alembic environment: runs the revisions on the connection of ``PostgresStore.migrate``.

The connection comes from outside, because the revisions and the tables of the collections
are changed in one transaction, under one lock.
"""

from alembic import context

_connection = context.config.attributes["connection"]
_version_table = context.config.attributes["version_table"]
_namespace = context.config.attributes["namespace"]

context.configure(
    connection=_connection,
    version_table=_version_table,
    version_table_schema=_namespace,
)
with context.begin_transaction():
    context.run_migrations()
