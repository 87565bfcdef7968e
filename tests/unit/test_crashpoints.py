from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from pend_storage import crashpoints
from pend_storage.errors import ConfigError


@pytest.fixture
def reached() -> Iterator[list[str]]:
    seen: list[str] = []
    with crashpoints.handled(seen.append):
        yield seen


POINT = crashpoints.declare("test.point", "of a test")


def test_a_point_that_nobody_waits_at_does_nothing() -> None:
    POINT()
    crashpoints.reach("test.point")


def test_a_handler_sees_every_point_by_either_way(reached: list[str]) -> None:
    POINT()
    crashpoints.reach("test.other")

    assert reached == ["test.point", "test.other"]


def test_handlers_nest_and_the_outer_one_comes_back(reached: list[str]) -> None:
    inner: list[str] = []
    with crashpoints.handled(inner.append):
        POINT()
    POINT()

    assert inner == reached == ["test.point"]


def test_a_handler_may_make_the_operation_fail() -> None:
    def fail(name: str) -> None:
        raise OSError(name)

    with pytest.raises(OSError, match=r"test\.point"), crashpoints.handled(fail):
        POINT()
    POINT()


def test_points_can_be_listed_with_their_meaning() -> None:
    assert crashpoints.points("test.")["test.point"] == "of a test"
    assert "test.point" in crashpoints.points()
    assert crashpoints.points("no such part") == {}


def test_a_point_may_be_declared_again_only_with_the_same_meaning() -> None:
    again = crashpoints.declare("test.point", "of a test")

    assert again.name == POINT.name
    with pytest.raises(ConfigError, match="declared twice"):
        crashpoints.declare("test.point", "something else")


PROGRAM = """
from pend_storage import crashpoints
point = crashpoints.declare("a.b", "for a test")
for n in range(5):
    crashpoints.reach("another")
    point()
    print(n, flush=True)
"""


@pytest.mark.parametrize(
    ("wanted", "lines", "code"),
    [
        (None, 5, 0),
        ("a.b", 0, -9),
        ("a.b:0", 0, -9),
        ("a.b:3", 3, -9),
        ("a.b:5", 5, 0),
        ("never.reached", 5, 0),
    ],
)
def test_the_environment_arms_a_point_of_a_process(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, lines: int, code: int
) -> None:
    if wanted is not None:
        monkeypatch.setenv(crashpoints.VARIABLE, wanted)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=False, timeout=60
    )

    assert (len(done.stdout.split()), done.returncode) == (lines, code)


@pytest.mark.parametrize("wanted", ["a.b:x", "a.b:-1", "a.b:1.5"])
def test_a_number_that_is_none_is_told(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv(crashpoints.VARIABLE, wanted)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )

    assert done.returncode == 1
    assert "write name or name:number" in done.stderr


def test_the_armed_point_kills_by_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setenv(crashpoints.VARIABLE, "a.b:1")
    monkeypatch.setattr("os.kill", lambda *args: killed.append(args))

    with crashpoints.handled(crashpoints._arm_from_environment):
        crashpoints.reach("a.b")
        crashpoints.reach("other")
        with pytest.raises(AssertionError, match="survived"):
            crashpoints.reach("a.b")

    assert len(killed) == 1


def test_without_the_variable_the_first_point_disarms_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(crashpoints.VARIABLE, raising=False)

    with crashpoints.handled(crashpoints._arm_from_environment):
        crashpoints.reach("a.b")

        assert crashpoints._handler is None
