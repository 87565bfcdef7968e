"""What the state machine draws that depends on the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

from pend_storage.schema import Schema
from pend_storage.testing import strategies as given

__all__ = ["machine_inputs"]


def machine_inputs(schema: Schema) -> dict[str, st.SearchStrategy[Any]]:
    """The strategies of one schema, by the name that rules ask for."""
    keys = given.keys_for(schema)
    names = [spec.name for spec in schema.declared]

    def each(make: Callable[[str], st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
        return st.one_of([st.tuples(st.just(name), make(name)) for name in names])

    records = {name: given.records(schema, name, keys) for name in names}
    return {
        "place": each(lambda name: st.sampled_from(keys[name])),
        "places": each(lambda name: st.lists(st.sampled_from(keys[name]), max_size=3)),
        "record": each(lambda name: records[name]),
        "records": each(lambda name: st.lists(records[name], max_size=4)),
        "spoiled": each(
            lambda name: given.spoiled(schema, name, keys).map(lambda pair: pair[0])
        ),
        "lookup": st.one_of(list(_lookups(schema, keys))),
        "query": st.one_of(
            [
                st.tuples(
                    st.just(spec.name),
                    st.lists(given.conditions(spec, keys), max_size=2),
                    given.orders(spec),
                )
                for spec in schema.declared
            ]
        ),
    }


def _lookups(schema: Schema, keys: given.Keys) -> Iterable[st.SearchStrategy[Any]]:
    for spec in schema.declared:
        yield st.tuples(
            st.just(spec.name), st.just(spec.key), st.sampled_from(keys[spec.name])
        )
        for name in (group[0] for group in spec.unique if len(group) == 1):
            values = given.values(spec.fields[name]).filter(lambda v: v is not None)
            yield st.tuples(st.just(spec.name), st.just(name), values)
