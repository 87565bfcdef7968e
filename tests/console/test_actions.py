"""Actions: the operations that commands call too, decided on the state of now, once."""

from __future__ import annotations

import ast
import importlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest

import pend_storage.cli
from pend_storage.cli._app import root
from pend_storage.config import Settings
from pend_storage.console import Console
from pend_storage.console._actions import ACTIONS, why_not
from pend_storage.console._actors import Actor
from pend_storage.console._documents import band_of, encoded, epoch_of
from pend_storage.console._requests import ActionRequest, parse_request
from pend_storage.console._steps import Outcome
from pend_storage.console._tasks import BusyError, Result, Tasks
from pend_storage.errors import ConfigError
from pend_storage.operations.facts import StoreFacts
from pend_storage.phases import Phase, Role
from tests.console.conftest import SAME, Browser
from tests.console.statuses import details, status

CLI: Final = Path(pend_storage.cli.__file__).parent
ONLY_COMMANDS: Final = {
    "demo": "makes an environment of its own",
    "init": "writes the configuration, which is there already",
    "inspect": "reads a directory before there is an environment",
    "doctor": "elects and recovers; an operator does that at the machine",
    "db migrate": "changes tables, as their owner",
    "db seed": "before the first record",
    "db grants": "prints SQL",
    "db prune": "by the archiver or the owner",
    "json migrate": "changes the schema of the directory",
    "phase advance": "the console names the phase, as phase set does",
    "phase rollback": "likewise",
    "relay": "runs until it is ended",
    "backup archive": "runs until it is ended",
    "backup restore": "makes a new store beside the live one",
    "backup promote": "replaces the primary: at the machine only",
    "backup undo": "writes records back: at the machine only",
    "backup prune": "deletes backups",
    "backup pin": "of the policy of backups",
    "backup unpin": "of the policy of backups",
    "backup drill": "makes a store for trial",
    "backup schedule run": "runs until it is ended",
    "backup schedule cron": "prints a table",
    "backup schedule systemd": "prints units",
    "purge": "erases records",
    "completion": "prints a script",
    "console": "is this one",
}
"""Commands that change something, or print, and are no action of the console; the reason."""
LOOKING: Final = {
    "status", "health", "db status", "phase show", "quarantine list",
    "backup list", "backup show", "backup diff", "backup schedule show", "divergences list",
    "jobs list", "jobs show",
}  # fmt: skip


