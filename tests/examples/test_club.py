"""A server that is not Pend's: moved as its page says, it answers as on plain JSON."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from pend_storage.phases import Phase
from tests.examples.club import Club, blocks

RICH, POOR = "100000000000000040", "100000000000000001"
GUILD = "700000000000000001"


def shop_requests(client: httpx.Client) -> list[Any]:
    """Status and answer of requests to each route, one after the other."""
    answers: list[Any] = []

    def ask(method: str, path: str, body: Any = None) -> None:
        answer = client.request(method, path, json=body)
        answers.append((method, path, answer.status_code, answer.json()))

    ask("GET", "/products")
    ask("POST", "/products", {"name": "hat", "price": 12.5})
    ask("POST", "/products", {"name": "no price"})
    ask("POST", "/sale")
    ask("GET", "/orders")
    for user in (RICH, POOR, "absent"):
        ask("POST", "/orders", {"user": user, "product": 5})
        ask("GET", f"/users/{user}")
    ask("POST", "/orders", {"user": RICH, "product": 99})
    ask("POST", "/todos", {"text": "buy paper"})
    ask("DELETE", "/todos/1")
    ask("DELETE", "/todos/1")
    ask("POST", "/posts", {"author": "ada", "text": "Second"})
    ask("POST", "/posts", {"author": "bo", "text": "Third"})
    ask("PATCH", "/settings", {"language": "de", "colours": ["blue"]})
    ask("PATCH", "/settings", {"theme": {"dark": True, "size": None}})
    ask("POST", "/visits")
    ask("POST", "/visits")
    return answers


MESSAGES = [
    f"{GUILD} {POOR} daily",
    f"{GUILD} newcomer daily",
    f"{GUILD} {RICH} deposit 70",
    f"{GUILD} {RICH} redeem WELCOME",
    f"{GUILD} {RICH} redeem WELCOME",
    f"{GUILD} {RICH} warn {POOR} too loud",
    f"{GUILD} {RICH} warn {POOR} again",
    f"another {RICH} warn {POOR} elsewhere",
    f"{GUILD} {RICH} forgive 100000000000000003",
    f"{GUILD} {RICH} prefix %",
    f"{GUILD} {RICH} block {POOR}",
    f"{GUILD} {POOR} daily",
    f"{GUILD} {RICH} unblock {POOR}",
    f"{GUILD} {RICH} rich",
    f"{GUILD} {RICH} nonsense",
]


def everything(club: Club) -> list[Any]:
    """All answers of shop and bot."""
    with club.serving() as client:
        first = shop_requests(client)
        said = club.say(MESSAGES)  # while the shop works
        return [*first, *said, *shop_requests(client)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Any]:
    """Answers and files of the server as it was: plain JSON."""
    club = Club.new(tmp_path_factory.mktemp("plain") / "club", "")
    answers = everything(club)
    return answers, club.contents()


@pytest.fixture
def moved(tmp_path: Path, new_database: Callable[[], str]) -> Club:
    """The server after the fourth step of the page."""
    club = Club.new(tmp_path / "club", new_database())
    for block in blocks("sh")[1:3]:
        club.shell(block)
    club.apply_diff()
    return club


def bring(club: Club, phase: Phase) -> None:
    """Move the server to a phase, as the page does."""
    if phase is Phase.JSON_ONLY:
        return
    club.shell("pend-storage db migrate && pend-storage db seed")
    club.shell("pend-storage phase set parallel && pend-storage migrate json")
    for _ in range([*Phase].index(phase) - 1):
        club.shell("pend-storage db validate && pend-storage phase advance")


PHASES: Final = [
    Phase.JSON_ONLY,
    Phase.PARALLEL,
    pytest.param(Phase.POSTGRES_PRIMARY, marks=pytest.mark.deep),
    pytest.param(Phase.POSTGRES_ONLY, marks=pytest.mark.deep),
]


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_answers_and_files_are_those_of_plain_json(
    phase: Phase, moved: Club, expected: tuple[list[Any], Any]
) -> None:
    answers, files = expected
    bring(moved, phase)

    assert everything(moved) == answers

    if phase is not Phase.JSON_ONLY:
        moved.shell("pend-storage rollback")
    assert moved.contents() == files


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_orders_at_the_same_moment_are_all_kept(phase: Phase, moved: Club) -> None:
    bring(moved, phase)
    clients, each = 16, 5

    def order(client: httpx.Client) -> list[tuple[int, Any]]:
        body = {"user": RICH, "product": 1}
        answers = [client.post("/orders", json=body) for _ in range(each)]
        return [(answer.status_code, answer.json().get("id")) for answer in answers]

    with (
        moved.serving() as one,
        moved.serving() as two,
        ThreadPoolExecutor(clients) as pool,
    ):
        answers = [*pool.map(order, [one, two] * (clients // 2))]

    told = [answer for some in answers for answer in some]
    assert {status for status, _ in told} == {httpx.codes.CREATED}
    numbers = sorted(number for _, number in told)
    assert numbers == [*range(31, 31 + clients * each)]
    if phase is not Phase.JSON_ONLY:
        moved.shell("pend-storage rollback")
    files = moved.contents()
    assert [order["id"] for order in files["orders.json"]] == [
        *range(1, 31 + clients * each)
    ]
    user = files["economy.json"][RICH]
    assert user["inventory"].count("mug") == 1 + clients * each
    assert user["wallet"] == 50 * 40 - 4.5 * clients * each


@pytest.mark.slow
def test_the_page_from_top_to_bottom(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    club = Club.new(tmp_path / "club", new_database())
    look, schema, place, phases, back = blocks("sh")
    assert "sample_data.py data" in look  # which is done
    club.shell("pend-storage inspect data")
    assert "0 quarantined, 0 lost; 10 of 10 files equal" in club.shell(schema)
    assert "10 of its files are declared in files" in club.shell(place)
    club.apply_diff()
    with club.serving() as client:
        first = shop_requests(client)
        club.shell(phases)
        assert "postgres-only" in club.shell("pend-storage phase show")
        second = shop_requests(client)
        club.shell(back)
        assert "json-only" in club.shell("pend-storage phase show")

    club.apply_diff(back=True)

    plain = Club.new(tmp_path / "plain", "")
    with plain.serving() as client:
        assert [shop_requests(client), shop_requests(client)] == [first, second]
    assert club.contents() == plain.contents()
    assert everything(club) == everything(plain)
