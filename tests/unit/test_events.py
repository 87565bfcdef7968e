"""Hooks: who gets an event, and what becomes of an exception of theirs."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

import pend_storage as ps
from pend_storage.events import Event, guarded, log_event

ROOT = Path(__file__).parents[2] / "pend_storage"
EVENT = Event("something-happened", "it did", logging.WARNING)


class Failing:
    """A hook with a bug."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: Event) -> None:
        self.calls += 1
        raise LookupError(f"no channel for {event.name}")


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [r for r in caplog.records if r.getMessage().startswith("hook-failed")]


def test_every_hook_gets_every_event_in_order() -> None:
    got: list[tuple[str, Event]] = []
    hook = guarded([lambda e: got.append(("a", e)), lambda e: got.append(("b", e))])

    hook(EVENT)

    assert got == [("a", EVENT), ("b", EVENT)]


def test_what_a_hook_raises_is_logged_once_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = Failing(), Failing()
    got: list[Event] = []
    hook = guarded([first, got.append, second])

    for _ in range(3):
        hook(EVENT)

    assert (first.calls, second.calls, len(got)) == (3, 3, 3)
    logged = failures(caplog)
    assert len(logged) == 2
    assert "something-happened" in logged[0].getMessage()
    assert logged[0].levelno == logging.ERROR
    assert logged[0].exc_info is not None
    assert "LookupError" in str(logged[0].exc_info[0])


def test_a_hook_is_guarded_once_however_often_it_is_passed_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook = guarded(Failing())
    again = guarded(guarded(hook))

    hook(EVENT)
    again(EVENT)

    assert again is hook
    assert len(failures(caplog)) == 1


def test_no_hook_at_all_is_allowed() -> None:
    guarded([])(EVENT)


class Broken(logging.Handler):
    """A handler that cannot write, and says so loudly."""

    @override
    def emit(self, _: logging.LogRecord) -> None:
        raise OSError("the disk is full")


@pytest.fixture
def broken_log() -> Iterator[None]:
    logger, handler = logging.getLogger("pend_storage"), Broken()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("broken_log")
def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    guarded(log_event)(EVENT)
    guarded(Failing())(EVENT)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_fault_of_the_hook_passes(error: type[BaseException]) -> None:
    def interrupted(_: Event) -> None:
        raise error

    with pytest.raises(error):
        guarded(interrupted)(EVENT)


def test_what_an_application_needs_is_public() -> None:
    assert ps.Event is Event
    assert ps.log_event is log_event
    assert ps.Hook is not None


def test_everything_that_an_application_gives_a_hook_to_guards_it() -> None:
    """It is what has the default hook: nothing inside the library has one."""
    found = {
        f"{path.relative_to(ROOT)}:{function.name}": function
        for path in sorted(ROOT.rglob("*.py"))
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and _takes_a_hook(function)
    }

    assert len(found) >= 10
    unguarded = [
        name
        for name, function in found.items()
        if "guarded(hook)" not in ast.unparse(function)
    ]
    assert unguarded == []


def _takes_a_hook(function: ast.FunctionDef) -> bool:
    arguments = function.args
    return "log_event" in {
        ast.unparse(default)
        for default in (*arguments.defaults, *arguments.kw_defaults)
        if default is not None
    }
