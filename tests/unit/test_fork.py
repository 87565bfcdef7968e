"""The registry of what a forked child does first."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage import _fork
from pend_storage._fork import on_fork


@pytest.fixture(autouse=True)
def only_mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No callbacks but those of the test."""
    monkeypatch.setattr(_fork, "_callbacks", {})
    yield
    gc.collect()


def in_a_child(look: Callable[[], str]) -> str:
    """Result of a function in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, look().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:  # noqa: PTH123 - a descriptor
        text = pipe.read()
    os.waitpid(child, 0)
    return text


class Part:
    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls
        on_fork(self.begin_anew)

    def begin_anew(self) -> None:
        self.calls.append(self.name)


def test_callbacks_run_in_the_child_only_and_in_order() -> None:
    calls: list[str] = []
    on_fork(lambda: calls.append("function"))
    parts = [Part(name, calls) for name in ("store", "pair", "watcher")]

    assert in_a_child(lambda: " ".join(calls)) == "function store pair watcher"
    assert calls == []
    assert len(parts) == 3


def test_an_object_that_is_gone_is_not_called_and_not_held() -> None:
    calls: list[str] = []
    kept, gone = Part("kept", calls), Part("gone", calls)
    del gone
    gc.collect()

    assert in_a_child(lambda: " ".join(calls)) == "kept"
    assert len(_fork._callbacks) == 1
    assert kept.calls is calls


def test_one_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda args: calls.append(str(args.exc_value))
    )

    def fail() -> None:
        raise ValueError("cannot begin anew")

    on_fork(lambda: calls.append("before"))
    on_fork(fail)
    on_fork(lambda: calls.append("after"))

    assert in_a_child(lambda: ", ".join(calls)) == "before, after, cannot begin anew"


def test_objects_may_be_registered_while_another_thread_forks() -> None:
    calls: list[str] = []
    stop = threading.Event()

    def register() -> None:
        while not stop.is_set():
            Part("short-lived", calls)

    thread = threading.Thread(target=register)
    thread.start()
    try:
        for _ in range(10):
            assert set(in_a_child(lambda: " ".join(calls)).split()) <= {"short-lived"}
    finally:
        stop.set()
        thread.join()


def test_a_program_that_ends_with_open_stores_ends_in_silence(tmp_path: Path) -> None:
    probe = (
        "import pend_storage as ps\nfrom pend_storage.testing.domain import SCHEMA\n"
        f"store = ps.JsonStore(SCHEMA, {str(tmp_path)!r})\nstore.load\n"
        "memory = ps.MemoryStore(SCHEMA)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True
    )

    assert done.stderr == ""


def test_stores_work_where_the_system_cannot_fork(tmp_path: Path) -> None:
    probe = (
        "import os\ndel os.fork, os.register_at_fork\n"
        "import pend_storage as ps\nfrom pend_storage.testing.domain import SCHEMA, Tally\n"
        "import pend_storage.factory, pend_storage.flags._watcher\n"
        f"with ps.JsonStore(SCHEMA, {str(tmp_path)!r}) as store:\n"
        "    store.collection(Tally).put(Tally(name='a'))\n"
        "    assert store.collection(Tally).get('a') == Tally(name='a')\n"
    )

    subprocess.run([sys.executable, "-c", probe], check=True)
