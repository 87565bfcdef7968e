"""Alembic revisions of the tables that every PostgreSQL store has.

The tables of collections follow from the schema and have no revisions:
``PostgresStore.migrate`` compares them with the declaration. Use that, not Alembic's
own command: it does both, under one lock.
"""
