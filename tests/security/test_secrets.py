"""Secrets of the servers' URLs are in no text: of errors, events, logs and commands."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import click
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pend_storage._secrets import hidden, may_be_address
from pend_storage.cli._app import root
from pend_storage.config import PostgresSettings, RedisSettings
from pend_storage.config._database_url import overridden_url, shown_url, url_fault
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.events import Event
from pend_storage.flags.redis import RedisFlag
from pend_storage.stores.postgres import PostgresStore, open_session
from pend_storage.stores.postgres._connection.address import Address
from pend_storage.stores.postgres._connection.connect_errors import connect_error
from pend_storage.testing.domain import SCHEMA
from tests.integration.cli.conftest import clean_environment

pytestmark = pytest.mark.timeout(300)

MARK: Final = "TOPsecret"
"""In the middle of every password: a part of a password must not be shown either."""
PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
LETTERS: Final = st.text(PRINTABLE + "äß€\u00a0\u2028𝄞\uff20\u2100", max_size=8)
PASSWORDS: Final = st.builds("{}{}{}".format, LETTERS, st.just(MARK), LETTERS)
HARD: Final = (
    *(
        f"{before}{MARK}"
        for before in ("/", "12/", "?", "12?", "12/?", "#", "@", "@h/")
    ),
    *(
        f"{MARK}{after}"
        for after in ("%", "%zz", "&x=1", "&", " ", "'", "]", ":", "\\")
    ),
    *(f"a&{MARK}=1", f"a[{MARK}", f"%40h/{MARK}", f"\t{MARK}\n", f"x://{MARK}"),
)


def everything(text: str) -> str:
    """Every character as ``%XX``."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (
    lambda text: text,
    lambda text: quote(text, safe=""),
    quote,
    quote_plus,
    everything,
)
PLACES: Final = (
    "postgresql://app:{}@127.0.0.1:1/x",
    "postgres://app:{}@127.0.0.1:1/x",
    "postgresql+psycopg://app:{}@127.0.0.1:1/x",
    "POSTGRESQL://app:{}@127.0.0.1:1/x",
    "postgresql://:{}@127.0.0.1:1/x",
    "postgresql://app%3A{}@127.0.0.1:1/x",
    "postgresql://app:{}@127.0.0.1:1,127.0.0.1:2/x?application_name=a",
    "postgresql://app:{}@/x?host=/nowhere",
    "postgresql://app@127.0.0.1:1/x?password={}",
    "postgresql://app@127.0.0.1:1?password={}&sslmode=disable",
    "postgresql://app@127.0.0.1:1/x?PASSWORD={}",
    "postgresql://app@127.0.0.1:1/x?pass%77ord={}",
    "postgresql://app@127.0.0.1:1/x?sslpassword={}",
    "postgresql://app@127.0.0.1:1/x?sslmode=require&sslpassword={}",
    "postgresql://app@127.0.0.1:1/x?oauth_client_secret={}",
    "postgresql://app@127.0.0.1:1/x?some_new_token={}",
    "postgresql://app:{}@127.0.0.1:port/x",
    "postgresql://app:{}@127.0.0.1:99999/x",
    "postgresql://app:{}@[::1/x",
    "postgresql://app:{}@127.0.0.1:1/x?sslmode=nonsense",
    "postgresql://app:{}@127.0.0.1:1/x?connect_timeout=nonsense",
    "postgresql://app:{}@127.0.0.1:1/x?service=missing",
    "postgresql:/app:{}@127.0.0.1:1/x",
    "app:{}@127.0.0.1:1/x",
    "host=127.0.0.1 port=1 user=app password={}",
    "host=127.0.0.1 port=1 user=app password='{}'",
    "host=127.0.0.1 port=1 user=app PassWord={}",
    "mysql://app:{}@127.0.0.1:1/x",
    "{}",
)
REDIS_PLACES: Final = (
    "redis://:{}@127.0.0.1:1/0",
    "redis://app:{}@127.0.0.1:1/0",
    "rediss://app:{}@127.0.0.1:1/0",
    "redis://127.0.0.1:1/0?password={}",
    "rediss://127.0.0.1:1/0?ssl_password={}",
    "redis://127.0.0.1:1/0?PASSWORD={}",
    "unix://app:{}@/nowhere.sock",
    "redis://app:{}@127.0.0.1:port/0",
    "{}",
)


