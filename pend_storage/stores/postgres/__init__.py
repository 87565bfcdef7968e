"""PostgreSQL store; needs the ``postgres`` extra.

``_passive`` looks at a database without a change; ``_store`` implements the store contract, and puts the parts together:

- ``_connection``: address, libpq connection, pool, errors of the server.
- ``_schema``: declared tables, column types, record JSON.
- ``_functions``: functions inside the database: commit, apply, change log.
- ``_queries``: statements of reads, and the decoding of rows.
- ``_client``: statements on checked connections, retries, failover.
- ``_writes``: commits, group commit, applies, violations.
- ``_migration``: ``migrate()``: schema diff, column changes, notes.
- ``_query_reader``: queries, counts and scans.
- ``_change_log``: pages of the change log, head, pruning, backlog.
- ``_meta_table``: named values: role and epoch, marks, notes.
- ``_named_locks``: exclusive locks by name, over all machines.
- ``_database_report``: what ``db status`` and ``doctor`` show.

Each sub-package imports only those above it in this list up to ``_client``; the
contract "Layers of the PostgreSQL store" in ``pyproject.toml`` enforces the order.
"""

from pend_storage.stores.postgres._connection.sessions import inspection, open_session
from pend_storage.stores.postgres._passive import PassivePostgresStore
from pend_storage.stores.postgres._store import PostgresStore

__all__ = ["PassivePostgresStore", "PostgresStore", "inspection", "open_session"]
