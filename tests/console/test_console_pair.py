"""The console of a real pair: its buttons move it, and two hands do not move it twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from pend_storage.config import Settings
from pend_storage.console import Actor, Console
from pend_storage.console.sample import build
from pend_storage.errors import StoreUnavailable
from pend_storage.factory import open_pair
from pend_storage.phases import Phase
from pend_storage.testing.domain import Log, Ship
from tests.console.conftest import SAME, Browser

pytestmark = pytest.mark.timeout(300)
SHIPS: Final = 30


@pytest.fixture
def pair(paired: Settings, make: Callable[..., Console]) -> Browser:
    """Browser at the console of a pair with some records, in the phase json-only."""
    with open_pair(paired) as store:
        store.collection(Ship).put_many(
            [Ship(id=f"ship-{n}", name=f"Ship {n}") for n in range(SHIPS)]
        )
    return Browser(make(paired, authorise=lambda _: ANN))


ANN: Final = Actor("ann", ("view", "operate", "reveal"))


def forward(pair: Browser) -> None:
    """Move to postgres-primary by the buttons, as an operator does."""
    for name, members in (
        ("advance", {}),
        ("backfill", {}),
        ("validate", {}),
        ("advance", {"accept": ["backup"]}),
    ):
        answer = pair.act(name, **members)
        assert answer.status_code == 200, (name, answer.text)
        assert answer.json()["ok"], (name, answer.text)


# -- one hand -----------------------------------------------------------------------------


def test_the_buttons_move_an_environment_forward_and_back(pair: Browser) -> None:
    forward(pair)
    assert pair.snapshot()["expected"]["phase"] == "postgres-primary"

    preview = pair.act("back", dry_run=True).json()
    assert "nothing would be lost" in preview["sentence"]
    assert pair.snapshot()["expected"]["phase"] == "postgres-primary"
    back = pair.act("back").json()
    assert back["sentence"].startswith("from postgres-primary to parallel")

    history = pair.get("/api/v1/history").json()["switches"]
    assert [(s["before"], s["after"]) for s in history] == [
        ("postgres-primary", "parallel"),
        ("parallel", "postgres-primary"),
        ("json-only", "parallel"),
    ]
    assert {s["by"] for s in history} == {"ann"}
    assert {s["reason"] for s in history} == {"a test"}


def test_the_emergency_goes_back_to_json_alone(pair: Browser) -> None:
    forward(pair)

    plan = pair.act("emergency", dry_run=True).json()
    assert len(plan["result"]["steps"]) == 5
    done = pair.act("emergency")

    assert done.json()["ok"], done.text
    assert pair.snapshot()["expected"]["phase"] == "json-only"


def test_a_blocker_that_was_not_accepted_refuses(pair: Browser) -> None:
    assert pair.act("advance").json()["ok"]
    ahead = pair.snapshot()["status"]["result"]["details"]["ahead"]
    assert {b["code"] for b in ahead["blockers"]} == {"backup", "validation"}

    answer = pair.act("advance", accept=["backup"])

    assert answer.status_code == 200
    assert not answer.json()["ok"]
    assert answer.json()["sentence"] == "refused, nothing was changed: validation"
    assert pair.snapshot()["expected"]["phase"] == "parallel"


def test_a_job_shows_who_began_it_and_why(pair: Browser) -> None:
    assert pair.act("advance").json()["ok"]
    assert pair.act("backfill", reason="ticket 7").json()["ok"]

    jobs = pair.snapshot()["jobs"]

    found = [job for job in jobs if job["reason"] == "ticket 7"]
    assert found
    assert {(job["by"], job["state"]) for job in found} == {("ann", "done")}


def test_a_lost_answer_is_asked_for_again_by_its_key(pair: Browser) -> None:
    expected = pair.snapshot()["expected"]
    first = pair.press("advance", expected, idempotency_key="once")
    again = pair.press("advance", expected, idempotency_key="once")

    assert first.json()["task"] == again.json()["task"]
    while again.status_code == 202:
        again = pair.get(f"/api/v1/tasks/{first.json()['task']}")
    assert again.json()["ok"], again.text
    assert pair.snapshot()["expected"]["phase"] == "parallel"


# -- two hands ----------------------------------------------------------------------------


def test_of_two_who_press_at_once_one_wins_and_the_other_sees_the_new_state(
    pair: Browser, paired: Settings, make: Callable[..., Console]
) -> None:
    bob = Browser(make(paired, authorise=lambda _: Actor("bob", ("operate",))))
    expected = [pair.snapshot()["expected"], bob.snapshot()["expected"]]
    answers: list[Any] = [None, None]
    ready = threading.Barrier(2)

    def press(number: int, browser: Browser) -> None:
        ready.wait(10)
        answers[number] = browser.press("advance", expected[number])
        while answers[number].status_code == 202:
            task = answers[number].json()["task"]
            answers[number] = browser.get(f"/api/v1/tasks/{task}")

    threads = [
        threading.Thread(target=press, args=(n, b)) for n, b in enumerate([pair, bob])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert pair.snapshot()["expected"]["phase"] == "parallel"
    with open_pair(paired) as store:
        assert [s.after for s in store.history()] == [Phase.PARALLEL]
    late = bob.press("advance", expected[1])
    assert late.status_code == 409
    assert late.json()["snapshot"]["expected"]["phase"] == "parallel"
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    [loser] = [answer for answer in answers if answer.status_code == 409]
    assert loser.json()["snapshot"]["expected"]["phase"] == "parallel"


# -- a console that dies ------------------------------------------------------------------

KILLED: Final = """
import sys
from pathlib import Path
from pend_storage.config import load_settings
from pend_storage.console import Actor, app
from tests.console.conftest import SAME, Browser
settings = load_settings(Path(sys.argv[1]), "production", environ={})
browser = Browser(app(settings, authorise=lambda _: Actor("ann", ("operate",))))
browser.act(sys.argv[2], accept=["backup"])
print("it lives")
"""


@pytest.mark.parametrize("point", ["switch.fenced", "switch.opened", "phase.flagged"])
def test_a_switch_of_a_console_that_was_killed_is_finished_by_the_next_process(
    point: str, pair: Browser, paired: Settings
) -> None:
    forward(pair)
    pair.app.close()
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(paired.file), "back"],
        env={**os.environ, "PEND_CRASH_POINT": point},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stdout + child.stderr

    with open_pair(paired) as store:
        store.recover()
        assert store.phase in {Phase.POSTGRES_PRIMARY, Phase.PARALLEL}
        assert store.roles().is_settled
        store.collection(Log).put(Log(id="after", text="it goes on"))
        assert store.collection(Ship).count() == SHIPS


# -- both stores away ---------------------------------------------------------------------


def test_a_console_works_with_both_stores_away_and_when_they_are_back(
    paired: Settings, make: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paired.json is not None
    browser, directory = Browser(make(paired)), paired.json.directory
    before = browser.snapshot()
    assert before["expected"] == {"phase": "json-only", "epoch": "1"}
    hidden = directory.with_name("elsewhere")
    directory.rename(hidden)
    try:
        wait_for(browser, lambda s: s["verdict"]["level"] == "failing")
        away = browser.snapshot()
        assert "JSON" in away["verdict"]["sentence"]
        assert browser.get("/readyz").status_code == 503
        assert browser.get("/livez").status_code == 200
        assert browser.get("/api/v1/divergences").status_code in {200, 422, 503}
    finally:
        hidden.rename(directory)
    wait_for(browser, lambda s: s["expected"] == before["expected"])
    wait_for(browser, lambda _: browser.get("/readyz").status_code == 200)


def wait_for(browser: Browser, is_so: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until a snapshot is as it should be."""
    until = time.monotonic() + 30
    while not is_so(found := browser.snapshot()):
        assert time.monotonic() < until, found["verdict"]
        time.sleep(0.2)


