"""Actions of the console: each is an operation that a command calls as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from pend_storage.config import Settings
from pend_storage.console import _steps as steps
from pend_storage.console._actors import Actor, ConsoleRole
from pend_storage.console._documents import band_of
from pend_storage.console._requests import Call
from pend_storage.operations.facts import next_phase, previous_phase
from pend_storage.operations.status import EnvironmentStatus
from pend_storage.phases import Phase, Role

__all__ = ["ACTIONS", "Action", "Lane", "action_documents"]

Lane: TypeAlias = Literal["phase", "emergency", "work", "decide", "look"]
"""Actions of one lane exclude one another in a process: changes of the phase, the emergency
procedure, long work, decisions; previews and what only looks."""

Check: TypeAlias = Callable[[Settings, EnvironmentStatus], str | None]
"""Returns why an action makes no sense now; None: it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Action that the page offers."""

    name: str
    """Last part of its path."""
    operation: str
    """Function of ``operations`` that does it: ``module:function``."""
    command: str
    """Command of the program that calls the same function."""
    run: Callable[[Call], steps.Outcome]
    lane: Lane
    check: Check
    role: ConsoleRole = "operate"


# -- reasons ------------------------------------------------------------------------------


def _always(settings: Settings, status: EnvironmentStatus) -> str | None:
    del settings, status
    return None


def _known_phase(status: EnvironmentStatus) -> str | None:
    if status.problem is not None:
        return f"the stores cannot be opened as a pair: {status.problem}"
    return "the phase is not known now" if status.phase is None else None


def _may_advance(settings: Settings, status: EnvironmentStatus) -> str | None:
    del settings
    if status.phase is None or status.problem is not None:
        return _known_phase(status)
    if next_phase(status.phase) is None:
        return f"{status.phase.value} is the last phase"
    ahead = None if status.details is None else status.details.ahead
    if ahead is None:
        return "whether all is ready is not known now: a store does not answer"
    hard = [b.code for b in ahead.blockers if not b.can_be_accepted]
    if hard:
        return f"not ready for {ahead.phase.value}: {', '.join(hard)}"
    return None


def _may_go_back(settings: Settings, status: EnvironmentStatus) -> str | None:
    del settings
    if status.phase is None or status.problem is not None:
        return _known_phase(status)
    if previous_phase(status.phase) is None:
        return f"{status.phase.value} is the first phase"
    return _silent_primary(status)


def _silent_primary(status: EnvironmentStatus) -> str | None:
    """Return why one cannot go back, where PostgreSQL alone has the last commits."""
    phase, postgres = status.phase, status.postgres
    if phase is None or postgres is None or postgres.problem is None:
        return None
    if phase.postgres_role is Role.PRIMARY:
        return (
            "PostgreSQL is primary and does not answer: its last commits would be lost"
        )
    return None


def _may_end(settings: Settings, status: EnvironmentStatus) -> str | None:
    del settings
    if status.phase is Phase.JSON_ONLY:
        return "JSON works alone already"
    # Where the phase is not known, a switch may have been left in the middle of it: the
    # procedure recovers that first.
    return _silent_primary(status)


def _both(settings: Settings, status: EnvironmentStatus) -> str | None:
    if settings.json is None or settings.postgres is None:
        return "it needs both stores, and one is not configured"
    for name, side in (("JSON", status.json), ("PostgreSQL", status.postgres)):
        if side is not None and side.problem is not None:
            return f"{name} does not answer"
    return None


def _has_secondary(settings: Settings, status: EnvironmentStatus) -> str | None:
    if (reason := _both(settings, status)) is not None:
        return reason
    if status.phase not in {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}:
        return "there is no secondary in this phase"
    return None


def _repository(settings: Settings, status: EnvironmentStatus) -> str | None:
    if settings.backup is None:
        return "no repository of backups is configured"
    problem = None if status.backup is None else status.backup.problem
    return f"the repository cannot be read: {problem}" if problem else None


def _waiting(settings: Settings, status: EnvironmentStatus) -> str | None:
    del settings
    if status.details is not None and status.details.waiting == 0:
        return "no record waits in quarantine"
    return None


def _diverging(settings: Settings, status: EnvironmentStatus) -> str | None:
    if status.details is not None and status.details.divergences == 0:
        return "no divergence is open"
    return _both(settings, status)


def _running(settings: Settings, status: EnvironmentStatus) -> str | None:
    del settings
    live = [job for job in status.jobs if job.state in {"running", "paused"}]
    return None if live else "nothing runs"


# -- the table ----------------------------------------------------------------------------

_OPERATIONS: Final = "pend_storage.operations."


def _action(
    name: str,
    operation: str,
    command: str,
    run: Callable[[Call], steps.Outcome],
    *,
    lane: Lane,
    check: Check = _always,
    role: ConsoleRole = "operate",
) -> Action:
    return Action(
        name=name,
        operation=_OPERATIONS + operation,
        command=command,
        run=run,
        lane=lane,
        check=check,
        role=role,
    )


ACTIONS: Final[Mapping[str, Action]] = {
    action.name: action
    for action in (
        _action(
            "advance",
            "phase:change_phase",
            "phase set",
            steps.advance,
            lane="phase",
            check=_may_advance,
        ),
        _action(
            "back",
            "phase:change_phase",
            "phase set",
            steps.back,
            lane="phase",
            check=_may_go_back,
        ),
        _action(
            "emergency",
            "emergency:roll_back",
            "rollback",
            steps.emergency,
            lane="emergency",
            check=_may_end,
        ),
        _action(
            "backfill",
            "migrate_json:migrate_json",
            "migrate json",
            steps.backfill,
            lane="work",
            check=_both,
        ),
        _action(
            "validate",
            "check:check",
            "db validate",
            steps.validate,
            lane="work",
            check=_both,
        ),
        _action(
            "repair",
            "repair:repair",
            "repair",
            steps.repair,
            lane="work",
            check=_has_secondary,
        ),
        _action(
            "backup",
            "backup.create:create_backup",
            "backup create",
            steps.backup,
            lane="work",
            check=_repository,
        ),
        _action(
            "verify-backup",
            "backup.verify:verify_backups",
            "backup verify",
            steps.verify_backup,
            lane="work",
            check=_repository,
        ),
        _action(
            "accept-divergence",
            "divergences:accept",
            "divergences accept",
            steps.accept_divergence,
            lane="decide",
            check=_diverging,
        ),
        _action(
            "accept-quarantine",
            "quarantine:accept",
            "quarantine accept",
            steps.accept_quarantine,
            lane="decide",
            check=_waiting,
        ),
        _action(
            "retry-quarantine",
            "quarantine:retry",
            "quarantine retry",
            steps.retry_quarantine,
            lane="decide",
            check=_waiting,
        ),
        _action(
            "reveal-quarantine",
            "quarantine:find",
            "quarantine show",
            steps.reveal_quarantine,
            lane="look",
            role="reveal",
        ),
        _action(
            "reveal-divergence",
            "divergences:show",
            "divergences show",
            steps.reveal_divergence,
            lane="look",
            role="reveal",
        ),
        _action(
            "pause",
            "jobs:ask",
            "jobs pause",
            steps.pause,
            lane="decide",
            check=_running,
        ),
        _action(
            "resume",
            "jobs:ask",
            "jobs resume",
            steps.resume,
            lane="decide",
            check=_running,
        ),
        _action(
            "cancel",
            "jobs:ask",
            "jobs cancel",
            steps.cancel,
            lane="decide",
            check=_running,
        ),
    )
}
"""Actions by name, in the order in which the page shows them."""


def why_not(
    action: Action, settings: Settings, status: EnvironmentStatus | None, actor: Actor
) -> str | None:
    """Return why an actor cannot use an action now; None: it can be used.

    Args:
        action: of :data:`ACTIONS`.
        settings: of the environment.
        status: as it was seen last; None: nothing is known yet.
        actor: who asks.
    """
    if not actor.may(action.role):
        return f"it needs the role {action.role}, which {actor.name} does not have"
    if status is None:
        return "nothing is known of the environment yet"
    return action.check(settings, status)


def action_documents(
    settings: Settings,
    status: EnvironmentStatus | None,
    actor: Actor,
    *,
    read_only: bool,
) -> list[dict[str, Any]]:
    """Return the actions of a snapshot: which are allowed, and why the others are not."""
    needs_name = band_of(settings.environment) == "production"
    found: list[dict[str, Any]] = []
    for action in ACTIONS.values():
        reason = why_not(action, settings, status, actor)
        if read_only:
            reason = "this console only looks (--read-only): use the command"
        found.append(
            {
                "name": action.name,
                "method": "POST",
                "path": f"api/v1/actions/{action.name}",
                "command": f"pend-storage {action.command}",
                "allowed": reason is None,
                "why_not": reason,
                "needs_environment_name": needs_name,
            }
        )
    return found
