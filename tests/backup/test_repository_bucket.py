"""Repository in a bucket: a server that fails, refuses, forgets answers, or is slow."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pyrage
import pytest
from typing_extensions import override

from pend_storage.backup import _object_repository as object_repository
from pend_storage.backup import _opening as opening
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys, put_stream, read_stream
from pend_storage.errors import ConfigError, LockTimeout, StoreUnavailable
from pend_storage.testing import Child
from pend_storage.testing.crash import Report
from tests.backup.environments import an_environment

pytest.importorskip("moto")

SECRET: Final = "hush-hush-very-secret"  # noqa: S105 - of a test
BUCKET: Final = "pend-backups"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


class Faults:
    """Faults of the proxy; each applies to the requests of one method."""

    def __init__(self) -> None:
        self.status: dict[str, tuple[int, str, int]] = {}
        """Answer in place of the server's: status, code, for how many requests."""
        self.lost = 0
        """Requests whose answers are not sent, though they were carried out."""
        self.forgets_condition = False
        self.hides_listing = False
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[tuple[str, str, bytes]] = []


class Handler(BaseHTTPRequestHandler):
    """Forwards a request unless a fault is set."""

    faults: Faults
    target: str
    protocol_version = "HTTP/1.1"

    @override
    def log_message(self, *_: Any) -> None:
        pass

    def forward(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.faults.seen.append((self.command, self.path, headers))
        self.faults.bodies.append((self.command, self.path, body))
        if self._fails():
            return
        if self.faults.forgets_condition:
            headers.pop("if-none-match", None)
        if self.faults.hides_listing and "list-type" in self.path:
            headers.pop("host")
            self._answer(200, {}, b"<ListBucketResult></ListBucketResult>")
            return
        status, found, data = self._asked(headers, body)
        if self.faults.lost and self.command == "PUT":
            self.faults.lost -= 1
            self.close_connection = True
            return
        self._answer(status, found, data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

    def _fails(self) -> bool:
        status, code, times = self.faults.status.get(self.command, (0, "", 0))
        if not times:
            return False
        self.faults.status[self.command] = status, code, times - 1
        text = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>"
        self._answer(status, {"content-type": "application/xml"}, text.encode())
        return True

    def _asked(
        self, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        request = Request(  # noqa: S310 - loopback
            self.target + self.path, data=body or None, method=self.command
        )
        # urllib would call it a form, and the server would read it as one.
        for name, value in {"content-type": "binary/octet-stream", **headers}.items():
            if name not in {"connection", "content-length", "transfer-encoding"}:
                request.add_header(name, value)
        try:
            with urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                return answer.status, dict(answer.headers), answer.read()
        except HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        skipped = {"connection", "transfer-encoding", "server", "date"}
        if self.command != "HEAD":
            skipped |= {"content-length"}
            self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            if name.lower() not in skipped:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def proxy(target: str) -> Iterator[tuple[str, Faults]]:
    faults = Faults()
    kind = type("Bound", (Handler,), {"faults": faults, "target": target})
    running = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", faults
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@pytest.fixture
def line(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    made = Request(f"{server}/{BUCKET}", method="PUT")  # noqa: S310 - loopback
    with urlopen(made, timeout=30):  # noqa: S310 - loopback
        pass
    with proxy(server) as (address, faults):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield faults


@pytest.fixture
def url(line: Faults, request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/of/{abs(hash(request.node.name))}"


@pytest.fixture
def repository(url: str) -> Repository:
    """Return one without a description, which most tests do not need."""
    return object_repository.open_bucket(BUCKET, urlsplit(url).path.strip("/"))


@pytest.fixture
def opened(url: str) -> Repository:
    return open_repository(url, create=True)


def names(repository: Repository, prefix: str = "") -> list[str]:
    return [each.name for each in repository.list(prefix)]


def test_what_is_put_can_be_read_listed_and_deleted(repository: Repository) -> None:
    assert repository.put("backups/a/rows-0001.zst", [b"one", b"", b"two"]) == 6
    repository.put("backups/b/manifest.json", [b""], create_only=True)
    repository.put("backups/c/empty", [])

    assert repository.read("backups/a/rows-0001.zst") == b"onetwo"
    assert repository.read("backups/b/manifest.json") == b""
    assert repository.read("backups/c/empty") == b""
    assert [(each.name, each.size) for each in repository.list("backups/")] == [
        ("backups/a/rows-0001.zst", 6),
        ("backups/b/manifest.json", 0),
        ("backups/c/empty", 0),
    ]
    assert repository.list("backups/")[0].modified.tzinfo is not None
    assert names(repository, "log/") == []
    assert repository.free_bytes() is None

    repository.delete("backups/a/rows-0001.zst")
    repository.delete("backups/a/rows-0001.zst")
    with pytest.raises(FileNotFoundError):
        repository.read("backups/a/rows-0001.zst")


def test_a_second_opening_finds_it(opened: Repository) -> None:
    text = opened.read("repository.json")
    again = open_repository(opened.url, create=True)
    assert again.read("repository.json") == text
    assert names(again) == ["repository.json"]
    with pytest.raises(ConfigError, match="no repository of backups at s3://"):
        open_repository(f"{opened.url}/below")


def test_a_bucket_with_other_things_is_refused(opened: Repository) -> None:
    opened.put("other/thing", [b"x"])
    with pytest.raises(ConfigError, match=r"thing.* is no repository"):
        open_repository(f"{opened.url}/other", create=True)


def test_a_long_stream_goes_in_parts_and_comes_in_ranges(
    repository: Repository, line: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_repository, "_PART", 5 << 20)
    pieces = [os.urandom(1 << 20) for _ in range(12)]
    part = put_stream(repository, "backups/a/rows", pieces, Keys())
    assert b"".join(read_stream(repository, part, Keys())) == b"".join(pieces)
    uploads = [path for method, path, _ in line.seen if "partNumber" in path]
    assert len(uploads) == 3
    ranges = [headers for *_, headers in line.seen if "range" in headers]
    assert len(ranges) == 3


def test_an_object_that_is_replaced_meanwhile_is_not_mixed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_repository, "_PART", 1_000)
    repository.put("x", [b"1" * 2_000], create_only=True)
    reading = repository.get("x")
    next(reading)
    repository.delete("x")
    repository.put("x", [b"2" * 2_000], create_only=True)
    with pytest.raises(StoreUnavailable, match="replaced while it was read"):
        list(reading)


def test_create_only_replaces_nothing(repository: Repository) -> None:
    repository.put("facts/a.json", [b"first"], create_only=True)
    with pytest.raises(FileExistsError):
        repository.put("facts/a.json", [b"second"], create_only=True)
    with pytest.raises(FileExistsError):  # of the same content, too
        repository.put("facts/a.json", [b"first"], create_only=True)
    assert repository.read("facts/a.json") == b"first"


def test_of_two_creators_at_the_same_time_one_succeeds(repository: Repository) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def create(mine: bytes) -> None:
        barrier.wait(30)
        try:
            repository.put("backups/a/manifest.json", [mine], create_only=True)
            outcomes.append(mine.decode())
        except FileExistsError:
            outcomes.append("taken")

    threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("taken") == 3
    [winner] = set(outcomes) - {"taken"}
    assert repository.read("backups/a/manifest.json") == winner.encode()


def test_an_upload_whose_answer_was_lost_is_its_own(
    repository: Repository, line: Faults
) -> None:
    line.lost = 1
    repository.put("backups/a/manifest.json", [b"{}"], create_only=True)
    assert repository.read("backups/a/manifest.json") == b"{}"
    assert sum(method == "PUT" for method, *_ in line.seen) == 2


def test_a_lost_answer_makes_no_other_object_its_own(
    repository: Repository, line: Faults
) -> None:
    repository.put("backups/a/manifest.json", [b"theirs"], create_only=True)
    line.lost = 1
    with pytest.raises(FileExistsError):
        repository.put("backups/a/manifest.json", [b"mine"], create_only=True)
    assert repository.read("backups/a/manifest.json") == b"theirs"


@pytest.mark.parametrize("create_only", [True, False])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    repository: Repository, line: Faults, create_only: bool
) -> None:
    line.status["PUT"] = 503, "SlowDown", 2
    repository.put("x", [b"x"], create_only=create_only)
    line.status["GET"] = 503, "SlowDown", 2
    assert repository.read("x") == b"x"


def test_a_server_that_stays_busy_is_unavailable(
    repository: Repository, line: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_repository, "_ATTEMPTS", 2)
    for method in ("GET", "PUT", "POST", "DELETE"):
        line.status[method] = 503, "SlowDown", 1_000
    for act in (
        lambda: repository.read("x"),
        lambda: repository.put("x", [b"x"], create_only=True),
        lambda: repository.list(""),
    ):
        with pytest.raises(StoreUnavailable, match="SlowDown") as caught:
            act()
        assert SECRET not in str(caught.value)


def test_a_server_that_is_away_or_silent_is_unavailable(
    opened: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_repository, "_RETRIES", {"max_retries": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match=r"s3://pend-backups"):
        open_repository(opened.url)

    monkeypatch.setattr(
        object_repository, "_CLIENT", {"timeout": timedelta(seconds=0.2)}
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(StoreUnavailable, match=r"s3://pend-backups"):
            open_repository(opened.url)


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (401, "Unauthorized"), (400, "ExpiredToken")],
)
def test_a_permission_that_was_lost_is_named(
    repository: Repository, line: Faults, status: int, code: str
) -> None:
    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        line.status[method] = status, code, 1_000
    for act in (
        lambda: repository.read("x"),
        lambda: repository.put("x", [b"x"], create_only=True),
        lambda: repository.put("x", [b"x"]),
        lambda: repository.list(""),
        lambda: repository.delete("x"),
    ):
        with pytest.raises(ConfigError, match="the server refuses it") as caught:
            act()
        assert SECRET not in str(caught.value)


def test_a_missing_bucket_is_named(line: Faults) -> None:
    with pytest.raises(ConfigError, match="no bucket at s3://no-such-bucket"):
        open_repository("s3://no-such-bucket/x", create=True)
    with pytest.raises(ConfigError, match="no bucket at s3://no-such-bucket"):
        open_repository("s3://no-such-bucket/x")


def test_missing_credentials_are_named(
    line: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY"):
        open_repository(f"s3://{BUCKET}/x")


def test_a_server_that_replaces_all_the_same_is_refused(line: Faults) -> None:
    line.forgets_condition = True
    url = f"s3://{BUCKET}/of/forgetful"
    with pytest.raises(ConfigError, match="ignores If-None-Match"):
        open_repository(url, create=True)
    line.forgets_condition = False
    assert names(open_repository(url, create=True)) == ["repository.json"]


def test_a_listing_that_lags_hides_nothing_that_is_asked_for_by_name(
    repository: Repository, line: Faults
) -> None:
    line.hides_listing = True
    repository.put("backups/a/manifest.json", [b"{}"], create_only=True)
    assert names(repository) == []
    assert repository.read("backups/a/manifest.json") == b"{}"
    with pytest.raises(FileExistsError):
        repository.put("backups/a/manifest.json", [b"{}"], create_only=True)


def test_no_acl_is_set(repository: Repository, line: Faults) -> None:
    repository.put("x", [b"x"])
    repository.put("y", [b"y"], create_only=True)
    assert line.seen
    for _, path, headers in line.seen:
        assert "acl" not in path
        assert not any(name.startswith("x-amz-acl") for name in headers)


def test_an_error_of_the_content_passes_and_leaves_nothing(
    repository: Repository,
) -> None:
    def content() -> Iterator[bytes]:
        yield b"x" * (1 << 20)
        raise FileNotFoundError("of the source")

    with pytest.raises(FileNotFoundError, match="of the source"):
        repository.put("x", content())
    assert names(repository) == []


def test_leases_work_in_a_bucket(repository: Repository) -> None:
    with repository.lease("create") as held:
        held.require()
        with pytest.raises(LockTimeout), repository.lease("create"):
            pass
    with repository.lease("create"):
        pass


def test_what_has_to_be_unique_has_a_limit(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_repository, "SMALL", 10)
    with pytest.raises(ConfigError, match="more than 10 bytes"):
        repository.put("x", [b"12345", b"678901"], create_only=True)
    assert names(repository) == []


@pytest.mark.parametrize(
    "endpoint", ["http://backups.example.org", "http://10.0.0.1:9000", "ftp://x", "x"]
)
def test_an_endpoint_without_encryption_is_for_this_machine_only(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(ConfigError, match="https"):
        open_repository(f"s3://{BUCKET}/x")


def test_a_forked_child_is_refused_and_does_not_hang(opened: Repository) -> None:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        code = 1
        try:
            opened.read("repository.json")
        except ConfigError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def wait_for_an_answer(report: Report, port: int) -> None:
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    object_repository._CLIENT["read_timeout"] = timedelta(hours=1)
    object_repository._CLIENT["timeout"] = timedelta(hours=1)
    report("begins")
    try:
        open_repository(f"s3://{BUCKET}/x")
    except KeyboardInterrupt:
        report("interrupted")


def test_the_wait_for_a_server_can_be_interrupted() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Child(wait_for_an_answer, silent.getsockname()[1]) as child,
    ):
        child.wait_for_reports()
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4)  # it waits for the answer now
            os.kill(child.pid, signal.SIGINT)
            assert child.finish().reports[-1] == "interrupted"


def test_the_commands_work_with_an_encrypted_bucket(
    url: str, line: Faults, tmp_path: Path
) -> None:
    key = pyrage.x25519.Identity.generate()
    environment = an_environment(tmp_path)
    environment.write(f'encrypt_to = ["{key.to_public()}"]')
    text = environment.config.read_text()
    environment.config.write_text(
        text.replace('repository = "repository"', f'repository = "{url}"')
    )
    environment.put("one", "two", text="a text of a person")
    access = {name: os.environ[name] for name in os.environ if name[:4] == "AWS_"}

    def run(*arguments: str, **more: str) -> Any:
        result = environment.run("backup", *arguments, "--json", **access, **more)
        assert SECRET not in result.out + result.err
        assert str(key) not in result.out + result.err
        assert result.code == 0, result.out + result.err
        return result.document

    secret = {"PEND_BACKUP_IDENTITY": str(key)}
    run("create", **secret)
    environment.put("three")
    run("archive", **secret)
    run("verify", "--all", "--deep", **secret)
    run("restore", "--to", "latest", "--into", str(tmp_path / "side"), **secret)
    bodies = [body for method, _, body in line.bodies if method == "PUT"]
    kinds = {body[:4] for body in bodies}
    assert b"age-" in kinds
    assert bytes.fromhex("28b52ffd") not in kinds, "compressed, and not encrypted"
    assert not any(b"a text of a person" in body for body in bodies)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("_object_repository", "_object_errors"):
        monkeypatch.delitem(sys.modules, f"pend_storage.backup.{name}", raising=False)
        monkeypatch.delattr(f"pend_storage.backup.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(ConfigError, match=r"pip install 'pend_storage\[backup-s3\]'"):
        opening.open_repository(f"s3://{BUCKET}/x")
