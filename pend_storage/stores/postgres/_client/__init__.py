"""Statements on checked connections: revision, failover, retries.

``database_client``: executes statements, retries, maps errors.
``connection_probe``: identity and notes of the database behind a connection.
``schema_revision``: compares the migrated revision with the library's.
``failover_detector``: detects another server behind the address.
``lock_waits``: names the sessions that hold a lock, for error messages.
"""
