"""Journal engine: durable commits, the change log, snapshots, and the replica of the state.

It knows records and collections, and no legacy file: those follow it, in
:mod:`pend_storage.stores.json._legacy_sync`.
"""