def commands(
    group: click.Command = root, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(group, click.Group):
        yield " ".join(before), group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from commands(found, (*before, name))


# -- the same operations as the commands --------------------------------------------------


def imported_by(command: click.Command) -> set[str]:
    """Operations that the module of a command imports, as ``module:function``."""
    callback: Any = command.callback
    while hasattr(callback, "__wrapped__"):
        callback = callback.__wrapped__
    tree = ast.parse(Path(callback.__code__.co_filename).read_text())
    return {
        f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_an_operation_that_its_command_calls(name: str) -> None:
    action, known = ACTIONS[name], dict(commands())
    module, _, function = action.operation.partition(":")

    assert callable(getattr(importlib.import_module(module), function))
    assert action.command in known
    assert action.operation in imported_by(known[action.command])


def test_a_step_calls_the_operation_that_its_action_names() -> None:
    source = (CLI.parent / "console/_steps.py").read_text()
    imported = {
        f"{node.module}:{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }

    assert {action.operation for action in ACTIONS.values()} <= imported


def test_every_command_is_an_action_or_has_a_reason_not_to_be_one() -> None:
    known = {name for name, _ in commands()}
    actions = {action.command for action in ACTIONS.values()}
    others = {name for name in known if name.startswith(("audit", "alerts", "tune"))}

    assert known - others == actions | set(ONLY_COMMANDS) | LOOKING
    assert not actions & (set(ONLY_COMMANDS) | LOOKING)


# -- the request --------------------------------------------------------------------------


def request(**members: Any) -> bytes:
    body = {"idempotency_key": "k", "expected_phase": None, "expected_epoch": None}
    return encoded({**body, **members})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"{" * 100_000,
        request(idempotency_key=""),
        request(idempotency_key="k" * 201),
        request(dry_run="yes"),
        request(reason="r" * 501),
        request(reason="a\0b"),
        request(delete_everything=True),
        request(accept="backup"),
    ],
    ids=range(12),
)
def test_a_request_that_makes_no_sense_is_a_sentence(body: bytes) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_request(body)

    assert len(str(refused.value)) < 500


def test_a_request_without_a_reason_is_refused(browser: Browser) -> None:
    expected = browser.snapshot()["expected"]

    answer = browser.press("validate", expected, reason=" ")

    assert answer.status_code == 422
    assert "a reason is needed" in answer.json()["error"]


@pytest.mark.parametrize("name", ["", "prod", "PRODUCTION", "production "])
def test_production_wants_its_name_to_be_typed(name: str, browser: Browser) -> None:
    expected = browser.snapshot()["expected"]

    answer = browser.press("validate", expected, environment=name)

    assert answer.status_code == 422
    assert "type the name of the environment, 'production'" in answer.json()["error"]


@pytest.mark.parametrize(
    "expected",
    [
        {"phase": "parallel", "epoch": "1"},
        {"phase": "json-only", "epoch": "2"},
        {"phase": "json-only", "epoch": None},
        {"phase": "no-such-phase", "epoch": "1"},
        {"phase": None, "epoch": "1"},
    ],
    ids=str,
)
def test_another_state_than_was_seen_is_answered_with_the_state_of_now(
    expected: dict[str, Any], browser: Browser
) -> None:
    answer = browser.press("validate", expected)

    assert answer.status_code == 409
    assert "has changed since" in answer.json()["error"]
    assert answer.json()["snapshot"]["expected"] == {"phase": "json-only", "epoch": "1"}


def test_an_action_that_makes_no_sense_says_why(browser: Browser) -> None:
    assert browser.act("back").json()["error"] == "back: json-only is the first phase."
    assert "JSON works alone" in browser.act("emergency").json()["error"]
    assert "no repository" in browser.act("backup").json()["error"]


# -- bands and epochs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("production", "production"),
        ("prod", "production"),
        ("eu-prod-2", "production"),
        ("Production", "production"),
        ("live", "production"),
        ("reproduction", "other"),
        ("staging", "staging"),
        ("preprod", "staging"),
        ("development", "development"),
        ("ci.test", "development"),
        ("delivery", "other"),
    ],
)
def test_the_band_follows_from_the_name(name: str, band: str) -> None:
    assert band_of(name) == band


def test_epochs_beyond_255_are_exact_texts() -> None:
    epoch = 300
    sequence = ((epoch << 44) | 1) << 1
    found = status(
        Phase.PARALLEL,
        json=StoreFacts(place="data", role=Role.PRIMARY, epoch=epoch),
    )
    text = encoded({"sequence": sequence, "epoch": epoch_of(found), "n": 2**53 + 1})

    assert b'"sequence":"10555311626649602"' in text
    assert b'"n":"9007199254740993"' in text
    assert epoch_of(found) == epoch


# -- reasons why not ----------------------------------------------------------------------

ANN: Final = Actor("ann", ("view", "operate"))


@pytest.mark.parametrize(
    ("name", "found", "reason"),
    [
        ("advance", status(None), "the phase is not known"),
        ("advance", status(Phase.POSTGRES_ONLY), "is the last phase"),
        ("back", status(Phase.JSON_ONLY), "is the first phase"),
        (
            "back",
            status(postgres=StoreFacts(place="db", problem="away")),
            "its last commits would be lost",
        ),
        ("emergency", status(Phase.JSON_ONLY), "alone already"),
        ("repair", status(Phase.POSTGRES_ONLY), "there is no secondary"),
        ("pause", status(), "nothing runs"),
        (
            "retry-quarantine",
            status(details=details(Phase.PARALLEL, waiting=0)),
            "no record waits",
        ),
    ],
)
def test_a_button_that_is_off_says_why(
    name: str, found: Any, reason: str, lonely: Settings
) -> None:
    said = why_not(ACTIONS[name], lonely, found, ANN)

    assert said is not None
    assert reason in said


def test_every_button_is_off_without_the_role(lonely: Settings) -> None:
    viewer = Actor("bob", ("view",))

    for action in ACTIONS.values():
        said = why_not(action, lonely, status(), viewer)
        assert said is not None
        assert f"role {action.role}" in said