IS_DEEP: Final = settings.get_current_profile_name() == "deep"


def is_clean(text: str) -> bool:
    """Return whether the mark is nowhere, however its letters are spelled."""
    return MARK.lower() not in text.lower() and everything(MARK) not in text.upper()


def texts_of(error: BaseException) -> Iterator[str]:
    yield str(error)
    yield repr(error)
    yield repr(vars(error))
    yield "".join(traceback.format_exception(error))
    if isinstance(error, PendStorageError):
        assert is_clean(pickle.dumps(error).decode(errors="replace"))
        yield str(pickle.loads(pickle.dumps(error)))  # noqa: S301 - made here


def texts_of_postgres(url: str, password: str) -> Iterator[str]:
    """Every text that a URL may get into, without a command."""
    yield url_fault(url) or ""
    yield shown_url(url)
    yield PostgresSettings(url=url).shown_url
    yield repr(PostgresSettings(url=url))
    if url_fault(url) is None:
        yield shown_url(overridden_url(url, {"name": "other", "password": password}))
    events: list[Event] = []
    try:
        yield str(Address.parse(url))
        with PostgresStore(
            SCHEMA, url, connect_timeout=0.2, hook=events.append
        ) as store:
            yield store.name
            yield repr(store) + repr(store.address) + repr(store._connector)
            store.meta("x")
    except PendStorageError as error:
        yield from texts_of(error)
    try:
        open_session(url, connect_timeout=1).close()
    except PendStorageError as error:
        yield from texts_of(error)
    yield repr(events)


def texts_of_redis(url: str) -> Iterator[str]:
    yield shown_url(url)
    yield RedisSettings(url=url).shown_url
    yield repr(RedisSettings(url=url))
    try:
        flag = RedisFlag(url, "key", timeout=0.2)
        yield flag.place
        flag.read()
    except PendStorageError as error:
        yield from texts_of(error)


@pytest.fixture(scope="module")
def talkative_driver() -> Iterator[None]:
    """Have the driver refuse every connection, and repeat all settings in its words."""

    def refuse(conninfo: str, **_: Any) -> None:
        said = f"password authentication failed: {conninfo}"
        raise psycopg.OperationalError(said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg, "connect", refuse)
        yield


@pytest.mark.usefixtures("talkative_driver")
@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=2000 if IS_DEEP else 20)
@given(password=PASSWORDS, spell=st.sampled_from(SPELLINGS))
def test_no_text_has_a_password_of_the_database(
    place: str, password: str, spell: Callable[[str], str]
) -> None:
    for text in texts_of_postgres(place.format(spell(password)), password):
        assert is_clean(text), text


@pytest.mark.usefixtures("talkative_driver")
@pytest.mark.parametrize("password", HARD)
def test_no_text_has_a_password_that_looks_like_a_part_of_a_url(password: str) -> None:
    for place in PLACES:
        for spell in SPELLINGS if IS_DEEP else SPELLINGS[:2]:
            for text in texts_of_postgres(place.format(spell(password)), password):
                assert is_clean(text), (place, text)


@pytest.mark.parametrize("place", PLACES)
def test_no_text_of_the_real_driver_has_a_password(place: str) -> None:
    for spell in SPELLINGS[:2]:
        for text in texts_of_postgres(place.format(spell(f"a {MARK}'/")), MARK):
            assert is_clean(text), text