# -- quarantine, divergences, backups -----------------------------------------------------


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Any:
    """Sample environment of the Pend schema, with something on every screen."""
    folder = tmp_path_factory.mktemp("sample")
    with build(folder, url=new_database(), users=15) as settings:
        yield settings


@pytest.fixture
def sample(environment: Settings, make: Callable[..., Console]) -> Browser:
    """Browser at the console of the sample environment."""
    return Browser(make(environment, authorise=lambda _: ANN))


def test_the_verdict_names_what_waits(sample: Browser) -> None:
    answers = {a["question"]: a for a in sample.snapshot()["verdict"]["answers"]}

    assert answers["failing"]["level"] == "ok"
    assert answers["risk"]["level"] == "risk"
    assert "in quarantine" in answers["risk"]["sentence"]
    assert "differ" in answers["risk"]["sentence"]


def test_a_divergence_is_shown_without_values_and_accepted(sample: Browser) -> None:
    found = sample.get("/api/v1/divergences").json()
    [item] = found["items"]
    assert item["collection"] == "users"
    assert item["differences"] == [{"path": "tier", "left": "<int>", "right": "<int>"}]
    assert isinstance(item["primary_version"], str)
    others = sample.get("/api/v1/divergences?collection=assets").json()
    assert (others["items"], others["total"]) == ([], 0)

    done = sample.act("accept-divergence", ids=[item["id"]])

    assert done.json()["ok"], done.text
    assert sample.get("/api/v1/divergences").json()["items"] == []
    [accepted] = sample.get("/api/v1/divergences?state=accepted").json()["items"]
    assert accepted["accepted"]["by"] == "ann"
    assert accepted["accepted"]["reason"] == "a test"


