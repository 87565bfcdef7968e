"""The Flask server step by step: each is the server before it, and more."""

from __future__ import annotations

import difflib
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pend_storage.phases import Phase
from tests.examples.conftest import JSON_ALONE
from tests.examples.servers import (
    STEPS,
    as_admin,
    everything,
    legacy_files,
    running,
)
from tests.integration.cli.conftest import Site
from tests.integration.cli.stages import bring_to

STEP_0, STEP_1, STEP_2, STEP_3 = STEPS
TIME = re.compile(r"\d{4}-\d\d-\d\dT")
BEGAN = datetime.now(UTC).isoformat()
ANN, ADDRESS = f"0x{1:064x}", f"0x{1:040x}"


def shared_requests(client: httpx.Client, users: list[str]) -> list[Any]:
    """Answers that all steps have in common: status and answer, one after the other."""
    answers: list[Any] = []

    def note(answer: httpx.Response) -> None:
        shown = answer.json()
        answers.append((answer.status_code, "error" if "error" in shown else shown))

    def post(path: str, **body: Any) -> None:
        note(client.post(path, json=body))

    queue = everything(client, "/kyc/pending", limit=3)
    answers.append(queue)
    hashes = [item["phoneHash"] for item in queue]
    note(client.get(f"/users/{users[0]}"))
    note(client.get("/users/nonsense"))
    answers += [
        everything(client, f"/users/{user}/transactions", limit=2) for user in users[:5]
    ]
    answers.append(everything(client, f"/users/{ANN}/transactions"))
    post("/users", phoneHash=ANN, walletAddress=ADDRESS.upper().replace("X", "x"))
    post("/users", phoneHash=ANN, walletAddress=f"0x{2:040x}")
    post("/users", phoneHash="0x12", walletAddress=ADDRESS)
    post("/users", phoneHash=f"0x{3:064x}", walletAddress="nonsense")
    post("/users", phoneHash=f"0x{3:064x}")
    note(client.post("/users", json=["no object"]))
    note(client.post("/users", content="no JSON"))
    note(client.get(f"/users/{ANN}"))
    post("/kyc/status", phoneHashes=hashes[:2], status="verified")
    post("/kyc/status", phoneHashes=hashes[2:3], status="nonsense")
    post("/kyc/status", phoneHashes=[hashes[2], ANN], status="rejected")
    post("/kyc/status", phoneHashes=[], status="rejected")
    post("/kyc/status", phoneHashes=hashes[2:3], status="rejected")
    post("/kyc/status", phoneHashes=5, status="rejected")
    post("/kyc/status", phoneHashes=[{}], status="rejected")
    post("/kyc/status", phoneHashes=hashes[2:3], status=["verified"])
    answers.append(everything(client, "/kyc/pending"))
    for wrong in ({"limit": "-1"}, {"limit": "x"}, {"after": "no cursor"}):
        note(client.get("/kyc/pending", params=wrong))
    return answers


