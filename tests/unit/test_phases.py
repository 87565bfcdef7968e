from __future__ import annotations

from typing import Any

import pytest

from pend_storage.phases import Phase, Role, RoleState


@pytest.mark.parametrize(
    ("phase", "json_role", "postgres_role"),
    [
        (Phase.JSON_ONLY, Role.PRIMARY, Role.DETACHED),
        (Phase.PARALLEL, Role.PRIMARY, Role.SECONDARY),
        (Phase.POSTGRES_PRIMARY, Role.SECONDARY, Role.PRIMARY),
        (Phase.POSTGRES_ONLY, Role.DETACHED, Role.PRIMARY),
    ],
)
def test_a_phase_is_a_pair_of_roles(
    phase: Phase, json_role: Role, postgres_role: Role
) -> None:
    assert (phase.json_role, phase.postgres_role) == (json_role, postgres_role)


def test_every_phase_has_exactly_one_primary() -> None:
    for phase in Phase:
        roles = [phase.json_role, phase.postgres_role]
        assert roles.count(Role.PRIMARY) == 1


@pytest.mark.parametrize("role", list(Role))
def test_a_role_comes_back_from_meta(role: Role) -> None:
    state = RoleState(role, 7)

    assert RoleState.from_meta(state.to_meta()) == state


def test_a_role_that_was_never_set_is_that_of_a_store_alone() -> None:
    assert RoleState.from_meta(None) == RoleState(Role.PRIMARY, 0)


@pytest.mark.parametrize("value", [[], "primary", 3, {"role": "king", "epoch": 1}])
def test_what_is_no_role_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        RoleState.from_meta(value)
