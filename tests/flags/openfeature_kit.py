"""Providers of OpenFeature that answer, fail and hang as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata
from typing_extensions import override

__all__ = ["ScriptedProvider", "says"]


def says(value: Any, **details: Any) -> FlagResolutionDetails[Any]:
    """Return the answer of a provider that knows the flag."""
    return FlagResolutionDetails(value=value, **{"reason": Reason.STATIC, **details})


class ScriptedProvider(AbstractProvider):
    """Provider whose answers a test sets; it counts the evaluations."""

    def __init__(
        self,
        answer: FlagResolutionDetails[Any] | Exception | Callable[[], Any],
        *,
        ready: threading.Event | None = None,
        fails_to_start: bool = False,
    ) -> None:
        super().__init__()
        self.answer = answer
        self.evaluations = 0
        self._ready = ready
        self._fails_to_start = fails_to_start

    @override
    def get_metadata(self) -> Metadata:
        return Metadata("scripted")

    @override
    def initialize(self, evaluation_context: EvaluationContext) -> None:
        if self._ready is not None:
            assert self._ready.wait(60)
        if self._fails_to_start:
            raise RuntimeError("no connection to https://flags.example?key=SECRET")

    def change(self, answer: FlagResolutionDetails[Any] | Exception) -> None:
        """Give another answer from now on, and emit that the configuration has changed."""
        self.answer = answer
        self.emit_provider_configuration_changed(ProviderEventDetails())

    def _answer(self) -> Any:
        self.evaluations += 1
        answer = self.answer() if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    @override
    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        found: FlagResolutionDetails[str] = self._answer()
        return found

    @override
    def resolve_boolean_details(self, *_: Any) -> FlagResolutionDetails[bool]:
        raise AssertionError("the flag is a string")

    @override
    def resolve_integer_details(self, *_: Any) -> FlagResolutionDetails[int]:
        raise AssertionError("the flag is a string")

    @override
    def resolve_float_details(self, *_: Any) -> FlagResolutionDetails[float]:
        raise AssertionError("the flag is a string")

    @override
    def resolve_object_details(self, *_: Any) -> FlagResolutionDetails[Any]:
        raise AssertionError("the flag is a string")