# -- tasks --------------------------------------------------------------------------------


def begun(tasks: Tasks, work: Callable[[], Result], **options: Any) -> Any:
    wanted = {"by": "ann", "key": "k", "digest": b"d", **options}
    lane = wanted.pop("lane", "work")
    return tasks.begin(wanted.pop("action", "validate"), lane, work, **wanted)


def test_a_key_begins_one_action_however_often_it_is_sent() -> None:
    tasks, calls, gate = Tasks(), [], threading.Event()

    def work() -> Result:
        calls.append(1)
        gate.wait(10)
        return Result(200, {})

    first = begun(tasks, work)
    assert begun(tasks, work) is first
    gate.set()
    assert first.future.result(10).status == 200
    assert begun(tasks, work) is first
    assert calls == [1]


def test_a_key_of_another_actor_is_another_one() -> None:
    tasks = Tasks()
    first = begun(tasks, lambda: Result(200, {}))
    first.future.result(10)

    assert begun(tasks, lambda: Result(200, {}), by="bob") is not first


def test_a_key_for_another_request_is_refused() -> None:
    tasks = Tasks()
    begun(tasks, lambda: Result(200, {})).future.result(10)

    with pytest.raises(ConfigError, match="was used for another request"):
        begun(tasks, lambda: Result(200, {}), digest=b"other")


def test_actions_of_one_lane_exclude_one_another_and_others_do_not() -> None:
    tasks, gate = Tasks(), threading.Event()

    def work() -> Result:
        gate.wait(10)
        return Result(200, {})

    try:
        begun(tasks, work, key="1")
        with pytest.raises(BusyError, match="validate of ann runs since"):
            begun(tasks, work, key="2")
        begun(tasks, work, key="3", lane="emergency", action="emergency")
    finally:
        gate.set()


def test_tasks_are_forgotten_at_last() -> None:
    tasks = Tasks()
    for number in range(260):
        begun(tasks, lambda: Result(200, {}), key=str(number)).future.result(10)

    assert len(tasks._by_key) <= 201


def test_a_long_action_goes_on_without_the_page(
    lonely: Settings, make: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, gate, done = Browser(make(lonely)), threading.Event(), threading.Event()

    def slow(_: Any) -> Outcome:
        assert gate.wait(20)
        done.set()
        return Outcome(sentence="compared")

    action = ACTIONS["validate"]
    monkeypatch.setattr("pend_storage.console._doing._PATIENCE", 0.05)
    monkeypatch.setattr(type(action), "__setattr__", object.__setattr__)
    monkeypatch.setattr(action, "run", slow)
    monkeypatch.setattr(action, "check", lambda *_: None)
    answer = browser.press("validate", browser.snapshot()["expected"])

    assert answer.status_code == 202
    task = answer.json()["task"]
    assert browser.get(f"/api/v1/tasks/{task}").json()["state"] == "running"
    busy = browser.press("repair", browser.snapshot()["expected"])
    assert busy.status_code == 409
    assert "validate of" in busy.json()["error"]
    gate.set()
    assert done.wait(10)
    while (found := browser.get(f"/api/v1/tasks/{task}")).status_code == 202:
        pass
    assert found.json()["sentence"] == "compared"


def test_an_error_of_another_library_is_not_shown(
    lonely: Settings, make: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> Outcome:
        raise ValueError("+36301234567 is no number")

    action = ACTIONS["validate"]
    monkeypatch.setattr(type(action), "__setattr__", object.__setattr__)
    monkeypatch.setattr(action, "run", broken)
    monkeypatch.setattr(action, "check", lambda *_: None)

    answer = Browser(make(lonely)).act("validate")

    assert answer.status_code == 500
    assert "+3630" not in answer.text
    assert "ValueError" in answer.json()["error"]


def test_a_task_that_is_not_there_is_said(browser: Browser) -> None:
    assert browser.get("/api/v1/tasks/nothing", headers=SAME).status_code == 404


def test_a_digest_is_of_the_whole_request() -> None:
    one = ActionRequest(idempotency_key="k", expected_phase=None, expected_epoch=None)
    other = ActionRequest(
        idempotency_key="k", expected_phase=None, expected_epoch=None, quick=True
    )

    assert one.digest() != other.digest()