def test_a_quarantined_text_is_masked_and_can_be_tried_and_accepted(
    sample: Browser,
) -> None:
    listed = sample.get("/api/v1/quarantine").json()
    assert sum(group["count"] for group in listed["groups"]) >= len(listed["items"]) > 1
    first, second = listed["items"][:2]

    record = sample.get(f"/api/v1/quarantine/{first['id']}").json()["record"]
    assert record["masked"]
    assert not any(c.isalnum() for c in record["raw"])
    tried = sample.act("retry-quarantine", id=first["id"], text="{", dry_run=True)
    assert tried.status_code == 200
    assert not tried.json()["ok"]
    done = sample.act(
        "accept-quarantine", id=second["id"], reason="it is a test record"
    )

    assert done.json()["ok"], done.text
    waiting = sample.get("/api/v1/quarantine").json()["items"]
    assert second["id"] not in {item["id"] for item in waiting}
    accepted = sample.get("/api/v1/quarantine?status=accepted").json()["items"]
    assert [item["id"] for item in accepted] == [second["id"]]
    whole = sample.get(f"/api/v1/quarantine/{second['id']}").json()["record"]
    assert whole["note"] == "it is a test record"


def test_backups_are_listed_and_verified(sample: Browser) -> None:
    [backup] = sample.get("/api/v1/backups").json()["items"]

    assert backup["state"] == "verified"
    done = sample.act("verify-backup", id=backup["id"])
    assert done.json()["ok"], done.text


def test_nothing_that_looks_changes_a_file_or_a_row(
    environment: Settings, make: Callable[..., Console]
) -> None:
    from tests.console.prints import print_of

    before = print_of(environment)
    browser = Browser(make(environment, read_only=True))
    for path in (
        "/", "/livez", "/readyz?verbose", "/api/v1/environment", "/api/v1/series",
        "/api/v1/divergences?state=all", "/api/v1/quarantine?status=all",
        "/api/v1/history", "/api/v1/audit", "/api/v1/backups", "/api/v1/session",
    ):  # fmt: skip
        assert browser.get(path).status_code == 200, path
    browser.app.close()

    assert print_of(environment) == before


def test_values_are_shown_to_the_role_for_a_reason_and_the_audit_says_to_whom(
    environment: Settings, make: Callable[..., Console]
) -> None:
    eve = Browser(make(environment, authorise=lambda _: Actor("eve", ("operate",))))
    ann = Browser(make(environment, authorise=lambda _: ANN))
    record = ann.get("/api/v1/quarantine?status=all").json()["items"][0]
    path = f"/api/v1/quarantine/{record['id']}/raw"
    body = {
        "idempotency_key": "raw",
        "expected_phase": None,
        "expected_epoch": None,
        "reason": "ticket 9",
        "environment": "production",
    }
    reveals = "/api/v1/audit?action=reveal&by=ann"
    earlier = {entry["id"] for entry in ann.get(reveals).json()["items"]}

    assert eve.act("reveal-quarantine", id=record["id"]).status_code == 403
    assert eve.ask("POST", path, json=body, headers=SAME).status_code == 403
    masked = ann.act("reveal-quarantine", id=record["id"], dry_run=True).json()
    nothing = ann.ask("POST", path, json={**body, "reason": ""}, headers=SAME)
    shown = ann.act("reveal-quarantine", id=record["id"], reason="ticket 9").json()
    raw = ann.ask("POST", path, json=body, headers=SAME)

    assert not any(c.isalnum() for c in masked["result"]["raw"])
    assert nothing.status_code == 422
    assert shown["result"]["raw"] == raw.content.decode()
    assert len(raw.content) == record["size"]
    assert raw.headers["content-disposition"].startswith("attachment")
    items = ann.get(reveals).json()["items"]
    told = [entry for entry in items if entry["id"] not in earlier]
    assert [entry["reason"] for entry in told] == ["ticket 9"] * 2
    assert all(record["id"] in str(entry["details"]) for entry in told)
    operations = ann.get("/api/v1/history").json()["operations"]
    assert {"reveal"} <= {operation["action"] for operation in operations}


def test_nothing_is_shown_where_the_audit_cannot_record_it(
    sample: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pend_storage.console import _steps

    def away(*_: object, **__: object) -> str:
        raise StoreUnavailable("the disk is full", store="JSON")

    monkeypatch.setattr(_steps, "record_entry", away)
    record = sample.get("/api/v1/quarantine?status=all").json()["items"][0]

    answer = sample.act("reveal-quarantine", id=record["id"])

    assert answer.status_code == 503
    assert "result" not in answer.json()


def test_values_of_a_divergence_are_shown_to_the_role(sample: Browser) -> None:
    [item] = sample.get("/api/v1/divergences?state=all").json()["items"]

    found = sample.act("reveal-divergence", id=item["id"]).json()

    [place] = found["result"]["differences"]
    assert place["path"] == "tier"
    assert isinstance(place["left"], int)
    assert place["left"] != place["right"]
