"""Recovery: snapshots, bulk loading, replay of a change log, histories of records.

``snapshot``: all rows at one exact position. ``bulk_load``: fills empty tables, without
their indexes. ``log_replay``: entries of a change log, many in one call.
``number_reservation``: numbers above those that were given before a restore.
``record_history``: changes of one key, the newest first. ``methods``: the part of the
store's contract that these implement.
"""
