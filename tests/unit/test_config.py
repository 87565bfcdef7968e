"""Settings: where they come from, who wins, and what is said when they are wrong."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from pend_storage.config import DualWriteSettings, Settings, load_settings
from pend_storage.config._database_url import (
    overridden_url,
    shown_url,
    url_fault,
    with_parameters,
)
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase

FULL = """
[environments.development]
phase = "parallel"
schema = "my_app.records"
auto_switch = true
[environments.development.json]
directory = "data"
checkpoint_interval = 5
files = { "wallet-db.json" = "../wallets.json" }
[environments.development.postgres]
url = "postgresql://pend:secret@db.example:6543/pend"
pool = 7
connect_timeout = 1.5
idle_timeout = 10
connection_max_age = 600
statement_timeout = 60
pooler = "transaction"
tls = { mode = "verify-full", root_certificate = "ca.pem" }
[environments.development.redis]
url = "redis://:hidden@cache.example/0"
key = "flags:pend"
[environments.development.dual_write]
secondary_timeout = 0
compare = 1
ignore = ["users.last_seen", "*.extra.note"]
switch_patience = 5
relay_interval = 0.5
retention_days = 30
[environments.production]
phase = "postgres-only"
"""

WriteFile = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    def write_file(text: str) -> Path:
        path = tmp_path / "pend.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def load(path: Path, name: str | None = None, /, **environ: str) -> Settings:
    return load_settings(path, name, environ=environ)


def test_every_setting_of_a_file_is_read(write: WriteFile) -> None:
    path = write(FULL)

    settings = load(path)

    assert settings.environment == "development"
    assert settings.phase is Phase.PARALLEL
    assert settings.schema == "my_app.records"
    json = settings.require_json()
    assert json.directory == path.parent / "data"
    assert json.checkpoint_interval == 5.0
    assert json.files == {"wallet-db.json": path.parent / "../wallets.json"}
    postgres = settings.require_postgres()
    assert postgres.url == "postgresql://pend:secret@db.example:6543/pend"
    assert (postgres.pool, postgres.pooler) == (7, "transaction")
    assert (postgres.connect_timeout, postgres.idle_timeout) == (1.5, 10.0)
    assert postgres.statement_timeout == 60.0
    assert postgres.connection_max_age == 600.0
    assert postgres.tls_mode == "verify-full"
    assert postgres.tls_root_certificate == path.parent / "ca.pem"
    assert settings.redis is not None
    assert settings.redis.url == "redis://:hidden@cache.example/0"
    assert settings.redis.key == "flags:pend"
    assert settings.auto_switch
    assert settings.dual_write == DualWriteSettings(
        secondary_timeout=0.0,
        compare=1.0,
        ignore=("users.last_seen", "*.extra.note"),
        switch_patience=5.0,
        relay_interval=0.5,
        retention_days=30.0,
    )


def test_the_defaults_are_those_of_the_documentation(write: WriteFile) -> None:
    settings = load(
        write('[environments.development.postgres]\nurl = "postgresql://h/d"')
    )

    assert settings.phase is Phase.JSON_ONLY
    assert settings.schema == "pend_storage.pend"
    assert settings.json is None
    postgres = settings.require_postgres()
    assert (postgres.pool, postgres.connect_timeout) == (20, 2.0)
    assert (postgres.idle_timeout, postgres.pooler) == (30.0, None)
    assert postgres.connection_max_age == 1800.0
    assert not settings.auto_switch
    assert settings.dual_write == DualWriteSettings(
        secondary_timeout=1.0,
        compare=0.05,
        ignore=(),
        switch_patience=30.0,
        relay_interval=0.2,
        retention_days=7.0,
    )


def test_waiting_for_the_secondary_can_be_unlimited(write: WriteFile) -> None:
    path = write(
        '[environments.development.dual_write]\nsecondary_timeout = "unlimited"'
    )

    assert load(path).dual_write.secondary_timeout is None


def test_a_redis_without_a_key_of_its_own_has_the_usual_one(write: WriteFile) -> None:
    settings = load(write('[environments.development.redis]\nurl = "redis://h"'))

    assert settings.redis is not None
    assert settings.redis.key is None


def test_the_argument_chooses_the_environment_before_the_variable(
    write: WriteFile,
) -> None:
    path = write(FULL)

    chosen = [
        load(path).environment,
        load(path, PEND_ENV="production").environment,
        load(path, "development", PEND_ENV="production").environment,
    ]

    assert chosen == ["development", "production", "development"]


def test_the_variables_win_over_the_file(write: WriteFile, tmp_path: Path) -> None:
    settings = load(
        write(FULL),
        PEND_PHASE="json-only",
        PEND_JSON_DIRECTORY=str(tmp_path / "elsewhere"),
        PEND_DATABASE_URL="postgresql://other/db",
        PEND_REDIS_URL="redis://other",
    )

    assert settings.phase is Phase.JSON_ONLY
    assert settings.require_json().directory == tmp_path / "elsewhere"
    assert settings.require_postgres().url == "postgresql://other/db"
    assert settings.require_postgres().pool == 7
    assert settings.redis is not None
    assert settings.redis.url == "redis://other"


def test_an_empty_variable_is_one_that_is_not_set(write: WriteFile) -> None:
    settings = load(write(FULL), PEND_PHASE="", PEND_ENV="", DB_PASSWORD="")

    assert settings.phase is Phase.PARALLEL
    assert "secret" in settings.require_postgres().url


def test_parts_of_the_database_url_come_from_the_variables(write: WriteFile) -> None:
    parts = {"DB_PASSWORD": "p@ss/word", "DB_HOST": "10.0.0.1"}

    settings = load(write(FULL), **parts)

    url = settings.require_postgres().url
    assert url == "postgresql://pend:p%40ss%2Fword@10.0.0.1:6543/pend"


def test_the_variables_are_enough_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings(
        environ={"DB_HOST": "db", "DB_NAME": "pend", "DB_USER": "u", "DB_PORT": "5433"}
    )

    assert settings.file is None
    assert settings.require_postgres().url == "postgresql://u@db:5433/pend"


def test_a_password_alone_makes_no_database(write: WriteFile) -> None:
    parts = {"DB_PASSWORD": "x"}

    settings = load(write("[environments.development]"), **parts)

    assert settings.postgres is None


def test_the_file_named_by_a_variable_is_read(write: WriteFile) -> None:
    path = write(FULL)

    settings = load_settings(environ={"PEND_CONFIG": str(path)})

    assert settings.file == path


def test_a_url_may_come_from_a_variable_of_ones_own(write: WriteFile) -> None:
    path = write('[environments.development.postgres]\nurl_env = "MY_URL"')

    assert load(path, MY_URL="postgresql://h/d").require_postgres().url.endswith("/d")
    with pytest.raises(ConfigError, match="MY_URL"):
        load(path).require_postgres()


def test_no_password_is_ever_shown(write: WriteFile) -> None:
    settings = load(write(FULL))

    shown = repr(settings) + settings.require_postgres().shown_url
    assert settings.redis is not None
    shown += settings.redis.shown_url

    assert "secret" not in shown
    assert "hidden" not in shown
    assert "postgresql://pend:***@db.example:6543/pend" in shown


WRONG = {
    "unknown member": (
        '[environments.development.json]\ndirectry = "x"',
        r"development\.json: unknown member 'directry'; did you mean 'directory'",
    ),
    "unknown member of tls": (
        '[environments.development.postgres.tls]\nmod = "x"',
        r"postgres\.tls: unknown member 'mod'; did you mean 'mode'",
    ),
    "unknown member at the top": (
        'phase = "parallel"',
        r"unknown member 'phase' at the top level.*\[environments\.NAME\]",
    ),
    "unknown phase": (
        '[environments.development]\nphase = "paralel"',
        r"development\.phase: unknown phase 'paralel'; did you mean 'parallel'",
    ),
    "unknown environment": (
        "[environments.developement]",
        "no environment 'development'; did you mean 'developement'",
    ),
    "no environments": ("", "no environment 'development'.*It has: none"),
    "environments as a list": ("environments = []", "must be a table"),
    "environment as a word": ('[environments]\ndevelopment = "x"', "expected `object`"),
    "wrong type": (
        '[environments.development.postgres]\npool = "many"',
        r"development\.postgres\.pool: expected `int`, got `str`",
    ),
    "too small": (
        "[environments.development.postgres]\npool = 0",
        r"postgres\.pool: expected `int` >= 1",
    ),
    "unknown pooler": (
        '[environments.development.postgres]\npooler = "sometimes"',
        r"postgres\.pooler: invalid enum value 'sometimes'",
    ),
    "two urls": (
        '[environments.development.postgres]\nurl = "postgresql://h"\nurl_env = "U"',
        "url and url_env are both given",
    ),
    "another database": (
        '[environments.development.postgres]\nurl = "mysql://h/d"',
        r"postgres\.url: .*must begin with postgresql://",
    ),
    "unknown member of dual_write": (
        "[environments.development.dual_write]\ncomparing = 1",
        r"dual_write: unknown member 'comparing'; did you mean 'compare'",
    ),
    "more than all reads": (
        "[environments.development.dual_write]\ncompare = 1.5",
        r"dual_write\.compare: expected `float` <= 1",
    ),
    "no number": (
        "[environments.development.dual_write]\nswitch_patience = nan",
        r"switch_patience: expected `float` >= 0",
    ),
    "less than no time": (
        "[environments.development.dual_write]\nsecondary_timeout = -1",
        r"secondary_timeout: expected `float` >= 0",
    ),
    "a word for a time": (
        '[environments.development.dual_write]\nsecondary_timeout = "limited"',
        r"secondary_timeout: expected seconds, or 'unlimited', not 'limited'; did you mean",
    ),
    "never looking": (
        "[environments.development.dual_write]\nrelay_interval = 0",
        r"relay_interval: expected `float` >= 0\.001",
    ),
    "kept for ever": (
        "[environments.development.dual_write]\nretention_days = inf",
        r"retention_days: expected `float` <= 36500",
    ),
    "no field": (
        '[environments.development.dual_write]\nignore = ["last_seen"]',
        r"dual_write\.ignore: 'last_seen' is not a field.*users\.last_seen",
    ),
    "a word for yes": (
        '[environments.development]\nauto_switch = "on"',
        r"development\.auto_switch: expected `bool`, got `str`",
    ),
    "a key without a name": (
        '[environments.development.redis]\nkey = ""',
        r"redis\.key: expected `str` of length >= 1",
    ),
    "not toml": ("environments = = 1", r"pend\.toml is not valid TOML: .*line 1"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=[*WRONG])
def test_what_is_wrong_is_named_with_file_and_place(
    write: WriteFile, text: str, message: str
) -> None:
    path = write(text)

    with pytest.raises(ConfigError, match=message) as caught:
        load(path)

    assert str(path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_an_unknown_word_in_a_variable_names_the_variable(write: WriteFile) -> None:
    with pytest.raises(ConfigError, match="PEND_PHASE: unknown phase 'off'"):
        load(write(FULL), PEND_PHASE="off")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file .*gone\.toml"):
        load_settings(tmp_path / "gone.toml", environ={})
    with pytest.raises(ConfigError, match="from PEND_CONFIG"):
        load_settings(environ={"PEND_CONFIG": str(tmp_path / "gone.toml")})


def test_without_file_and_variables_init_is_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="pend-storage init"):
        load_settings(environ={})


def test_a_file_in_another_encoding_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "pend.toml"
    path.write_bytes(b"# caf\xe9\n[environments.development]\n")

    with pytest.raises(ConfigError, match="byte 5: not UTF-8"):
        load(path)


def test_a_side_that_is_not_configured_is_asked_for_by_name(write: WriteFile) -> None:
    settings = load(write("[environments.development]"))

    with pytest.raises(ConfigError, match=r"json\.directory there, or PEND_JSON_DIR"):
        settings.require_json()
    with pytest.raises(ConfigError, match=r"postgres\.url or .* PEND_DATABASE_URL"):
        settings.require_postgres()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@q@h/d", "postgresql://***"),
        ("postgresql://u:100%zz@h/d", "postgresql://***"),
        ("postgresql://u:12/p@h/d", "postgresql://***"),
        ("postgresql://u:12/?p@h/d", "postgresql://***"),
        ("postgresql://u%3Ap@h/d", "postgresql://***@h/d"),
        ("p:w@h/d", "postgresql://***"),
        (
            "postgresql://h/d?oauth_client_secret=x&a=b",
            "postgresql://h/d?oauth_client_secret=***&***",
        ),
        ("postgresql://h/d?password=ab&cd=e", "postgresql://h/d?password=***&***"),
        ("postgresql://h/d?pass%77ord=x", "postgresql://h/d?password=***"),
        ("postgresql://h/d?PASSWORD=x", "postgresql://h/d?***"),
        ("postgresql://h/d?sslmode=require", "postgresql://h/d?sslmode=require"),
        ("postgresql://h/d?options=-c%20a=b", "postgresql://h/d?options=***"),
        ("redis://u:p@h:1/0?db=3", "redis://u:***@h:1/0?db=3"),
        ("redis://:p/q@h:1/0", "redis://***"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://h/d?password=p&port=1", "postgresql://h/d?password=***&port=1"),
        ("host=h password=p user=u", "postgresql://***"),
    ],
)
def test_a_shown_url_hides_its_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("url", "parts", "expected"),
    [
        (None, {"host": "h"}, "postgresql://h:5432/"),
        (None, {"host": "h", "name": "d"}, "postgresql://h:5432/d"),
        ("postgresql://h/d", {"port": "1"}, "postgresql://h:1/d"),
        ("postgresql://h:1/d", {"host": "i"}, "postgresql://i:1/d"),
        ("postgresql://h/d", {"user": "a b"}, "postgresql://a%20b@h/d"),
        ("postgresql://u:p%40@h/d", {"user": "v"}, "postgresql://v:p%40@h/d"),
        ("postgresql://h/d", {"host": "::1"}, "postgresql://[::1]/d"),
        ("postgresql://h/d", {"host": "/run/pg"}, "postgresql://%2Frun%2Fpg/d"),
        ("postgresql://h/d?x=1&host=i", {"host": "j"}, "postgresql://j/d?x=1"),
        ("postgresql://a:1,b:2/d", {"name": "e"}, "postgresql://a:1,b:2/e"),
    ],
)
def test_parts_of_a_url_are_replaced(
    url: str | None, parts: dict[str, str], expected: str
) -> None:
    assert overridden_url(url, parts) == expected


def test_tls_settings_become_parameters_of_the_url(write: WriteFile) -> None:
    path = write(FULL)

    url = load(path).require_postgres().full_url

    assert url == (
        "postgresql://pend:secret@db.example:6543/pend"
        f"?sslmode=verify-full&sslrootcert={path.parent}/ca.pem"
    )


def test_parameters_replace_those_of_their_name() -> None:
    url = with_parameters(
        "postgresql://h/d?sslmode=allow&x=a%20b", {"sslmode": "require"}
    )

    assert url == "postgresql://h/d?x=a%20b&sslmode=require"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("postgresql://h/d", None),
        ("postgres://h:5432/d", None),
        ("postgresql:///d?host=/run", None),
        ("mysql://h/d", "must begin with postgresql://"),
        ("host=h dbname=d", "must begin with postgresql://"),
        ("postgresql://a:1,b:2,[::1]:3/d", None),
        ("postgresql://h:99999/d", "the port of"),
        ("postgresql://h:0/d", "the port of"),
        ("postgresql://h/d?port=0", "the port of"),
        ("word:h/d", "begins without that"),
        ("postgresql://u:a\tb@h/d", "cannot be read"),
        ("postgresql://u:12/?word@h/d", "not percent-encoded"),
        ("postgresql://u:p@h/d%40x", "the name of the host or"),
        ("postgresql://h%40i/d", "the name of the host or"),
        ("postgresql://h/d?dbname=word%40h", "the name of the host or"),
        ("postgresql://h:port/d", "cannot be read"),
        ("postgresql://[::1/d", "cannot be read"),
        ("postgresql://u:p%40%2F@h/d", None),
        ("postgresql://h/d?application_name=a@b", None),
        ("postgresql://u:p@ss@h/d", "not percent-encoded"),
        ("postgresql://u:100%zz@h/d", "not percent-encoded"),
        ("postgresql://u:12?word@h/d", "not percent-encoded"),
        ("postgresql://u:12#word@h/d", "not percent-encoded"),
        ("postgresql://u:p@ss/word@h/d", "not percent-encoded"),
        ("postgresql://h:12/word@127.0.0.1:1/x", "not percent-encoded"),
    ],
)
def test_a_broken_url_is_told_from_a_good_one(url: str, fault: str | None) -> None:
    found = url_fault(url)

    assert (found is None) if fault is None else (found is not None and fault in found)