@pytest.mark.parametrize("place", REDIS_PLACES)
@settings(max_examples=10)
@given(password=PASSWORDS, spell=st.sampled_from(SPELLINGS))
@example(password=f"12/{MARK}", spell=SPELLINGS[0])
@example(password=f"/{MARK}", spell=SPELLINGS[0])
@example(password=f"12?{MARK}", spell=SPELLINGS[0])
@example(password=f"/{MARK}?", spell=SPELLINGS[0])
@example(password=f"a&{MARK}=1", spell=SPELLINGS[0])
def test_no_text_has_a_password_of_redis(
    place: str, password: str, spell: Callable[[str], str]
) -> None:
    for text in texts_of_redis(place.format(spell(password))):
        assert is_clean(text), text


@given(password=PASSWORDS, spell=st.sampled_from((*SPELLINGS[:3], repr)))
def test_a_driver_that_repeats_a_password_is_not_repeated(
    password: str, spell: Callable[[str], str]
) -> None:
    said = psycopg.OperationalError(f"no entry for {spell(password)} in the file")

    error = connect_error(said, "PostgreSQL at h", secrets=[password])

    assert all(is_clean(text) for text in (str(error), repr(error), repr(vars(error))))


def test_longer_secrets_are_hidden_before_their_parts() -> None:
    assert hidden("abcdef", ["abc", "abcdef"]) == "********"
    assert hidden("a%2Fb a/b", ["a/b"]) == "******** ********"


# -- commands --------------------------------------------------------------------------

ARGUMENTS: Final[dict[str, list[str]]] = {
    "inspect": ["data", "--check", "--database", "{url}"],
    "init": ["--force", "--database", "{url}"],
    "phase set": ["parallel"],
    "doctor": [],
    "quarantine accept": ["x", "--reason", "known"],
    "divergences accept": ["x", "--reason", "known"],
    "divergences show": ["x"],
    "jobs show": ["x"],
    "jobs pause": ["x"],
    "jobs resume": ["x"],
    "jobs cancel": ["x"],
    "quarantine retry": ["--all"],
    "quarantine show": ["x"],
    "completion": ["bash"],
    "audit show": ["x"],
    "backup show": ["x"],
    "backup restore": ["--to", "latest", "--into", "{url}", "--dry-run"],
    "backup diff": ["{url}"],
    "backup promote": ["{url}", "--dry-run"],
    "backup undo": ["users", "x", "--dry-run"],
    "backup pin": ["x"],
    "backup unpin": ["x"],
    "console": ["--listen", "127.0.0.1:0"],
}
"""Arguments of the commands that cannot be called without any."""
ENDLESS: Final = {"relay", "backup schedule run", "console"}
"""Commands that go on until a signal."""
WITHOUT_CONFIGURATION: Final = {"demo"}
"""Commands that read no configuration; this one starts servers of its own."""
CONFIG: Final = """
[environments.development]
phase = "parallel"
schema = "pend_storage.pend"
[environments.development.json]
directory = "data"
[environments.development.postgres]
url_env = "MY_DATABASE"
connect_timeout = 0.2
[environments.development.redis]
url_env = "MY_REDIS"
[environments.development.backup]
repository = "backups"
"""
_RUN: Final = """
import io, json, os, sys, threading, signal, time
sys.path.insert(0, os.getcwd())
from pend_storage.cli._app import run

def end(over):
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        if over.wait(0.02):
            return
    if not over.wait(1.0):  # it is at work
        os.kill(os.getpid(), signal.SIGTERM)

for arguments in json.loads(sys.stdin.read()):
    sys.stdout.write("\\x00"); sys.stdout.flush()
    over = threading.Event()
    if {"relay", "run", "console"} & set(arguments):
        threading.Thread(target=end, args=(over,)).start()
    try:
        run(arguments)
    except SystemExit:
        pass
    finally:
        over.set()
    sys.stdout.flush(); sys.stderr.flush()
"""


