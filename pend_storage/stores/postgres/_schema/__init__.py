"""The declared tables of a schema, as SQLAlchemy metadata and SQL text.

``column_types``: column type and check constraints of a field.
``literals``: Python values as parameters and as SQL literals.
``tables``: SQLAlchemy declaration of every table; names of columns, constraints.
``record_json``: SQL expression that builds a record's JSON from its row.
"""
