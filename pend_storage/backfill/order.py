"""In which order collections are copied: what is referred to comes first.

What is known of the legacy files comes before all records: a file is made as soon as it
has a record, and then it must be known how, and who may read it.
"""

from __future__ import annotations

from pend_storage.schema import LEGACY_FILES, CollectionSpec, Schema

__all__ = ["copy_order"]


def copy_order(schema: Schema) -> list[CollectionSpec]:
    """Every collection, each after those that it refers to.

    First of all ``legacy_files``. Collections that refer to each other in a circle come in the schema's order.
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
