"""Physical backups of one's own PostgreSQL server, by PostgreSQL's own programs.

An addition to snapshots, for a server whose files and replication the operator controls:
base backups, incremental ones (PostgreSQL 17 and newer), the archived write-ahead log, and
recovery to a point in time. What is verified is each input, before it is combined or
replayed. A managed server that refuses replication loses nothing: snapshots and the archived
change log are complete without any of this.
"""