def without_times(value: Any) -> Any:
    """A value without the times at which something was done just now."""
    if isinstance(value, dict):
        return {name: without_times(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [*map(without_times, value)]
    is_new = isinstance(value, str) and TIME.match(value) and value > BEGAN
    return "now" if is_new else value


def within(some: Any, more: Any) -> bool:
    """Return True if ``more`` contains all of ``some``; objects may have further members."""
    if isinstance(some, dict):
        return isinstance(more, dict) and all(
            name in more and within(inner, more[name]) for name, inner in some.items()
        )
    if isinstance(some, list | tuple):
        return len(some) == len(more) and all(map(within, some, more))
    return bool(some == more)


def users_of(config: Path) -> list[str]:
    return list(json.loads((config.parent / "data/wallet-db.json").read_bytes()))


def test_the_first_step_changes_two_lines() -> None:
    before, after = (path.read_text().splitlines() for path in (STEP_0, STEP_1))
    changes = [
        line for line in difflib.ndiff(before, after) if line.startswith(("- ", "+ "))
    ]

    assert [line[0] for line in changes] == ["-", "+", "-", "+"]
    assert len(before) == len(after)


@dataclass(frozen=True)
class Expected:
    """Answers of step 0, and the files that it leaves."""

    users: list[str]
    answers: list[Any]
    files: dict[str, Any]

    def require(self, answers: list[Any], directory: Path) -> None:
        """See that another server answered the same, and left the same."""
        for expected, found in zip(self.answers, answers, strict=True):
            assert within(without_times(expected), without_times(found))
        assert without_times(legacy_files(directory)) == self.files


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, orderly: Path) -> Expected:
    place = tmp_path_factory.mktemp("step_0")
    shutil.copytree(orderly, place / "data")
    config = place / "pend.toml"
    config.write_text(JSON_ALONE)
    users = users_of(config)
    with running(STEP_0, config) as client:
        answers = shared_requests(client, users)
    return Expected(users, answers, without_times(legacy_files(place / "data")))


@pytest.mark.parametrize("step", STEPS, ids=lambda path: path.stem)
def test_every_step_answers_alike_and_leaves_the_same_files(
    step: Path, json_alone: Path, expected: Expected
) -> None:
    with running(step, json_alone) as client:
        answers = shared_requests(client, expected.users)

    expected.require(answers, json_alone.parent / "data")


@pytest.mark.parametrize(
    ("step", "phase"),
    [
        (STEP_1, Phase.POSTGRES_ONLY),
        (STEP_2, Phase.POSTGRES_PRIMARY),
        (STEP_3, Phase.PARALLEL),
        *(
            pytest.param(step, phase, marks=pytest.mark.deep)
            for step, phase in (
                (STEP_1, Phase.PARALLEL),
                *((STEP_3, each) for each in Phase if each is not Phase.PARALLEL),
            )
        ),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else value.value,
)
def test_with_postgresql_the_answers_and_after_a_rollback_the_files_are_the_same(
    step: Path, phase: Phase, both: Site, expected: Expected
) -> None:
    if phase is not Phase.JSON_ONLY:
        bring_to(both, phase)

    with running(step, both.config) as client:
        answers = shared_requests(client, expected.users)
    both.ok("phase", "set", "json-only")

    expected.require(answers, both.data)


def test_a_directory_is_handed_from_step_to_step_and_back(json_alone: Path) -> None:
    """Each step reads the files of the one before; at the end, step 0 reads those of step 3."""
    made: list[str] = []
    data = json_alone.parent / "data"
    applications = list(legacy_files(data)["uploads/kyc/metadata.json"])

    for turn, step in enumerate((*STEPS, *reversed(STEPS))):
        user = f"0x{turn + 100:064x}"
        with running(step, json_alone) as client:
            for number, known in enumerate(made):
                answer = client.get(f"/users/{known}").json()
                assert answer["walletAddress"] == f"0x{number + 100:040x}"
                log = client.get(f"/users/{known}/transactions").json()["items"]
                assert [entry["type"] for entry in log] == ["wallet_creation"]
            wallet = {"phoneHash": user, "walletAddress": f"0x{turn + 100:040x}"}
            assert client.post("/users", json=wallet).status_code == 201
            decided = client.post(
                "/kyc/status",
                json={
                    "phoneHashes": applications[turn : turn + 1],
                    "status": "under_review",
                    "admin": "mallory",
                },
                headers=as_admin(step.name),
            )
            assert decided.json() == {"changed": 1}
        made.append(user)

    audit = legacy_files(data)["admin-logs.json"]["logs"]
    told = [e["data"]["admin"] for e in audit if e["action"] == "UPDATE_KYC_STATUS"]
    assert told == [step.name for step in (*STEPS, *reversed(STEPS))]


@pytest.mark.parametrize("step", STEPS, ids=lambda path: path.stem)
def test_without_configuration_there_is_invented_data(step: Path) -> None:
    with running(step) as client:
        place = Path(client.headers["X-Place"])
        files = legacy_files(place)
        user = next(iter(files["wallet-db.json"]))

        assert client.get(f"/users/{user}").status_code == 200
        assert everything(client, "/kyc/pending", limit=50)


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda path: path.stem)
def test_wallets_made_at_once_are_all_there(step: Path, json_alone: Path) -> None:
    def make(numbers: range) -> list[int]:
        with httpx.Client(base_url=url, timeout=60, headers=as_admin()) as client:
            wallets = [
                {"phoneHash": f"0x{number:064x}", "walletAddress": f"0x{number:040x}"}
                for number in numbers
            ]
            return [client.post("/users", json=each).status_code for each in wallets]

    with running(step, json_alone) as client, ThreadPoolExecutor(4) as pool:
        url = str(client.base_url)
        made = pool.map(
            make, [range(start, start + 15) for start in (100, 200, 300, 400)]
        )
        assert [*made] == [[201] * 15] * 4

    files = legacy_files(json_alone.parent / "data")
    for start in (100, 200, 300, 400):
        for number in range(start, start + 15):
            assert files["wallet-db.json"][f"0x{number:064x}"] == f"0x{number:040x}"
    log = files["explorer-data/transactions-log.json"]
    new = {entry["identityHash"] for entry in log if entry["timestamp"] > BEGAN}
    assert len(new) == 60


@pytest.mark.parametrize("step", [STEP_2, STEP_3], ids=lambda path: path.stem)
class TestTier:
    @pytest.fixture
    def client(self, step: Path, json_alone: Path) -> Iterator[httpx.Client]:
        with running(step, json_alone) as client:
            yield client

    def test_it_changes_and_the_version_with_it(
        self, client: httpx.Client, json_alone: Path
    ) -> None:
        path = f"/users/{users_of(json_alone)[0]}"
        before = client.get(path)
        body = {"tier": 3, "reason": "asked for"}

        changed = client.put(
            f"{path}/tier", json=body, headers={"If-Match": before.headers["ETag"]}
        )
        stale = client.put(
            f"{path}/tier", json=body, headers={"If-Match": before.headers["ETag"]}
        )
        again = client.put(
            f"{path}/tier",
            json={"tier": 4, "reason": "asked for"},
            headers=as_admin("bob"),
        )
        after = client.get(path)

        assert [a.status_code for a in (changed, stale, again)] == [200, 409, 200]
        assert before.headers["ETag"] != changed.headers["ETag"]
        assert after.headers["ETag"] == again.headers["ETag"]
        assert (changed.json()["tier"], after.json()["tier"]) == (3, 4)

    def test_wrong_input_changes_nothing(
        self, client: httpx.Client, json_alone: Path, subtests: pytest.Subtests
    ) -> None:
        wrong: list[tuple[dict[str, Any], dict[str, str], int]] = [
            ({"tier": 9, "reason": "x"}, {}, 422),
            ({"tier": "high", "reason": "x"}, {}, 422),
            ({"tier": 1}, {}, 422),
            ({"tier": 1, "reason": "x"}, {"If-Match": "recent"}, 400),
            ({"tier": 1, "reason": "x"}, {"If-Match": f'"{10**30}"'}, 400),
            ({"tier": 10**30, "reason": "x"}, {}, 422),
            ({"tier": {}, "reason": "x"}, {}, 422),
        ]
        path = f"/users/{users_of(json_alone)[0]}"
        before = client.get(path)

        for body, headers, status in wrong:
            with subtests.test(f"{body} {headers}"):
                answer = client.put(f"{path}/tier", json=body, headers=headers)

                assert answer.status_code == status
                assert answer.json()["error"]
                assert client.get(path).headers["ETag"] == before.headers["ETag"]

    def test_a_user_who_is_not_there(self, client: httpx.Client) -> None:
        body = {"tier": 1, "reason": "x"}

        for who in (ANN, "a%00b", "%00", "%ED%A0%80"):
            assert client.put(f"/users/{who}/tier", json=body).status_code == 404
            assert client.get(f"/users/{who}").status_code == 404

    def test_two_users_cannot_share_an_address(
        self, client: httpx.Client, json_alone: Path
    ) -> None:
        (taken, *_) = users_of(json_alone)
        address = client.get(f"/users/{taken}").json()["walletAddress"]
        wallet = {"phoneHash": ANN, "walletAddress": address}

        answer = client.post("/users", json=wallet)

        assert answer.status_code == 409
        assert client.get(f"/users/{ANN}").status_code == 404


@pytest.mark.parametrize(
    ("step", "is_changed"), [(STEP_2, True), (STEP_3, False)], ids=["step 2", "step 3"]
)
def test_only_a_transaction_changes_nothing_when_the_audit_entry_is_refused(
    step: Path, is_changed: bool, json_alone: Path
) -> None:
    path = f"/users/{users_of(json_alone)[0]}"
    with running(step, json_alone) as client:
        before = client.get(path).json()["tier"]
        answer = client.put(f"{path}/tier", json={"tier": 5, "reason": "\0"})
        after = client.get(path).json()["tier"]

    assert (answer.status_code, before) == (422, 0)
    assert after == (5 if is_changed else 0)
