"""OpenFeature provider that publishes the phase of a pair of stores."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata
from typing_extensions import override

from pend_storage._fork import on_fork
from pend_storage._shown import clause
from pend_storage.errors import ConfigError
from pend_storage.flags._bounded_call import BoundedCall, NoAnswerError
from pend_storage.phases import Phase, RoleState

__all__ = ["EPOCH_FLAG", "PHASE_FLAG", "PRIMARY_FLAG", "PendProvider"]

T = TypeVar("T")

PHASE_FLAG: Final = "pend.phase"
"""Key of the flag with the phase: a string."""
PRIMARY_FLAG: Final = "pend.primary"
"""Key of the flag with the primary: the string ``json`` or ``postgres``."""
EPOCH_FLAG: Final = "pend.epoch"
"""Key of the flag with the epoch of the primary: an integer."""

_NAME: Final = "pend_storage"
_INTERVAL: Final = 0.4
_LOOK: Final = 1.0
"""Seconds that one look at the roles may take before the flags count as stale."""
_CLOSING: Final = 5.0
_SETTLING: Final = 0.2
"""Seconds after a fork before the child looks: its stores first renew their connections."""


class Roles(Protocol):
    """Roles of both stores."""

    @property
    def phase(self) -> Phase | None:
        """Phase; None where a store that is out of reach would decide it."""

    @property
    def json(self) -> RoleState | None:
        """Role of the JSON store."""

    @property
    def postgres(self) -> RoleState | None:
        """Role of the PostgreSQL store."""


class PairOfStores(Protocol):
    """Pair of stores, as :class:`~pend_storage.DualWriteStore` is one."""

    def roles(self) -> Roles:
        """Read the roles of both stores."""

    @property
    def stores(self) -> tuple[object, object]:
        """The JSON store and the PostgreSQL store."""


@dataclass(frozen=True, slots=True)
class _Published:
    """Values of the flags, as they were read together."""

    phase: str
    primary: str
    epoch: int
    place: str


_FIELDS: Final[Mapping[str, str]] = {
    PHASE_FLAG: "phase",
    PRIMARY_FLAG: "primary",
    EPOCH_FLAG: "epoch",
}


class PendProvider(AbstractProvider):
    """Provider of ``pend.phase``, ``pend.primary`` and ``pend.epoch``.

    It reads the roles of the stores in a thread, and emits
    ``PROVIDER_CONFIGURATION_CHANGED`` within a second of a switch, whichever process made
    it. An evaluation touches no store. Where the roles cannot be read,
    ``PROVIDER_STALE`` is emitted, and the last values are given with the reason
    ``STALE``; afterwards ``PROVIDER_READY``. The metadata of each flag has the epoch and the
    place of the primary.

    During a switch the values are those before it.
    """

    def __init__(self, store: PairOfStores, *, interval: float = _INTERVAL) -> None:
        """Make a provider; it reads nothing before it is set.

        Args:
            store: the pair. It is not closed with the provider.
            interval: seconds between two looks at the roles.

        Raises:
            ConfigError: the interval is not more than 0, or the store is no pair.
        """
        super().__init__()
        if not interval > 0:
            raise ConfigError(f"interval must be more than 0 seconds, not {interval}.")
        if not hasattr(store, "roles"):
            raise ConfigError(
                "PendProvider needs a pair of stores, and this is one store alone: configure "
                "json.directory and postgres.url, and pass what open_store returns."
            )
        self._store = store
        self._interval = interval
        self._published: _Published | None = None
        self._is_stale = False
        self._bounded = BoundedCall("pend-provider-look")
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        on_fork(self._after_fork)

    # -- the life of a provider -----------------------------------------------------------

    @override
    def get_metadata(self) -> Metadata:
        """Return the name of the provider."""
        return Metadata(_NAME)

    @override
    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Read the roles, and begin to watch them.

        Raises:
            ProviderNotReadyError: they cannot be read yet; the thread goes on trying.
        """
        self._published = self._look()
        self._is_stale = self._published is None
        self._start(0.0)
        if self._published is None:
            raise ProviderNotReadyError("the roles of the stores cannot be read yet")

    def _start(self, delay: float) -> None:
        stop = self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(stop, delay), name="pend-provider", daemon=True
        )
        self._thread.start()

    @override
    def shutdown(self) -> None:
        """Stop watching, and wait for the thread: 5 seconds at most."""
        stop, thread = self._stop, self._thread
        self._stop = self._thread = None
        if stop is not None:
            stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)

    def _after_fork(self) -> None:
        """Start a thread in a forked child, which has none of its parent's threads."""
        if self._stop is not None:
            self._start(_SETTLING)

    # -- watching -------------------------------------------------------------------------

    def _watch(self, stop: threading.Event, delay: float) -> None:
        stop.wait(delay)
        while not stop.wait(self._interval):
            found = self._look()
            if not stop.is_set():
                # The SDK refuses events at the end of the interpreter.
                with contextlib.suppress(RuntimeError):
                    self._publish(found)

    def _look(self) -> _Published | None:
        """Read the roles; None where they cannot be read."""
        try:
            return self._bounded(self._read, _LOOK)
        except NoAnswerError:
            return None
        except Exception:  # noqa: BLE001 - a store that is closed, out of reach, damaged
            return None

    def _read(self) -> _Published | None:
        roles = self._store.roles()
        phase = roles.phase
        if phase is None:
            return None
        is_json = phase in {Phase.JSON_ONLY, Phase.PARALLEL}
        state = roles.json if is_json else roles.postgres
        if state is None:
            return None
        place = clause(repr(self._store.stores[0 if is_json else 1]))
        side = "json" if is_json else "postgres"
        return _Published(phase.value, side, state.epoch, place)

    def _publish(self, found: _Published | None) -> None:
        """Take over what was read, and emit what has changed."""
        if found is None:
            if not self._is_stale:
                self._is_stale = True
                self.emit_provider_stale(_details("the roles cannot be read"))
            return
        before, self._published = self._published, found
        if self._is_stale:
            self._is_stale = False
            self.emit_provider_ready(_details("the roles can be read"))
        if before is not None and before != found:
            changed = [
                key
                for key, name in _FIELDS.items()
                if getattr(before, name) != getattr(found, name)
            ]
            self.emit_provider_configuration_changed(
                ProviderEventDetails(
                    flags_changed=changed,
                    message=f"the phase is {found.phase} at epoch {found.epoch}",
                    metadata={"epoch": found.epoch, "place": found.place},
                )
            )

    # -- evaluation -----------------------------------------------------------------------

    def _resolve(
        self, flag_key: str, default: T, *kinds: type
    ) -> FlagResolutionDetails[T]:
        name = _FIELDS.get(flag_key)
        if name is None:
            return _failed(default, ErrorCode.FLAG_NOT_FOUND)
        published, is_stale = self._published, self._is_stale
        if published is None:
            return _failed(default, ErrorCode.PROVIDER_NOT_READY)
        value = getattr(published, name)
        if type(value) not in kinds:
            return _failed(default, ErrorCode.TYPE_MISMATCH)
        return FlagResolutionDetails(
            value=value,
            reason=Reason.STALE if is_stale else Reason.CACHED,
            flag_metadata={"epoch": published.epoch, "place": published.place},
        )

    @override
    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Return the default with ``TYPE_MISMATCH``: no flag is a boolean."""
        return self._resolve(flag_key, default_value, bool)

    @override
    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return ``pend.phase``, or the side of ``pend.primary``; never raises."""
        return self._resolve(flag_key, default_value, str)

    @override
    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Return ``pend.epoch``, the epoch of the roles; never raises."""
        return self._resolve(flag_key, default_value, int)

    @override
    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Return the default with ``TYPE_MISMATCH``: no flag is a float."""
        return self._resolve(flag_key, default_value, float)

    @override
    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Return the default with ``TYPE_MISMATCH``: no flag is an object."""
        return self._resolve(flag_key, default_value, list, dict)


def _details(message: str) -> ProviderEventDetails:
    return ProviderEventDetails(message=message)


def _failed(default: T, code: ErrorCode) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(value=default, reason=Reason.ERROR, error_code=code)
