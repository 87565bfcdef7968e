"""Write path: commits, group commit and applies.

``committer``: runs commits, alone or in groups.
``commit_batches``: splits commits into groups of independent ones.
``commit_call``: parameters and answer of one ``pend_commit`` call.
``commit_execution``: executes commit calls, and resolves their outcomes.
``commit_retry``: retry policy of commits and of exclusive locks.
``storable_batch``: a batch without keys that PostgreSQL cannot store.
``violations``: finds the record that violates a constraint.
``applier``: applies another store's changes.
``bulk_copy``: COPY of many rows into an empty key range.
"""