def commands(command: click.Command = root, *path: str) -> Iterator[tuple[str, ...]]:
    """Names of all commands, from the tree that the program itself uses."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, *path, name)


def required(path: tuple[str, ...]) -> list[str]:
    """Names of the parameters without which a command is refused."""
    command: click.Command = root
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return [str(p.name) for p in command.params if p.required]


def test_every_command_with_required_arguments_has_some_here() -> None:
    names = {" ".join(path) for path in commands()}

    assert names >= WITHOUT_CONFIGURATION
    for path in commands():
        if required(path):
            assert " ".join(path) in ARGUMENTS, path


NAMES_DIRECTORIES: Final = {"backup restore", "backup diff", "backup promote"}
"""Commands to which a bare word is the name of a directory."""


def calls(url: str) -> list[list[str]]:
    """Every command, as text and as JSON; and with the URL where none belongs."""
    made = []
    for path in commands():
        name = " ".join(path)
        if name in WITHOUT_CONFIGURATION:
            continue
        if name in NAMES_DIRECTORIES and not may_be_address(url):
            continue
        own = [
            a.format(url=url) if a == "{url}" else a for a in ARGUMENTS.get(name, [])
        ]
        made += [[*path, *own], [*path, *own, "--json"]]
        if name not in ENDLESS and "://" in url:  # what is no URL is no secret to them
            made.append([*path, *own, url, "--log-level=debug"])
    return made


def passwords() -> list[tuple[str, str]]:
    """Places and passwords of one run: other ones in each, and the seed is printed."""
    seed = int(
        os.environ.get("PEND_TEST_SEED") or random.SystemRandom().getrandbits(32)
    )
    sys.stderr.write(f"PEND_TEST_SEED={seed}\n")
    chosen = random.Random(seed)
    found = []
    places = [PLACES[0], chosen.choice(PLACES[1:])]
    for place in (*places, *chosen.sample(PLACES, 10 * IS_DEEP)):
        around = ["".join(chosen.choices(PRINTABLE, k=4)) for _ in range(2)]
        password = f"{around[0]}{MARK}{around[1]}"
        found.append((place, chosen.choice(SPELLINGS)(password)))
    return found


def run_all(directory: Path, url: str, redis: str) -> str:
    """Run all commands in one process; returns all that they wrote."""
    environment = {**clean_environment(), "MY_DATABASE": url, "MY_REDIS": redis}
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        cwd=directory,
        env=environment,
        input=json.dumps(calls(url)),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\x00") == len(calls(url)), done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wallet-db.json").write_text("{}")
    (tmp_path / "pend.toml").write_text(CONFIG)
    return tmp_path


@pytest.mark.timeout(900)
def test_no_command_writes_a_password(directory: Path) -> None:
    for place, password in passwords():
        redis = f"redis://:{password}@127.0.0.1:1/0"

        text = run_all(directory, place.format(password), redis)

        lines = [line for line in text.splitlines() if not is_clean(line)]
        assert not lines, lines[:5]
    assert signal.SIGTERM  # the relay is ended by it
    assert not list(directory.rglob("*.log"))


def test_a_url_of_the_file_is_not_quoted_where_it_is_malformed(directory: Path) -> None:
    bad = f'url = "postgresql://app:12/{MARK}@127.0.0.1:1/x"'
    (directory / "pend.toml").write_text(CONFIG.replace('url_env = "MY_DATABASE"', bad))

    text = run_all(directory, "postgresql://127.0.0.1:1/x", "redis://127.0.0.1:1/0")

    assert is_clean(text)


def test_a_wrong_part_of_the_url_is_not_quoted() -> None:
    from pend_storage.config import load_settings

    for parts in (
        {"DB_HOST": f"app:{MARK}@h"},
        {"DB_HOST": "h", "DB_PORT": f"1{MARK}"},
        {"DB_HOST": "h", "DB_NAME": f"{MARK}@h"},
        {"DB_HOST": "h", "DB_PASSWORD": MARK, "DB_USER": f"a:{MARK}"},
    ):
        try:
            found: Any = load_settings(
                environ={"PEND_SCHEMA": "pend_storage.pend", **parts}
            )
        except ConfigError as error:
            assert all(map(is_clean, texts_of(error))), parts
        else:
            assert is_clean(repr(found) + found.postgres.shown_url), parts
