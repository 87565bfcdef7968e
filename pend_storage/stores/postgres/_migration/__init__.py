"""Schema migration: brings a database to the declared schema.

``migrate``: one transaction under one lock, retried while locks are held.
``schema_diff``: adds missing tables, columns, indexes and constraints.
``column_changes``: renames, converts, narrows and drops columns.
``leftover_tables``: drops empty tables of another schema.
``migration_lock``: one migration at a time; no table of another role.
``grants``: EXECUTE withdrawn from PUBLIC, granted with the tables.
``schema_notes``: revision and schema description stored in the database.
``blocking_sessions``: names the sessions that hold a migration up.
``statement_recorder``: records the statements of a dry run.
``migration_errors``: errors of a migration, mapped to the library's.
"""
