"""Functions that run inside the database: their SQL text.

``definitions``: ``create or replace`` statements of all functions; their digest.
``row_writes``: puts, deletes and applies on the columns of one collection.
``advisory_locks``: locks that any role may take, and strangers who hold them.
``unique_value_locks``: advisory locks on values of unique constraints.
``read_functions``: role guard, change log pages, token look-up.
``sequence_numbers``: numbering of commits, horizon of the change log.
"""
