"""Requests of actions: the body, and what it must say before anything is done."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from pend_storage._shown import clause, shown
from pend_storage.config import Settings
from pend_storage.console._actors import Actor
from pend_storage.console._documents import band_of, epoch_of
from pend_storage.errors import ConfigError
from pend_storage.operations.status import EnvironmentStatus

__all__ = ["ActionRequest", "Call", "ChangedSinceError", "parse_request"]

_LONGEST_REASON: Final = 500
_LONGEST_KEY: Final = 200


class ActionRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST api/v1/actions/NAME``; numbers of the feed are texts."""

    idempotency_key: str
    expected_phase: str | None
    expected_epoch: str | int | None
    reason: str = ""
    environment: str = ""
    dry_run: bool = False
    accept: list[str] = []
    id: str | None = None
    ids: list[str] = []
    collection: str | None = None
    key: str | None = None
    text: str | None = None
    file: str | None = None
    code: str | None = None
    job: str | None = None
    label: str | None = None
    kind: str | None = None
    quick: bool = False
    deep: bool = False

    def digest(self) -> bytes:
        """Return a digest of all that is asked for."""
        return hashlib.sha256(msgspec.json.encode(self)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Call of an action, with what it needs."""

    settings: Settings
    request: ActionRequest
    actor: Actor
    status: EnvironmentStatus
    """As it is at this moment, and as the caller expects it."""


class ChangedSinceError(Exception):
    """The environment is not as the caller has seen it; nothing was done."""


def parse_request(body: bytes) -> ActionRequest:
    """Parse the body of a request.

    Raises:
        ConfigError: it is no such document.
    """
    try:
        found = msgspec.json.decode(body, type=ActionRequest)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"the request cannot be read: {clause(str(error))}. See: console-api.md"
        ) from None
    if not 1 <= len(found.idempotency_key) <= _LONGEST_KEY:
        raise ConfigError(
            f"idempotency_key must have 1 to {_LONGEST_KEY} characters: make a new one "
            "for each press of a button, and repeat it where the answer was lost."
        )
    if len(found.reason) > _LONGEST_REASON or "\0" in found.reason:
        raise ConfigError(
            f"the reason has {len(found.reason):,} characters; write it in "
            f"{_LONGEST_REASON} or less, without U+0000."
        )
    return found


def require_decided(request: ActionRequest, environment: str) -> None:
    """Refuse a request that changes something without a reason, or production's name.

    Raises:
        ConfigError: one of them is missing; the message says which.
    """
    if request.dry_run:
        return
    if not request.reason.strip():
        raise ConfigError("a reason is needed, which is kept: write why this is done.")
    if band_of(environment) == "production" and request.environment != environment:
        raise ConfigError(
            f"this is production: type the name of the environment, {shown(environment)}, "
            "to go on."
        )


def require_unchanged(request: ActionRequest, status: EnvironmentStatus) -> None:
    """Refuse a request that was decided on another state than the present one.

    Raises:
        ChangedSinceError: the phase or the epoch is another one by now.
    """
    phase = None if status.phase is None else status.phase.value
    epoch = epoch_of(status)
    expected = request.expected_epoch
    same_epoch = (None if expected is None else str(expected)) in {
        None if epoch is None else str(epoch),
        *(
            str(s.epoch)
            for s in (status.json, status.postgres)
            if s and s.epoch == epoch
        ),
    }
    if request.expected_phase != phase or not same_epoch:
        raise ChangedSinceError(
            f"the environment has changed since: the phase is {phase or 'not known'} at "
            f"epoch {epoch}, and {request.expected_phase or 'none'} at epoch {expected} "
            "was expected. Look again, then decide."
        )
