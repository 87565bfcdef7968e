"""OpenFeature: the phase flag of any vendor, and a provider that publishes the phase.

:class:`OpenFeatureFlag` reads the desired phase from the provider that a program has set
for a domain. :class:`PendProvider` is a provider itself: it answers in which phase a pair
of stores is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason
from openfeature.provider import ProviderStatus
from openfeature.provider.no_op_provider import NoOpProvider
from typing_extensions import override

from pend_storage._shown import shown
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags._bounded_call import BoundedCall, NoAnswerError
from pend_storage.flags._openfeature_provider import (
    EPOCH_FLAG,
    PHASE_FLAG,
    PRIMARY_FLAG,
    PendProvider,
)
from pend_storage.flags.source import DesiredPhase, FlagSource
from pend_storage.phases import Phase, parse_phase

__all__ = [
    "DOMAIN",
    "EPOCH_FLAG",
    "PHASE_FLAG",
    "PRIMARY_FLAG",
    "OpenFeatureFlag",
    "PendProvider",
]

DOMAIN: Final = "pend"
"""Domain of the provider that is asked, unless another one is configured."""
_UNSET: Final = ""
"""Default of an evaluation. It is no phase, so it can never be taken for an answer."""
_TIMEOUT: Final = 1.0
_READY_POLL: Final = 0.02
"""Seconds between two looks at a provider that is being initialised."""
_WAKING: Final = (
    ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
    ProviderEvent.PROVIDER_STALE,
    ProviderEvent.PROVIDER_READY,
    ProviderEvent.PROVIDER_ERROR,
)
_NO_ANSWER: Final = frozenset({Reason.ERROR, Reason.DEFAULT, Reason.DISABLED})
"""Reasons with which a provider gives back the default, or says that it failed."""
_OUT_OF_REACH: Final = frozenset(
    {ErrorCode.PROVIDER_NOT_READY, ErrorCode.PROVIDER_FATAL, ErrorCode.GENERAL}
)
"""Error codes of a provider that may answer later; the others are errors of the flag."""


class OpenFeatureFlag(FlagSource):
    """Phase flag of an OpenFeature provider: a string flag, such as ``parallel``.

    An evaluation counts only if the provider is ready, has no error code, and gives a
    reason other than ``ERROR``, ``DEFAULT``, ``DISABLED`` or ``STALE``. Anything else
    cannot be read: it changes nothing, and no other source decides.

    The flag is evaluated in :meth:`read`, which watchers and commands call, never by the
    calls of a store. Only the place where the provider keeps it can change it.
    """

    def __init__(
        self,
        flag_key: str = PHASE_FLAG,
        domain: str = DOMAIN,
        *,
        timeout: float = _TIMEOUT,
        context: EvaluationContext | None = None,
    ) -> None:
        """Name the flag; nothing is evaluated yet.

        Args:
            flag_key: of a string flag whose values are phases.
            domain: of the provider, as in ``openfeature.api.set_provider(provider, domain)``;
                a domain without a provider of its own has the default one.
            timeout: seconds that an evaluation may take, and that the first reading waits for
                a provider that is being initialised.
            context: evaluation context, for providers that need a targeting key.

        Raises:
            ConfigError: the timeout is not more than 0.
        """
        if not timeout > 0:
            raise ConfigError(f"timeout must be more than 0 seconds, not {timeout}.")
        self.flag_key = flag_key
        self.domain = domain
        self._timeout = timeout
        self._context = context
        self._client = api.get_client(domain)
        self._bounded = BoundedCall("pend-flag-openfeature")
        self._has_waited = False

    @property
    @override
    def place(self) -> str:
        return (
            f"the OpenFeature flag {shown(self.flag_key)} of the domain "
            f"{shown(self.domain)}"
        )

    @property
    @override
    def writable(self) -> bool:
        return False

    @override
    def read(self) -> DesiredPhase:
        """Evaluate the flag.

        Raises:
            ConfigError: there is no provider or no such flag, or its value is no phase.
            StoreUnavailable: the provider is not ready, stale or failed, or does not answer
                within the timeout.
        """
        self._wait_until_ready()
        try:
            details = self._bounded(self._evaluate, self._timeout)
        except NoAnswerError as error:
            raise self._unavailable(
                f"the provider has not answered for {error.seconds:.1f} s"
            ) from error
        except (ConfigError, StoreUnavailable):
            raise
        except Exception as error:
            # Its text is the vendor's, and may cite an address with a key.
            raise self._unavailable(
                f"the evaluation raised {type(error).__name__}"
            ) from error
        return DesiredPhase(self._phase_of(details), self.place, is_remote=True)

    def _wait_until_ready(self) -> None:
        """Wait at the first reading: a program sets a provider, and goes on at once."""
        deadline = time.monotonic() + self._timeout
        while not self._has_waited:
            is_late = time.monotonic() >= deadline
            if is_late or self._status() is not ProviderStatus.NOT_READY:
                self._has_waited = True
            else:
                time.sleep(_READY_POLL)

    def _status(self) -> ProviderStatus:
        return self._client.get_provider_status()

    def _evaluate(self) -> FlagEvaluationDetails[str]:
        """Evaluate the flag in the thread of a bounded call."""
        provider = self._client.provider
        if isinstance(provider, NoOpProvider):
            raise ConfigError(
                f"{self.place}: no provider is set in this process. Call openfeature.api."
                f"set_provider(PROVIDER, {shown(self.domain)}) before the store is opened; in the "
                "schema module, so that commands have it too."
            )
        if isinstance(provider, PendProvider):
            raise ConfigError(
                f"{self.place}: the provider of this domain publishes the present phase, so it "
                "cannot say which one is wanted. Set it for another domain."
            )
        self._require_ready()
        details = self._client.get_string_details(self.flag_key, _UNSET, self._context)
        # Once more: the provider may have failed or been replaced meanwhile.
        self._require_ready()
        if self._client.provider is not provider:
            raise self._unavailable("the provider was replaced during the evaluation")
        return details

    def _require_ready(self) -> None:
        # The SDK itself asks a provider in the state ERROR, as one is whose initialisation
        # has failed, and hands on what it answers without an error code.
        status = self._status()
        if status is not ProviderStatus.READY:
            raise self._unavailable(f"the provider is in the state {status.value}")

    def _phase_of(self, details: FlagEvaluationDetails[str]) -> Phase:
        code, reason = details.error_code, details.reason
        if code is not None:
            word = getattr(code, "value", code)
            if code in _OUT_OF_REACH:
                raise self._unavailable(f"the evaluation failed with {shown(word)}")
            raise ConfigError(
                f"{self.place}: the evaluation failed with {shown(word)}. Correct the flag "
                "where it is kept: a string, with a phase as its value."
            )
        if reason == Reason.STALE:
            raise self._unavailable("the provider has lost its source: STALE")
        if reason in _NO_ANSWER or details.value == _UNSET:
            raise ConfigError(
                f"{self.place}: the provider has no value, only a default: "
                f"{shown(str(reason))}. Create the flag, or enable it, where it is kept."
            )
        value: object = details.value
        if not isinstance(value, str):
            raise ConfigError(
                f"{self.place}: {shown(value)} is no text. Make it a string flag."
            )
        return parse_phase(value, place=self.place)

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(reason, store=self.place)

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        """Refuse: OpenFeature has no way to write a flag.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"the phase is set by {self.place}, which can be changed only where the provider "
            f"keeps it. Set it to {phase.value!r} there; or, to be free of it, remove "
            "openfeature from the configuration and restart the servers."
        )

    @override
    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        def wake(_: EventDetails) -> None:
            on_change()

        def add() -> None:
            for event in _WAKING:
                self._client.add_handler(event, wake)

        def unsubscribe() -> None:
            for event in _WAKING:
                # Gone already where the program has shut OpenFeature down.
                with contextlib.suppress(ValueError):
                    self._client.remove_handler(event, wake)

        # Without handlers the flag is still read at intervals. The SDK raises RuntimeError
        # at the end of the interpreter.
        with contextlib.suppress(NoAnswerError, RuntimeError):
            self._bounded(add, self._timeout)
        return unsubscribe
