"""Hypothesis strategies for the arguments of the state machine's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from hypothesis import strategies as st

from pend_storage.phases import Role
from pend_storage.schema import Schema
from pend_storage.testing import strategies as given
from pend_storage.testing.agreement import RIGHT, Age, Pair, Place

__all__ = [
    "AGES",
    "ALIKE",
    "CHECK",
    "EPOCHS",
    "LIMITS",
    "META",
    "PLACE",
    "QUERY",
    "ROLES",
    "WHICH",
    "MachineState",
    "machine_inputs",
    "own",
]


class MachineState(Protocol):
    """State of the running machine that the strategies draw from."""

    @property
    def schema(self) -> Schema:
        """Schema of both stores."""

    @property
    def inputs(self) -> dict[str, Any]:
        """The strategies of :func:`machine_inputs` for the schema."""

    @property
    def pair(self) -> Pair:
        """The store under test and the model."""


def own(name: str) -> st.SearchStrategy[Any]:
    """Return a strategy of the running machine, because it depends on its schema.

    Args:
        name: a key of :func:`machine_inputs`.
    """
    return st.runner().flatmap(lambda machine: machine.inputs[name])


def _written_keys(machine: MachineState) -> list[Place]:
    """List the keys that were written before: they reveal more than unused ones."""
    return sorted(place for place, h in machine.pair.model.history.items() if h)


def _place(machine: MachineState) -> st.SearchStrategy[Place]:
    anywhere: st.SearchStrategy[Place] = machine.inputs["place"]
    used = _written_keys(machine)
    return st.sampled_from(used) | anywhere if used else anywhere


def _query(machine: MachineState) -> st.SearchStrategy[Any]:
    used = sorted({name for name, _ in _written_keys(machine)})
    names = used or [spec.name for spec in machine.schema.declared]
    return st.sampled_from(names).flatmap(
        lambda name: st.tuples(st.just(name), *machine.inputs[f"query {name}"])
    )


PLACE: Final = st.runner().flatmap(_place)
QUERY: Final = st.runner().flatmap(_query)
EPOCHS: Final = st.sampled_from([None, None, None, None, 0, 1, 2])
AGES: Final = st.sampled_from([Age.ANY, *Age])
CHECK: Final = st.tuples(PLACE, AGES)
LIMITS: Final = st.sampled_from([None, None, 1, 2, 5, 0])
WHICH: Final = st.integers(0, 2)
"""Number of one of three transactions."""
# Some of these are equal by value, others only under a loose comparison.
ALIKE: Final = st.sampled_from([1, 1.0, True, None, {"": 1}, {"": True}, "1"])
META: Final = st.tuples(
    st.sampled_from(["m", "n"]), ALIKE | given.json_values(3), st.just(RIGHT) | ALIKE
)
"""Name, new value, expected value."""
ROLES: Final = st.sampled_from([Role.PRIMARY] * 5 + list(Role))


def machine_inputs(schema: Schema) -> dict[str, Any]:
    """Build the strategies of one schema, by the name that rules ask for."""
    keys = given.keys_for(schema)
    names = [spec.name for spec in schema.declared]

    def each(make: Callable[[str], st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
        return st.one_of([st.tuples(st.just(name), make(name)) for name in names])

    records = {name: given.records(schema, name, keys) for name in names}
    found = {
        "place": each(lambda name: st.sampled_from(keys[name])),
        "record": each(lambda name: records[name]),
        "records": each(lambda name: st.lists(records[name], max_size=4)),
        "spoiled": each(
            lambda name: given.spoiled(schema, name, keys).map(lambda pair: pair[0])
        ),
        "lookup": st.one_of(list(_lookups(schema, keys))),
    }
    queries: dict[str, Any] = {
        f"query {spec.name}": (
            st.just([]) | st.lists(given.conditions(spec, keys), max_size=2),
            st.just([]) | given.orders(spec),
        )
        for spec in schema.declared
    }
    return {**found, **queries}


def _lookups(schema: Schema, keys: given.Keys) -> Iterable[st.SearchStrategy[Any]]:
    for spec in schema.declared:
        yield st.tuples(
            st.just(spec.name), st.just(spec.key), st.sampled_from(keys[spec.name])
        )
        for name in (group[0] for group in spec.unique if len(group) == 1):
            values = given.values(spec.fields[name]).filter(lambda v: v is not None)
            yield st.tuples(st.just(spec.name), st.just(name), values)
