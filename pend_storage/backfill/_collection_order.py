"""Order of the collections in a backfill: referred ones before referrers.

Facts about legacy files come before all records: a file is created with its first
record, and its layout and permissions must be known then.
"""

from __future__ import annotations

from pend_storage.schema import LEGACY_FILES, CollectionSpec, Schema

__all__ = ["copy_order"]


def copy_order(schema: Schema) -> list[CollectionSpec]:
    """Return every collection after those that it refers to, ``legacy_files`` first.

    Collections that refer to each other in a circle keep the schema's order.
    """
    ordered: dict[str, CollectionSpec] = {}
    visited: set[str] = set()

    def visit(spec: CollectionSpec) -> None:
        if spec.name in visited:
            return
        visited.add(spec.name)
        for target in spec.references.values():
            visit(schema[target])
        ordered[spec.name] = spec

    for spec in (schema[LEGACY_FILES], *schema):
        visit(spec)
    return list(ordered.values())
