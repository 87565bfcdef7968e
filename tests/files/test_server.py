"""A server whose functions load and save JSON files, behind HTTP, under load.

Its storage is a pair of functions around ``json.load`` and ``json.dump``, as in many
servers. Moved over, that pair is all that changes, and a line around each request. In every
phase it answers as it does on plain files when requests come one at a time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from pend_storage import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore

from .places import ANY, ANY_TOO, Place

pytestmark = pytest.mark.timeout(240)

CLIENTS = 16
CREATES = 10
"""Of each client."""

Load = Callable[[str, Any], Any]
Save = Callable[[str, Any], None]


class Server:
    """The server's own code: no word of the library in it."""

    def __init__(self, load: Load, save: Save) -> None:
        self.load_json = load
        self.save_json = save

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        expenses = self.load_json(ANY, [])
        expense = {"id": max((e["id"] for e in expenses), default=0) + 1, **body}
        expenses.append(expense)
        self.save_json(ANY, expenses)
        totals = self.load_json(ANY_TOO, {})
        totals[body["user"]] = totals.get(body["user"], 0) + body["amount"]
        self.save_json(ANY_TOO, totals)
        return expense

    def read(self) -> dict[str, Any]:
        return {
            "expenses": self.load_json(ANY, []),
            "totals": self.load_json(ANY_TOO, {}),
        }


@contextmanager
def serving(server: Server, guard: Callable[[], Any]) -> Iterator[tuple[str, int]]:
    """The server behind HTTP; each change of it is made inside of a guard."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                with guard():
                    self._answer(201, server.create(body))
            except Exception as error:  # noqa: BLE001 - as frameworks do
                self._answer(500, repr(error))

        def do_GET(self) -> None:
            self._answer(200, server.read())

        @override
        def log_message(self, *_: Any) -> None:
            pass

    class Quick(ThreadingHTTPServer):
        request_queue_size = 2 * CLIENTS

    with Quick(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(
            target=http.serve_forever, kwargs={"poll_interval": 0.05}
        )
        thread.start()
        host, port = http.server_address[:2]
        yield str(host), int(port)
        http.shutdown()
        thread.join()


def load_of(address: tuple[str, int]) -> list[tuple[int, Any]]:
    """Answers to 16 clients that create records at the same moment."""
    import http.client

    def client(number: int) -> list[tuple[int, Any]]:
        line = http.client.HTTPConnection(*address, timeout=120)
        answers = []
        start.wait()
        for n in range(CREATES):
            body = {"user": f"u{number % 4}", "amount": n, "client": number}
            line.request("POST", "/", json.dumps(body))
            answer = line.getresponse()
            answers.append((answer.status, json.loads(answer.read())))
        line.close()
        return answers

    start = threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        return [a for answers in pool.map(client, range(CLIENTS)) for a in answers]


def check(answers: list[tuple[int, Any]], left: dict[str, Any]) -> None:
    """Every one was created, with a number of its own, and nothing else."""
    assert [status for status, _ in answers] == [201] * CLIENTS * CREATES, answers
    created = sorted((body for _, body in answers), key=lambda body: body["id"])
    assert [body["id"] for body in created] == list(range(1, len(answers) + 1))
    assert left["expenses"] == created
    share = sum(range(CREATES)) * CLIENTS // 4
    assert left["totals"] == {f"u{n}": share for n in range(4)}


def test_on_plain_files_one_at_a_time(tmp_path: Path) -> None:
    """Reference of the other variants."""

    def load(file: str, default: Any) -> Any:
        path = tmp_path / file
        return json.loads(path.read_text()) if path.exists() else default

    def save(file: str, value: Any) -> None:
        (tmp_path / file).write_text(json.dumps(value))

    server, turn = Server(load, save), threading.Lock()
    with serving(server, lambda: turn) as address:
        check(load_of(address), server.read())


def test_a_server_under_load(place: Place, store: Store) -> None:
    server = Server(store.load, store.save)

    with serving(server, lambda: store.exclusive(ANY, timeout=120)) as address:
        answers = load_of(address)

    left = server.read()
    check(answers, left)
    check_files(place, store, left)


def check_files(place: Place, store: Store, left: dict[str, Any]) -> None:
    """Both stores, and the files, hold the same."""
    json_store: Any = store
    if isinstance(store, DualWriteStore):
        store.catch_up()
        json_store = store._pair.json
        if store.phase in {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}:
            assert store.validate().ok
        if store.phase is Phase.POSTGRES_ONLY:
            return
    if isinstance(json_store, JsonStore):
        json_store.checkpoint()
        for file, name in ((ANY, "expenses"), (ANY_TOO, "totals")):
            assert json.loads((place.directory / file).read_text()) == left[name]


def test_without_exclusive_use_nothing_is_lost_in_silence(store: Store) -> None:
    """Clients that got the same number get an error; all other records are there."""
    server = Server(store.load, store.save)

    with serving(server, nullcontext) as address:
        answers = load_of(address)

    created = [body["id"] for status, body in answers if status == 201]
    refused = [body for status, body in answers if status != 201]
    assert all("MergeConflict" in body for body in refused), refused
    ids = [expense["id"] for expense in store.load(ANY)]
    assert set(created) <= set(ids)
    assert len(ids) == len(set(ids))
